"""What is worth having, of things that need each other: the least of all closed sets, by a minimum cut (Picard, 1976)."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable, Mapping
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


def least(costs: Mapping[T, int], needs: Mapping[T, Collection[T]], wanted: Collection[T]) -> set[T]:
    """The things to have, those ``wanted`` among them, with all that they need: those that cost the least in sum.

    ``costs`` names all of them; what costs less than nothing is a gain.
    """
    source, sink = object(), object()
    never = sum(map(abs, costs.values())) + 1
    rest: dict[object, dict[object, int]] = {vertex: {} for vertex in (source, sink, *costs)}
    for thing, cost in costs.items():
        gain = never if thing in wanted else max(-cost, 0)
        for start, end, room in [
            (source, thing, gain),
            (thing, sink, max(cost, 0)),
            *((thing, t, never) for t in needs[thing]),
        ]:
            rest[start][end] = room
            rest[end].setdefault(start, 0)
    while sink in (origin := _origins(rest, source)):
        way: list[object] = [sink]
        while way[-1] is not source:
            way.append(origin[way[-1]])
        edges = list(zip(way[1:], way, strict=False))
        flow = min(rest[start][end] for start, end in edges)
        for start, end in edges:
            rest[start][end] -= flow
            rest[end][start] += flow
    return {thing for thing in costs if thing in origin}


def _origins(rest: Mapping[object, Mapping[object, int]], source: object) -> dict[object, object]:
    """Where each vertex is reached from along edges with room, on the shortest way."""
    origin: dict[object, object] = {source: source}
    waiting = deque([source])
    while waiting:
        start = waiting.popleft()
        for end, room in rest[start].items():
            if room and end not in origin:
                origin[end] = start
                waiting.append(end)
    return origin
