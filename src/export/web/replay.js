// Replays a training run that `engine export RUN --web DIR` has written: a fixed list of kernel launches over fixed buffers. What is
// written before each step was recorded as bytes; no model, no schedule and no random number is made here.

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

async function fetchedPlan(folder) {
  const content = await fetched(folder, "plan.json");
  try {
    return JSON.parse(new TextDecoder().decode(content));
  } catch {
    throw new Refused("plan.json is no whole plan: it was cut off or changed. Copy the folder again.");
  }
}

// Loads the plan of a folder, which is this module's own, and all files that it names. `progress(done, of)` is told of each.
export async function load(progress = () => {}, folder = new URL(".", import.meta.url)) {
  const plan = await fetchedPlan(folder);
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

// A device with what the plan needs and no more; whether it takes parameters as immediates.
async function opened(plan, wantsImmediates) {
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
  return { adapter, device, immediates };
}

// The same kernel with its parameters in a uniform buffer, for browsers without immediates.
function withUniform(code) {
  const declared = /var<immediate>(\s*\w+\s*:)/;
  return code.replace("requires immediate_address_space;", "").replace(declared, `@group(0) @binding(${PARAMETERS_AT}) var<uniform>$1`);
}

export class Replay {
  // Makes buffers and pipelines. `progress(done, of)` is told of each kernel that is compiled.
  static async open({ plan, files }, { progress = () => {}, immediates = true } = {}) {
    const replay = new Replay();
    Object.assign(replay, { plan, files, step: 0, pace: SLOWEST, slowest: 0, stopped: false, broken: null });
    Object.assign(replay, await opened(plan, immediates));
    replay.device.lost.then(({ reason, message }) => {
      const why = message || reason || "no reason was given";
      replay.broken = new Refused(`The graphics device was lost (${why}). Load the page again to start anew.`);
    });
    replay.allocate();
    await replay.compile(progress);
    replay.device.onuncapturederror = ({ error }) => {
      replay.broken ??= new Refused(`The browser refuses a step: ${error.message}`);
    };
    return replay;
  }

  allocate() {
    const { device, plan, files } = this;
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
    this.buffers = plan.buffers.map(({ name, bytes }) => device.createBuffer({ label: name, size: bytes, usage }));
    for (const { file, buffer, offset, bytes } of plan.fills) {
      device.queue.writeBuffer(this.buffers[buffer], offset, files.get(file), 0, bytes);
    }
    this.words = plan.launches.map(({ immediates }) => new Uint32Array(immediates));
    if (!this.immediates) {
      const [size, usage] = [plan.launches.length * SLOT, GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST];
      this.parameters = device.createBuffer({ label: "parameters of launches", size, usage });
      this.words.forEach((words, at) => device.queue.writeBuffer(this.parameters, at * SLOT, words));
    }
    this.stride = plan.steps.writes.reduce((sum, { bytes }) => sum + bytes, 0);
    // First micro-batch of each step.
    this.firsts = [0];
    for (const count of plan.steps.micro_batches) this.firsts.push(this.firsts.at(-1) + count);
    this.readback = device.createBuffer({ size: plan.records.bytes, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  }

  // All kernels at once: the browser compiles them side by side.
  async compile(progress) {
    const { device, plan, files } = this;
    let done = 0;
    progress(0, plan.kernels.length);
    const pipelines = await Promise.all(
      plan.kernels.map(async (name) => {
        const text = new TextDecoder().decode(files.get(name));
        const module = device.createShaderModule({ label: name, code: this.immediates ? text : withUniform(text) });
        const descriptor = { label: name, layout: "auto", compute: { module, entryPoint: "main" } };
        const pipeline = await device.createComputePipelineAsync(descriptor).catch(async (error) => {
          const { messages } = await module.getCompilationInfo();
          const why = messages.find(({ type }) => type === "error")?.message ?? error.message;
          throw this.broken ?? new Refused(`This browser does not compile ${name}: ${why}`);
        });
        progress(++done, plan.kernels.length);
        return pipeline;
      }),
    );
    this.launches = plan.launches.map(({ kernel, grid, bindings, seconds }, at) => {
      const entries = bindings.map(({ binding, buffer, offset, bytes }) => ({
        binding,
        resource: { buffer: this.buffers[buffer], offset, size: bytes },
      }));
      const words = this.words[at];
      if (this.parameters && words.length > 0) {
        entries.push({ binding: PARAMETERS_AT, resource: { buffer: this.parameters, offset: at * SLOT, size: SLOT } });
      }
      const group = device.createBindGroup({ layout: pipelines[kernel].getBindGroupLayout(0), entries });
      return { pipeline: pipelines[kernel], group, words, grid, seconds };
    });
  }

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
    this.expectThere();
  }

  // Ends `run` after the step that is under way.
  stop() {
    this.stopped = true;
  }

  expectThere() {
    if (this.broken) throw this.broken;
  }

  // Waits for what a lost device may refuse or leave open, and tells of the loss, which may be known a moment later.
  async there(promise) {
    const moment = () => new Promise((resolve) => setTimeout(resolve, 1000));
    const value = await Promise.race([promise, this.device.lost]).catch(() => Promise.race([this.device.lost, moment()]));
    this.expectThere();
    return value;
  }

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
      const { pipeline, group, words, grid } = this.launches[at++];
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      if (this.immediates && words.length > 0) pass.setImmediates(0, words);
      pass.dispatchWorkgroups(...grid);
      seconds += this.launches[at - 1].seconds;
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
    const now = await this.there(done);
    const took = (now - Math.max(this.idle ?? submitted, submitted)) / 1e3;
    this.idle = now;
    this.slowest = Math.max(this.slowest, took / seconds);
  }

  // Reads the ring of records up to the last step, and tells of those that are new.
  async read(onRecords) {
    const { plan, unread, step } = this;
    const { buffer, offset, bytes, slots, words, count, norm, skipped, metrics } = plan.records;
    if (unread === step) return;
    this.unread = step;
    const ring = new Float32Array(await this.copied(buffer, offset, bytes, this.readback));
    const records = [];
    for (let at = unread; at < step; at++) {
      const record = ring.subarray((at % slots) * words, (at % slots) * words + words);
      const means = metrics.map((metric) => record[metric.at] / record[count]);
      records.push({ step: at + 1, norm: record[norm], skipped: record[skipped] !== 0, means });
    }
    onRecords(records);
  }

  // The bytes of a part of a buffer.
  async copied(buffer, offset, bytes, into) {
    const encoder = this.device.createCommandEncoder();
    encoder.copyBufferToBuffer(this.buffers[buffer], offset, into, 0, bytes);
    this.device.queue.submit([encoder.finish()]);
    await this.there(into.mapAsync(GPUMapMode.READ));
    const content = into.getMappedRange().slice(0);
    into.unmap();
    return content;
  }

  // The weights as they are now.
  async weights() {
    const { buffer, offset, bytes } = this.plan.weights;
    const into = this.device.createBuffer({ size: bytes, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    const weights = new Float32Array(await this.copied(buffer, offset, bytes, into));
    into.destroy();
    return weights;
  }
}
