"""Running compiled models. Needs neither onnx nor the compiler: this is all that a service imports."""

from onnxdtd.runtime.explainer import Explainer, Explanation, Ledger

__all__ = ["Explainer", "Explanation", "Ledger"]
