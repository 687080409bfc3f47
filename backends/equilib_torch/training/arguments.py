"""From the command line to options: one safe parser for every command."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, get_origin

import docstring_parser
import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace, get_loader, set_loader, set_parsing_settings

from equilib_torch.data.public import find_public
from equilib_torch.errors import InputError
from equilib_torch.methods import METHODS
from equilib_torch.parameters import split_spec
from equilib_torch.training.option_values import flag
from equilib_torch.training.options import GROUPS, KNOWN, TYPES, TrainOptions, read_option, usual_options

_EPILOG = "--list backends|datasets|methods|fusions|encoders|values|estimators prints the known names and exits."

_RENAMED = {
    "value": "coalition_value",
    "mapping": "memory_mapping",
    "inherit": "memory_inherit",
    "smoothing": "shapley_smoothing",
}
"""Options of 0.1.0 and what they are called now."""


_ITEMS = {"encoder": "MODALITY=NAME", "modality": "NAME=KIND[:COLUMN,…]"}


def new_parser(prog: str, description: str) -> ArgumentParser:
    """Make a parser that reads YAML files given by --config and never imports what they name."""
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
    parser.add_argument("--quiet", action="store_true", help="no progress and no summary")
    return parser


def add_options(parser: ArgumentParser, defaults: TrainOptions, *, leave_out: Collection[str] = ()) -> None:
    """Add the options of a training run in their groups, by their flags, but those left out (by field name)."""
    for title, options in GROUPS.items():
        group = parser.add_argument_group(title, options.__doc__)
        texts = {text.arg_name: text.description for text in docstring_parser.parse_from_object(options).params}
        for field in fields(options):
            if field.name in leave_out:
                continue
            text = " ".join((texts[field.name] or "").split())
            if field.name in KNOWN:
                text += f"; known: {', '.join(KNOWN[field.name])}"
            kind: dict[str, Any] = {"type": TYPES[field.name]}
            if field.default is MISSING:  # a list: its items follow the flag, one after the other
                kind = {"type": str, "nargs": "+"}
            elif field.default is False:  # to say the flag alone is to say yes
                kind |= {"nargs": "?", "const": True}
            group.add_argument(f"--{flag(field.name)}", default=getattr(defaults, field.name), help=text, **kind)


def parse(parser: ArgumentParser, argv: Sequence[str]) -> Namespace:
    """Read the values of all options.

    Raises:
        InputError: what the parser says, in one line; or an option of 0.1.0, with its new spelling.
    """
    _refuse_old_spellings(_given(argv), "--")
    try:
        return parser.parse_args(_joined(argv))
    except ArgumentError as error:
        mismatch = re.match(r'Parser key "(\w+)":.* (?:Got|Given) value: ([^\n]*)', str(error), re.DOTALL)
        if mismatch and mismatch[1] in TYPES:
            read_option(mismatch[1], mismatch[2].strip())  # says the same in words
        raise InputError(str(error)) from error
    except (UnicodeDecodeError, TypeError) as error:
        raise InputError(f"config: not text, or a value of the wrong form ({error})") from error


def read_options(
    known: Namespace, *, usual: TrainOptions | None = None, leave_out: Collection[str] = ()
) -> TrainOptions:
    """Take the options of a run out of what was parsed, but those that `add_options` left out.

    Modalities that are given no encoder keep the usual one.
    """
    options = TrainOptions(**{name: known[name] for name in TYPES if name not in leave_out})
    settled = {*options.encoders, *options.drop}  # what is dropped needs none
    kept = [] if usual is None else [f"{m}={spec}" for m, spec in usual.encoders.items() if m not in settled]
    given = [
        item
        for item in options.encoder
        if usual is None or item not in usual.encoder or item.split("=")[0] not in options.drop
    ]
    return replace(options, encoder=[*kept, *given])


def usual_for(argv: Sequence[str]) -> TrainOptions:
    """Give the options that are usual for the data set which the arguments name, by themselves or by --config.

    Example:
        >>> usual_for(["--lr", "0.1", "--dataset", "crema-d:split=speaker"]).method
        'paper'
    """
    dataset = TrainOptions().dataset
    for argument, following in pairwise([*argv, ""]):
        name, equals, value = argument.partition("=")
        value = value if equals else following
        if name == "--dataset":
            dataset = value
        elif name == "--config":
            with suppress(OSError, ValueError, yaml.YAMLError):  # the parser will say what is wrong with it
                loaded = _load_yaml(Path(value).read_text(encoding="utf-8"))
                dataset = str(loaded.get("dataset", dataset)) if isinstance(loaded, dict) else dataset
    return usual_options(dataset) if find_public(dataset) else TrainOptions()


def parse_options(prog: str, description: str, argv: Sequence[str], defaults: TrainOptions) -> TrainOptions:
    """Read the options of one training run.

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
    return read_options(parse(parser, argv))


def describe_old_spelling(name: str, value: object, method: str, prefix: str = "") -> str | None:
    """Say what has become of an option of 0.1.0; None for any other name.

    Args:
        name: of the option.
        value: what it was set to.
        method: the method of the run.
        prefix: "--" on the command line; nothing in a configuration.

    Example:
        >>> describe_old_spelling("strength", "0.5", "ogm-ge", "--")
        '--strength is now a parameter of the method: --method ogm-ge:alpha=0.5'
        >>> describe_old_spelling("smoothing", 0.5, "joint")
        'smoothing is now shapley_smoothing'
    """
    if name in _RENAMED:
        return f"{prefix}{name} is now {prefix}{flag(_RENAMED[name]) if prefix else _RENAMED[name]}"
    if name != "strength":
        return None
    if value is None:  # as in a config.yaml of 0.1.0
        return f"{prefix}{name} is no option any more: leave it out"
    entry = METHODS.get(split_spec(method)[0])
    declared = [] if entry is None else [p for p in entry.keywords if p.type in (int, float)]
    if not declared:
        return f"{prefix}{name} is now a parameter of the method, and {method} has none like it: leave it out"
    spec = f"{method}:{declared[0].written}={value}"
    return f"{prefix}{name} is now a parameter of the method: {prefix}method{' ' if prefix else ': '}{spec}"


def _given(argv: Sequence[str]) -> dict[str, str]:
    """Read flags and the one value behind each, whether it is known or not."""
    given: dict[str, str] = {}
    for argument, following in pairwise([*argv, ""]):
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            given[name] = value if equals else following
    return given


def _joined(argv: Sequence[str]) -> list[str]:
    """Bring the items of a list together that were given behind several flags; the last flag would win alone.

    Example:
        >>> _joined(["--drop", "a", "--lr", "0.1", "--drop=b", "c"])
        ['--lr', '0.1', '--drop', 'a', 'b', 'c']
    """
    flags = {f"--{flag(name)}" for name, kind in TYPES.items() if get_origin(kind) is list}
    items: dict[str, list[str]] = {}
    rest: list[str] = []
    target = rest
    for argument in argv:
        name, equals, value = argument.partition("=")
        if argument.startswith("--"):
            target = items.setdefault(name, []) if name in flags else rest
            if name in flags:
                target += [value] if equals else []
                continue
        target.append(argument)
    return [*rest, *(part for name, values in items.items() for part in (name, *values))]


def _refuse_old_spellings(given: Mapping[str, Any], prefix: str) -> None:
    method = str(given.get("method") or TrainOptions().method)
    told = [describe_old_spelling(name, value, method, prefix) for name, value in given.items()]
    if any(told):
        raise InputError("; ".join(filter(None, told)))


_load_any_yaml = get_loader("yaml")


def _load_yaml(text: str) -> Any:
    """Read YAML without aliases: a few lines of them stand for billions of values."""
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
        raise yaml.YAMLError("aliases are not read")
    loaded = _load_any_yaml(text)
    if isinstance(loaded, dict):
        _refuse_old_spellings(loaded, "")
        loaded.pop("fingerprint", None)  # of the data of the run that wrote it; not an option
        for name in (name for name, kind in TYPES.items() if get_origin(kind) is list):
            items = loaded.get(name, [])
            if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
                raise yaml.YAMLError(f"{name} must be a list of {_ITEMS.get(name, 'text')}, got {items!r}")
    return loaded
