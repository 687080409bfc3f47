"""`python -m equilib`: the same as the command `equilib`."""

from __future__ import annotations

import sys

from equilib._commands import main

if __name__ == "__main__":
    sys.exit(main())
