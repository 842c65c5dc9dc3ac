"""From a graph to a plan, as plain data: what is explained, where it starts, which node gets which rule."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from onnxdtd.compiler.baseline import Baseline
from onnxdtd.compiler.ends import End, above, reached
from onnxdtd.compiler.facts import Facts, before, carriers, facts_of
from onnxdtd.compiler.logits import NoScores, origin
from onnxdtd.compiler.points import Point
from onnxdtd.compiler.raster import Raster
from onnxdtd.compiler.reference import less
from onnxdtd.compiler.samples import Samples
from onnxdtd.compiler.steps import Step, Stepper
from onnxdtd.contract import BASELINE
from onnxdtd.errors import ModelError, RequestError, suggestion
from onnxdtd.graph.emit import Emit, dims, label
from onnxdtd.graph.tensors import Graph, Node, Tensor
from onnxdtd.method.method import Method
from onnxdtd.method.preset import Preset
from onnxdtd.operators.layer import Layer, constant_value
from onnxdtd.operators.spread import followed
from onnxdtd.operators.written import in_one_form
from onnxdtd.request import Request

ONE_SAMPLE = "export the model with a batch of one sample in front, and its scores declared as [1, classes]"  # a way out


@dataclass(frozen=True)
class Course:
    """What is walked: the steps, the logits that it starts from, and which of the tensors on the way are never negative."""

    steps: list[Step]
    logits: Tensor
    nonnegative: Callable[[Tensor], bool]


@dataclass(frozen=True)
class Plan:
    """What will be compiled: what is explained (``inputs``, and tensors that were named), and where the walk ends for that."""

    inputs: list[Tensor]
    ends: list[End]
    output: str
    logits: Tensor
    method: Method
    steps: list[Step]
    stepped_back: list[Node]
    producer: Mapping[str, Node]
    active: Callable[[Tensor], bool]
    nonnegative: Callable[[Tensor], bool]
    notes: list[
        str
    ]  # what the caller ought to know: entries of a rule file that fit nothing, first layers by weights alone, ...
    samples: Samples
    raster: Raster
    offered: Sequence[tuple[str, Raster]]  # the outputs that can be explained, and what lies along their axes
    preset: str
    by_weights: list[str]  # first layers that share relevance out by their weights alone
    baseline: Baseline | None
    there: Point  # the predictor at the baseline
    elsewhere: Callable[[Callable[[Tensor], Tensor]], Course]  # what is walked where tensors are others


def plan(
    e: Emit,
    graph: Graph,
    nodes: Sequence[Node],
    ends: Sequence[End],
    presets: Sequence[Preset],
    request: Request,
    *,
    inputs: Collection[str],
    bounded: Collection[str],
    compared: Callable[[Sequence[End], Samples], Baseline],
) -> Plan:
    """Plan the explanation of an output in terms of the ``ends`` of the walk; all else that goes in counts as constant.

    Of several ``presets``, all of them by one method, the first is taken that does not share relevance out by weights alone, or
    the last. Of ``request`` it heeds what is explained, ``keep``, ``mask`` and ``allow``. ``nodes`` are those of the graph as
    views, ``inputs`` all that a caller feeds, ``bounded`` what is explained with bounds that are known, ``compared`` gives what
    it is compared with. Raises ``Unsupported`` with every problem, ``ModelError`` where there is nothing to explain,
    ``RequestError`` for an unknown name.
    """
    allow = request.allow or {}
    fed = [t for t in graph.inputs if t.name in inputs]
    inner = [end.tensor for end in ends if end.explained.name not in inputs]
    active = facts_of(above(nodes, ends), [end.tensor for end in ends]).is_active
    whole = in_one_form(e, nodes, active)
    nodes = above(whole, ends)
    facts = facts_of(nodes, [end.tensor for end in ends])
    # Of what is quantised and dequantised again, what it was before.
    producer = {t.name: node for node in reversed(nodes) for t in node.outputs}

    def follow(candidate: Tensor, logits: Tensor) -> Samples:
        """The samples, from the inputs on; where they are lost below what is explained, from there on."""
        found = Samples(followed(before(whole, candidate), fed, allow), [*fed, *inner], logits)
        if found.doubt is None or not inner:
            return found
        return Samples(followed(before(nodes, candidate), [*fed, *inner], allow), [*fed, *inner], logits)

    start = origin(graph, request, facts, producer, follow)
    added: list[Node] = []
    if request.reference is not None:
        added = less(e, start.logits, producer, request.reference)
        whole, nodes = [*whole, *added], [*nodes, *added]
        facts = facts_of(nodes, [end.tensor for end in ends])
        producer |= {t.name: node for node in added for t in node.outputs}
        start = start.moved(added[-1].outputs[0], follow)
        nodes = before(nodes, start.logits)  # what else reads the quantity keeps no layer from being one with the reference
    start.samples.name_sizes(t for node in nodes for t in node.outputs if not t.left_out)
    logits = start.logits
    if logits.name in {end.tensor.name for end in ends}:
        raise RequestError(f"--from {logits.name!r}: is what is explained itself; name a tensor that it is computed from")
    method = presets[0].method
    carrying = carriers(nodes, logits, facts, producer, method)
    ends = [end for end in ends if end.tensor.name in carrying]
    if not ends:
        raise NoScores(f"the output {start.output!r} does not depend on what is to be explained")
    _check_named("--mask or --concepts", request.mask, carrying)
    _check_named("--keep", request.keep, carrying)
    if any(end.explained.name in bounded or not facts.is_nonnegative(end.tensor) for end in ends):
        facts.raw |= {end.tensor.name for end in ends}  # else the domain is that of a hidden layer, as far up as it reaches
    facts.bounded |= {end.tensor.name for end in ends if end.is_one_hot or end.explained.name in bounded}
    named = {*request.keep, *request.mask}
    pinned = {logits.name, *(t.name for t in graph.outputs)} - {t.name for node in added for t in node.inputs}
    baseline = compared(ends, start.samples) if any(preset.compares for preset in presets) else None
    once = (
        baseline is not None
        and baseline.is_constant
        and method.adds_up
        and _once(nodes, ends, facts, carrying, start.samples, fed)
    )
    point = Point(e, BASELINE, lambda: {} if baseline is None else baseline.tensors(once), wider=once)
    known = Facts(*map(set, (facts.active, facts.nonnegative, facts.raw, facts.bounded)))
    varying = reached(whole, fed)
    stepping = lambda facts, producer, carrying: Stepper(e, facts, producer, allow, method, carrying, point.of, varying)
    stepper = stepping(facts, producer, carrying)
    steps = stepper.steps(nodes, pinned, named)
    if start.samples.doubt is not None:
        raise ModelError(f"{start.samples.doubt}; {ONE_SAMPLE}")
    preset, steps, notes = _with_rules(steps, presets, facts.is_nonnegative)
    notes += [*_unrectified(preset, steps), *_taken_apart(stepper)]

    def elsewhere(where: Callable[[Tensor], Tensor]) -> Course:
        """The same steps over copies of the nodes."""
        copies, there, names = _copied(nodes, facts, known, where)
        givers = {t.name: node for node in copies for t in node.outputs}
        again = stepping(there, givers, {names[name] for name in carrying})
        own = ({names.get(name, name) for name in group} for group in (pinned, named))
        return Course(_ruled(again.steps(copies, *own), preset), where(logits), there.is_nonnegative)

    return Plan(
        list({end.explained.name: end.explained for end in ends if end.beside is None}.values()),
        ends,
        start.output,
        logits,
        preset.method,
        steps,
        start.stepped_back,
        producer,
        facts.is_active,
        facts.is_nonnegative,
        notes,
        start.samples,
        start.raster,
        [(each.output, each.raster) for each in start.offered],
        preset.name,
        by_weights(steps),
        baseline,
        point,
        elsewhere,
    )


def _taken_apart(stepper: Stepper) -> list[str]:
    """Which tensors lie within layers that were left in parts for them."""
    return [
        f"{name!r} lies within a layer, which is taken apart for it: relevance may differ from that of a file without; "
        f"{whole!r} is what the whole layer gives"
        for name, whole in stepper.parted.items()
    ]


def _copied(
    nodes: Sequence[Node], facts: Facts, known: Facts, where: Callable[[Tensor], Tensor]
) -> tuple[list[Node], Facts, dict[str, str]]:
    """The nodes that depend on what is explained where tensors are others, what is known there, and the names there by name."""
    own = [node for node in nodes if any(facts.is_active(t) for t in node.outputs)]
    held = {t.name: t for node in own for t in (*node.inputs, *node.outputs) if facts.is_active(t)}
    names = {name: where(t).name for name, t in held.items()}
    return [_moved(node, where) for node in own], known.renamed(names), names


def _once(
    nodes: Sequence[Node], ends: Sequence[End], facts: Facts, carrying: set[str], samples: Samples, fed: Sequence[Tensor]
) -> bool:
    """May the predictor at the same baseline for all be computed for one sample, and be compared with each? Where samples lie
    along the first axis of every tensor on the way, by one name, and all else that is read is constant.
    """
    sizes = [end.tensor.shape[0] if end.tensor.shape else None for end in ends]
    name, inputs = sizes[0], {t.name for t in fed}
    if not isinstance(name, str) or set(sizes) != {name} or any(samples.axes.get(end.explained.name) != 0 for end in ends):
        return False
    for node in nodes:
        if not any(t.name in carrying for t in node.outputs):
            continue
        others = [t for t in node.inputs if not t.left_out and not facts.is_active(t)]
        if any(t.name in inputs or (t.producer is not None and constant_value(t) is None) for t in others):
            return False
        if any(not t.shape or t.shape[0] != name or name in t.shape[1:] for t in node.outputs if facts.is_active(t)):
            return False
    return True


def _moved(node: Node, where: Callable[[Tensor], Tensor]) -> Node:
    """A node over the tensors that its own are elsewhere: what it chooses is another choice there."""
    return replace(node, name=label(node), inputs=list(map(where, node.inputs)), outputs=list(map(where, node.outputs)))


def _check_named(option: str, names: Sequence[str], carriers: set[str]) -> None:
    for name in names:
        if name not in carriers:
            way = suggestion(name, carriers) or "; `onnxdtd inspect` lists those that it does"
            raise RequestError(f"{option} {name!r}: relevance does not pass through such a tensor{way}")


def _with_rules(
    steps: Sequence[Step], presets: Sequence[Preset], nonnegative: Callable[[Tensor], bool]
) -> tuple[Preset, list[Step], list[str]]:
    """The preset that is taken, the steps with a rule for every layer, and what the caller ought to know about that."""
    tried = [_ruled(steps, preset) for preset in presets]
    unfit = lambda ruled: by_weights(ruled) or one_sided(ruled, nonnegative)
    place = next((i for i, ruled in enumerate(tried) if not unfit(ruled)), len(presets) - 1)
    preset, ruled = presets[place], tried[place]
    notes = preset.unused([step.facts for step in ruled if step.facts is not None])
    attention = one_sided(tried[0], nonnegative)
    where = f"{attention[0]!r}{_more(attention)}" if attention else ""
    half = f"takes one sign alone of the values that attention adds up at {where}" if attention else ""
    if place:
        why = f" {half}" if half else f", without bounds, {_blindly(tried[0])}"
        notes.insert(0, f"the preset is {preset.name}, since {presets[0].name}{why}")
    elif by_weights(ruled):
        notes.append(f"the preset {preset.name} {_blindly(ruled)}; give --low and --high, or choose another --preset")
    if half and not place:
        notes.append(f"the preset {preset.name} {half}; of transformers lrp-epsilon and attnlrp tell far more")
    return preset, ruled, notes


def _unrectified(preset: Preset, steps: Sequence[Step]) -> Iterator[str]:
    """Tells where a preset is known for what it does at rectifiers, and none is on the way."""
    special = preset.method.special
    if special and not any(step.kind in special for step in steps):
        yield f"the preset {preset.name} gives the plain gradient here: nothing on the way rectifies (Relu, Clip from 0)"


def _ruled(steps: Sequence[Step], preset: Preset) -> list[Step]:
    """The steps with a rule for every layer."""
    chosen = [None if step.facts is None else preset.choice(step.facts) for step in steps]
    return [s if c is None else replace(s, rule=c.rule, fit=c.fit) for s, c in zip(steps, chosen, strict=True)]


def by_weights(steps: Sequence[Step]) -> list[str]:
    """The first layers whose rule never looks at the values of the input. Those that slide over pictures are none of them: they
    see few pixels at once, and behind them relevance lies where its reasons are.
    """
    blind = [s for s in steps if s.rule is not None and s.rule.blind and s.facts is not None and s.facts.first]
    return [s.name for s in blind if s.layer is not None and s.layer.mixes and not _over_pictures(s.layer)]


def _over_pictures(layer: Layer) -> bool:
    """Does it slide over at least two axes? A kernel of 1 x 64 slides over one, one of 1 x 1 over all."""
    for slot in layer.slots:
        sizes, weights = dims(slot.x), None if isinstance(slot.w, float) else dims(slot.w)
        space = [] if sizes is None or layer.family in ("dense", "product") else sizes[2:]
        kernel = weights[2:] if weights is not None and sizes is not None and len(weights) == len(sizes) else []
        wide = [d for d, k in zip(space, kernel, strict=False) if k != 1]
        if sum(d != 1 for d in wide or space) < 2:
            return False
    return True


def _blindly(steps: Sequence[Step]) -> str:
    """What is to be said of a preset by weights alone."""
    names = by_weights(steps)
    return f"shares relevance out by weights alone at {names[0]!r}{_more(names)}, whatever the values of the input"


def _more(names: Sequence[str]) -> str:
    """How many there are behind the first."""
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def one_sided(steps: Sequence[Step], nonnegative: Callable[[Tensor], bool]) -> list[str]:
    """The products of two activations, as in attention, under a rule for what is never negative, as z⁺ is, where values may be.
    Where they add up to what is negative, or cancel, it takes those of the other sign for none, at every such step.
    """
    found = [s for s in steps if s.layer is not None and s.layer.family == "product" and s.rule and s.rule.for_nonnegative]
    return [s.name for s in found if s.layer is not None and not all(nonnegative(slot.x) for slot in s.layer.slots)]
