"""The samples of a run: which are trained on, and which modalities they were made to lack."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from equilib_torch.data import Dataset
from equilib_torch.data.missing import draw_missing, make_missing, presence, rates_of, read_rates
from equilib_torch.errors import InputError
from equilib_torch.methods import METHODS
from equilib_torch.training.options import TrainOptions

_STREAMS = {"missing-in-training": 31, "missing-in-testing": 32}
"""Tell the draws of the options apart from each other, and from all else that the seed decides."""

_PARTS = {"missing-in-training": ("train", "val"), "missing-in-testing": ("test",)}
"""Where modalities are made missing. Validation stands for what is known when training: it goes with it."""


@dataclass(frozen=True)
class Samples:
    """What a run sees of its data set.

    Attributes:
        dataset: with the modalities that are there, and the training samples that are used.
        n_excluded: training samples that are not used, because they lack a modality.
        rates: by option and modality, the rate at which it was made missing.
        removed: by option and modality, from how many samples it was taken, of train or of test, excluded ones
            included.
    """

    dataset: Dataset
    n_excluded: int
    rates: dict[str, dict[str, float]]
    removed: dict[str, dict[str, int]]

    @property
    def n_incomplete(self) -> int:
        """Training samples that are used though they lack a modality."""
        return int((~self._of("train")).any(1).sum())

    def n_absent(self, split: str) -> dict[str, int]:
        """Count the samples of a split that lack each modality, whoever took it."""
        return dict(zip(self.dataset.names, (~self._of(split)).sum(0).tolist(), strict=True))

    def _of(self, split: str) -> np.ndarray:
        return presence(self.dataset)[self.dataset.splits[split]]


def prepare_samples(options: TrainOptions, dataset: Dataset) -> Samples:
    """Make modalities missing as the options say, and leave out the training samples that are not to be used.

    What is missing depends on the seed and the row of the data set alone.

    Args:
        options: of the run.
        dataset: left as it is, and shared.

    Raises:
        InputError: an unknown modality, or too little is left to train on.

    Example:
        >>> from equilib_torch.data import load_dataset
        >>> options = TrainOptions(missing_in_training=["zernike=0.3"], incomplete="exclude")
        >>> samples = prepare_samples(options, load_dataset("mfeat-small", seed=0))
        >>> samples.removed["missing-in-training"]["zernike"], samples.n_excluded, samples.n_incomplete
        (100, 100, 0)
    """
    given = {"missing-in-training": options.missing_in_training, "missing-in-testing": options.missing_in_testing}
    rates, removed, missing = {}, {}, np.zeros_like(presence(dataset))
    for option, items in given.items():
        rates[option] = rates_of(option, read_rates(option, items), dataset)
        rng = np.random.default_rng([options.seed, _STREAMS[option]])
        drawn = draw_missing(presence(dataset), list(rates[option].values()), rng)
        for part in _PARTS[option]:
            missing[dataset.splits[part]] |= drawn[dataset.splits[part]]
        counts = drawn[dataset.splits[_PARTS[option][0]]].sum(0).tolist()
        removed[option] = dict(zip(dataset.names, counts, strict=True))
    try:
        thinned = make_missing(dataset, missing)
    except InputError as error:
        raise InputError(f"missing-in-training: too high a rate ({error})") from error
    used, n_excluded = _exclude(options, thinned)
    return Samples(used, n_excluded, rates, removed)


def excludes(options: TrainOptions) -> bool:
    """Tell whether training samples that lack a modality are left out: the option, or what the method can."""
    return options.incomplete == "exclude" or not METHODS[options.method_name].incomplete


def _exclude(options: TrainOptions, dataset: Dataset) -> tuple[Dataset, int]:
    train = dataset.splits["train"]
    complete = presence(dataset)[train].all(1)
    n_excluded = int((~complete).sum())
    if not n_excluded or not excludes(options):
        return dataset, 0
    try:
        return replace(dataset, splits={**dataset.splits, "train": train[complete]}), n_excluded
    except InputError as error:
        raise InputError(
            f"incomplete: {n_excluded} of {len(train)} training samples lack a modality, too little is left without "
            f"them ({error}); use them, or another method"
        ) from error
