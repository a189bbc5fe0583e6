"""``python -m mscourse`` is the command ``mscourse``."""

import sys

from mscourse.cli import main

if __name__ == "__main__":
    sys.exit(main())
