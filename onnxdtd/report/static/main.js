// The page: loads the model, lets nothing out from then on, and explains what it is given.

import * as beside from "./beside.js";
import { amount as size, Failure, read } from "./files.js";
import { amount, make, parted, percent, probably } from "./html.js";
import * as picture from "./picture.js";
import * as row from "./row.js";
import * as text from "./text.js";

const KINDS = { picture, row, text };
const MOST_LISTED = 5; // classes
const SOON = 300; // milliseconds, in which nobody needs to be told
const NEXT_TO_NOTHING = 1e-4, LOST = 0.5; // of the score

const at = (id) => document.getElementById(id);

function say(words, failed = false) {
  at("status").textContent = words;
  at("status").classList.toggle("failed", failed);
}

/** How far it is, a share of all, or null where that is not known; or nothing, and there is no bar. */
function progress(share, words = "") {
  at("progress").hidden = share === undefined;
  at("amount").textContent = words;
  if (share === null) at("bar").removeAttribute("value");
  else at("bar").value = share ?? 0;
}

function fail(error) {
  progress();
  at("result").hidden = true; // it is of something else
  say(error instanceof Failure ? `${error.message[0].toUpperCase()}${error.message.slice(1)}.` : `Something went wrong: ${error}`, true);
  if (!(error instanceof Failure)) console.error(error);
}

async function start() {
  at("unstarted").hidden = true;
  say("Loading the model …");
  const answer = await fetch("page.json").catch(() => null);
  if (!answer?.ok) throw new Failure("a file cannot be loaded, page.json: is the whole folder on the server?");
  const page = await answer.json();
  document.title = page.title;
  at("title").replaceChildren(...parted(page.title));
  at("lead").textContent = page.lead;
  const files = await read(page.files, (there, whole) => progress(there / whole, `${size(there)} of ${size(whole)}`));
  shut("connect-src 'none'"); // the worker as well, which begins with what holds here
  say("Starting the model …");
  progress(null);
  const ask = beside.start();
  const its = Object.entries(files).filter(([name]) => !name.startsWith("examples/"));
  const threads = await ask("open", [page, Object.fromEntries(its)], its.map(([, bytes]) => bytes.buffer));
  shut("worker-src 'none'; script-src 'none'");
  at("privacy").textContent = "Nothing leaves this machine: all is computed in this browser, and since the model is loaded, the page has " +
    "forbidden itself every connection. It goes on working offline.";
  progress();
  say("");
  at("about").textContent = `${page.about}.`;
  const view = new View(page, ask, threads);
  const first = KINDS[page.kind].start(page, files, at("input"), (sample) => view.show(sample), ask);
  at("input").hidden = false;
  await first?.();
  document.documentElement.dataset.ready = "yes";
}

/** From here on the browser does not let this page do that: policies that are added hold as well. */
function shut(content) {
  document.head.append(make("meta", { httpEquiv: "Content-Security-Policy", content }));
}

/** What was asked for last, and what is shown of it. */
class View {
  constructor(page, ask, threads) {
    Object.assign(this, { page, ask, threads, target: -1, asked: null, sample: null, running: null, count: 0 });
    this.able = Boolean(page.target.input) && !page.quantity && page.classes.length > 1; // to explain any class
  }

  /** Explain a promised sample, unless another one is asked for before that is done. */
  async show(sample) {
    const asked = (this.asked = Symbol());
    this.sample = sample;
    this.wait();
    try {
      const { given } = await sample;
      await this.running; // which nothing can stop, and of those that wait behind it only the last one is wanted
      if (this.asked !== asked) return;
      const run = this.ask("explain", [given, this.target]);
      this.running = run.catch(() => null);
      const outcome = await run;
      if (this.asked === asked) this.draw(await sample, outcome);
    } catch (error) {
      if (this.asked === asked) fail(error);
    }
    if (this.asked === asked) this.wait(false);
  }

  /** Says that it computes, once that takes a while. */
  wait(long = true) {
    at("result").setAttribute("aria-busy", String(long));
    clearTimeout(this.waiting);
    if (!long) return progress();
    if (at("status").classList.contains("failed")) say("");
    this.waiting = setTimeout(() => {
      say("Computing …");
      progress(null);
    }, SOON);
  }

  draw(sample, outcome) {
    say(sample.note);
    this.tell(outcome);
    const shown = at("shown"), focused = document.activeElement?.id;
    shown.replaceChildren();
    const saved = sample.draw(outcome, shown);
    at("downloads").replaceChildren(...saved.map(([name, blob]) => this.download(`${sample.name}.${name}`, name, blob)));
    at("classes").replaceChildren(...this.classes(outcome));
    if (this.able) (this.chosen ??= this.choice()).value = this.target;
    if (focused) at(focused)?.focus();
    at("result").hidden = false;
    at("spoken").textContent = `${at("said").textContent}. ${at("explained").textContent}`;
    at("result").dataset.count = ++this.count;
  }

  /** Explain another class, -1 for that with the highest score. */
  choose(target) {
    this.target = target;
    this.show(this.sample);
  }

  label(index) {
    return this.page.classes[index]?.brief ?? `class ${index}`;
  }

  standing({ scores, likely }, index) {
    const score = scores?.[index];
    return score === undefined ? "" : likely ? probably(score) : `score ${amount(score, 3)}`;
  }

  tell(outcome) {
    const { page } = this, { predicted, explained } = outcome;
    const standing = this.standing(outcome, predicted);
    at("said").textContent = page.quantity ? `${this.label(0)} = ${amount(outcome.scores?.[0] ?? outcome.logit)}`
      : predicted === null ? "No class is told" : `${this.label(predicted)}${standing ? ` (${standing})` : ""}`;
    at("explained").textContent = explained === null || page.quantity ? "" : `What speaks for “${this.label(explained)}” is red, what speaks against it blue.`;
    at("balance").replaceChildren(...this.balance(outcome));
    const { seconds } = outcome, { threads } = this;
    at("about").replaceChildren(`${page.about} in `, make("data", { id: "seconds", value: String(seconds) }, `${amount(seconds, 2)}\u00a0s`),
      threads > 1 ? `, ${threads} threads.` : ".");
  }

  /** What relevance adds up to, and what of the score is not in it. */
  balance({ logit, there, whole, sum }) {
    const number = (value, name) => make("data", { value: String(value), id: name }, amount(value));
    const words = ["Relevance adds up to ", number(sum, "sum")];
    if (whole === null) return [...words, "."];
    const missing = whole - sum;
    words.push(`; the ${this.page.score.name} is `, number(logit, "logit"));
    if (there !== null) words.push(", ", number(whole, "whole"), " more than that of what it is compared with");
    const share = Math.abs(missing / (whole || 1));
    words.push(share <= NEXT_TO_NOTHING ? ": nothing is lost on the way."
      : `. The difference, ${amount(missing, 2)} or ${percent(share)} of it, stays with biases and constants${share > LOST ? ": read no amounts from this" : ""}.`);
    if (whole < 0) words.push(" It is below 0, and relevance adds up to that: blue is where the score comes from, not evidence against the class.");
    return words;
  }

  /** The classes with the highest scores. */
  classes(outcome) {
    const { page, able } = this, { scores, explained } = outcome, found = [];
    if (page.quantity || page.classes.length < 2) return [];
    if (scores?.length > 1) {
      const best = scores.map((_, i) => i).sort((a, b) => scores[b] - scores[a]).slice(0, MOST_LISTED);
      const rows = best.map((i) => make("tr", { className: i === explained ? "own" : "" }, make("th", { scope: "row" }, this.label(i)),
        make("td", { className: "number" }, this.standing(outcome, i).replace("score ", "")), ...(able ? [make("td", {}, this.button(i, explained))] : [])));
      const heads = ["class", outcome.likely ? "probability" : "score"].map((head) => make("th", { scope: "col" }, head));
      found.push(make("h3", {}, "Highest scores"), make("table", {},
        make("thead", {}, make("tr", {}, ...heads, ...(able ? [make("td")] : []))), make("tbody", {}, ...rows)));
    }
    return able ? found : [...found, make("p", { className: "soft" }, page.target.told)];
  }

  /** A choice of all classes, made once: it stays open and keeps the focus. */
  choice() {
    const options = this.page.classes.map(({ name }, i) => make("option", { value: i }, name));
    const choice = make("select", { id: "target" }, make("option", { value: -1 }, "the class with the highest score"), ...options);
    choice.addEventListener("change", () => this.choose(Number(choice.value)));
    at("choice").replaceChildren(make("label", { for: "target" }, "Explain:"), choice);
    return choice;
  }

  button(index, explained) {
    const said = index === explained ? "explained" : "explain";
    const button = make("button", { type: "button", id: `explain${index}`, "aria-label": `${said}: ${this.label(index)}`, "aria-pressed": String(index === explained) }, said);
    button.addEventListener("click", () => this.choose(index));
    return button;
  }

  download(name, said, blob) {
    const button = make("button", { type: "button" }, `Save ${said}`);
    button.addEventListener("click", async () => {
      const link = make("a", { href: URL.createObjectURL(await blob()), download: name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1e4);
    });
    return button;
  }
}

start().catch(fail);
