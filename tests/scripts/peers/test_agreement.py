"""The rules of zennit and captum against ours: the same, or different by exactly what scripts/results/agreement.md says.

The peers compute in float64, and divide as we do where their stabiliser is not what a test is about.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from nets import Bench, assert_near, eighths, model, node
from pairs import pairs

import onnxdtd
from onnxdtd.method.propagate import propagate
from onnxdtd.method.terms import Context
from onnxdtd.method.toml import Library
from onnxdtd.operators.table import OPERATORS

NEEDED = ("torch", "torchvision", "zennit", "captum")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (the extra [peers])"),
    pytest.mark.filterwarnings("ignore"),
]
LOW, HIGH = -1.25, 1.5  # around all inputs
TOLERANCE = 2e-6  # float32, relative to the largest relevance


@pytest.fixture(scope="module")
def peers() -> ModuleType:
    """The script, which imports PyTorch and the peers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("agreement")


# ---- one layer -------------------------------------------------------------------------------------------------------

# Name: the shape of x, how PyTorch makes the layer, what it is in ONNX.
LAYERS: dict[str, tuple[Sequence[int], Callable[[Any, bool], Any], str, dict[str, Any]]] = {
    "Linear": ((2, 6), lambda nn, bias: nn.Linear(6, 4, bias), "Gemm", {"transB": 1}),
    "Conv2d": ((2, 3, 5, 5), lambda nn, bias: nn.Conv2d(3, 4, 3, bias=bias), "Conv", {}),
    "stride and pads": (
        (2, 2, 7, 6),
        lambda nn, bias: nn.Conv2d(2, 3, 3, (2, 3), (1, 2), bias=bias),
        "Conv",
        {"strides": [2, 3], "pads": [1, 2, 1, 2]},
    ),
    "groups": ((2, 4, 4, 4), lambda nn, bias: nn.Conv2d(4, 6, 2, groups=2, bias=bias), "Conv", {"group": 2}),
    "depthwise": ((2, 3, 5, 5), lambda nn, bias: nn.Conv2d(3, 3, 3, groups=3, bias=bias), "Conv", {"group": 3}),
    "dilation": ((2, 2, 7, 7), lambda nn, bias: nn.Conv2d(2, 3, 3, dilation=2, bias=bias), "Conv", {"dilations": [2, 2]}),
    "Conv1d": ((2, 3, 9), lambda nn, bias: nn.Conv1d(3, 4, 3, 2, bias=bias), "Conv", {"strides": [2]}),
}
RULES: dict[str, Callable[[Any], Any]] = {  # ours, and zennit's with our denominator
    "epsilon": lambda p: p.rules.Epsilon(1e-6),
    "epsilon(epsilon=0.25)": lambda p: p.rules.Epsilon(0.25),
    "z+": lambda p: p.rules.ZPlus(p.divisor, zero_params="bias"),
    "alpha-beta(alpha=1, beta=0)": lambda p: p.rules.ZPlus(p.divisor),
    "alpha-beta": lambda p: p.rules.AlphaBeta(2, 1, p.divisor),
    "gamma": lambda p: p.rules.Gamma(0.25, p.divisor),
    "zB": lambda p: p.rules.ZBox(LOW, HIGH, p.divisor),
    "w2": lambda p: p.rules.WSquare(p.divisor, zero_params="bias"),
    "flat": lambda p: p.rules.Flat(p.divisor),
}


class Layer:
    """A layer with weights and inputs that are multiples of 1/8, for us and for PyTorch."""

    def __init__(self, peers: ModuleType, name: str, bias: bool = True, signed: bool = True, scale: float = 1.0):
        shape, make, self.op, self.attrs = LAYERS[name]
        rng = np.random.default_rng(7)
        self.torch = peers.torch
        self.module = make(peers.torch.nn, bias).double()
        for parameter in self.module.parameters():
            parameter.data = peers.torch.tensor(eighths(rng, *parameter.shape) * scale).double()
        self.x = eighths(rng, *shape, low=-1 if signed else 0)
        self.signed = signed
        self.R = eighths(rng, *self.y.shape)
        self.weights = {"w": self.module.weight, "b": self.module.bias}
        self.weights = {key: p.detach().numpy().astype(np.float32) for key, p in self.weights.items() if p is not None}

    @property
    def y(self) -> np.ndarray:
        """The output."""
        return self.module(self.torch.tensor(self.x).double()).detach().numpy()

    def ours(self, rule: Any, relevance: np.ndarray | None = None) -> np.ndarray:
        """What we say in float32."""
        bench = Bench(
            model([node(self.op, " ".join(["x", *self.weights]), "y", **self.attrs)], {"x": self.x.shape}, ["y"], self.weights)
        )
        e = bench.e
        layer = OPERATORS[self.op].linear(e, bench.nodes[0], lambda tensor: tensor.name in ("x", "y"))
        bounds = tuple(e.constant(np.asarray(bound, np.float32)) for bound in (LOW, HIGH))
        context = Context(lambda tensor: not self.signed and tensor.name == "x", lambda tensor: bounds, lambda tensor: tensor)
        above = bench.input("R", bench.tensors["y"])
        (share,) = propagate(e, layer, Library().rule(rule) if isinstance(rule, str) else rule, above, context)
        given = self.R if relevance is None else relevance.astype(np.float32)
        return bench.session({"relevance": share})(x=self.x, R=given)["relevance"]

    def zennit(self, peers: ModuleType, hook: Any, module: Any = None) -> np.ndarray:
        """What a rule of zennit says in float64."""
        module = module or self.module
        composite = peers.composites.LayerMapComposite([(type(module), hook)])
        x = self.torch.tensor(self.x).double().requires_grad_(True)
        with composite.context(module) as hooked:
            (found,) = self.torch.autograd.grad(hooked(x), x, grad_outputs=self.torch.tensor(self.R).double())
        return found.detach().numpy()


@pytest.mark.parametrize(("rule", "name", "bias", "signed"), pairs(list(RULES), list(LAYERS), [False, True], [False, True]))
def test_zennit_rule(peers: ModuleType, rule: str, name: str, bias: bool, signed: bool) -> None:
    """Each rule of zennit that has weights, divided as we divide."""
    layer = Layer(peers, name, bias, signed)
    assert_near(layer.ours(rule), layer.zennit(peers, RULES[rule](peers)), TOLERANCE)


@pytest.mark.parametrize("pads", [0, 1])
@pytest.mark.parametrize("signed", [False, True], ids=["positive", "signed"])
@pytest.mark.parametrize("rule", ["epsilon", "z+", "flat"])
def test_zennit_average(peers: ModuleType, rule: str, signed: bool, pads: int) -> None:
    """Norm is our ε on averages."""
    layer = Layer(peers, "Conv2d", False, signed)
    pool = peers.torch.nn.AvgPool2d(2, 1, pads, count_include_pad=True)
    hook = {
        "epsilon": lambda: peers.rules.Norm(1e-6),
        "z+": peers.positive_sum,
        "flat": lambda: peers.rules.Flat(peers.divisor),
    }
    layer.op, layer.weights = "AveragePool", {}
    layer.attrs = {"kernel_shape": [2, 2], "pads": [pads] * 4, "count_include_pad": 1}
    layer.module = pool
    layer.R = eighths(np.random.default_rng(8), *layer.y.shape)
    assert_near(layer.ours(rule), layer.zennit(peers, hook[rule](), pool), TOLERANCE)


# ---- where definitions differ ----------------------------------------------------------------------------------------


TOML = """
[rule.stabilised]
params = { epsilon = 1e-6 }
epsilon = "epsilon"
terms = ["x+ w+", "x- w-"]
bias = "b+"
"""


def test_stabiliser_of_zennit(peers: ModuleType, tmp_path: Path) -> None:
    """1e-6 in every rule: nothing beside a denominator of 1, much beside one of 1e-5; as a rule of one's own it is the same."""
    layer = Layer(peers, "Conv2d", scale=2.0**-18)
    (tmp_path / "mine.toml").write_text(TOML, encoding="utf-8")
    library = Library()
    library.load(tmp_path / "mine.toml")
    shipped, ours = layer.zennit(peers, peers.rules.ZPlus()), layer.ours("alpha-beta(alpha=1, beta=0)")
    assert_near(layer.ours(library.rule("stabilised")), shipped, TOLERANCE)
    assert np.abs(ours - shipped).max() > 0.05 * np.abs(shipped).max()


def test_bias_in_z_plus(peers: ModuleType) -> None:
    """zennit's ZPlus has the positive bias in its denominator, our z+ has none; AlphaBeta(1, 0) is ZPlus."""
    layer = Layer(peers, "Linear")
    shipped = layer.zennit(peers, peers.rules.ZPlus())
    assert_near(shipped, layer.zennit(peers, peers.rules.AlphaBeta(1, 0)), 1e-12)
    x, w, b = layer.x.astype(np.float64), layer.weights["w"], layer.weights["b"]
    z = x.clip(min=0) @ w.clip(min=0).T + x.clip(max=0) @ w.clip(max=0).T
    assert (b > 0).any()
    assert_near(layer.ours("z+", layer.R * z / (z + b.clip(min=0) + 1e-6)), shipped, TOLERANCE)
    assert np.abs(layer.ours("z+") - shipped).max() > 0.05 * np.abs(shipped).max()


def test_bias_in_w_square(peers: ModuleType) -> None:
    """zennit's WSquare counts b² among the squares."""
    layer = Layer(peers, "Linear")
    shipped = layer.zennit(peers, peers.rules.WSquare())
    squares = (layer.weights["w"].astype(np.float64) ** 2).sum(1)
    kept = squares / (squares + layer.weights["b"].astype(np.float64) ** 2 + 1e-6)
    assert_near(layer.ours("w2", layer.R * kept), shipped, TOLERANCE)
    assert np.abs(layer.ours("w2") - shipped).max() > 0.05 * np.abs(shipped).max()


def test_merged_normalisation_of_zennit(peers: ModuleType) -> None:
    """Its canonizer leaves 1/√(1 + ε) of a merged BatchNormalization; without that the module computes what it did."""
    torch = peers.torch
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3, eps=0.25), torch.nn.ReLU()).double().eval()
    x = torch.randn(1, 2, 5, 5, dtype=torch.float64)
    before = net(x).detach().numpy()
    for canonizer, factor in [(peers.SequentialMergeBatchNorm(), 1.25**-0.5), (peers.ExactMerge(), 1.0)]:
        instances = canonizer.apply(net)
        assert_near(net(x).detach().numpy(), before * factor, 1e-12)
        for instance in instances:
            instance.remove()
        assert_near(net(x).detach().numpy(), before, 1e-12)


# ---- small nets ------------------------------------------------------------------------------------------------------


def subject(peers: ModuleType, folder: Path, module: Any, shape: Sequence[int], positive: bool = False) -> Any:
    """A network with seeded weights, exported, and its rebuilt twins."""
    torch = peers.torch
    module = module.eval()
    x = np.random.default_rng(3).standard_normal(shape).clip(-3, 3).astype(np.float32)
    x = np.abs(x) if positive else x
    path = folder / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.from_numpy(x),), path, dynamo=False, opset_version=17)
    proto, logits = peers.predictor(path)
    twins = [peers.Rebuilt(proto, logits, add) for add in (peers.Added, peers.Addition_Module)]
    return peers.Subject("net", path, x, [-3.0] * shape[1], [3.0] * shape[1], *twins, twins[0])


def residual(peers: ModuleType) -> Any:
    """Convolutions, normalisation before and behind one, a residual sum, both poolings, two dense layers."""
    torch = peers.torch
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 8, 3, 2)
            self.norm, self.alone = nn.BatchNorm2d(6), nn.BatchNorm2d(8)
            self.up, self.down = nn.Linear(8, 10), nn.Linear(10, 4)

        def forward(self, x: Any) -> Any:
            h = nn.functional.max_pool2d(torch.relu(self.a(x)), 2)
            h = torch.relu(h + self.norm(self.b(h)))
            h = torch.relu(self.alone(nn.functional.avg_pool2d(torch.relu(self.c(h)), 2, 1)))
            return self.down(torch.relu(self.up(nn.functional.adaptive_avg_pool2d(h, 1).flatten(1))))

    torch.manual_seed(4)
    net = Net()
    for norm in (net.norm, net.alone):
        for values in (norm.weight.data, norm.running_var):
            values.uniform_(0.5, 1.5)
        for values in (norm.bias.data, norm.running_mean):
            values.normal_(std=0.2)
    return net


def plain(peers: ModuleType) -> Any:
    """Layers with nothing but ReLU between them."""
    nn = peers.torch.nn
    peers.torch.manual_seed(2)
    return nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(180, 12), nn.ReLU(), nn.Linear(12, 3))


@pytest.mark.parametrize(
    ("make", "size", "definitions"), [(plain, 8, set()), (residual, 16, {"excitation-backprop", "deeplift-rescale"})]
)
def test_small_net(peers: ModuleType, tmp_path: Path, make: Callable[[Any], Any], size: int, definitions: set[str]) -> None:
    """Every composite of zennit as shipped, every rule, and captum. ExcitationBackprop leaves normalisation to autograd,
    DeepLift loses a part where a max pool stands behind a Relu.
    """
    found = list(peers.rows(subject(peers, tmp_path, make(peers), (1, 2, size, size))))
    assert len(found) == 16
    assert [row.trouble for row in found if row.trouble] == []
    for row in found:
        wanted = "definition" if row.preset in definitions else "same"
        assert (row.preset, row.peer, row.verdict) == (row.preset, row.peer, wanted)
        assert row.remaining < 2e-5, row


def test_in_float64_nothing_is_left(peers: ModuleType, tmp_path: Path) -> None:
    """With the weights of the file, and all arithmetic in 64 bits."""
    net = subject(peers, tmp_path, residual(peers), (1, 2, 16, 16))
    x = peers.torch.from_numpy(net.x).double()
    module = net.twin.double()
    target = int(module(x).argmax())
    for preset, _, make, exactly in peers.ZENNIT:
        ours = peers.double.relevance(net.path, preset, net.x, target, low=net.low, high=net.high)
        assert ours.dtype == np.float64
        assert_near(ours, peers.by_zennit(module, x, target, (exactly or make)(net.setting())), 1e-12)


def test_a_difference_is_found(peers: ModuleType, tmp_path: Path) -> None:
    """Another rule than the preset's, and the wrong ε, are neither rounding nor a stabiliser."""
    net = subject(peers, tmp_path, plain(peers), (1, 2, 8, 8))
    setting = net.setting()

    def verdict(make: Any) -> str:
        explain = lambda module, x, target: peers.by_zennit(module, x, target, make(setting))
        return peers.compared(net, "lrp-epsilon", "", net.for_zennit, explain, explain).verdict

    rules = peers.rules
    assert verdict(peers.everywhere(lambda: rules.Epsilon(1e-6), lambda: rules.Norm(1e-6))) == "same"
    assert verdict(peers.everywhere(lambda: rules.Epsilon(1e-3), lambda: rules.Norm(1e-6))) == "DIFFERENT"
    assert verdict(peers.everywhere(lambda: rules.ZPlus(), lambda: rules.Norm(1e-6))) == "DIFFERENT"


def test_captum_is_our_rule_on_positive_inputs(peers: ModuleType, tmp_path: Path) -> None:
    """Without biases Alpha1_Beta0_Rule is z+ where inputs are ≥ 0. Of its own accord it keeps the bias, with its sign."""
    rule = lambda: peers.captum_rules.Alpha1_Beta0_Rule(set_bias_to_zero=True)
    net = subject(peers, tmp_path, plain(peers), (1, 2, 8, 8), positive=True)
    x = peers.torch.from_numpy(net.x)
    target = int(net.for_captum(x).argmax())

    def ours(*settings: str) -> np.ndarray:
        compiled = onnxdtd.compile(net.path, "excitation-backprop", settings=list(settings), low=0.0, high=3.0, target="input")
        return peers.relevance(compiled, net.x, target)

    zeroed = peers.by_captum(net.for_captum, x, target, rule, 1e-9)
    kept = peers.by_captum(net.for_captum, x, target, peers.captum_rules.Alpha1_Beta0_Rule, 1e-9)
    assert_near(ours(), zeroed, 1e-5)
    assert np.abs(kept - zeroed).max() > 0.01 * np.abs(zeroed).max()


def test_ties_in_max_pooling(peers: ModuleType, tmp_path: Path) -> None:
    """Of equal winners the first takes all, in zennit and captum as here."""
    nn = peers.torch.nn
    peers.torch.manual_seed(1)
    net = subject(peers, tmp_path, nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)), (1, 2, 4, 4))
    net.x[:] = 0.5
    first = ("dtd", "dtd-w2", "epsilon-plus-flat", "epsilon-alpha2beta1-flat")  # for us no layer behind a pooling is the first
    found = [row for row in peers.rows(net) if row.preset not in first]
    assert [row.verdict for row in found] == ["same"] * 12
    compiled = onnxdtd.compile(net.path, "lrp-epsilon", target="input")
    relevance = peers.relevance(compiled, net.x, 0)[0]
    corner = np.zeros((4, 4), bool)
    corner[::2, ::2] = True
    assert (relevance[:, corner] != 0).all()
    assert not relevance[:, ~corner].any()


def test_a_winner_of_zero_in_captum(peers: ModuleType, tmp_path: Path) -> None:
    """It loses its relevance, which BatchNormalization has given it."""
    nn = peers.torch.nn
    peers.torch.manual_seed(1)
    net = nn.Sequential(nn.MaxPool2d(2), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    net[1].running_mean -= 1
    net = subject(peers, tmp_path, net, (1, 2, 4, 4), positive=True)
    net.x[0, 0, :2, :2] = 0
    (row,) = (row for row in peers.rows(net) if row.peer == "captum GammaRule")
    assert row.verdict == "definition"
    assert row.difference > 0.01
    assert row.remaining < TOLERANCE
