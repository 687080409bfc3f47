"""The directory of one run, in one place: what its files are called, how they are written and read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import yaml

from equilib_torch.classifier import MultimodalClassifier
from equilib_torch.data import DATASETS, Dataset
from equilib_torch.data.public import find_public
from equilib_torch.errors import InputError
from equilib_torch.files import BEST_MODEL, DirectoryLock, InUseError, write_atomically
from equilib_torch.network import MultimodalNetwork
from equilib_torch.network.backbones.spec import BACKBONE, BackboneSpec
from equilib_torch.runs.plots import balance_png
from equilib_torch.streams import warn
from equilib_torch.training.options import TrainOptions

CONFIG, METRICS, SUMMARY, PICTURE = "config.yaml", "metrics.jsonl", "summary.json", "balance.png"
Content = TypeVar("Content")
_NAMES = {CONFIG, METRICS, SUMMARY, PICTURE, BEST_MODEL.parts[0]}


def config_of(options: TrainOptions) -> dict[str, Any]:
    """Give the options as config.yaml holds them: all but the output."""
    config = {name: value for name, value in asdict(options).items() if name != "output"}
    if options.dataset not in DATASETS and not find_public(options.dataset):
        config["dataset"] = str(Path(options.dataset).resolve())  # the file serves from anywhere
    config["encoder"] = [
        f"{name}={BackboneSpec.read(text).from_anywhere() if text.startswith(f'{BACKBONE}:') else text}"
        for name, text in options.encoders.items()
    ]
    if options.data_root is not None:
        config["data_root"] = str(Path(options.data_root).resolve())
    return config


class RunDirectory:
    """The files of one run; the object only reads them unless it was made by `create`.

    Attributes:
        path: of the directory.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock: DirectoryLock | None = None

    @classmethod
    def create(cls, path: str | Path) -> RunDirectory:
        """Make the directory of a new run and hold it until `close`, so that nobody else writes there.

        Raises:
            InputError: the path is a file or a directory that is not empty, cannot be written, or is in use.
        """
        directory = cls(path)
        directory._lock = lock_directory(path, "a new or empty directory")
        try:
            if any(directory.path.iterdir()):
                raise InputError(
                    f"output must be a new or empty directory, {str(path)!r} is not empty; "
                    "take another or remove this one"
                )
            (directory.path / METRICS).touch(exist_ok=False)
        except OSError as error:
            directory.close()
            raise InputError(f"output must be a directory that can be written, got {str(path)!r} ({error})") from error
        except InputError:
            directory.close()
            raise
        return directory

    def close(self) -> None:
        """Let others write to the directory."""
        if self._lock is not None:
            self._lock.close()

    @property
    def finished(self) -> bool:
        """Whether the run was trained to the end."""
        return (self.path / SUMMARY).is_file()

    # --- writing ---

    def write_config(self, options: TrainOptions, dataset: Dataset) -> None:
        """Write the resolved options, for --config, and the fingerprint of the data they were used on."""
        config = {**config_of(options), "fingerprint": dataset.fingerprint}
        write_atomically(self.path / CONFIG, yaml.safe_dump(config, sort_keys=False).encode())

    def add_epoch(self, record: dict[str, Any], best: MultimodalNetwork | None) -> None:
        """Append a line to the metrics, and keep the network if it is the best so far."""
        with (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if best is not None:
            was_training = best.training
            MultimodalClassifier(best).save_pretrained(self.path / BEST_MODEL)
            best.train(was_training)

    def write_results(self, summary: dict[str, Any], history: list[dict[str, Any]], network: MultimodalNetwork) -> None:
        """Write the network as it is kept, the summary, with which the run is complete, and the plot if possible."""
        MultimodalClassifier(network).save_pretrained(self.path / BEST_MODEL)
        write_atomically(self.path / SUMMARY, json.dumps(summary, indent=2, allow_nan=False).encode())
        write_plots(self.path, {PICTURE: lambda: balance_png(history)})

    def require_free(self, *, remove: bool = False) -> None:
        """Check that a new run may take the place of what a run leaves that was stopped on its way.

        Args:
            remove: whether to remove what is left of that run.

        Raises:
            InputError: a run is being written here, there are files that no run writes, or they cannot be removed.
        """
        if not self.path.exists():
            return
        lock = lock_directory(self.path, "a directory")
        try:
            foreign = [item.name for item in self.path.iterdir() if not _is_of_run(item.name)]
            if foreign:
                raise InputError(
                    f"output: {str(self.path)!r} holds {foreign[0]!r}, which no run writes; move it elsewhere"
                )
            if remove:
                shutil.rmtree(self.path)
        except OSError as error:
            raise InputError(f"output: {str(self.path)!r} cannot be used ({error}); remove it") from error
        finally:
            lock.close()

    # --- reading ---

    def read_config(self) -> dict[str, Any]:
        """Read the options and the fingerprint.

        Raises:
            InputError: the file is missing or damaged.
        """
        return self._read(CONFIG, lambda text: _mapping(yaml.safe_load(text)))

    def read_summary(self) -> dict[str, Any]:
        """Read the summary.

        Raises:
            InputError: the file is missing or damaged.
        """
        return self._read(SUMMARY, lambda text: _mapping(json.loads(text)))

    def read_history(self) -> tuple[dict[str, Any], ...]:
        """Read the measurements, one or more.

        Raises:
            InputError: the file is missing or damaged.
        """
        return self._read(METRICS, lambda text: _not_empty(_mapping(json.loads(line)) for line in text.splitlines()))

    def damaged(self, name: str, reason: object) -> InputError:
        """Say that a file of this run is damaged, and what to do."""
        return InputError(
            f"output: {str(self.path / name)!r} is damaged ({' '.join(str(reason).split())[:200]}); "
            f"remove the directory {str(self.path)!r} to train this run again"
        )

    def _read(self, name: str, parse: Callable[[str], Content]) -> Content:
        try:
            return parse((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise self.damaged(name, error) from error


def lock_directory(path: str | Path, what: str) -> DirectoryLock:
    """Make a directory if need be and hold it.

    Args:
        path: of the directory.
        what: it must be, in the message.

    Raises:
        InputError: somebody else holds it, it is a file, or it cannot be made.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        return DirectoryLock(Path(path))
    except InUseError as error:
        raise InputError(
            f"output: {str(path)!r} is being written by another command; wait for it or take another directory"
        ) from error
    except FileExistsError as error:
        raise InputError(f"output must be {what}, got the file {str(path)!r}") from error
    except (OSError, ValueError) as error:  # a null byte is a ValueError
        raise InputError(f"output must be {what}, got {str(path)!r} ({error})") from error


def write_plots(directory: Path, plots: dict[str, Callable[[], bytes]]) -> None:
    """Draw and write pictures by file name; one that cannot be drawn or written costs a warning."""
    for name, draw in plots.items():
        try:
            write_atomically(directory / name, draw())
        except Exception as error:  # whatever the plotting library or its configuration raises, the results are there
            warn(f"no {name}: {type(error).__name__}: {error}")


def _is_of_run(name: str) -> bool:
    return name in _NAMES or name.startswith(".tmp-")


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"it must hold a mapping, got {type(value).__name__}")
    return value


def _not_empty(records: Any) -> tuple[dict[str, Any], ...]:
    listed = tuple(records)
    if not listed:
        raise ValueError("it holds no measurement")
    return listed
