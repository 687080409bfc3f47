"""Everything a run reads and writes: `State`, which can be taken down at any update and put back into a fresh one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from equilib import Scheduler, SchedulerState, shapley_scheduler
from equilib_torch.data import Dataset
from equilib_torch.data.batches import Batch, loader
from equilib_torch.data.resident import Resident, fits
from equilib_torch.errors import InputError
from equilib_torch.methods import METHODS, Losses, LossFunction, Plan, Setting, Update
from equilib_torch.methods.rehearsal import rehearse
from equilib_torch.network import MultimodalNetwork, NetworkConfig, configure
from equilib_torch.network.own import check_own_encoders
from equilib_torch.network.preparing import prepare
from equilib_torch.training.augmentation import Augmenter, check_augmentations, read_augmentations
from equilib_torch.training.clock import Clock
from equilib_torch.training.device import Machine, apart_from_caller, find_machine
from equilib_torch.training.options import TrainOptions
from equilib_torch.training.planning import Budget, learning_rate, make_plan, plan_budget
from equilib_torch.training.samples import Samples, prepare_samples

Record = dict[str, Any]

_EVALUATED_NUMBERS = 2**23  # most numbers in a batch of evaluation: what an encoder makes of them is ten times as many


def check(options: TrainOptions, dataset: Dataset, encoders: Mapping[str, nn.Module] | None = None) -> NetworkConfig:
    """Hold options against the data, building nothing, and say what the network would be made of.

    Args:
        options: what to train, and how.
        dataset: what to train on.
        encoders: modules of one's own, by modality.

    Raises:
        InputError: options or modules that do not fit the data.
    """
    dataset = prepare_samples(options, dataset).dataset
    check_augmentations(read_augmentations(options.augment), dataset)
    n, n_train = len(dataset.modalities), len(dataset.splits["train"])
    if options.batch_size is not None and options.batch_size > n_train:
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
        mapping=options.chosen_mapping,
        own=check_own_encoders(encoders or {}, dataset),
    )


@dataclass(frozen=True)
class Best:
    """The measurement whose weights are kept: the best so far, or the last, as the options say.

    Attributes:
        accuracy: on validation, all modalities together.
        log_likelihood: the same; it decides among equal accuracies.
        epoch: in which it was measured, from 1.
        weights: of the network as it was then, by name.
    """

    accuracy: float
    log_likelihood: float
    epoch: int
    weights: dict[str, Tensor]


@dataclass
class State:
    """A run between two updates.

    `State.create` makes one at its start, the functions of `training.loop` move it on. What options and data do not
    determine is in `state_dict`: put into a fresh state of the same options and data, it gives the same rest of the
    run, to the bit on one machine.

    Attributes:
        options: what to train, and how.
        dataset: what to train on, as it was given.
        samples: what is seen of it, as the encoders read it, see `network.preparing`.
        resident: all of that on the device, if it is copied there once.
        machine: where, and how precisely.
        budget: how long, and when to measure.
        augment: changes training batches as the options say.
        network: what is trained.
        method: turns a batch into updates of it; may remember something from batch to batch.
        optimiser: of the weights; `train` sets its learning rate before every update.
        scaler: of fp16's gradients.
        scheduler: from Shapley values to schedules; pure functions.
        measured: what the scheduler remembers.
        plan: of the updates until the next measurement.
        update: number of updates made.
        history: one record per measurement.
        best: the one of them whose weights are kept, None before the first.
        losses: of the steps since the last measurement, scalars.
        random: states of the run's own random streams, by type of device.
        clock: where the time went.

    Example:
        >>> from equilib_torch import TrainOptions, load_dataset
        >>> from equilib_torch.training import fit
        >>> options, dataset = TrainOptions(updates=6), load_dataset("mfeat-small", seed=0)
        >>> state = State.create(options, dataset)
        >>> _ = fit(options, dataset, state=state, on_epoch=lambda record, best: False)  # stop at the first measurement
        >>> other = State.create(options, dataset)
        >>> other.load_state_dict(state.state_dict())
        >>> fit(options, dataset, state=state).history == fit(options, dataset, state=other).history
        True
    """

    options: TrainOptions
    dataset: Dataset
    samples: Samples
    resident: Resident | None
    machine: Machine
    budget: Budget
    augment: Augmenter
    network: MultimodalNetwork
    method: Update
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    scheduler: Scheduler
    measured: SchedulerState
    plan: Plan
    random: dict[str, Tensor]
    clock: Clock
    update: int = 0
    history: list[Record] = field(default_factory=list)
    best: Best | None = None
    losses: list[Tensor] = field(default_factory=list)

    @classmethod
    def create(
        cls,
        options: TrainOptions,
        dataset: Dataset,
        *,
        encoders: Mapping[str, nn.Module] | None = None,
        progress: bool = False,
    ) -> Self:
        """Set up a run: hold options against data and machine, and build the network.

        Args:
            options: what to train, and how.
            dataset: what to train on.
            encoders: modules of one's own, by modality, as `fit` says.
            progress: whether to show on a terminal how far samples are prepared for their encoders.

        Raises:
            InputError: options or modules that do not fit the data or the machine.
        """
        config = check(options, dataset, encoders)
        machine = find_machine(options.device, options.precision)
        with apart_from_caller(machine.device):
            prepared = prepare(config, dataset, options.cache_place, machine.device, progress=progress)
        samples = prepare_samples(options, prepared.dataset)
        splits = samples.dataset.splits
        budget = plan_budget(options, len(splits["train"]), len(splits["val"]), len(dataset.modalities))
        with apart_from_caller(machine.device):
            seed(machine, options.seed, 0)
            network = MultimodalNetwork(prepared.config, encoders)
            network.fit_statistics(samples.dataset)
            network.to(machine.device)

            def rehearse_now(loss: LossFunction | None) -> Losses:
                return state.rehearse(loss)

            method = METHODS[options.method_name].begin(Setting(network, rehearse_now), options.parameters)
            groups = network.parameter_groups(options.lr)  # a method may have tied or replaced some
            optimiser = torch.optim.AdamW(groups, lr=options.lr, weight_decay=options.weight_decay, fused=True)
            random = {kind: generator.get_state() for kind, generator in machine.generators.items()}
        scheduler = shapley_scheduler(
            len(dataset.modalities),
            policy=options.policy,
            smoothing=options.shapley_smoothing,
            n_updates=options.parameters.get("updates_per_batch"),
            seed=options.seed,
        )
        measured = scheduler.init()
        wanted = options.resident
        stays = wanted == "yes" or (wanted == "auto" and fits(samples.dataset, machine.device))
        state = cls(
            options=options,
            dataset=dataset,
            samples=samples,
            resident=Resident(samples.dataset, machine.device) if stays else None,
            machine=machine,
            budget=budget,
            augment=Augmenter(
                read_augmentations(options.augment), samples.dataset, seed=options.seed, device=machine.device
            ),
            network=network,
            method=method,
            optimiser=optimiser,
            scaler=machine.new_scaler(),
            scheduler=scheduler,
            measured=measured,
            plan=make_plan(scheduler.schedule(measured), None),
            random=random,
            clock=Clock(machine.device),
        )
        return state

    @property
    def epoch(self) -> int:
        """Epoch of the next update, from 1."""
        return self.update // self.budget.per_epoch + 1

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next update."""
        return learning_rate(self.options, self.budget, self.update)

    def batches(self, split: str, *, skip: int = 0) -> Iterable[Batch]:
        """Make the batches of a split, of the present epoch for train, without the first `skip`."""
        options, dataset = self.options, self.samples.dataset
        read = partial(
            loader,
            dataset,
            split,
            skip=skip,
            device=self.machine.device,
            workers=options.workers,
            take_rows=self.resident.take if self.resident else None,
        )
        if split == "train":
            shuffle = options.seed, self.epoch
            return read(self.budget.batch_size, shuffle=shuffle, balanced=options.class_weights == "balanced")
        largest = sum(modality.values[0].size for modality in dataset.modalities if modality.values.ndim > 1)
        return read(min(options.eval_batch_size, max(1, _EVALUATED_NUMBERS // max(1, largest))))

    def rehearse(self, loss: LossFunction | None) -> Losses:
        """Train a copy of the network for an epoch and measure its losses, as `methods.rehearsal.rehearse` says."""
        return rehearse(
            self.network,
            loss,
            train=self.batches("train"),
            val=self.batches("val"),
            augment=lambda batch, position: self.augment(batch, self.update + position),
            lr=self.learning_rate,
            weight_decay=self.options.weight_decay,
        )

    @contextmanager
    def own_random_streams(self) -> Iterator[None]:
        """Draw from the run's own streams, where it left them; nothing else that the caller has set counts either."""
        with apart_from_caller(self.machine.device):
            generators = self.machine.generators
            for kind in generators.keys() & self.random.keys():
                generators[kind].set_state(self.random[kind])
            try:
                yield
            finally:
                self.random = {kind: generator.get_state() for kind, generator in generators.items()}

    def state_dict(self) -> dict[str, Any]:
        """Take down what options and data do not determine: nested dicts of tensors and JSON's values, all copies."""
        with apart_from_caller(self.machine.device):
            return cast(
                dict[str, Any],
                _copied(
                    {
                        "position": {"update": self.update, "epoch": self.epoch},
                        "network": self.network.state_dict(),
                        "buffers": self._unsaved_buffers(),
                        "optimiser": {
                            name: self.optimiser.state[parameter]
                            for name, parameter in self.network.named_parameters()
                            if parameter in self.optimiser.state
                        },
                        "scaler": self.scaler.state_dict(),
                        "method": self.method.state_dict(),
                        "scheduler": {"step": int(self.measured.step), "average": self.measured.average.tolist()},
                        "plan": self.plan._asdict(),
                        "history": self.history,
                        "best": None if self.best is None else vars(self.best),
                        "losses": torch.stack(self.losses) if self.losses else torch.zeros(0),
                        "random": self.random,
                        "seconds": self.clock.seconds,
                    }
                ),
            )

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from where `state_dict` was taken, by a state of the same options and data.

        Raises:
            InputError: it is that of another network, or not complete.
        """
        try:
            with apart_from_caller(self.machine.device), torch.no_grad():
                self._load(_copied(state_dict))
        except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"state_dict must be that of the same options and data ({reason})") from error

    def _load(self, saved: dict[str, Any]) -> None:
        self.network.load_state_dict(saved["network"])
        for name, buffer in self._unsaved_buffers().items():
            buffer.copy_(saved["buffers"][name])
        names = {id(parameter): name for name, parameter in self.network.named_parameters()}
        trained = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        moments = {
            i: {
                key: _laid_out_like(parameter, value) for key, value in saved["optimiser"][names[id(parameter)]].items()
            }
            for i, parameter in enumerate(trained)
            if names[id(parameter)] in saved["optimiser"]
        }
        groups = self.optimiser.state_dict()["param_groups"]  # options and position determine all that is in them
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        self.scaler.load_state_dict(saved["scaler"])
        self.method.load_state_dict(saved["method"])
        average = np.array(saved["scheduler"]["average"], dtype=np.float64)
        self.measured = SchedulerState(np.array(saved["scheduler"]["step"], dtype=np.int32), average)
        plan = {name: tuple(value) if isinstance(value, list) else value for name, value in saved["plan"].items()}
        self.plan = Plan(**cast(dict[str, Any], plan))
        self.history[:] = saved["history"]
        self.best = None if saved["best"] is None else Best(**saved["best"])
        self.losses[:] = saved["losses"].to(self.machine.device).unbind()
        self.random = {kind: state.cpu() for kind, state in saved["random"].items()}
        self.clock.seconds.update(saved["seconds"])
        self.update = saved["position"]["update"]

    def _unsaved_buffers(self) -> dict[str, Tensor]:
        """Find the network's buffers that are no part of a saved model, such as what a memory has collected."""
        saved = self.network.state_dict().keys()
        return {name: buffer for name, buffer in self.network.named_buffers() if name not in saved}


def seed(machine: Machine, *key: int) -> None:
    """Make the random numbers of a machine a function of whole numbers: (seed, epoch), 0 before the first epoch."""
    number = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    for generator in machine.generators.values():
        generator.manual_seed(number)


def _laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """Give what an optimiser keeps of a parameter its memory format: a fused one takes that for granted."""
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value


def _copied(value: Any) -> Any:
    """Copy nested dicts and sequences, which become lists, and every tensor in them apart from all others."""
    if isinstance(value, Tensor):
        return value.detach().clone(memory_format=torch.contiguous_format)
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(item) for item in value]
    return value
