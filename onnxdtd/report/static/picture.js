// Pictures: dropped, chosen, taken or pasted; their heatmap, and that on the picture.

import { canvas, colour, key, limit, nothing, overlaid } from "./draw.js";
import { Failure } from "./files.js";
import { csv, make } from "./html.js";
import { converted, cropped, place, resample } from "./place.js";

/** Fills `root` with ways to give a picture; `give` hears of each one, `fail` of what is none. */
export function start(page, files, root, give, fail) {
  const open = async (blob, name) => {
    try {
      await give(await sample(page, blob, name));
    } catch (error) {
      fail(error);
    }
  };
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

async function sample(page, blob, name) {
  const { rgba, size } = await decoded(blob);
  const { picture: asked } = page;
  const placing = place(size, asked);
  const pixels = converted(rgba, asked.channels);
  const whole = resample(pixels, size, asked.channels, placing.size);
  const bytes = cropped(whole, placing.size[1], asked.channels, placing);
  const clear = asked.channels < 4 && rgba.some((value, i) => i % 4 === 3 && value < 255);
  return {
    name: name.replace(/\.\w+$/, ""),
    note: clear ? "The picture has transparent parts; where it is clear, browsers give black, and onnxdtd explain what lies there." : "",
    given: { [page.shown[0]]: numbers(bytes, placing.shape, asked) },
    draw: (outcome, shown) => draw(page, bytes, placing.shape, outcome, shown),
  };
}

/** Its pixels as they are in the file, upright; colour profiles are not looked at, as Pillow does not. */
async function decoded(blob) {
  let image;
  try {
    image = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image" });
  } catch {
    throw new Failure("this file is no picture that this browser can read");
  }
  const { width, height } = image;
  const context = make("canvas", { width, height }).getContext("2d", { willReadFrequently: true });
  try {
    context.drawImage(image, 0, 0);
    return { rgba: context.getImageData(0, 0, width, height).data, size: [height, width] };
  } catch {
    throw new Failure(`a picture of ${width}x${height} pixels is too large for this browser`);
  } finally {
    image.close();
  }
}

/** Bytes [height, width, channels] as the model takes them: a byte b of a channel becomes low + b / 255 (high - low). */
export function numbers(bytes, [height, width], { channels, axes, low, high, bgr, sizes }) {
  const values = new Array(height * width * channels);
  const steps = strides([height, width], channels, axes);
  for (let row = 0, i = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      for (let c = 0; c < channels; c++, i++) {
        const to = bgr ? channels - 1 - c : c;
        const [from, end] = [low[to % low.length], high[to % high.length]];
        values[row * steps.row + column * steps.column + to * steps.channel] = from + (bytes[i] / 255) * (end - from);
      }
    }
  }
  const open = { [axes.row]: height, [axes.column]: width };
  return { values, sizes: sizes.map((size, axis) => size ?? open[axis] ?? channels) };
}

/** How far apart neighbours along each axis are, in numbers laid out as the model takes them. */
function strides([height, width], channels, { row, column, channel }) {
  const axes = [[row, "row", height], [column, "column", width], ...(channel === null ? [] : [[channel, "channel", channels]])];
  const found = { channel: 0 };
  let step = 1;
  for (const [, name, size] of axes.sort((a, b) => b[0] - a[0])) {
    found[name] = step;
    step *= size;
  }
  return found;
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
  const pixel = (i) => (channels < 3 ? new Array(3).fill(bytes[i * channels]) : bytes.subarray(i * channels, i * channels + 3));
  const maps = canvas(shape, "heatmap of relevance", (i) => colour(heat[i] / most, look));
  const panels = [
    ["what the model sees", canvas(shape, "the picture as the model sees it", pixel)],
    ["relevance", maps],
    ["relevance on the picture", canvas(shape, "relevance on the picture", (i) => overlaid(pixel(i), heat[i] / most, look))],
  ];
  shown.append(make("div", { className: "panels" }, ...panels.map(([said, drawn]) => make("figure", {}, make("figcaption", {}, said), drawn))));
  shown.append(heat.some(Boolean) ? key(heat, most, look) : nothing());
  const rows = Array.from({ length: height }, (_, row) => [...heat.subarray(row * width, (row + 1) * width)]);
  return [["heatmap.png", () => png(maps)], ["overlay.png", () => png(panels[2][1])], ["relevance.csv", () => csv(rows)]];
}

const png = (drawn) => new Promise((done) => drawn.toBlob(done, "image/png"));
