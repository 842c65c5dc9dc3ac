"""Units of work on a Ray cluster, by actors with a session each, any of which may die or leave with its machine."""

from __future__ import annotations

import gc
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from onnxdtd.errors import OnnxdtdError

PATIENCE = 10  # seconds for workers to clean up
DEATHS = 3  # of workers over one unit, after which it is given up


class Prepares(Protocol):
    """What is sent to actors, and does units there."""

    def prepare(self) -> Callable[[int], Any]:
        """As that of a ``Study``."""


class Actor:
    """A worker. It opens a session when it is to be ready, not when it is made: what is wrong then is an answer, no death."""

    def __init__(self, study: Prepares):
        self._study = study

    def ready(self) -> None:
        """Open a session."""
        self._work = self._study.prepare()

    def done(self, unit: int) -> Any:
        """The result of a unit."""
        return self._work(unit)

    def close(self) -> None:
        """Leave nothing behind."""
        self.__dict__.clear()
        gc.collect()


class Crew:
    """Actors, and what is asked of each: one unit, and none before it is ready, so that one which waits for a machine holds
    nothing up. What one had when it died others do, and another one takes its place. ``ray`` is the module.
    """

    def __init__(self, ray: Any, study: Prepares, units: Sequence[int], count: int):
        needs = {"num_cpus": 1, "num_gpus": getattr(study, "gpus", 0), "max_restarts": 0}
        self._ray, self._sent, self._kind = ray, ray.put(study), ray.remote(**needs)(Actor)
        self._todo, self._idle = deque(units), deque[Any]()
        self._asked: dict[Any, tuple[Any, int | None]] = {}  # by the answer that is waited for; no unit: to be ready
        self._deaths = Counter[int | None]()
        for _ in range(count):
            self._start()

    def _start(self) -> None:
        actor = self._kind.remote(self._sent)
        self._asked[actor.ready.remote()] = actor, None

    def answers(self) -> Iterator[tuple[int, Any]]:
        """Units with their results, without end. Raises what the study raises, and ``OnnxdtdError`` where workers die over and
        over again.
        """
        from ray.exceptions import RayError, RayTaskError

        while True:
            (answer,), _ = self._ray.wait(list(self._asked), num_returns=1)
            actor, unit = self._asked.pop(answer)
            try:
                result = self._ray.get(answer)
            except RayTaskError as error:
                self._idle.append(actor)
                raise error.cause from None
            except RayError:  # it died, its machine left, or the result was lost with that
                self._bury(actor, unit)
                continue
            self._deaths[unit] = 0
            self._idle.append(actor)
            self._share_out()
            if unit is not None:
                yield unit, result

    def _share_out(self) -> None:
        """Give units to those that have none."""
        while self._todo and self._idle:
            actor, unit = self._idle.popleft(), self._todo.popleft()
            self._asked[actor.done.remote(unit)] = actor, unit

    def _bury(self, actor: Any, unit: int | None) -> None:
        """Let others do the unit of an actor that is dead."""
        self._ray.kill(actor)
        self._deaths[unit] += 1
        if self._deaths[unit] == DEATHS:
            raise OnnxdtdError(
                f"{DEATHS} workers died {'before they were ready' if unit is None else 'over the same samples'}, perhaps for "
                "want of memory; the same command goes on from here, try it with fewer --workers"
            )
        if unit is not None:
            self._todo.appendleft(unit)
        self._start()
        self._share_out()

    def close(self) -> None:
        """End all of them, at once where they have something to do."""
        closing = [actor.close.remote() for actor in self._idle]
        if closing:
            self._ray.wait(closing, num_returns=len(closing), timeout=PATIENCE)
        for actor in [*self._idle, *(actor for actor, _ in self._asked.values())]:
            self._ray.kill(actor)


def run(study: Prepares, units: Sequence[int], workers: int | None) -> Iterator[tuple[int, Any]]:
    """All ``units`` with their results as they come, from the cluster that Ray finds, else from one that it starts here. No
    more than one result for each of the ``workers`` (None: one a core, or a GPU where they need one) is on its way. Raises as
    ``Crew.answers`` does.
    """
    try:
        import ray
    except ImportError:
        raise OnnxdtdError("--engine ray needs Ray: pip install 'onnxdtd[ray]'") from None
    if not units:
        return
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level="error")
    most = workers or int(ray.cluster_resources().get("GPU" if getattr(study, "gpus", 0) else "CPU", 1))
    crew = Crew(ray, study, units, min(most, len(units)))
    try:
        for _, answer in zip(units, crew.answers(), strict=False):
            yield answer
    finally:
        crew.close()
