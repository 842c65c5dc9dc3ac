"""What an explanation costs on this machine: the model's own forward pass and the explaining model, taking turns."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from onnxdtd.compiler.compile import build, prepare
from onnxdtd.errors import RequestError
from onnxdtd.request import Request
from onnxdtd.runtime.explainer import Explainer, session, tried
from onnxdtd.study.draws import Draws

PAUSE = 0.02  # seconds; the threads of one session spin on for a while and would be in the way of the next


@dataclass(frozen=True)
class Timing:
    """Median seconds of a run with ``batch`` samples."""

    batch: int
    forward: float
    explain: float

    @property
    def ratio(self) -> float:
        """How many forward passes prediction and explanation together cost."""
        return self.explain / self.forward

    @property
    def throughput(self) -> float:
        """Samples explained a second."""
        return self.batch / self.explain


def bench(
    model: str | os.PathLike[str],
    request: Request | None = None,
    batches: Sequence[int] = (1, 8),
    provider: str | None = None,
    rounds: int = 9,
) -> list[Timing]:
    """Time a classifier and its explaining model on random inputs.

    Args:
        model: the file of a classifier.
        request: the options of ``onnxdtd.compile``.
        batches: the numbers of samples to try; a model that fixes its own is timed with that.
        provider: the ONNX Runtime provider to run on.
        rounds: how many runs of each are timed.

    Raises:
        OnnxdtdError: see ``onnxdtd.errors``.
    """
    if any(batch < 1 for batch in batches) or rounds < 1:
        raise RequestError("batches and rounds are at least 1")
    job = prepare(model, request or Request())
    providers = [provider] if provider else None
    explainer, plain = Explainer(build(job), providers, folder=Path(model).parent), session(os.fspath(model), providers)
    draws = Draws(explainer, lambda feeds: tried(plain, feeds))
    size = job.plan.samples.size
    found = []
    for batch in [size] if isinstance(size, int) else dict.fromkeys(batches):
        try:
            x = draws(np.random.default_rng(0), batch)
        except MemoryError:
            raise RequestError(f"there is no memory for a batch of {batch}") from None
        own, feeds = explainer.own(explainer.feeds(x)), explainer.fed(x)
        seconds: dict[str, list[float]] = {"forward": [], "explain": []}
        for _ in range(rounds + 1):
            for name, running, fed in (("forward", plain, own), ("explain", explainer.session, feeds)):
                time.sleep(PAUSE)
                start = time.perf_counter()
                running.run(None, fed)
                seconds[name].append(time.perf_counter() - start)
        found.append(Timing(batch, median(seconds["forward"][1:]), median(seconds["explain"][1:])))  # the first warms up
    return found
