"""What layers say of their inputs before they are built."""

import pytest

from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators.layer import NotLinear, reduced_axes


@pytest.mark.parametrize(("axes", "rank"), [([1], 0), ([2], 2), ([-3], 2)])
def test_an_axis_that_is_not_there(axes: list[int], rank: int) -> None:
    """As where the rank is not known and declared to be 0."""
    node = Node("ReduceSum", "sum", [Tensor("x")], [Tensor("y")], attrs={"axes": axes})
    with pytest.raises(NotLinear, match="an axis that is not there"):
        reduced_axes(node, rank)
