"""What the commands have in common: find the backend by name and hand it the rest of the command line.

Exit codes: 0 done; 2 bad usage or input, said in one line; 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from .backends import Backend, BackendError, backend_names, load_backend

_LISTS = ("backends", "datasets", "methods", "encoders")


def dispatch(prog: str, argv: Sequence[str] | None, command: Callable[[Backend, Sequence[str]], int]) -> int:
    """Run a command of the backend that `--backend` names, or answer `--list`; return the exit code.

    Args:
        prog: what the command is called in messages.
        argv: its arguments; default: those of this process.
        command: called with the backend and all arguments but these two.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    # Only these two options are the same for every backend; it parses and documents all others.
    parser = argparse.ArgumentParser(prog=prog, add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--list", choices=_LISTS)
    try:
        known, rest = parser.parse_known_args(argv)
        if known.list == "backends":
            names = {name: load_backend(name).description for name in backend_names()}
        elif known.list:
            names = dict(load_backend(known.backend).names(known.list))
        else:
            return command(load_backend(known.backend), rest)
    except KeyboardInterrupt:  # while the backend was being loaded; it handles its own
        print(f"{prog}: interrupted", file=sys.stderr)
        return 130
    except (BackendError, argparse.ArgumentError) as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
        return 2
    width = max(map(len, names), default=0)
    for name, description in names.items():
        print(f"{name:<{width}}  {description}")
    return 0
