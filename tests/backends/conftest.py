"""Tiny synthetic data sets, and networks and options small enough for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from equilib_torch import Dataset, Modality, TrainOptions
from equilib_torch.network import MultimodalNetwork, configure

# Networks this small gain nothing from threads, and on cores shared with other work OpenMP's threads wait for each
# other at every operation: tests take many times longer.
torch.set_num_threads(1)

# kind of the data set's modality -> shape of one sample; the fourth has the kind `image` as well
SHAPES = {"vector": (4,), "sequence": (6, 3), "image": (8, 8), "colour": (5, 4, 3)}


def _make_dataset(
    n: int = 2,
    *,
    kinds: tuple[str, ...] = ("vector",),
    missing: float = 0.0,
    classes: tuple[Any, ...] = (0, 1, 2),
    names: Any = "abcdefgh",
    rows: int = 60,
    noise: float = 1.0,
    seed: int = 0,
) -> Dataset:
    """Samples whose every modality is a pattern of the class plus noise; half train, a quarter validates."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % len(classes)
    present = rng.random((n, rows)) >= missing
    present[rng.integers(n, size=rows), np.arange(rows)] = True  # a sample needs a modality
    present[:, : len(classes)] = True  # and a modality training samples
    modalities = []
    for k in range(n):
        kind = kinds[k % len(kinds)]
        patterns = rng.standard_normal((len(classes), *SHAPES[kind]))
        values = patterns[labels] + noise * rng.standard_normal((rows, *SHAPES[kind]))
        lengths = rng.integers(1, SHAPES[kind][0] + 1, size=rows) if kind == "sequence" else None
        modalities.append(Modality(names[k], "image" if kind == "colour" else kind, values, lengths, present[k]))
    splits = {"train": np.arange(rows // 2), "val": np.arange(rows // 2, 3 * rows // 4)}
    splits["test"] = np.arange(3 * rows // 4, rows)
    return Dataset("toy", tuple(modalities), labels.astype(np.int64), tuple(classes), splits)


def _make_network(
    dataset: Dataset, fusion: str = "memory", *, mapping: str = "feature", dropout: float = 0.0, seed: int = 0
) -> MultimodalNetwork:
    """A new network in training mode, with the statistics of the data set."""
    torch.manual_seed(seed)
    config = configure(dataset, encoders={}, fusion=fusion, width=16, dropout=dropout, mapping=mapping)
    network = MultimodalNetwork(config)
    network.fit_statistics(dataset)
    return network


def _make_options(**changes: Any) -> TrainOptions:
    """Options of a run that takes a fraction of a second."""
    return TrainOptions(**{"epochs": 2, "batch_size": 8, "width": 16, "device": "cpu", "lr": 1e-3, **changes})


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Dataset]:
    return _make_dataset


@pytest.fixture(scope="session")
def make_network() -> Callable[..., MultimodalNetwork]:
    return _make_network


@pytest.fixture(scope="session")
def make_options() -> Callable[..., TrainOptions]:
    return _make_options


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what tests compute out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EQUILIB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
