// Compiled files in one runtime, the same in Node.js and in a browser.

const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  float16: globalThis.Float16Array ?? Uint16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  bool: Uint8Array,
};

function tensor(ort, { type, dims, data }) {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  return new ort.Tensor(type, new ARRAYS[type](bytes.buffer), dims);
}

function packed({ type, dims, data }) {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  let letters = "";
  for (let at = 0; at < bytes.length; at += 0x8000) letters += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return { type, dims, data: btoa(letters) };
}

async function run(ort, job, read, options) {
  const began = performance.now();
  const session = await ort.InferenceSession.create(await read(job.file), options);
  const found = { load: performance.now() - began, outputs: [], run: [] };
  for (const feed of job.feeds) {
    const feeds = Object.fromEntries(Object.entries(feed).map(([name, given]) => [name, tensor(ort, given)]));
    for (let time = 0; time < job.times; time++) {
      const started = performance.now();
      const result = await session.run(feeds, [job.fetch]);
      found.run.push(performance.now() - started);
      if (time === 0) found.outputs.push(packed(result[job.fetch]));
    }
  }
  await session.release();
  return found;
}

// What each of `jobs` gave, or why it could not be run. `read` gives the bytes of a file.
export async function runs(ort, jobs, read, options) {
  const results = [];
  for (const job of jobs) results.push(await run(ort, job, read, options).catch((error) => ({ error: String(error.message ?? error) })));
  return results;
}
