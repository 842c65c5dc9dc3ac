"""The script beside lxt: small transformers have the same relevance, and a difference is seen."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

NEEDED = ("torch", "torchvision", "transformers", "lxt")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (see scripts/peers/attnlrp.py)"),
    pytest.mark.filterwarnings("ignore"),
]
SMALL = ("ViT, small", "BERT, small")


@pytest.fixture(scope="module")
def peer() -> ModuleType:
    """The script, which imports PyTorch and lxt."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("attnlrp")


def test_small_transformers(peer: ModuleType, tmp_path: Path) -> None:
    files = {name: peer.exported(name, tmp_path / str(i)) for i, name in enumerate(SMALL)}
    peer.patch()
    for name, paths in files.items():
        for exporter, path in paths.items():
            row = peer.compared(name, exporter, path, 0, 1)
            assert set(row.differences) == {"attnlrp", "cp-lrp"}
            assert max(row.differences.values()) < 1e-5, row
        model, given = peer.patched(name), peer.MODELS[name]()[1]
        whole, held = (peer.theirs(model, given, preset) for preset in peer.LRP)
        assert np.abs(whole - held).max() > 1e-2 * np.abs(whole).max()  # the two methods are told apart
    assert peer.tables([row]).count("|---") == 4
