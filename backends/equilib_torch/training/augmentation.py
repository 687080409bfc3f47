"""Random changes of training samples that leave their class as it is; validation, test and prediction never see them.

Pure functions of a batch and a generator. A run's generator is made from the seed, the number of the update and the
modality, so that a run that goes on draws what it would have drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Generator, Tensor

from equilib_torch.data import Dataset
from equilib_torch.data.batches import Batch
from equilib_torch.errors import InputError
from equilib_torch.network.encoders import Standardise
from equilib_torch.registry import Registry

_STREAM = 41  # tells these draws apart from all else that the seed decides


def random_crop(x: Tensor, amount: float, generator: Generator) -> Tensor:
    """Move each picture by up to a part of its sides; what leaves is cropped, and the border fills what is left.

    Args:
        x: (B, H, W), (B, H, W, C) or, with all pictures of a film moved alike, (B, T, H, W, C); any dtype.
        amount: largest move, as a part of the height and of the width, in [0, 1], rounded up to pixels.
        generator: of the device of `x`.

    Returns:
        As `x`.

    Example:
        >>> x = torch.arange(9).view(1, 3, 3)
        >>> random_crop(x, 0.1, torch.Generator().manual_seed(3))
        tensor([[[1, 2, 2],
                 [4, 5, 5],
                 [7, 8, 8]]])
    """
    for axis in (_height_axis(x), _height_axis(x) + 1):
        side = x.shape[axis]
        reach = math.ceil(amount * side)
        moves = torch.randint(-reach, reach + 1, (len(x), 1), generator=generator, device=x.device)
        x = _picked(x, axis, (torch.arange(side, device=x.device) + moves).clamp(0, side - 1))
    return x


def random_flip(x: Tensor, probability: float, generator: Generator) -> Tensor:
    """Mirror each picture, left to right, with a probability.

    Args:
        x: (B, H, W), (B, H, W, C) or, with all pictures of a film alike, (B, T, H, W, C); any dtype.
        probability: in [0, 1].
        generator: of the device of `x`.

    Returns:
        As `x`.

    Example:
        >>> random_flip(torch.tensor([[[1, 2]]]), 1.0, torch.Generator())
        tensor([[[2, 1]]])
    """
    flipped = torch.rand(len(x), generator=generator, device=x.device) < probability
    return torch.where(flipped.view(-1, *[1] * (x.ndim - 1)), x.flip(_height_axis(x) + 1), x)


def add_noise(x: Tensor, inside: Tensor, amount: float, sd: Tensor, generator: Generator) -> Tensor:
    """Add Gaussian noise to the frames of sequences.

    Args:
        x: (B, T, F), any dtype.
        inside: (B, T) bool, the frames that count; all others stay as they are.
        amount: standard deviation of the noise, as a multiple of `sd`, at least 0.
        sd: (F,), standard deviation of each feature.
        generator: of the device of `x`.

    Returns:
        (B, T, F), float64 if `x` is, else float32.

    Example:
        >>> x, inside = torch.zeros(1, 2, 1), torch.tensor([[True, False]])
        >>> add_noise(x, inside, 1.0, torch.ones(1), torch.Generator().manual_seed(0)).flatten()
        tensor([1.5410, 0.0000])
    """
    wide = x if x.dtype == torch.float64 else x.float()
    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=wide.dtype)
    return torch.where(inside[..., None], wide + amount * sd.to(wide) * noise, wide)


def random_shift(x: Tensor, lengths: Tensor, amount: float, generator: Generator) -> Tensor:
    """Move each sequence in time, within its length: what leaves at one end comes in at the other.

    Args:
        x: (B, T, F), any dtype.
        lengths: (B,) int64, 1..T; frames behind them stay where they are.
        amount: largest move, as a part of the length, in [0, 1], rounded up to frames.
        generator: of the device of `x`.

    Returns:
        As `x`.

    Example:
        >>> x = torch.tensor([1, 2, 3, 0]).view(1, 4, 1)
        >>> random_shift(x, torch.tensor([3]), 0.3, torch.Generator().manual_seed(0)).flatten()
        tensor([2, 3, 1, 0])
    """
    reach = (amount * lengths.double()).ceil()
    draws = torch.rand(len(x), generator=generator, device=x.device, dtype=torch.float64)
    moves = (draws * (2 * reach + 1)).floor() - reach
    frames = torch.arange(x.shape[1], device=x.device)
    moved = (frames + moves.long()[:, None]).remainder(lengths[:, None])
    return _picked(x, 1, torch.where(frames < lengths[:, None], moved, frames))


def _height_axis(x: Tensor) -> int:
    return 2 if x.ndim == 5 else 1


def _picked(x: Tensor, axis: int, positions: Tensor) -> Tensor:
    """Take other positions (B, n) along an axis of length n, sample by sample."""
    return x.gather(axis, positions.view(len(x), *(-1 if a == axis else 1 for a in range(1, x.ndim))).expand_as(x))


class _Column(NamedTuple):
    """One modality of a batch, of a kind that the change is for, and what is known of it."""

    x: Tensor
    lengths: Tensor | None  # of a sequence, never None
    present: Tensor
    sd: Tensor | None  # of what gets noise, never None


Change = Callable[[_Column, float, Generator], Tensor]


@dataclass(frozen=True)
class Augmentation:
    """A kind of change.

    Attributes:
        name: for `--augment`.
        description: one line; what its number means.
        kinds: kinds of modality it can be made to.
        default: its number.
        high: largest number; the smallest is 0.
        change: makes it.
    """

    name: str
    description: str
    kinds: tuple[str, ...]
    default: float
    high: float
    change: Change


def _noise(column: _Column, amount: float, generator: Generator) -> Tensor:
    lengths, sd = cast(Tensor, column.lengths), cast(Tensor, column.sd)
    inside = torch.arange(column.x.shape[1], device=column.x.device) < lengths[:, None]
    return add_noise(column.x, inside & column.present[:, None], amount, sd, generator)


def _shift(column: _Column, amount: float, generator: Generator) -> Tensor:
    return random_shift(column.x, cast(Tensor, column.lengths), amount, generator)


AUGMENTATIONS = Registry(
    "augmentation",
    [
        Augmentation(
            "crop",
            "pictures moved by up to this part of their sides",
            ("image", "video"),
            0.125,
            1.0,
            lambda column, amount, generator: random_crop(column.x, amount, generator),
        ),
        Augmentation(
            "flip",
            "pictures mirrored, left to right, with this probability",
            ("image", "video"),
            0.5,
            1.0,
            lambda column, amount, generator: random_flip(column.x, amount, generator),
        ),
        Augmentation(
            "noise",
            "Gaussian noise on sequences, of this many standard deviations of each feature",
            ("sequence",),
            0.1,
            math.inf,
            _noise,
        ),
        Augmentation(
            "shift",
            "sequences moved in time by up to this part of their lengths, what leaves coming in at the other end",
            ("sequence",),
            0.125,
            1.0,
            _shift,
        ),
    ],
)
"""Every change of training samples by name."""


def read_augmentations(items: Sequence[str]) -> dict[str, dict[str, float]]:
    """Read what is to be done to the training samples of each modality.

    Args:
        items: each MODALITY=NAME or MODALITY=NAME=NUMBER, further changes of the same modality behind "+".

    Returns:
        By modality, the number of every change by its name, in the order they are made.

    Raises:
        InputError: something else, an unknown name or a number out of range.

    Example:
        >>> read_augmentations(["image=crop=0.1+flip"])
        {'image': {'crop': 0.1, 'flip': 0.5}}
    """
    changes: dict[str, dict[str, float]] = {}
    for item in items:
        modality, equals, spec = item.partition("=")
        if not (modality and equals):
            raise InputError(f"augment must be given as MODALITY=NAME or MODALITY=NAME=NUMBER, got {item!r}")
        if modality in changes:
            raise InputError(f"augment must name every modality once, got {modality!r} twice; join changes by '+'")
        changes[modality] = {}
        for part in spec.split("+"):
            name, equals, text = part.partition("=")
            entry = AUGMENTATIONS.find(name, what=f"augment of {modality}")
            try:
                number = float(text) if equals else entry.default
            except ValueError:
                number = math.nan
            if not (0 <= number <= entry.high and math.isfinite(number)):
                rule = f"a number from 0 up{'' if math.isinf(entry.high) else f' to {entry.high:g}'}"
                raise InputError(f"augment of {modality}: {name} must be {rule}, got {text!r}")
            changes[modality][name] = number
    return changes


def check_augmentations(changes: Mapping[str, Mapping[str, float]], dataset: Dataset) -> None:
    """Hold changes against a data set.

    Raises:
        InputError: a modality it does not have, or one of a kind that cannot be changed so.
    """
    kinds = {modality.name: modality.kind for modality in dataset.modalities}
    for modality, names in changes.items():
        if modality not in kinds:
            raise InputError(f"augment: {dataset.name} has no modality {modality!r}, only {', '.join(kinds)}")
        for name in names:
            if kinds[modality] not in AUGMENTATIONS[name].kinds:
                fit = [entry.name for entry in AUGMENTATIONS.values() if kinds[modality] in entry.kinds]
                raise InputError(
                    f"augment of {modality}: {name} changes modalities of kind "
                    f"{' or '.join(AUGMENTATIONS[name].kinds)}, this is of kind {kinds[modality]}; "
                    f"use {' or '.join(fit) or 'none'}"
                )


class Augmenter:
    """Changes the training samples of a run.

    Args:
        changes: as `read_augmentations` makes them.
        dataset: whose training split says how much each feature varies.
        seed: of the run.
        device: of the batches.

    Raises:
        InputError: as `check_augmentations`.

    Example:
        >>> from equilib_torch.data import load_dataset
        >>> from equilib_torch.data.batches import take
        >>> dataset = load_dataset("av-digits", seed=0)
        >>> augment = Augmenter({"audio": {"shift": 0.1}}, dataset, seed=0, device=torch.device("cpu"))
        >>> batch = take(dataset, np.arange(4))
        >>> first, again, other = (augment(batch, update).inputs[1] for update in (1, 1, 2))
        >>> torch.equal(first, again), torch.equal(first, other)
        (True, False)
    """

    def __init__(
        self, changes: Mapping[str, Mapping[str, float]], dataset: Dataset, *, seed: int, device: torch.device
    ) -> None:
        check_augmentations(changes, dataset)
        self._changes = [changes.get(name, {}) for name in dataset.names]
        self._seed, self._device = seed, device
        self._sds: list[Tensor | None] = []
        for modality, names in zip(dataset.modalities, self._changes, strict=True):
            sd = None
            if "noise" in names:
                measured = Standardise(modality.values.shape[-1])
                measured.fit(modality, dataset.splits["train"])
                sd = measured.sd.to(device)
            self._sds.append(sd)

    def __call__(self, batch: Batch, update: int) -> Batch:
        """Change a training batch, which is left as it is: all draws are those of this update, from 0."""
        return batch._replace(inputs=tuple(self._changed(batch, update))) if any(self._changes) else batch

    def _changed(self, batch: Batch, update: int) -> Iterator[Tensor]:
        for k, (x, changes) in enumerate(zip(batch.inputs, self._changes, strict=True)):
            generator = torch.Generator(self._device)
            key = np.random.SeedSequence((self._seed, update, k, _STREAM))
            generator.manual_seed(int(key.generate_state(1, np.uint64)[0]))
            changed = x
            for name, number in changes.items():
                column = _Column(changed, batch.lengths[k], batch.present[:, k], self._sds[k])
                changed = AUGMENTATIONS[name].change(column, number, generator)
            yield changed
