"""The preparing command: from the raw download of a public data set to the layout that train reads."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from equilib_torch.commands.ending import run_command
from equilib_torch.data.public import PUBLIC
from equilib_torch.errors import InputError
from equilib_torch.streams import say, say_aside

_PROG = "equilib prepare"
_DESCRIPTION = (
    "Make from the raw download of a public data set what train reads: stills of films, one per second, and their "
    "sounds. The same command goes on where it was stopped."
)
_SHOWN = 5  # faults


def prepare_command(argv: Sequence[str]) -> int:
    """Prepare as these arguments say; return 0, 2 for bad input (one line on standard error) or 130 if interrupted."""

    def command() -> None:
        known = read_arguments(argv)
        from equilib_torch.data.public.preparing import prepare

        target = None if known.to is None else Path(known.to)
        done = prepare(known.dataset, Path(known.source), target, jobs=known.jobs, progress=not known.quiet)
        for note in done.notes:
            say_aside(f"{_PROG}: note: {note}")
        for film, reason in done.faults[:_SHOWN]:
            say_aside(f"{_PROG}: warning: {film!r} cannot be read ({reason})")
        if done.films and not known.quiet:
            say(
                f"{done.films:,} films: {done.films - len(done.faults):,} are prepared, {done.before:,} before; "
                f"{len(done.faults):,} cannot be read; {done.silent:,} without sound"
            )
            say(f"Now: equilib train --dataset {known.dataset} --data-root {known.to}")

    return run_command("equilib.prepare", command, state=lambda: "; the same command goes on")


def read_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Read the arguments.

    Raises:
        InputError: one is missing, unknown or wrong.

    Example:
        >>> read_arguments(["crema-d", "--from", "raw", "--to", "made"]).to
        'made'
    """
    parser = argparse.ArgumentParser(prog=_PROG, description=_DESCRIPTION, allow_abbrev=False, exit_on_error=False)
    # Nothing is required by the parser, which would end the process itself.
    parser.add_argument("dataset", nargs="?", help=f"which set: {', '.join(PUBLIC)}")
    parser.add_argument("--from", dest="source", metavar="RAW", help="folder of the download")
    parser.add_argument("--to", metavar="DIR", help="folder of what is made, later --data-root; of sets of films")
    parser.add_argument("--jobs", type=int, default=1, help="films at a time")
    parser.add_argument("--quiet", action="store_true", help="no progress and no summary")
    try:
        known, rest = parser.parse_known_args(list(argv))
    except argparse.ArgumentError as error:
        raise InputError(str(error)) from error
    if rest:
        raise InputError(f"unknown argument {rest[0]!r}; see equilib prepare --help")
    if known.dataset is None or known.source is None:
        raise InputError("needs a set and the folder of its download: equilib prepare SET --from RAW --to DIR")
    PUBLIC.find(known.dataset)
    if known.jobs < 1:
        raise InputError(f"jobs must be at least 1, got {known.jobs}")
    return known
