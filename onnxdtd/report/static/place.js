// Pictures at the size that a model takes, as onnxdtd.data.preprocessing and Pillow make them.

import { Failure } from "./files.js";

/** Python's round: halves go to even numbers. */
const rounded = (x) => (x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

/** Where a picture [height, width] goes: first made of `size`, then cut to `shape` from `top` and `left` on. */
export function place(picture, { sides, resize, crop, squashed, margin, most }) {
  if (resize === null && crop === null && !squashed && sides.every((side, i) => side === null || side === picture[i])) {
    return { size: picture, top: 0, left: 0, shape: picture };
  }
  const cut = squashed ? [null, null] : crop ?? sides;
  const whole = cut.includes(null) ? null : cut;
  const size = resized(picture, sides, resize, squashed, whole, margin);
  const shape = whole ?? size;
  if (size[0] * size[1] > most) throw new Failure(`the picture would be resized to ${by(size)} pixels, more than there is room for`);
  if (shape[0] > size[0] || shape[1] > size[1]) throw new Failure(`the picture is too small: ${by(shape)} pixels are cut out of ${by(size)}`);
  if (sides.some((side, i) => side !== null && side !== shape[i])) throw new Failure(`the model takes pictures of another size than ${by(shape)}`);
  const [top, left] = [0, 1].map((i) => rounded((size[i] - shape[i]) / 2));
  return { size, top, left, shape };
}

function resized(picture, sides, resize, squashed, cut, margin) {
  if (Array.isArray(resize)) return resize;
  if (squashed && !sides.includes(null)) return sides;
  const wide = picture[0] <= picture[1];
  if (resize !== null) return scaled(picture, resize, wide ? 0 : 1);
  if (cut) { // to cover that, with torchvision's margin
    const around = cut.map((side) => Math.floor((side * margin[0]) / margin[1]));
    const axis = picture[1] * around[0] >= picture[0] * around[1] ? 0 : 1;
    return scaled(picture, around[axis], axis);
  }
  const fixed = sides.findIndex((side) => side !== null);
  return fixed < 0 ? picture : scaled(picture, sides[fixed], fixed);
}

function scaled(picture, side, axis) {
  const other = Math.max(1, Math.trunc((side * picture[1 - axis]) / picture[axis]));
  return axis === 0 ? [side, other] : [other, side];
}

const by = (size) => `${size[1]}x${size[0]}`;

const BITS = 22; // of a weight behind the point

/**
 * Bytes [height, width, channels] resized to [height, width] as Pillow's BILINEAR does it, with weights of whole numbers, rounded
 * to bytes between rows and columns (its src/libImaging/Resample.c): the same to the bit where the picture keeps its proportions
 * and is not more than twice as high as wide. Else Pillow 13 may begin with columns, and some bytes differ by 1.
 */
export function resample(bytes, [height, width], channels, [high, wide]) {
  const across = wide === width ? bytes : pass(bytes, height, width, wide, channels, width * channels, channels);
  return high === height ? across : pass(across, wide, height, high, channels, channels, wide * channels);
}

/** Along an axis of `size` entries, `step` apart, in each of `lines`, which are `apart`. */
function pass(bytes, lines, size, wanted, channels, apart, step) {
  const found = new Uint8ClampedArray(lines * wanted * channels);
  // As rows are made longer or shorter only those behind move; of columns the entries of a row stay together.
  const [outApart, outStep] = step === channels ? [wanted * channels, channels] : [apart, step];
  for (let i = 0; i < wanted; i++) {
    const { first, weights } = weighed(size, wanted, i);
    for (let line = 0; line < lines; line++) {
      for (let c = 0; c < channels; c++) {
        let sum = 1 << (BITS - 1);
        for (let k = 0, at = line * apart + first * step + c; k < weights.length; k++, at += step) sum += bytes[at] * weights[k];
        found[line * outApart + i * outStep + c] = sum >> BITS;
      }
    }
  }
  return found;
}

/** The first entry that counts for the i-th, and the weight of each from there on: a triangle, wider where there are fewer. */
function weighed(size, wanted, i) {
  const scale = size / wanted, support = Math.max(scale, 1), narrower = 1 / support, centre = (i + 0.5) * scale;
  const first = Math.max(0, Math.trunc(centre - support + 0.5));
  const last = Math.min(size, Math.trunc(centre + support + 0.5));
  const shares = Array.from({ length: last - first }, (_, k) => Math.max(0, 1 - Math.abs((k + first - centre + 0.5) * narrower)));
  const sum = shares.reduce((all, share) => all + share, 0);
  return { first, weights: shares.map((share) => Math.trunc(0.5 + (share / sum) * (1 << BITS))) };
}

/** What is cut out of bytes [.., width, channels]. */
export function cropped(bytes, width, channels, { top, left, shape: [high, wide] }) {
  const found = new Uint8ClampedArray(high * wide * channels);
  for (let row = 0; row < high; row++) {
    const start = ((top + row) * width + left) * channels;
    found.set(bytes.subarray(start, start + wide * channels), row * wide * channels);
  }
  return found;
}

/** Of red, green, blue and opacity what a mode of Pillow's has: one channel is its grey. */
export function converted(rgba, channels) {
  if (channels === 4) return rgba;
  const found = new Uint8ClampedArray((rgba.length / 4) * channels);
  for (let i = 0, j = 0; i < rgba.length; i += 4, j += channels) {
    if (channels === 3) for (let c = 0; c < 3; c++) found[j + c] = rgba[i + c];
    else found[j] = (rgba[i] * 19595 + rgba[i + 1] * 38470 + rgba[i + 2] * 7471 + 0x8000) >> 16; // as libImaging has it
  }
  return found;
}
