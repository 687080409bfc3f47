"""From the command line to options: one safe parser for every command."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace, get_loader, set_loader, set_parsing_settings

from equilib_torch.errors import InputError
from equilib_torch.training.options import TrainOptions, help_texts

_EPILOG = "--list backends|datasets|methods|encoders prints the known names and exits."


def new_parser(prog: str, description: str) -> ArgumentParser:
    """A parser that reads YAML files given by --config and never imports what they name."""
    # Configurations may come from anyone: none may name something to import.
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=[])
    set_loader("yaml", _load_yaml, exceptions=(yaml.YAMLError,))
    parser = ArgumentParser(
        prog=prog,
        description=description,
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
    return parser


def add_options(parser: ArgumentParser, defaults: TrainOptions, *, leave_out: Collection[str] = ()) -> None:
    """Add the options of a training run, by their flags, but those left out (by field name)."""
    types, texts = get_type_hints(TrainOptions), help_texts()
    for field in fields(TrainOptions):
        if field.name in leave_out:
            continue
        extra: dict[str, Any] = {"nargs": "+"} if field.name == "encoder" else {}
        kind = str if field.name == "encoder" else types[field.name]
        flag = "--" + field.name.replace("_", "-")
        parser.add_argument(flag, type=kind, default=getattr(defaults, field.name), help=texts[field.name], **extra)


def parse(parser: ArgumentParser, argv: Sequence[str]) -> Namespace:
    """The values of all options.

    Raises:
        InputError: what the parser says, in one line.
    """
    try:
        return parser.parse_args(list(argv))
    except ArgumentError as error:
        raise InputError(str(error)) from error
    except (UnicodeDecodeError, TypeError) as error:
        raise InputError(f"config: not text, or a value of the wrong form ({error})") from error


def parse_options(prog: str, description: str, argv: Sequence[str], defaults: TrainOptions) -> TrainOptions:
    """The options of one training run.

    Args:
        prog: name of the command, for its help.
        description: what it does, for its help.
        argv: the arguments.
        defaults: values of the options that are not among them.

    Raises:
        InputError: an unknown option, or a value it cannot have.

    Example:
        >>> parse_options("train", "", ["--lr", "0.1"], TrainOptions(seed=3)).seed
        3
    """
    parser = new_parser(prog, description)
    add_options(parser, defaults)
    known = parse(parser, argv)
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
