"""Fits the relevance models that a preset asks for: to a data set, layer by layer, from the top down.

What a model is to tell is the relevance that the layers above it give, those with relevance models of their own included. So
the lower ones are fitted to what the upper ones hand down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import cycle, product
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import onnxdtd
from onnxdtd import atomic
from onnxdtd.compiler.addition import addition
from onnxdtd.compiler.compile import planned
from onnxdtd.compiler.fitted import Fitted, rules_of, score_of, target_of, write
from onnxdtd.compiler.minmax import RelevanceModel, Spot, spots, window_of
from onnxdtd.compiler.prepared import Planned
from onnxdtd.compiler.record import predictor
from onnxdtd.data.brought import brought
from onnxdtd.errors import RequestError
from onnxdtd.graph.slices import kind, sliced
from onnxdtd.graph.tensors import Tensor
from onnxdtd.request import NO_CLASSES, Request
from onnxdtd.runtime.explainer import Explainer, session
from onnxdtd.study.jobs import Tick, untold
from onnxdtd.study.predictor import BATCH, cut
from onnxdtd.study.subject import Subject
from onnxdtd.study.training import Parameters, Rows, cast_from, patches, told, trained

PRESET = "dtd-minmax"
FEWEST = 10  # samples
HELD_OUT = 5  # every so many-th sample is
PATIENCE = 10  # epochs without anything better
MOST_NUMBERS = 2**26  # in all rows; of more, places are drawn
FAINT = 1e-2  # of the spread of u and of what is added to v at first, in units of data scaled to a mean square of 1


def fit(
    model: Path | str,
    data: Path | str,
    request: Request | None = None,
    *,
    out: Path | str,
    units: int = 4,
    epochs: int = 100,
    samples: int | None = None,
    seed: int = 0,
    tick: Tick = untold,
) -> dict[str, Any]:
    """Fit the relevance models that a preset asks for, and write them into a file, for ``fitted``.

    Args:
        model: the file of a classifier.
        data: samples, as for ``onnxdtd.evaluate``; labels are not looked at.
        request: the options of ``onnxdtd.compile``; by default the preset ``dtd-minmax``.
        out: the file to write, an ``.npz``.
        units: detection units of each neuron or channel.
        epochs: at most; fewer where the samples held out, a fifth of all, are told no better for ten in a row.
        samples: only the first so many.
        seed: of the samples held out, the first weights and the order of training.
        tick: told how many of how many epochs are done.

    Returns:
        What the file says: ``layers`` has for each relevance model how well it tells relevance, of the samples in training and
        of those ``held_out``: ``r2``, the share of the variance; ``error``, the mean square of R̂ − R as a share of that of R;
        ``balance``, Σ (R̂ − R) as a share of Σ R.

    Raises:
        OnnxdtdError: model, preset and data do not fit each other, or the file cannot be written.
    """
    for name, value in (("units", units), ("epochs", epochs), ("samples", samples)):
        if value is not None and value < 1:
            raise RequestError(f"--{name} {value}: give at least 1")
    request, out = request or Request(), Path(out)
    request = replace(request, preset=request.preset or PRESET, fitted=None, ledger=False, keep=(), mask=())
    if request.target in NO_CLASSES and request.target != "argmax":
        raise RequestError(f"--target {request.target}: relevance models are fitted to the arg-max, or to one class")
    atomic.ready(out)
    with brought(data) as found:
        subject = Subject(Path(model), request, found.path, planned)
        items, _ = subject.items(len(subject.data) if samples is None else samples)
    xs = [item.x.astype(np.float32) for item in items if item.x.shape == items[0].x.shape]
    if len(xs) < FEWEST:
        raise RequestError(f"{data}: has {len(xs)} samples of one size; relevance models are fitted to {FEWEST} at least")
    return Fitting(subject, np.stack(xs), units, epochs, seed, Path(model).parent, tick).written(out)


class Fitting:
    """The fit of all relevance models that a planned model is to have, to samples ``xs`` [n, ...]."""

    def __init__(self, subject: Subject, xs: np.ndarray, units: int, epochs: int, seed: int, folder: Path, tick: Tick):
        self.job, self.layout, self.xs, self.folder = subject.planned, subject.layout, xs, folder
        self.units, self.epochs, self.tick, self.seed = units, epochs, tick, seed
        self.spots = spots(self.job.plan)
        if not self.spots:
            raise RequestError(f"the preset {self.job.plan.preset} asks for no relevance models; {PRESET} does")
        self.held_out = np.random.default_rng(seed).permutation(len(xs)) % HELD_OUT == 0
        self.models: dict[str, RelevanceModel] = {}
        self.said: dict[str, Any] = {
            "version": onnxdtd.__version__,
            "model": str(predictor(self.job.source.proto)["sha256"]),
            "preset": str(self.job.request.preset),
            "rules": rules_of(self.job.plan),
            "score": score_of(self.job.plan, self.job.request),
            "target": target_of(self.job.request),
            "samples": len(xs),
            "seed": seed,
            "layers": {},
        }

    def written(self, out: Path) -> dict[str, Any]:
        """Fit them, the top one first, and write the file; what it says."""
        for number, spot in enumerate(self.spots[::-1]):
            rng = np.random.default_rng([self.seed, number])
            self.models[spot.step.name], self.said["layers"][spot.step.name] = self._fitted(spot, number, rng)
        write(out, Fitted(self.models, self.said))
        return self.said

    def _fitted(self, spot: Spot, number: int, rng: np.random.Generator) -> tuple[RelevanceModel, dict[str, Any]]:
        rows, held_out = (self._rows(spot, self.xs[chosen], rng) for chosen in (~self.held_out, self.held_out))
        x, t, r = (np.sqrt(np.square(a).mean(dtype=np.float64)).astype(np.float32) or np.float32(1) for a in rows.arrays())
        scaled = [Rows(some.x / x, some.t / t, some.r / r) for some in (rows, held_out)]
        w, b = Values(self.job, spot, self.folder).weights(self.layout.put(self.xs[: self.layout.batch or 1]))
        p, done = start(spot, w * (x / r), b / r, scaled[0], self.units, rng), 0
        for better in trained(p, scaled[0], scaled[1], self.epochs, PATIENCE, rng):
            p, done = better, done + 1
            self.tick(number * self.epochs + done, len(self.spots) * self.epochs)
        quality = {name: measured(p, some) for name, some in zip(("training", "held_out"), scaled, strict=True)}
        p = Parameters(p.v * (r / x), p.u * (r / t), p.d * r)
        return laid_out(p, spot, self.units), {"units": self.units, "above": len(spot.above), "epochs": done, **quality}

    def _rows(self, spot: Spot, xs: np.ndarray, rng: np.random.Generator) -> Rows:
        """What there is to learn from samples."""
        steps = [s if not s.fit or s.name in self.models else replace(s, fit="") for s in self.job.plan.steps]
        keep = list(dict.fromkeys([spot.k.name, *(above.r.name for above in spot.above)]))
        job = replace(
            self.job,
            plan=replace(self.job.plan, steps=steps),
            request=replace(self.job.request, keep=keep),
            fitted=Fitted(self.models, self.said),
        )
        proto = onnx.ModelProto()
        proto.CopyFrom(job.source.proto)
        explainer = Explainer(addition(job).append_to(proto), folder=self.folder)
        values = Values(job, spot, self.folder)
        found: list[Rows] = []
        for chosen, count in cut(np.arange(len(xs)), self.layout.batch or BATCH, self.layout.batch or 1):
            feed = self.layout.put(xs[chosen])
            explained = explainer(feed)
            some = laid_in(spot, values.inputs(feed), {**explained.relevance, **explained.kept})
            found.append(lessened(some[:count], len(xs), rng))
        return Rows(*(np.concatenate([getattr(some, name) for some in found]) for name in ("x", "t", "r")))


class Values:
    """The inputs of a layer, its weights and biases, as the predictor has them."""

    def __init__(self, job: Planned, spot: Spot, folder: Path):
        layer, e, whole = spot.step.layer, job.emit, onnx.ModelProto()
        assert layer is not None
        whole.CopyFrom(job.source.proto)
        tensors = [t for t in (spot.x, layer.slots[0].w, layer.b) if isinstance(t, Tensor)]
        with e.forgetting():
            read = [e.named(e.cast(t, np.float32), e.unique(f"fitted/{i}"), None) for i, t in enumerate(tensors)]
            nodes, constants = e.live(read)
            whole.graph.node.extend(nodes)
            whole.graph.initializer.extend(constants)
        self._session = session(sliced(whole, [], {t.name: kind(t) for t in read}), folder=folder)
        self._dtype = job.plan.inputs[0].dtype
        self._slides, self._node = spot.win is not None, spot.step.nodes[0]

    def inputs(self, feed: np.ndarray) -> np.ndarray:
        """Those of the layer."""
        found: np.ndarray = self._run(feed)[0]
        return found

    def weights(self, feed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[K, channels, window...] or [K, inputs], and [K]."""
        _, w, *b = self._run(feed)
        w = w if self._slides or self._node.attrs.get("transB") else w.T
        return w, np.broadcast_to(b[0].ravel() if b else np.float32(0), len(w))

    def _run(self, feed: np.ndarray) -> list[np.ndarray]:
        found: list[np.ndarray] = self._session.run(None, {self._session.get_inputs()[0].name: feed.astype(self._dtype)})
        return found


def laid_in(spot: Spot, x: np.ndarray, relevance: Mapping[str, np.ndarray]) -> Rows:
    """What a layer takes and the relevance above as rows: [n, places, ...]."""
    r = relevance[spot.k.name]
    r = r.reshape(len(r), -1, spot.size) if spot.win is None else np.moveaxis(r, 1, -1).reshape(len(r), -1, spot.size)
    seen = x if spot.win is None else patches(x, spot.win)
    parts = []
    for above in spot.above:
        given = relevance[above.r.name]
        if above.win is not None:
            given = cast_from(given, above.win, relevance[spot.k.name].shape[2:])
        given = given.reshape(len(given), -1, given.shape[-1])
        parts.append(np.broadcast_to(given, (*r.shape[:2], given.shape[-1])))
    return Rows(seen.reshape(len(r), r.shape[1], -1), np.concatenate(parts, axis=-1), r)


def lessened(rows: Rows, samples: int, rng: np.random.Generator) -> Rows:
    """The rows one behind the other: of so many samples all places, or as many as there is room for, drawn of each."""
    n, places, _ = rows.r.shape
    numbers = sum(a.shape[-1] for a in (rows.x, rows.t, rows.r))
    most = min(places, max(MOST_NUMBERS // (samples * numbers), 1))
    drawn = np.sort([rng.choice(places, most, replace=False) for _ in range(n)], axis=1)[..., None]
    return Rows(*(np.take_along_axis(a, drawn, 1).reshape(n * most, -1).astype(np.float32) for a in (rows.x, rows.t, rows.r)))


def start(spot: Spot, w: np.ndarray, b: np.ndarray, rows: Rows, units: int, rng: np.random.Generator) -> Parameters:
    """Where training starts: at the layer itself, each unit of a pool at a place of its own, scaled to what k has of relevance
    for its activity. Nothing is inhibited at first but by its bias.
    """
    v, bias = placed(spot, w, b, units)
    here = Parameters(v.reshape(len(v), -1), np.zeros((rows.t.shape[1], v[0].size), np.float32), np.minimum(bias, 0).ravel())
    active = told(here, rows)
    power = np.square(active).sum(axis=0)
    scale = np.divide((active * rows.r).sum(axis=0), power, where=power > 0, out=np.zeros_like(power)).clip(min=0)[:, None]
    noise = rng.normal(0, FAINT, v.shape) / math.sqrt(len(v))
    first = (v * scale + noise).reshape(len(v), -1)
    u = rng.normal(0, FAINT, here.u.shape) / math.sqrt(len(here.u))
    return Parameters(*(a.astype(np.float32) for a in (first, u, (np.minimum(bias, 0) * scale).ravel() - FAINT)))


def placed(spot: Spot, w: np.ndarray, b: np.ndarray, units: int) -> tuple[np.ndarray, np.ndarray]:
    """The weights of a layer as those of the units of each k, [inputs, K, units], and its biases, [K, units]."""
    chosen = np.arange(units)
    if spot.win is None:
        groups = w.reshape(spot.size, -1, w.shape[-1])  # of the neurons that are summed
        chosen = chosen % groups.shape[1]
        return np.moveaxis(groups[:, chosen], -1, 0), b.reshape(spot.size, -1)[:, chosen]
    first = window_of(spot.step)
    room = [range(0, whole - own + 1, s) for whole, own, s in zip(spot.win.kernel, first.extent, first.strides, strict=True)]
    v = np.zeros((units, spot.size, w.shape[1], *spot.win.kernel), w.dtype)
    for unit, at in zip(v, cycle(product(*room))):
        slices = zip(at, first.extent, first.dilations, strict=True)
        unit[(slice(None), slice(None), *(slice(p, p + n, d) for p, n, d in slices))] = w
    return np.moveaxis(v.reshape(units, spot.size, -1), (2, 1, 0), (0, 1, 2)), np.repeat(b[:, None], units, axis=1)


def laid_out(p: Parameters, spot: Spot, units: int) -> RelevanceModel:
    """As the compiled model has it."""
    v_shape, above = spot.shapes(units)
    v = p.v if spot.win is None else p.v.T.reshape(v_shape)
    parts, at = [], 0
    for shape in above:
        outputs, many, *kernel = shape
        rows = p.u[at : at + outputs * math.prod(kernel)]
        at += len(rows)
        parts.append(np.moveaxis(rows.reshape(outputs, *kernel, many), -1, 1))
    v, d, *parts = (np.ascontiguousarray(a, np.float32) for a in (v, p.d, *parts))
    return RelevanceModel(units, v, d, tuple(parts))


def measured(p: Parameters, rows: Rows) -> dict[str, float]:
    """How well R̂ tells R."""
    off, r = told(p, rows).astype(np.float64) - rows.r, rows.r.astype(np.float64)
    square = float(np.square(off).sum())
    share = lambda amount, of: float(amount / of) if of else 0.0
    return {
        "r2": 1 - share(square, np.square(r - r.mean(axis=0)).sum()),
        "error": share(square, np.square(r).sum()),
        "balance": share(off.sum(), r.sum()),
    }
