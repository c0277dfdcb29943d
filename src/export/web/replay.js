// Replays a training run that `engine export RUN --web DIR` has written: a fixed list of kernel launches over fixed buffers. What is
// written before each step was recorded as bytes; no model, no schedule and no random number is made here. The other pages that the
// engine writes open their devices, compile their kernels and launch them by the functions that this module gives away.

// Seconds that a submission should take at most: systems end what takes 2 s, and the page waits for its card meanwhile.
const LONGEST = 0.25;
// How many times slower than an RX 6600 at its limits a device is taken for until it has shown its pace.
const SLOWEST = 20;
// Submissions that are under way together, so that the device need not wait for the page.
const UNDER_WAY = 4;
// Bytes from the parameters of a launch to those of the next where they lie in a uniform buffer, and the binding of that buffer.
const SLOT = 256;
const PARAMETERS_AT = 999;

// What cannot go on, as a sentence for the one who looks at the page.
export class Refused extends Error {}

// What the limits of WebGPU that a plan asks for are called.
const LIMITS = {
  maxStorageBuffersPerShaderStage: "storage buffers in a kernel",
  maxComputeWorkgroupStorageSize: "bytes of workgroup memory",
  maxComputeInvocationsPerWorkgroup: "invocations in a workgroup",
  maxComputeWorkgroupSizeX: "invocations along a workgroup",
  maxComputeWorkgroupsPerDimension: "workgroups in a launch",
  maxStorageBufferBindingSize: "bytes of a buffer in a kernel",
  maxBufferSize: "bytes in a buffer",
};

async function fetched(folder, name, bytes) {
  const response = await fetch(new URL(name, folder)).catch(() => {
    throw new Refused(`${name} cannot be loaded: the server does not answer.`);
  });
  if (!response.ok) throw new Refused(`${name} cannot be loaded: the server answers ${response.status}.`);
  const content = await response.arrayBuffer().catch(() => {
    throw new Refused(`${name} is cut off: the connection ended before the file did. Load the page again.`);
  });
  if (bytes !== undefined && content.byteLength !== bytes) {
    throw new Refused(`${name} has ${content.byteLength} bytes instead of ${bytes}: it was cut off or changed. Copy the folder again.`);
  }
  return content;
}

async function fetchedPlan(folder, name) {
  const content = await fetched(folder, name);
  try {
    return JSON.parse(new TextDecoder().decode(content));
  } catch {
    throw new Refused(`${name} is no whole plan: it was cut off or changed. Copy the folder again.`);
  }
}

// Loads the plan of a folder, which is this module's own, and all files that it names. `progress(done, of)` is told of each.
export async function load(progress = () => {}, folder = new URL(".", import.meta.url), name = "plan.json") {
  const plan = await fetchedPlan(folder, name);
  const files = new Map();
  progress(0, plan.files.length);
  await Promise.all(
    plan.files.map(async ([name, bytes]) => {
      files.set(name, await fetched(folder, name, bytes));
      progress(files.size, plan.files.length);
    }),
  );
  return { plan, files };
}

// A device with what the plan needs and no more; whether it takes parameters as immediates; and `broken`, which has its loss as an error.
export async function opened(plan, wantsImmediates = true) {
  if (!globalThis.isSecureContext) throw new Refused("WebGPU needs https, or a page from localhost.");
  if (!navigator.gpu) {
    throw new Refused("This browser has no WebGPU. Chrome and Edge have it from version 113 on, Safari from 26 on, Firefox from 141 on.");
  }
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) throw new Refused("This browser has WebGPU, but no graphics card or driver that it works with.");
  const requiredLimits = {};
  for (const [name, what] of Object.entries(LIMITS)) {
    if (adapter.limits[name] < plan.limits[name]) {
      throw new Refused(`The plan needs ${plan.limits[name]} ${what}; this browser and card have ${adapter.limits[name]}.`);
    }
    requiredLimits[name] = plan.limits[name];
  }
  for (const feature of plan.features) {
    const there = adapter.features.has(feature);
    if (!there) throw new Refused(`The plan needs the feature ${feature}, which this browser and card do not have.`);
  }
  const knows = navigator.gpu.wgslLanguageFeatures?.has("immediate_address_space") && "setImmediates" in GPUComputePassEncoder.prototype;
  const immediates = wantsImmediates && knows && adapter.limits.maxImmediateSize >= plan.limits.maxImmediateSize;
  if (immediates) requiredLimits.maxImmediateSize = plan.limits.maxImmediateSize;
  const device = await adapter.requestDevice({ requiredFeatures: plan.features, requiredLimits });
  const state = { adapter, device, immediates, broken: null };
  device.lost.then(({ reason, message }) => {
    const why = message || reason || "no reason was given";
    state.broken = new Refused(`The graphics device was lost (${why}). Load the page again to start anew.`);
  });
  device.onuncapturederror = ({ error }) => {
    state.broken ??= new Refused(`The browser refuses a step: ${error.message}`);
  };
  return state;
}

// The same kernel with its parameters in a uniform buffer, for browsers without immediates.
function withUniform(code) {
  const declared = /var<immediate>(\s*\w+\s*:)/;
  return code.replace("requires immediate_address_space;", "").replace(declared, `@group(0) @binding(${PARAMETERS_AT}) var<uniform>$1`);
}

// The pipeline of a kernel.
export async function compiled(state, name, text) {
  // What is wrong with the text is told below.
  state.device.pushErrorScope("validation");
  const module = state.device.createShaderModule({ label: name, code: state.immediates ? text : withUniform(text) });
  state.device.popErrorScope().catch(() => {});
  const descriptor = { label: name, layout: "auto", compute: { module, entryPoint: "main" } };
  return state.device.createComputePipelineAsync(descriptor).catch(async (error) => {
    const { messages } = await module.getCompilationInfo();
    const why = messages.find(({ type }) => type === "error")?.message ?? error.message;
    throw state.broken ?? new Refused(`This browser does not compile ${name}: ${why}`);
  });
}

export function allocated({ device }, sizes) {
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
  return sizes.map((size) => device.createBuffer({ size, usage }));
}

// Launches over buffers, ready for `encode`, by the pipelines of their kernels.
export function bound({ device, immediates }, launches, pipelines, buffers) {
  const usage = GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST;
  const parameters = immediates ? null : device.createBuffer({ size: launches.length * SLOT, usage });
  return launches.map(({ kernel, grid, bindings, seconds, immediates: list }, at) => {
    const part = ({ binding, buffer, offset, bytes }) => ({ binding, resource: { buffer: buffers[buffer], offset, size: bytes } });
    const [entries, words, pipeline] = [bindings.map(part), new Uint32Array(list), pipelines[kernel]];
    if (parameters && words.length > 0) {
      device.queue.writeBuffer(parameters, at * SLOT, words);
      entries.push({ binding: PARAMETERS_AT, resource: { buffer: parameters, offset: at * SLOT, size: SLOT } });
    }
    const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
    return { pipeline, group, words: parameters ? [] : words, grid, seconds };
  });
}

export function encode(pass, { pipeline, group, words, grid }) {
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, group);
  if (words.length > 0) pass.setImmediates(0, words);
  pass.dispatchWorkgroups(...grid);
}

// Waits for what a lost device may refuse or leave open, and tells of the loss, which may be known a moment later.
export async function there(state, promise) {
  const moment = () => new Promise((resolve) => setTimeout(resolve, 1000));
  const value = await Promise.race([promise, state.device.lost]).catch(() => Promise.race([state.device.lost, moment()]));
  if (state.broken) throw state.broken;
  return value;
}

// The bytes of a part of a buffer.
export async function copied(state, buffer, offset, bytes) {
  const into = state.device.createBuffer({ size: bytes, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const encoder = state.device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, offset, into, 0, bytes);
  state.device.queue.submit([encoder.finish()]);
  await there(state, into.mapAsync(GPUMapMode.READ));
  const content = into.getMappedRange().slice(0);
  into.destroy();
  return content;
}

export class Replay {
  // Makes buffers and pipelines. `progress(done, of)` is told of each kernel that is compiled.
  static async open({ plan, files }, { progress = () => {}, immediates = true } = {}) {
    const replay = Object.assign(new Replay(), { plan, files, step: 0, pace: SLOWEST, slowest: 0, stopped: false });
    const state = (replay.state = await opened(plan, immediates));
    replay.buffers = allocated(state, plan.buffers.map(({ bytes }) => bytes));
    for (const { file, buffer, offset, bytes } of plan.fills) {
      state.device.queue.writeBuffer(replay.buffers[buffer], offset, files.get(file), 0, bytes);
    }
    replay.stride = plan.steps.writes.reduce((sum, { bytes }) => sum + bytes, 0);
    // First micro-batch of each step.
    replay.firsts = [0];
    for (const count of plan.steps.micro_batches) replay.firsts.push(replay.firsts.at(-1) + count);
    let done = 0;
    progress(0, plan.kernels.length);
    // All kernels at once: the browser compiles them side by side.
    replay.pipelines = await Promise.all(
      plan.kernels.map(async (name) => {
        const pipeline = await compiled(state, name, new TextDecoder().decode(files.get(name)));
        progress(++done, plan.kernels.length);
        return pipeline;
      }),
    );
    replay.launches = bound(state, plan.launches, replay.pipelines, replay.buffers);
    return replay;
  }

  get device() { return this.state.device; }
  // Number of recorded steps.
  get steps() { return this.plan.steps.micro_batches.length; }

  // Runs up to step `until`, or until `stop`. `onRecords(records)` gets what has been read since the last time, without that the device
  // waits for it: of each step its number, norm of the gradient, whether its update was skipped, and the means of its metrics.
  async run(until = this.steps, onRecords = () => {}, every = 250) {
    const queued = [];
    let [readAt, reading] = [performance.now(), null];
    this.stopped = false;
    this.unread ??= this.step;
    const read = () => {
      readAt = performance.now();
      return this.read(onRecords).finally(() => (reading = null));
    };
    while (this.step < until && !this.stopped) {
      await this.submitStep(queued);
      this.step += 1;
      // Before a record is written over.
      if (reading && this.step - this.unread >= this.plan.records.slots) await reading;
      const due = performance.now() - readAt > every || this.step - this.unread >= this.plan.records.slots / 2;
      if (due && !reading) {
        reading = read();
        // An error is thrown where it is waited for.
        reading.catch(() => {});
      }
    }
    while (queued.length > 0) await this.ended(queued);
    if (reading) await reading;
    await read();
    if (this.state.broken) throw this.state.broken;
  }

  // Ends `run` after the step that is under way.
  stop() { this.stopped = true; }

  async submitStep(queued) {
    const { plan, device } = this;
    const [first, last] = [this.firsts[this.step], this.firsts[this.step + 1] - 1];
    // The slowest submission of the step before tells the pace.
    [this.pace, this.slowest] = [this.slowest || this.pace, 0];
    for (let batch = first; batch <= last; batch++) {
      let from = batch * this.stride;
      for (const { buffer, offset, bytes } of plan.steps.writes) {
        device.queue.writeBuffer(this.buffers[buffer], offset, this.files.get(plan.steps.file), from, bytes);
        from += bytes;
      }
      const end = batch === last ? this.launches.length : plan.gradients;
      for (let start = 0; start < end; ) start = await this.submit(start, end, queued);
    }
  }

  // Submits as many of these launches as the device runs in time at its pace, and gives the first that is left.
  async submit(start, end, queued) {
    const { device } = this;
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    let [at, seconds] = [start, 0];
    // Half of the longest, as launches take longer than at least, and not all by the same factor.
    while (at < end && (at === start || (seconds + this.launches[at].seconds) * this.pace <= LONGEST / 2)) {
      encode(pass, this.launches[at]);
      seconds += this.launches[at++].seconds;
    }
    pass.end();
    device.queue.submit([encoder.finish()]);
    const now = () => performance.now();
    queued.push({ done: device.queue.onSubmittedWorkDone().then(now, now), submitted: now(), seconds });
    if (queued.length >= UNDER_WAY) await this.ended(queued);
    return at;
  }

  // Waits for the oldest submission, and learns the device's pace from it.
  async ended(queued) {
    const { done, submitted, seconds } = queued.shift();
    const now = await there(this.state, done);
    const took = (now - Math.max(this.idle ?? submitted, submitted)) / 1e3;
    this.idle = now;
    this.slowest = Math.max(this.slowest, took / seconds);
  }

  // Reads the ring of records up to the last step, and tells of those that are new.
  async read(onRecords) {
    const { plan, unread, step } = this;
    const { slots, words, count, norm, skipped, metrics } = plan.records;
    if (unread === step) return;
    this.unread = step;
    const ring = new Float32Array(await this.copied(plan.records));
    const records = [];
    for (let at = unread; at < step; at++) {
      const record = ring.subarray((at % slots) * words, (at % slots) * words + words);
      const means = metrics.map((metric) => record[metric.at] / record[count]);
      records.push({ step: at + 1, norm: record[norm], skipped: record[skipped] !== 0, means });
    }
    onRecords(records);
  }

  // The bytes of a part of a buffer.
  copied({ buffer, offset, bytes }) {
    return copied(this.state, this.buffers[buffer], offset, bytes);
  }

  // The weights as they are now.
  async weights() {
    return new Float32Array(await this.copied(this.plan.weights));
  }
}
