// The page: loads the model, lets nothing out from then on, and explains what it is given.

import { amount as size, Failure, read } from "./files.js";
import { amount, make, percent, probably } from "./html.js";
import * as picture from "./picture.js";
import * as row from "./row.js";
import { open } from "./session.js";
import * as text from "./text.js";

const KINDS = { picture, row, text };
const MOST_LISTED = 5; // classes
const NEXT_TO_NOTHING = 1e-4, LOST = 0.5; // of the score

const at = (id) => document.getElementById(id);

function say(words, failed = false) {
  at("status").textContent = words;
  at("status").classList.toggle("failed", failed);
}

function fail(error) {
  at("progress").hidden = true;
  at("result").hidden = true; // it is of something else
  say(error instanceof Failure ? `${error.message[0].toUpperCase()}${error.message.slice(1)}.` : `Something went wrong: ${error}`, true);
  if (!(error instanceof Failure)) console.error(error);
}

/** Once the browser has shown what was said. */
const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));

async function start() {
  at("unstarted").hidden = true;
  say("Loading …");
  const answer = await fetch("page.json").catch(() => null);
  if (!answer?.ok) throw new Failure("a file cannot be loaded, page.json: is the whole folder on the server?");
  const page = await answer.json();
  document.title = page.title;
  at("title").textContent = page.title;
  at("lead").textContent = page.lead;
  at("progress").hidden = false;
  const files = await read(page.files, (there, whole) => {
    at("progress").value = there / whole;
    say(`Loading the model: ${size(there)} of ${size(whole)}`);
  });
  say("Starting the model …");
  await painted();
  const model = await open(page, files);
  const view = new View(page, model);
  const first = await KINDS[page.kind].start(page, files, at("input"), (sample) => view.show(sample), fail);
  shut();
  at("progress").hidden = true;
  at("input").hidden = false;
  say("");
  at("about").textContent = `${page.about}.`;
  await first?.();
  document.documentElement.dataset.ready = "yes";
}

/** From here on this page can reach nothing, not even its own server: policies that are added hold as well. */
function shut() {
  document.head.append(make("meta", { httpEquiv: "Content-Security-Policy", content: "connect-src 'none'; worker-src 'none'" }));
  at("privacy").textContent = "Nothing leaves this machine: all is computed in this browser, and since the model is loaded, the page has " +
    "forbidden itself every connection. It goes on working offline.";
}

/** What was given last, and what is shown of it. */
class View {
  constructor(page, model) {
    Object.assign(this, { page, model, target: -1, sample: null, count: 0 });
  }

  async show(sample) {
    this.sample = sample;
    at("result").setAttribute("aria-busy", "true");
    say("Computing …");
    await painted();
    if (this.sample !== sample) return; // another one came
    const outcome = await this.model.explain(sample.given, this.target);
    if (this.sample !== sample) return;
    say(sample.note);
    this.tell(outcome);
    const shown = at("shown"), focused = document.activeElement?.id;
    shown.replaceChildren();
    const saved = sample.draw(outcome, shown);
    at("downloads").replaceChildren(...saved.flatMap(([name, blob]) => [this.download(`${sample.name}.${name}`, name, blob), " "]));
    at("classes").replaceChildren(...this.classes(outcome));
    if (focused) at(focused)?.focus();
    at("result").hidden = false;
    at("result").setAttribute("aria-busy", "false");
    at("result").dataset.count = ++this.count;
  }

  /** Explain another class, -1 for that with the highest score. */
  async choose(target) {
    this.target = target;
    try {
      await this.show({ ...this.sample });
    } catch (error) {
      fail(error);
    }
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
    const { seconds } = outcome, { threads } = this.model;
    at("about").replaceChildren(`${page.about} in `, make("data", { id: "seconds", value: String(seconds) }, `${amount(seconds, 2)} s`),
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

  /** The classes with the highest scores, and a choice of all where the file explains any. */
  classes(outcome) {
    const { page } = this, { scores, explained } = outcome;
    if (page.quantity || page.classes.length < 2) return [];
    const able = Boolean(page.target.input), found = [];
    if (scores?.length > 1) {
      const best = scores.map((_, i) => i).sort((a, b) => scores[b] - scores[a]).slice(0, MOST_LISTED);
      const rows = best.map((i) => make("tr", { className: i === explained ? "own" : "" }, make("th", { scope: "row" }, this.label(i)),
        make("td", { className: "number" }, this.standing(outcome, i).replace("score ", "")), ...(able ? [make("td", {}, this.button(i, explained))] : [])));
      const heads = ["class", outcome.likely ? "probability" : "score", ...(able ? [""] : [])];
      found.push(make("h3", {}, "Highest scores"), make("table", {},
        make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))), make("tbody", {}, ...rows)));
    }
    if (!able) return [...found, make("p", { className: "soft" }, page.target.told)];
    const options = [make("option", { value: -1 }, "the class with the highest score"), ...page.classes.map(({ name }, i) => make("option", { value: i }, name))];
    const choice = make("select", { id: "target" }, ...options);
    choice.value = this.target;
    choice.addEventListener("change", () => this.choose(Number(choice.value)));
    return [...found, make("div", { className: "bar" }, make("label", { for: "target" }, "Explain:"), choice)];
  }

  button(index, explained) {
    const button = make("button", { type: "button", id: `explain${index}`, "aria-label": `explain ${this.label(index)}`, "aria-pressed": String(index === explained) }, index === explained ? "explained" : "explain");
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
