"""Where the explained logit goes, in every model there is: the ledger of real classifiers on real inputs, under three presets.

For each model and preset: which shares of the logit reached the input, were absorbed by biases and by the stabiliser, lay on
neurons without a denominator and on constants; and what none of these accounts for, of the logit, in the worst sample. The
sum is taken over the relevance that the model puts out, not the one in the ledger, so that the ledger proves something.

Models: those in models/, those in the folder ONNXDTD_ASSETS, and with --zoo every network of scripts/zoo.py (random
weights, random inputs), if PyTorch and torchvision are there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import onnxdtd
from onnxdtd.contract import KEPT
from onnxdtd.graph import shapes

ROOT = Path(__file__).resolve().parents[2]
KEEPING = [name for name in KEPT if name != "masked"]  # nothing is masked here
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]
import splice  # noqa: E402

PRESETS = ("dtd", "lrp-epsilon", "lrp-alpha2beta1")
LIMIT = 1e-4  # of the logit
HALF = 1e-3  # where the relevance itself comes in half precision
COUNT = 10  # samples a model

Bounds = tuple[Any, Any]


@dataclass(frozen=True)
class Model:
    """A classifier with inputs [n, ...] and their bounds."""

    name: str
    path: Path
    x: np.ndarray
    bounds: Bounds


@dataclass(frozen=True)
class Row:
    """Shares of the logit, all samples together; ``unaccounted`` of the worst sample."""

    model: str
    preset: str
    relevance: float
    bias: float
    stabiliser: float
    dead: float
    constants: float
    unaccounted: float
    limit: float


def bundled() -> Iterator[Model]:
    """The models of this repository on their samples."""
    for path in sorted((ROOT / "models").glob("*.onnx")):
        samples = ROOT / "models" / ("two_digits_samples.npz" if path.stem == "two_digits" else "digits_samples.npz")
        with np.load(samples) as arrays:
            x = arrays[next(name for name in arrays if arrays[name].ndim > 1)].astype(np.float32)
        value = shapes.real_inputs(onnx.load(path))[0].type.tensor_type
        shape = [d.dim_value for d in value.shape.dim][1:]
        yield Model(path.stem, path, x.reshape(len(x), *shape)[:COUNT], (0.0, 1.0))


def real() -> Iterator[Model]:
    """The classifiers of many exporters."""
    import assets

    if not assets.MISSING:
        for asset in assets.ASSETS:
            yield Model(asset.name, asset.path, asset.inputs()[:COUNT], asset.bounds)


def zoo(folder: Path) -> Iterator[Model]:
    """Every network of torchvision that scripts/zoo.py knows, and the light graphs of the onnx package."""
    import zoo

    for network in zoo.ZOO:
        path = folder / f"{network.name}.onnx"
        x = zoo.inputs(network.size, 2, seed=2)
        zoo.export_old(zoo.built(network), x, path)
        yield Model(network.name, path, x, (-zoo.BOUND, zoo.BOUND))
        path.unlink()
    for light in sorted(zoo.LIGHT.glob("*.onnx")):
        path = folder / light.name
        proto = onnx.load(light)
        onnx.save(zoo.with_random_weights(proto), path)
        yield Model(light.stem, path, zoo.file_input(proto), (-zoo.BOUND, zoo.BOUND))
        path.unlink()


def balance(model: Model, preset: str) -> Row:
    """Explain every sample on its own; some models take no more than one."""
    low, high = model.bounds
    explainer = onnxdtd.Explainer(onnxdtd.compile(model.path, preset, low=low, high=high, ledger=True))
    sums: dict[str, float] = dict.fromkeys(("logit", *KEEPING, "relevance"), 0.0)
    worst = 0.0
    for i in range(len(model.x)):
        found = explainer(model.x[i : i + 1])
        assert found.ledger is not None
        totals = {name: float(values[0]) for name, values in found.ledger.totals().items()}
        totals["relevance"] = sum(float(r.sum(dtype=np.float64)) for r in found.relevance.values())
        accounted = sum(totals[name] for name in sums if name != "logit")
        worst = max(worst, abs(totals["logit"] - accounted) / abs(totals["logit"]))
        sums = {name: sums[name] + totals[name] for name in sums}
    shares = {name: value / sums["logit"] for name, value in sums.items() if name != "logit"}
    return Row(model.name, preset, **shares, unaccounted=worst, limit=HALF if model.x.dtype == np.float16 else LIMIT)


def table(rows: Sequence[Row]) -> str:
    """In Markdown, shares in per cent of the logit."""
    names = ("relevance", *KEEPING)
    lines = [[r.model, r.preset, *(percent(getattr(r, n)) for n in names), f"{r.unaccounted:.1e}"] for r in rows]
    return splice.table(["model", "preset", *names, "unaccounted"], lines)


def percent(share: float) -> str:
    """A share of the logit; nothing where it is nothing."""
    return "" if abs(share) < 5e-6 else f"{share:.2%}"


def main() -> int:
    """All models, a table, and exit status 1 if some relevance is unaccounted for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", action="store_true", help="also torchvision's networks and the light graphs of onnx")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    splice.option(parser, "balance")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        sources: list[Callable[[], Iterator[Model]]] = [bundled, real]
        if given.zoo:
            sources.append(lambda: zoo(Path(temporary)))
        for source in sources:
            for model in source():
                for preset in PRESETS:
                    rows.append(balance(model, preset))
    wrong = [row for row in rows if not row.unaccounted <= row.limit]
    text = f"{len(rows) - len(wrong)} of {len(rows)} accounted for, up to {LIMIT:g} of the logit.\n\n{table(rows)}"
    print(text)
    for row in wrong:
        print(f"{row.model}, {row.preset}: {row.unaccounted:.1e} of the logit is unaccounted for")
    if given.write:
        splice.write(given.write, "balance", text, ("torch", "torchvision"))
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
