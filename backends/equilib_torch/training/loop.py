"""The training loop, one for every method: plan, update over all batches, measure every coalition on validation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from equilib import Schedule, contribution_shares, edm, shapley_scheduler, shapley_values
from equilib_torch.data import Dataset
from equilib_torch.data.batches import Batch, EpochSampler, loader
from equilib_torch.errors import InputError
from equilib_torch.methods import METHODS, Losses, LossFunction, Plan, Setting
from equilib_torch.methods.rehearsal import rehearse
from equilib_torch.naming import by_coalition, by_modality
from equilib_torch.network import Mapping, MultimodalNetwork, NetworkConfig, configure
from equilib_torch.training.device import make_accelerator, synchronise
from equilib_torch.training.evaluation import VALUES, Evaluation, evaluate
from equilib_torch.training.options import TrainOptions
from equilib_torch.training.planning import make_plan

Record = dict[str, Any]
OnEpoch = Callable[[Record, MultimodalNetwork | None], None]


class Run(NamedTuple):
    """What training leaves behind.

    Attributes:
        network: as it was after the best epoch.
        dataset: what it was trained on.
        options: what was asked for.
        history: one record per epoch: the mean loss of its updates, all else measured on validation.
        best_epoch: from 1.
        test: the one evaluation on the test split, by the best network.
        seconds: where the time went: updates (train), coalitions and schedule (schedule), other evaluation (evaluate).
    """

    network: MultimodalNetwork
    dataset: Dataset
    options: TrainOptions
    history: list[Record]
    best_epoch: int
    test: Evaluation
    seconds: dict[str, float]


def fit(options: TrainOptions, dataset: Dataset, *, on_epoch: OnEpoch | None = None, progress: bool = False) -> Run:
    """Train as the options say, keep the best epoch on validation, and evaluate that once on test.

    The best epoch has the highest accuracy of all modalities together; among equals, the highest log-likelihood. The
    same options and data give the same run; torch's global random state is put back afterwards.

    Args:
        options: what to train, and how.
        dataset: what to train on; `options.dataset` and `options.output` are not looked at.
        on_epoch: called after each epoch with its record, and with the network if it is the best so far, else None.
        progress: show a progress bar on standard error.

    Raises:
        InputError: options that do not fit the data or the machine, or predictions that became infinite or NaN.

    Example:
        >>> from equilib_torch import load_dataset
        >>> run = fit(TrainOptions(epochs=1), load_dataset("mfeat-small", seed=0))
        >>> run.best_epoch, run.test.values.shape
        (1, (16,))
    """
    return Training(options, dataset).run(on_epoch=on_epoch, progress=progress)


def check(options: TrainOptions, dataset: Dataset) -> NetworkConfig:
    """What the network for these data would be, built of nothing but the options.

    Raises:
        InputError: options that do not fit the data.
    """
    n, n_train = len(dataset.modalities), len(dataset.splits["train"])
    if options.batch_size > n_train:
        raise InputError(
            f"batch-size must be at most the {n_train} training samples, got {options.batch_size}; use --batch-size"
        )
    n_updates = options.parameters.get("updates_per_batch")
    if n_updates is not None and n_updates < n:
        raise InputError(f"updates-per-batch must be at least {n}, one per modality, got {n_updates}")
    return configure(
        dataset,
        encoders=options.encoders,
        fusion=options.chosen_fusion,
        width=options.width,
        dropout=options.dropout,
        mapping=cast(Mapping, options.mapping),
    )


class Training:
    """A run that is set up: options held against data and machine, network built; `run` runs it.

    Raises:
        InputError: options that do not fit the data or the machine.
    """

    def __init__(self, options: TrainOptions, dataset: Dataset) -> None:
        config = check(options, dataset)
        self._options, self._dataset = options, dataset
        self._accelerator = accelerator = make_accelerator(options.device, options.precision)
        self._device: torch.device = accelerator.device
        with _private_random_state():
            _seed(options.seed, 0)
            self._network = _new_network(config, dataset)
        self._network.to(self._device)
        self._update = METHODS[options.method_name].begin(Setting(self._network, self._rehearse), options.parameters)
        parameters = self._network.parameters()
        optimiser = torch.optim.AdamW(parameters, lr=options.lr, weight_decay=options.weight_decay, fused=True)
        self._cosine = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda e: 0.5 * (1 + math.cos(math.pi * e / options.epochs))
        )
        self._step = _Step(accelerator, accelerator.prepare(optimiser))
        train = loader(dataset, "train", options.batch_size, seed=options.seed)
        self._sampler = cast(EpochSampler, train.batch_sampler)
        self._train, self._val, self._test = accelerator.prepare(
            train, loader(dataset, "val", options.eval_batch_size), loader(dataset, "test", options.eval_batch_size)
        )
        self._clock = _Clock(self._device)

    def _rehearse(self, loss: LossFunction | None) -> Losses:
        lr = float(self._cosine.get_last_lr()[0])
        return rehearse(
            self._network, loss, train=self._train, val=self._val, lr=lr, weight_decay=self._options.weight_decay
        )

    def run(self, *, on_epoch: OnEpoch | None = None, progress: bool = False) -> Run:
        """Train, select and test, as `fit` says; once."""
        with _private_random_state():
            return self._run(on_epoch, progress)

    def _run(self, on_epoch: OnEpoch | None, progress: bool) -> Run:
        options, dataset, network = self._options, self._dataset, self._network
        n = len(dataset.modalities)
        n_updates = options.parameters.get("updates_per_batch")
        scheduler = shapley_scheduler(
            n, policy=options.policy, smoothing=options.smoothing, n_updates=n_updates, seed=options.seed
        )
        state = scheduler.init()
        plan = make_plan(scheduler.schedule(state), None)
        history: list[Record] = []
        best_score, best_epoch, best_weights = (-math.inf, -math.inf), 0, dict[str, Tensor]()
        with tqdm(total=options.epochs * len(self._sampler), unit="batch", disable=not progress) as bar:
            for epoch in range(1, options.epochs + 1):
                bar.set_description(f"epoch {epoch}/{options.epochs}", refresh=False)
                self._train_epoch(epoch, plan, bar)
                measured = self._evaluate(self._val)
                if not _is_finite(measured):
                    raise InputError(
                        f"training diverged in epoch {epoch}: predictions are not finite; try a smaller lr"
                    )
                with self._clock.measure("schedule"):
                    shapley = shapley_values(measured.values)
                    state = scheduler.update(state, shapley)
                    schedule = scheduler.schedule(state)
                history.append(_record(epoch, dataset.names, plan, measured, shapley, self._step.mean_loss(), schedule))
                plan = make_plan(schedule, measured.values, epoch + 1)
                score = (float(measured.accuracies[-1]), measured.log_likelihood)
                improved = score > best_score
                if improved:
                    best_score, best_epoch = score, epoch
                    best_weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
                if on_epoch is not None:
                    on_epoch(history[-1], network if improved else None)
                bar.set_postfix(accuracy=f"{score[0]:.3f}", EDM=f"{history[-1]['edm']:.2f}", refresh=False)
        network.load_state_dict(best_weights)
        final = self._evaluate(self._test)
        if not _is_finite(final):
            raise InputError(f"{dataset.name}: predictions on test are not finite; are its values like those of train?")
        return Run(network, dataset, options, history, best_epoch, final, self._clock.seconds)

    def _train_epoch(self, epoch: int, plan: Plan, bar: tqdm[Any]) -> None:
        """Update the network on every batch; random draws depend on the seed and the epoch alone."""
        memory = self._network.memory
        if memory is not None:
            memory.order.copy_(torch.tensor(plan.order))
            memory.start_epoch(inherit=self._options.inherit)
        self._sampler.epoch = epoch
        self._network.train()
        _seed(self._options.seed, epoch)
        with self._clock.measure("train"):
            for batch in self._train:
                with self._accelerator.autocast():
                    self._update(self._network, batch, plan, self._step)
                bar.update()
            self._cosine.step()

    def _evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        with self._clock.measure("evaluate"), self._accelerator.autocast():
            measured = evaluate(self._network, batches, VALUES[self._options.value])
        self._clock.move(measured.seconds_coalitions, "evaluate", "schedule")
        return measured


def _seed(seed: int, epoch: int) -> None:
    """Make torch's random numbers a function of (seed, epoch); 0 is before the first epoch."""
    torch.manual_seed(int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0]))


def _private_random_state() -> AbstractContextManager[None]:
    """Put torch's global random states back at the end."""
    return torch.random.fork_rng(range(torch.cuda.device_count()))


def _is_finite(measured: Evaluation) -> bool:
    return math.isfinite(measured.log_likelihood) and bool(np.isfinite(measured.values).all())


def _new_network(config: NetworkConfig, dataset: Dataset) -> MultimodalNetwork:
    network = MultimodalNetwork(config)
    network.fit_statistics(dataset)
    return network


class _Step:
    """One update of whatever received a gradient; remembers the losses."""

    def __init__(self, accelerator: Accelerator, optimiser: torch.optim.Optimizer) -> None:
        self._accelerator, self._optimiser = accelerator, optimiser
        self._losses: list[Tensor] = []

    def __call__(self, loss: Tensor, adjust: Callable[[], None] | None = None) -> None:
        # Gradients become None, not 0: AdamW then leaves alone what this update does not concern.
        self._optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self._accelerator.device.type, enabled=False):
            self._accelerator.backward(loss)
            if adjust is not None:
                self._accelerator.unscale_gradients()
                adjust()
        self._optimiser.step()
        torch.clear_autocast_cache()  # it holds the weights as they were before this update, which others may follow
        self._losses.append(loss.detach())

    def mean_loss(self) -> float:
        """Mean over the updates since the last call."""
        mean = torch.stack(self._losses).mean().item() if self._losses else 0.0
        self._losses.clear()
        return mean


class _Clock:
    """Seconds by part of a run."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds = {"train": 0.0, "schedule": 0.0, "evaluate": 0.0}

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        synchronise(self._device)
        started = time.perf_counter()
        yield
        synchronise(self._device)
        self.seconds[part] += time.perf_counter() - started

    def move(self, seconds: float, source: str, target: str) -> None:
        self.seconds[source] -= seconds
        self.seconds[target] += seconds


def _record(
    epoch: int,
    names: tuple[str, ...],
    plan: Plan,
    measured: Evaluation,
    shapley: npt.NDArray[np.float64],
    loss: float,
    schedule: Schedule,
) -> Record:
    """One epoch on validation, as a line of metrics.jsonl; without times, so that equal runs give equal files."""
    return {
        "epoch": epoch,
        "train_loss": loss,
        "order": [names[k] for k in plan.order],
        "updates": by_modality(names, plan.updates),
        "sufficiency": by_modality(names, plan.sufficiency),
        "accuracy": float(measured.accuracies[-1]),
        "log_likelihood": measured.log_likelihood,
        "coalition_accuracy": by_coalition(names, measured.accuracies),
        "shapley": by_modality(names, shapley),
        "shares": by_modality(names, contribution_shares(shapley)),
        "edm": float(edm(shapley)),
        "next_order": [names[k] for k in schedule.order.tolist()],
    }
