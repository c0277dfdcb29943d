// The page of a training run: it starts and stops the replay, and draws what the records of the steps say.

import { bound, encode, load, Refused, Replay } from "./replay.js";

const $ = (id) => document.getElementById(id);
const svg = "http://www.w3.org/2000/svg";
// Steps whose mean the table shows, and points of a curve.
const LAST = 50;
const POINTS = 200;
// How many times the steps so far are done when samples are completed again.
const MORE = 1.25;
const [WIDTH, HEIGHT, LEFT, BELOW] = [640, 220, 56, 24];

function make(name, attributes = {}, text = "") {
  const element = document.createElementNS(svg, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

function say(text, alarm = false) {
  $("status").textContent = text;
  $("status").classList.toggle("alarm", alarm);
}

function show({ digits }, value) {
  if (!Number.isFinite(value)) return "–";
  return digits === null ? `${(100 * value).toFixed(1)} %` : value.toFixed(digits);
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const count = (number) => number.toLocaleString("en");

// A curve over the recorded steps, each point the mean of some of them, with the guess as a line.
class Chart {
  constructor(metric, steps, guess) {
    Object.assign(this, { metric, steps, guess });
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.textContent = metric.guess === null ? metric.title : `${metric.title}; dashed: ${guess}`;
    this.svg = make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
    figure.append(caption, this.svg);
    $("charts").append(figure);
    this.draw([]);
  }

  draw(values) {
    const { metric, steps } = this;
    const size = Math.max(1, Math.ceil(steps / POINTS));
    const points = [];
    for (let at = 0; at + size <= values.length; at += size) points.push([at + size, mean(values.slice(at, at + size))]);
    const highest = metric.digits === null ? 1 : Math.max(metric.guess ?? 0, ...points.map(([, y]) => y)) * 1.1 || 1;
    const x = (step) => LEFT + ((WIDTH - LEFT) * step) / steps;
    const y = (value) => (HEIGHT - BELOW) * (1 - value / highest) + 8;
    const line = (value, kind) => make("line", { x1: LEFT, x2: WIDTH, y1: y(value), y2: y(value), class: kind });
    const parts = [0, highest / 2, highest].flatMap((value) => [
      line(value, "axis"),
      make("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, metric.digits === null ? `${100 * value} %` : show({ digits: 1 }, value)),
    ]);
    parts.push(make("text", { x: LEFT, y: HEIGHT + 4 }, "step 0"));
    parts.push(make("text", { x: WIDTH, y: HEIGHT + 4, "text-anchor": "end" }, count(steps)));
    if (metric.guess !== null) {
      parts.push(line(metric.guess, "guess"));
      parts.push(make("text", { x: WIDTH, y: y(metric.guess) - 5, "text-anchor": "end", class: "of-guess" }, show(metric, metric.guess)));
    }
    parts.push(make("polyline", { class: "curve", points: points.map(([step, value]) => `${x(step)},${y(value)}`).join(" ") }));
    this.svg.replaceChildren(...parts);
    const last = points.at(-1);
    const now = last ? `${show(metric, last[1])} after ${count(last[0])} of ${count(steps)} steps` : "no step yet";
    const beside = metric.guess === null ? "" : `; ${this.guess}: ${show(metric, metric.guess)}`;
    this.svg.setAttribute("aria-label", `${metric.title}: ${now}${beside}`);
  }
}

// Sequences that the model completes as it learns. Between steps its launches run over the weights as they are by then: the largest logit
// after the last number is the next number.
class Samples {
  constructor(replay) {
    this.replay = replay;
    this.plan = replay.plan.samples;
    this.launches = bound(replay.state, this.plan.launches, replay.pipelines, replay.buffers);
    $("samples").hidden = false;
    this.draw(this.plan.sequences.map((sequence) => sequence.slice(0, this.plan.given)));
  }

  async complete() {
    const { replay, plan } = this;
    const { sequences, given, tokens, classes } = plan;
    const context = sequences[0].length - 1;
    const rows = sequences.map((sequence) => sequence.slice(0, given));
    for (let length = given; length <= context; length++) {
      const words = new Uint32Array(tokens.bytes / 4);
      rows.forEach((row, at) => words.set(row, at * context));
      const { queue } = replay.device;
      queue.writeBuffer(replay.buffers[tokens.buffer], tokens.offset, words);
      if (plan.state) queue.writeBuffer(replay.buffers[plan.state.buffer], plan.state.offset, replay.files.get(plan.file));
      const encoder = replay.device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      this.launches.forEach((launch) => encode(pass, launch));
      pass.end();
      queue.submit([encoder.finish()]);
      const logits = new Float32Array(await replay.copied(plan.logits));
      rows.forEach((row, at) => {
        const first = (at * context + length - 1) * classes;
        const of = logits.subarray(first, first + classes);
        row.push(of.indexOf(Math.max(...of)));
      });
    }
    this.draw(rows);
  }

  draw(rows) {
    const { sequences, given } = this.plan;
    const lines = sequences.map((truth, at) => {
      const line = document.createElement("li");
      line.append(truth.slice(0, given).join("  "));
      rows[at].slice(given).forEach((number, i) => {
        const made = document.createElement("span");
        const right = truth[given + i];
        made.className = number === right ? "made" : "made wrong";
        made.textContent = number === right ? number : `${number} (${right})`;
        line.append("  ", made);
      });
      return line;
    });
    $("sequences").replaceChildren(...lines);
  }
}

class Page {
  constructor(replay, compiled) {
    const { plan } = replay;
    Object.assign(this, { replay, plan, metrics: plan.records.metrics, compiled, seconds: 0, skipped: 0, values: [] });
    // The loss, and the first metric that is a share.
    const loss = this.metrics.find(({ name }) => name === "loss");
    const share = this.metrics.find(({ digits }) => digits === null);
    this.values = this.metrics.map(() => []);
    this.charts = [loss, share].filter(Boolean).map((metric) => [this.metrics.indexOf(metric), new Chart(metric, replay.steps, plan.guess)]);
    this.samples = plan.samples ? new Samples(replay) : null;
    $("of-guess").textContent = plan.guess ?? "";
    $("table").hidden = false;
    this.fill();
    $("go").disabled = false;
    $("go").onclick = () => (this.running ? this.pause() : this.go());
    say(`Ready: ${count(plan.kernels.length)} kernels are compiled. A step is ${plan.launches.length} launches.`);
  }

  pause() {
    this.paused = true;
    this.replay.stop();
  }

  async go() {
    const { replay } = this;
    [this.running, this.paused] = [true, false];
    $("go").textContent = "Pause";
    say("The model trains.");
    const started = performance.now();
    const before = this.seconds;
    try {
      // A part of the steps at a time: in between the samples are completed, more often at first.
      while (replay.step < replay.steps && !this.paused) {
        const until = this.samples ? Math.min(replay.steps, Math.ceil((replay.step + 1) * MORE)) : replay.steps;
        await replay.run(until, (records) => {
          this.seconds = before + (performance.now() - started) / 1e3;
          this.take(records);
        });
        await this.samples?.complete();
      }
      const end = replay.step === replay.steps;
      $("go").disabled = end;
      const done = end ? `All ${count(replay.steps)} recorded steps are done` : `Paused after ${count(replay.step)} steps`;
      say(`${done}. ${this.summary()}`);
      $("go").textContent = end ? "Done" : "Go on";
    } catch (error) {
      failed(error);
    }
    this.running = false;
  }

  take(records) {
    for (const { means, skipped } of records) {
      means.forEach((value, at) => this.values[at].push(value));
      this.skipped += skipped ? 1 : 0;
    }
    $("progress").value = this.values[0].length / this.replay.steps;
    this.charts.forEach(([at, chart]) => chart.draw(this.values[at]));
    this.fill();
  }

  // The mean of the last steps.
  last(at) {
    return mean(this.values[at].slice(-LAST));
  }

  summary() {
    const told = this.charts.map(([at, { metric, guess }]) => {
      const beside = metric.guess === null ? "" : ` (${guess}: ${show(metric, metric.guess)})`;
      return `${metric.title} ${show(metric, this.last(at))}${beside}`;
    });
    return `${told.join(", ")}.`;
  }

  fill() {
    const { plan, replay } = this;
    const rows = this.metrics.map((metric, at) => {
      const row = document.createElement("tr");
      const name = document.createElement("th");
      name.scope = "row";
      const cells = [this.last(at), metric.guess ?? NaN].map((value) => {
        const cell = document.createElement("td");
        cell.textContent = show(metric, value);
        return cell;
      });
      name.textContent = metric.title;
      row.append(name, ...cells);
      return row;
    });
    $("table").tBodies[0].replaceChildren(...rows);
    const { info } = replay.state.adapter;
    const done = this.values[0]?.length ?? 0;
    const facts = {
      Run: plan.run,
      Weights: count(plan.parameters),
      Step: `${count(done)} of ${count(replay.steps)} recorded; the whole run has ${count(plan.total)}`,
      Pace: done > 0 ? `${(done / this.seconds).toFixed(1)} steps a second` : "–",
      Skipped: `${count(this.skipped)} updates, as a number was not finite`,
      Card: [info?.vendor, info?.architecture, info?.description].filter(Boolean).join(" ") || "not told by the browser",
      Kernels: `${plan.kernels.length}, compiled in ${this.compiled.toFixed(1)} s`,
      Parameters: replay.state.immediates ? "as immediates" : "in a uniform buffer, as this browser has no immediates",
      Engine: plan.engine,
    };
    const items = Object.entries(facts).flatMap(([key, value]) => {
      const [term, text] = ["dt", "dd"].map((tag) => document.createElement(tag));
      [term.textContent, text.textContent] = [key, value];
      return [term, text];
    });
    $("facts").replaceChildren(...items);
  }
}

function failed(error) {
  $("go").disabled = true;
  say(error instanceof Refused ? error.message : `The page has a fault: ${error.message}`, true);
}

async function begin() {
  const progress = (what) => (done, of) => {
    $("progress").value = done / of;
    if (done === 0) say(what);
  };
  const loaded = await load(progress("The files of the page are being loaded."));
  const { plan } = loaded;
  document.title = `${plan.run}, trained in the browser`;
  $("lead").textContent =
    `Your own graphics card trains ${plan.run}, a model of ${count(plan.parameters)} weights, with WebGPU. Nothing is sent anywhere.`;
  const started = performance.now();
  const compiling = progress("The browser compiles the kernels, which takes up to a minute without a card.");
  const replay = await Replay.open(loaded, { progress: compiling });
  $("progress").value = 0;
  return new Page(replay, (performance.now() - started) / 1e3);
}

begin().catch(failed);
