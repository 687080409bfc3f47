"""Regression-adjusted sampling: the Shapley values of a fitted model, plus an unbiased estimate of what it misses.

With ṽ(S) = v(S) − v(∅) − |S| f, f = (v(N) − v(∅))/n, every game satisfies
    φ_i = f + Σ_{s=1}^{n−1} E_{|S|=s}[c_i(S) ṽ(S)],  c_i(S) = 1/s for members, −1/(n−s) for others.
For a model g with known values this holds of ṽ − g too, whose expectations are estimated by the means over the
coalitions of size s drawn, m_s of them without replacement:
    φ̂ = f + φ(g) + Σ_S c(S) (ṽ − g)(S) / m_{|S|}.
The model that predicts a coalition is fitted to others (cross-fitting), so the sum is unbiased whatever the model, but
for two things that vanish as the budget grows: the pilot's say in how many of each size are drawn, and that sizes drawn
nearly completely are predicted by the model of all. In pairs S, N∖S only the odd part (v(S) − v(N∖S))/2 matters,
at twice the variance per evaluation: worth it where the even part's residual is the larger. Models, and how much each
counts, are chosen by the variance that their held-out residuals leave to φ̂ (`_fitting`, `_likeness`, `_products`).

Sources: Witter, Musco et al., "Regression-adjusted Monte Carlo estimators for Shapley values" (2025); Musco & Witter,
"Provably accurate Shapley value estimation via leverage score sampling" (2025); allocation to sizes: Neyman (1934).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from equilib._namespace import Floats, Ints
from equilib.estimators._errors import fraction_drawn, of_units, unit_errors, with_noise
from equilib.estimators._fitting import RIDGE, best_fit
from equilib.estimators._problem import FIRST_LOOK, Problem, Solution, plan_stages, share_of_one
from equilib.estimators._products import LINEAR
from equilib.estimators._sampling import Sample, Sampler, comes_in_pairs, draw, known_sample, settled
from equilib.estimators._surrogate import TINY, Data, Fit, constants_of_others, cross_fit, score_of, stack
from equilib.estimators._trees import grow

PILOT = 0.4
"""Part of the budget (of the first look, with a tolerance) that is drawn before anything is known of the game."""
MIN_PILOT = 16
"""Evaluations of a pilot worth asking; with less, all is drawn in pairs and no more for one size than another."""
MIN_UNITS = 6
"""Coalitions, or pairs of them, below which the spread of the residuals says nothing."""
N_FOLDS = 6
"""Parts of the sample for cross-fitting."""
MIN_UNEXPLAINED = 0.25
"""Part of the residuals that more data leave, at least, when the gain of a larger sample is predicted."""
LENT = 0.1
"""Part of the mean residual of all sizes in that of each, where sizes are allotted."""
TREE_FOLDS, MIN_TREE_UNITS = 3, 24
"""Parts of the sample for the cross-fitting of trees, and units below which none is grown."""
TREE_WORK = 20.0
"""How many times the usual time the other models may take beside trees, which take longer."""
SLIGHT = 0.01
"""Part of a size that counts as not drawn, at least, in the weights of a fit."""
SHARED = 1.05
"""What errors are widened by, as models of different folds have most of their data in common (measured)."""
MIN_NEIGHBOURS = 1e-9
"""Keeps sizes without drawn neighbours from dividing by zero."""


def adjusted(problem: Problem) -> Solution:
    """Decide for or against pairs after the pilot."""
    return _estimate(problem, None)


def adjusted_paired(problem: Problem) -> Solution:
    """Draw every coalition with its complement."""
    return _estimate(problem, True)


def adjusted_unpaired(problem: Problem) -> Solution:
    """Draw coalitions on their own; only the pilot comes in pairs."""
    return _estimate(problem, False)


def boosted(problem: Problem) -> Solution:
    """Decide for or against pairs after the pilot; boosted trees stand beside the regression."""
    return _estimate(problem, None, trees=True)


def _estimate(problem: Problem, pairs: bool | None, *, trees: bool = False) -> Solution:
    n = problem.n
    if n == 1:
        return share_of_one(problem, "adjusted-unpaired")
    sampler = Sampler(n, problem.rng)
    sample = known_sample(problem, sampler, pairs=pairs is not False)
    known = len(sample.sizes)
    sizes = np.arange(1, n)
    weights = 1 / np.sqrt(sizes * (n - sizes))
    stages = plan_stages(problem)
    until = stages[-1] if not problem.looks else min(stages[-1], FIRST_LOOK * n)
    pilot = int(PILOT * until) // 2 * 2
    if not known and pilot >= MIN_PILOT:
        sample = draw(problem, sampler, sample, weights, pilot, pairs=True, balanced=False)
    elif not known:
        sample = draw(problem, sampler, sample, weights, stages[0], pairs=True)
        pairs = True
    if known and not comes_in_pairs(sample):
        pairs = False
    if len(sample.sizes) >= MIN_PILOT:
        residuals = _fit_pilot(_in_pairs(sample), n) if len(_in_pairs(sample).sizes) >= MIN_PILOT else None
        if pairs is None:
            pairs = residuals is None or residuals.pairs_pay(problem.budget)
        if residuals is not None:
            weights = weights * residuals.spread_by_size(pairs=pairs)
    pairs = pairs is not False
    before = None
    for stage in stages:
        sample = draw(problem, sampler, sample, weights, max(stage - len(sample.sizes), 0), pairs=pairs)
        values, errors = _solve(sample, problem, pairs, trees=trees)
        if settled(problem, values, errors, before):
            break
        before = values
    name = "adjusted-paired" if pairs else "adjusted-unpaired"
    return Solution((problem.fair + values).T, errors.T, name, complete=sampler.complete)


def _in_pairs(sample: Sample) -> Sample:
    """Keep the pairs of a sample."""
    paired = (np.bincount(sample.units) == 2)[sample.units]
    kept = Sample(*(part[paired] for part in sample))
    return kept._replace(units=np.arange(len(kept.sizes)) // 2)


class PilotResiduals(NamedTuple):
    """What models of the pilot's pairs miss, squared, relative to the game's values."""

    sizes: Ints  # (u,) of the first of each pair
    weights: Floats  # (u,) of the pairs in the Shapley kernel
    odd: Floats  # (u, k) of the linear model of (v(S) − v(N∖S))/2
    even: Floats  # (u, k) of the means by size of (v(S) + v(N∖S))/2
    n: int

    def pairs_pay(self, budget: int) -> bool:
        """Decide whether to draw pairs for the rest of a budget."""
        # A model of n parameters fitted to all will miss less than one fitted to the pilot.
        n, few = self.n, len(self.sizes)
        many = max(budget // 2, few)
        gain = max(1 - n / few, MIN_UNEXPLAINED) / max(1 - n / many, MIN_UNEXPLAINED)
        # A short pilot errs; pairs are wrong by a factor of 2 at most, single coalitions by any.
        doubt = 1 + n / few
        odd, even = ((self.weights @ part).sum() for part in (self.odd, self.even))
        return bool(gain * odd <= doubt * even)

    def spread_by_size(self, *, pairs: bool) -> Floats:
        """Estimate the standard deviation of the residuals of each size 1 to n − 1 (Neyman allocation)."""
        n, sizes = self.n, self.sizes
        missed = self.odd.sum(axis=1) if pairs else (self.odd + self.even).sum(axis=1)
        # Few values per size: lend to and borrow from the neighbours, and from all.
        sums = np.bincount(sizes, missed, n + 1) + np.bincount(n - sizes, missed, n + 1)
        number = np.bincount(sizes, minlength=n + 1)
        number = number + number[::-1]
        near = np.exp(-0.5 * (np.arange(n + 1)[:, None] - np.arange(n + 1)) ** 2.0)
        variance = (near @ sums) / np.maximum(near @ number, MIN_NEIGHBOURS) + LENT * missed.mean() + TINY
        spread: Floats = np.sqrt(variance[1:n])
        return spread


def _fit_pilot(sample: Sample, n: int) -> PilotResiduals:
    """Fit the odd and the even part of the pilot's values."""
    first, second = sample.values[::2], sample.values[1::2]
    odd, even = (first - second) / 2, (first + second) / 2
    sizes = sample.sizes[::2]
    number = np.bincount(sizes, minlength=n + 1)
    weights = _kernel_weights(sizes, number, n)
    data = Data(
        coalitions=sample.coalitions[::2],
        targets=odd,
        weights=weights,
        stakes=weights,
        strata=_paired_strata(sizes, n),
        folds=np.arange(len(sizes)) % min(N_FOLDS, len(sizes)),
        scale=np.sqrt((sample.values**2).mean(axis=0)) + TINY,
    )
    missed_odd = (cross_fit(LINEAR, data, ridges=[RIDGE / len(sizes)]).held_out / data.scale) ** 2
    mean = np.zeros((n + 1, even.shape[1]))
    np.add.at(mean, sizes, even / number[sizes][:, None])
    unbiased = number / np.maximum(number - 1, 1)
    missed_even = ((even - mean[sizes]) / data.scale) ** 2 * unbiased[sizes][:, None]
    return PilotResiduals(sizes, data.weights, missed_odd, missed_even, n)


def _solve(sample: Sample, problem: Problem, pairs: bool, *, trees: bool) -> tuple[Floats, Floats]:
    """Fit the model and correct it: values beyond the fair share and standard errors, `(n, k)`."""
    n, rng = problem.n, problem.rng
    n_units = int(sample.units[-1]) + 1
    first = np.searchsorted(sample.units, np.arange(n_units))
    rows = first if pairs else np.arange(len(sample.sizes))
    folds = _draw_folds(np.minimum(sample.sizes, n - sample.sizes)[first], rng)[sample.units[rows]]
    sizes, strata = sample.sizes[rows], sample.sizes
    number = np.bincount(sample.sizes, minlength=n + 1)
    share = 1 / number[sizes]
    last = np.append(first[1:], len(sample.sizes)) - 1
    # A single coalition, left over by an odd budget, stands for itself.
    alone = (first == last)[:, None]

    def targets_of(values: Floats) -> Floats:
        if not pairs:
            return values
        return np.where(alone, values[first], (values[first] - values[last]) / 2)

    targets = targets_of(sample.values)
    if pairs:
        share = share * np.where(alone[:, 0], 1.0, 2.0)
        strata = _paired_strata(sizes, n)
    # Of a size drawn completely nothing is left to chance, if one model is taken off all of it.
    drawn = fraction_drawn(sample.sizes, n)
    weights = _kernel_weights(sizes, number, n)
    data = Data(
        coalitions=sample.coalitions[rows],
        targets=targets,
        # Between the Shapley kernel, which spreads what is learned over all sizes, and what is at stake.
        weights=weights * np.sqrt(share * (1 + SLIGHT - drawn[sizes]) * len(sizes)),
        stakes=weights * share * (1 - drawn[sizes]),
        strata=strata,
        folds=folds,
        scale=np.sqrt((targets**2).mean(axis=0)) + TINY,
    )
    fit = best_fit(data, problem.fair, n_units, len(sample.sizes), rng, odd=pairs, work=TREE_WORK if trees else 1.0)
    if trees and n_units >= MIN_TREE_UNITS:
        fit = stack(fit, _fit_trees(sample, data, rows, targets_of, problem.fair, rng), data)
    part = drawn[sizes][:, None]
    residuals = part * fit.residuals + (1 - part) * fit.held_out
    weight = np.where(data.coalitions, (share / sizes)[:, None], (-share / (n - sizes))[:, None])
    # Held-out residuals, of sizes drawn completely, too: they tell what those of the next sizes may be.
    own = fit.held_out if pairs else of_units(sample, share, fit.held_out)[1]
    small, orders = np.minimum(sample.sizes, n - sample.sizes)[first], sample.orders[first]
    errors = unit_errors(weight if pairs else weight[first], own, small, orders, 1 - drawn, freedom=n_units / 2)
    errors *= SHARED
    if n_units < MIN_UNITS and (drawn[1:n] < 1).any():
        errors = np.full_like(errors, np.inf)
    values = fit.shapley + weight.T @ residuals
    # Half the difference of two answers is half as noisy.
    heard = np.where(alone, weight, weight / math.sqrt(2)) if pairs else weight
    return values, with_noise(errors, heard, drawn[sizes], problem.evaluate.noise)


def _fit_trees(
    sample: Sample,
    data: Data,
    rows: Ints,
    targets_of: Callable[[Floats], Floats],
    fair: Floats,
    rng: np.random.Generator,
) -> Fit:
    """Fit boosted trees to the values, cross-fitted like the rest."""
    n, k = data.coalitions.shape[1], data.targets.shape[1]
    folds = (data.folds % TREE_FOLDS)[np.searchsorted(sample.units[rows], sample.units)]
    number = np.bincount(sample.sizes, minlength=n + 1)
    weights = _kernel_weights(sample.sizes, number, n)
    mean, own, shapley = np.zeros_like(sample.values), np.zeros_like(sample.values), np.zeros((n, k))
    # Trees are asked for the values themselves, not beyond a share that grows with the size: that would be all stairs.
    shares = sample.sizes[:, None] * fair
    values_of_all = (sample.values + shares) / data.scale
    offset = values_of_all.mean(axis=0)
    for output, values in enumerate((values_of_all - offset).T):
        for fold in range(TREE_FOLDS):
            others, here = folds != fold, folds == fold
            forest = grow(sample.coalitions[others], values[others], weights[others], rng)
            said = forest.predict(sample.coalitions) * data.scale[output]
            mean[:, output] += said / TREE_FOLDS
            own[here, output] = said[here]
            shapley[:, output] += forest.shapley(n) * data.scale[output] / TREE_FOLDS
    shapley -= shapley.mean(axis=0)
    mean, own = mean + offset * data.scale - shares, own + offset * data.scale - shares
    held_out, residuals = data.targets - targets_of(own), data.targets - targets_of(mean)
    held_out -= constants_of_others(held_out, data)
    return Fit(held_out, residuals, shapley, score_of(held_out, data), 0.0)


def _kernel_weights(sizes: Ints, number: Ints, n: int) -> Floats:
    """Weigh coalitions of the sizes by the Shapley kernel over how many of each size were drawn, `number`."""
    weights: Floats = n / (sizes * (n - sizes)) / number[sizes]
    return weights


def _paired_strata(sizes: Ints, n: int) -> Ints:
    """Give every size a constant, but half the players: the odd part of a pair has none there."""
    return np.where(2 * sizes == n, 0, sizes)


def _draw_folds(sizes: Ints, rng: np.random.Generator) -> Ints:
    """Draw the fold of each unit, balanced over the sizes."""
    order = np.argsort(sizes + rng.random(len(sizes)))
    folds = np.empty(len(sizes), dtype=np.int64)
    folds[order] = np.arange(len(sizes)) % min(N_FOLDS, len(sizes))
    return folds
