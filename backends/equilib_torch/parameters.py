"""Named, typed parameters, declared by what takes them, in the one notation NAME:parameter=value:parameter=value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from equilib_torch.errors import InputError

Value = bool | int | float | str | None


@dataclass(frozen=True)
class Parameter:
    """A parameter of a method, as its declaration says it.

    Attributes:
        name: the keyword it is passed by; written with "-" for "_".
        type: bool, int, float or str.
        default: of that type; None where nothing need be said.
        description: one line, with the symbol of the formula.
        low: smallest value, of a number.
        high: largest value, of a number.
        above: whether `low` itself is refused.
        choices: what a str may be; anything if empty.
        trials: values worth trying beside the default, for tuning; none for what is not tuned.
    """

    name: str
    type: type[bool] | type[int] | type[float] | type[str]
    default: Value
    description: str
    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    choices: tuple[str, ...] = ()
    trials: tuple[float, ...] = ()

    @property
    def written(self) -> str:
        """Its name in the notation."""
        return self.name.replace("_", "-")

    @property
    def rule(self) -> str:
        """What a value must be, in words.

        Example:
            >>> Parameter("alpha", float, 0.3, "α", low=0).rule
            'a number from 0 up'
            >>> Parameter("rate", float, 0.3, "p", low=0, high=1).rule
            'a number from 0 up to 1'
        """
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.type in (bool, str):
            return "true or false" if self.type is bool else "text"
        noun = "a whole number" if self.type is int else "a number"
        low = "" if math.isinf(self.low) else f" above {self.low:g}" if self.above else f" from {self.low:g}"
        high = f" up to {self.high:g}" if math.isfinite(self.high) else " up" if low and not self.above else ""
        return f"{noun}{low}{high}"

    def read(self, value: Any, owner: str) -> Value:
        """Read a value, as text or of its own type.

        Args:
            value: what was given.
            owner: who takes the parameter, for the error.

        Raises:
            InputError: names the owner, the parameter, its rule and the value.

        Example:
            >>> Parameter("alpha", float, 0.3, "α", low=0).read("0.5", "ogm-ge")
            0.5
            >>> Parameter("alpha", float, 0.3, "α", low=0).read("-1", "ogm-ge")
            Traceback (most recent call last):
                ...
            equilib_torch.errors.InputError: ogm-ge: alpha must be a number from 0 up, got -1
        """
        try:
            read = self._convert(value)
            valid = self._allows(read)
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
            valid = False
        if not valid:
            raise InputError(f"{owner}: {self.written} must be {self.rule}, got {_shown(value)}")
        return read

    def _convert(self, value: Any) -> Value:
        if value is None or (self.default is None and value in ("none", "null")):
            return None
        if self.type is bool:
            return value if isinstance(value, bool) else {"true": True, "false": False}[value.lower()]
        if self.type is str:
            return str(value)
        if isinstance(value, bool) or not isinstance(value, str | Real):
            raise TypeError
        if self.type is int:
            return int(value) if isinstance(value, Integral) else _whole(float(value))
        return float(value)

    def _allows(self, value: Value) -> bool:
        if value is None:
            return self.default is None
        if isinstance(value, str):
            return not self.choices or value in self.choices
        if isinstance(value, bool):
            return True
        return math.isfinite(value) and self.low <= value <= self.high and not (self.above and value == self.low)


def _whole(value: float) -> int:
    if not value.is_integer():
        raise ValueError
    return int(value)


def _shown(value: Any) -> str:
    """Show a value as it was written, unless it would not be seen or break the line."""
    text = str(value)
    return text if text.strip() and text.isprintable() else repr(value)


def _text(value: Value) -> str:
    """Write a value in the notation."""
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def split_spec(text: str) -> tuple[str, dict[str, str]]:
    """Split NAME:parameter=value:… into the name and what was written, by parameter.

    Raises:
        InputError: an item that is no parameter=value, or a parameter given twice.

    Example:
        >>> split_spec("ogm-ge:alpha=0.5")
        ('ogm-ge', {'alpha': '0.5'})
    """
    name, *items = text.split(":")
    written: dict[str, str] = {}
    for item in items:
        parameter, equals, value = item.partition("=")
        if not equals or not parameter:
            raise InputError(f"{text!r} must be NAME:parameter=value, got {item!r}")
        if parameter in written:
            raise InputError(f"{text!r} must set {parameter} once, got {value!r} too")
        written[parameter] = value
    return name, written


def format_spec(name: str, written: Mapping[str, Any]) -> str:
    """Join a name and its parameters again.

    Example:
        >>> format_spec("ogm-ge", {"alpha": 0.5})
        'ogm-ge:alpha=0.5'
    """
    return ":".join([name, *(f"{key}={_text(value)}" for key, value in written.items())])


def read_parameters(owner: str, declared: Sequence[Parameter], written: Mapping[str, Any]) -> dict[str, Any]:
    """Read the parameters of one owner: what was written, by its written name, and the defaults of all else.

    Returns:
        Values by keyword, in the order they are declared.

    Raises:
        InputError: a parameter the owner does not have, or a value that breaks its rule.

    Example:
        >>> read_parameters("pmr", [Parameter("alpha", float, 1.0, "α", low=0)], {"alpha": "2"})
        {'alpha': 2.0}
    """
    known = {parameter.written for parameter in declared}
    for name in written:
        if name not in known:
            has = f"has the parameters {', '.join(sorted(known))}" if known else "has no parameters"
            raise InputError(f"{owner} {has}, got {name}={_shown(written[name])}")
    return {p.name: p.read(written[p.written], owner) if p.written in written else p.default for p in declared}
