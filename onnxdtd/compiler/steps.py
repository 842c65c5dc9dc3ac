"""From a graph to a list of steps, as plain data: what is explained, where it starts, which node gets which rule.

Nothing is passed over silently: a node on the way from the input to the logits that has no rule is a problem, and all
problems are reported at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from onnxdtd.compiler.samples import Samples
from onnxdtd.errors import ModelError, Problem, RequestError, Unsupported, suggestion
from onnxdtd.graph.emit import Emit, dims, label
from onnxdtd.graph.spelled import views
from onnxdtd.graph.tensors import Graph, Node, Tensor
from onnxdtd.method.propagate import Rule
from onnxdtd.method.toml import LayerFacts, Preset
from onnxdtd.operators.axes import Axes
from onnxdtd.operators.linear import LINEAR, Layer, NotLinear, constant_value, followed_by
from onnxdtd.operators.moves import MOVE, PASS, ROUTE, Flow, is_byte, is_float, never_negative
from onnxdtd.operators.products import FROZEN, factors, held, product
from onnxdtd.operators.slopes import DERIVATIVE

HEADS = (
    "Softmax",
    "LogSoftmax",
    "Sigmoid",
    "ArgMax",
    "LinearClassifier",
    "Normalizer",
    "ZipMap",
)  # stepped back over: relevance starts from the logit
TRANSPARENT = ("Identity", "Cast", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze")  # ... with what is between
LABELS = ("ArgMax", "LinearClassifier")  # heads that choose a class
STRAIGHT = ("Identity", "Dropout", "Cast", "QuantizeLinear", "DequantizeLinear")  # derivative 1
SIGMOID = {"Add": "Reciprocal", "Exp": "Add"}  # which operator is before which in 1 / (1 + exp(-x))
KERNEL_SHAP = "KernelSHAP (shap.KernelExplainer), which takes any function"
TREES = ("trees, which are constant almost everywhere", "TreeSHAP (shap.TreeExplainer) on the model that was exported")
UNDEFINED = {  # what relevance is not defined on, and what people use instead
    **dict.fromkeys(("TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor"), TREES),
    **dict.fromkeys(("SVMClassifier", "SVMRegressor"), ("support vector machines", KERNEL_SHAP)),
    "CDist": ("distances to neighbours", KERNEL_SHAP),
}
MOVERS = {"ArrayFeatureExtractor", "Compress", "GatherElements", "GatherND", "ScatterElements", "ScatterND", "TopK"}
MOVERS |= {"ReverseSequence", "Einsum", "GridSample", "Unique", *MOVE}  # their results are not where they came from
NO_RELEVANCE = ("Shape", "Size", "ConstantOfShape", "ArgMax", "ArgMin")
MIXING = ("conv", "dense", "average")  # families of layers that add up entries of one input
MONOTONE = ("Relu", "LeakyRelu", "Clip", "Sigmoid", "Tanh", "Elu", "Selu", "Celu", "Softplus", "Erf", *STRAIGHT)  # keep bounds


class NoScores(ModelError):
    """No output is the score of a classifier, but an inner tensor may be."""


@dataclass(frozen=True)
class Step:
    """One or more nodes that relevance takes at once: how it gets from ``outputs`` to ``inputs``."""

    kind: str  # linear, preprocessing, pass, move or route
    nodes: tuple[Node, ...]
    outputs: tuple[Tensor, ...]
    inputs: tuple[Tensor | None, ...]
    layer: Layer | None = None
    facts: LayerFacts | None = None
    rule: Rule | None = None
    flow: Flow | None = None

    @property
    def name(self) -> str:
        """The name of the first node."""
        return label(self.nodes[0])

    @property
    def op(self) -> str:
        """The operators, joined by +."""
        return "+".join(node.op for node in self.nodes)


@dataclass(frozen=True)
class Plan:
    """What will be compiled."""

    inputs: list[Tensor]
    output: str
    logits: Tensor
    derivative: str | None
    steps: list[Step]
    stepped_back: list[Node]
    producer: Mapping[str, Node]
    active: Callable[[Tensor], bool]
    nonnegative: Callable[[Tensor], bool]
    notes: list[
        str
    ]  # what the caller ought to know: entries of a rule file that fit nothing, first layers by weights alone, ...
    samples: Samples
    preset: str
    by_weights: list[str]  # first layers that share relevance out by their weights alone


@dataclass(frozen=True)
class Start:
    """Where relevance starts: the output that is explained, the logits behind it, the nodes stepped back over, the samples."""

    output: str
    logits: Tensor
    stepped_back: list[Node]
    samples: Samples


@dataclass
class Facts:
    """What holds for tensors, by name: ``active`` depends on an explained input; ``raw`` is an explained input up to a
    one-to-one transformation, and ``bounded`` is raw with bounds; ``nonnegative`` is provably ≥ 0.
    """

    active: set[str]
    nonnegative: set[str]
    raw: set[str] = field(default_factory=set)
    bounded: set[str] = field(default_factory=set)

    def is_active(self, tensor: Tensor) -> bool:
        """Does it depend on an explained input?"""
        return tensor.name in self.active

    def stay_raw(self, sources: Collection[Tensor], results: Iterable[Tensor]) -> None:
        """What comes of raw sources is raw, and has bounds if all of them have."""
        names = {t.name for t in results}
        self.raw |= names
        if all(t.name in self.bounded for t in sources):
            self.bounded |= names

    def is_nonnegative(self, tensor: Tensor) -> bool:
        """Is it provably ≥ 0?"""
        if tensor.name in self.nonnegative:
            return True
        value = None if tensor.name in self.active else constant_value(tensor)
        return value is not None and bool(np.all(value >= 0))


def plan(
    e: Emit,
    graph: Graph,
    explained: Sequence[Tensor],
    presets: Sequence[Preset],
    *,
    inputs: Collection[str] = (),
    output: str | None = None,
    keep: Sequence[str] = (),
    bounded: Collection[str] = (),
    allow: Mapping[str, str] | None = None,
) -> Plan:
    """Plan the explanation of ``output`` in terms of the inputs ``explained``; all else that goes in counts as constant.

    Of several ``presets``, none of them a derivative, the first is taken that does not share relevance out by weights alone, or
    the last. ``inputs`` are all that a caller feeds, ``keep`` names tensors whose relevance is wanted too, ``bounded`` are the
    inputs whose bounds are known, ``allow`` maps operators and nodes to ``"pass"``. Raises ``Unsupported`` with every problem,
    ``ModelError`` where there is nothing to explain, ``RequestError`` for an unknown name.
    """
    if not explained:
        raise ModelError("the model has no floating-point input; only those can be explained" + _bfloat16(graph))
    nodes = views(e, list(graph.nodes))
    facts = _facts(nodes, explained)
    producer = {t.name: node for node in nodes for t in node.outputs}
    fed = [t for t in graph.inputs if t.name in inputs] or explained
    follow = lambda candidate, logits: Samples(Axes(before(nodes, candidate), fed, allow or ()), fed, logits)
    start = _start(graph, output, facts, producer, follow)
    logits = start.logits
    derivative = presets[0].derivative is not None
    carriers = _carriers(nodes, logits, facts, producer, derivative)
    explained = [t for t in explained if t.name in carriers]
    if not explained:
        raise NoScores(f"the output {start.output!r} does not depend on a floating-point input")
    _check_keep(keep, carriers)
    facts.raw |= {t.name for t in explained}
    facts.bounded |= facts.raw & {*bounded}
    pinned = {*keep, logits.name, *(t.name for t in graph.outputs)}
    steps = _Stepper(e, facts, producer, allow or {}, derivative, carriers).steps(nodes, pinned)
    if start.samples.doubt is not None:
        raise ModelError(f"{start.samples.doubt}; export the model with a batch of one sample in front")
    preset, steps, notes = _with_rules(steps, presets)
    return Plan(
        explained,
        start.output,
        logits,
        preset.derivative,
        steps,
        start.stepped_back,
        producer,
        facts.is_active,
        facts.is_nonnegative,
        notes,
        start.samples,
        preset.name,
        by_weights(steps),
    )


def explainable(graph: Graph, inputs: Sequence[str], chosen: Sequence[str] = ()) -> list[Tensor]:
    """The inputs to explain: those ``chosen`` among ``inputs``, or all of floats, or where there are none those of uint8, of a
    model that scales pixels itself. Raises ``RequestError`` for a choice that is none.
    """
    known = {t.name: t for t in graph.inputs if t.name in inputs}
    for name in chosen:
        if name not in known:
            raise RequestError(f"--explain {name!r}: the model has no such input{suggestion(name, known) or _has(known)}")
        if not is_float(known[name].dtype) and not is_byte(known[name].dtype):
            raise RequestError(
                f"--explain {name!r}: is {known[name].dtype}; only floating-point inputs and pixels can be explained"
            )
    if chosen:
        return [t for name, t in known.items() if name in chosen]
    return [t for t in known.values() if is_float(t.dtype)] or [t for t in known.values() if is_byte(t.dtype)]


def _has(names: Mapping[str, object]) -> str:
    return f"; it has {', '.join(map(repr, names))}"


def _facts(nodes: Sequence[Node], explained: Sequence[Tensor]) -> Facts:
    """Walk forward once."""
    facts = Facts({t.name for t in explained}, set())
    for node in nodes:
        if node.op in NO_RELEVANCE or not any(t.name in facts.active for t in reads(node)):
            continue
        positive = never_negative(node, facts.is_nonnegative)
        # An integer depends on the input in a way that relevance can follow only if it is a quantised number.
        quantised = any(t.name in facts.active and not is_float(t.dtype) for t in node.inputs)
        for result in node.outputs:
            if result.dtype is None or is_float(result.dtype) or node.op == "QuantizeLinear" or quantised:
                facts.active.add(result.name)
                if positive:
                    facts.nonnegative.add(result.name)
    return facts


def reads(node: Node) -> list[Tensor]:
    """The inputs of a node, and what the branches of an If or the body of a Loop read from outside."""
    graphs = [value for value in node.attrs.values() if isinstance(value, Graph)]
    return [*node.inputs, *(t for graph in graphs for inner in graph.nodes for t in reads(inner))]


def _carriers(nodes: Sequence[Node], logits: Tensor, facts: Facts, producer: Mapping[str, Node], derivative: bool) -> set[str]:
    """The names of all tensors that relevance can reach from ``logits``; none behind a factor that counts as a constant."""
    wanted = {logits.name} & facts.active
    for node in reversed(nodes):
        if any(t.name in wanted for t in node.outputs):
            constant = set() if derivative else held(node, facts.is_active, producer)
            wanted.update(t.name for i, t in enumerate(reads(node)) if t.name in facts.active and i not in constant)
    return wanted


# ------------------------------------------------------------------------------------------------ where relevance starts


def before(nodes: Sequence[Node], tensor: Tensor) -> list[Node]:
    """The nodes that a tensor depends on, in their order."""
    wanted, needed = {tensor.name}, []
    for node in reversed(nodes):
        if any(t.name in wanted for t in node.outputs):
            wanted.update(t.name for t in reads(node))
            needed.append(node)
    return needed[::-1]


def _start(
    graph: Graph,
    output: str | None,
    facts: Facts,
    producer: Mapping[str, Node],
    follow: Callable[[Tensor, Tensor], Samples],
) -> Start:
    """Where relevance starts; ``follow`` finds the samples on the way to an output and its logits."""
    tensors = graph.tensors()
    if output is not None:
        if output not in tensors:
            scores = [t.name for t in tensors.values() if t.producer and facts.is_active(t) and _is_classifier(t)]
            raise RequestError(f"no tensor {output!r} in the model{suggestion(output, scores)}")
        if any(t.name == output for t in graph.inputs):
            raise RequestError(
                f"--output {output!r}: is an input of the model; give an output, or a tensor computed from inputs"
            )
        candidates = [tensors[output]]
    else:
        candidates = sorted(graph.outputs, key=lambda t: not is_float(t.dtype))  # scores rather than labels
    starts: list[Start] = []
    positions: list[str] = []  # outputs with scores for several positions of a sample
    for candidate in candidates:
        logits, stepped_back = step_back(candidate, producer, facts.is_active)
        if not facts.is_active(logits):
            continue
        cells = not _is_classifier(logits) and _are_cells(candidate, stepped_back)
        samples = follow(candidate, logits) if cells or _is_classifier(logits) else None
        if samples is None or samples.positions or (cells and follow(candidate, candidate).positions):
            positions += [candidate.name] if is_float(candidate.dtype) and len(dims(candidate) or ()) > 1 else []
        else:
            starts.append(Start(candidate.name, logits, stepped_back, samples))
    starts = [start for start in starts if start.samples.doubt is None] or starts[:1]
    found = {start.logits.name: start for start in reversed(starts)}
    # Of outputs from the same logits, one that steps back knows more of them: a sigmoid makes two classes of one.
    found |= {start.logits.name: start for start in reversed(starts) if start.stepped_back}
    labelled = {start.logits.name for start in starts if any(node.op in LABELS for node in start.stepped_back)}
    if len(found) == 1 or len(labelled) == 1:
        return found[next(iter(labelled or found))]
    shapes = "; ".join(f"{t.name} {_shape_text(t)}" for t in candidates)
    if not found:
        raise NoScores(
            f"no output is the score of a classifier, [batch, classes], that depends on a floating-point input: {shapes}"
            + (f"; {positions[0]!r} has scores for several positions: export the model with one picked" if positions else "")
            + _bfloat16(graph)
        )
    choices = "; ".join(f"{s.output} {_shape_text(tensors[s.output])}" for s in reversed(found.values()))
    raise RequestError(f"the model has several outputs, choose one with --output: {choices}")


def _bfloat16(graph: Graph) -> str:
    """What to say where a model computes in bfloat16, which numpy does not have."""
    kinds = {str(t.dtype) for t in graph.tensors().values()}
    return "; bfloat16 is not supported, export in float32 or float16" if kinds & {"bfloat16", "16"} else ""


def step_back(tensor: Tensor, producer: Mapping[str, Node], active: Callable[[Tensor], bool]) -> tuple[Tensor, list[Node]]:
    """The tensor before the last Softmax, Sigmoid, ArgMax ... and the nodes from there on."""
    logits, walked, stepped_back = tensor, [], []
    while (node := producer.get(tensor.name)) is not None:
        sigmoid = _spelled_sigmoid(node, producer)
        before = sigmoid or _before(node, producer, active)
        if before is None:
            break
        tensor = before
        walked.append(node)
        if node.op in HEADS or sigmoid is not None:
            logits, stepped_back = tensor, list(walked)
    return logits, stepped_back[::-1]


def _before(node: Node, producer: Mapping[str, Node], active: Callable[[Tensor], bool]) -> Tensor | None:
    """What a node at the end takes its scores or labels from, if it leaves the largest the largest."""
    if node.op in (*HEADS, *TRANSPARENT):
        source: Tensor = node.inputs[0]
        return source
    if node.op == "ArrayFeatureExtractor":  # labels by the arg-max, or some of the scores
        return node.inputs[1 if node.inputs[1].name in producer else 0]
    if node.op == "Add":  # the same to every class
        x, other = node.inputs if active(node.inputs[0]) else node.inputs[::-1]
        return x if not active(other) and _is_row(other) else None
    if node.op == "Div":  # probabilities one against the rest, brought to the sum 1
        x, total = node.inputs
        same = _root(x, producer, active) == _root(total, producer, active)
        return x if same and _is_row(total) and not _is_row(x) else None
    if node.op == "Concat" and len(node.inputs) == 2:  # the probabilities 1 - p and p of two classes
        rest, p = node.inputs
        made = producer.get(rest.name)
        pair = made is not None and made.op == "Sub" and made.inputs[1].name == p.name
        return p if pair and _is_row(p) and node.attrs["axis"] in (1, -1) else None
    return None


def _root(tensor: Tensor, producer: Mapping[str, Node], active: Callable[[Tensor], bool]) -> str:
    """The tensor that a sum over classes is the sum of."""
    while (node := producer.get(tensor.name)) is not None and node.op in ("Abs", "Add", "ReduceSum", "ReduceL1"):
        sources = [t for t in node.inputs if active(t)]
        if len(sources) != 1:
            break
        tensor = sources[0]
    return tensor.name


def _is_row(tensor: Tensor) -> bool:
    """Is it one number for each sample, [batch, 1]?"""
    sizes = dims(tensor)
    return sizes is not None and len(sizes) == 2 and sizes[1] == 1


def _spelled_sigmoid(node: Node, producer: Mapping[str, Node]) -> Tensor | None:
    """The x of 1 / (1 + exp(−x)) written out."""
    for op in ("Add", "Exp"):
        inner = None if node.op != SIGMOID[op] else next((producer[t.name] for t in node.inputs if t.name in producer), None)
        if inner is None or inner.op != op:
            return None
        node = inner
    negated = producer.get(node.inputs[0].name)
    if negated is None or negated.op not in ("Neg", "Mul"):
        return None
    values = [constant_value(t) for t in negated.inputs[1:]]
    minus = negated.op == "Neg" or (values[0] is not None and bool((values[0] == -1).all()))
    return negated.inputs[0] if minus else None


def _is_classifier(tensor: Tensor) -> bool:
    """Is it [classes], [batch, classes] or [batch, classes, 1, ...]?"""
    sizes = dims(tensor)
    return sizes is None or len(sizes) in (1, 2) or (len(sizes) > 2 and all(d == 1 for d in sizes[2:]))


def _are_cells(scores: Tensor, stepped_back: Sequence[Node]) -> bool:
    """Are the scores those of a map, each squashed by itself and then laid out as [batch, cells]?"""
    alone = all(node.op == "Sigmoid" or node.op in TRANSPARENT for node in stepped_back)
    return alone and len(dims(scores) or ()) == 2


def _shape_text(tensor: Tensor) -> str:
    return "of unknown shape" if tensor.shape is None else "[" + ", ".join(str(d) for d in tensor.shape) + "]"


def _check_keep(keep: Sequence[str], carriers: set[str]) -> None:
    for name in keep:
        if name not in carriers:
            raise RequestError(f"--keep {name!r}: relevance does not pass through such a tensor{suggestion(name, carriers)}")


# --------------------------------------------------------------------------------------------------------------- steps


class _Stepper:
    """Makes the steps: one for each node, or fused chain of nodes, that carries relevance."""

    def __init__(
        self,
        e: Emit,
        facts: Facts,
        producer: Mapping[str, Node],
        allow: Mapping[str, str],
        derivative: bool,
        carriers: set[str],
    ):
        self.e, self.facts, self.producer, self.derivative, self.carriers = e, facts, producer, derivative, carriers
        self.idle = dict(allow)  # what nothing has needed yet
        self.allow = allow

    def steps(self, nodes: Sequence[Node], pinned: set[str]) -> list[Step]:
        """All steps in the order of the graph. Raises ``Unsupported`` with every problem.

        ``pinned`` tensors are looked at by somebody: nothing is fused over them.
        """
        consumers: dict[str, list[Node]] = {}
        for node in nodes:
            for t in node.inputs:
                consumers.setdefault(t.name, []).append(node)
        steps: list[Step] = []
        problems: list[Problem] = []
        done: set[int] = set()
        for node in nodes:
            if id(node) in done or not any(t.name in self.carriers for t in node.outputs):
                continue
            self.e.scope = label(node)
            try:
                step = self.step(node)
                if step.kind == "linear" and not self.derivative:
                    step = self.fused(step, consumers, pinned)
            except NotLinear as error:
                problems.append(problem(node, str(error), self.obstacle(node)))
                continue
            done.update(id(n) for n in step.nodes)
            steps.append(step)
        if problems:
            raise Unsupported(problems)
        for key in self.idle:
            met = {name for step in steps for node in step.nodes for name in (node.op, label(node))}
            raise RequestError(f"--allow {key}=pass: relevance meets no operator or node {key!r}{suggestion(key, met)}")
        return steps

    def step(self, node: Node) -> Step:
        """The step for a node. Raises ``NotLinear`` where there is none. Notes which outputs are raw."""
        active, raw = self.facts.is_active, self.facts.raw
        key = self.allowance(node)
        if key is not None:
            return self.allowed(key, node)
        if node.domain not in (None, "", "ai.onnx"):
            raise NotLinear("there is no rule for operators of this domain")
        if len(factors(node, active)) > 1:
            constant = set() if self.derivative else held(node, active, self.producer)
            layer = product(self.e, node, active, constant, self.derivative)
            return self.linear(node, layer, "linear" if self.derivative else "gate")
        for table in (LINEAR, DERIVATIVE if self.derivative else FROZEN):
            if node.op in table:
                layer = table[node.op](self.e, node, active)
                if layer.one_to_one and not self.derivative and all(slot.x.name in raw for slot in layer.slots):
                    self.facts.stay_raw([slot.x for slot in layer.slots], node.outputs)
                    return self.linear(node, layer, "preprocessing")
                return self.linear(node, layer, "linear")
        if node.op in ("Max", "Min") and not self.derivative and sum(map(active, node.inputs)) == 1:
            return self.flow("pass", node, PASS["Identity"])  # a bound, as in Clip
        if node.op in ROUTE:
            return self.flow("route", node, ROUTE[node.op])
        if node.op in MOVE:
            return self.flow("move", node, MOVE[node.op])
        if node.op in PASS and (not self.derivative or node.op in STRAIGHT):
            return self.flow("pass", node, PASS[node.op])
        raise NotLinear("there is no derivative of this operator" if self.derivative else "there is no rule for this operator")

    def allowance(self, node: Node) -> str | None:
        """By which operator or name it was said that relevance passes this node, if it was."""
        return next((key for key in (node.op, label(node)) if key in self.allow), None)

    def ends(self, node: Node) -> tuple[list[Tensor], list[Tensor]]:
        """What relevance would leave a node by, and what it comes to it by."""
        sources = {t.name: t for t in reads(node) if self.facts.is_active(t)}
        return list(sources.values()), [t for t in node.outputs if t.name in self.carriers]

    def obstacle(self, node: Node) -> str:
        """Why relevance cannot pass a node as it is; nothing where it can."""
        if node.op in UNDEFINED:
            return undefined(*UNDEFINED[node.op])
        if node.op in MOVERS:
            return "it moves entries, so that relevance would end in the wrong place"
        sources, results = self.ends(node)
        if len(sources) > 1:
            return "several of its inputs depend on the explained one: " + ", ".join(repr(t.name) for t in sources[:3])
        if len(results) > 1:
            return "several of its outputs have relevance: " + ", ".join(repr(t.name) for t in results[:3])
        (x,), (y,) = sources, results
        if all(t is not x for t in node.inputs):
            given = node.op == "If" and node.inputs[0].name not in self.producer
            way = f"; make its condition {node.inputs[0].name!r} a constant, and the branch taken replaces it" if given else ""
            return f"it reads {x.name!r} from inside of its branches{way}"
        if y.shape is None:
            return f"the shape of its output {y.name!r} is not known; declare it in the model if it is that of {x.name!r}"
        if x.shape != y.shape or not all(isinstance(size, str | int) for size in y.shape):
            return f"its input {x.name!r} is {_shape_text(x)} and its output {y.name!r} is {_shape_text(y)}"
        return ""

    def allowed(self, key: str, node: Node) -> Step:
        """A step that somebody decided on. Raises ``RequestError`` where relevance would not be that of the input."""
        obstacle = self.obstacle(node)
        if obstacle:
            raise RequestError(f"--allow {key}=pass: {label(node)!r} ({node.op}) cannot be passed, since {obstacle}")
        self.idle.pop(key, None)
        (x,), (y,) = self.ends(node)
        return Step("pass", (Node(node.op, label(node), [x], [y]),), (y,), (x,), flow=PASS["Identity"])

    def linear(self, node: Node, layer: Layer, kind: str) -> Step:
        """A step by a rule, or of preprocessing, which passes relevance as it is."""
        sources = tuple(slot.x for slot in layer.slots)
        if any(t.dtype is not None and not is_float(t.dtype) for t in sources):
            raise NotLinear("it computes with integers")
        if kind == "preprocessing":
            return Step(kind, (node,), tuple(node.outputs), sources, layer, flow=PASS["Identity"])
        layer = replace(layer, exact=node.exact)
        first = all(x.name in self.facts.raw for x in sources)
        bounds = all(x.name in self.facts.bounded for x in sources)
        facts = LayerFacts(label(node), node.op, layer.family, first, bounds)
        return Step(kind, (node,), (layer.y,), sources, layer, facts)

    def flow(self, kind: str, node: Node, flow: Flow) -> Step:
        """A step that no rule decides."""
        sources = tuple(t if self.facts.is_active(t) else None for t in node.inputs)
        known = list({t.name: t for t in sources if t is not None}.values())
        if kind == "pass":
            if len(known) > 1:
                raise NotLinear("several of its inputs depend on the explained one")
            sources = tuple(known)
        keeps_bounds = kind == "move" or (node.op in MONOTONE and node.attrs.get("alpha", 1.0) >= 0)
        if keeps_bounds and all(t.name in self.facts.raw for t in known):
            self.facts.stay_raw(known, node.outputs)
        return Step(kind, (node,), tuple(node.outputs), sources, flow=flow)

    def fused(self, step: Step, consumers: Mapping[str, list[Node]], pinned: set[str]) -> Step:
        """The step with the Adds of constants and BatchNormalizations behind it, as long as nobody else looks between."""
        layer, nodes = step.layer, list(step.nodes)
        assert layer is not None
        while len(consumers.get(layer.y.name, ())) == 1 and layer.y.name not in pinned:
            (node,) = consumers[layer.y.name]
            alone = node.domain or self.allowance(node) is not None
            whole = None if alone else followed_by(self.e, layer, node, self.facts.is_active)
            if whole is None:
                break
            layer = whole
            nodes.append(node)
        return replace(step, nodes=tuple(nodes), outputs=(layer.y,), layer=layer)


def undefined(what: str, instead: str) -> str:
    """That no rule of this family is for such a model."""
    return f"relevance is not defined on {what}; people use {instead}"


def problem(node: Node, reason: str, obstacle: str = "") -> Problem:
    """Why a node cannot carry relevance, and why it cannot be allowed to pass either; the ways out come later."""
    op = f"{node.domain}.{node.op}" if node.domain else node.op
    return Problem(op, label(node), reason, f"--allow does not help, since {obstacle}" if obstacle else "")


def _with_rules(steps: Sequence[Step], presets: Sequence[Preset]) -> tuple[Preset, list[Step], list[str]]:
    """The preset that is taken, the steps with a rule for every layer, and what the caller ought to know about that."""
    tried = [_ruled(steps, preset) for preset in presets]
    place = next((i for i, ruled in enumerate(tried) if not by_weights(ruled)), len(presets) - 1)
    preset, ruled = presets[place], tried[place]
    notes = preset.unused([step.facts for step in ruled if step.facts is not None])
    if place:
        notes.insert(0, f"the preset is {preset.name}, since {presets[0].name}, without bounds, {_blindly(tried[0])}")
    elif by_weights(ruled):
        notes.append(f"the preset {preset.name} {_blindly(ruled)}; give --low and --high, or choose another --preset")
    return preset, ruled, notes


def _ruled(steps: Sequence[Step], preset: Preset) -> list[Step]:
    """The steps with a rule for every layer."""
    return [step if step.facts is None else replace(step, rule=preset.rule(step.facts)) for step in steps]


def by_weights(steps: Sequence[Step]) -> list[str]:
    """The first layers whose rule never looks at the values of the input. Those that slide over pictures are none of them: they
    see few pixels at once, and behind them relevance lies where its reasons are.
    """
    blind = [s for s in steps if s.rule is not None and s.rule.blind and s.facts is not None and s.facts.first]
    return [s.name for s in blind if s.layer is not None and s.layer.family in MIXING and not _over_pictures(s.layer)]


def _over_pictures(layer: Layer) -> bool:
    """Does it slide over at least two axes? A kernel of 1 x 64 slides over one, one of 1 x 1 over all."""
    for slot in layer.slots:
        sizes, weights = dims(slot.x), None if isinstance(slot.w, float) else dims(slot.w)
        space = [] if sizes is None or layer.family == "dense" else sizes[2:]
        kernel = weights[2:] if weights is not None and sizes is not None and len(weights) == len(sizes) else []
        wide = [d for d, k in zip(space, kernel, strict=False) if k != 1]
        if sum(d != 1 for d in wide or space) < 2:
            return False
    return True


def _blindly(steps: Sequence[Step]) -> str:
    """What is to be said of a preset by weights alone."""
    first, *others = by_weights(steps)
    more = f" and {len(others)} more" if others else ""
    return f"shares relevance out by weights alone at {first!r}{more}, whatever the values of the input"
