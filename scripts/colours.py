"""Diverging colour scales under eyes that lack one kind of cones: how far apart are for and against, and how evenly light?

Eyes as Machado, Oliveira and Fernandes (2009) have them, differences as CIELAB has them: one can just be seen.

    scripts/colours.py
    scripts/colours.py --write
"""

from __future__ import annotations

import argparse

import matplotlib
import numpy as np
import splice
from matplotlib.colors import Colormap

from onnxdtd.data.scale import COLOURS

SCALES = (COLOURS, "seismic", "bwr", "RdBu_r", "PuOr_r", "coolwarm")
SHARES = np.linspace(0, 1, 41)[1:]  # of the largest relevance
EYES = {
    "all cones": np.eye(3),
    "without long waves": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "without middle waves": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "without short waves": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]])
WHITE = (0.95047, 1, 1.08883)


def seen(colours: np.ndarray, eyes: str) -> np.ndarray:
    """What eyes see of sRGB colours [n, 3], as lightness and two oppositions, [n, 3]."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    x, y, z = (np.clip(linear @ np.asarray(EYES[eyes]).T, 0, 1) @ TO_XYZ.T / WHITE).T
    f = lambda t: np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
    return np.stack([116 * f(y) - 16, 500 * (f(x) - f(y)), 200 * (f(y) - f(z))], axis=-1)


def row(scale: Colormap | str) -> list[str]:
    """For all eyes: how far apart both signs are where a quarter, half and all of the largest relevance lies; how much lighter
    one is than the other at most; and how light zero is, of 100.
    """
    cmap = matplotlib.colormaps[scale] if isinstance(scale, str) else scale
    apart, lighter = [], []
    for eyes in EYES:
        pro, contra = (seen(cmap(0.5 + sign * SHARES / 2)[:, :3], eyes) for sign in (1, -1))
        apart.append(np.linalg.norm(pro - contra, axis=1))
        lighter.append(np.abs(pro[:, 0] - contra[:, 0]).max())
    least = np.min(apart, axis=0)
    zero = seen(np.asarray(cmap(0.5))[None, :3], "all cones")[0, 0]
    numbers = [least[np.isclose(SHARES, share)][0] for share in (0.25, 0.5, 1)]
    return [cmap.name, *(f"{number:.0f}" for number in (*numbers, max(lighter), zero))]


def main() -> None:
    """A table, a row a scale."""
    parser = argparse.ArgumentParser(description="Colour scales under eyes that lack one kind of cones.")
    splice.option(parser, "colours")
    chosen = parser.parse_args()
    heads = ("scale", "apart at 1/4", "at 1/2", "at the ends", "one sign lighter by", "zero is light by")
    text = splice.table(heads, [row(scale) for scale in SCALES])
    print(text)
    if chosen.write:
        splice.write(chosen.write, "colours", text)


if __name__ == "__main__":
    main()
