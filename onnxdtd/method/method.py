"""A method as data: what happens at all that is not linear, where the walk starts, and what is made of what arrives.

At linear layers rules decide. At everything else, kind by kind or operator by operator, a method names a treatment, a row of
``TREATMENTS``. Two things can be walked: relevance, whose sum each treatment hands on, or a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from onnxdtd.graph.emit import Emit
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators.layer import Active, Layer, NotLinear, count
from onnxdtd.operators.pointwise import chord, of_first, passes, secant_of, sloped, weighted
from onnxdtd.operators.products import denominators, gates, product, scales
from onnxdtd.operators.revealed import MIXING, revealed
from onnxdtd.operators.secants import here
from onnxdtd.operators.spread import is_elementwise
from onnxdtd.operators.table import AS_THEY_ARE, NORM, OPERATORS, POINTWISE, PRODUCT, ROUTE, Flow, Further, Operator, first, of

RELEVANCE, GRADIENT = "relevance", "gradient"  # what is walked
PREPROCESSING = "preprocessing"  # a layer that scales or shifts the inputs before anything has mixed their entries
KINDS = (POINTWISE, PRODUCT, NORM, ROUTE, PREPROCESSING)  # what a method has a treatment for

# Where the walk goes, and in how many steps that is found, if it takes some: at the input; at the baseline, that it is compared
# with; at a root of the score between both; at points all along.
POINTS = {"x": 0, "baseline": 0, "root": 8, "path": 32}
HERE = "x"
MOST_STEPS = 1024

SEEDS = {"logit": RELEVANCE, "1": GRADIENT}  # where the walk starts, which makes it one of relevance or of a gradient

Once = Callable[[], Tensor]  # a tensor that is not built unless it is asked for


@dataclass(frozen=True)
class Ending:
    """What a walk ends at: a tensor x, what it is at the other input, the axes of its channels and positions."""

    x: Once
    other: Once
    axes: Callable[[], tuple[int, list[int]]]


@dataclass(frozen=True)
class Finish:
    """What is made of what arrives at an end, in a walk of ``walks``; ``compares`` it with another input; ``of_map``: where x
    has channels and positions.
    """

    walks: str
    of: Callable[[Emit, Ending, Tensor], Tensor]
    compares: bool = False
    of_map: bool = False


def class_activation(e: Emit, end: Ending, g: Tensor) -> Tensor:
    """α_c x_c where Σ_c α_c x_c > 0, else 0, with α_c the mean of g over positions: over channels that is relu(Σ_c α_c x_c)."""
    x, (channel, positions) = end.x(), end.axes()
    mean = e("Div", e("ReduceSum", g, [*positions], keepdims=1), count(e, x, positions, g.dtype))
    weighted = e("Mul", e.cast(x, g.dtype), mean)
    return e("Where", e("Greater", e("ReduceSum", weighted, [channel], keepdims=1), 0.0), weighted, 0.0)


def difference(e: Emit, end: Ending, dtype: Any) -> Tensor:
    """x − x̃"""
    return e("Sub", e.cast(end.x(), dtype), e.cast(end.other(), dtype))


FINISHES = {
    "R": Finish(RELEVANCE, lambda e, end, r: r),
    "g": Finish(GRADIENT, lambda e, end, g: g),
    "x g": Finish(GRADIENT, lambda e, end, g: e("Mul", e.cast(end.x(), g.dtype), g)),
    "dx g": Finish(GRADIENT, lambda e, end, g: e("Mul", difference(e, end, g.dtype), g), compares=True),
    "g g": Finish(GRADIENT, lambda e, end, g: e("Mul", g, g)),
    "cam": Finish(GRADIENT, class_activation, of_map=True),
}


@dataclass(frozen=True)
class Site:
    """A node that a treatment is asked for, and what is known around it; ``at`` gives a tensor at the input compared with."""

    e: Emit
    node: Node
    active: Active
    producer: Mapping[str, Node]
    at: Callable[[Tensor], Tensor]

    @property
    def operator(self) -> Operator:
        """What is known of its operator."""
        return of(self.node)

    @property
    def is_bound(self) -> bool:
        """Does it only bound one tensor, as Clip does?"""
        return self.operator.kind == ROUTE and is_elementwise(self.operator) and sum(map(self.active, self.node.inputs)) == 1

    @property
    def rectifies(self) -> bool:
        """Does it give 0 for all that is negative?"""
        return self.operator.rectifies is not None and self.operator.rectifies(self.node)

    @property
    def kind(self) -> str | None:
        """What kind of function it is, here."""
        return POINTWISE if self.is_bound else self.operator.kind


def slope(site: Site) -> Flow | None:
    """f′(x) g; 1 where entries are handed on as they are, the winner's in a bound."""
    operator = site.operator
    if operator.slope is not None:
        return sloped(site.e, site.node, operator.slope, site.active)
    return operator.flow if operator.hands_on == AS_THEY_ARE or site.is_bound else None


def guided(site: Site) -> Flow | None:
    """f′(x) g where g > 0"""
    return positive(slope(site))


def deconvolved(site: Site) -> Flow | None:
    """g where g > 0, whatever x is."""
    at = next((i for i, t in enumerate(site.node.inputs) if site.active(t)), 0)
    x, shape = site.node.inputs[at], site.node.outputs[0].shape
    back = lambda e, g: g if shape is None or shape == x.shape else e.unbroadcast(g, shape, x)
    return None if slope(site) is None else positive(lambda e, node, g: iter([(at, back(e, first(g)))]))


def positive(flow: Flow | None) -> Flow | None:
    """A flow of the positive part."""
    return None if flow is None else lambda e, node, g: flow(e, node, [e("Relu", first(g))])


def ratio(site: Site) -> Flow | None:
    """(f(x) − f(0))/x g"""
    operator = site.operator
    if operator.hands_on == AS_THEY_ARE:
        return operator.flow
    return None if operator.slope is None and not site.is_bound else chord(site.e, site.node, operator, site.active)


def constant(site: Site) -> Layer | None:
    """The layer that it is with the statistics of its input held."""
    builder = site.operator.constant
    return None if builder is None else builder(site.e, site.node, site.active)


def jacobian(site: Site) -> Flow | None:
    """Jᵀ g"""
    builder = site.operator.jacobian
    return None if builder is None else builder(site.e, site.node, site.active, here)


def rescale(site: Site) -> Flow | None:
    """Δy/Δx m"""
    e, node, operator, at = site.e, site.node, site.operator, site.at
    if site.is_bound:
        return between(site)
    if operator.scaled:
        raise NotLinear("its rounding takes a part of every difference; give the model from before it was quantised")
    if operator.slope is None:
        return operator.flow if operator.hands_on == AS_THEY_ARE else None
    return weighted(of_first(node, site.active), node, lambda: secant_of(e, node, operator, at))


def reveal_cancel(families: Collection[str]) -> Callable[[Site], Flow | Further | None]:
    """Multipliers of their own for what speaks for and against, behind layers of some families; elsewhere Δy/Δx m."""

    def way(site: Site) -> Flow | Further | None:
        found = revealed(site.e, site.node, site.active, site.producer, site.at, families)
        return rescale(site) if found is None else found

    return way


def taylor(site: Site) -> Layer | Flow | None:
    """Its first-order expansion at the input."""
    builder = site.operator.expansion
    return None if builder is None else builder(site.e, site.node, site.active)


def secant(site: Site) -> Flow | None:
    """Shares of Δy where entries depend on each other."""
    builder = site.operator.jacobian
    return None if builder is None else builder(site.e, site.node, site.active, site.at)


def between(site: Site) -> Flow | None:
    """To the winners at both points."""
    route = site.operator.between
    return None if route is None else lambda e, node, m: route(e, node, m, site.at)


def shares(held: Callable[[Node, Active, Mapping[str, Node]], set[int]], part: float) -> Callable[[Site], Layer]:
    """A product with some factors held, of which each of two others gets a part."""
    return lambda site: product(site.e, site.node, site.active, held(site.node, site.active, site.producer), part)


def shapley(site: Site) -> Layer:
    """A product between two points: each factor times the middle of the other."""
    return product(site.e, site.node, site.active, set(), 1.0, site.at)


def nothing(node: Node, active: Active, producer: Mapping[str, Node]) -> set[int]:
    """No factor is held."""
    return set()


@dataclass(frozen=True)
class Treatment:
    """How what is walked gets through operators of a kind: as by a layer, by a rule then, or by a flow. None where nothing
    is known of the operator for it. ``needs`` names the fact of ``Operator`` that it takes, ``held`` the factors that it holds.
    ``others``: the treatment of functions that do not rectify, for one that is of those that do. ``compares``: with what the
    node gives for another input. ``keeps``: what keeps, by the column of the ledger, what a flow takes in and does not hand on.
    ``shares``: is x g of what goes in, of a gradient g, that of what comes out, but for a constant?
    """

    walks: tuple[str, ...]
    apply: Callable[[Site], Layer | Flow | Further | None]
    needs: str
    held: Callable[[Node, Active, Mapping[str, Node]], set[int]] = nothing
    others: str | None = None
    compares: bool = False
    keeps: str = ""
    shares: bool = False


BOTH = (RELEVANCE, GRADIENT)
TREATMENTS = {
    (POINTWISE, "pass"): Treatment((RELEVANCE,), lambda s: passes if s.is_bound else s.operator.flow, "flow"),
    (POINTWISE, "slope"): Treatment((GRADIENT,), slope, "slope"),
    (POINTWISE, "ratio"): Treatment((GRADIENT,), ratio, "slope", shares=True),
    (POINTWISE, "guided"): Treatment((GRADIENT,), guided, "slope", others="slope"),
    (POINTWISE, "deconvolved"): Treatment((GRADIENT,), deconvolved, "slope", others="slope"),
    (POINTWISE, "rescale"): Treatment((GRADIENT,), rescale, "slope", compares=True),
    (POINTWISE, "reveal-cancel"): Treatment((GRADIENT,), reveal_cancel(MIXING), "slope", compares=True),
    (POINTWISE, "reveal-cancel-dense"): Treatment((GRADIENT,), reveal_cancel(["dense"]), "slope", compares=True),
    (PRODUCT, "gate"): Treatment(BOTH, shares(gates, 0.5), "linear", gates, shares=True),
    (PRODUCT, "half"): Treatment(BOTH, shares(denominators, 0.5), "linear", denominators, shares=True),
    (PRODUCT, "scale"): Treatment(BOTH, shares(scales, 0.5), "linear", scales, shares=True),
    (PRODUCT, "factor"): Treatment((GRADIENT,), shares(nothing, 1.0), "linear"),
    (PRODUCT, "shapley"): Treatment((GRADIENT,), shapley, "linear", compares=True),
    (NORM, "constant"): Treatment(BOTH, constant, "constant", shares=True),
    (NORM, "pass"): Treatment((RELEVANCE,), lambda s: s.operator.flow, "flow"),
    (NORM, "share"): Treatment((RELEVANCE,), lambda s: s.operator.flow, "flow"),
    (NORM, "taylor"): Treatment((RELEVANCE,), taylor, "expansion", keeps="bias"),
    (NORM, "jacobian"): Treatment((GRADIENT,), jacobian, "jacobian"),
    (NORM, "secant"): Treatment((GRADIENT,), secant, "jacobian", compares=True),
    (ROUTE, "winner"): Treatment(BOTH, lambda s: s.operator.flow, "flow", shares=True),
    (ROUTE, "between"): Treatment((GRADIENT,), between, "between", compares=True),
    (PREPROCESSING, "pass"): Treatment((RELEVANCE,), lambda s: passes, "linear"),
    (PREPROCESSING, "rule"): Treatment(BOTH, lambda s: None, "linear", shares=True),
}


@dataclass(frozen=True)
class Method:
    """``treatments`` are names of rows by kind, and by operator where that differs; ``point`` is one of ``POINTS``,
    found in ``steps``.
    """

    name: str
    seed: str
    finish: str
    treatments: Mapping[str, str] = field(default_factory=dict)
    title: str = ""
    source: str = ""
    point: str = HERE
    steps: int = 0

    @property
    def compares(self) -> bool:
        """Does it need another input to compare with?"""
        return self.splits or self.point != HERE or FINISHES[self.finish].compares

    @property
    def splits(self) -> bool:
        """Does it share out differences between two points somewhere?"""
        return any(row.compares for kind, row in self._rows())

    @property
    def adds_up(self) -> bool:
        """Does it everywhere, so that what arrives adds up to the difference of the scores?"""
        return FINISHES[self.finish].compares and all(row.compares for kind, row in self._rows() if kind != PREPROCESSING)

    def _rows(self) -> Iterator[tuple[str, Treatment]]:
        """What it has for a kind or an operator."""
        for key, name in self.treatments.items():
            kind = str(OPERATORS[key].kind) if key in OPERATORS else key
            yield kind, TREATMENTS[kind, name]

    @property
    def walks(self) -> str:
        """What is walked."""
        return SEEDS[self.seed]

    @property
    def divides(self) -> bool:
        """Is that relevance itself, which rules share out by their denominators?"""
        return self.walks == RELEVANCE

    @property
    def conserves(self) -> bool:
        """Is what it gives relevance, of which every step hands on as much as it takes in, but for what denominators and
        constants keep? That is what is walked, or t · g of every tensor t.
        """
        shares = (TREATMENTS[kind, self.treatments[kind]].shares for kind in KINDS)
        return self.divides or (self.finish == "x g" and self.point == HERE and all(shares))

    @property
    def halves(self) -> bool:
        """Does a gate take its half of a product, as any factor?"""
        row = TREATMENTS.get((PRODUCT, self.treatments.get(PRODUCT, "")))
        return row is not None and row.shares and row.held is not gates

    def of_tensor(self, e: Emit, tensor: Tensor, walked: Tensor) -> Tensor:
        """The relevance of a tensor, of those that conserve it; of one of −∞ that hands on nothing, 0."""
        if self.divides:
            return walked
        return e("Where", e.equal(walked, 0.0), walked, e("Mul", e.finite(e.cast(tensor, walked.dtype)), walked))

    @property
    def special(self) -> set[str]:
        """The names of its treatments of some functions of a kind, and not of others."""
        return {
            name for name in self.treatments.values() if any(own == name and row.others for (_, own), row in TREATMENTS.items())
        }

    @property
    def ruled(self) -> list[str]:
        """The operators that are layers, on which rules decide."""
        return [op for op, operator in OPERATORS.items() if operator.linear or (operator.constant and self.holds(operator))]

    def holds(self, operator: Operator) -> bool:
        """Does it take an operator by the layer that it is with its statistics held?"""
        name = self.at(str(operator.kind), operator.op)
        return name is not None and TREATMENTS[str(operator.kind), name].needs == "constant"

    @property
    def lacking(self) -> str:
        """What an operator has not that it knows no way through."""
        return "rule for" if self.divides else "derivative of"

    def at(self, kind: str, op: str) -> str | None:
        """The name of the treatment of an operator where it is of some kind; None for kinds that have none."""
        own = self.treatments.get(op)
        return own if own is not None and (kind, own) in TREATMENTS else self.treatments.get(kind)

    def chosen(self, kind: str, site: Site) -> str | None:
        """The name of the treatment of a node, as one of some kind; None for kinds that have none."""
        name = self.at(kind, site.node.op)
        others = None if name is None else TREATMENTS[kind, name].others
        return name if others is None or site.rectifies else others

    def treat(self, kind: str, site: Site) -> Layer | Flow | Further | None:
        """The layer or flow by which what is walked gets through a node, as one of some kind; None where there is none."""
        name = self.chosen(kind, site)
        return None if name is None else TREATMENTS[kind, name].apply(site)

    def held(self, node: Node, active: Active, producer: Mapping[str, Node]) -> set[int]:
        """The positions of the factors of a node that count as constants."""
        return TREATMENTS[PRODUCT, str(self.at(PRODUCT, node.op))].held(node, active, producer)

    @property
    def at_map(self) -> bool:
        """Is what it explains a tensor with channels and positions?"""
        return FINISHES[self.finish].of_map

    def finished(self, e: Emit, end: Ending, arrived: Tensor) -> Tensor:
        """What is made of what has arrived at an end."""
        return FINISHES[self.finish].of(e, end, arrived)
