"""A Ray Serve application that predicts and explains: POST /predict, POST /explain[?target=CLASS], GET /health.

    PYTHONPATH=scripts/serving serve run ray_service:app model=COMPILED.onnx source=SOURCE.onnx replicas=2

``model`` is a compiled file. One that explains on demand (compile --on-demand) predicts as fast as its source; of any other the
``source`` predicts in a session beside it, where that is given. Samples that arrive together run together.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from ray import serve
from service import JSON, LIMITS, TOO_LARGE, Asked, Limits, Refused, Service, packed
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

BATCH, WAIT = 8, 0.002  # samples at once, and for how many seconds one waits for others
QUEUE = 32  # requests that a replica has at a time, and as many again that wait for it; more are told to come later
HEADERS = {"x-content-type-options": "nosniff", "cache-control": "no-store"}
T = TypeVar("T")

log = logging.getLogger("ray.serve")


class Replica:
    """One session, or two, and a thread that uses them: the loop stays free to take requests in and to say how it is."""

    def __init__(self, model: Path, source: Path | None = None, threads: int = 1, limits: Limits = LIMITS):
        self._service = Service(model, source, threads, limits)
        self._thread = ThreadPoolExecutor(1)

    async def __call__(self, request: Request) -> Response:
        """Answer a request, with a sentence where it is refused."""
        try:
            async with asyncio.timeout(self._service.limits.seconds):
                kind, body = await self._answered(request)
            return Response(body, 200, HEADERS, kind)
        except Refused as error:
            status, text = error.status, str(error)
        except TimeoutError:
            status, text = 503, f"no answer within {self._service.limits.seconds:g} seconds; try again later"
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
        body, target = await self._body(request), request.query_params.get("target")
        asked = await self._aside(self._service.read, request.headers.get("content-type", ""), body, target)
        answer = await run(asked)
        if isinstance(answer, Refused):
            raise answer
        return await self._aside(packed, answer, accept)

    async def _body(self, request: Request) -> bytes:
        """All of it, unless it is too long: then no more than that."""
        parts, most = bytearray(), self._service.limits.body
        async for part in request.stream():
            parts += part
            if len(parts) > most:
                raise Refused(TOO_LARGE, f"a request has at most {most:,} bytes")
        return bytes(parts)

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
        ray_actor_options={"num_cpus": threads},
        max_ongoing_requests=QUEUE,
        max_queued_requests=QUEUE,
    )(Replica)
    return deployment.bind(model, source and Path(source).resolve(), threads, Limits(**limits))
