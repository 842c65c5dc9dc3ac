// node placed.mjs FOLDER BROWSER: for each file of FOLDER/files.json the names of the nodes that onnxruntime-web puts on the CPU, on
// WebGPU in a browser (whose adapter is made of software), into FOLDER/placed.json; null for a file that does not load. None is run.
import { readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { chromium } from "playwright-core";

const [folder, executablePath] = process.argv.slice(2);
const TYPES = { ".mjs": "text/javascript", ".wasm": "application/wasm" };
const ISOLATED = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };
const SOFTWARE = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan", "--use-vulkan=swiftshader", "--disable-vulkan-surface"];

const server = createServer(async (request, response) => {
  const path = normalize(new URL(request.url, "http://localhost").pathname);
  const place = path.startsWith("/files/") ? join(folder, path.slice(7)) : join(import.meta.dirname, path);
  try {
    const body = path === "/" ? "<!doctype html>" : await readFile(place);
    response.writeHead(200, { "Content-Type": TYPES[extname(path)] ?? "text/html", ...ISOLATED }).end(body);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const args = ["--no-sandbox", "--disable-background-networking", "--disable-sync", ...SOFTWARE];
const browser = await chromium.launch({ executablePath, headless: true, args });
const page = await browser.newPage();
let lines = [];
page.on("console", (message) => lines.push(...message.text().split("\n")));
await page.goto(`http://127.0.0.1:${server.address().port}/`);
const found = [];
for (const file of JSON.parse(await readFile(join(folder, "files.json"), "utf-8"))) {
  lines = [];
  const error = await page.evaluate(async (file) => {
    const dist = "/node_modules/onnxruntime-web/dist/";
    const ort = await import(dist + "ort.webgpu.min.mjs");
    Object.assign(ort.env.wasm, { wasmPaths: dist, numThreads: 1 });
    ort.env.logLevel = "verbose";
    const bytes = new Uint8Array(await (await fetch("/files/" + file)).arrayBuffer());
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
await browser.close();
server.close();
await writeFile(join(folder, "placed.json"), JSON.stringify(found));
process.exit(0);
