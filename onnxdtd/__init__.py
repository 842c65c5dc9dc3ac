"""onnxdtd writes the relevance pass of your classifier into the classifier's own ONNX file.

model = onnxdtd.compile("model.onnx", preset="dtd", low=0.0, high=1.0)    # an onnx.ModelProto
onnxdtd.save(model, "model.dtd.onnx", source="model.onnx")
result = onnxdtd.Explainer(model)(x)                                      # result.relevance["input"]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.3.0a0"
__all__ = [
    "Explainer",
    "Explanation",
    "Look",
    "ModelError",
    "OnnxdtdError",
    "Request",
    "RequestError",
    "RuleError",
    "Settings",
    "Unsupported",
    "__version__",
    "audit",
    "bench",
    "compile",
    "draw",
    "evaluate",
    "explain",
    "fit",
    "inspect",
    "keep",
    "load_images",
    "save",
    "tune",
    "verify",
]

if TYPE_CHECKING:
    from onnxdtd.compiler.compile import compile, save
    from onnxdtd.compiler.inspect import inspect
    from onnxdtd.data.look import Look
    from onnxdtd.errors import ModelError, OnnxdtdError, RequestError, RuleError, Unsupported
    from onnxdtd.request import Request
    from onnxdtd.runtime.explainer import Explainer, Explanation
    from onnxdtd.study.audit.audit import audit
    from onnxdtd.study.bench import bench
    from onnxdtd.study.evaluate import Settings, evaluate
    from onnxdtd.study.explain import explain
    from onnxdtd.study.fit import fit
    from onnxdtd.study.keep import keep
    from onnxdtd.study.notebook import draw, load_images
    from onnxdtd.study.tune import tune
    from onnxdtd.study.verify import verify

_HOMES = {
    "Explainer": "runtime.explainer",
    "Explanation": "runtime.explainer",
    "Look": "data.look",
    "Request": "request",
    "Settings": "study.evaluate",
    "audit": "study.audit.audit",
    "bench": "study.bench",
    "compile": "compiler.compile",
    "draw": "study.notebook",
    "evaluate": "study.evaluate",
    "explain": "study.explain",
    "fit": "study.fit",
    "inspect": "compiler.inspect",
    "keep": "study.keep",
    "load_images": "study.notebook",
    "save": "compiler.compile",
    "tune": "study.tune",
    "verify": "study.verify",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that neither importing nor running a compiled model pays for the compiler."""
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module 'onnxdtd' has no attribute {name!r}")
    return getattr(import_module(f"onnxdtd.{_HOMES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    """The public names too, which are imported on first use."""
    return sorted({*globals(), *__all__})
