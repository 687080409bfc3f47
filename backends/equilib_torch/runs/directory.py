"""The directory of one run: configuration, a line of metrics per epoch, the best model, plots and the summary."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from equilib_torch.classifier import MultimodalClassifier
from equilib_torch.data import DATASETS
from equilib_torch.errors import InputError
from equilib_torch.files import write_atomically
from equilib_torch.network import MultimodalNetwork
from equilib_torch.runs.plots import balance_png
from equilib_torch.training.options import TrainOptions


def settings(options: TrainOptions) -> dict[str, Any]:
    """The contents of config.yaml: every option but the output."""
    found = {name: value for name, value in asdict(options).items() if name != "output"}
    if options.dataset not in DATASETS:
        found["dataset"] = str(Path(options.dataset).resolve())  # the file serves from anywhere
    return found


class RunDirectory:
    """Writes the files of one run.

    Raises:
        InputError: the path is a file or a directory that is not empty, or cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if any(self.path.iterdir()):
                raise FileExistsError
            (self.path / "metrics.jsonl").touch(exist_ok=False)  # of two runs that start at once, one gets it
        except FileExistsError as error:
            if self.path.is_dir():
                raise InputError(f"output must be a new or empty directory, {str(path)!r} is not empty") from error
            raise InputError(f"output must be a new or empty directory, got the file {str(path)!r}") from error
        except (OSError, ValueError) as error:  # a null byte is a ValueError
            if isinstance(error, InputError):
                raise
            raise InputError(f"output must be a new or empty directory, got {str(path)!r} ({error})") from error

    def write_config(self, options: TrainOptions) -> None:
        """config.yaml: the resolved options, for --config. Where the run was written to is not one of them."""
        content = yaml.safe_dump(settings(options), sort_keys=False).encode()
        write_atomically(self.path / "config.yaml", content)

    def add_epoch(self, record: dict[str, Any], best: MultimodalNetwork | None) -> None:
        """Append a line to metrics.jsonl, and keep the network if it is the best so far."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if best is not None:
            was_training = best.training
            MultimodalClassifier(best).save_pretrained(self.path / "checkpoints" / "best")
            best.train(was_training)

    def write_results(self, summary: dict[str, Any], history: list[dict[str, Any]]) -> None:
        """The plot, then summary.json: where that exists, the run is complete."""
        write_atomically(self.path / "balance.png", balance_png(history))
        write_atomically(self.path / "summary.json", json.dumps(summary, indent=2, allow_nan=False).encode())
