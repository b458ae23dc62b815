"""``python -m spry_py``."""

import sys

from spry_py._program.cli import main

sys.exit(main())
