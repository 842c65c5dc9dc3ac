"""Units on a Ray cluster whose workers die, wait and leave: all of them come, once each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import CNN, digits
from PIL import Image

from onnxdtd.errors import OnnxdtdError, RequestError
from onnxdtd.study.cluster import DEATHS, Crew, run

exceptions = pytest.importorskip("ray.exceptions")


@dataclass
class Doubles:
    """Unit i is 2 i, but for those that fail."""

    fails: int | None = None
    prepares: bool = True
    gpus: int = 0

    def prepare(self) -> Callable[[int], int]:
        if not self.prepares:
            raise RequestError("does not fit")
        return self.work

    def work(self, unit: int) -> int:
        if unit == self.fails:
            raise RequestError(f"unit {unit} cannot be done")
        return 2 * unit


@dataclass
class Ray:
    """What ``Crew`` uses of Ray, in this process. ``deaths``: how often the worker dies over a unit (None: when it starts);
    ``absent`` are workers, by number, that never get a machine.
    """

    deaths: dict[int | None, int] = field(default_factory=dict)
    absent: set[int] = field(default_factory=set)
    started: int = 0
    killed: Counter[int] = field(default_factory=Counter)
    most: int = 0  # answers that were waited for at a time
    gpus: int = 0  # that a worker asks for

    def is_initialized(self) -> bool:
        return True

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 5.0} | ({"GPU": 2.0} if self.gpus else {})

    def put(self, value: Any) -> Any:
        return value

    def remote(self, **options: Any) -> Callable[[type], Any]:
        assert options == {"num_cpus": 1, "num_gpus": self.gpus, "max_restarts": 0}
        return lambda kind: Remote(self, kind)

    def wait(self, answers: list[Any], num_returns: int, timeout: float | None = None) -> tuple[list[Any], list[Any]]:
        if timeout is not None:
            return [answer for answer in answers if answer.do() is None], []
        self.most = max(self.most, len(answers))
        return [next(answer for answer in reversed(answers) if answer.number not in self.absent)], answers

    def get(self, answer: Any) -> Any:
        if self.deaths.get(answer.unit, 0) > 0:
            self.deaths[answer.unit] -= 1
            raise exceptions.ActorDiedError
        try:
            return answer.do()
        except OnnxdtdError as error:
            raise exceptions.RayTaskError("done", "its traceback", error).as_instanceof_cause() from None

    def kill(self, actor: Any) -> None:
        self.killed[actor.number] += 1


@dataclass(frozen=True, eq=False)
class Answer:
    number: int
    unit: int | None
    do: Callable[[], Any]


class Remote:
    """An actor class, or one of its actors."""

    def __init__(self, ray: Ray, kind: type):
        self._ray, self._kind = ray, kind

    def remote(self, study: Any) -> Any:
        made = Remote(self._ray, self._kind)
        made.number, made.actor = self._ray.started, self._kind(study)
        self._ray.started += 1
        for name in ("ready", "done", "close"):
            setattr(made, name, Method(made, getattr(made.actor, name)))
        return made


@dataclass
class Method:
    of: Any
    call: Callable[..., Any]

    def remote(self, unit: int | None = None) -> Answer:
        return Answer(self.of.number, unit, lambda: self.call() if unit is None else self.call(unit))


def done(ray: Ray, study: Any = None, units: int = 7, count: int = 2) -> list[Any]:
    crew = Crew(ray, study or Doubles(), range(units), count)
    try:
        return [answer for _, answer in zip(range(units), crew.answers(), strict=False)]
    finally:
        crew.close()
        assert set(range(ray.started)) == {*ray.killed}, "none is left"


@pytest.mark.parametrize(
    "ray",
    [
        Ray(),
        Ray({3: 1}),
        Ray({6: DEATHS - 1, 0: 1}),  # the last one, when the others have nothing to do any more
        Ray({None: 2}),  # before they are ready
        Ray(absent={0}),  # no machine for it, ever
        Ray({2: 1}, absent={1, 2}),  # nor for the one that takes the place of the dead
    ],
)
def test_all_units_come_once_whoever_dies(ray: Ray) -> None:
    count, deaths = 2 if len(ray.absent) < 2 else 3, sum(ray.deaths.values())
    found = done(ray, count=count)
    assert sorted(found) == [(i, 2 * i) for i in range(7)]
    assert ray.started == count + deaths
    assert ray.most <= count


def test_workers_that_die_over_and_over_end_the_run() -> None:
    with pytest.raises(OnnxdtdError, match="3 workers died over the same samples, perhaps for want of memory"):
        done(Ray({4: DEATHS}))
    with pytest.raises(OnnxdtdError, match="3 workers died before they were ready"):
        done(Ray({None: 99}))


def test_what_the_study_says_is_said() -> None:
    for study, words in ((Doubles(fails=5), "unit 5 cannot be done"), (Doubles(prepares=False), "does not fit")):
        with pytest.raises(RequestError) as ended:
            done(Ray(), study)
        assert (type(ended.value), str(ended.value)) == (RequestError, words)


@pytest.mark.parametrize(("workers", "started"), [(None, 5), (3, 3), (50, 7)])
def test_by_default_there_is_a_worker_a_core_of_the_cluster(
    workers: int | None, started: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = Ray()
    monkeypatch.setitem(sys.modules, "ray", ray)
    assert sorted(run(Doubles(), range(7), workers)) == [(i, 2 * i) for i in range(7)]
    assert ray.started == started == len(ray.killed)


def test_where_they_need_gpus_there_is_a_worker_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = Ray(gpus=1)
    monkeypatch.setitem(sys.modules, "ray", ray)
    assert sorted(run(Doubles(gpus=1), range(7), None)) == [(i, 2 * i) for i in range(7)]
    assert ray.started == 2


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="killed otherwise there")
def test_on_ray_itself(tmp_path: Path) -> None:
    """Pictures in a list, one of them bad: a worker is killed in the middle, and all is as one process has it."""
    pytest.importorskip("ray")
    rng = np.random.default_rng(0)
    for i, x in enumerate(digits()[rng.integers(0, 20, 60)]):
        pixels = np.clip(x[0] * 255 + rng.normal(0, 9, (8, 8)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i:02d}.jpg")
    (tmp_path / "07.jpg").write_bytes(b"none")
    (tmp_path / "list.txt").write_text("".join(f"{i:02d}.jpg\n" for i in range(60)))
    line = ["explain", CNN, "@list.txt", "--range", "0,1", "--no-pictures"]
    outs = {}
    for engine in ("one", "ray"):
        more = ["--workers", "2", "--engine", "ray"] if engine == "ray" else []
        command = [sys.executable, "-c", KILLING, *line, "--save", f"{engine}.npz", "-o", engine, *more]
        ran = subprocess.run(list(map(str, command)), cwd=tmp_path, capture_output=True, text=True, env={**os.environ, **PATHS})
        assert ran.returncode == 0, ran.stderr
        assert "skipped 07.jpg: not a readable picture" in ran.stderr
        outs[engine] = json.loads((tmp_path / engine / "results.json").read_text())["samples"], ran.stdout
    assert "killed" in outs["ray"][1]
    assert outs["ray"][0] == outs["one"][0]
    assert (tmp_path / "ray.npz").read_bytes() == (tmp_path / "one.npz").read_bytes()


PATHS = {"PYTHONPATH": os.pathsep.join(sys.path)}
KILLING = """
import os, sys
from onnxdtd.study import abroad, cluster
from onnxdtd.cli.commands import main
share_out = cluster.Crew._share_out
def killing(self):
    share_out(self)
    if self._asked and not hasattr(cluster, "killed"):
        actor, unit = next((entry for entry in self._asked.values() if entry[1] is not None), (None, None))
        if actor is not None:
            cluster.killed = self._ray.kill(actor)
            print("killed the worker of unit", unit)
cluster.Crew._share_out = killing
main()
"""
