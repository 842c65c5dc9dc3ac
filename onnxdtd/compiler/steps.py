"""The steps of a plan: one for each node, or fused chain of nodes, that carries relevance.

Nothing is passed over silently: a node on the way from the input to the logits that has no rule is a problem, and all
problems are reported at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from onnxdtd.compiler.facts import Facts, reads
from onnxdtd.compiler.raster import shape_text
from onnxdtd.errors import Problem, RequestError, Unsupported, suggestion
from onnxdtd.graph.emit import Emit, label
from onnxdtd.graph.fused import OTHERS, WAYS_OUT
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.method.method import PREPROCESSING, TREATMENTS, Method, Site
from onnxdtd.method.preset import LayerFacts
from onnxdtd.method.propagate import Record, propagate
from onnxdtd.method.rule import Rule
from onnxdtd.method.terms import Context
from onnxdtd.operators.layer import Layer, NotLinear, Slot, is_float
from onnxdtd.operators.linear import columns_of, followed_by
from onnxdtd.operators.others import undefined
from onnxdtd.operators.pointwise import passes
from onnxdtd.operators.products import factors
from onnxdtd.operators.table import MOVE, PRODUCT, ROUTE, Cut, Flow, Further, Relevance, first, of
from onnxdtd.operators.written import completes

Share: TypeAlias = tuple[Tensor, Tensor]  # a tensor, and relevance that goes to it
HANDING_ON = ("preprocessing", "pass", "move", "route")  # kinds of steps


@dataclass(frozen=True)
class Step:
    """One or more nodes that relevance takes at once: how it gets from ``outputs`` to ``inputs``.

    ``fit`` says which relevance model the preset asks for, one of ``FITS``; ``keeps`` the column of the ledger for what a flow
    does not hand on; ``looks_at`` are tensors above whose relevance the flow is told after that of the outputs, and hands
    nothing of on; ``live`` the outputs of a matrix, along the last axis, that alone relevance can come to.
    """

    kind: str  # linear, gate, preprocessing, pass, move, route, or the treatment of what is none of them
    nodes: tuple[Node, ...]
    outputs: tuple[Tensor, ...]
    inputs: tuple[Tensor | None, ...]
    layer: Layer | None = None
    facts: LayerFacts | None = None
    rule: Rule | None = None
    flow: Flow | None = None
    fit: str = ""
    keeps: str = ""
    looks_at: tuple[Tensor, ...] = ()
    live: Cut | None = None

    @property
    def name(self) -> str:
        """The name of the first node."""
        return label(self.nodes[0])

    @property
    def op(self) -> str:
        """The operators, joined by +."""
        return "+".join(node.op for node in self.nodes)

    @property
    def chosen(self) -> str | None:
        """What the preset chose for it: the rule, or a treatment by which it does more than hand on relevance."""
        return str(self.rule) if self.rule is not None else None if self.kind in HANDING_ON else self.kind

    def back(self, e: Emit, relevance: Relevance, context: Context, record: Record | None = None) -> list[Share]:
        """What it hands to each of its inputs that depends on the explained ones, given the ``relevance`` of its outputs.

        ``record`` is told of every division by a rule. Raises ``NotLinear`` where that cannot be written.
        """
        if self.flow is not None:
            parts: Iterable[tuple[int, Tensor | None]] = self.flow(e, self.nodes[0], relevance)
        else:
            assert self.layer is not None
            assert self.rule is not None
            layer, own = self.layer, first(relevance)
            if self.live is not None:
                layer = columns_of(e, self.nodes[0], layer, self.live)
                own = e("Slice", own, [self.live.start], [self.live.end], [-1])
            parts = enumerate(propagate(e, layer, self.rule, own, context, record))
        return [(x, share) for i, share in parts if share is not None and (x := self.inputs[i]) is not None]


class Stepper:
    """Makes the steps: one for each node, or fused chain of nodes, that carries relevance."""

    def __init__(
        self,
        e: Emit,
        facts: Facts,
        producer: Mapping[str, Node],
        allow: Mapping[str, str],
        method: Method,
        carriers: set[str],
        at: Callable[[Tensor], Tensor],
        varying: Collection[str],
    ):
        self.e, self.facts, self.producer, self.method, self.carriers, self.at = e, facts, producer, method, carriers, at
        self.varying = varying
        self.idle = dict(allow)  # what nothing has needed yet
        self.allow = allow
        self.parted: dict[str, str] = {}  # what the whole layer gives, by the tensor within it that was named

    def steps(self, nodes: Sequence[Node], pinned: set[str], named: Collection[str] = ()) -> list[Step]:
        """All steps in the order of the graph. Raises ``Unsupported`` with every problem.

        ``pinned`` tensors are looked at by somebody: nothing is fused over them, nor over those that were ``named``.
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
            try:
                with self.e.within(label(node)):
                    step = self.step(node)
                    if step.kind == "linear" and self.method.divides:
                        step = self.fused(step, consumers, pinned, named)
            except NotLinear as error:
                problems.append(problem(node, str(error), self.obstacle(node)))
                continue
            done.update(id(n) for n in step.nodes)
            steps.append(step)
        if problems:
            raise Unsupported([each for each in problems if each.final] or problems)
        for key in self.idle:
            met = {name for step in steps for node in step.nodes for name in (node.op, label(node))}
            raise RequestError(f"--allow {key}=pass: relevance meets no operator or node {key!r}{suggestion(key, met)}")
        return steps

    def step(self, node: Node) -> Step:
        """The step for a node. Raises ``NotLinear`` where there is none. Notes which outputs are raw."""
        active = self.facts.is_active
        key = self.allowance(node)
        if key is not None:
            return self.allowed(key, node)
        if node.domain not in (None, "", "ai.onnx"):
            way = f"; {WAYS_OUT.get(node.op, OTHERS)}" if node.domain.startswith("com.microsoft") else ""
            raise NotLinear(f"there is no rule for operators of this domain{way}")
        if self.method.splits:
            self.check_same(node)
        operator, site = of(node), Site(self.e, node, active, self.producer, self.at)
        if operator.linear is not None and len(factors(node, active)) < 2:
            return self.ruled(site, operator.linear(self.e, node, active))
        if operator.flow is not None and operator.kind == MOVE:
            return self.flow("move", node, operator.flow)
        return self.treated(site)

    def ruled(self, site: Site, layer: Layer) -> Step:
        """The step for a layer: by a rule, unless the method lets relevance pass it, as preprocessing or part of a function."""
        sources = [slot.x for slot in layer.slots]
        entrywise = layer.one_to_one or (layer.family == "affine" and len(sources) == 1)  # and perhaps repeats what goes in
        scaled = entrywise and all(x.name in self.facts.raw for x in sources) and not self.masks(site.node, sources)
        if scaled and self.method.treat(PREPROCESSING, site) is not None:
            self.facts.stay_raw(sources, site.node.outputs)
            return self.linear(site.node, layer, "preprocessing")
        if layer.one_to_one and self.method.divides and completes(site.node, site.active, self.producer):
            return self.flow("pass", site.node, passes)
        return self.linear(site.node, layer, "linear")

    def masks(self, node: Node, sources: Sequence[Tensor]) -> bool:
        """Does it multiply by what other inputs say, which may be 0? Rules that look at no x cannot know; bounds do."""
        others = [t for t in node.inputs if all(t is not x for x in sources)]
        bounded = all(x.name in self.facts.bounded for x in sources)
        return of(node).kind == PRODUCT and not bounded and any(t.name in self.varying for t in others)

    def treated(self, site: Site) -> Step:
        """The step for what is not linear, as the method treats it."""
        node, kind = site.node, str(site.kind)
        name, way = self.method.chosen(kind, site), self.method.treat(kind, site)
        if name is None or way is None:
            reduction = f" with reduction={node.attrs['reduction']!r}" if "reduction" in node.attrs else ""
            why = site.operator.why(node) if callable(site.operator.why) else site.operator.why
            raise NotLinear(why or f"there is no {self.method.lacking} this operator{reduction}")
        if len(self.ends(node)[1]) > 1:
            raise NotLinear("several of its outputs have relevance")
        if isinstance(way, Layer):
            return self.linear(node, way, name if kind == PRODUCT else "linear")
        if isinstance(way, Further):
            node, way = replace(node, inputs=[*node.inputs, *way.tensors]), way.flow
        step = self.flow("pass" if way is passes else ROUTE if kind == ROUTE or site.is_bound else name, node, way)
        return replace(step, keeps=TREATMENTS[kind, name].keeps)

    def check_same(self, node: Node) -> None:
        """Raise ``NotLinear`` for what does something else to the input that is compared with, or rounds what it gives."""
        if not node.exact:
            raise NotLinear("its rounding takes a part of every difference; give the model from before it was quantised")
        others = [t for t in node.inputs if not self.facts.is_active(t) and self.at(t) is not t]
        if others or (of(node).kind == MOVE and of(node).chooses is not None):
            what = f"{others[0].name!r} chooses" if others else "it chooses"
            raise NotLinear(f"what {what} may be something else at the baseline, so that no shares add up to the difference")

    def allowance(self, node: Node) -> str | None:
        """By which operator or name it was said that relevance passes this node, if it was."""
        return next((key for key in (node.op, label(node)) if key in self.allow), None)

    def ends(self, node: Node) -> tuple[list[Tensor], list[Tensor]]:
        """What relevance would leave a node by, and what it comes to it by."""
        sources = {t.name: t for t in reads(node) if self.facts.is_active(t) and not t.left_out}
        return list(sources.values()), [t for t in node.outputs if t.name in self.carriers]

    def obstacle(self, node: Node) -> str:
        """Why relevance cannot pass a node as it is; nothing where it can."""
        if of(node).undefined is not None:
            return undefined(node.op)
        if of(node).moves:
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
            return f"its input {x.name!r} is {shape_text(x)} and its output {y.name!r} is {shape_text(y)}"
        return ""

    def allowed(self, key: str, node: Node) -> Step:
        """A step that somebody decided on. Raises ``RequestError`` where relevance would not be that of the input."""
        obstacle = self.obstacle(node)
        if obstacle:
            raise RequestError(f"--allow {key}=pass: {label(node)!r} ({node.op}) cannot be passed, since {obstacle}")
        self.idle.pop(key, None)
        (x,), (y,) = self.ends(node)
        return Step("pass", (Node(node.op, label(node), [x], [y]),), (y,), (x,), flow=passes)

    def linear(self, node: Node, layer: Layer, kind: str) -> Step:
        """A step by a rule, or of preprocessing, which passes relevance as it is."""
        sources = tuple(slot.x for slot in layer.slots)
        if any(t.dtype is not None and not is_float(t.dtype) for t in sources):
            raise NotLinear("it computes with integers")
        if kind == "preprocessing":
            flow = passes if layer.one_to_one else partial(_gathered, layer.slots[0])
            return Step(kind, (node,), tuple(node.outputs), sources, layer, flow=flow)
        layer = replace(layer, exact=layer.exact and node.exact)
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
        rises = of(node).monotone
        keeps_bounds = kind == "move" or (kind == "pass" and rises is not None and rises(node))
        if keeps_bounds and all(t.name in self.facts.raw for t in known):
            self.facts.stay_raw(known, node.outputs)
        return Step(kind, (node,), tuple(node.outputs), sources, flow=flow)

    def fused(self, step: Step, consumers: Mapping[str, list[Node]], pinned: set[str], named: Collection[str]) -> Step:
        """The step with the Adds of constants and BatchNormalizations behind it, as long as nobody else looks between."""
        layer, nodes, part = step.layer, list(step.nodes), None
        assert layer is not None
        while len(consumers.get(layer.y.name, ())) == 1 and layer.y.name not in pinned:
            (node,) = consumers[layer.y.name]
            alone = node.domain or self.allowance(node) is not None
            whole = None if alone else followed_by(self.e, layer, node, self.facts.is_active)
            if whole is None:
                break
            if layer.y.name in named and part is None:
                part = replace(step, nodes=tuple(nodes), outputs=(layer.y,), layer=layer)
            layer = whole
            nodes.append(node)
        if part is None:
            return replace(step, nodes=tuple(nodes), outputs=(layer.y,), layer=layer)
        self.parted[part.outputs[0].name] = layer.y.name
        return part


def _gathered(slot: Slot, e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """What passes entry by entry, where some of these are copies"""
    yield 0, slot.adjoint(first(relevance), 1.0)


def problem(node: Node, reason: str, obstacle: str = "") -> Problem:
    """Why a node cannot carry relevance, and why it cannot be allowed to pass either; the ways out come later."""
    op = f"{node.domain}.{node.op}" if node.domain else node.op
    if of(node).undefined is not None:
        reason, _, instead = undefined(node.op).partition("; ")
        return Problem(op, label(node), reason, instead, final=True)
    return Problem(op, label(node), reason, f"--allow does not help, since {obstacle}" if obstacle else "")
