"""What is known of each operator: its linear maps, how it moves entries, its slopes, where its axes come from.

Every module with entries of the table is imported here, so that whoever asks the table finds all of it.
"""

from onnxdtd.operators import heads, linear, moves, norms, others, pointwise, reductions, resized

__all__ = ["heads", "linear", "moves", "norms", "others", "pointwise", "reductions", "resized"]
