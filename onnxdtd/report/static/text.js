// Texts: what a tokenizer makes of them, and every token in the colour of its relevance.

import { bars, colour, css, isDark, limit, nothing } from "./draw.js";
import { Failure } from "./files.js";
import { csv, make, patient, percent, signed } from "./html.js";

/** Fills `root` with a field for a text; `give` hears of each one as a promise of what the model takes, `ask` has its tokens made. */
export function start(page, files, root, give, ask) {
  const field = make("textarea", { id: "text", maxLength: page.text.letters, "aria-describedby": "status" });
  const act = () => give(sample(page, ask, field.value));
  const button = make("button", { type: "button" }, "Explain");
  button.addEventListener("click", () => {
    act();
    if (!field.value.trim()) field.focus();
  });
  field.addEventListener("input", patient(act, 600));
  root.append(make("label", { for: "text" }, "Write or paste a text:"), field, make("div", { className: "bar" }, button));
  if (!page.examples.length) return;
  const examples = page.examples.map(({ text }) => {
    const example = make("button", { type: "button", className: "words", title: text }, text.length > 60 ? `${text.slice(0, 59)}…` : text);
    example.addEventListener("click", () => {
      field.value = text;
      act();
    });
    return example;
  });
  root.append(make("div", { className: "bar examples", role: "group", "aria-label": "examples" }, make("span", {}, "Examples:"), ...examples));
}

async function sample(page, ask, whole) {
  if (!whole.trim()) throw new Failure("there is no text yet: write or paste one");
  const { text } = page;
  let found = await ask("tokens", [whole]);
  if (!found.length) throw new Failure("the text has no tokens");
  const cut = text.most === null ? 0 : Math.max(0, found.length - text.most);
  if (cut) {
    const last = found.findLastIndex(({ special }) => !special);
    found = found.filter((_, i) => i <= last - cut || i > last);
  }
  const length = found.length;
  if (length > text.limit) throw new Failure(`the text has ${length} tokens, more than ${text.limit}; explain a part of it`);
  const padding = Array.from({ length: Math.max(0, (text.pads ?? 0) - length) }, () => ({ ...text.pad, special: true, padding: true }));
  found = text.left ? [...padding, ...found] : [...found, ...padding];
  const values = {
    ids: found.map(({ id }) => id),
    mask: found.map((token) => Number(!token.padding)),
    types: found.map(({ kind }) => kind),
    positions: found.map((_, i) => i),
    length: [length],
  };
  const given = Object.create(null);
  for (const [role, name] of Object.entries(text.roles)) {
    given[name] = { values: values[role], sizes: page.inputs[name].sizes.map((size) => size ?? values[role].length) };
  }
  const note = cut ? `${cut} token${cut > 1 ? "s" : ""} at the end of the text are left out: the model takes no more.` : "";
  return { name: "text", note, given, draw: (outcome, shown) => draw(page, whole, found, cut, outcome, shown) };
}

function draw({ shown: [name], text, look }, whole, tokens, cut, outcome, shown) {
  const all = outcome.relevance[name], each = all.length / tokens.length;
  tokens.forEach((token, i) => (token.relevance = all.subarray(i * each, (i + 1) * each).reduce((sum, r) => sum + r, 0)));
  const pieces = (text.tokenizer ? located : spelled)(whole, tokens, cut);
  const words = pieces.filter(({ kind }) => kind === "mark");
  const most = limit(words.map(({ relevance }) => relevance), look);
  const total = tokens.reduce((sum, token) => sum + Math.abs(token.relevance), 0) || 1;
  const passage = make("div", { className: "passage", dir: "auto" });
  for (const { kind, text: said, relevance } of pieces) {
    if (!kind) {
      passage.append(said);
      continue;
    }
    const title = kind === "del" ? "left out" : `${signed(relevance)} (${percent(Math.abs(relevance) / total)})`;
    const element = make(kind, { title }, kind === "small" ? `${said} ${signed(relevance, 2)}` : said);
    if (kind === "mark") {
      const rgb = colour(relevance / most, look);
      element.style.background = css(rgb);
      element.classList.toggle("dark", isDark(rgb, look));
    }
    passage.append(element);
  }
  const entries = joined(pieces);
  shown.append(passage, entries.some(({ relevance }) => relevance) ? bars(entries, look, "word") : nothing());
  const rows = [["token", "id", "relevance"], ...tokens.map((token) => [token.name, token.id, token.relevance])];
  return [["relevance.csv", () => csv(rows)]];
}

/** Words { name, relevance } of pieces that stand together. */
function joined(pieces) {
  const words = [];
  let inside = false;
  for (const { kind, text, relevance } of pieces.filter((piece) => piece.text)) {
    const goesOn = inside && /^[\p{L}\p{N}]/u.test(text);
    if (kind === "mark" && goesOn) {
      words.at(-1).name += text;
      words.at(-1).relevance += relevance;
    } else if (kind === "mark" && text.trim()) words.push({ name: text, relevance });
    inside = kind === "mark" && /[\p{L}\p{N}]$/u.test(text) && !IDEOGRAPH.test(text);
  }
  return words;
}

const IDEOGRAPH = /[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}]/u; // of a script without spaces: each is a word

const sum = (tokens) => tokens.reduce((all, { relevance }) => all + relevance, 0);
const added = (tokens) => ({ kind: "small", text: tokens[0].name, relevance: sum(tokens) });

/** A text of bytes in pieces: a letter has all of its bytes. */
function spelled(whole, tokens, cut) {
  const pieces = [];
  let at = 0;
  for (const letter of whole) {
    const own = tokens.slice(at, at + new TextEncoder().encode(letter).length).filter(({ special }) => !special);
    pieces.push(own.length ? { kind: "mark", text: letter, relevance: sum(own) } : { kind: cut ? "del" : "", text: letter });
    at += own.length;
  }
  return pieces;
}

/**
 * A text in pieces { kind, text, relevance } in the order of reading: each token at its letters, case and accents aside. Letters
 * that no token is spelled like are those of the tokens before that are spelled like nothing, an unknown word or parts of a letter.
 */
export function located(whole, tokens, cut) {
  const { letters: spelling, places } = folded(whole);
  const pieces = [], last = tokens.findLastIndex(({ special }) => !special);
  let at = 0, waiting = [];
  const upTo = (end, kind) => {
    const text = whole.slice(places[at], places[end]), inner = text.trim(), front = text.indexOf(inner);
    at = end;
    if (waiting.length && inner) {
      pieces.push({ kind: "", text: text.slice(0, front) }, { kind: "mark", text: inner, relevance: sum(waiting) });
      pieces.push({ kind: "", text: text.slice(front + inner.length) });
      waiting = [];
    } else if (text) pieces.push({ kind: inner ? kind : "", text });
  };
  const mark = (text, own) => {
    pieces.push({ kind: "mark", text, relevance: sum(own) });
    waiting = [];
  };
  tokens.forEach((token, i) => {
    if (token.special) {
      if (!token.padding) pieces.push(added([token]));
      return;
    }
    const name = folded(token.name.replace(/^(##|▁|Ġ)/, "").replace(/<\/w>$/, "")).letters;
    const next = at + spelling.slice(at).search(/\S|$/), found = spelling.indexOf(name, next);
    if (!name && next > at) { // a space is a token as well
      at += 1;
      mark(whole.slice(places[at - 1], places[at]), [token]);
    } else if (!name || found < 0 || found - next > REACH * waiting.length) waiting.push(token);
    else {
      upTo(found, "");
      at = found + name.length;
      mark(whole.slice(places[found], places[at]), [...waiting, token]);
    }
    if (i !== last) return;
    if (!cut) upTo(spelling.length, "");
    if (waiting.length) mark(waiting.map((one) => one.name).join(""), waiting);
    upTo(spelling.length, "del");
  });
  const padding = tokens.filter((token) => token.padding);
  return padding.length ? [...pieces, added(padding)] : pieces;
}

const REACH = 40; // letters of an unknown word

/** Letters without case and accents, and where each stands in the text; behind them its end. */
function folded(text) {
  const places = [];
  let letters = "", at = 0;
  for (const letter of text) {
    const plain = letter.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
    letters += plain;
    for (let i = 0; i < plain.length; i++) places.push(at);
    at += letter.length;
  }
  return { letters, places: [...places, text.length] };
}
