"""What an epoch costs: every method beside joint training, one after the other in one process, again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import NamedTuple

import torch

from benchmarks.campaign.budgets import variants_for
from equilib_torch import fit, load_dataset
from equilib_torch.comparison.markdown import line
from equilib_torch.comparison.variants import Variant

# av-digits-sum has the encoders of av-digits-noisy, and more samples: its ratios are the same.
DATASETS = ("av-digits-noisy", "av-digits-pca", "mfeat-small", "mfeat")
BASELINE = "joint"
REPEATS = 3


class Cost(NamedTuple):
    """Of one method on one data set.

    Attributes:
        seconds: of training, per epoch.
        relative: the same divided by joint training's of the same round; the median over the rounds.
        schedule: time of coalitions and schedule divided by that of training, in [0, 1].
    """

    seconds: float
    relative: float
    schedule: float


def measure_costs(dataset: str, texts: Sequence[str], repeats: int = REPEATS) -> dict[str, Cost]:
    """Cost of every variant: the median over rounds in which each trains for one epoch, with one thread.

    G-Blending's estimates, which it makes every few epochs, all fall into the one epoch: its cost is an upper bound.
    """
    data = load_dataset(dataset, seed=0)
    variants: list[Variant] = variants_for(dataset, texts, {})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rounds: list[dict[str, tuple[float, float]]] = []
    for _ in range(repeats):
        found = {}
        for variant in variants:
            seconds = fit(replace(variant.options, epochs=1), data).seconds
            # Evaluated twice: after the epoch, on validation, and at the end, on test, which is no part of an epoch.
            n_val, n_test = len(data.splits["val"]), len(data.splits["test"])
            found[variant.name] = seconds["train"], seconds["schedule"] * n_val / (n_val + n_test)
        rounds.append(found)
    torch.set_num_threads(threads)
    return {
        v.name: Cost(
            median(r[v.name][0] for r in rounds),
            median(r[v.name][0] / r[BASELINE][0] for r in rounds),
            median(r[v.name][1] / r[v.name][0] for r in rounds),
        )
        for v in variants
    }


def cost_lines(costs: dict[str, dict[str, Cost]]) -> list[str]:
    """A row per method: time relative to joint training and, in brackets, the schedule's share, by data set."""
    lines = [line(["variant", *costs]), line(["---"] * (len(costs) + 1))]
    for name in next(iter(costs.values())):
        cells = (f"{of[name].relative:.2f} ({of[name].schedule:.1%})" for of in costs.values())
        lines.append(line([f"`{name}`", *cells]))
    seconds = (f"{of[BASELINE].seconds:.3f} s" for of in costs.values())
    lines.append(line(["an epoch of `joint`", *seconds]))
    return lines
