"""What is known of each operator: its linear maps, how it moves entries, its slopes, where its axes come from.

Every module with entries of the table is imported here, so that whoever asks the table finds all of it.
"""

from onnxdtd.operators import contracted, heads, linear, moves, norms, others, pointwise, reductions, resized, transforms

__all__ = ["contracted", "heads", "linear", "moves", "norms", "others", "pointwise", "reductions", "resized", "transforms"]
