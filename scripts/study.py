"""The measurements of the papers on a network of ours and two real ones: which explanations are good, and what they depend on.

Evaluates and audits the two-digit network (with boxes around the digit that counts) and, where ONNXDTD_ASSETS points to them,
SqueezeNet and MobileNetV2 on photographs.

    scripts/study.py --write                             ten minutes or so
    scripts/study.py --models two_digits
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import splice
from rich.console import Console
from rich.progress import Progress

from onnxdtd.request import Request
from onnxdtd.study import metrics
from onnxdtd.study.audit.audit import audit
from onnxdtd.study.audit.converge import arrival
from onnxdtd.study.audit.randomise import upper
from onnxdtd.study.evaluate import Settings, evaluate
from onnxdtd.study.measures import ARROWS, LOWEST

ROOT = Path(__file__).resolve().parent.parent
ASSETS = Path(os.environ.get("ONNXDTD_ASSETS", ""))
CAFFE = (103.939, 116.779, 123.68)
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
TARGETS = 4  # classes of the two-digit network; the digits from there on are distractors


@dataclass(frozen=True)
class Case:
    """A model with its data, how to feed it, and how it is perturbed."""

    model: Path
    data: Callable[[Path], Path]
    request: Request
    settings: Settings
    samples: int
    neurons: int


def pairs(folder: Path) -> Path:
    """Test pairs of the two-digit network with a box around the half that holds the digit 0 ... 3."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    known = {image.astype(np.uint8).tobytes(): int(digit) for image, digit in zip(digits.images, digits.target, strict=True)}
    stored = np.load(ROOT / "models" / "two_digits_test.npz")
    image, label = stored["image"], stored["label"]
    left = np.array([known[np.ascontiguousarray(pair[0, :, :8]).tobytes()] < TARGETS for pair in image])
    box = np.array([[0, 0, 8, 8] if first else [8, 0, 16, 8] for first in left])
    np.savez(folder / "pairs.npz", image=image / np.float32(16), label=label, box=box)
    return folder / "pairs.npz"


def photos(folder: Path) -> Path:
    """The photographs, whose names end in their class."""
    found = sorted((ASSETS / "images").glob("imagenet_*.jpg"))
    lines = ["file,label", *(f"{path.name},{int(path.stem.rpartition('_')[2])}" for path in found)]
    for path in found:
        shutil.copy(path, folder)
    (folder / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder


def cases() -> dict[str, Case]:
    """All that there are here."""
    found = {
        "two_digits": Case(ROOT / "models" / "two_digits.onnx", pairs, Request(low=0.0, high=1.0), Settings(steps=16), 50, 64)
    }
    ends = [[float(end - m) for m in CAFFE] for end in (0, 255)]
    low, high = (((end - MEAN) / STD).tolist() for end in (0, 1))
    settings = Settings(steps=14, fill="mean")
    for name, request in (
        ("imagenet_squeezenet11_fp32", Request(low=ends[0], high=ends[1], preprocessing={"colours": "bgr"})),
        ("imagenet_mobilenetv2_fp32", Request(low=low, high=high)),
    ):
        path = ASSETS / "models" / f"{name}.onnx"
        if path.exists():
            found[name] = Case(path, photos, request, settings, 10, 4)
    return found


def studied(case: Case, workers: int, progress: Progress) -> dict[str, Any]:
    """The evaluation and the audit of a case."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "data").mkdir()
        data = case.data(folder / "data")
        task = progress.add_task(case.model.stem)
        tick = lambda done, total: progress.update(task, completed=done, total=total)
        how: dict[str, Any] = {"workers": workers, "tick": tick}
        evaluation = evaluate([case.model], data, case.request, settings=case.settings, journal=folder / "evaluation", **how)
        how |= {"samples": case.samples, "neurons": case.neurons}
        audited = audit(case.model, data, case.request, journal=folder / "audit", **how)
        return {"evaluation": evaluation, "audit": audited}


# ---------------------------------------------------------------------------------------------------------- the tables

METRICS = ("aopc", "abpc", "gini", "outside_inside", "missing")
LOW = ARROWS[LOWEST]
COLUMNS = (*(metrics.METRICS[name].head for name in METRICS), f"other classes{LOW}", f"new upper layers{LOW}")
THEORY = ("on the hinge", "in the domain", "in the linear region", "all three", "convergence (chance)", "with gradient × input")


def quality(name: str, study: dict[str, Any]) -> list[list[str]]:
    """How good the explanations are: a row for each preset."""
    (model,) = study["evaluation"]["models"]
    rows = []
    for measured, audited in zip(model["presets"], study["audit"]["presets"], strict=True):
        cells = [_mean(measured["metrics"].get(metric)) for metric in METRICS]
        row = upper(audited["cascading"]) or {}
        cells += [_number(audited["class_sensitivity"].get("cosine")), _number(row.get("ssim") or row.get("spearman"))]
        rows.append([name, f"`{measured['preset']}`", *cells])
    return [*rows, [name, "random order", _mean(model["random"]["aopc"]), "0", *["-"] * (len(COLUMNS) - 2)]]


def theory(name: str, study: dict[str, Any]) -> list[list[str]]:
    """Whether the theory holds: a row for each preset."""
    rows: list[list[str]] = []
    presets = study["audit"]["presets"]
    most = max((preset["roots"] for preset in presets), key=len)
    for preset in presets:
        roots = [row for row in preset["roots"] if row["layer"] != most[-1]["layer"]]  # above which there is no region to leave
        roots = roots if 2 * len(roots) > len(most) else []  # αβ has root points in sums and averages only
        count = sum(row["neurons"] for row in roots)
        share = lambda check, roots=roots, count=count: sum(row[check] * row["neurons"] for row in roots) / count
        cells = [f"{share(check):.1%}" if count else "-" for check in ("hinge", "domain", "region", "passes")]
        arrived = next((row for start in preset["convergence"][:1] if (row := arrival(start))), None)
        cells += [f"{arrived['cosine']:.4f} ({arrived['random']:.2f})" if arrived else "-"]
        cells += [_number((preset["similarity"].get("gradient-x-input") or {}).get("cosine"))]
        rows.append([name, f"`{preset['preset']}`", *cells])
    return rows


def tables(studies: dict[str, dict[str, Any]]) -> str:
    """Both, in Markdown."""
    named = studies.items()
    good = splice.table(["model", "preset", *COLUMNS], [row for name, study in named for row in quality(name, study)])
    right = splice.table(["model", "preset", *THEORY], [row for name, study in named for row in theory(name, study)])
    return f"{good}\n\n{right}"


def _mean(value: dict[str, Any] | None) -> str:
    return "-" if value is None else f"{value['mean']:.3g} ± {value['error']:.2g}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    known = cases()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(known), default=list(known))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    splice.option(parser, "study")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    with Progress(console=Console(stderr=True), transient=True) as progress:
        studies = {name: studied(known[name], given.workers, progress) for name in given.models}
    text = tables(studies)
    print(text)
    if given.json:
        given.json.write_text(json.dumps(studies, indent=1), encoding="utf-8")
    if given.write:
        splice.write(given.write, "study", text, ("scikit-image", "scipy"))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
