"""A quick audit: how much less of everything it takes, and what that leaves out, in words."""

from __future__ import annotations

from collections.abc import Iterator

from onnxdtd.study.audit.measurements import MEASUREMENTS

# Of a whole audit and of a quick one: samples, neurons of each layer with root points, layers whose weights are drawn anew.
SAMPLES, NEURONS, LAYERS = (20, 8), (16, 4), (12, 4)


def left_out(layers: int, fewer: bool) -> Iterator[str]:
    """What a quick audit of a network with so many layers leaves out; ``fewer``: samples and neurons too, as none were asked
    for.
    """
    if fewer:
        yield f"At most {SAMPLES[1]} samples and {NEURONS[1]} neurons of a layer, not {SAMPLES[0]} and {NEURONS[0]}."
    if layers > LAYERS[1]:
        yield f"Weights are drawn anew from the top down to {LAYERS[1]} of {layers} layers, not to {min(layers, LAYERS[0])}."
    for one in MEASUREMENTS.values():
        if one.thorough:
            yield f"Not measured: {one.thorough}."
