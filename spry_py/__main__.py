"""``python -m spry_py``."""

import sys

from ._cli import main

sys.exit(main())
