"""One run from its options to its results: the one way to train, for every command."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from equilib_torch.data import DataRequest, Dataset
from equilib_torch.network import MultimodalNetwork
from equilib_torch.runs.directory import RunDirectory
from equilib_torch.runs.summary import summarise
from equilib_torch.training.loop import fit
from equilib_torch.training.options import TrainOptions
from equilib_torch.training.progress import Progress
from equilib_torch.training.state import State


class UnwrittenError(OSError):
    """A run was trained to its end, but its results could not be written.

    Attributes:
        summary: what was to be written.
    """

    def __init__(self, error: OSError, summary: dict[str, Any]) -> None:
        super().__init__(*error.args)
        self.summary = summary


def train_run(
    options: TrainOptions,
    *,
    load: Callable[[DataRequest, int], Dataset] | None = None,
    on_data: Callable[[Dataset], None] | None = None,
    on_epoch: Callable[[], None] | None = None,
    progress: bool | Progress = False,
) -> dict[str, Any]:
    """Load the data, train, write the run's directory if there is to be one, and give the summary.

    Nothing is written before everything has been found in order.

    Args:
        options: of the run.
        load: gives the data that are asked for, for a seed; default: loads them anew.
        on_data: called with the data before training.
        on_epoch: called after every measurement, once that is written.
        progress: as for `fit`.

    Raises:
        InputError: options, data or an output that do not do, or training that diverged.
        OSError: the disk is full or refuses; an `UnwrittenError` if the run was complete.
    """
    started = time.perf_counter()
    shown = progress is not False
    dataset = options.data.load(options.seed, progress=shown) if load is None else load(options.data, options.seed)
    options = options.resolved(dataset)
    if on_data is not None:
        on_data(dataset)
    state = State.create(options, dataset, progress=progress is True)
    directory = None if options.output is None else RunDirectory.create(options.output)

    def keep(record: dict[str, Any], best: MultimodalNetwork | None) -> None:
        if directory is not None:
            directory.add_epoch(record, best)
        if on_epoch is not None:
            on_epoch()

    try:
        if directory is not None:
            directory.write_config(options, dataset)
        run = fit(options, dataset, on_epoch=keep, progress=progress, state=state)
        summary = summarise(run, seconds_total=time.perf_counter() - started)
        if directory is not None:
            try:
                directory.write_results(summary, run.history, run.network)
            except OSError as error:
                raise UnwrittenError(error, summary) from error
    finally:
        if directory is not None:
            directory.close()
    return summary
