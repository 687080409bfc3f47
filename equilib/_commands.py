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

import equilib
from equilib.estimators import descriptions

Listing = Literal["datasets", "methods", "fusions", "encoders", "values"]
"""What a backend can list."""

_LISTS = ("backends", "datasets", "methods", "fusions", "encoders", "values", "estimators")


class BackendError(ValueError):
    """A backend that is unknown, or whose requirements are not installed. The message is one line."""


class Backend(Protocol):
    """What an entry point of the group `equilib.backends` provides."""

    description: str

    def train(self, argv: Sequence[str]) -> int:
        """Run the training command with these arguments and return its exit code."""

    def compare(self, argv: Sequence[str]) -> int:
        """Run the comparing command with these arguments and return its exit code."""

    def prepare(self, argv: Sequence[str]) -> int:
        """Run the command that prepares a public data set with these arguments and return its exit code."""

    def names(self, what: Listing) -> Mapping[str, str]:
        """Describe every entry of one kind by name, in one line or more."""


Command = Callable[[Backend, Sequence[str]], int]

_COMMANDS: dict[str, tuple[str, Command]] = {
    "train": ("train one model and say how balanced its modalities became", lambda backend, argv: backend.train(argv)),
    "compare": (
        "train several methods over seeds and put them in a table",
        lambda backend, argv: backend.compare(argv),
    ),
    "prepare": (
        "make from the raw download of a public data set what train reads",
        lambda backend, argv: backend.prepare(argv),
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `equilib COMMAND …` and return the exit code.

    Args:
        argv: the arguments; default: those of this process.

    Example:
        >>> main(["--version"]) == 0
        equilib ...
        True
    """
    _accept_any_text()
    name, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in _COMMANDS:
        return run_command(name, rest)
    if name == "--version":
        print(f"equilib {equilib.__version__}")
    elif name in ("-h", "--help"):
        lines = [f"  {command:<9}{description}" for command, (description, _) in _COMMANDS.items()]
        print(
            "usage: equilib COMMAND [OPTION ...]\n\nMeasure and cure modality imbalance.\n\n"
            + "\n".join(["commands:", *lines])
            + "\n\nequilib COMMAND --help shows the options of a command, equilib --version the version.\n"
            f"equilib train --list {'|'.join(_LISTS)} shows what there is."
        )
    else:
        known = ", ".join([*_COMMANDS, "--help", "--version"])
        return _refuse("equilib", f"the command must be one of {known}, got {name!r}")
    return 0


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


def run_command(name: str, argv: Sequence[str] | None = None) -> int:
    """Run a command of the backend that `--backend` names, or answer `--list`; return the exit code.

    Args:
        name: of the command.
        argv: its arguments; default: those of this process.
    """
    _accept_any_text()
    argv, prog = list(sys.argv[1:] if argv is None else argv), f"equilib.{name}"
    # Only these two options are the same for every backend; it parses and documents all others.
    parser = argparse.ArgumentParser(
        prog=f"equilib {name}", add_help=False, allow_abbrev=False, exit_on_error=False, description=_COMMANDS[name][0]
    )
    parser.add_argument("--backend", default="torch", help=f"who trains: {', '.join(backend_names())}")
    parser.add_argument("--list", choices=_LISTS, help="print the known names of one kind and exit")
    try:
        known, rest = parser.parse_known_args(argv)
        if known.list:
            _print_entries(_entries(known.list, known.backend))
            return 0
        try:
            return _COMMANDS[name][1](load_backend(known.backend), rest)
        except BackendError:
            if {"-h", "--help"}.intersection(rest):  # all that can be said without what is missing
                parser.print_help()
                print()
            raise
    except KeyboardInterrupt:  # while the backend was being loaded; it handles its own
        print(f"{prog}: interrupted", file=sys.stderr)
        return 130
    except (BackendError, argparse.ArgumentError) as error:
        return _refuse(prog, str(error))


def _entries(what: str, backend: str) -> Mapping[str, str]:
    if what == "backends":
        return {name: load_backend(name).description for name in backend_names()}
    if what == "estimators":
        return descriptions()
    return load_backend(backend).names(what)  # type: ignore[arg-type]  # argparse has checked it


def _print_entries(entries: Mapping[str, str]) -> None:
    width = max(map(len, entries), default=0)
    for name, description in entries.items():
        first, *more = description.split("\n")
        print(f"{name:<{width}}  {first}".rstrip())
        for line in more:
            print(f"{'':<{width}}    {line}")


def _refuse(prog: str, message: str) -> int:
    print(f"{prog}: error: {message}", file=sys.stderr)
    return 2


def _accept_any_text() -> None:
    """Let standard output and error write what their encoding lacks as an escape, where they would raise."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
