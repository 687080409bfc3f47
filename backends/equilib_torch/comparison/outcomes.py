"""What became of the runs of a comparison, read from their directories and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from equilib_torch.comparison.variants import name_of
from equilib_torch.runs.directory import METRICS, SUMMARY, RunDirectory


class Outcome(NamedTuple):
    """What became of one run.

    Attributes:
        variant: its name.
        seed: of the run.
        summary: contents of its summary.json; None if it failed.
        reason: why it failed; empty otherwise.
        history: lines of its metrics.jsonl.
    """

    variant: str
    seed: int
    summary: dict[str, Any] | None
    reason: str = ""
    history: tuple[dict[str, Any], ...] = ()


def figures(summary: Mapping[str, Any]) -> dict[str, float]:
    """Give the figures of one run by column key, but those relative to another run; accuracies in [0, 1]."""
    seconds = summary["seconds"]
    return {
        "accuracy": summary["test_accuracy"],
        "macro_f1": summary["test_macro_f1"],
        **{f"alone_{name}": value for name, value in summary["unimodal_accuracy"].items()},
        **{f"missing_{rate}": value for rate, value in summary["missing_modality"].items()},
        "edm": summary["edm"],
        "seconds_per_epoch": seconds["train"] / summary["epochs"],
        "schedule_percent": 100 * seconds["schedule"] / (seconds["train"] + seconds["schedule"]),
    }


def read_outcome(path: Path, variant: str) -> Outcome:
    """Read what a finished run left in its directory.

    Raises:
        InputError: a file is damaged; the message says which, and what to do.
    """
    directory = RunDirectory(path)
    summary, history = directory.read_summary(), directory.read_history()
    try:
        names = set(summary["modalities"])
        if set(summary["unimodal_accuracy"]) != names or not all(map(math.isfinite, figures(summary).values())):
            raise ValueError("figures are missing or not finite")
        texts = (summary["dataset"], *summary["versions"].values())
        if not all(isinstance(text, str) for text in texts) or not isinstance(summary["seed"], int):
            raise ValueError("dataset, versions and seed must be given")
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise directory.damaged(SUMMARY, f"{type(error).__name__}: {error}") from error
    try:
        for record in history:
            if set(record["shares"]) != names or not math.isfinite(record["epoch"] + sum(record["shares"].values())):
                raise ValueError("shares are missing or not finite")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise directory.damaged(METRICS, f"{type(error).__name__}: {error}") from error
    return Outcome(variant, summary["seed"], summary, "", history)


def read_outcomes(directory: Path) -> list[Outcome]:
    """Read what all finished runs in the directory of a comparison left, by seed.

    Raises:
        InputError: a file is damaged.
    """
    paths = sorted(path for path in directory.glob("runs/*/seed-*") if RunDirectory(path).finished)
    return sorted((read_outcome(path, name_of(path.parent.name)) for path in paths), key=lambda outcome: outcome.seed)
