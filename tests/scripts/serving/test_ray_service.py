"""The application on Ray Serve: what it does with requests over HTTP, in this process; and once on a cluster."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import load
import numpy as np
import pytest
from commands import CNN, digits
from service import JSON, Limits

import onnxdtd

X = digits()


@pytest.fixture(scope="module")
def replica() -> Iterator[Any]:
    """What answers, with the queue of Ray Serve's batches, which asks where it is; imported here: nobody else waits for Ray."""
    pytest.importorskip("starlette", reason="ray[serve] is not installed")
    with warnings.catch_warnings(action="ignore"):
        import ray_service
    placed = SimpleNamespace(_deployment_config=SimpleNamespace(max_ongoing_requests=ray_service.QUEUE))
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as loop:  # the queue stays with one loop
        patch.setattr(ray_service.serve, "get_replica_context", lambda: placed)
        patch.setattr(ray_service.Replica, "asked", lambda self, *requests: asked(loop, self, *requests), raising=False)
        yield ray_service.Replica


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served") / "digits.onnx"
    onnxdtd.save(onnxdtd.compile(CNN, low=0, high=1, target="input", on_demand="required"), path)
    return path


def request(
    path: str,
    body: Sequence[bytes] = (),
    kind: str = JSON,
    method: str = "POST",
    slow: float = 0,
    ends: bool = True,
    length: str | None = None,
) -> Any:
    """A request whose body comes in parts, ``slow`` seconds each, and that ends, or not; its ``length`` is what it comes to."""
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in body]
    messages.append({"type": "http.request", "body": b"", "more_body": False} if ends else {"type": "http.disconnect"})

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(slow)
        return messages.pop(0)

    from starlette.requests import Request

    path, _, query = path.partition("?")
    said = str(sum(map(len, body))) if length is None else length
    headers = [(b"content-type", kind.encode()), (b"content-length", said.encode())]
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": headers}
    return Request(scope, receive)


def asked(loop: asyncio.Runner, replica: Any, *requests: Any) -> list[tuple[int, Any]]:
    """The answers to requests that come at once."""

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*map(replica, requests))

    return [(answer.status_code, json.loads(answer.body)) for answer in loop.run(all_of_them())]


def listed(x: np.ndarray) -> bytes:
    return json.dumps({"inputs": x.tolist()}).encode()


def test_good_ones_among_bad_ones(replica: Any, compiled: Path) -> None:
    """All at once: half of them wrong, the others as alone."""
    wrong = [request("/explain", [body], headers["content-type"]) for body, headers in load.bad(X[0])]
    right = [request(f"/explain?target={i % 10}", [listed(x)]) for i, x in enumerate(X[: len(wrong)])]
    found = replica(compiled).asked(*(one for pair in zip(wrong, right, strict=True) for one in pair))
    explainer = onnxdtd.Explainer(compiled)
    for status, said in found[::2]:
        assert 400 <= status < 500
        assert list(said) == ["error"]
    for i, (status, said) in enumerate(found[1::2]):
        alone = explainer(X[i][None], i % 10)
        assert (status, said["target"], said["predicted"]) == (200, i % 10, alone.predicted[0])
        np.testing.assert_allclose(said["relevance"]["image"], alone.relevance["image"][0], rtol=1e-4, atol=1e-6)


def test_predicting_explains_nothing(replica: Any, compiled: Path) -> None:
    ((status, said),) = replica(compiled).asked(request("/predict", [listed(X[0])]))
    assert status == 200
    assert set(said) == {"predicted", "predicted_label", "scores"}


def test_what_is_wrong_with_a_request(replica: Any, compiled: Path) -> None:
    body = listed(X[0])
    parts = [body[:50], body[50:]]
    found = replica(compiled, limits=Limits(body=5000)).asked(
        request("/health", method="GET"),
        request("/"),
        request("/explain", method="GET"),
        request("/explain", parts),
        request("/explain", parts[:1], ends=False),
        request("/explain", [b" " * 600] * 100),
        request("/explain", parts, length=""),
        request("/explain", parts, length="-5"),
    )
    assert found[3][0] == 200
    expected = [
        (200, {"ok": True}),
        (404, "there are"),
        (405, "takes POST"),
        (400, "ended early"),
        (413, "at most 5,000 bytes"),
        (411, "say how many bytes the body has"),
        (411, "say how many bytes the body has"),
    ]
    for (status, said), (wanted, words) in zip(found[:3] + found[4:], expected, strict=True):
        assert status == wanted
        assert said == words if isinstance(words, dict) else words in said["error"]


def test_a_body_that_is_too_long_is_not_waited_for(replica: Any, compiled: Path) -> None:
    """Ray fetches a body as soon as the replica waits for anything: the answer is there before."""
    import ray_service

    for one in (request("/explain", length="60000"), request("/explain", length="")):
        answer = ray_service.Replica(compiled, limits=Limits(body=5000))(one)
        with pytest.raises(StopIteration) as ended:
            answer.send(None)
        assert ended.value.value.status_code in (411, 413)


def test_nobody_waits_for_ever(replica: Any, compiled: Path) -> None:
    """A body that comes drop by drop ends, and others are answered."""
    drops = request("/predict", [b" "] * 1000, slow=0.02)
    (late, said), (fine, _) = replica(compiled, limits=Limits(seconds=0.5)).asked(drops, request("/predict", [listed(X[0])]))
    assert (late, fine) == (408, 200)
    assert said == {"error": "the request did not arrive within 0.5 seconds; try again later"}


def test_an_answer_has_its_time(replica: Any, compiled: Path) -> None:
    slow = replica(compiled, limits=Limits(seconds=0.3))
    slow._service.run = lambda asked, explain: time.sleep(0.6)
    ((status, said),) = slow.asked(request("/predict", [listed(X[0])]))
    assert (status, said) == (503, {"error": "there was no answer within 0.3 seconds; try again later"})


def test_only_so_many_wait_for_their_turn(replica: Any, compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow ones are none of them; who has been answered, refused or cut off makes room."""
    import ray_service

    monkeypatch.setattr(ray_service, "TURNS", 2)
    serving, one = replica(compiled), lambda **said: request("/predict", [listed(X[0])], **said)
    for _ in range(2):
        found = serving.asked(*(one(slow=0.3) for _ in range(2)), *(one() for _ in range(3)))
        assert [status for status, _ in found] == [200, 200, 200, 200, 503]
        assert found[-1][1] == {"error": "too many requests at a time; try again later"}
        refused = serving.asked(request("/predict", [b"{"]), one(ends=False))
        assert [status for status, _ in refused] == [400, 400]


def test_bodies_that_come_are_not_too_many_bytes(replica: Any, compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray_service

    body = listed(X[0])
    monkeypatch.setattr(ray_service, "HELD", len(body) + 10)
    serving = replica(compiled)
    for _ in range(2):
        drops = request("/predict", [body[:20]] * 9, slow=0.03)
        found = serving.asked(drops, request("/predict", [body], slow=0.1))
        assert [status for status, _ in found] == [400, 503]
        assert serving.asked(request("/predict", [body]))[0][0] == 200


def test_who_hangs_up_leaves_nothing_behind(replica: Any, compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray cancels what nobody waits for, wherever it is: while its body comes, and while it is run."""
    import ray_service

    monkeypatch.setattr(ray_service, "TURNS", 1)
    serving, body = replica(compiled), listed(X[0])

    async def hang_up(one: Any, after: float) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(serving(one), after)

    real, serving._service.run = serving._service.run, lambda asked, explain: time.sleep(0.2) or real(asked, explain)
    with asyncio.Runner() as loop:
        loop.run(hang_up(request("/predict", [body[:9]] * 3, slow=0.1), 0.15))
        loop.run(hang_up(request("/explain", [body]), 0.05))
    assert serving._held == 0
    assert not serving._turns.locked()


def test_what_goes_wrong_inside_stays_inside(replica: Any, compiled: Path) -> None:
    broken = replica(compiled)
    broken._service.run = None
    ((status, said),) = broken.asked(request("/predict", [listed(X[0])]))
    assert (status, said) == (500, {"error": "the service failed"})


CLUSTER = """
import sys, threading, json
sys.path[:0] = [{tests!r}, {scripts!r}, {serving!r}]
import load, numpy as np
from service import JSON, NPZ
x = np.load({samples!r})["image"][:2]
with load.served({{"model": {model!r}}}) as port:
    answers = {{}}
    bad = lambda: answers.update(bad=[load.ask(port, "/explain", *one)[0] for one in load.bad(x[0])])
    asking = threading.Thread(target=bad)
    asking.start()
    good = [load.ask(port, f"/explain?target={{i}}", load.npy(x[i % 2]), load.NPY) for i in range(10)]
    asking.join()
    said = [json.loads(body) for _, body in good]
    folders = load.replicas_of(load.NAME)
    memory = [load.memory(folders)]
    long = lambda: [load.ask(port, "/explain", b" " * 2**24, load.JSON) for _ in range(5)]
    asking = [threading.Thread(target=long) for _ in range(4)]
    for thread in asking: thread.start()
    for thread in asking: thread.join()
    memory.append(load.memory(folders))
    told = (folders[0] / "environ").read_bytes().decode()
print(json.dumps([answers["bad"], [status for status, _ in good], said, len(folders), memory, told]))
"""


@pytest.mark.slow
def test_on_a_cluster(replica: Any, compiled: Path) -> None:
    """Everything as it is deployed: a proxy, a replica, requests over the network, in a process that ends with all of it."""
    root = Path(load.__file__).resolve().parents[2]
    where = {"tests": str(root / "tests"), "scripts": str(root / "scripts"), "serving": str(root / "scripts" / "serving")}
    code = CLUSTER.format(**where, samples=str(root / "models" / "digits_samples.npz"), model=str(compiled))
    env = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    bad, statuses, said, replicas, memory, told = json.loads(done.stdout.splitlines()[-1])
    assert all(400 <= status < 500 for status in bad)
    assert len(bad) == 10
    assert statuses == [200] * 10
    assert replicas == 1
    assert memory[1] < memory[0] + 10  # of twenty bodies of 16 MB nothing arrives
    assert "MALLOC_MMAP_THRESHOLD_=131072" in told.split("\0")
    explainer = onnxdtd.Explainer(compiled)
    for i, one in enumerate(said):
        alone = explainer(X[i % 2][None], i)
        np.testing.assert_allclose(one["relevance"]["image"], alone.relevance["image"][0], rtol=1e-4, atol=1e-6)
