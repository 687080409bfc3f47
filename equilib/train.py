"""`python -m equilib.train`: train one model with a backend."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from equilib._commands import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Train as the command line says and return the exit code."""
    return run_command("train", argv)


if __name__ == "__main__":
    sys.exit(main())
