// The colours of relevance, as onnxdtd.data.scale, maps and bars have them: white is zero, red speaks for the class, blue against it.

import { make, parted, percent, signed } from "./html.js";

/** The relevance at the ends of the scale: the largest, or of many values all but the 0.5 % largest. */
export function limit(values, look) {
  const sizes = Float64Array.from(values).map(Math.abs).sort();
  const most = sizes.at(-1) || 1;
  if (sizes.length <= look.many) return most;
  const place = (look.percentile / 100) * (sizes.length - 1), below = Math.floor(place);
  const above = Math.min(below + 1, sizes.length - 1);
  return sizes[below] + (place - below) * (sizes[above] - sizes[below]) || most;
}

/** The colour [red, green, blue] of a share from -1 to 1. */
export function colour(share, look) {
  const count = look.colours.length;
  const place = Math.floor((0.5 + Math.min(Math.max(share, -1), 1) / 2) * count);
  return look.colours[Math.min(place, count - 1)];
}

export const css = ([red, green, blue]) => `rgb(${red}, ${green}, ${blue})`;

/** Are letters on this colour to be white? */
export const isDark = (rgb, look) => rgb.reduce((sum, part, i) => sum + (part / 255) * look.luminance[i], 0) < look.dark;

/** A canvas of [height, width] pixels, each as `pixel(i)` says. */
export function canvas([height, width], label, pixel) {
  const made = make("canvas", { width, height, role: "img", "aria-label": label });
  const image = new ImageData(width, height);
  const data = image.data.fill(255);
  for (let i = 0; i < width * height; i++) {
    const rgb = pixel(i);
    for (let c = 0; c < 3; c++) data[4 * i + c] = rgb[c];
  }
  made.getContext("2d").putImageData(image, 0, 0);
  made.classList.toggle("small", Math.max(height, width) < 256);
  return made;
}

/** A grey picture, and on it the relevance: the more, the less grey shows. */
export function overlaid([red, green, blue], share, look) {
  const grey = (red * look.light[0] + green * look.light[1] + blue * look.light[2]) / 255;
  const opacity = Math.min(Math.abs(share), 1) ** look.opacity;
  const below = 255 * (look.dim + (look.bright - look.dim) * grey);
  return colour(share, look).map((part) => (1 - opacity) * below + opacity * part);
}

/** What the colours mean, in per cent of all relevance. */
export function key(values, most, look) {
  const total = values.reduce((sum, r) => sum + Math.abs(r), 0) || 1;
  const bar = canvas([1, look.colours.length], "colour scale: dark blue speaks against the class, white is zero, dark red speaks for it",
    (i) => look.colours[i]);
  const end = percent(most / total);
  return make("div", { className: "key" }, bar, make("span", {}, `−${end}`), make("span", {}, "of Σ |relevance|"), make("span", {}, end));
}

/** A bar for each of the entries { name, relevance } with most relevance, the largest above, and one for all others; `what` they are. */
export function bars(entries, look, what) {
  const whole = limit(entries.map((entry) => entry.relevance), { ...look, many: Infinity });
  const ordered = entries.filter((entry) => entry.relevance).sort((a, b) => Math.abs(b.relevance) - Math.abs(a.relevance));
  const shown = ordered.slice(0, look.features), rest = ordered.slice(look.features);
  const sum = rest.reduce((all, entry) => all + entry.relevance, 0);
  const most = Math.max(...shown.map((entry) => Math.abs(entry.relevance)), Math.abs(sum), 0) || 1;
  const rows = shown.map((entry) => row(entry, most, css(colour(entry.relevance / whole, look))));
  if (rest.length) rows.push(row({ name: `the other ${rest.length}`, relevance: sum }, most, "#999"));
  const head = make("tr", {}, ...[what, "relevance"].map((word) => make("th", { scope: "col" }, word)), make("td"));
  return make("table", { className: "bars", "aria-label": `relevance of each ${what}` }, make("thead", {}, head), make("tbody", {}, ...rows));
}

function row({ name, relevance }, most, fill) {
  const bar = make("i");
  const width = (50 * Math.abs(relevance)) / most;
  Object.assign(bar.style, { background: fill, width: `${width}%`, left: `${relevance < 0 ? 50 - width : 50}%` });
  return make("tr", {}, make("th", { scope: "row" }, ...parted(name)), make("td", { className: "number" }, signed(relevance, 3)),
    make("td", { className: "track" }, make("span", { "aria-hidden": "true" }, bar)));
}

export const nothing = () => make("p", {}, "No relevance: all of it is 0.");
