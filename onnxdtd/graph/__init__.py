"""ONNX files as graphs: read, normalised, sliced and written; the builder of new nodes."""
