"""What `python -m equilib.X` and `equilib X` share: find the backend by name and hand it the rest of the command line.

A backend is an entry point of the group `equilib.backends`. Exit codes: 0 done; 2 bad usage or input, said in one
line; 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Literal, Protocol

Listing = Literal["datasets", "methods", "encoders"]

_LISTS = ("backends", "datasets", "methods", "encoders")


class BackendError(ValueError):
    """A backend that is unknown, or whose requirements are not installed. The message is one line."""


class Backend(Protocol):
    """What an entry point of the group `equilib.backends` provides."""

    description: str

    def train(self, argv: Sequence[str]) -> int:
        """Run the training command with these arguments and return its exit code."""

    def compare(self, argv: Sequence[str]) -> int:
        """Run the comparing command with these arguments and return its exit code."""

    def names(self, what: Listing) -> Mapping[str, str]:
        """Known names of one kind, each with a one-line description."""


def backend_names() -> list[str]:
    """List the names of the installed backends, sorted.

    Example:
        >>> "torch" in backend_names()
        True
    """
    return sorted({entry.name for entry in entry_points(group="equilib.backends")})


def load_backend(name: str) -> Backend:
    """Load a backend by name.

    Raises:
        BackendError: no backend of that name is installed.
    """
    for entry in entry_points(group="equilib.backends"):
        if entry.name == name:
            backend: Backend = entry.load()
            return backend
    raise BackendError(f"backend must be one of {', '.join(backend_names())}, got {name!r}")


def run_command(prog: str, argv: Sequence[str] | None, command: Callable[[Backend, Sequence[str]], int]) -> int:
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
