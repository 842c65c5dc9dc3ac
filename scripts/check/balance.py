"""Where the explained logit goes, in every model there is: the ledger of real classifiers on real inputs, under four presets.

For each model and preset: which shares of the logit reached the input, were absorbed by biases and by the stabiliser, lay on
neurons without a denominator and on constants; and what none of these accounts for, of the logit, in the worst sample. The
sum is taken over the relevance that the model puts out, not the one in the ledger, so that the ledger proves something.

And what the paper promises of deep Taylor decomposition, in the worst sample: how far Σ R / logit is from 1, and what share of
all relevance has not the sign of the logit.

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
KEEPING = [name for name in KEPT if name not in ("masked", "misfit")]  # nothing is masked or fitted here
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]
import splice  # noqa: E402

PRESETS = ("dtd", "dtd-complete", "lrp-epsilon", "lrp-alpha2beta1")
PROMISED = "dtd-complete"  # to conserve and to be positive
LIMIT = 1e-4  # of the logit
HALF = 1e-3  # where the relevance itself comes in half precision
NEGATIVE = 1e-6  # of all relevance
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
    """Shares of the logit, all samples together; ``unaccounted``, ``missing`` and ``opposite`` of the worst sample."""

    model: str
    preset: str
    relevance: float
    bias: float
    stabiliser: float
    dead: float
    constants: float
    unaccounted: float
    missing: float
    opposite: float
    limit: float

    @property
    def holds(self) -> bool:
        """Is relevance conserved, and nowhere of the other sign?"""
        return self.missing <= self.limit and self.opposite <= NEGATIVE


def bundled() -> Iterator[Model]:
    """The models of this repository that see digits, on their samples."""
    for path in sorted((ROOT / "models").glob("*digits*.onnx")):
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
    worst = missing = opposite = 0.0
    for i in range(len(model.x)):
        found = explainer(model.x[i : i + 1])
        assert found.ledger is not None
        totals = {name: float(values[0]) for name, values in found.ledger.totals().items()}
        given = np.concatenate([r.ravel().astype(np.float64) for r in found.relevance.values()])
        totals["relevance"] = float(given.sum())
        missing = max(missing, abs(1 - totals["relevance"] / totals["logit"]))
        opposite = max(opposite, float(np.abs(given[given * totals["logit"] < 0]).sum() / (np.abs(given).sum() or 1.0)))
        accounted = sum(totals[name] for name in sums if name != "logit")
        worst = max(worst, abs(totals["logit"] - accounted) / abs(totals["logit"]))
        sums = {name: sums[name] + totals[name] for name in sums}
    shares = {name: value / sums["logit"] for name, value in sums.items() if name != "logit"}
    limit = HALF if model.x.dtype == np.float16 else LIMIT
    return Row(model.name, preset, **shares, unaccounted=worst, missing=missing, opposite=opposite, limit=limit)


def table(rows: Sequence[Row]) -> str:
    """In Markdown, shares in per cent of the logit."""
    names = ("relevance", *KEEPING)
    worst = ("unaccounted", "missing", "opposite")
    cells = lambda r: [*(percent(getattr(r, n)) for n in names), *(f"{getattr(r, n):.1e}" for n in worst)]
    return splice.table(["model", "preset", *names, *worst], [[r.model, r.preset, *cells(r)] for r in rows])


def promise(rows: Sequence[Row]) -> str:
    """Of how many models it holds."""
    asked = [row for row in rows if row.preset == PROMISED]
    others = [f"{row.model} ({percent(row.constants) or '0 %'} on constants)" for row in asked if not row.holds]
    text = f"`{PROMISED}` conserves, up to {LIMIT:g} of the logit, and is nowhere of the other sign on "
    return f"{text}{len(asked) - len(others)} of {len(asked)} models{'; not on ' + ', '.join(others) if others else ''}."


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
    accounted = f"{len(rows) - len(wrong)} of {len(rows)} accounted for, up to {LIMIT:g} of the logit."
    text = f"{accounted}\n\n{promise(rows)}\n\n{table(rows)}"
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
