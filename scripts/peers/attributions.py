"""Do captum's gradient methods say the same? The same inputs through its classes in PyTorch and through our presets.

Networks are rebuilt from their ONNX files (``rebuild.py``), so that captum can hook every Relu and every layer. The difference
is the largest one relative to captum's largest entry; up to 1e-4 is the same. Where it is more, captum is asked again with
Clips from 0, Relu6 among them, that it takes for Relus, as we do: what agrees then differed by that definition. What agrees in
float64 up to 1e-7 (ours by ``double.py``) differs by rounding: a neuron lies next to the kink of its Relu. All else is a
failure, and the exit status is 1.

Grad-CAM is compared twice: its map, and the map laid over the input.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import agreement
import double
import numpy as np
import splice
import torch
import zoo
from agreement import EXACT, SAME, Subject, distance
from captum.attr import (
    Deconvolution,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    LayerAttribution,
    LayerGradCam,
    Saliency,
)
from rebuild import Rebuilt

import onnxdtd
from onnxdtd.compiler.compile import prepare
from onnxdtd.errors import OnnxdtdError
from onnxdtd.request import Request

NETWORKS = ("vgg11", "resnet18", "mobilenet_v2", "densenet121")


class Capped(torch.nn.ReLU):
    """A Clip from 0 that captum takes for a Relu."""

    def __init__(self, most: float):
        super().__init__()
        self.most = most

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From 0 to the most."""
        return x.clamp(0, self.most)


def rectified(module: Rebuilt) -> Rebuilt:
    """The module with such Relus."""
    made = copy.deepcopy(module)
    for call in made.calls:
        if isinstance(call.run, torch.nn.Hardtanh) and call.run.min_val == 0:
            call.run = Capped(call.run.max_val)
    made.layers = torch.nn.ModuleList([call.run for call in made.calls if isinstance(call.run, torch.nn.Module)])
    return made


def by_class(method: type[Any], /, **options: Any) -> Callable[[Rebuilt, torch.Tensor, int, str], torch.Tensor]:
    """What a class of captum's gives for the logit of a class."""
    return lambda module, x, target, map_: method(module).attribute(x, target=target, **options)


def class_activation(module: Rebuilt, x: torch.Tensor, target: int, map_: str) -> torch.Tensor:
    """Grad-CAM's map, [1, 1, ...], of the module that gives a tensor, or what that only moves."""
    givers = {call.output: call for call in module.calls}
    call = givers[map_]
    while not isinstance(call.run, torch.nn.Module):
        call = givers[call.inputs[0]]
    return LayerGradCam(module, call.run).attribute(x, target=target, relu_attributions=True)


def laid(module: Rebuilt, x: torch.Tensor, target: int, map_: str) -> torch.Tensor:
    """The same, as large as the input."""
    map_of = class_activation(module, x, target, map_)
    space = [size for axis, size in enumerate(x.shape) if axis and size not in (1, 3)] or list(x.shape[2:])
    mode = "bilinear" if map_of.ndim == 4 and len(space) == 2 else "linear"
    shape = space if mode == "bilinear" else space[:1]
    return LayerAttribution.interpolate(map_of if mode == "bilinear" else map_of.flatten(2), shape, mode)


@dataclass(frozen=True)
class Peer:
    """A preset of ours, what of captum gives the same, whether both are summed over channels, ours at the map or the input."""

    preset: str
    name: str
    explain: Callable[[Rebuilt, torch.Tensor, int, str], torch.Tensor]
    summed: bool = False
    at_map: bool = False


PEERS = [
    Peer("gradient", "Saliency(abs=False)", by_class(Saliency, abs=False)),
    Peer("gradient-x-input", "InputXGradient", by_class(InputXGradient)),
    Peer(
        "integrated-gradients",
        "IntegratedGradients",
        by_class(IntegratedGradients, n_steps=32, method="gausslegendre", internal_batch_size=1),
    ),
    Peer("guided-backprop", "GuidedBackprop", by_class(GuidedBackprop)),
    Peer("deconvnet", "Deconvolution", by_class(Deconvolution)),
    Peer("grad-cam", "LayerGradCam", class_activation, summed=True, at_map=True),
    Peer("grad-cam", "LayerGradCam, interpolate", laid, summed=True),
]


@dataclass(frozen=True)
class Row:
    """What captum and we say of one model; differences are relative to captum's largest entry."""

    model: str
    peer: str
    difference: float = 0.0
    capped: float | None = None  # the same where captum takes a Clip from 0 for a Relu
    in_float64: float | None = None  # that in float64, if there is a difference left
    trouble: str = ""

    @property
    def verdict(self) -> str:
        """What there is to say."""
        if self.trouble:
            return self.trouble
        if self.difference <= SAME:
            return f"{self.difference:.0e}"
        left = self.difference if self.capped is None else self.capped
        clips = "" if self.capped is None else "Clip; "
        if left <= SAME:
            return f"{clips}else {left:.0e}"
        rounding = self.in_float64 is not None and self.in_float64 <= EXACT
        return f"{clips}rounding {left:.0e}, in float64 {self.in_float64:.0e}" if rounding else "DIFFERENT"


def ours(subject: Subject, peer: Peer, target: int) -> tuple[np.ndarray, str]:
    """Our relevance, and the tensor at which Grad-CAM is."""
    if not peer.summed:
        return agreement.relevance(onnxdtd.compile(subject.path, peer.preset, target="input"), subject.x, target), ""
    (end,) = prepare(subject.path, Request(preset=peer.preset)).plan.ends
    options: dict[str, Any] = {"from_": end.tensor.name} if peer.at_map else {}
    found = onnxdtd.Explainer(onnxdtd.compile(subject.path, peer.preset, target="input", **options))(subject.x, target=target)
    (relevance,) = found.relevance.values()
    positions = set(end.positions if peer.at_map else end.positions.values())  # type: ignore[attr-defined]
    gone = tuple(axis for axis in range(1, relevance.ndim) if axis not in positions)
    return relevance.sum(gone), end.tensor.name


def compared(subject: Subject, peer: Peer) -> Row:
    """A row for one of captum's classes, for the best class with a heatmap that is not all zero."""
    module, x = subject.for_captum, torch.from_numpy(subject.x)
    assert isinstance(module, Rebuilt)
    for target in module(x).flatten().argsort(descending=True).tolist():
        try:
            own, map_ = ours(subject, peer, target)
        except OnnxdtdError:
            return Row(subject.name, peer.name, trouble="no map")
        if own.any():
            break

    def theirs(given: Rebuilt, x: torch.Tensor) -> np.ndarray:
        found = peer.explain(given, x.clone().requires_grad_(True), target, map_).detach().numpy()
        return found.reshape(own.shape) if peer.summed else found

    row = Row(subject.name, peer.name, distance(own, theirs(module, x)))
    if row.difference <= SAME:
        return row
    if peer.name in ("GuidedBackprop", "Deconvolution") and any(isinstance(m, torch.nn.Hardtanh) for m in module.modules()):
        module = rectified(module)
        row = replace(row, capped=distance(own, theirs(module, x)))
    if (row.capped is not None and row.capped <= SAME) or peer.summed:
        return row
    exact = double.relevance(subject.path, peer.preset, subject.x, target)
    return replace(row, in_float64=distance(exact, theirs(copy.deepcopy(module).double(), x.double())))


def rows(names: Sequence[str], real: dict[str, Any], folder: Path) -> Iterator[Row]:
    """All comparisons of the models."""
    for name in names:
        try:
            subject = agreement.of_asset(real[name]) if name in real else agreement.of_network(name, folder)
        except NotImplementedError as error:
            yield Row(name, "", trouble=f"cannot be rebuilt: {error}")
            continue
        for peer in PEERS:
            row = compared(subject, peer)
            print(f"{row.model:28} {row.peer:28} {row.verdict}", flush=True)
            yield row


def table(found: Sequence[Row]) -> str:
    """A row a model."""
    cells = {(row.model, row.peer): row.verdict for row in found}
    models = list(dict.fromkeys(row.model for row in found if row.peer))
    return splice.table(["model", *(p.name for p in PEERS)], [[m, *(cells[m, p.name] for p in PEERS)] for m in models])


def main() -> int:
    """Compare them all."""
    parser = argparse.ArgumentParser(description="Compare our presets with captum's gradient methods.")
    parser.add_argument("--models", nargs="+", metavar="NAME", default=[], help="only these")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    splice.option(parser, "attributions")
    chosen = parser.parse_args()
    agreement.NETWORKS["vgg11"] = zoo.Network("vgg11", 224)
    real = agreement.assets()
    if unknown := set(chosen.models) - {*NETWORKS, *real}:
        parser.error(f"no model {', '.join(sorted(unknown))}; there are {', '.join([*NETWORKS, *real])}")
    if chosen.write and (chosen.models or not real):
        parser.error("--write shows all models, and needs ONNXDTD_ASSETS for the real ones")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as temporary:
        found = list(rows(chosen.models or [*NETWORKS, *real], real, Path(temporary)))
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(row) for row in found], indent=1), encoding="utf-8")
    if chosen.write:
        splice.write(chosen.write, "attributions", table(found), ("torch", "torchvision", "captum"))
    return int(any(row.verdict == "DIFFERENT" for row in found))


if __name__ == "__main__":
    sys.exit(main())
