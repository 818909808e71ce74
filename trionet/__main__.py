"""``python -m trionet``."""

import sys

from trionet.cli import main

if __name__ == "__main__":
    sys.exit(main())
