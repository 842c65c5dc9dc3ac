// Rows of a table: a field for each column, and a bar for each feature.

import { bars, nothing } from "./draw.js";
import { Failure } from "./files.js";
import { csv, make, parted, patient } from "./html.js";

/** Fills `root` with fields; `give` hears of each row as a promise of what the model takes. */
export function start(page, files, root, give) {
  const { fields } = page.row;
  const entries = fields.map((field, i) => entry(field, i));
  const act = () => give(sample(page, entries.map(({ value }) => value)));
  const soon = patient(act);
  for (const element of entries) element.addEventListener("input", soon);
  const fill = (values) => values.forEach((value, i) => (entries[i].value = value ?? ""));
  entries[0]?.addEventListener("paste", (event) => { // a whole row, as spreadsheets and files have it
    const cells = event.clipboardData.getData("text").trim().split(/[\t;,]/);
    if (cells.length < 2) return;
    event.preventDefault();
    if (cells.length !== fields.length) {
      give(Promise.reject(new Failure(`the row has ${cells.length} cells, the model takes ${fields.length}`)));
      return;
    }
    fill(cells.map((cell) => cell.trim()));
    act();
  });
  if (page.examples.length) {
    const choice = make("select", { id: "example" }, ...page.examples.map(({ name }, i) => make("option", { value: i }, name)));
    choice.addEventListener("change", () => {
      fill(page.examples[choice.value].values);
      act();
    });
    root.append(make("div", { className: "bar" }, make("label", { for: "example" }, "Example:"), choice));
  }
  root.append(make("p", { className: "soft" }, "Change a value, and the explanation follows. A whole row can be pasted into the first field."));
  const labelled = entries.map((element, i) => make("label", { for: element.id }, ...parted(fields[i].name), element));
  root.append(make("div", { className: "fields" }, ...labelled));
  fill(page.examples.length ? page.examples[0].values : fields.map(({ value }) => value));
  return act;
}

/** A field for a number, for one of some words, or for any. */
function entry({ words, missing }, i) {
  const id = `field${i}`;
  if (words?.length) return make("select", { id }, ...words.map((word) => make("option", { value: word }, word || "(missing)")));
  if (words) return make("input", { id, type: "text" });
  return make("input", { id, type: "text", inputMode: "decimal", autocomplete: "off", required: !missing });
}

async function sample(page, said) {
  const { fields, features } = page.row;
  const given = Object.create(null), values = said.map((cell, i) => read(cell, fields[i]));
  for (const [name, input] of Object.entries(page.inputs)) {
    given[name] = { values: values.filter((_, i) => fields[i].input === name), sizes: input.sizes };
  }
  const draw = (outcome, shown) => {
    const all = page.shown.flatMap((name) => [...outcome.relevance[name]]);
    const sums = new Array(features.length).fill(0);
    all.forEach((r, i) => (sums[page.row.member[i]] += r));
    const named = features.map(({ name, field }, i) => {
      const value = field === null ? "" : ` =\u00a0${said[field] === "" ? "missing" : said[field]}`;
      return { name: `${name}${value}`, relevance: sums[i] };
    });
    shown.append(sums.some(Boolean) ? bars(named, page.look, "feature") : nothing());
    const rows = features.map(({ name, field }, i) => [name, field === null ? "" : said[field], sums[i]]);
    return [["relevance.csv", () => csv([["feature", "value", "relevance"], ...rows])]];
  };
  return { name: "row", note: "", given, draw };
}

function read(cell, { name, words, missing }) {
  if (words) return cell;
  const number = cell.trim() === "" ? NaN : Number(cell);
  if (Number.isFinite(number) || (missing && cell.trim() === "")) return number;
  throw new Failure(cell.trim() === "" ? `there is no value of ${name}` : `the value of ${name}, “${cell}”, is no number`);
}
