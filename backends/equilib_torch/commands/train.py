"""The training command of the torch backend: parse, train, write, say what came out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from equilib_torch.commands.ending import run_command
from equilib_torch.streams import say, say_aside
from equilib_torch.training.arguments import add_options, new_parser, parse, read_options, usual_for
from equilib_torch.training.options import TrainOptions

if TYPE_CHECKING:
    from equilib_torch.data import Dataset

_PROG = "equilib train"
_DESCRIPTION = "Train a multimodal classifier and say how balanced its modalities became."


class Request(NamedTuple):
    """What the command line asks for.

    Attributes:
        options: of the run.
        quiet: no progress, and no summary on standard output.
    """

    options: TrainOptions
    quiet: bool


def read_request(argv: Sequence[str]) -> Request:
    """Read the arguments.

    Raises:
        InputError: an unknown option, or a value it cannot have.
    """
    parser = new_parser(_PROG, _DESCRIPTION)
    usual = usual_for(argv)
    add_options(parser, usual)
    known = parse(parser, argv)
    return Request(read_options(known, usual=usual), known["quiet"])


def train_command(argv: Sequence[str]) -> int:
    """Train as these arguments say; return 0, 2 for bad input (one line on standard error) or 130 if interrupted."""
    written: list[str] = []

    def command() -> None:
        options, quiet = read_request(argv)
        # Imported when the arguments are in order: help and wrong usage need none of it.
        from equilib_torch.data import describe
        from equilib_torch.runs.summary import readable
        from equilib_torch.runs.train import UnwrittenError, train_run

        def on_data(dataset: Dataset) -> None:
            if dataset.schema is not None and not quiet:
                say(f"{describe(dataset.schema)}\n")
            for note in () if quiet else dataset.notes:
                say_aside(f"{_PROG}: note: {note}")

        def on_epoch() -> None:
            written[:] = [] if options.output is None else [options.output]

        try:
            summary = train_run(options, on_data=on_data, on_epoch=on_epoch, progress=not quiet)
        except UnwrittenError as error:
            say(readable(error.summary))
            raise
        if not quiet:
            say(readable(summary))
        if options.output is not None:
            say(f"  written to {options.output}")

    def state() -> str:
        return f"; the finished epochs are in {written[0]}" if written else ""

    return run_command("equilib.train", command, state=state)
