"""What tests read off drawings."""

import numpy as np
from matplotlib.axes import Axes


def heights(axes: Axes) -> np.ndarray:
    """Those of the bars from zero, drawn as one artist."""
    return np.array([path.vertices[1, 1] for path in axes.collections[0].get_paths()])
