"""python -m benchmarks.gpu: see parts.py."""

import sys

from benchmarks.gpu.parts import main

sys.exit(main(sys.argv[1:]))
