"""`python -m modelsim`."""

import sys

from modelsim.cli import main

if __name__ == "__main__":
    sys.exit(main())
