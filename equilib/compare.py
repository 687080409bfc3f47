"""`python -m equilib.compare`: train several methods with a backend, over seeds, and put them in one table."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from equilib._commands import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Compare as the command line says and return the exit code."""
    return run_command("compare", argv)


if __name__ == "__main__":
    sys.exit(main())
