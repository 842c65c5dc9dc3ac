"""One hypothesis profile for the whole suite: the same examples on every run and every machine, however slow it is."""

import gc

import pytest
from hypothesis import settings
from PIL import Image

settings.register_profile("onnxdtd", derandomize=True, deadline=None, database=None, max_examples=100)
settings.load_profile("onnxdtd")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones first, so that none of them is left over at the end, when other workers have nothing to do."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """What was imported and collected stays: the search for garbage need not go through it, nor begin that often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture
def unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of a single point, for tests that do not ask what is in them: drawing takes longer than all else."""
    monkeypatch.setattr("onnxdtd.study.explain.draw", lambda path, *_: Image.new("L", (1, 1)).save(path))
