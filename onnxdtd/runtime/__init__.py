"""Running compiled models. Needs neither onnx nor the compiler: this is all that a service imports."""
