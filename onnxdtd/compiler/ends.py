"""Where the walk ends: at inputs of numbers, at what ids look up, or at tensors that were named. Nothing below is looked at.

Which integers are ids is read off the graph: they choose rows of a table, directly or as a one-hot vector, and nothing but
arithmetic entry by entry and moves lies before that. What is cast to floating point and computed with is a number.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from onnxdtd.compiler.facts import before, reads
from onnxdtd.errors import RequestError, suggestion
from onnxdtd.graph.emit import Emit, dims
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators import places, spread
from onnxdtd.operators.layer import is_byte, is_float, shape_of
from onnxdtd.operators.lookups import Lookup
from onnxdtd.operators.table import AS_THEY_ARE, CHOICE, CONSTANT, MOVE, Relevance, first, of
from onnxdtd.request import Request


@dataclass(frozen=True)
class Link:
    """A node on the way from ids to what they look up: the inputs by which it is reached, what numbers look up there, whether
    entries that go in broadcast to those that come out, and whether it sums rows of a table as a one-hot vector says.
    """

    node: Node
    at: tuple[int, ...]
    lookup: Lookup | None = None
    aligned: bool = False
    sums: bool = False


@dataclass(frozen=True)
class End:
    """A ``tensor`` at which the walk ends, and the one that its relevance is that of: itself, or the ids that look it up by way
    of ``links``. There are ``rows`` to look up. One ``beside`` another is what is added there to what is looked up, and each of
    the ids has what is added to its own.
    """

    tensor: Tensor
    explained: Tensor
    links: tuple[Link, ...] = ()
    rows: int | None = None
    beside: End | None = None

    @property
    def is_lookup(self) -> bool:
        """Is it looked up?"""
        return bool(self.links)

    @property
    def is_one_hot(self) -> bool:
        """Is it a 1 among zeros?"""
        return any(link.lookup is not None and link.lookup.one_hot for link in self.links) and not self.links[-1].sums

    def home(self, e: Emit, relevance: Tensor) -> Tensor:
        """Its relevance, as that of what is explained: each of the ids has that of all that it looks up here."""
        if self.beside is not None:
            return self.beside.home(e, relevance)
        arrived = {self.tensor.name: [relevance]}
        for link in reversed(self.links):
            given = [e.sum(arrived[t.name]) if t.name in arrived else None for t in link.node.outputs]
            for i, share in _back(e, link, given):
                if i in link.at:
                    arrived.setdefault(link.node.inputs[i].name, []).append(share)
        return e.sum(arrived[self.explained.name])


def _back(e: Emit, link: Link, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """By position, the relevance of the inputs of a link."""
    node, r = link.node, first(relevance) if relevance[0] is not None else None
    if link.sums and r is not None:
        yield 0, e("ReduceSum", r, [-1], keepdims=1)
    elif link.lookup is not None and link.lookup.summed and r is not None:
        yield link.at[0], e("ReduceSum", r, link.lookup.summed, keepdims=0)
    elif link.aligned and r is not None:
        for i in link.at:
            yield i, e.unbroadcast(r, shape_of(node.outputs[0]), node.inputs[i])
    else:
        flow = of(node).flow
        assert flow is not None
        yield from flow(e, node, relevance)


def lookups(nodes: Sequence[Node], x: Tensor, fed: Collection[str]) -> list[End]:
    """What the entries of an input ``x`` look up, in tables that do not depend on any of the tensors ``fed``."""
    trail: dict[str, tuple[bool, bool, int | None]] = {x.name: (False, False, None)}  # is it one-hot, looked up, of which rows
    links: list[Link] = []
    found: list[End] = []
    for node in nodes:
        at = tuple(i for i, t in enumerate(node.inputs) if t.name in trail)
        if not at or any(dims(t) is None for t in (*node.outputs[:1], *(node.inputs[i] for i in at))):
            continue
        hot, looked, rows = trail[node.inputs[at[0]].name]
        alone = len(at) == 1 and not any(t.name in fed for i, t in enumerate(node.inputs) if i not in at)
        entry, y = of(node), node.outputs[0]
        lookup = entry.looks_up(node, at[0]) if entry.looks_up is not None and alone and not hot else None
        link = _link(node, at, hot, alone, fed) if lookup is None else Link(node, at, lookup, aligned=not lookup.summed)
        if link is None:
            continue
        links.append(link)
        hot, rows = hot or (lookup is not None and lookup.one_hot), rows if lookup is None or looked else lookup.rows
        if is_float(y.dtype) and (hot or lookup is not None or (looked and entry.scaled)):  # of a quantised table, say
            found.append(_end(y, x, links, rows, fed))
        else:
            chosen = entry.chooses[0] if entry.chooses is not None and lookup is None else None  # places, not what was there
            own = [t for i, t in enumerate(node.outputs) if i != chosen]
            trail |= {t.name: (hot, looked or lookup is not None, rows) for t in own}
    return found


def _link(node: Node, at: tuple[int, ...], hot: bool, alone: bool, fed: Collection[str]) -> Link | None:
    """A node each of whose entries comes from one of the entries at the inputs ``at``, or from constants; else None."""
    entry = of(node)
    if entry.hands_on == AS_THEY_ARE:
        return Link(node, at, aligned=True)
    if entry.kind == MOVE and entry.axes is spread.broadcast:  # a choice, between constants or of what replaces some ids
        between = 0 in at
        replaces = node.inputs[0].name in fed and len(at) == 1  # of two tensors of ids each has that of what is chosen of it
        return Link(node, at, aligned=between or replaces) if not between or (hot and alone) else None
    if entry.kind == MOVE and entry.flow is not None:
        moved = at == (0,) or entry.axes is spread.concatenated
        return Link(node, at, aligned=entry.axes is spread.expanded) if moved else None
    alike = alone and not hot and entry.kind != CHOICE and spread.is_elementwise(entry)
    return Link(node, at, aligned=True) if alike else None


def _end(tensor: Tensor, x: Tensor, links: Sequence[Link], rows: int | None, fed: Collection[str]) -> End:
    """The end at a looked-up tensor; behind a one-hot vector that does nothing but choose rows of a table, at these."""
    needed = {id(node) for node in before([link.node for link in links], tensor)}
    way = tuple(link for link in links if id(link.node) in needed)
    hot = End(tensor, x, way, rows)
    behind = [link for link in way if link.lookup is not None or of(link.node).hands_on != AS_THEY_ARE]
    last = behind[-1].lookup
    if last is None or not last.one_hot or not last.last or len(tensor.readers) != 1:
        return hot
    (node,) = tensor.readers
    chooses = of(node).linear is not None and of(node).channels == places.LAST and node.inputs[0] is tensor
    if not chooses or node.attrs.get("transA") or len(node.inputs) != 2 or node.inputs[1].name in fed:
        return hot
    return End(node.outputs[0], x, (*way, Link(node, (0,), sums=True)), rows)


def reached(nodes: Sequence[Node], inputs: Iterable[Tensor]) -> set[str]:
    """The names of all tensors whose values depend on those of ``inputs``."""
    found = {t.name for t in inputs}
    for node in nodes:
        if of(node).kind != CONSTANT and any(t.name in found for t in reads(node)):
            found.update(t.name for t in node.outputs)
    return found


def computed(nodes: Sequence[Node], where: Iterable[End]) -> list[Tensor]:
    """What is looked up by numbers that are computed from several ids, of n-grams say, and so has no single one to go to. Which
    ids are padding is nothing that they say: positions counted from there are not meant.
    """
    found, numbers = list[Tensor](), {end.explained.name for end in where if end.is_lookup}
    for node in nodes:
        at = [i for i, t in enumerate(node.inputs) if t.name in numbers]
        entry = of(node)
        if not at or entry.kind == CONSTANT:
            continue
        if entry.looks_up is not None and entry.looks_up(node, at[0]) is not None:
            found += [t for t in node.outputs if is_float(t.dtype)]
        else:
            numbers.update(t.name for t in node.outputs if is_number(t) and not is_float(t.dtype))
    return found


def rows(looked: Mapping[str, Sequence[End]]) -> dict[str, int | None]:
    """How many rows there are at least to look up, by input that looks something up; None where that is not known."""
    known = {name: [end.rows for end in found if end.rows is not None] for name, found in looked.items() if found}
    return {name: min(sizes, default=None) for name, sizes in known.items()}


def groups_of(
    fed: Sequence[Tensor], looked: Mapping[str, Sequence[End]], depending: Mapping[str, Tensor], request: Request
) -> list[list[End]]:
    """Where the walk may end, the first choice first: where it was asked for; else at the inputs of floating-point numbers and
    at the numbers that strings are turned into, at bytes that are pixels, at what ids look up, at other integers. ``looked`` is
    what each input looks up, ``depending`` are the tensors that depend on some input. Raises ``RequestError`` for a choice that
    is none.
    """
    whole = lambda t: [End(t, t)] if is_float(t.dtype) or not looked[t.name] else []
    if request.explain or request.from_:
        _check(request.explain, {t.name: t for t in fed})
        chosen = [end for t in fed if t.name in request.explain for end in (*whole(t), *looked[t.name])]
        return [[*chosen, *(End(t, t) for t in (_named(name, depending) for name in request.from_))]]
    numbers = [t for t in fed if is_number(t)]
    columns = _whole_columns(fed)
    turned = [End(t, t) for t in _turned(fed, depending, [name for name in columns if not looked[name]])]
    own = [t for t in numbers if is_float(t.dtype) or t.name in columns]
    found = [
        [*(end for t in own for end in (*(whole(t) if is_float(t.dtype) else ()), *looked[t.name])), *turned],
        [end for t in numbers if is_byte(t.dtype) for end in whole(t)],
        [end for t in numbers for end in looked[t.name]],
        [end for t in numbers if not is_float(t.dtype) and not is_byte(t.dtype) for end in whole(t)],
    ]
    return [group for group in found if group]


def _whole_columns(fed: Sequence[Tensor]) -> list[str]:
    """The columns of a table that are whole numbers. A table has a column an input, some of other types."""
    columns = all((dims(t) or [])[1:] == [1] for t in fed)
    others = any(is_float(t.dtype) or t.dtype == object for t in fed)
    whole = [t.name for t in fed if is_number(t) and not is_float(t.dtype)]
    return whole if columns and others else []


def _turned(fed: Sequence[Tensor], depending: Mapping[str, Tensor], whole: Sequence[str]) -> list[Tensor]:
    """The numbers that strings, and ``whole`` numbers, are turned into: the first on their way of which more is read than
    whether there are any.
    """
    behind = {*whole, *(t.name for t in fed if t.dtype == object)}
    found: list[Tensor] = []
    for tensor in depending.values():
        giver = tensor.producer
        if giver is None or not any(t.name in behind for t in giver.inputs):
            continue
        if is_float(tensor.dtype) and any(
            t.dtype is None or is_float(t.dtype) for node in tensor.readers for t in node.outputs
        ):
            found += [tensor] if [t.name for t in giver.outputs if t.readers] == [tensor.name] else []
        else:
            behind.add(tensor.name)
    return found


def is_number(tensor: Tensor) -> bool:
    """Is it of integers or of floating-point numbers?"""
    return is_float(tensor.dtype) or str(tensor.dtype).lstrip("u") in ("int8", "int16", "int32", "int64")


def _check(chosen: Sequence[str], known: Mapping[str, Tensor]) -> None:
    for name in chosen:
        if name not in known:
            has = f"; it has {', '.join(map(repr, known))}"
            raise RequestError(f"--explain {name!r}: the model has no such input{suggestion(name, known) or has}")
        if not is_number(known[name]):
            raise RequestError(f"--explain {name!r}: is {known[name].dtype}; only numbers and ids can be explained")


def _named(name: str, depending: Mapping[str, Tensor]) -> Tensor:
    """A tensor by its name, if the walk can end there."""
    tensor = depending.get(name)
    if tensor is None:
        raise RequestError(f"--from {name!r}: no such tensor is computed from the inputs{suggestion(name, depending)}")
    if tensor.producer is None:
        raise RequestError(f"--from {name!r}: is an input of the model; write --explain {name}")
    if not is_float(tensor.dtype):
        raise RequestError(f"--from {name!r}: is {tensor.dtype}; only floating-point tensors can be explained")
    if sum(bool(t.readers) for t in tensor.producer.outputs) > 1:
        raise RequestError(f"--from {name!r}: {tensor.producer.op} gives several tensors; name one that comes behind it")
    return tensor


def above(nodes: Sequence[Node], where: Iterable[End]) -> list[Node]:
    """The nodes but those that give what the walk ends at."""
    cut = {end.tensor.name for end in where}
    return [node for node in nodes if not any(t.name in cut for t in node.outputs)]
