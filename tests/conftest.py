"""One hypothesis profile for the whole suite: the same examples on every run and every machine, however slow it is."""

import gc
import os
from pathlib import Path
from typing import Any

import npm
import onnxruntime
import pytest
from hypothesis import settings
from PIL import Image

settings.register_profile("onnxdtd", derandomize=True, deadline=None, database=None, max_examples=100)
settings.load_profile("onnxdtd")

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of PyTorch and scikit-learn, whose further threads wait by counting


class Patient(onnxruntime.SessionOptions):
    """Threads that have nothing to do sleep, where they else go round in circles for a while, at the cost of other tests."""

    def __init__(self) -> None:
        super().__init__()
        self.add_session_config_entry("session.intra_op.allow_spinning", "0")


onnxruntime.SessionOptions = Patient


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones first, so that none of them is left over at the end, when other workers have nothing to do."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each worker goes through a part of the suite in its order and takes from others when it is done: what the tests of a
    module share, models and libraries, is made by one of them and not by all.
    """
    if config.getoption("dist") != "load":
        return None  # somebody asks for another one
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


def pytest_collection_finish() -> None:
    """What was imported and collected stays: the search for garbage need not go through it, nor begin that often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session")
def node_modules(testrun_uid: str) -> Path:
    """The folder with the packages of tests/web/package.json: onnxruntime-node and -web, playwright-core."""
    try:
        return npm.node_modules(testrun_uid)
    except npm.Missing as why:
        pytest.skip(str(why))


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The browser, to be started with ``npm.HEADLESS``."""
    try:
        return npm.chromium()
    except npm.Missing as why:
        pytest.skip(str(why))


@pytest.fixture
def unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of a single point, for tests that do not ask what is in them: drawing takes longer than all else."""
    monkeypatch.setattr("onnxdtd.data.images.draw", lambda path, *_: Image.new("L", (1, 1)).save(path))
