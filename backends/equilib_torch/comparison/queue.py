"""The runs of a comparison: planned, found finished or trained, each in a directory as `train --output` makes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import torch

from equilib_torch.comparison.outcomes import Outcome, read_outcome
from equilib_torch.comparison.variants import Variant
from equilib_torch.comparison.workers import run_in_workers
from equilib_torch.data import DATASETS, DataRequest, Dataset
from equilib_torch.errors import InputError
from equilib_torch.runs.directory import RunDirectory, config_of, lock_directory
from equilib_torch.runs.train import train_run
from equilib_torch.streams import without_warnings
from equilib_torch.training.options import TrainOptions
from equilib_torch.training.progress import Progress, make_progress

_ELSEWHERE = ("cache", "cache_size", "decode_workers")
"""Options that change nothing about a run but its time."""


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
    def directory(self) -> RunDirectory:
        """Its directory, to be read."""
        return RunDirectory(str(self.options.output))

    @property
    def finished(self) -> bool:
        """Whether it has been trained to the end."""
        return self.directory.finished

    def outcome(self, reason: str = "it was not trained to the end") -> Outcome:
        """Read its directory; `reason` is why, if it is not finished."""
        if not self.finished:
            return Outcome(self.variant, self.options.seed, None, reason)
        return read_outcome(self.directory.path, self.variant)


@contextmanager
def open_comparison(path: str | Path) -> Iterator[Path]:
    """Make the directory of a comparison, or find it again, and hold it so that nobody else writes there.

    Raises:
        InputError: it is in use, something else than a comparison's, or cannot be made.
    """
    directory = Path(path)
    lock = lock_directory(path, "a new or empty directory, or a comparison's")
    try:
        if any(directory.iterdir()) and not (directory / "runs").is_dir():
            raise InputError(
                f"output must be a new or empty directory, or a comparison's, {str(path)!r} is not empty; take another"
            )
        (directory / "runs").mkdir(exist_ok=True)
        yield directory
    finally:
        lock.close()


def plan_runs(variants: Sequence[Variant], seeds: Sequence[int], directory: Path) -> list[PlannedRun]:
    """Plan every variant with every seed, all variants of one seed beside each other.

    Raises:
        InputError: a run that is already there was made with other options or other data, is damaged, or is being
            written.
    """
    runs = [
        PlannedRun(v.name, replace(v.options, seed=seed, output=str(directory / "runs" / v.slug / f"seed-{seed}")))
        for seed in seeds
        for v in variants
    ]
    _load_once.cache_clear()  # a file may have changed since
    for run in runs:
        if run.finished:
            _require_same(run)
            run.outcome()
        else:
            run.directory.require_free()
    return runs


def run_all(runs: Sequence[PlannedRun], *, jobs: int = 1, progress: bool | Progress = False) -> list[Outcome]:
    """Train what is not finished, in `jobs` processes; what fails does not keep the others from being trained.

    An interruption leaves what is finished as it is, and no process behind.

    Raises:
        InputError: `jobs` is less than 1, or the remains of a run cannot be removed.
    """
    if jobs < 1:
        raise InputError(f"jobs must be at least 1, got {jobs}")
    missing = [run for run in runs if not run.finished]
    for run in missing:
        run.directory.require_free(remove=True)
    if isinstance(progress, bool):
        progress = make_progress("auto" if progress else "none", unit="run")
    reasons: dict[str | None, str] = {}
    ended = len(runs) - len(missing)

    def tell(options: TrainOptions, reason: str | None) -> None:
        """Count the end of a run, which has a reason, even an empty one; a measurement has none."""
        nonlocal ended
        if reason:
            reasons[options.output] = reason
        if reason is not None:
            progress.advance()
            ended += 1
            progress.show({"run": f"{ended} of {len(runs)}"})

    try:
        progress.start(len(missing))
        queue = [run.options for run in missing]
        if jobs == 1:
            for options in queue:
                tell(options, train_or_say_why(options, partial(tell, options, None)))
        else:
            threads = max(1, torch.get_num_threads() // jobs)
            run_in_workers(partial(_train_with_threads, threads), queue, jobs, tell)
    finally:
        progress.close()
    return [run.outcome(reasons.get(run.options.output, "")) for run in runs]


def train_or_say_why(options: TrainOptions, on_epoch: Callable[[], None]) -> str:
    """Train as `train --output` does and say why it failed, or nothing.

    Args:
        options: of the run; `output` is its directory.
        on_epoch: called after every epoch.
    """
    try:
        train_run(options, load=_load_once, on_epoch=on_epoch)
    except InputError as error:
        return " ".join(str(error).split())
    except Exception as error:  # a campaign of hundreds of runs goes on; `train` by itself shows the traceback
        return " ".join(f"{type(error).__name__}: {error}".split())
    return ""


def _train_with_threads(threads: int, options: TrainOptions, on_epoch: Callable[[], None]) -> str:
    torch.set_num_threads(threads)
    return train_or_say_why(options, on_epoch)


def _require_same(run: PlannedRun) -> None:
    """Refuse a finished run that was made with other options or on other data."""
    config = run.directory.read_config()
    used = [config.pop("fingerprint", None), run.directory.read_summary().get("fingerprint")]
    planned = config_of(run.options)
    for name in (name for name in [*planned, *config] if name not in _ELSEWHERE):
        here, there = planned.get(name, "nothing"), config.get(name, "nothing")
        if here != there:
            raise InputError(
                f"output: {str(run.directory.path)!r} holds a run with another {name.replace('_', '-')}: {there!r}, "
                f"not {here!r}; take another directory or remove this one"
            )
    # The content of a file does not depend on the seed; that of a bundled set may.
    dataset = _load_once(run.options.data, run.options.seed if run.options.dataset in DATASETS else 0)
    if used != [dataset.fingerprint] * 2:
        raise InputError(
            f"output: {str(run.directory.path)!r} holds a run on other data: what {run.options.dataset!r} contains has "
            "changed since (names, values, labels or split); take another directory or remove this one"
        )


# All variants of one seed come one after the other.
@lru_cache(maxsize=1)
def _load_once(data: DataRequest, seed: int) -> Dataset:
    with without_warnings():  # the command has loaded them once and said what there is to say
        return data.load(seed)
