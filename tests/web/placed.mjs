// node placed.mjs FOLDER BROWSER: for each file of FOLDER/files.json the names of the nodes that onnxruntime-web puts on the CPU, on
// WebGPU in a browser, into FOLDER/placed.json; null for a file that does not load. None is run.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { opened } from "./opened.mjs";

const [folder, executablePath] = process.argv.slice(2);
const { page, address, close } = await opened(folder, executablePath, true);
let lines = [];
page.on("console", (message) => lines.push(...message.text().split("\n")));
await page.goto(address);
const found = [];
for (const file of JSON.parse(await readFile(join(folder, "files.json"), "utf-8"))) {
  lines = [];
  const error = await page.evaluate(async (file) => {
    const dist = "/node_modules/onnxruntime-web/dist/";
    const ort = await import(dist + "ort.webgpu.min.mjs");
    Object.assign(ort.env.wasm, { wasmPaths: dist, numThreads: 1 });
    ort.env.logLevel = "verbose";
    const bytes = new Uint8Array(await (await fetch("/given/" + file)).arrayBuffer());
    try {
      const session = await ort.InferenceSession.create(bytes, { executionProviders: ["webgpu"], logSeverityLevel: 0 });
      await session.release();
    } catch (error) {
      return String(error);
    }
  }, file);
  if (error) {
    console.error(`${file}: ${error}`);
    found.push(null);
    continue;
  }
  const begin = lines.findIndex((line) => line.includes("placed on [CPUExecutionProvider]"));
  const rest = begin < 0 ? [] : lines.slice(begin + 1);
  const end = rest.findIndex((line) => line.includes("placed on ["));
  found.push((end < 0 ? rest : rest.slice(0, end)).map((line) => line.match(/ToAnEp\] +(\w+) \((.*)\)$/)?.slice(1)).filter(Boolean));
}
await close();
await writeFile(join(folder, "placed.json"), JSON.stringify(found));
process.exit(0);
