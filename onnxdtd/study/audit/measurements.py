"""Everything that an audit measures, in the order in which it is said."""

from __future__ import annotations

from onnxdtd.study.audit import (
    classes,
    converge,
    inputs,
    order,
    preconditions,
    randomise,
    roots,
    shown,
    silent,
    similarity,
    stability,
)

MEASUREMENTS = {
    one.name: one
    for one in (
        silent.MEASUREMENT,
        classes.MEASUREMENT,
        inputs.MEASUREMENT,
        stability.MEASUREMENT,
        randomise.CASCADING,
        randomise.INDEPENDENT_OF,
        converge.MEASUREMENT,
        order.MEASUREMENT,
        similarity.MEASUREMENT,
        roots.MEASUREMENT,
        preconditions.MEASUREMENT,
        shown.MEASUREMENT,
    )
}
GLANCE = {name: row for measurement in MEASUREMENTS.values() for name, row in measurement.glance.items()}
