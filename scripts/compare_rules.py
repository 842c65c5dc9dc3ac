"""All methods side by side on the same inputs, and their properties in a table: Figures 2 and 3 of the deep Taylor paper's
supplement, of every preset there is.

The network of Figure 2 is the two-digit one, in place of CaffeNet and GoogleNet stand SqueezeNet and MobileNetV2 with their
photographs, where ONNXDTD_ASSETS points to them. A picture each: a row a preset, a column an input.

    scripts/compare_rules.py --out FOLDER               the pictures; some minutes
    scripts/compare_rules.py --write                    and the table
    scripts/compare_rules.py --models two_digits --presets dtd lrp-epsilon
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import splice
import study
from matplotlib.figure import Figure

import onnxdtd
from onnxdtd.data.arrangement import arranged
from onnxdtd.data.labelled import Item
from onnxdtd.data.maps import pixels
from onnxdtd.data.scale import COLOURS, colour_limit, heat
from onnxdtd.errors import OnnxdtdError
from onnxdtd.labels import Index
from onnxdtd.method.toml import Library
from onnxdtd.study.evaluate import evaluate
from onnxdtd.study.metrics import positivity
from onnxdtd.study.subject import Subject

SHOWN = {"two_digits": 8}  # inputs in the picture
FITTED = {"two_digits": "dtd-minmax"}  # what relevance models are fitted for, where there are samples enough
COLUMNS = {
    "positive": "positive",
    "conserved": "Σ R / logit",
    "distractor": "on the distractor",
    "black": "on black",
    "against": "negative on black",
    "aopc": "AOPC",
    "abpc": "ABPC",
}


@dataclass
class Compared:
    """A model under every preset: the inputs, their heatmaps and properties by preset, and why some presets are left out."""

    name: str
    items: list[Item]
    inputs: list[np.ndarray]
    heatmaps: dict[str, list[np.ndarray]] = field(default_factory=dict)
    numbers: dict[str, dict[str, float | None]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def properties(item: Item, relevance: np.ndarray, logit: float) -> dict[str, float]:
    """Of one heatmap: the share that is positive, Σ R / logit; of a pair of digits the shares that lie on the ink of the one
    that does not count, on pixels without ink, and of these what is negative. Shares are of all relevance by size.
    """
    size, found = (
        float(np.abs(relevance).sum()) or 1.0,
        {"positive": positivity(relevance), "conserved": float(relevance.sum()) / logit},
    )
    mask = item.mask()
    if mask is not None:
        picture, ink = heat(relevance, item.channel), heat(item.x, item.channel) > 0
        share = lambda values, where: float(np.abs(values)[where].sum()) / size
        found |= {"distractor": share(picture, ink & ~mask), "black": share(picture, ~ink)}
        found["against"] = share(np.minimum(picture, 0), ~ink)
    return {name: value for name, value in found.items() if value is not None}


def compare(name: str, case: study.Case, presets: Sequence[str], samples: int) -> Compared:
    """Explain the predicted class of every input under every preset that the model can have, and measure."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "data").mkdir()
        data = case.data(folder / "data")
        if FITTED.get(name) in presets:
            models = folder / "models.npz"
            onnxdtd.fit(case.model, data, replace(case.request, preset=FITTED[name]), out=models)
            case = replace(case, request=replace(case.request, fitted=str(models)))
        subject = Subject(case.model, replace(case.request, preset=presets[0]), data)
        items, _ = subject.items(samples)
        shape = items[0].x.shape
        drawn = arranged(shape, subject.form)
        found = Compared(name, items, [pixels(drawn.of(subject.form.shown(item.x))) for item in items])
        feeds = [subject.layout.feed(item.x) for item in items]
        for preset in presets:
            try:
                explainer = onnxdtd.Explainer(
                    onnxdtd.compile(case.model, **{**case.request.as_data(), "preset": preset, "target": "input"})
                )
            except OnnxdtdError as error:
                found.refused[preset] = str(error).splitlines()[0]
                continue
            rows, heatmaps = [], []
            for item, feed in zip(items, feeds, strict=True):
                best = Index(explainer(feed).outputs[explainer.metadata["output"]].argmax())
                explanation = explainer(feed, best)
                (relevance,) = explanation.relevance.values()
                assert explanation.logit is not None
                heatmaps.append(subject.layout.take(relevance)[0])
                rows.append(properties(item, heatmaps[-1].astype(np.float64), float(explanation.logit[0])))
            if not all(np.isfinite(r).all() for r in heatmaps):
                found.refused[preset] = "heatmaps are not finite: its denominators nearly vanish in layer after layer"
                continue
            found.heatmaps[preset] = [drawn.of(r).sum(axis=-1) for r in heatmaps]
            found.numbers[preset] = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        settings = replace(case.settings, samples=samples)
        (measured,) = evaluate(
            [case.model], data, case.request, presets=list(found.numbers), settings=settings, journal=folder / "j"
        )["models"]
        for row in measured["presets"]:
            found.numbers[row["preset"]] |= {key: row["metrics"][key]["mean"] for key in ("aopc", "abpc")}
        found.numbers["random order"] = {"aopc": measured["random"]["aopc"]["mean"], "abpc": 0.0}
    return found


def draw(found: Compared, path: Path, count: int) -> None:
    """A row a preset, a column an input; each heatmap on its own scale, red for the class and blue against it."""
    columns = min(count, len(found.inputs))
    height, width = found.inputs[0].shape[:2]
    side = 1.1
    wide = side * max(1.0, width / height)
    figure = Figure(figsize=(2.2 + wide * columns, side * (1 + len(found.heatmaps))), layout="constrained")
    grid = figure.subplots(1 + len(found.heatmaps), columns, squeeze=False)
    for axes, image in zip(grid[0], found.inputs, strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1)
    for line, (preset, heatmaps) in zip(grid[1:], found.heatmaps.items(), strict=True):
        for axes, values in zip(line, heatmaps, strict=False):
            limit = colour_limit(values)
            axes.imshow(values, cmap=COLOURS, vmin=-limit, vmax=limit, interpolation_stage="data")  # means of pixels
        line[0].set_ylabel(preset, rotation=0, ha="right", va="center", fontsize=9)
    for axes in grid.ravel():
        axes.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=80, format="png", metadata={"Software": None})


def table(found: Compared) -> str:
    """A row a preset, and what is left out."""
    used = [key for key in COLUMNS if any(row.get(key) is not None for row in found.numbers.values())]
    number = lambda value: "-" if value is None else f"{value:.3g}"
    rows = [[f"`{preset}`", *(number(row.get(key)) for key in used)] for preset, row in found.numbers.items()]
    left = [f"- `{preset}`: {reason}" for preset, reason in found.refused.items()]
    lines = [
        f"### {found.name}, {len(found.items)} inputs",
        "",
        splice.table(["preset", *(COLUMNS[key] for key in used)], rows),
    ]
    return "\n".join([*lines, *(["", "Not on this network:", "", *left] if left else [])])


def main() -> None:
    """Pictures and tables."""
    known, presets = study.cases(), list(Library().presets)
    parser = argparse.ArgumentParser(description="All methods side by side.")
    parser.add_argument("--models", nargs="+", choices=list(known), metavar="NAME", default=list(known), help="only these")
    parser.add_argument("--presets", nargs="+", metavar="NAME", default=presets, help="only these, files of your own too")
    parser.add_argument("--samples", type=int, metavar="N", default=50, help="the first N inputs (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", default=Path("compared"), help="for the pictures (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    splice.option(parser, "compare_rules")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    chosen.out.mkdir(parents=True, exist_ok=True)
    texts: list[str] = []
    numbers: dict[str, Any] = {}
    for name in chosen.models:
        found = compare(name, known[name], chosen.presets, chosen.samples)
        draw(found, chosen.out / f"{name}.png", SHOWN.get(name, 6))
        texts.append(table(found))
        numbers[name] = {"presets": found.numbers, "refused": found.refused}
        print(f"{texts[-1]}\n\nthe picture is {chosen.out / name}.png\n", flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(numbers, indent=1), encoding="utf-8")
    if chosen.write:
        splice.write(chosen.write, "compare_rules", "\n\n".join(texts))


if __name__ == "__main__":
    main()
