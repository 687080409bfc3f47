"""Values of options: how their names are written, what they must be, and what counts as one of their type."""

from __future__ import annotations

from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np

from equilib_torch.errors import InputError


def flag(name: str) -> str:
    """Write a field's name as on the command line.

    Example:
        >>> flag("batch_size")
        'batch-size'
    """
    return name.replace("_", "-")


def require(name: str, holds: bool, rule: str, value: object) -> None:
    """Raise an InputError that names the option, the rule and the value, unless the rule holds."""
    if not holds:
        raise InputError(f"{flag(name)} must {rule}, got {value!r}")


def read_as(name: str, value: Any, kind: Any) -> Any:
    """Give a value as an object of its option's type, if it is one or means one.

    Args:
        name: of the option's field.
        value: what was given.
        kind: bool, int, float, str, a list or an optional one of these, or a Literal.

    Raises:
        InputError: it is of another type.

    Example:
        >>> read_as("lr", 1, float)
        1.0
    """
    origin, choices = get_origin(kind), get_args(kind)
    if origin is Literal:
        require(name, isinstance(value, str) and value in choices, f"be one of {', '.join(choices)}", value)
        return str(value)
    if origin in (Union, UnionType):
        return None if value is None else read_as(name, value, choices[0])
    if origin is list:
        require(name, isinstance(value, list | tuple), "be a list", value)
        return [read_as(name, item, choices[0]) for item in value]
    if kind is bool:
        require(name, isinstance(value, bool | np.bool_), "be true or false", value)
    elif kind is str:
        require(name, isinstance(value, str), "be text", value)
    else:
        number, noun = (Integral, "a whole number") if kind is int else (Real, "a number")
        require(name, isinstance(value, number) and not isinstance(value, bool), f"be {noun}", value)
    return kind(value)
