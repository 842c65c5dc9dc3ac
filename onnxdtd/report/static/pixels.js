// From the file of a picture to the numbers that a model takes.

import { Failure } from "./files.js";
import { converted, cropped, place, resample } from "./place.js";

/** A picture in a blob: `bytes` as the model sees it, their `shape`, the numbers `given` to it; is any of it `clear`? */
export async function reduced(blob, asked) {
  const { rgba, size } = await decoded(blob);
  const placing = place(size, asked);
  const whole = resample(converted(rgba, asked.channels), size, asked.channels, placing.size);
  const bytes = cropped(whole, placing.size[1], asked.channels, placing);
  return { bytes, shape: placing.shape, given: numbers(bytes, placing.shape, asked), clear: asked.channels < 4 && isClear(rgba) };
}

/** Its pixels as they are in the file, upright; colour profiles are not looked at, as Pillow does not. */
async function decoded(blob) {
  if (!globalThis.OffscreenCanvas) throw new Failure("this browser cannot read pictures in a worker; try a newer one");
  let image;
  try {
    image = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image" });
  } catch {
    throw new Failure("this file is no picture that this browser can read");
  }
  const { width, height } = image;
  try {
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return { rgba: context.getImageData(0, 0, width, height).data, size: [height, width] };
  } catch {
    throw new Failure(`a picture of ${width}x${height} pixels is too large for this browser`);
  } finally {
    image.close();
  }
}

function isClear(rgba) {
  for (let i = 3; i < rgba.length; i += 4) if (rgba[i] < 255) return true;
  return false;
}

/** Bytes [height, width, channels] as the model takes them: a byte b of a channel becomes low + b / 255 (high - low). */
export function numbers(bytes, [height, width], { channels, axes, low, high, bgr, sizes }) {
  const values = new Float64Array(height * width * channels);
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
export function strides([height, width], channels, { row, column, channel }) {
  const axes = [[row, "row", height], [column, "column", width], ...(channel === null ? [] : [[channel, "channel", channels]])];
  const found = { channel: 0 };
  let step = 1;
  for (const [, name, size] of axes.sort((a, b) => b[0] - a[0])) {
    found[name] = step;
    step *= size;
  }
  return found;
}
