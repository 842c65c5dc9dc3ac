"""One hypothesis profile for the whole suite: the same examples on every run and every machine, however slow it is."""

from hypothesis import settings

settings.register_profile("onnxdtd", derandomize=True, deadline=None, database=None, max_examples=100)
settings.load_profile("onnxdtd")
