"""Modalities made missing at random, to train and test with samples that lack some."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from equilib_torch.data.dataset import Dataset
from equilib_torch.data.modality import BoolArray
from equilib_torch.errors import InputError


def read_rates(option: str, items: Sequence[str]) -> dict[str | None, float]:
    """Read the rates at which modalities are made missing.

    Args:
        option: what the items are the value of, for errors.
        items: each one or more MODALITY=RATE, separated by commas; or a RATE, that of all other modalities.

    Returns:
        Rates in [0, 1] by modality; that of all others by None.

    Raises:
        InputError: an item that is neither, a rate outside [0, 1], or a modality that is named twice.

    Example:
        >>> read_rates("missing-in-training", ["image=0.3,audio=0.1", "0.5"])
        {'image': 0.3, 'audio': 0.1, None: 0.5}
    """
    rates: dict[str | None, float] = {}
    for item in items:
        pairs: list[tuple[str | None, str]] = [(None, item)]
        if "=" in item:
            # No rate has a comma in it, and every modality is followed by "=": its name may hold one.
            found = re.findall(r"([^=]+)=([^=,]*)(?:,|$)", item)
            if ",".join(map("=".join, found)) != item:
                raise InputError(f"{option} must be given as MODALITY=RATE, got {item!r}")
            pairs = found
        for name, text in pairs:
            try:
                rate = float(text)
            except ValueError:
                rate = -1.0
            if not 0 <= rate <= 1:
                raise InputError(f"{option} must be given as MODALITY=RATE with a rate in [0, 1], got {item!r}")
            if name in rates:
                raise InputError(f"{option} must name every modality once, got {name or 'a rate of all'!r} twice")
            rates[name] = rate
    return rates


def rates_of(option: str, rates: dict[str | None, float], dataset: Dataset) -> dict[str, float]:
    """Give the rate of every modality of a data set, 0 where none is said.

    Raises:
        InputError: a rate of a modality that the data set does not have.
    """
    for name in rates:
        if name is not None and name not in dataset.names:
            raise InputError(f"{option}: {dataset.name} has no modality {name!r}, only {', '.join(dataset.names)}")
    return {name: rates.get(name, rates.get(None, 0.0)) for name in dataset.names}


def draw_missing(present: BoolArray, rates: npt.ArrayLike, rng: np.random.Generator) -> BoolArray:
    """Draw which modalities samples lose, each on its own; no sample loses all.

    A sample that would lose everything keeps one of the modalities it has, each with the same chance; so the higher the
    rates, the less is lost than they say.

    Args:
        present: (N, n) bool, which sample has which modality, at least one each.
        rates: (n,), in [0, 1], the probability of each modality to be lost.
        rng: to draw from.

    Returns:
        (N, n) bool, a subset of `present`.

    Example:
        >>> missing = draw_missing(np.ones((10000, 2), bool), [0.5, 0.2], np.random.default_rng(0))
        >>> missing.mean(0).round(2), int(missing.all(1).sum())  # 0.1 would lose both
        (array([0.45, 0.15]), 0)
    """
    rates = np.asarray(rates, dtype=np.float64)
    draws = rng.random(present.shape)
    missing: BoolArray = present & (draws < rates)
    bare = (missing == present).all(1)
    # Where all are under their rates, draws / rates are uniform: each is as likely the largest as any other.
    kept = np.where(present, draws / np.maximum(rates, np.finfo(np.float64).tiny), -1.0)[bare].argmax(1)
    missing[bare, kept] = False
    return missing


def make_missing(dataset: Dataset, missing: BoolArray) -> Dataset:
    """Give a data set whose samples lack more modalities; the arrays are shared.

    Args:
        dataset: left as it is.
        missing: (N, n) bool, what samples are to lack.

    Raises:
        InputError: nothing is left of a sample, or of a modality in training.
    """
    if not missing.any():
        return dataset
    pairs = zip(dataset.modalities, missing.T, strict=True)
    return replace(dataset, modalities=tuple(modality.without(lost) for modality, lost in pairs))


def presence(dataset: Dataset) -> BoolArray:
    """Say which sample has which modality, (N, n) bool.

    Example:
        >>> from equilib_torch.data import load_dataset
        >>> presence(load_dataset("mfeat-small", seed=0)).shape
        (1200, 4)
    """
    return np.stack([modality.present for modality in dataset.modalities], 1)
