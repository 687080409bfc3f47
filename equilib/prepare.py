"""`python -m equilib.prepare`: make from the raw download of a public data set what a backend's training reads."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from equilib._commands import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare as the command line says and return the exit code."""
    return run_command("prepare", argv)


if __name__ == "__main__":
    sys.exit(main())
