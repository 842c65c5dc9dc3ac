// node browser.mjs FOLDER BROWSER WAY: what FOLDER/jobs.json asks for, in a browser, by onnxruntime-web as "wasm 1", "wasm 2" (two
// threads) or "webgpu".
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { opened } from "./opened.mjs";

const [folder, executablePath, way] = process.argv.slice(2);
const { page, address, close } = await opened(folder, executablePath, way === "webgpu");
await page.goto(address);
const found = await page.evaluate(async (way) => {
  const [provider, threads] = way.split(" ");
  if (!crossOriginIsolated) throw new Error("the page is not isolated: no threads");
  const dist = "/node_modules/onnxruntime-web/dist/";
  const ort = await import(dist + (provider === "webgpu" ? "ort.webgpu.min.mjs" : "ort.wasm.min.mjs"));
  const { runs } = await import("/runs.mjs");
  Object.assign(ort.env.wasm, { wasmPaths: dist, numThreads: Number(threads ?? 1) });
  ort.env.logLevel = "fatal";
  const read = async (name) => new Uint8Array(await (await fetch("/given/" + name)).arrayBuffer());
  const jobs = await (await fetch("/given/jobs.json")).json();
  return runs(ort, jobs, read, { executionProviders: [provider], logSeverityLevel: 4 });
}, way);
await close();
await writeFile(join(folder, "results.json"), JSON.stringify(found));
process.exit(0);
