// Elements. All words become text, never markup: labels and names are whatever somebody wrote into a model.

/** An element with properties (`data-` and `aria-` ones as attributes) and what is in it. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** A name in parts between which a line may end: snake_case and paths are one word to a browser. */
export const parted = (name) => name.replace(/[_./-](?=\p{L})/gu, "$&\0").split("\0").flatMap((part, i) => (i ? [make("wbr"), part] : [part]));

/** So many significant digits, and of a large number all before the point. */
export function amount(value, digits = 4) {
  const before = Math.abs(value).toFixed(0).length;
  return String(Number(value.toPrecision(before < 7 ? Math.max(digits, before) : digits))).replaceAll("-", "−");
}

export const signed = (value, digits) => (value > 0 ? "+" : "") + amount(value, digits);

const PER_CENT = "\u00a0%"; // with its number

export const percent = (share) => amount(100 * share, 2) + PER_CENT;

/** A probability, never rounded to a certainty. */
export function probably(value) {
  if (value > 0.9999) return `> 99.99${PER_CENT}`;
  if (value < 0.0001) return `< 0.01${PER_CENT}`;
  return (value > 0.99 ? Math.floor(value * 1e4) / 100 : amount(100 * value, 3)) + PER_CENT;
}

/** Rows of cells as a table that programs read. */
export function csv(rows) {
  const cell = (value) => (/[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
  return new Blob([rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n"], { type: "text/csv;charset=utf-8" });
}

/** A function that is called once others have stopped asking for it. */
export function patient(act, milliseconds = 250) {
  let waiting;
  return () => {
    clearTimeout(waiting);
    waiting = setTimeout(act, milliseconds);
  };
}
