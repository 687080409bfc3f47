"""Training backends, found by name among the installed entry points of the group `equilib.backends`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Literal, Protocol

Listing = Literal["datasets", "methods", "encoders"]


class BackendError(ValueError):
    """A backend that is unknown, or whose requirements are not installed. The message is one line."""


class Backend(Protocol):
    """What an entry point of the group `equilib.backends` provides."""

    description: str

    def train(self, argv: Sequence[str]) -> int:
        """Run the training command with these arguments and return its exit code."""

    def compare(self, argv: Sequence[str]) -> int:
        """Run the comparing command with these arguments and return its exit code."""

    def names(self, what: Listing) -> Mapping[str, str]:
        """Known names of one kind, each with a one-line description."""


def backend_names() -> list[str]:
    """Names of the installed backends, sorted.

    Example:
        >>> "torch" in backend_names()
        True
    """
    return sorted({entry.name for entry in entry_points(group="equilib.backends")})


def load_backend(name: str) -> Backend:
    """Load a backend by name.

    Raises:
        BackendError: no backend of that name is installed.
    """
    for entry in entry_points(group="equilib.backends"):
        if entry.name == name:
            backend: Backend = entry.load()
            return backend
    raise BackendError(f"backend must be one of {', '.join(backend_names())}, got {name!r}")
