// Runs the compiled model, and reads its outputs as onnxdtd.runtime does.

import { Failure } from "./files.js";

const ARRAYS = { float32: Float32Array, float64: Float64Array, float16: globalThis.Float16Array, uint8: Uint8Array, int8: Int8Array,
  uint16: Uint16Array, int16: Int16Array, uint32: Uint32Array, int32: Int32Array, uint64: BigUint64Array, int64: BigInt64Array };
const MOST_THREADS = 4;

/** The model, ready to run by ONNX Runtime Web; `files` are bytes by name. */
export async function open(page, files, ort) {
  if (typeof WebAssembly !== "object") throw new Failure("this browser has no WebAssembly, which runs the model; try another one");
  ort.env.wasm.wasmBinary = files[page.runtime.wasm].buffer;
  // Threads share memory, which browsers allow where the server sends Cross-Origin-Opener-Policy and -Embedder-Policy alone.
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS) : 1;
  const externalData = page.weights.map(({ path, name }) => ({ path, data: files[name] }));
  try {
    const session = await ort.InferenceSession.create(files[page.model], { executionProviders: ["wasm"], externalData });
    return new Model(page, ort, session);
  } catch (error) {
    throw failed(error, "the model cannot be run in this browser");
  }
}

class Model {
  constructor(page, ort, session) {
    Object.assign(this, { page, ort, session, threads: ort.env.wasm.numThreads });
  }

  /** One sample: `given` has values and the sizes of their axes by input; `target` is a class, -1 for that with the highest score. */
  async explain(given, target) {
    const { page } = this;
    const feeds = Object.create(null); // an input may be called __proto__
    for (const [name, { values, sizes }] of Object.entries(given)) feeds[name] = this.tensor(page.inputs[name].type, values, sizes);
    for (const { name, type, fill, sizes } of page.always) {
      feeds[name] = this.tensor(type, new Array(sizes.reduce((all, size) => all * size, 1)).fill(fill), sizes);
    }
    if (page.target.input) feeds[page.target.input] = this.tensor("int64", [target], [1]);
    let outputs;
    const begun = performance.now();
    try {
      outputs = await this.session.run(feeds, page.fetched);
    } catch (error) {
      throw failed(error, "the model cannot be run on this input");
    }
    return { ...this.outcome(outputs, target), seconds: (performance.now() - begun) / 1000 };
  }

  tensor(type, values, sizes) {
    if (type === "string" || type === "bool") return new this.ort.Tensor(type, values, sizes);
    const Kind = ARRAYS[type];
    if (!Kind) throw new Failure(`this browser has no numbers of the type ${type}, which the model takes; try a newer one`);
    const entry = type.startsWith("float") ? Number : type.endsWith("64") ? (value) => BigInt(Math.round(value)) : Math.round;
    return new this.ort.Tensor(type, Kind.from(values, entry), sizes);
  }

  /** What onnxdtd.runtime.classes and study.presenter say of a run. */
  outcome(outputs, target) {
    const { page } = this;
    const scores = this.scores(outputs);
    let predicted = this.labelled(outputs);
    if (predicted === null && scores) predicted = scores.indexOf(scores.reduce((most, score) => Math.max(most, score)));
    const fixed = page.target.fixed;
    const explained = Number.isInteger(fixed) ? fixed : target >= 0 ? target : predicted;
    const relevance = Object.create(null);
    let sum = 0;
    for (const [name, output] of Object.entries(page.relevance)) {
      relevance[name] = Float64Array.from(outputs[output].data);
      sum += relevance[name].reduce((all, r) => all + r, 0);
    }
    const number = (name) => (name ? Number(outputs[name].data[0]) : null);
    const logit = number(page.logit), there = number(page.logitThere);
    if (![sum, logit ?? 0, ...(scores ?? [])].every(Number.isFinite)) {
      throw new Failure("the model's score or relevance is NaN or infinite; perhaps of numbers that are too large for it");
    }
    const whole = logit === null || (page.derivative && there === null) ? null : logit - (there ?? 0);
    const total = scores?.reduce((all, score) => all + score, 0);
    const likely = page.score.likely && scores?.length > 1 && scores.every((score) => score >= 0) && Math.abs(total - 1) < page.score.rounding;
    return { scores, predicted, explained, relevance, sum, logit, there, whole, likely };
  }

  scores(outputs) {
    const { output, squashed } = this.page.score;
    if (!output) return null;
    const values = Array.from(outputs[output].data, Number);
    if (values.length !== 1 || this.page.classes.length !== 2) return values;
    return squashed ? [1 - values[0], values[0]] : null;
  }

  /** The class that the model itself names, where it does. */
  labelled(outputs) {
    const { labelOutput, own } = this.page;
    if (!labelOutput) return null;
    const said = outputs[labelOutput].data[0];
    const label = typeof said === "string" ? said : Number(said);
    const index = own ? own.indexOf(label) : -1;
    return index >= 0 ? index : typeof label === "string" ? null : label;
  }
}

function failed(error, what) {
  if (error instanceof Failure) return error;
  const why = String(error?.message ?? error);
  if (/bad_alloc|memory|allocation|out of bounds|RangeError/i.test(why) || error instanceof RangeError) {
    return new Failure(`${what}: this device has not enough memory for it`);
  }
  return new Failure(`${what} (${why.slice(0, 300)})`);
}
