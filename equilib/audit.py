"""Audit of a model: what each modality contributes to its predictions, and how sure that is.

    data → batches → outputs of predict for every coalition → scores per sample → φ of every sample → means and errors

Any framework: the model is a function from a mapping of arrays to an array.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from equilib._absent import check_choice, describe_choice, make_fill
from equilib._held_out import Batch, read_batches
from equilib._measuring import MISSING_RATES, Measured, measure_sampled, measure_table
from equilib._model import Model
from equilib._namespace import Floats, as_int
from equilib._random import read_seed
from equilib.findings import describe, describe_p, number, with_error
from equilib.interactions import pairwise_synergy
from equilib.scores import Score
from equilib.uncertainty import SIGNIFICANT, Contributions, mean_and_covariance, p_value

EXACT_PLAYERS = 12
"""Up to here all 2**n coalitions are asked for unless a budget says otherwise."""
TABLE_PLAYERS = 20
"""A table of more modalities is not made, whatever the budget."""


@dataclass(frozen=True)
class Audit:
    """What an audit found. As a string, a table with a plain sentence.

    Attributes:
        modalities: their names.
        values: (2ⁿ,) mean score of every coalition, in the order of :func:`equilib.coalitions`; None if sampled.
        shapley: (n,) contributions φ; they add up to v(N) − v(∅).
        shapley_errors: (n,) their standard errors.
        shares: (n,) contribution shares ψ.
        edm: deviation from equal shares.
        edm_interval: (2,) its 95 % interval: all that is possible where nothing is learned.
        interactions: (n, n) as of :func:`equilib.shapley_interactions`; None if sampled.
        interaction_errors: (n, n) their standard errors; None if sampled.
        synergy: (n, n) as of :func:`equilib.pairwise_synergy`; None if sampled or of one modality.
        missing: rate -> expected score if each modality is absent with this probability; empty if sampled.
        missing_errors: rate -> its standard error.
        value_of_all: v(N).
        error_of_all: standard error of v(N).
        value_of_none: v(∅).
        n_samples: number of samples N.
        n_groups: number of clusters of samples; None if each is its own.
        n_coalitions: how many coalitions were evaluated.
        absent: what stood for absent modalities.
        score: what was measured.
        finding: the plain sentence.
        contributions: φ with covariance, p-values and whether anything is learned.
        samples: (N, 2ⁿ) score of every sample, on request; otherwise None.
    """

    modalities: tuple[str, ...]
    values: Floats | None
    shapley: Floats
    shapley_errors: Floats
    shares: Floats
    edm: float
    edm_interval: Floats
    interactions: Floats | None
    interaction_errors: Floats | None
    synergy: Floats | None
    missing: dict[float, float]
    missing_errors: dict[float, float]
    value_of_all: float
    error_of_all: float
    value_of_none: float
    n_samples: int
    n_groups: int | None
    n_coalitions: int
    absent: str
    score: str
    finding: str
    contributions: Contributions = field(repr=False)
    samples: Floats | None = field(default=None, repr=False)

    def __str__(self) -> str:
        unit = f"{self.n_samples:,} samples" + (f" in {self.n_groups:,} groups" if self.n_groups else "")
        lines = [
            f"{self.score} of all modalities {number(self.value_of_all, 3)}, of none {number(self.value_of_none, 3)}; "
            f"{unit}, {self.n_coalitions:,} coalitions, absent: {self.absent}",
            *_columns(self._rows()),
        ]
        if len(self.modalities) > 1:
            low, high = self.edm_interval.tolist()
            most = 2 * (1 - 1 / len(self.modalities))
            lines.append(
                f"EDM {number(self.edm)}, 95 % {number(low)} to {number(high)} "
                f"(0: equal contributions, {number(most)}: one modality does everything)"
            )
        if self.missing:
            rates = ", ".join(
                f"{rate:.0%} {with_error(value, self.missing_errors[rate])}" for rate, value in self.missing.items()
            )
            lines.append(f"{self.score} with modalities missing at random: {rates}")
        return "\n".join([*lines, *self._pairs(), self.finding])

    def _rows(self) -> list[list[str]]:
        alone = None if self.values is None else [self.values[1 << k] for k in range(len(self.modalities))]
        head = ["modality", "alone", "contributes ± error", "share", "p"]
        rows = [
            [
                name,
                number(float(alone[k]), 3) if alone else "",
                with_error(float(self.shapley[k]), float(self.shapley_errors[k])),
                number(float(self.shares[k])),
                describe_p(float(self.contributions.p_values[k])).removeprefix("p "),
            ]
            for k, name in enumerate(self.modalities)
        ]
        table = [head, *rows]
        return table if alone else [row[:1] + row[2:] for row in table]

    def _pairs(self) -> list[str]:
        """Say which pairs need each other or do the same work, the most certain first, five at most."""
        if self.interactions is None or self.interaction_errors is None or self.synergy is None:
            return []
        n, found = len(self.modalities), []
        for i in range(n):
            for j in range(i):
                value, error = float(self.interactions[i, j]), float(self.interaction_errors[i, j])
                p = p_value(value, error, self.contributions.degrees)
                if p < SIGNIFICANT / max(1, n * (n - 1) / 2):
                    kind = "redundant" if value < 0 else "complementary"
                    text = f"{self.modalities[j]} and {self.modalities[i]} are {kind}"
                    found.append((p, -abs(value), f"{text}: synergy {number(float(self.synergy[i, j]))}"))
        return [text for *_, text in sorted(found)[:5]]


def audit(
    predict: Callable[[dict[str, Any]], Any],
    data: Any,
    *,
    absent: str | Mapping[str, Any] | Callable[[str, Any], Any] = "mean",
    background: Any = None,
    score: str | Score = "accuracy",
    classes: Sequence[Any] | None = None,
    groups: Any = None,
    budget: int | None = None,
    keep_samples: bool = False,
    seed: int | None = None,
) -> Audit:
    """Measure what each modality contributes to the predictions of a model, on held-out data, with errors.

    Every coalition of modalities is what the model makes of the samples when the other modalities are absent. Its value
    is the mean score; the Shapley values are means over the samples, too, and their errors come from these. That is
    about the samples: whether the model would train as well again, no audit of one model can tell.

    Args:
        predict: takes a dict of modality name -> array (m, ...), in the library of the data; returns (m, n_classes),
            such as probabilities, or (m,), numbers or labels; of NumPy, torch (any device), jax or cupy. In inference
            mode (`model.eval()`), and it must not write to its inputs.
        data: (inputs, targets), with inputs such a dict and targets (m,), or an iterable of such batches (a torch
            DataLoader, a generator).
        absent: what stands for an absent modality. "mean": the mean of the background, NaN left out; "zero": zeros;
            "drop": nothing, it is left out of the dict; "shuffle": another sample of the background, the same for all
            modalities; a mapping of every name to an array that fits (m, ...); or callable(name, array) -> array.
        background: samples that "mean" and "shuffle" take, such as those of training: inputs, (inputs, targets), or
            batches; by default the data, of which an iterable is kept in memory.
        score: a name of :data:`equilib.scores.SCORES`, or callable(outputs, targets) -> (m,) on NumPy arrays, where
            more is better.
        classes: what column j of (m, n_classes) stands for, such as `model.classes_`; 0 to n_classes − 1 by default.
        groups: (N,) cluster of each sample, where samples are not independent: persons, recordings.
        budget: coalitions to evaluate at most. By default all 2**n of up to 12 modalities; with fewer, and for more
            modalities, :func:`equilib.estimate_shapley` draws them, and there is no table of values.
        keep_samples: whether to keep the table of scores of every sample.
        seed: of "shuffle" and of drawing coalitions, 0 to 2**64 − 1; None draws one.

    Returns:
        An :class:`Audit`. v(∅) is the score with everything replaced; for "drop", where there is nothing to ask, that
        of answering the frequencies of the targets (labels: the most frequent one; numbers: their mean).

    Raises:
        ValueError: an argument breaks its rule above, or outputs are not finite or have another shape.
        Exception: whatever predict raises, with a note that names the coalition and the samples.

    Example:
        A model that adds up what two sensors say, the first of which is better:

        >>> rng = np.random.default_rng(0)
        >>> labels = rng.integers(0, 2, 400)
        >>> inputs = {"camera": labels + 0.5 * rng.normal(size=400), "radar": labels + rng.normal(size=400)}
        >>> def predict(inputs):
        ...     return (4 * inputs["camera"] + inputs["radar"] > 2.5).astype(int)
        >>> result = audit(predict, (inputs, labels))
        >>> print(result)
        accuracy of all modalities .853, of none .552; 400 samples, 4 coalitions, absent: mean
          modality  alone  contributes ± error  share       p
          camera     .855            .23 ± .02    .77  < .001
          radar      .693            .07 ± .02    .23  < .001
        EDM .54, 95 % .34 to .74 (0: equal contributions, 1: one modality does everything)
        accuracy with modalities missing at random: 30% .82 ± .02, 50% .80 ± .01, 70% .79 ± .01
        camera and radar are redundant: synergy −.47
        camera carries .23 ± .02 of the accuracy; radar carries .07 ± .02 of the accuracy; the contributions are not
        equal: EDM .54, 95 % .34 to .74
    """
    batches = read_batches(data)
    first = next(batches)
    names, n = list(first.inputs), len(first.inputs)
    exact = _is_exact(n, budget)
    check_choice(absent, names)
    if keep_samples and not exact:
        raise ValueError("keep_samples must be False where coalitions are drawn, for there is no table of their scores")
    seed = read_seed(seed)
    source: Iterable[Batch] = itertools.chain([first], batches)
    if not exact or (background is None and isinstance(absent, str) and absent in ("mean", "shuffle")):
        source = list(source)
    fill = make_fill(absent, lambda: _read_background(background, source, names), np.random.default_rng(seed))
    model = Model(predict, names, fill, score, classes)
    if exact:
        measured = measure_table(model, source, groups, keep_samples)
    else:
        measured = measure_sampled(model, list(source), groups, as_int(budget, "budget"), seed)
    return _report(model, measured, describe_choice(absent))


def _is_exact(n: int, budget: int | None) -> bool:
    """Tell whether all coalitions are evaluated."""
    if budget is None:
        if n > EXACT_PLAYERS:
            raise ValueError(
                f"budget must be given for {n} modalities, which have {2**n:,} coalitions: how many to evaluate, "
                f"at least {n + 1}"
            )
        return True
    budget = as_int(budget, "budget")
    if budget < n + 1:
        raise ValueError(f"budget must be at least {n + 1}, the number of modalities + 1, got {budget}")
    return n <= TABLE_PLAYERS and 2**n <= budget


def _read_background(background: Any, data: Iterable[Batch], names: list[str]) -> Iterable[Batch]:
    if background is None:
        return data
    if isinstance(background, Mapping):
        rows = len(next(iter(background.values()), ()))
        background = (background, np.zeros(rows))
    batches = list(read_batches(background, "background"))
    if sorted(batches[0].inputs) != sorted(names):
        raise ValueError(f"background must have the modalities of data, {names}, got {list(batches[0].inputs)}")
    return batches


def _report(model: Model, measured: Measured, absent: str) -> Audit:
    """Put together what was measured, with words."""
    n, names = len(model.names), tuple(model.names)
    interactions = interaction_errors = synergy = None
    missing: dict[float, float] = {}
    missing_errors: dict[float, float] = {}
    if measured.others is not None and measured.values is not None:
        means, errors = measured.others
        missing = dict(zip(MISSING_RATES, means.tolist(), strict=False))
        missing_errors = dict(zip(MISSING_RATES, errors.tolist(), strict=False))
        interactions, interaction_errors = (_square(x[len(MISSING_RATES) :], n) for x in (means, errors))
        synergy = np.asarray(pairwise_synergy(measured.values)) if n > 1 else None
    of_all = float(measured.full.mean())
    majority, beats_majority = _compare_with_majority(model, measured)
    known = replace(measured.contributions, says_something=beats_majority and not model.is_constant)
    finding = describe(
        names,
        known,
        score=model.score_name,
        of_all=of_all,
        of_none=measured.value_of_none,
        none="the majority's" if model.leaves_out and majority is not None else "that of none",
        is_constant=model.is_constant,
        majority=None if beats_majority else majority,
    )
    return Audit(
        modalities=names,
        values=measured.values,
        shapley=known.shapley,
        shapley_errors=known.errors,
        shares=known.shares,
        edm=known.edm,
        edm_interval=known.edm_interval,
        interactions=interactions,
        interaction_errors=interaction_errors,
        synergy=synergy,
        missing=missing,
        missing_errors=missing_errors,
        value_of_all=of_all,
        error_of_all=math.sqrt(float(mean_and_covariance(measured.full[:, None], measured.groups)[1][0, 0])),
        value_of_none=measured.value_of_none,
        n_samples=len(measured.targets),
        n_groups=None if measured.groups is None else len(np.unique(measured.groups)),
        n_coalitions=measured.n_coalitions,
        absent=absent,
        score=model.score_name,
        finding=finding,
        contributions=known,
        samples=measured.samples,
    )


def _compare_with_majority(model: Model, measured: Measured) -> tuple[float | None, bool]:
    """Tell the accuracy of the most frequent label, and whether all modalities are above it, beyond the error."""
    hits = model.hits_of_the_majority(measured.targets)
    if hits is None:
        return None, True
    means, covariance, degrees = mean_and_covariance((measured.full - hits)[:, None], measured.groups)
    gain = float(means[0])
    better = gain > 0 and p_value(gain, math.sqrt(float(covariance[0, 0])), degrees) < SIGNIFICANT
    return float(hits.mean()), better


def _square(triangle: Floats, n: int) -> Floats:
    """Spread a lower triangle to a symmetric matrix."""
    matrix = np.zeros((n, n))
    rows, columns = np.tril_indices(n)
    matrix[rows, columns] = matrix[columns, rows] = triangle
    return matrix


def _columns(rows: list[list[str]]) -> list[str]:
    """Lay out a table: names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(cell.rjust(w) if k else cell.ljust(w) for k, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
