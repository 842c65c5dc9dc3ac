"""``python -m onnxdtd``"""

from onnxdtd.cli import main

main()
