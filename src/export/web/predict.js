// The page of a trained model: it gives the plan of a prediction what the visitor types or moves, and draws what comes of it.

import { allocated, bound, compiled, copied, encode, load, opened, Refused } from "./replay.js";

const $ = (id) => document.getElementById(id);
const svg = "http://www.w3.org/2000/svg";
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
    const model = Object.assign(new Model(), { plan, files, state: await opened(plan) });
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

  // The outputs of a model that predicts one position after another, for a latent and a type. All positions are one submission: the caches
  // stay in their buffers, and the output of a position is copied to the input of the next.
  async decode(latents, type) {
    const { plan, state, buffers } = this;
    const { input, output, decoding } = plan;
    const { queue } = state.device;
    const { positions, before, types, points } = decoding;
    const stride = decoding.state.bytes;
    if (!this.made) {
      [this.states, this.made] = allocated(state, [positions * stride, (positions - before + 1) * output.bytes]);
      queue.writeBuffer(this.states, 0, this.files.get(decoding.file));
    }
    queue.writeBuffer(buffers[input.buffer], input.offset, latents);
    queue.writeBuffer(buffers[types.buffer], types.offset, new Uint32Array([type]));
    const encoder = state.device.createCommandEncoder();
    encoder.clearBuffer(buffers[points.buffer], points.offset, points.bytes);
    for (let at = 0; at < positions; at++) {
      const joint = at + 1 - before;
      encoder.copyBufferToBuffer(this.states, at * stride, buffers[decoding.state.buffer], decoding.state.offset, stride);
      if (joint > 0) {
        encoder.copyBufferToBuffer(this.made, (joint - 1) * output.bytes, buffers[points.buffer], points.offset, points.bytes);
      }
      const pass = encoder.beginComputePass();
      this.launches.forEach((launch) => encode(pass, launch));
      pass.end();
      if (joint >= 0) {
        encoder.copyBufferToBuffer(buffers[output.buffer], output.offset, this.made, joint * output.bytes, output.bytes);
      }
    }
    queue.submit([encoder.finish()]);
    return new Float32Array(await copied(state, this.made, 0, (positions - before + 1) * output.bytes));
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

// A latent that sliders move: `changed` is told of each change.
class Latent {
  constructor(count, largest, changed) {
    const least = Math.max(3, Math.ceil(largest));
    this.sliders = Array.from({ length: count }, (_, at) => {
      const slider = Object.assign(document.createElement("input"), { type: "range", min: -least, max: least, step: 0.05, value: 0, id: `z${at}` });
      const label = Object.assign(document.createElement("label"), { htmlFor: slider.id, textContent: `Latent ${at + 1}` });
      slider.oninput = changed;
      const both = document.createElement("div");
      both.append(label, slider);
      $("sliders").append(both);
      return slider;
    });
    $("zero").onclick = () => {
      this.move(new Array(count).fill(0));
      changed();
    };
  }

  get values() { return new Float32Array(this.sliders.map(({ value }) => Number(value))); }

  move(values) {
    this.sliders.forEach((slider, at) => (slider.value = values[at]));
  }
}

// Draws what a decoder makes of a latent.
async function picture(model, values) {
  const image = new ImageData(model.plan.asked.side, model.plan.asked.side);
  const inks = await model.predict(values);
  inks.forEach((ink, at) => image.data.set([255 * ink, 255 * ink, 255 * ink, 255], 4 * at));
  [$("canvas").width, $("canvas").height] = [image.width, image.height];
  $("canvas").getContext("2d").putImageData(image, 0, 0);
  const share = inks.reduce((sum, ink) => sum + ink, 0) / inks.length;
  $("canvas").setAttribute("aria-label", `The picture that the decoder draws; ${(100 * share).toFixed(1)} % of it is ink`);
}

class Picture {
  constructor(model, { latents }) {
    Object.assign(this, { model, draw: newest(() => this.drawn()) });
    $("picture").hidden = false;
    this.latent = new Latent(latents, 0, () => this.draw());
    this.draw();
  }

  async drawn() {
    await picture(this.model, this.latent.values);
    say("Move the sliders: the decoder draws what they stand for.");
  }
}

// Draws the linkage that a transformer makes of a latent and a type, joint after joint; below it the curve that a decoder draws of it.
class Mechanism {
  constructor(model, curve, asked) {
    Object.assign(this, { model, curve, asked, draw: newest(() => this.drawn()) });
    $("picture").hidden = $("mechanism").hidden = false;
    $("canvas").hidden = !curve;
    this.latent = new Latent(asked.latents, asked.largest, () => this.draw());
    const option = ({ number, name }) => Object.assign(document.createElement("option"), { value: number, textContent: name });
    $("type").append(...asked.types.map(option));
    $("type").onchange = () => this.draw();
    $("mechanism").onsubmit = (event) => event.preventDefault();
    const buttons = asked.samples.map(([latent, type], at) => {
      const button = Object.assign(document.createElement("button"), { type: "button", className: "second", textContent: `Sample ${at + 1}` });
      button.onclick = () => this.take(latent, type);
      return button;
    });
    $("begin").replaceChildren(...buttons);
    // Half the side of the drawing, in mm: where the file does not say it, what usual joints need.
    const usual = [0, 1].map((axis) => Math.abs(asked.mean[axis]) + 4 * asked.deviation[axis]);
    const [half, of] = asked.frame ?? [Math.max(...usual), 0];
    $("drawing").classList.add("framed");
    $("drawing").style.setProperty("--part", `${(100 * of) / half}%`);
    $("linkage").setAttribute("viewBox", `${-half} ${-half} ${2 * half} ${2 * half}`);
    $("linkage").toggleAttribute("hidden", false);
    this.take(...asked.samples[0]);
  }

  take(latent, type) {
    this.latent.move(latent);
    $("type").value = type;
    this.draw();
  }

  // The joints up to the last, in mm.
  async joints(values, type) {
    const { mean, deviation, stops } = this.asked;
    const outputs = await this.model.decode(values, type);
    const joints = [];
    for (let at = 0; at < outputs.length; at += 3) {
      joints.push([0, 1].map((axis) => outputs[at + axis] * deviation[axis] + mean[axis]));
      if (stops && outputs[at + 2] > 0) break;
    }
    return joints;
  }

  async drawn() {
    const [values, type] = [this.latent.values, this.asked.types.find(({ number }) => number === Number($("type").value))];
    const [joints] = await Promise.all([this.joints(values, type.number), this.curve && picture(this.curve, values)]);
    const make = (name, attributes) => {
      const element = document.createElementNS(svg, name);
      Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
      return element;
    };
    const at = ([x, y]) => `${x},${-y}`;
    const whole = type.joints === joints.length;
    const links = (whole ? type.links : []).map((link) => make("polygon", { class: "link", points: link.map((joint) => at(joints[joint])).join(" ") }));
    const joint = ([x, y], number) => make("circle", { class: whole && type.ground.includes(number) ? "joint fixed" : "joint", cx: x, cy: -y, r: 0.3 });
    $("linkage").replaceChildren(...links, ...joints.map(joint));
    const places = joints.map(([x, y]) => `${x.toFixed(1)}, ${y.toFixed(1)}`).join("; ");
    $("linkage").setAttribute("aria-label", `A ${type.name} of ${joints.length} joints, in mm: ${places}`);
    const but = whole || type.joints === null ? "" : `, and a ${type.name} has ${type.joints}, so that no links are drawn`;
    const other = this.asked.types.length > 1 ? ", or choose another type" : "";
    say(`The model ends the mechanism after ${joints.length} joint${joints.length === 1 ? "" : "s"}${but}. Move the sliders${other}.`);
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
  const folder = plan.curve && new URL(`${plan.curve}/`, import.meta.url);
  const curve = folder ? await Model.open(await load(() => {}, folder)) : null;
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
  const [title, what] = {
    numbers: ["What comes after your numbers?", "continues sequences of integers"],
    picture: ["A picture from a few numbers", "draws pictures from latents"],
    mechanism: ["A linkage from a few numbers", "makes linkages of latents, joint after joint"],
  }[plan.asked.kind];
  document.title = $("title").textContent = title;
  $("lead").textContent = `A model of ${count(plan.parameters)} weights ${what}, on your own graphics card with WebGPU. Nothing is sent anywhere.`;
  if (plan.asked.kind === "numbers") globalThis.page = new Numbers(model, plan.asked);
  else if (plan.asked.kind === "picture") globalThis.page = new Picture(model, plan.asked);
  else globalThis.page = new Mechanism(model, curve, plan.asked);
}

begin().catch(failed);
