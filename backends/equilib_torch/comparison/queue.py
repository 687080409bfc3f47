"""The runs of a comparison: planned, found finished or trained, each in a directory as `train --output` makes it."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from tqdm import tqdm

from equilib_torch.comparison.variants import Variant, name_of
from equilib_torch.comparison.workers import run_in_workers
from equilib_torch.data import Dataset, load_dataset
from equilib_torch.errors import InputError
from equilib_torch.network import MultimodalNetwork
from equilib_torch.runs.directory import RunDirectory, settings
from equilib_torch.runs.summary import summarise
from equilib_torch.training.loop import fit
from equilib_torch.training.options import TrainOptions
from equilib_torch.training.state import State


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


@dataclass(frozen=True)
class PlannedRun:
    """One variant with one seed.

    Attributes:
        variant: its name.
        options: of the run, seed and output included.
    """

    variant: str
    options: TrainOptions

    @property
    def path(self) -> Path:
        """Its directory."""
        return Path(str(self.options.output))

    @property
    def finished(self) -> bool:
        """Whether it has been trained to the end."""
        return (self.path / "summary.json").is_file()

    def outcome(self, reason: str = "it was not trained to the end") -> Outcome:
        """What its directory says; `reason` is why, if it is not finished."""
        if not self.finished:
            return Outcome(self.variant, self.options.seed, None, reason)
        return read_outcome(self.path, self.variant)


def plan_runs(variants: Sequence[Variant], seeds: Sequence[int], directory: Path) -> list[PlannedRun]:
    """Every variant with every seed, all variants of one seed beside each other.

    Raises:
        InputError: a run that is already there was made with other options.
    """
    runs = [
        PlannedRun(v.name, replace(v.options, seed=seed, output=str(directory / "runs" / v.slug / f"seed-{seed}")))
        for seed in seeds
        for v in variants
    ]
    for run in runs:
        if run.finished:
            _require_same(run)
    return runs


def run_all(runs: Sequence[PlannedRun], *, jobs: int = 1, progress: bool = False) -> list[Outcome]:
    """Train what is not finished, in `jobs` processes; what fails does not keep the others from being trained.

    An interruption leaves what is finished as it is, and no process behind.

    Raises:
        InputError: `jobs` is less than 1.
    """
    if jobs < 1:
        raise InputError(f"jobs must be at least 1, got {jobs}")
    missing = [run for run in runs if not run.finished]
    for run in missing:
        if run.path.exists():
            shutil.rmtree(run.path)  # what a run leaves that was stopped on its way
    reasons: dict[Path, str] = {}
    epochs = sum(run.options.epochs for run in runs)
    left = {run.path: run.options.epochs for run in missing}
    with tqdm(total=epochs, initial=epochs - sum(left.values()), unit="epoch", disable=not progress) as bar:

        def tell(options: TrainOptions, reason: str | None) -> None:
            path = Path(str(options.output))
            if reason:
                reasons[path] = reason
            passed = 1 if reason is None else left[path]
            left[path] -= passed
            bar.update(passed)

        queue = [run.options for run in missing]
        if jobs == 1:
            for options in queue:
                tell(options, train_run(options, partial(tell, options, None)))
        else:
            threads = max(1, torch.get_num_threads() // jobs)
            run_in_workers(partial(_train_with_threads, threads), queue, jobs, tell)
    return [run.outcome(reasons.get(run.path, "")) for run in runs]


def train_run(options: TrainOptions, on_epoch: Callable[[], None]) -> str:
    """Train as `train --output` does and say why it failed, or nothing.

    Args:
        options: of the run; `output` is its directory.
        on_epoch: called after every epoch.
    """

    def keep(record: dict[str, Any], best: MultimodalNetwork | None) -> None:
        directory.add_epoch(record, best)
        on_epoch()

    started = time.perf_counter()
    try:
        dataset = _load(options.dataset, options.seed)
        state = State.create(options, dataset)  # refuses what does not fit before anything is written
        directory = RunDirectory(str(options.output))
        directory.write_config(options)
        run = fit(options, dataset, on_epoch=keep, state=state)
        directory.write_results(summarise(run, seconds_total=time.perf_counter() - started), run.history)
    except InputError as error:
        return " ".join(str(error).split())
    except Exception as error:  # a campaign of hundreds of runs goes on; `train` by itself shows the traceback
        return " ".join(f"{type(error).__name__}: {error}".split())
    return ""


def _train_with_threads(threads: int, options: TrainOptions, on_epoch: Callable[[], None]) -> str:
    torch.set_num_threads(threads)
    # tqdm's usual lock is shared with other processes, and Python complains of it when this one is ended.
    tqdm.set_lock(threading.RLock())
    return train_run(options, on_epoch)


def read_outcome(path: Path, variant: str) -> Outcome:
    """What a finished run left in its directory.

    Raises:
        InputError: its files cannot be read.
    """
    try:
        summary = json.loads((path / "summary.json").read_text(encoding="utf-8"))
        lines = (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        history = tuple(json.loads(line) for line in lines)
        return Outcome(variant, summary["seed"], summary, "", history)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"output must hold complete runs, {str(path)!r} cannot be read ({error})") from error


def read_outcomes(directory: Path) -> list[Outcome]:
    """What all finished runs in the directory of a comparison left, by seed.

    Raises:
        InputError: a file cannot be read.
    """
    paths = sorted(path.parent for path in directory.glob("runs/*/seed-*/summary.json"))
    return sorted((read_outcome(path, name_of(path.parent.name)) for path in paths), key=lambda found: found.seed)


@lru_cache(maxsize=1)  # all variants of one seed come one after the other
def _load(dataset: str, seed: int) -> Dataset:
    return load_dataset(dataset, seed=seed)


def _require_same(run: PlannedRun) -> None:
    try:
        found = yaml.safe_load((run.path / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"output: {str(run.path / 'config.yaml')!r} cannot be read ({error})") from error
    if not isinstance(found, dict):
        raise InputError(f"output: {str(run.path / 'config.yaml')!r} must hold options, got {found!r}")
    wanted = settings(run.options)
    for name in [*wanted, *found]:
        here, there = wanted.get(name, "nothing"), found.get(name, "nothing")
        if here != there:
            raise InputError(
                f"output: {str(run.path)!r} holds a run with another {name.replace('_', '-')}: {there!r}, "
                f"not {here!r}; take another directory or remove this one"
            )
