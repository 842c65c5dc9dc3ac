// A browser at a page of this folder, and of another one under /given/: the server sends the headers without which a page has no
// threads. On WebGPU its adapter is made of software.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { chromium } from "playwright-core";

const GIVEN = "/given/";
const TYPES = { ".mjs": "text/javascript", ".wasm": "application/wasm", ".html": "text/html", ".json": "application/json" };
const ISOLATED = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };
const SOFTWARE = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan", "--use-vulkan=swiftshader", "--disable-vulkan-surface"];

export async function opened(folder, executablePath, webgpu) {
  const server = createServer(async (request, response) => {
    const path = normalize(new URL(request.url, "http://localhost").pathname);
    const place = path.startsWith(GIVEN) ? join(folder, path.slice(GIVEN.length)) : join(import.meta.dirname, path);
    try {
      const body = path === "/" ? "<!doctype html>" : await readFile(place);
      response.writeHead(200, { "Content-Type": TYPES[extname(path)] ?? "text/html", ...ISOLATED }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  const args = ["--no-sandbox", "--disable-background-networking", "--disable-sync", ...(webgpu ? SOFTWARE : ["--disable-gpu"])];
  const browser = await chromium.launch({ executablePath, headless: true, args });
  const page = await browser.newPage();
  const close = async () => {
    await browser.close();
    server.close();
  };
  return { page, address: `http://127.0.0.1:${server.address().port}/`, close };
}
