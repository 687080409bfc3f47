"""The training loop, one for every method: update by the plan, measure every coalition on validation, plan anew.

Plain functions over a `State`, which they move on: `train`, then `measure`, again and again, and `finish`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from equilib import contribution_shares, edm, shapley_values
from equilib_torch.coalition_table import CoalitionTable
from equilib_torch.data import Dataset
from equilib_torch.errors import InputError
from equilib_torch.methods import Plan
from equilib_torch.naming import by_coalition, by_modality
from equilib_torch.network import MultimodalNetwork
from equilib_torch.streams import warn
from equilib_torch.training.device import apart_from_caller
from equilib_torch.training.evaluation import VALUES, Evaluation, evaluate
from equilib_torch.training.options import TrainOptions
from equilib_torch.training.planning import is_exhausted, make_plan
from equilib_torch.training.progress import NoProgress, Progress, make_progress
from equilib_torch.training.samples import Samples
from equilib_torch.training.stacking import stack
from equilib_torch.training.state import Best, Record, State, seed
from equilib_torch.training.step import make_step

OnEpoch = Callable[[Record, MultimodalNetwork | None], bool | None]


class Run(NamedTuple):
    """What training leaves behind.

    Attributes:
        network: as it was after the update whose weights are kept, stacked if the options say so.
        dataset: what it was trained on, as it was given.
        options: of the run.
        history: one record per measurement on validation, with the mean loss of the updates before it; never stacked.
        updates: number of updates made.
        epochs: passes over the training split that they began.
        best_epoch: epoch of the weights that are kept, from 1.
        test: the one evaluation on the test split, by that network.
        seconds: where the time went: updates (train), coalitions and schedule (schedule), other evaluation (evaluate).
        samples: what was seen of the data set: who was excluded, and what was made missing.
    """

    network: MultimodalNetwork
    dataset: Dataset
    options: TrainOptions
    history: list[Record]
    updates: int
    epochs: int
    best_epoch: int
    test: Evaluation
    seconds: dict[str, float]
    samples: Samples


def fit(
    options: TrainOptions,
    dataset: Dataset,
    *,
    encoders: Mapping[str, nn.Module] | None = None,
    on_epoch: OnEpoch | None = None,
    progress: bool | Progress = False,
    state: State | None = None,
) -> Run:
    """Train as the options say, stack the weights that are kept on validation, and evaluate them once on test.

    Kept are the last weights, or those of the best measurement: the one with the highest accuracy of all modalities
    together; among equals, the highest log-likelihood. The same options and data give the same run. Random states,
    gradient mode and autocast of the caller neither count nor change.

    Args:
        options: what to train, and how.
        dataset: what to train on; `options.dataset` and `options.output` are not looked at.
        encoders: modules of one's own, by modality, in the place of the usual encoders: (B, ...) -> (B, d), any d. A
            copy of each is trained. It gets the samples of a batch that have the modality, as they are: float32 and
            not standardised; and `lengths`, (B,), if its forward has an argument of that name. In eval mode, what it
            makes of a sample must not depend on the rest of the batch. With a `state`, give them to `State.create`.
        on_epoch: called after each measurement with its record, and with the network if its weights are the ones to
            keep so far, else None; if it returns False, the run ends there.
        progress: whether to show a bar on standard error, or lines where that is no terminal; or what to tell how far
            the run has come.
        state: where to go on from, made by `State.create` of the same options and data; it is moved on. Default: the
            start.

    Raises:
        InputError: options that do not fit the data or the machine, a state that does not fit them, or predictions
            that became infinite or NaN.

    Example:
        >>> from equilib_torch import load_dataset
        >>> run = fit(TrainOptions(epochs=1), load_dataset("mfeat-small", seed=0))
        >>> run.best_epoch, run.test.values.shape
        (1, (16,))
    """
    if state is None:
        state = State.create(options, dataset, encoders=encoders, progress=progress is True)
    elif encoders:
        raise InputError("encoders must be given to State.create where there is a state, got both")
    elif state.dataset is not dataset or replace(state.options, output=options.output) != options:
        raise InputError("state must be made by State.create of the same options and data, got one of others")
    if progress and state.samples.n_excluded:
        n = len(state.dataset.splits["train"])
        warn(f"{state.samples.n_excluded} of {n} training samples lack a modality and are excluded")
    told = make_progress("auto" if progress else "none") if isinstance(progress, bool) else progress
    told.start(state.budget.n_updates)
    try:
        told.advance(state.update)
        for update in state.budget.measured[len(state.history) :]:
            train(state, update, progress=told)
            improved = measure(state)
            told.show(state.history[-1])
            if on_epoch is not None and on_epoch(state.history[-1], state.network if improved else None) is False:
                break
            if is_exhausted(
                [(record["accuracy"], record["log_likelihood"]) for record in state.history], options.patience
            ):
                break
    finally:
        told.close()
    return finish(state)


def train(state: State, until: int, *, progress: Progress | None = None) -> None:
    """Update the network on one batch after the other, until so many updates have been made in all.

    Random draws depend on the seed, the epoch and the position in it alone.
    """
    told = progress or NoProgress()
    network, per_epoch = state.network, state.budget.per_epoch
    step = make_step(state.optimiser, state.scaler, state.losses)
    network.train()
    with state.clock.measure("train"), state.own_random_streams():
        if state.update <= state.options.freezes * state.budget.n_updates:
            network.fusion.follow(state.plan.order)  # a later change could undo what the memory has learned
        while state.update < until:
            plan, position = state.plan._replace(epoch=state.epoch), state.update % per_epoch
            if position == 0:
                seed(state.machine, state.options.seed, state.epoch)
                network.fusion.start_epoch(inherit=state.options.memory_inherit)
            for batch in islice(state.batches("train", skip=position), until - state.update):
                plan = plan._replace(progress=state.update / state.budget.n_updates)
                for group in state.optimiser.param_groups:
                    group["lr"] = state.learning_rate * group["lr_factor"]
                with state.machine.autocast():
                    state.method(network, state.augment(batch, state.update), plan, step)
                state.update += 1
                told.advance()


def measure(state: State) -> bool:
    """Measure every coalition on validation, record it and plan the next updates by it.

    Returns:
        Whether the network's weights are the ones to keep so far.

    Raises:
        InputError: predictions are infinite or NaN.
    """
    epoch = (state.update - 1) // state.budget.per_epoch + 1
    with apart_from_caller(state.machine.device):
        measured = _evaluate(state, state.network, "val")
        if not measured.is_finite:
            raise InputError(f"training diverged in epoch {epoch}: predictions are not finite; try a smaller lr")
        with state.clock.measure("schedule"):
            shapley = shapley_values(measured.values)
            state.measured = state.scheduler.update(state.measured, shapley)
            next_plan = make_plan(state.scheduler.schedule(state.measured), measured.values, state.epoch)
        loss = torch.stack(state.losses).mean().item() if state.losses else 0.0
        state.losses.clear()
        names = state.dataset.names
        state.history.append(_record(state.update, epoch, names, state.plan, measured, shapley, loss, next_plan))
        state.plan = next_plan
        score = float(CoalitionTable(measured.accuracies).of_all), measured.log_likelihood
        best = state.best
        keeps_last = state.options.keeps == "last"
        improved = keeps_last or best is None or score > (best.accuracy, best.log_likelihood)
        if improved:
            weights = {name: tensor.detach().clone() for name, tensor in state.network.state_dict().items()}
            state.best = Best(*score, epoch, weights)
    return improved


def finish(state: State) -> Run:
    """Stack the network that is kept, and evaluate it on test, once; the state stays as it is, and could go on.

    Raises:
        InputError: nothing was measured yet, or predictions are infinite or NaN.
    """
    if state.best is None:
        raise InputError("state must have been measured once or more, got one of a run that has just begun")
    with apart_from_caller(state.machine.device):
        network = deepcopy(state.network)
        network.load_state_dict(state.best.weights)
        if state.options.stacks:
            with state.clock.measure("evaluate"), state.machine.autocast():
                stack(network, state.batches("val"), class_weights=_class_weights(state))
        test = _evaluate(state, network, "test")
    name = state.dataset.name
    if not test.is_finite:
        raise InputError(f"{name}: predictions on test are not finite; are its values like those of train?")
    return Run(
        network,
        state.dataset,
        state.options,
        list(state.history),
        state.update,
        -(-state.update // state.budget.per_epoch),
        state.best.epoch,
        test,
        dict(state.clock.seconds),
        state.samples,
    )


def _class_weights(state: State) -> torch.Tensor | None:
    """Weigh classes for stacking as training does: by the inverse of their frequency, 1 on average over the samples."""
    if state.options.class_weights == "none":
        return None
    dataset = state.samples.dataset
    counts = np.bincount(dataset.labels[dataset.splits["train"]], minlength=dataset.n_classes)
    return torch.from_numpy(counts.sum() / (dataset.n_classes * counts))


def _evaluate(state: State, network: MultimodalNetwork, split: str) -> Evaluation:
    clock, value = state.clock, VALUES[state.options.coalition_value]
    with clock.measure("evaluate"), state.machine.autocast():
        batches = state.batches(split)
        return evaluate(network, batches, value, around_coalitions=partial(clock.measure, "schedule"))


def _record(
    update: int,
    epoch: int,
    names: tuple[str, ...],
    plan: Plan,
    measured: Evaluation,
    shapley: npt.NDArray[np.float64],
    loss: float,
    next_plan: Plan,
) -> Record:
    """Write down one measurement, as a line of metrics.jsonl; without times, so that equal runs give equal files."""
    return {
        "update": update,
        "epoch": epoch,
        "train_loss": loss,
        "order": [names[k] for k in plan.order],
        "updates": by_modality(names, plan.updates),
        "sufficiency": by_modality(names, plan.sufficiency),
        "accuracy": float(CoalitionTable(measured.accuracies).of_all),
        "log_likelihood": measured.log_likelihood,
        "coalition_accuracy": by_coalition(names, measured.accuracies),
        "shapley": by_modality(names, shapley),
        "shares": by_modality(names, contribution_shares(shapley)),
        "edm": float(edm(shapley)),
        "next_order": [names[k] for k in next_plan.order],
    }
