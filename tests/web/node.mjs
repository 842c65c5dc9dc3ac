// node node.mjs FOLDER RUNTIME [THREADS]: what FOLDER/jobs.json asks for, by onnxruntime-node or onnxruntime-web (as WebAssembly).
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { runs } from "./runs.mjs";

const [folder, runtime, threads] = process.argv.slice(2);
const ort = await import(runtime);
if (runtime === "onnxruntime-web") ort.env.wasm.numThreads = Number(threads);
const options = { intraOpNumThreads: Number(threads), executionProviders: [runtime === "onnxruntime-web" ? "wasm" : "cpu"], logSeverityLevel: 4 };
const read = async (name) => new Uint8Array(await readFile(join(folder, name)));
const jobs = JSON.parse(await readFile(join(folder, "jobs.json"), "utf-8"));
await writeFile(join(folder, "results.json"), JSON.stringify(await runs(ort, jobs, read, options)));
process.exit(0); // threads of WebAssembly would wait for ever
