"""Measure a model under audit: all coalitions of its modalities, or as many as one can afford.

Batches → scores of the samples for every coalition → φ of every sample → means, covariance
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from equilib._held_out import Batch, Numpy, to_numpy
from equilib._model import Model
from equilib._namespace import Floats
from equilib.estimation import estimate_shapley
from equilib.interactions import shapley_interactions
from equilib.missing import expected_when_missing
from equilib.shapley import coalitions, shapley_values
from equilib.uncertainty import Contributions, mean_and_covariance, without_rounding

MISSING_RATES = (0.3, 0.5, 0.7)
_ENTRIES = 2**23
"""Scores, samples times coalitions, that are in memory at a time."""
_BLOCKS = 64
"""Groups of samples whose contributions are estimated apart where coalitions are sampled: their spread is the error."""


class Measured(NamedTuple):
    """Sums over samples, from a complete table or from coalitions that were drawn."""

    contributions: Contributions
    full: Floats  # (N,) scores with all modalities
    value_of_none: float
    targets: Numpy
    groups: Any
    n_coalitions: int
    values: Floats | None = None
    others: tuple[Floats, Floats] | None = None  # means and errors of the other columns of _per_sample
    samples: Floats | None = None


def _per_sample(table: Floats) -> Floats:
    """Compute of every sample's table `(m, 2**n)` what is linear in it: φ, values at the rates, interactions."""
    n = table.shape[1].bit_length() - 1
    rows, columns = np.tril_indices(n)
    missing = [expected_when_missing(table, rate) for rate in MISSING_RATES]
    pairs = shapley_interactions(table)[:, rows, columns]
    return np.concatenate([shapley_values(table), np.stack(missing, 1), pairs], axis=1)


def measure_table(model: Model, source: Iterable[Batch], groups: Any, keep_samples: bool) -> Measured:
    """Evaluate all coalitions, batch by batch."""
    n = len(model.names)
    members = coalitions(n)
    rows, sums, full, targets, tables = [], np.zeros(2**n), [], [], []
    for batch in (part for whole in source for part in whole.cut(max(1, _ENTRIES >> n))):
        stand_ins = model.stand_ins(batch)
        table = np.zeros((batch.rows, 2**n))
        for row in range(
            int(model.leaves_out), 2**n
        ):  # what leaves all out is scored below, when all targets are known
            table[:, row] = model.score(batch, members[row].tolist(), stand_ins)
        rows.append(_per_sample(table))
        sums += table.sum(0)
        full.append(table[:, -1].copy())
        targets.append(batch.targets)
        if keep_samples:
            tables.append(table)
    truth, per_sample = np.concatenate(targets), np.concatenate(rows)
    samples = np.concatenate(tables) if keep_samples else None
    if model.leaves_out:
        alone = model.score_frequencies(truth)
        per_sample += alone[:, None] * _per_sample(np.eye(1, 2**n))
        sums[0] = alone.sum()
        if samples is not None:
            samples[:, 0] = alone
    per_sample[:, :n] = without_rounding(per_sample[:, :n])
    groups = None if groups is None else to_numpy(groups, "groups")
    means, covariance, degrees = mean_and_covariance(per_sample, groups)
    values = sums / len(truth)
    return Measured(
        Contributions(means[:n], covariance[:n, :n], degrees),
        np.concatenate(full),
        float(values[0]),
        truth,
        groups,
        2**n,
        values,
        (means[n:], np.sqrt(np.diagonal(covariance)[n:])),
        samples,
    )


def measure_sampled(model: Model, batches: list[Batch], groups: Any, budget: int, seed: int) -> Measured:
    """Draw coalitions, the same for all samples; the spread between blocks of samples is the error that these leave."""
    n, truth = len(model.names), np.concatenate([batch.targets for batch in batches])
    groups = None if groups is None else to_numpy(groups, "groups")
    blocks = _assign_blocks(len(truth), groups, seed)
    sizes = np.bincount(blocks)
    stand_ins = [model.stand_ins(batch) for batch in batches]

    def scores_of(members: list[bool]) -> Floats:
        if model.leaves_out and not any(members):
            return model.score_frequencies(truth)
        return np.concatenate([model.score(batch, members, x) for batch, x in zip(batches, stand_ins, strict=True)])

    full = scores_of([True] * n)  # first: the outputs say how many classes there are
    none = scores_of([False] * n)

    def game(drawn: Any) -> Floats:
        values = np.empty((len(drawn), 1 + len(sizes)))
        for row, members in zip(values, drawn.tolist(), strict=True):
            scores = full if all(members) else none if not any(members) else scores_of(members)
            row[0], row[1:] = scores.mean(), np.bincount(blocks, scores) / sizes
        return values

    estimate = estimate_shapley(game, n, budget=budget, seed=seed)
    shapley, drawing = to_numpy(estimate.values, "values"), to_numpy(estimate.standard_errors, "standard_errors")[0]
    count = len(sizes)
    off = (shapley[1:] - shapley[0]) * (sizes / len(truth))[:, None]
    covariance = off.T @ off * (count / (count - 1)) + np.diag(drawing**2)
    contributions = Contributions(shapley[0], covariance, float(count - 1))
    return Measured(contributions, full, float(none.mean()), truth, groups, estimate.n_evaluations)


def _assign_blocks(count: int, groups: Numpy | None, seed: int) -> Any:
    """Put samples, or whole groups of them, into blocks at random: `(N,)`, the number of each one's block."""
    if groups is not None and groups.shape != (count,):
        raise ValueError(f"groups must be one per sample, {count}, got shape {groups.shape}")
    units = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1]
    n_units = int(units.max()) + 1
    if n_units < 2:
        raise ValueError(f"errors need at least 2 {'samples' if groups is None else 'groups'}, got {n_units}")
    order = np.random.default_rng(seed).permutation(n_units)
    return (order % min(_BLOCKS, n_units))[units]
