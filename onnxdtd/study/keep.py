"""What ONNX Runtime makes of a compiled file while it loads it, in a file that other sessions map."""

from __future__ import annotations

import base64
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxdtd import atomic
from onnxdtd.contract import KEPT_BY, read_metadata, tell
from onnxdtd.errors import ModelError, RequestError
from onnxdtd.graph import files
from onnxdtd.graph.sound import nodes_of
from onnxdtd.runtime.explainer import ONLY_ERRORS, SHORT, session
from onnxdtd.runtime.kept import CHANNELS, proof

BLOCKED = "com.microsoft.nchwc"  # the domain of operators on blocks of channels
LEAST = 1024  # bytes of a weight that is worth a place in the other file


def keep(compiled: str | os.PathLike[str], path: str | os.PathLike[str], portable: bool = False) -> None:
    """Write what ONNX Runtime makes of a compiled file, its weights beside it in ``path`` + ``.weights``, for
    ``Explainer(path, prepack=False)``.

    That serves the kind of processor that it was written on, and ``Explainer`` refuses it on others; unless ``portable``, or
    compiled on demand: then convolutions do without their blocked layout.

    Raises:
        OnnxdtdError: a file cannot be read or written, or was not compiled by onnxdtd.
    """
    compiled, path = Path(compiled), Path(path)
    facts = read_metadata(files.read(compiled).proto)
    if "relevance" not in facts:
        raise ModelError(f"{compiled}: was not compiled by onnxdtd; run `onnxdtd compile` on it first")
    if path.exists() and path.samefile(compiled):
        raise RequestError(f"{path}: is the compiled file, which is not overwritten; give another name")
    atomic.ready(path)
    with tempfile.TemporaryDirectory(dir=path.resolve().parent, prefix=".") as folder:
        written, weights = Path(folder, path.name), f"{path.name}.weights"
        # Of the blocked tensors of a branch some get names that are taken, and ONNX Runtime cannot load what it wrote.
        _written(str(compiled), written, weights, blocked=not portable and "ask_input" not in facts)
        proto = onnx.load(written, load_external_data=False)
        tied = any(node.domain == BLOCKED for node in nodes_of(proto.graph.node))
        tell(proto, KEPT_BY, _proof(Path(folder, "proof.onnx")) if tied else {})
        if (beside := written.with_name(weights)).exists():
            atomic.copy(beside, path.resolve().with_name(weights))
        atomic.write(path, proto.SerializeToString())


def _written(model: str | bytes, path: Path, weights: str = "", blocked: bool = True) -> None:
    """Write what ONNX Runtime makes of a model, dense weights in one form."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = ONLY_ERRORS  # it warns that the file is for this kind of processor
    options.optimized_model_filepath = str(path)
    if not blocked:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.disable_prepacking", "1")
    if weights:
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", weights)
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", str(LEAST))
    try:
        ort.InferenceSession(model, options, providers=[SHORT["cpu"]])
    except Exception as error:  # ONNX Runtime's own exceptions share no base class
        raise ModelError(f"ONNX Runtime cannot write what it makes of the model: {str(error).splitlines()[0]}") from None


def _proof(path: Path) -> dict[str, Any]:
    """A convolution in this layout, and what it gives."""
    w = np.random.default_rng(0).integers(-8, 8, [CHANNELS, CHANNELS, 1, 1]).astype(np.float32)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, CHANNELS, 1, 1]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])], "proof", values[:1], values[1:], [numpy_helper.from_array(w, "w")]
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    _written(proto.SerializeToString(), path)
    (y,) = session(path, [SHORT["cpu"]], threads=1).run(None, {"x": proof()})
    return {"model": base64.b64encode(path.read_bytes()).decode(), "gives": y.ravel().tolist()}
