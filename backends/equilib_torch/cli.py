"""The training command of the torch backend: parse, train, write, say what came out."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser, get_loader, set_loader, set_parsing_settings

from equilib.backends import Listing

from .data import DESCRIPTIONS, load_dataset
from .encoders import ENCODERS
from .errors import InputError
from .methods import METHODS
from .options import TrainOptions, help_texts
from .run_directory import RunDirectory
from .summary import readable, summarise
from .training import Training

_EPILOG = "--list backends|datasets|methods|encoders prints the known names and exits."


def train_command(argv: Sequence[str]) -> int:
    """Train as these arguments say; return 0, 2 for bad input (one line on standard error) or 130 if interrupted."""
    started = time.perf_counter()
    directory: RunDirectory | None = None
    try:
        options = _parse(argv)
        dataset = load_dataset(options.dataset, seed=options.seed)
        training = Training(options, dataset)
        if options.output is not None:
            directory = RunDirectory(options.output)
            directory.write_config(options)
        run = training.run(on_epoch=None if directory is None else directory.add_epoch, progress=True)
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


def _parse(argv: Sequence[str]) -> TrainOptions:
    # Configurations may come from anyone: none may name something to import.
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=[])
    set_loader("yaml", _load_yaml, exceptions=(yaml.YAMLError,))
    parser = ArgumentParser(
        prog="equilib.train",
        description="Train a multimodal classifier and say how balanced its modalities became.",
        epilog=_EPILOG,
        print_config="--print-config",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        action="config",
        help="YAML file with values of these options; what follows it on the command line wins",
    )
    types, texts = get_type_hints(TrainOptions), help_texts()
    defaults = TrainOptions()
    for field in fields(TrainOptions):
        extra: dict[str, Any] = {"nargs": "+"} if field.name == "encoder" else {}
        kind = str if field.name == "encoder" else types[field.name]
        flag = "--" + field.name.replace("_", "-")
        parser.add_argument(flag, type=kind, default=getattr(defaults, field.name), help=texts[field.name], **extra)
    try:
        known = parser.parse_args(list(argv))
    except ArgumentError as error:
        raise InputError(str(error)) from error
    except (UnicodeDecodeError, TypeError) as error:
        raise InputError(f"config: not text, or a value of the wrong form ({error})") from error
    return TrainOptions(**{field.name: known[field.name] for field in fields(TrainOptions)})


_load_any_yaml = get_loader("yaml")


def _load_yaml(text: str) -> Any:
    """Read YAML without aliases: a few lines of them stand for billions of values."""
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
        raise yaml.YAMLError("aliases are not read")
    loaded = _load_any_yaml(text)
    encoder = loaded.get("encoder", []) if isinstance(loaded, dict) else []
    if not isinstance(encoder, list) or not all(isinstance(item, str) for item in encoder):
        raise yaml.YAMLError(f"encoder must be a list of MODALITY=NAME, got {encoder!r}")
    return loaded


def _fail(message: str) -> int:
    print(f"equilib.train: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _first_line(thing: object) -> str:
    return (thing.__doc__ or "").strip().splitlines()[0]
