"""A Ray Serve application that predicts and explains: POST /predict, POST /explain[?target=CLASS], GET /health.

    PYTHONPATH=scripts/serving serve run ray_service:app model=COMPILED.onnx source=SOURCE.onnx replicas=2

``model`` is a compiled file. One that explains on demand (compile --on-demand) predicts as fast as its source; of any other the
``source`` predicts in a session beside it, where that is given. Samples that arrive together run together.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from ray import serve
from service import JSON, LIMITS, Asked, Limits, Refused, Service, packed
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

BATCH, WAIT = 8, 0.002  # samples at once, and for how many seconds one waits for others
PLACES = 256  # requests that a replica has at a time: one whose body comes slowly has a place, and is in nobody's way
HELD = 2**28  # bytes of bodies that are coming
TURNS = 64  # requests that are all there and wait for their turn; more are told to come later
QUEUE = 32  # requests for which no replica has a place, and that wait for one
NO_ARRIVAL, BUSY = 408, 503  # of HTTP
HEADERS = {"x-content-type-options": "nosniff", "cache-control": "no-store"}
# Otherwise glibc, once it has freed a large block, takes the next ones from its heaps, where they leave holes, and keeps them
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2**17)}
T = TypeVar("T")

log = logging.getLogger("ray.serve")


class Replica:
    """One session, or two, and a thread that uses them: the loop stays free to take requests in and to say how it is."""

    def __init__(self, model: Path, source: Path | None = None, threads: int = 1, limits: Limits = LIMITS):
        self._service = Service(model, source, threads, limits)
        self._thread = ThreadPoolExecutor(1)
        self._turns = asyncio.Semaphore(TURNS)
        self._held = 0

    async def __call__(self, request: Request) -> Response:
        """Answer a request, with a sentence where it is refused."""
        try:
            kind, body = await self._answered(request)
            return Response(body, 200, HEADERS, kind)
        except Refused as error:
            status, text = error.status, str(error)
        except ClientDisconnect:
            status, text = 400, "the request ended early"
        except Exception:
            log.exception("a request failed")  # which is for us alone
            status, text = 500, "the service failed"
        return Response(json.dumps({"error": text}), status, HEADERS, JSON)

    async def _answered(self, request: Request) -> tuple[str, bytes]:
        path, accept = request.url.path, request.headers.get("accept", "")
        if path == "/health":
            return packed({"ok": True}, "")
        run = {"/predict": self._predict, "/explain": self._explain}.get(path)
        if run is None:
            raise Refused(404, "there are /predict, /explain and /health")
        if request.method != "POST":
            raise Refused(405, f"{path} takes POST")
        kind, target = request.headers.get("content-type", ""), request.query_params.get("target")
        # Before anything is waited for: as soon as something is, Ray fetches the body, however long, whether it is read or not
        self._service.announced(kind, request.headers.get("content-length", ""))
        async with self._within(NO_ARRIVAL, "the request did not arrive"):
            body = await self._arrived(request)
        if self._turns.locked():
            raise self._busy()
        async with self._turns, self._within(BUSY, "there was no answer"):
            answer = await run(await self._aside(self._service.read, kind, body, target))
            if isinstance(answer, Refused):
                raise answer
            return await self._aside(packed, answer, accept)

    async def _arrived(self, request: Request) -> bytes:
        """All of the body."""
        parts = bytearray()
        try:
            async for part in request.stream():
                parts += part
                self._held += len(part)
                if self._held > HELD:
                    raise self._busy()
            return bytes(parts)
        finally:
            self._held -= len(parts)

    def _busy(self) -> Refused:
        return Refused(BUSY, "too many requests at a time; try again later")

    @asynccontextmanager
    async def _within(self, status: int, what: str) -> AsyncIterator[None]:
        """Refuse what takes longer than may be."""
        seconds = self._service.limits.seconds
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            raise Refused(status, f"{what} within {seconds:g} seconds; try again later") from None

    async def _aside(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT)  # type: ignore[untyped-decorator]
    async def _predict(self, asked: Sequence[Asked]) -> Sequence[Any]:
        return await self._aside(self._service.run, asked, False)

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT)  # type: ignore[untyped-decorator]
    async def _explain(self, asked: Sequence[Asked]) -> Sequence[Any]:
        return await self._aside(self._service.run, asked, True)


def app(given: dict[str, str]) -> serve.Application:
    """The application; ``given`` are model, and perhaps source, replicas, threads, and limits."""
    known = dict(given)
    model, source = Path(known.pop("model")).resolve(), known.pop("source", None)
    replicas, threads = int(known.pop("replicas", 1)), int(known.pop("threads", 1))
    limits: dict[str, Any] = {name: (float if name == "seconds" else int)(value) for name, value in known.items()}
    deployment = serve.deployment(
        num_replicas=replicas,
        ray_actor_options={"num_cpus": threads, "runtime_env": {"env_vars": MALLOC}},
        max_ongoing_requests=PLACES,
        max_queued_requests=QUEUE,
    )(Replica)
    return deployment.bind(model, source and Path(source).resolve(), threads, Limits(**limits))
