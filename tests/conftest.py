"""One hypothesis profile for the whole suite: the same examples on every run and every machine, however slow it is."""

import pytest
from hypothesis import settings

settings.register_profile("onnxdtd", derandomize=True, deadline=None, database=None, max_examples=100)
settings.load_profile("onnxdtd")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones first, so that none of them is left over at the end, when other workers have nothing to do."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
