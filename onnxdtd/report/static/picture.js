// Pictures: dropped, chosen, taken or pasted; their heatmap, and that on the picture.

import { canvas, colour, key, limit, nothing, overlaid } from "./draw.js";
import { csv, make } from "./html.js";
import { strides } from "./pixels.js";

/** Fills `root` with ways to give a picture; `give` hears of each one as a promise of what the model takes, `ask` has it made. */
export function start(page, files, root, give, ask) {
  const open = (blob, name) => give(sample(page, ask, blob, name));
  const chooser = (id, more) => {
    const input = make("input", { type: "file", accept: "image/*", id, className: "hidden", ...more });
    if (more.capture) input.setAttribute("capture", more.capture);
    input.addEventListener("change", () => {
      if (input.files.length) open(input.files[0], input.files[0].name);
      input.value = ""; // so that the same file can be chosen again
    });
    return input;
  };
  const drop = make("label", { className: "drop" }, chooser("file", {}), make("strong", {}, "Choose a picture"),
    make("span", { className: "dropped" }, ", or drop or paste one here"));
  const photo = make("label", { className: "photo" }, chooser("camera", { capture: "environment" }), "Take a photo");
  root.append(drop, photo);
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      const file = kind === "drop" && event.dataTransfer.files[0];
      if (file) open(file, file.name);
    });
  }
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
    if (file) open(file, "pasted");
  });
  if (!page.examples.length) return;
  const buttons = page.examples.map(({ name, file, size }) => {
    const blob = new Blob([files[file]]);
    const image = make("img", { src: URL.createObjectURL(blob), alt: name, className: Math.max(...size) < 64 ? "small" : "" });
    const button = make("button", { type: "button", title: name }, image);
    button.addEventListener("click", () => open(blob, name));
    return button;
  });
  root.append(make("div", { className: "bar examples", role: "group", "aria-label": "examples" }, make("span", {}, "Examples:"), ...buttons));
}

async function sample(page, ask, blob, name) {
  const { bytes, shape, given, clear } = await ask("reduced", [blob]);
  return {
    name: name.replace(/\.\w+$/, ""),
    note: clear ? "The picture has transparent parts; where it is clear, browsers give black, and onnxdtd explain what lies there." : "",
    given: { [page.shown[0]]: given },
    draw: (outcome, shown) => draw(page, bytes, shape, outcome, shown),
  };
}

/** What is shown of a picture; gives what can be saved of it. */
function draw(page, bytes, shape, outcome, shown) {
  const { look, picture: { channels, axes } } = page;
  const [height, width] = shape, steps = strides(shape, channels, axes);
  const relevance = outcome.relevance[page.shown[0]];
  const heat = new Float64Array(height * width);
  for (let i = 0; i < heat.length; i++) {
    const first = Math.floor(i / width) * steps.row + (i % width) * steps.column;
    for (let c = 0; c < channels; c++) heat[i] += relevance[first + c * steps.channel];
  }
  const most = limit(heat, look);
  const next = channels < 3 ? 0 : 1; // grey is all three colours
  const pixel = (i) => [0, 1, 2].map((c) => bytes[i * channels + c * next]);
  const maps = canvas(shape, "heatmap of relevance", (i) => colour(heat[i] / most, look));
  const panels = [
    ["what the model sees", canvas(shape, "the picture as the model sees it", pixel)],
    ["relevance", maps],
    ["relevance on the picture", canvas(shape, "relevance on the picture", (i) => overlaid(pixel(i), heat[i] / most, look))],
  ];
  shown.append(make("div", { className: "panels" }, ...panels.map(([said, drawn]) => make("figure", {}, make("figcaption", {}, said), drawn))));
  shown.append(heat.some(Boolean) ? key(heat, most, look) : nothing());
  const rows = () => Array.from({ length: height }, (_, row) => [...heat.subarray(row * width, (row + 1) * width)]);
  return [["heatmap.png", () => png(maps)], ["overlay.png", () => png(panels[2][1])], ["relevance.csv", () => csv(rows())]];
}

const png = (drawn) => new Promise((done) => drawn.toBlob(done, "image/png"));
