"""Does a file that ONNX Runtime wrote for one kind of processor compute here what it computed there?

The blocks of channels that its convolutions work on are those of a kind of processor, 8 or 16 on x64, and so are the weights
that it has laid out for them. It does not look which: where numbers of channels are multiples of both, another kind computes
nonsense. So the file brings a convolution that was laid out with it, and what that gave.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from onnxdtd.errors import ModelError

CHANNELS = 16  # a multiple of all blocks that there are
NEAR = 1e-3  # of its largest entry


def proof() -> np.ndarray:
    """What goes into the convolution, [1, channels, 1, 1]."""
    return np.arange(1, CHANNELS + 1, dtype=np.float32).reshape(1, CHANNELS, 1, 1)


def check(kept: Mapping[str, Any], run: Callable[[bytes, np.ndarray], np.ndarray]) -> None:
    """``run`` gives what a model makes of an input. Raises ``ModelError`` where that is another; ``kept`` is empty of a
    file that no kind of processor is tied to.
    """
    if not kept:
        return
    want = np.array(kept["gives"])
    try:
        found = run(base64.b64decode(kept["model"]), proof()).ravel()
    except Exception:  # the numbers of channels do not even fit
        found = np.zeros_like(want)
    if not np.abs(found - want).max() <= NEAR * np.abs(want).max():
        raise ModelError(
            "this file has the weights of convolutions as another kind of processor takes them, and would compute nonsense on "
            "this one: write it again here by onnxdtd.keep(COMPILED, FILE), or with portable=True for all processors"
        )
