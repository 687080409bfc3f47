"""`python -m equilib.train`: find the backend by name and hand it the rest of the command line.

Exit codes: 0 done; 2 bad usage or input, said in one line; 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .backends import BackendError, backend_names, load_backend

_LISTS = ("backends", "datasets", "methods", "encoders")


def main(argv: Sequence[str] | None = None) -> int:
    """Train as the command line says and return the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    # Only these two options are the same for every backend; it parses and documents all others.
    parser = argparse.ArgumentParser(prog="equilib.train", add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--list", choices=_LISTS)
    try:
        known, rest = parser.parse_known_args(argv)
        if known.list == "backends":
            names = {name: load_backend(name).description for name in backend_names()}
        elif known.list:
            names = dict(load_backend(known.backend).names(known.list))
        else:
            return load_backend(known.backend).train(rest)
    except KeyboardInterrupt:  # while the backend was being loaded; it handles its own
        print("equilib.train: interrupted", file=sys.stderr)
        return 130
    except (BackendError, argparse.ArgumentError) as error:
        print(f"equilib.train: error: {error}", file=sys.stderr)
        return 2
    width = max(map(len, names), default=0)
    for name, description in names.items():
        print(f"{name:<{width}}  {description}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
