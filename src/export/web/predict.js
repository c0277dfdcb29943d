// The page of a trained model: it gives the plan of a prediction what the visitor types or moves, and draws what comes of it.

import { allocated, bound, compiled, copied, encode, load, opened, Refused } from "./replay.js";

const $ = (id) => document.getElementById(id);
const count = (number) => number.toLocaleString("en");
// Guesses that are shown.
const SHOWN = 5;
// Sequences to begin with: even numbers, squares, a sum of the two before, halves.
const EXAMPLES = ["2 4 6 8 10 12 14 16", "1 4 9 16 25 36 49 64", "1 1 2 3 5 8 13 21", "200 100 50 25 12 6 3 1"];

function say(text, alarm = false) {
  $("status").textContent = text;
  $("status").classList.toggle("alarm", alarm);
}

export class Model {
  static async open({ plan, files }) {
    const model = Object.assign(new Model(), { plan, state: await opened(plan) });
    model.buffers = allocated(model.state, plan.buffers.map(({ bytes }) => bytes));
    for (const { file, buffer, offset, bytes } of plan.fills) {
      model.state.device.queue.writeBuffer(model.buffers[buffer], offset, files.get(file), 0, bytes);
    }
    const text = (name) => new TextDecoder().decode(files.get(name));
    const pipelines = await Promise.all(plan.kernels.map((name) => compiled(model.state, name, text(name))));
    model.launches = bound(model.state, plan.launches, pipelines, model.buffers);
    return model;
  }

  // The output for these words.
  async predict(words) {
    const { plan, state, buffers } = this;
    const { input, output } = plan;
    state.device.queue.writeBuffer(buffers[input.buffer], input.offset, words);
    const encoder = state.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    this.launches.forEach((launch) => encode(pass, launch));
    pass.end();
    state.device.queue.submit([encoder.finish()]);
    return new Float32Array(await copied(state, buffers[output.buffer], output.offset, output.bytes));
  }
}

// Calls a function with the newest argument, one call at a time: what is given meanwhile waits, and only the last of it counts.
function newest(call) {
  let [running, waiting] = [false, null];
  return async (argument) => {
    waiting = [argument];
    if (running) return;
    running = true;
    while (waiting) {
      const [now] = waiting;
      waiting = null;
      await call(now).catch(failed);
    }
    running = false;
  };
}

// Asks for the number after a sequence that the visitor types.
class Numbers {
  constructor(model, { context, classes }) {
    Object.assign(this, { model, context, classes, ask: newest((numbers) => this.answer(numbers)) });
    $("asked").textContent = `A sequence of 1 to ${context} integers from 0 to ${classes - 1}`;
    $("numbers").hidden = false;
    $("numbers").onsubmit = (event) => event.preventDefault();
    $("sequence").oninput = () => this.read();
    const buttons = EXAMPLES.map((text) => {
      const button = Object.assign(document.createElement("button"), { type: "button", className: "second", textContent: text });
      button.onclick = () => this.take(text);
      return button;
    });
    $("examples").replaceChildren(...buttons);
    this.take(EXAMPLES[0]);
  }

  take(text) {
    $("sequence").value = text;
    this.read();
  }

  read() {
    const words = $("sequence").value.split(/[\s,;]+/).filter(Boolean);
    const wrong = words.find((word) => !/^\d+$/.test(word) || Number(word) >= this.classes);
    $("sequence").setAttribute("aria-invalid", wrong !== undefined || words.length === 0);
    if (wrong !== undefined) return say(`${wrong} is no integer from 0 to ${this.classes - 1}.`, true);
    if (words.length === 0) return say("Type at least one integer.", true);
    return this.ask(words.map(Number).slice(-this.context));
  }

  async answer(numbers) {
    const words = new Uint32Array(this.model.plan.input.bytes / 4);
    words.set(numbers);
    const output = await this.model.predict(words);
    const logits = output.subarray((numbers.length - 1) * this.classes, numbers.length * this.classes);
    const top = Math.max(...logits);
    const weights = Array.from(logits, (logit) => Math.exp(logit - top));
    const all = weights.reduce((sum, weight) => sum + weight, 0);
    const best = weights.map((weight, number) => [number, weight / all]).sort((a, b) => b[1] - a[1]).slice(0, SHOWN);
    const lines = best.map(([number, share]) => {
      const line = document.createElement("li");
      const [name, part] = [document.createElement("span"), document.createElement("span")];
      const bar = Object.assign(document.createElement("meter"), { min: 0, max: 1, value: share });
      bar.setAttribute("aria-label", `Probability of ${number}`);
      [name.textContent, part.textContent] = [number, `${(100 * share).toFixed(1)} %`];
      line.append(name, bar, part);
      return line;
    });
    $("guesses").replaceChildren(...lines);
    say(`After ${numbers.join(", ")} the model expects ${best[0][0]}, with ${(100 * best[0][1]).toFixed(0)} %.`);
  }
}

// Draws what the decoder makes of a latent that sliders move.
class Picture {
  constructor(model, { latents, side }) {
    Object.assign(this, { model, side, draw: newest(() => this.drawn()) });
    $("picture").hidden = false;
    [$("canvas").width, $("canvas").height] = [side, side];
    this.sliders = Array.from({ length: latents }, (_, at) => {
      const slider = Object.assign(document.createElement("input"), { type: "range", min: -3, max: 3, step: 0.05, value: 0, id: `z${at}` });
      const label = Object.assign(document.createElement("label"), { htmlFor: slider.id, textContent: `Latent ${at + 1}` });
      slider.oninput = () => this.draw();
      const both = document.createElement("div");
      both.append(label, slider);
      $("sliders").append(both);
      return slider;
    });
    $("zero").onclick = () => {
      this.sliders.forEach((slider) => (slider.value = 0));
      this.draw();
    };
    this.draw();
  }

  async drawn() {
    const values = await this.model.predict(new Float32Array(this.sliders.map(({ value }) => Number(value))));
    const image = new ImageData(this.side, this.side);
    values.forEach((value, at) => image.data.set([255 * value, 255 * value, 255 * value, 255], 4 * at));
    $("canvas").getContext("2d").putImageData(image, 0, 0);
    const ink = values.reduce((sum, value) => sum + value, 0) / values.length;
    $("canvas").setAttribute("aria-label", `The picture that the decoder draws; ${(100 * ink).toFixed(1)} % of it is ink`);
    say("Move the sliders: the decoder draws what they stand for.");
  }
}

function failed(error) {
  say(error instanceof Refused ? error.message : `The page has a fault: ${error.message}`, true);
}

async function begin() {
  const loaded = await load();
  const { plan } = loaded;
  say("The browser compiles the kernels.");
  const model = await Model.open(loaded);
  const { info } = model.state.adapter;
  const facts = {
    Run: plan.run,
    Weights: `${count(plan.parameters)}${plan.step === null ? "" : `, after ${count(plan.step)} steps`}`,
    Launches: `${plan.launches.length} of ${plan.kernels.length} kernels`,
    Card: [info?.vendor, info?.architecture, info?.description].filter(Boolean).join(" ") || "not told by the browser",
    Engine: plan.engine,
  };
  const items = Object.entries(facts).flatMap(([key, value]) => {
    const [term, text] = ["dt", "dd"].map((tag) => document.createElement(tag));
    [term.textContent, text.textContent] = [key, value];
    return [term, text];
  });
  $("facts").replaceChildren(...items);
  const numbers = plan.asked.kind === "numbers";
  $("title").textContent = numbers ? "What comes after your numbers?" : "A picture from a few numbers";
  document.title = $("title").textContent;
  const what = numbers ? "continues sequences of integers" : "draws pictures from latents";
  $("lead").textContent = `A model of ${count(plan.parameters)} weights ${what}, on your own graphics card with WebGPU. Nothing is sent anywhere.`;
  globalThis.page = numbers ? new Numbers(model, plan.asked) : new Picture(model, plan.asked);
}

begin().catch(failed);
