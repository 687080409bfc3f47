"""The training command of the torch backend: parse, train, write, say what came out."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence

from equilib._commands import Listing
from equilib_torch.data import DESCRIPTIONS, load_dataset
from equilib_torch.errors import InputError
from equilib_torch.methods import METHODS
from equilib_torch.network.encoders import ENCODERS
from equilib_torch.runs.directory import RunDirectory
from equilib_torch.runs.summary import readable, summarise
from equilib_torch.training.arguments import parse_options
from equilib_torch.training.loop import fit
from equilib_torch.training.options import TrainOptions
from equilib_torch.training.state import State

_PROG = "equilib.train"
_DESCRIPTION = "Train a multimodal classifier and say how balanced its modalities became."


def train_command(argv: Sequence[str]) -> int:
    """Train as these arguments say; return 0, 2 for bad input (one line on standard error) or 130 if interrupted."""
    started = time.perf_counter()
    directory: RunDirectory | None = None
    try:
        options = parse_options(_PROG, _DESCRIPTION, argv, TrainOptions())
        dataset = load_dataset(options.dataset, seed=options.seed)
        state = State.create(options, dataset)  # refuses what does not fit before anything is written
        if options.output is not None:
            directory = RunDirectory(options.output)
            directory.write_config(options)
        on_epoch = None if directory is None else directory.add_epoch
        run = fit(options, dataset, on_epoch=on_epoch, progress=True, state=state)
        summary = summarise(run, seconds_total=time.perf_counter() - started)
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


def known_names(what: Listing) -> Mapping[str, str]:
    """Known data sets, methods or encoders, each with a one-line description."""
    match what:
        case "datasets":
            return DESCRIPTIONS
        case "methods":
            return {name: method.description for name, method in METHODS.items()}
        case "encoders":
            return {name: _first_line(encoder) for name, encoder in ENCODERS.items()}


def _fail(message: str) -> int:
    print(f"equilib.train: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _first_line(thing: object) -> str:
    return (thing.__doc__ or "").strip().splitlines()[0]
