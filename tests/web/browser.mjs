// node browser.mjs FOLDER BROWSER WAY: what FOLDER/jobs.json asks for, in a browser, by onnxruntime-web as "wasm 1", "wasm 2" (two
// threads) or "webgpu" (whose adapter is made of software). The server sends the headers without which there are no threads.
import { readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { chromium } from "playwright-core";

const [folder, executablePath, way] = process.argv.slice(2);
const TYPES = { ".mjs": "text/javascript", ".wasm": "application/wasm", ".html": "text/html", ".json": "application/json" };
const ISOLATED = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };
const SOFTWARE = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan", "--use-vulkan=swiftshader", "--disable-vulkan-surface"];

const server = createServer(async (request, response) => {
  const path = normalize(new URL(request.url, "http://localhost").pathname);
  const place = path.startsWith("/jobs/") ? join(folder, path.slice(6)) : join(import.meta.dirname, path);
  try {
    const body = path === "/" ? "<!doctype html>" : await readFile(place);
    response.writeHead(200, { "Content-Type": TYPES[extname(path)] ?? "text/html", ...ISOLATED }).end(body);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const address = `http://127.0.0.1:${server.address().port}/`;

const args = ["--no-sandbox", "--disable-background-networking", "--disable-sync", ...(way === "webgpu" ? SOFTWARE : ["--disable-gpu"])];
const browser = await chromium.launch({ executablePath, headless: true, args });
const page = await browser.newPage();
await page.goto(address);
const found = await page.evaluate(async (way) => {
  const [provider, threads] = way.split(" ");
  if (!crossOriginIsolated) throw new Error("the page is not isolated: no threads");
  const dist = "/node_modules/onnxruntime-web/dist/";
  const ort = await import(dist + (provider === "webgpu" ? "ort.webgpu.min.mjs" : "ort.wasm.min.mjs"));
  const { runs } = await import("/runs.mjs");
  Object.assign(ort.env.wasm, { wasmPaths: dist, numThreads: Number(threads ?? 1) });
  ort.env.logLevel = "fatal";
  const read = async (name) => new Uint8Array(await (await fetch("/jobs/" + name)).arrayBuffer());
  const jobs = await (await fetch("/jobs/jobs.json")).json();
  return runs(ort, jobs, read, { executionProviders: [provider], logSeverityLevel: 4 });
}, way);
await browser.close();
server.close();
await writeFile(join(folder, "results.json"), JSON.stringify(found));
process.exit(0);
