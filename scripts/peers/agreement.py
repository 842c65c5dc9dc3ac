"""Do zennit and captum say the same? The same inputs through their rules in PyTorch and through ours in ONNX Runtime.

For each model and preset: the largest difference of the two relevances relative to the largest entry of the peer's, their
cosine, the sum of each. Where they differ by more than 1e-4, the reason is looked for in this order.

- A definition: the same peer is asked again with our denominators (nothing added to them), activations and lone
  BatchNormalization passed. What agrees then differed by that.
- Rounding: both are asked in float64 (ours by ``double.py``), with the same weights. What agrees there to 1e-7 has one
  definition, and float32 is not enough for it. Then the distances of both float32 results from the float64 one are given.

What has neither reason is a failure, and the exit status is 1.

torchvision's VGGs and ResNets are explained as they are, with zennit's own canonizers. Everything else, and all that captum
gets, is rebuilt from the ONNX file (``rebuild.py``), since neither library can hook ``a + b`` or a pooling that is a function.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import double
import numpy as np
import torch
from onnx import ModelProto

import onnxdtd
from onnxdtd.contract import read_metadata
from onnxdtd.graph import shapes

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]
import splice  # noqa: E402
import zoo  # noqa: E402

zoo.torchvision()  # zennit imports it

from captum.attr import LRP  # noqa: E402
from captum.attr._utils import lrp_rules as captum_rules  # noqa: E402
from captum.attr._utils.custom_modules import Addition_Module  # noqa: E402
from multipliers import by_deeplift  # noqa: E402
from rebuild import Affine, Preprocessing, Rebuilt  # noqa: E402
from zennit import composites, rules, types  # noqa: E402
from zennit.canonizers import CompositeCanonizer, SequentialMergeBatchNorm  # noqa: E402
from zennit.core import BasicHook, Composite  # noqa: E402
from zennit.layer import Sum  # noqa: E402
from zennit.torchvision import ResNetBasicBlockCanonizer, ResNetBottleneckCanonizer  # noqa: E402

CAPTUM = Path(__file__).resolve().parent / "captum.toml"
VERDICTS = {
    "same": "the same within 1e-4",
    "definition": "by a definition",
    "rounding": "by rounding",
    "not possible": "not possible with the peer",
    "DIFFERENT": "UNEXPLAINED",
}
SAME = 1e-4  # relative to the largest relevance of the peer
EXACT = 1e-7  # the same in float64, where weights are those of the file: merged in float32 by the exporter
GAMMA = 0.25
Bound = float | list[float]


# ------------------------------------------------------------------------------------------------------- zennit's side


def divisor(z: torch.Tensor) -> torch.Tensor:
    """Our denominator where a rule has no ε: what has none redistributes nothing."""
    return torch.where(z.abs() < 2**14 * torch.finfo(z.dtype).tiny, torch.inf, z)


def positive_sum() -> BasicHook:
    """z+ for averages and sums, which have no weights: in proportion to the positive inputs."""
    return BasicHook(
        input_modifiers=[lambda x: x.clamp(min=0)],
        param_modifiers=[rules.NoMod(param_keys=[])],
        output_modifiers=[lambda y: y],
        gradient_mapper=lambda relevance, outputs: relevance / divisor(outputs[0]),
        reducer=lambda inputs, gradients: inputs[0] * gradients[0],
    )


def gamma_sum() -> BasicHook:
    """γ for averages and sums: what has the sign of the output counts 1 + γ times."""

    def favour(sign: int) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda x: x + GAMMA * (x.clamp(min=0) if sign > 0 else x.clamp(max=0))

    return BasicHook(
        input_modifiers=[favour(1), favour(-1), lambda x: x],
        param_modifiers=[rules.NoMod(param_keys=[])] * 3,
        output_modifiers=[lambda y: y] * 3,
        gradient_mapper=lambda relevance, outputs: [
            (outputs[2] > 0) * relevance / divisor(outputs[0]),
            (outputs[2] < 0) * relevance / divisor(outputs[1]),
            torch.zeros_like(relevance),
        ],
        reducer=lambda inputs, gradients: inputs[0] * gradients[0] + inputs[1] * gradients[1],
    )


@dataclass(frozen=True)
class Setting:
    """What a peer needs to know of a model besides the module."""

    low: torch.Tensor | float
    high: torch.Tensor | float
    canonizers: tuple[Any, ...]


Composer = Callable[[Setting], Composite]


def everywhere(rule: Any, sums: Any, first: Callable[[Setting], Any] | None = None, affine: Any = rules.Pass) -> Composer:
    """One rule in all layers with weights but perhaps the first, another in averages and sums, one in BatchNormalization."""

    def make(setting: Setting) -> Composite:
        passes = [((types.Activation, Preprocessing), rules.Pass()), ((types.BatchNorm, Affine), affine())]
        layers = [*passes, ((types.AvgPool, Sum), sums()), (types.Linear, rule())]
        firsts = [(types.Linear, first(setting))] if first else []
        return composites.SpecialFirstLayerMapComposite(layers, firsts, list(setting.canonizers))

    return make


def shipped(composite: type[Composite], **options: Any) -> Composer:
    """A composite of zennit's. Preprocessing inside the model is passed through; sums keep their ε whatever the options."""

    def make(setting: Setting) -> Composite:
        bounds = {"low": setting.low, "high": setting.high} if composite is composites.EpsilonGammaBox else {}
        fixed: list[tuple[Any, Any]] = [(Affine, rules.Pass()), ((types.AvgPool, Sum), rules.Norm(1e-6))]
        if "stabilizer" in options:
            fixed.append(((types.BatchNorm, types.Activation), rules.Pass()))
        return composite(layer_map=fixed, canonizers=list(setting.canonizers), **bounds, **options)

    return make


FLOAT_EPSILON = lambda: rules.Epsilon(1e-6)
NO_BIAS: dict[str, Any] = {"stabilizer": divisor, "zero_params": "bias"}


def zplus() -> rules.ZPlus:
    """Our z+, without biases."""
    return rules.ZPlus(**NO_BIAS)


ZENNIT: list[tuple[str, str, Composer, Composer | None]] = [
    *(
        (preset, f"zennit {made.__name__}{note}", shipped(made, **options), shipped(made, stabilizer=divisor, **options))
        for preset, made, note, options in [
            ("epsilon-plus", composites.EpsilonPlus, "", {}),
            ("epsilon-plus-flat", composites.EpsilonPlusFlat, "", {}),
            ("epsilon-alpha2beta1", composites.EpsilonAlpha2Beta1, "", {}),
            ("epsilon-alpha2beta1-flat", composites.EpsilonAlpha2Beta1Flat, "", {}),
            ("epsilon-gamma-box", composites.EpsilonGammaBox, "", {}),
            ("excitation-backprop", composites.ExcitationBackprop, "(zero_params='bias')", {"zero_params": "bias"}),
        ]
    ),
    ("lrp-epsilon", "zennit Epsilon", everywhere(FLOAT_EPSILON, lambda: rules.Norm(1e-6), affine=FLOAT_EPSILON), None),
    ("lrp-gamma", "zennit Gamma", everywhere(lambda: rules.Gamma(GAMMA, divisor), gamma_sum), None),
    ("lrp-alpha1beta0", "zennit AlphaBeta(1, 0)", everywhere(lambda: rules.AlphaBeta(1, 0, divisor), positive_sum), None),
    ("lrp-alpha2beta1", "zennit AlphaBeta(2, 1)", everywhere(lambda: rules.AlphaBeta(2, 1, divisor), positive_sum), None),
    ("dtd", "zennit ZBox, ZPlus", everywhere(zplus, positive_sum, lambda s: rules.ZBox(s.low, s.high, divisor)), None),
    ("dtd-w2", "zennit WSquare, ZPlus", everywhere(zplus, positive_sum, lambda s: rules.WSquare(**NO_BIAS)), None),
]


class ExactIdentity(captum_rules.IdentityRule):
    """captum's IdentityRule but for one thing: an activation in front of it is told, and does not take the plain gradient."""

    def _create_backward_hook_input(self, inputs: Any) -> Callable[[Any], Any]:
        def replaced(grad: Any) -> Any:
            grad.replace_out = self.relevance_output[grad.device]
            return grad.replace_out

        return replaced


class ExactWinner(captum_rules.EpsilonRule):
    """The winner of a pooling takes all. By captum's EpsilonRule it takes x R / x, which is nothing for a winner of 0."""

    def _create_backward_hook_output(self, outputs: Any) -> Callable[[Any], Any]:
        return lambda grad: grad

    def _create_backward_hook_input(self, inputs: Any) -> Callable[[Any], Any]:
        def kept(grad: Any) -> Any:
            grad.replace_out = grad
            return grad

        return kept


class ExactMerge(SequentialMergeBatchNorm):
    """The canonizer of zennit, which leaves x / √(1 + ε) of a merged BatchNormalization; here x is left."""

    def register(self, linears: Any, batch_norm: Any) -> None:
        """Merge, then set ε to 0."""
        super().register(linears, batch_norm)
        self.epsilon, batch_norm.eps = batch_norm.eps, 0.0

    def remove(self) -> None:
        """Undo both."""
        super().remove()
        self.batch_norm.eps = self.epsilon


class ExactResNet(CompositeCanonizer):
    """The canonizer of zennit for torchvision's ResNets, with exact merging."""

    def __init__(self) -> None:
        super().__init__((ExactMerge(), ResNetBottleneckCanonizer(), ResNetBasicBlockCanonizer()))


class Added(torch.nn.Module):
    """a + b, as zennit's canonizers write it."""

    def __init__(self) -> None:
        super().__init__()
        self.sum = Sum(dim=-1)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Stacked, then summed."""
        return self.sum(torch.stack(torch.broadcast_tensors(a, b), -1))


def by_zennit(module: torch.nn.Module, x: torch.Tensor, target: int, composite: Composite) -> np.ndarray:
    """Relevance of ``x`` for the logit ``target``."""
    leaf = x.clone().requires_grad_(True)
    with composite.context(module) as hooked:
        logits = hooked(leaf)
        start = torch.zeros_like(logits)
        start[:, target] = logits[:, target].detach()
        (relevance,) = torch.autograd.grad(logits, leaf, grad_outputs=start)
    return relevance.detach().numpy()


# ------------------------------------------------------------------------------------------------------- captum's side


Ruler = Callable[[], captum_rules.PropagationRule]
FLOAT_RULE = lambda: captum_rules.EpsilonRule(1e-6)
CAPTUM_RULES: list[tuple[str, str, Ruler, float]] = [
    ("lrp-epsilon", "captum EpsilonRule(1e-6)", FLOAT_RULE, 1e-6),
    (f"{CAPTUM}:captum-alpha1beta0", "captum Alpha1_Beta0_Rule", captum_rules.Alpha1_Beta0_Rule, 1e-9),
    (f"{CAPTUM}:captum-gamma", "captum GammaRule", lambda: captum_rules.GammaRule(GAMMA), 1e-9),
]
WITH_WEIGHTS = (torch.nn.Conv2d, torch.nn.Linear)
SHARING = (torch.nn.AvgPool2d, torch.nn.AdaptiveAvgPool2d, Addition_Module)
WINNERS = (torch.nn.MaxPool2d,)
AFFINE = (torch.nn.BatchNorm2d, Affine)
ELSEWHERE = (torch.nn.Hardtanh, torch.nn.Hardswish, torch.nn.Sigmoid, *AFFINE)


def by_captum(
    module: torch.nn.Module, x: torch.Tensor, target: int, rule: Ruler, epsilon: float, exact: bool = False
) -> np.ndarray:
    """Relevance of ``x``. What captum refuses (other activations, layers over time) is refused here too."""
    explained = copy.deepcopy(module)  # captum leaves its marks on the parameters
    ruled(explained, rule, epsilon, exact)
    relevance = LRP(explained).attribute(x.clone(), target=target)
    return relevance.detach().numpy()


def ruled(module: torch.nn.Module, rule: Ruler, epsilon: float, exact: bool = False) -> None:
    """Give each part of a module its rule."""
    for part in module.modules():
        if isinstance(part, WITH_WEIGHTS):
            part.rule = rule()
        elif isinstance(part, SHARING) or (
            rule is FLOAT_RULE and isinstance(part, AFFINE) and not isinstance(part, Preprocessing)
        ):
            part.rule = captum_rules.EpsilonRule(epsilon)
        elif isinstance(part, WINNERS):
            part.rule = ExactWinner() if exact else captum_rules.EpsilonRule(1e-30)
        elif isinstance(part, ELSEWHERE):
            part.rule = ExactIdentity() if exact else captum_rules.IdentityRule()


# ------------------------------------------------------------------------------------------------------------- models


@dataclass
class Subject:
    """A model to be explained by all: its file, one input, the bounds, and PyTorch modules for the peers."""

    name: str
    path: Path
    x: np.ndarray
    low: Bound
    high: Bound
    for_zennit: torch.nn.Module
    for_captum: torch.nn.Module
    twin: torch.nn.Module  # for zennit, rebuilt
    canonizers: tuple[Any, ...] = ()

    def setting(self) -> Setting:
        """The bounds in the shape of the input."""
        shape = (1, -1) + (1,) * (self.x.ndim - 2)
        low, high = (
            torch.tensor(b, dtype=torch.float64).reshape(shape) if isinstance(b, list) else b for b in (self.low, self.high)
        )
        return Setting(low, high, self.canonizers)


NETWORKS = {
    "vgg16": zoo.Network("vgg16", 224),
    "vgg11": zoo.Network("vgg11", 224),
    "vgg11_bn": zoo.Network("vgg11_bn", 224),
    "resnet18": zoo.Network("resnet18"),
    "resnet50": zoo.Network("resnet50"),
    "densenet121": zoo.Network("densenet121"),
    "mobilenet_v2": zoo.Network("mobilenet_v2"),
}
CANONIZERS: dict[str, Callable[[], Any]] = {"vgg": ExactMerge, "resnet": ExactResNet}


def predictor(path: Path) -> tuple[ModelProto, str]:
    """A model that contains the predictor, in an operator set that we read, and the name of the logits that we explain."""
    compiled = onnxdtd.compile(path, "lrp-epsilon")
    return compiled, read_metadata(compiled)["logits"]


def of_network(name: str, folder: Path) -> Subject:
    """A model of torchvision with seeded weights."""
    network = NETWORKS[name]
    module = zoo.built(network)
    x = zoo.inputs(network.size, 1, seed=2)
    path = folder / f"{name}.onnx"
    zoo.export_old(module, x, path)
    canonizer = next((made for prefix, made in CANONIZERS.items() if name.startswith(prefix)), None)
    proto, logits = predictor(path)
    twin, for_captum = (Rebuilt(proto, logits, add) for add in (Added, Addition_Module))
    canonizers, bound = (canonizer(),) if canonizer else (), zoo.BOUND
    return Subject(name, path, x, -bound, bound, module if canonizer else twin, for_captum, twin, canonizers)


SKIPPED = {
    "imagenet_mobilenetv2_int8": "quantised",
    "imagenet_squeezenet11_fp16_caffe2": "half precision",
    "cifar10_vit_pgd_pytorch": "attention",
}


def assets() -> dict[str, Any]:
    """The real classifiers by name, where ``ONNXDTD_ASSETS`` says that they are."""
    if not os.environ.get("ONNXDTD_ASSETS"):
        return {}
    return {asset.name: asset for asset in importlib.import_module("assets").ASSETS if asset.name not in SKIPPED}


def of_asset(asset: Any) -> Subject:
    """A real classifier with a real input."""
    proto, logits = predictor(asset.path)
    low, high = asset.bounds
    shape = [d.dim_value for d in shapes.real_inputs(proto)[0].type.tensor_type.shape.dim]
    x = asset.inputs()[:1].reshape([1, *shape[1:]] if all(shape[1:]) else asset.inputs()[:1].shape)
    twin, for_captum = (Rebuilt(proto, logits, add) for add in (Added, Addition_Module))
    return Subject(asset.name, asset.path, x, low, high, twin, for_captum, twin)


# ---------------------------------------------------------------------------------------------------------- comparing


@dataclass(frozen=True)
class Row:
    """What a peer and we say of one model. Differences are relative to the peer's largest entry."""

    model: str
    preset: str
    peer: str
    difference: float = 0.0  # in float32
    exact: float | None = (
        None  # the same where the peer divides as we do and passes what has no rule; asked for where it matters
    )
    in_float64: float | None = None  # of the two in float64, if there is a difference left
    our_error: float | None = None  # of ours in float32 against the peer in float64
    peer_error: float | None = None  # of the peer's in float32 against the same
    cosine: float = 0.0
    our_sum: float = 0.0
    peer_sum: float = 0.0
    logit: float = 0.0
    trouble: str = ""

    @property
    def remaining(self) -> float:
        """The difference that the stabiliser does not explain."""
        return self.difference if self.exact is None else self.exact

    @property
    def verdict(self) -> str:
        """What the difference comes from."""
        if self.trouble:
            return "not possible"
        if self.difference <= SAME:
            return "same"
        if self.remaining <= SAME:
            return "definition"
        return "rounding" if self.in_float64 is not None and self.in_float64 <= EXACT else "DIFFERENT"


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference relative to the largest entry of ``b``."""
    return float(np.abs(a.astype(np.float64) - b).max() / max(np.abs(b).max(), 1e-300))


def relevance(compiled: ModelProto, x: np.ndarray, target: int) -> np.ndarray:
    """Ours."""
    return zoo.run(zoo.session(compiled), x, target=np.asarray([target]))["relevance"]


Explain = Callable[[torch.nn.Module, torch.Tensor, int], np.ndarray]


def compared(
    subject: Subject,
    preset: str,
    peer: str,
    module: torch.nn.Module,
    explain: Explain,
    exactly: Explain | None = None,
    twin: torch.nn.Module | None = None,
) -> Row:
    """One row: the exact variant, and float64 on a ``twin`` of the module with the file's own weights, where needed."""
    short, x = preset.rpartition(":")[2], torch.from_numpy(subject.x)
    bounds: dict[str, Any] = {"low": subject.low, "high": subject.high}
    try:
        with torch.no_grad():
            logits = module(x).numpy().ravel()
        target = int(logits.argmax())
        ours = relevance(onnxdtd.compile(subject.path, preset, target="input", **bounds), subject.x, target)
        theirs = explain(module, x, target)
    except Exception as error:  # a table is no place to stop
        return Row(subject.name, short, peer, trouble=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    a, b = ours.astype(np.float64).ravel(), theirs.astype(np.float64).ravel()
    cosine = float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-300))
    sums: dict[str, Any] = {"our_sum": float(a.sum()), "peer_sum": float(b.sum()), "logit": float(logits[target])}
    row = Row(subject.name, short, peer, distance(ours, theirs), cosine=cosine, **sums)
    if row.difference <= SAME:
        return row
    chosen = exactly or explain
    row = replace(row, exact=distance(ours, chosen(module, x, target)) if exactly else None)
    if row.remaining <= SAME:
        return row
    twin = twin or module
    theirs, single = chosen(copy.deepcopy(twin).double(), x.double(), target), chosen(twin, x, target)
    apart = distance(double.relevance(subject.path, preset, subject.x, target, **bounds), theirs)
    return replace(row, in_float64=apart, our_error=distance(ours, theirs), peer_error=distance(single, theirs))


def rows(subject: Subject) -> Iterator[Row]:
    """All that can be said of a model."""
    setting = subject.setting()

    def zennit(make: Composer) -> Explain:
        return lambda module, x, target: by_zennit(module, x, target, make(setting))

    for preset, peer, make, exactly in ZENNIT:
        yield compared(
            subject, preset, peer, subject.for_zennit, zennit(make), zennit(exactly) if exactly else None, subject.twin
        )
    for preset, peer, rule, epsilon in CAPTUM_RULES:

        def captum(exact: bool, rule: Ruler = rule, epsilon: float = epsilon) -> Explain:
            return lambda module, x, target: by_captum(module, x, target, rule, epsilon, exact)

        yield compared(subject, preset, peer, subject.for_captum, captum(exact=False), captum(exact=True))
    exactly = partial(by_deeplift, exact=True)
    yield compared(subject, "deeplift-rescale", "captum DeepLift", subject.for_captum, by_deeplift, exactly, subject.twin)


def of_model(name: str, real: dict[str, Any], folder: Path) -> Iterator[Row]:
    """The rows of a model, or one that says why there are none."""
    try:
        subject = of_asset(real[name]) if name in real else of_network(name, folder)
    except NotImplementedError as error:
        yield Row(name, "all", "all", trouble=f"cannot be rebuilt: {error}")
        return
    yield from rows(subject)


def told(row: Row) -> Row:
    """Print it."""
    more = {"exact": row.exact, "in float64": row.in_float64, "ours": row.our_error, "peer": row.peer_error}
    details = "  ".join(f"{name} {value:.1e}" for name, value in more.items() if value is not None)
    sums = f"sums {row.our_sum:.5g} {row.peer_sum:.5g} of {row.logit:.5g}"
    text = row.trouble or f"{row.difference:.1e}  cosine {row.cosine:.6f}  {sums}  {row.verdict}  {details}"
    print(f"{row.model:28} {row.preset:24} {row.peer:44} {text}", flush=True)
    return row


def summary(found: Sequence[Row]) -> str:
    """One sentence."""
    counts = {verdict: sum(row.verdict == verdict for row in found) for verdict in VERDICTS}
    numbers = ", ".join(f"{count} {VERDICTS[verdict]}" for verdict, count in counts.items() if count)
    return f"{len({row.model for row in found})} models, {len(found)} comparisons: {numbers}."


def overview(found: Sequence[Row]) -> str:
    """The worst difference of each model to each group of comparisons, and what is not the same."""
    lines = []
    for model in dict.fromkeys(row.model for row in found):
        cells = [model]
        for belongs in GROUPS.values():
            rows = [row for row in found if row.model == model and belongs(row)]
            same = [row.difference for row in rows if row.verdict == "same"]
            others = [verdict for verdict in VERDICTS if verdict != "same"]
            counts = [(sum(row.verdict == verdict for row in rows), verdict) for verdict in others]
            parts = ([f"{max(same):.0e}"] if same else []) + [f"{count} {verdict}" for count, verdict in counts if count]
            cells.append("; ".join(parts))
        lines.append(cells)
    return splice.table(["model", *GROUPS], lines)


def details(found: Sequence[Row]) -> str:
    """Every comparison."""
    lines = [
        [
            row.model,
            row.preset,
            row.peer,
            *([f"{row.difference:.0e}", f"{row.cosine:.6f}", *_sums(row)] if not row.trouble else ["-"] * 4),
        ]
        + [_reason(row)]
        for row in found
    ]
    return splice.table(["model", "preset", "peer", "difference", "cosine", "Σ ours", "Σ peer", "why"], lines)


def _sums(row: Row) -> list[str]:
    return [f"{row.our_sum:.5g}", f"{row.peer_sum:.5g}"]


def _reason(row: Row) -> str:
    defined = f"definition; else {row.remaining:.0e}" if row.difference > 2 * row.remaining else ""
    if row.verdict == "rounding":
        rounded = (
            f"rounding; in float64 {row.in_float64:.0e}; float32 from that: ours {row.our_error:.0e}, peer {row.peer_error:.0e}"
        )
        return "; ".join(filter(None, (defined, rounded)))
    if row.verdict == "definition":
        return defined
    return row.trouble.partition(":")[0] if row.trouble else "" if row.verdict == "same" else row.verdict


GROUPS: dict[str, Callable[[Row], bool]] = {
    "zennit's composites": lambda row: row.peer.startswith("zennit E") and row.preset.startswith("e"),
    "zennit's rules": lambda row: row.peer.startswith("zennit") and not row.preset.startswith("e"),
    "captum": lambda row: row.peer.startswith("captum"),
}


def main() -> int:
    """Compare them all."""
    parser = argparse.ArgumentParser(description="Compare our relevance with that of zennit and captum.")
    parser.add_argument("--models", nargs="+", metavar="NAME", default=[], help="only these")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    splice.option(parser, "agreement")
    chosen = parser.parse_args()
    real = assets()
    if unknown := set(chosen.models) - {*NETWORKS, *real}:
        parser.error(f"no model {', '.join(sorted(unknown))}; there are {', '.join([*NETWORKS, *real])}")
    if chosen.write and (chosen.models or not real):
        parser.error("--write shows all models, and needs ONNXDTD_ASSETS for the real ones")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in chosen.models or [*NETWORKS, *real]:
            found += map(told, of_model(name, real, Path(temporary)))
    print(summary(found))
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(row) for row in found], indent=1), encoding="utf-8")
    if chosen.write:
        text = f"{summary(found)}\n\n{overview(found)}\n\n{splice.folded('Every comparison', details(found))}"
        splice.write(chosen.write, "agreement", text, ("torch", "torchvision", "zennit", "captum"))
    return int(any(row.verdict == "DIFFERENT" for row in found))


if __name__ == "__main__":
    sys.exit(main())
