// Visits pages in headless Chromium, as told on standard input: { modules, chromium, flags, url, steps, width }. Prints what the steps
// gave, what was asked of any server, and what the pages complained of.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const told = JSON.parse(readFileSync(0, "utf-8"));
const { chromium } = createRequire(`${told.modules}/`)("playwright-core");
const browser = await chromium.launch({ executablePath: told.chromium, args: told.flags });
const page = await browser.newPage({ viewport: { width: told.width ?? 1200, height: 900 }, acceptDownloads: true });
const requests = [], complaints = [], results = [];
page.on("request", (request) => request.url().startsWith("blob:") || requests.push(request.url()));
page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
page.on("pageerror", (error) => complaints.push(String(error)));

const count = () => page.evaluate(() => document.getElementById("result").dataset.count ?? "0");

/** Does something, and waits until the page has shown what came of it. */
async function shown(act) {
  const before = await count();
  await act();
  await page.waitForFunction((old) => document.querySelector("#status.failed") || (document.getElementById("result").dataset.count ?? "0") !== old,
    before, { timeout: 60000 });
}

const STEPS = {
  open: async (path) => {
    await page.goto(told.url + path);
    await page.waitForFunction(() => document.documentElement.dataset.ready || document.querySelector("#status.failed"), null, { timeout: 60000 });
    return page.evaluate(() => performance.now());
  },
  upload: (file) => shown(() => page.setInputFiles("#file", file)),
  fill: (selector, text) => shown(() => page.fill(selector, text)),
  select: (selector, value) => shown(() => page.selectOption(selector, value)),
  click: (selector) => shown(() => page.click(selector)),
  text: (selector) => page.innerText(selector),
  value: (selector) => page.getAttribute(selector, "value"),
  evaluate: (code) => page.evaluate(code),
  inside: (code) => page.workers()[0].evaluate(code),
  workers: () => page.workers().map((worker) => new URL(worker.url()).protocol),
  shot: (path) => page.screenshot({ path, fullPage: true }).then(() => null),
  save: async (name) => {
    const [file] = await Promise.all([page.waitForEvent("download"), page.click(`text="Save ${name}"`)]);
    return readFileSync(await file.path(), name.endsWith(".csv") ? "utf-8" : "base64");
  },
};
let failed = null;
try {
  for (const [name, ...given] of told.steps) results.push((await STEPS[name](...given)) ?? null);
} catch (error) {
  failed = String(error);
}
await browser.close();
console.log(JSON.stringify({ results, requests, complaints, failed }));
