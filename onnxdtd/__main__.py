"""``python -m onnxdtd``"""

from onnxdtd.cli.commands import main

main()
