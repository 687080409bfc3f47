"""What has a name on the command line: entries of one kind, listed, described and looked up in one way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, TypeVar

from equilib_torch.errors import InputError


class Entry(Protocol):
    """What every entry says of itself; its other attributes are facts of its kind."""

    @property
    def name(self) -> str:
        """Its name on the command line."""

    @property
    def description(self) -> str:
        """One line for `--list` and `--help`."""


E = TypeVar("E", bound=Entry)


class Registry(Mapping[str, E]):
    """Entries of one kind by name, in the order they were given.

    Args:
        kind: what they are, as an error says it: "fusion".
        entries: of distinct names.

    Raises:
        ValueError: two entries have the same name.

    Example:
        >>> from equilib_torch.methods import METHODS
        >>> METHODS.find("joint").fusion
        'concat'
    """

    def __init__(self, kind: str, entries: Iterable[E]) -> None:
        self.kind = kind
        self._entries: dict[str, E] = {}
        for entry in entries:
            if entry.name in self._entries:
                raise ValueError(f"{kind}: names must be distinct, got {entry.name!r} twice")
            self._entries[entry.name] = entry

    def __getitem__(self, name: str) -> E:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, name: str, *, what: str | None = None) -> E:
        """Look up an entry that somebody named.

        Args:
            name: of the entry.
            what: the argument that named it, for the error; default: the kind.

        Raises:
            InputError: there is none of that name; names the argument, what there is and what was given.
        """
        if not isinstance(name, str) or name not in self._entries:
            raise InputError(f"{what or self.kind} must be one of {', '.join(self._entries)}, got {name!r}")
        return self._entries[name]

    def descriptions(self) -> dict[str, str]:
        """Describe every entry in one line, by name."""
        return {name: entry.description for name, entry in self._entries.items()}
