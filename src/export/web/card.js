// The page of a card: it runs the cases that `engine card --web DIR` has written, compares their results with those of the references,
// times launches and training steps, and makes a certificate of what it found.

import { allocated, bound, compiled, copied, encode, load, opened, Refused, Replay, there } from "./replay.js";

const $ = (id) => document.getElementById(id);
const count = (number) => number.toLocaleString("en");
// Seconds that a timed submission should take at least and at most, and how often it is timed.
const [LEAST, MOST, ROUNDS] = [0.05, 1, 3];
// Training steps of a run at most.
const STEPS = 17;

function say(text, alarm = false) {
  $("status").textContent = text;
  $("status").classList.toggle("alarm", alarm);
}

function row(table, name, cells, alarm = false) {
  const line = document.createElement("tr");
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = name;
  const of = cells.map((text) => Object.assign(document.createElement("td"), { textContent: text }));
  if (alarm) of.at(-1).className = "alarm";
  line.append(head, ...of);
  $(table).tBodies[0].append(line);
}

function time(seconds) {
  if (seconds >= 1) return `${seconds.toFixed(2)} s`;
  return seconds >= 1e-3 ? `${(1e3 * seconds).toFixed(2)} ms` : `${(1e6 * seconds).toFixed(1)} µs`;
}

const rate = (value, unit) => `${(value / 1e9).toFixed(value < 1e10 ? 2 : 0)} ${unit}`;

// Largest error as a share of what is allowed, of a result and its reference. What is no number fails.
export function compare({ name, bytes, at, compared }, words, file) {
  const length = bytes / 4;
  const got = new Float32Array(words.buffer, words.byteOffset, length);
  if (compared.kind === "exact") {
    const want = new Uint32Array(file, at, length);
    const wrong = want.findIndex((word, i) => word !== words[i]);
    if (wrong >= 0) throw new Refused(`${name}: element ${wrong} is not the one that it must be`);
    return 0;
  }
  const want = new Float64Array(file, at, length);
  if (compared.kind === "each") {
    const allowed = new Float32Array(file, at + 8 * length, length);
    let worst = 0;
    for (let i = 0; i < length; i++) {
      const error = Math.abs(got[i] - want[i]);
      if (!Number.isFinite(want[i]) && got[i] === want[i]) continue;
      if (!(error <= allowed[i])) throw new Refused(`${name}: element ${i} is ${got[i]}, and must be ${want[i]} ± ${allowed[i].toExponential(1)}`);
      worst = Math.max(worst, error / allowed[i]);
    }
    return worst;
  }
  let [error, norm] = [0, 0];
  for (let i = 0; i < length; i++) [error, norm] = [error + (got[i] - want[i]) ** 2, norm + want[i] ** 2];
  // Where all are zero, what a rounding of terms of size 1 leaves is allowed.
  const share = error / (compared.limit * Math.max(norm, 1e-12 * length));
  if (!(share <= 1)) throw new Refused(`${name}: its square error is ${share.toExponential(1)} of what is allowed`);
  return share;
}

export class Card {
  constructor({ plan, files }) {
    Object.assign(this, { plan, files, pipelines: [], families: [], rates: [], runs: [], failures: [] });
  }

  async open() {
    this.state = await opened(this.plan);
    this.file = this.files.get("cases.bin");
  }

  // The pipelines of kernels, side by side; in the place of one that does not compile, why.
  async compile(kernels) {
    const missing = [...new Set(kernels)].filter((kernel) => this.pipelines[kernel] === undefined);
    await Promise.all(
      missing.map(async (kernel) => {
        const name = this.plan.kernels[kernel];
        const text = new TextDecoder().decode(this.files.get(name));
        this.pipelines[kernel] = await compiled(this.state, name, text).catch((error) => error);
      }),
    );
    if (this.state.broken) throw this.state.broken;
  }

  // Fails where a kernel of these launches did not compile.
  ready(launches) {
    const failed = launches.map(({ kernel }) => this.pipelines[kernel]).find((pipeline) => pipeline instanceof Error);
    if (failed) throw failed;
  }

  // All buffers of a case after its launches, which begin with these words in tensors and around them.
  async results({ buffers, launches, inputs }, [poison, guard]) {
    const { state, plan } = this;
    const made = allocated(state, buffers.map(({ bytes }) => bytes));
    const contents = buffers.map(({ bytes, tensor }) => {
      const words = new Uint32Array(bytes / 4).fill(tensor ? guard : poison);
      if (tensor) words.fill(poison, tensor[0] / 4, (tensor[0] + tensor[1]) / 4);
      return words;
    });
    for (const { buffer, offset, bytes, at } of inputs) contents[buffer].set(new Uint32Array(this.file, at, bytes / 4), offset / 4);
    contents.forEach((words, at) => state.device.queue.writeBuffer(made[at], 0, words));
    const encoder = state.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    bound(state, launches, this.pipelines, made).forEach((launch) => encode(pass, launch));
    pass.end();
    const starts = buffers.reduce((all, { bytes }) => [...all, all.at(-1) + bytes], [0]);
    const usage = GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const all = state.device.createBuffer({ size: starts.at(-1), usage });
    buffers.forEach(({ bytes }, at) => encoder.copyBufferToBuffer(made[at], 0, all, starts[at], bytes));
    state.device.queue.submit([encoder.finish()]);
    const read = await copied(state, all, 0, starts.at(-1));
    [...made, all].forEach((buffer) => buffer.destroy());
    return buffers.map(({ bytes, tensor }, at) => {
      const words = new Uint32Array(read, starts[at], bytes / 4);
      const [first, end] = tensor ? [tensor[0] / 4, (tensor[0] + tensor[1]) / 4] : [0, words.length];
      const outside = (i) => i < first || i >= end;
      if (words.some((word, i) => outside(i) && word !== guard)) throw new Refused("a kernel wrote outside of its tensor");
      return words;
    });
  }

  // Largest error of a case, as a share of what is allowed, and how many numbers were compared.
  async check(one) {
    this.ready(one.launches);
    const [first, second] = [await this.results(one, this.plan.poisons[0]), await this.results(one, this.plan.poisons[1])];
    const [of, its] = [(part, all) => all[part.buffer].subarray(part.offset / 4, (part.offset + part.bytes) / 4), one.outputs];
    for (const output of its) {
      const [a, b] = [of(output, first), of(output, second)];
      if (a.some((word, i) => word !== b[i])) throw new Refused(`${output.name} differs with what memory held before`);
    }
    const worst = Math.max(0, ...its.map((output) => compare(output, of(output, first), this.file)));
    return [worst, its.reduce((sum, { bytes }) => sum + bytes / 4, 0)];
  }

  // The cases of a family.
  async family({ name, cases, of }) {
    const result = { name, cases: cases.length, of, elements: 0, worst: 0, failed: 0 };
    await this.compile(cases.flatMap(({ launches }) => launches.map(({ kernel }) => kernel)));
    for (const one of cases) {
      try {
        const [worst, elements] = await this.check(one);
        [result.worst, result.elements] = [Math.max(result.worst, worst), result.elements + elements];
      } catch (error) {
        if (this.state.broken) throw this.state.broken;
        result.failed += 1;
        this.failures.push(`${name}, sizes ${one.spec}: ${error.message}`);
      }
    }
    this.families.push(result);
    return result;
  }

  // Seconds of a submission with so many repetitions.
  async timed(submit, repetitions) {
    const { queue } = this.state.device;
    const started = performance.now();
    submit(repetitions);
    await there(this.state, queue.onSubmittedWorkDone());
    return (performance.now() - started) / 1e3;
  }

  // Best seconds of one repetition: as many a submission as take long enough. None where one takes too long.
  async best(submit) {
    let [repetitions, seconds] = [1, await this.timed(submit, 1)];
    if (seconds > MOST) return null;
    for (seconds = await this.timed(submit, 1); seconds < LEAST && repetitions < 4096; repetitions *= 2) seconds = await this.timed(submit, repetitions * 2);
    let best = seconds / repetitions;
    for (let round = 1; round < ROUNDS; round++) best = Math.min(best, (await this.timed(submit, repetitions)) / repetitions);
    return best;
  }

  // Time of launches, or of a copy.
  async rate({ kind, title, flops, bytes, predicted, buffers: sizes, launches }) {
    const { state } = this;
    // Not begun where the one before, which was smaller, says that it takes too long: systems end what does.
    const before = this.rates.findLast((other) => other.kind === kind);
    const expected = before ? (before.seconds ?? Infinity) * (predicted / before.predicted_seconds) : 0;
    if (expected > MOST) {
      const left = { kind, title, seconds: null, flops, bytes, predicted_seconds: predicted };
      this.rates.push(left);
      return left;
    }
    await this.compile(launches.map(({ kernel }) => kernel));
    this.ready(launches);
    const buffers = allocated(state, sizes);
    const numbers = this.files.get("numbers.bin");
    buffers.forEach((buffer, at) => {
      for (let from = 0; from < sizes[at]; from += numbers.byteLength) {
        state.device.queue.writeBuffer(buffer, from, numbers, 0, Math.min(numbers.byteLength, sizes[at] - from));
      }
    });
    await there(state, state.device.queue.onSubmittedWorkDone());
    const ready = bound(state, launches, this.pipelines, buffers);
    const seconds = await this.best((repetitions) => {
      const encoder = state.device.createCommandEncoder();
      if (ready.length === 0) {
        for (let i = 0; i < repetitions; i++) encoder.copyBufferToBuffer(buffers[0], 0, buffers[1], 0, sizes[0]);
      } else {
        const pass = encoder.beginComputePass();
        for (let i = 0; i < repetitions; i++) ready.forEach((launch) => encode(pass, launch));
        pass.end();
      }
      state.device.queue.submit([encoder.finish()]);
    });
    buffers.forEach((buffer) => buffer.destroy());
    const result = { kind, title, seconds, flops, bytes, predicted_seconds: predicted };
    this.rates.push(result);
    return result;
  }

  // Time of a training step. The recorded one is done again and again, with weights that repeat those that the page has: what the numbers
  // are does not matter for the time.
  async run({ name, folder }) {
    const { plan, files } = await load(() => {}, new URL(folder, import.meta.url));
    const again = (file, bytes) => {
      const [from, to] = [new Uint8Array(files.get(file)), new Uint8Array(bytes)];
      for (let at = 0; at < bytes; at += from.length) to.set(from.subarray(0, bytes - at), at);
      files.set(file, to.buffer);
    };
    for (const { file, bytes } of plan.fills) again(file, bytes);
    again(plan.steps.file, STEPS * files.get(plan.steps.file).byteLength);
    plan.steps.micro_batches = Array(STEPS).fill(plan.steps.micro_batches[0]);
    const replay = await Replay.open({ plan, files });
    const steps = async (until) => {
      const [started, first] = [performance.now(), replay.step];
      await replay.run(until);
      return (performance.now() - started) / 1e3 / (replay.step - first);
    };
    await steps(1);
    let best = await steps(2);
    while (best < MOST / 4 && replay.step < STEPS) best = Math.min(best, await steps(Math.min(STEPS, replay.step + 5)));
    replay.device.destroy();
    const predicted = plan.launches.reduce((sum, { seconds }) => sum + seconds, 0);
    const result = { name, parameters: plan.parameters, seconds: best, predicted_seconds: predicted };
    this.runs.push(result);
    return result;
  }

  // What was found, for a file.
  certificate() {
    const { adapter, immediates } = this.state;
    const { vendor, architecture, device, description } = adapter.info ?? {};
    const limits = Object.fromEntries(Object.keys(this.plan.limits).map((name) => [name, adapter.limits[name]]));
    return {
      kind: "card in a browser",
      engine: this.plan.engine,
      date: new Date().toISOString(),
      browser: navigator.userAgent,
      adapter: { vendor, architecture, device, description, limits, features: [...adapter.features].sort() },
      immediates,
      families: this.families,
      failures: this.failures,
      rates: this.rates,
      predicted_for: this.plan.predicted,
      runs: this.runs,
    };
  }
}

class Page {
  constructor(card) {
    this.card = card;
    const { plan, state } = card;
    document.querySelectorAll(".predicted").forEach((element) => (element.textContent = plan.predicted));
    const { info } = state.adapter;
    const cases = plan.families.reduce((sum, family) => sum + family.cases.length, 0);
    const facts = {
      Card: [info?.vendor, info?.architecture, info?.description].filter(Boolean).join(" ") || "not told by the browser",
      Browser: navigator.userAgent,
      Engine: plan.engine,
      Kernels: `${plan.kernels.length}, in ${cases} cases of ${plan.families.length} families; \`engine check\` has all cases`,
      Parameters: state.immediates ? "as immediates" : "in a uniform buffer, as this browser has no immediates",
    };
    const items = Object.entries(facts).flatMap(([key, value]) => {
      const [term, text] = ["dt", "dd"].map((tag) => document.createElement(tag));
      [term.textContent, text.textContent] = [key, value];
      return [term, text];
    });
    $("facts").replaceChildren(...items);
    $("go").disabled = false;
    $("go").onclick = () => this.go().catch(failed);
    $("save").onclick = () => this.save();
    say(`Ready: ${cases} cases of ${plan.families.length} kernel families. With a card it takes minutes, most of which is compiling.`);
  }

  // Parts that can be left out: `?only=matmul,softmax` checks these families alone and measures nothing.
  async go() {
    const { card } = this;
    const { plan } = card;
    $("go").disabled = true;
    const only = new URLSearchParams(location.search).get("only")?.split(",");
    const families = plan.families.filter(({ name }) => !only || only.includes(name));
    const [rates, runs] = only ? [[], []] : [plan.rates, plan.runs];
    const parts = families.length + rates.length + runs.length;
    let done = 0;
    const began = (what) => {
      $("progress").value = done++ / parts;
      say(what);
    };
    for (const family of families) {
      began(`Kernels of ${family.name}: compiled, run and compared with f64.`);
      const { name, cases, worst, failed: wrong } = await card.family(family);
      row("families", name, [cases, worst.toFixed(3), wrong === 0 ? "ok" : `${wrong} failed`], wrong > 0);
      const items = card.failures.map((text) => Object.assign(document.createElement("li"), { textContent: text }));
      $("failures").replaceChildren(...items);
    }
    for (const what of rates) {
      began(`Measured: ${what.kind}, ${what.title}.`);
      const { kind, title, seconds, flops, bytes, predicted_seconds: least } = await card.rate(what);
      const shown = (s) => (s === null ? "–" : kind === "copy" ? rate(bytes / s, "GB/s") : rate(flops / s, "GFLOP/s"));
      row("rates", `${kind}, ${title}`, [seconds === null ? "over 1 s" : time(seconds), shown(seconds), `${time(least)}, ${shown(least)}`]);
    }
    for (const run of runs) {
      began(`Training steps of ${run.name}: compiled and run.`);
      const { name, parameters, seconds, predicted_seconds: least } = await card.run(run);
      row("runs", name, [count(parameters), time(seconds), time(least)]);
    }
    $("progress").value = 1;
    $("save").disabled = false;
    const cases = card.families.reduce((sum, family) => sum + family.cases, 0);
    const wrong = card.failures.length;
    say(wrong === 0 ? `All ${count(cases)} cases agree with f64.` : `${wrong} of ${count(cases)} cases do not agree with f64.`, wrong > 0);
  }

  save() {
    const text = JSON.stringify(this.card.certificate(), null, 1);
    const link = Object.assign(document.createElement("a"), { download: `card-in-a-browser-${new Date().toISOString().slice(0, 10)}.json` });
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.click();
    URL.revokeObjectURL(link.href);
  }
}

function failed(error) {
  $("go").disabled = true;
  say(error instanceof Refused ? error.message : `The page has a fault: ${error.message}`, true);
}

async function begin() {
  const progress = (done, of) => ($("progress").value = done / of);
  const card = new Card(await load(progress, new URL(".", import.meta.url), "card.json"));
  await card.open();
  $("progress").value = 0;
  globalThis.page = new Page(card);
}

begin().catch(failed);
