"""What a page that explains in the browser costs its visitor, and how far its numbers are from Python's.

Writes the pages of a photograph's classifier and of the bundled ones, serves them on this machine, and visits them in headless
Chromium: bytes, time until something can be given, time of an explanation beside Python's, both with one thread, for how long
the page answers nothing meanwhile; and draws the picture of the first one. Needs Node.js with npm, Chromium, and the folder of
real classifiers in ONNXDTD_ASSETS.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import skimage
import splice
from PIL import Image

import onnxdtd
from onnxdtd.data.tables import Roles
from onnxdtd.report.site import write
from onnxdtd.runtime.explainer import Explainer
from onnxdtd.study.feeding import Feeding

sys.path.insert(0, str(splice.ROOT / "tests"))
import npm
import visiting

PHOTO = Path(skimage.__file__).parent / "data" / "coffee.png"  # Rachel Michetti, CC0
ASSETS = Path(os.environ.get("ONNXDTD_ASSETS", "assets"))
MODELS = splice.ROOT / "models"
VISITS, TIMES = 3, 5  # and runs in each, of which the fastest counts: others use the machine as well
HEADS = ("page", "MB", "gzipped", "ready, s", "explanation, ms", "in Python, ms", "page stands still, ms", "difference")
WATCH = """globalThis.longest = 0, new PerformanceObserver((list) => {
  for (const { duration } of list.getEntries()) longest = Math.max(longest, duration);
}).observe({ type: "longtask" })"""
LONGEST = "new Promise((done) => setTimeout(() => done(longest), 100))"
SHORT = 50  # milliseconds: browsers tell of longer tasks alone
WIDTH, SEEN = 820, 1000  # pixels of the picture, of which what is below is left out


@dataclass(frozen=True)
class Case:
    """A model, how it is compiled, and one file with a sample to try."""

    model: Path
    sample: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Path | None = None
    roles: Roles = field(default_factory=Roles)


def cases(folder: Path) -> list[Case]:
    """A photograph, a digit, a text and a row."""
    with np.load(ASSETS / "data" / "imagenet_labels.npz") as arrays:
        names = tuple(arrays["names"].tolist())
    caffe = {"range": [0, 255], "mean": [103.939, 116.779, 123.68], "colours": "bgr"}
    digit, text = folder / "digit.png", folder / "text.txt"
    with np.load(MODELS / "digits_samples.npz") as arrays:
        Image.fromarray((arrays["image"][0, 0] * 255).astype(np.uint8)).save(digit)
    text.write_text("a small brown bird that sings at night and builds its nest in hedges\n", encoding="utf-8")
    return [
        Case(ASSETS / "models" / "imagenet_squeezenet11_fp32.onnx", PHOTO, {"preprocessing": caffe, "labels": names}),
        Case(MODELS / "digits_cnn.onnx", digit, {"low": 0.0, "high": 1.0}),
        Case(MODELS / "definitions.onnx", text, tokenizer=MODELS / "definitions_tokenizer.json"),
        Case(MODELS / "tumours.onnx", MODELS / "tumours_samples.csv", roles=Roles("diagnosis")),
    ]


def measured(case: Case, folder: Path, modules: Path, picture: Path | None) -> list[str]:
    """A row of the table; ``picture`` is where that of the page goes."""
    compiled = folder / case.model.name
    onnxdtd.save(onnxdtd.compile(case.model, target="input", **case.options), compiled, case.model)
    site = folder / case.model.stem
    runtime = modules / "onnxruntime-web" / "dist"
    size = write(compiled, site, runtime, case.tokenizer, [case.sample], case.roles)
    packed = sum(len(gzip.compress(path.read_bytes())) for path in site.rglob("*") if path.is_file())
    row = case.sample.suffix == ".csv"
    act = ["select", "#example", "1"] if row else ["click", ".examples button"]
    again = [["select", "#example", "0"] if row else act, ["value", "#seconds"]] * TIMES
    shot = [] if picture is None else [["shot", str(picture)]]
    watched = [["evaluate", WATCH], *again, ["evaluate", LONGEST]]
    steps = [["open", f"{site.name}/"], act, *watched, ["value", "#logit"], ["save", "relevance.csv"], *shot]
    visits = [_visited(folder, steps, modules) for _ in range(VISITS)]
    ready = min(float(found[0]) for found in visits) / 1e3
    seconds = min(float(value) for found in visits for value in found[4 : 4 + 2 * TIMES : 2])
    longest = min(float(found[3 + 2 * TIMES]) for found in visits)
    relevance, logit, python = explained(compiled, case)
    told = visits[0][4 + 2 * TIMES :]
    cells = list(csv.reader(io.StringIO(told[1])))
    own = np.array(cells if case.tokenizer is None and not row else [[line[-1]] for line in cells[1:]], float)
    off = max(abs(float(told[0]) / logit - 1), float(np.abs(own.ravel() - relevance).max() / np.abs(relevance).max()))
    times = [f"{value * 1e3:.3g}" for value in (seconds, python)]
    still = f"{longest:.0f}" if longest else f"< {SHORT}"
    return [case.model.stem, f"{size / 1e6:.1f}", f"{packed / 1e6:.1f}", f"{ready:.1f}", *times, still, f"{off:.0e}"]


def _visited(folder: Path, steps: Sequence[Any], modules: Path) -> list[Any]:
    found = visiting.visited(folder, steps, modules, npm.chromium(), width=WIDTH)
    if found["failed"] or found["complaints"]:
        raise SystemExit(f"{found['failed']} {found['complaints']}")
    results: list[Any] = found["results"]
    return results


def explained(compiled: Path, case: Case) -> tuple[np.ndarray, float, float]:
    """The relevance as the page saves it, the logit, and the seconds, in Python with one thread."""
    explainer = Explainer(compiled, threads=1)
    feeding = Feeding(explainer, case.tokenizer, case.roles)
    sample = next(iter(feeding.read(case.sample)))
    feed = feeding.feeds({**feeding.given(sample.x), **sample.others})
    seconds = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        found = explainer(feed)
        seconds.append(time.perf_counter() - begun)
    relevance, channel = feeding.shown(found.relevance), feeding.form.channel
    summed = relevance if channel is None or case.sample.suffix != ".png" else relevance.sum(channel)
    assert found.logit is not None
    return summed.ravel(), float(found.logit[0]), min(seconds)


def main() -> None:
    """Measure all, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    splice.option(parser, "pages")
    asked = parser.parse_args()
    modules = npm.node_modules()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        picture = folder / "page.png"
        rows = []
        for i, case in enumerate(cases(folder)):
            rows.append(measured(case, folder, modules, None if i else picture))
            print(*rows[-1], sep="  ", flush=True)
        if asked.write is not None:
            splice.write(asked.write, "pages", splice.table(HEADS, rows))
            shown = Image.open(picture).convert("RGB")
            shown = shown.crop((0, 0, shown.width, min(SEEN, shown.height)))
            shown.quantize(256, kmeans=4).save(asked.write.with_name("page.png"), optimize=True)


if __name__ == "__main__":
    main()
