"""The training command of the torch backend: parse, train, write, say what came out."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from equilib_torch.errors import InputError
from equilib_torch.training.arguments import add_options, new_parser, parse, read_options
from equilib_torch.training.options import TrainOptions

if TYPE_CHECKING:
    from equilib_torch.runs.directory import RunDirectory

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
    add_options(parser, TrainOptions())
    known = parse(parser, argv)
    return Request(read_options(known), known["quiet"])


def train_command(argv: Sequence[str]) -> int:
    """Train as these arguments say; return 0, 2 for bad input (one line on standard error) or 130 if interrupted."""
    started = time.perf_counter()
    directory: RunDirectory | None = None
    try:
        options, quiet = read_request(argv)
        # Imported when the arguments are in order: help and wrong usage need none of it.
        from equilib_torch.data import load_dataset
        from equilib_torch.runs.directory import RunDirectory
        from equilib_torch.runs.summary import readable, summarise
        from equilib_torch.training.loop import fit
        from equilib_torch.training.state import State

        dataset = load_dataset(options.dataset, seed=options.seed)
        state = State.create(options, dataset)  # refuses what does not fit before anything is written
        if options.output is not None:
            directory = RunDirectory(options.output)
            directory.write_config(options)
        on_epoch = None if directory is None else directory.add_epoch
        run = fit(options, dataset, on_epoch=on_epoch, progress=not quiet, state=state)
        summary = summarise(run, seconds_total=time.perf_counter() - started)
        if not quiet:
            print(readable(summary))
        if directory is not None:
            directory.write_results(summary, run.history)
            print(f"  written to {directory.path}")
    except InputError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"cannot write the run: {error}")
    except KeyboardInterrupt:
        finished = directory is not None and (directory.path / "metrics.jsonl").stat().st_size > 0
        where = f"; the finished epochs are in {directory.path}" if directory and finished else ""
        print(f"equilib.train: interrupted{where}", file=sys.stderr)
        return 130
    return 0


def _fail(message: str) -> int:
    print(f"equilib.train: error: {' '.join(message.split())}", file=sys.stderr)
    return 2
