"""Torch backend of equilib: balanced training of multimodal classifiers.

    batch → encoders → mapping → gated memory → heads → loss → update, in the schedule's order

`python -m equilib.train` is the way in from the command line. From Python: `load_dataset`, `TrainOptions`, `fit`, and
`MultimodalClassifier` for prediction. They are imported when first used, so that naming the backend loads no framework.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from equilib._commands import BackendError, Listing

if TYPE_CHECKING:
    from equilib_torch.classifier import MultimodalClassifier
    from equilib_torch.data import Dataset, Modality, load_dataset
    from equilib_torch.errors import InputError
    from equilib_torch.runs.plots import plot_edm, plot_shares
    from equilib_torch.runs.summary import summarise
    from equilib_torch.training.loop import Run, fit
    from equilib_torch.training.options import TrainOptions

__all__ = [
    "BACKEND",
    "Dataset",
    "InputError",
    "Modality",
    "MultimodalClassifier",
    "Run",
    "TrainOptions",
    "fit",
    "load_dataset",
    "plot_edm",
    "plot_shares",
    "summarise",
]

_HOMES = {
    "Dataset": "data",
    "InputError": "errors",
    "Modality": "data",
    "MultimodalClassifier": "classifier",
    "Run": "training.loop",
    "TrainOptions": "training.options",
    "fit": "training.loop",
    "load_dataset": "data",
    "plot_edm": "runs.plots",
    "plot_shares": "runs.plots",
    "summarise": "runs.summary",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


class TorchBackend:
    """The entry point `torch` of the group `equilib.backends`."""

    description = "PyTorch, on CPU and CUDA"

    def train(self, argv: Sequence[str]) -> int:
        """Run the training command with these arguments and return its exit code."""
        _wait_quietly()
        with _naming_the_extra():
            from equilib_torch.commands.train import train_command
        return train_command(argv)

    def compare(self, argv: Sequence[str]) -> int:
        """Run the comparing command with these arguments and return its exit code."""
        _wait_quietly()
        with _naming_the_extra():
            from equilib_torch.commands.compare import compare_command
        return compare_command(argv)

    def prepare(self, argv: Sequence[str]) -> int:
        """Run the preparing command with these arguments and return its exit code."""
        with _naming_the_extra():
            from equilib_torch.commands.prepare import prepare_command
        return prepare_command(argv)

    def names(self, what: Listing) -> Mapping[str, str]:
        """Describe the known data sets, methods and so on, by name."""
        with _naming_the_extra():
            from equilib_torch.commands.listing import known_names

            return known_names(what)


def _wait_quietly() -> None:
    # OpenMP threads that spin while they wait for each other slow a busy machine down many times over. It reads
    # this when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextmanager
def _naming_the_extra() -> Iterator[None]:
    """Name the extra where a package is missing; a missing module of ours is a fault and shown as such."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("equilib"):
            raise
        raise BackendError(
            f"backend torch needs the package {error.name}, which is not installed; in a checkout of equilib, install "
            "the extra by: pip install '.[torch]'"
        ) from error


BACKEND = TorchBackend()
