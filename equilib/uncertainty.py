"""How sure contributions are, when they are means over samples: errors, p-values, and an interval for the EDM.

v(S) is a mean over held-out samples and φ is linear in v, so φ is the mean of the samples' own Shapley values: its
standard errors are those of any mean, and of clusters of samples where these belong together.

Source: standard statistics; the cluster-robust covariance is that of K.-Y. Liang & S. L. Zeger (1986). The interval is
our decision, for which see :func:`edm_interval`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from equilib._namespace import Floats
from equilib.equilibrium import contribution_shares, edm
from equilib.estimators._errors import student

SIGNIFICANT = 0.05
"""Below this p-value something is said to be there."""
_DRAWS = 8000
_CLEAR = 2.5
"""Standard errors between a share and the target from which on it is clear on which side it is."""


@dataclass(frozen=True)
class Contributions:
    """Shapley values that were measured on samples.

    Attributes:
        shapley: (n,) their means.
        covariance: (n, n) of these means.
        degrees: degrees of freedom of the covariance: number of samples or clusters, less one.
        says_something: False where something else shows that nothing is learned, such as a prediction that is the same
            for every sample.
    """

    shapley: Floats
    covariance: Floats
    degrees: float
    says_something: bool = True

    @cached_property
    def errors(self) -> Floats:
        """Standard errors, `(n,)`."""
        return np.sqrt(np.diagonal(self.covariance))

    @property
    def total(self) -> float:
        """What all add together, v(N) − v(∅)."""
        return float(self.shapley.sum())

    @property
    def total_error(self) -> float:
        """Its standard error."""
        return math.sqrt(max(float(self.covariance.sum()), 0.0))

    @cached_property
    def p_values(self) -> Floats:
        """Of each contribution, two-sided, `(n,)`: how likely one as far from 0 is if the true one is 0."""
        pairs = zip(self.shapley.tolist(), self.errors.tolist(), strict=True)
        return np.asarray([p_value(value, error, self.degrees) for value, error in pairs])

    @property
    def is_gain(self) -> bool:
        """Whether all together are better than none, beyond the error."""
        return self.total > 0 and p_value(self.total, self.total_error, self.degrees) < SIGNIFICANT

    @property
    def is_learned(self) -> bool:
        """Whether shares mean anything: all together are better than none, and nothing else speaks against it."""
        return self.says_something and self.is_gain

    @property
    def shares(self) -> Floats:
        """Contribution shares, `(n,)`."""
        return np.asarray(contribution_shares(self.shapley))

    @property
    def edm(self) -> float:
        """Deviation from equal shares."""
        return float(edm(self.shapley))

    @cached_property
    def edm_interval(self) -> Floats:
        """95 % interval of the EDM, `(2,)`: all that is possible where nothing is learned, whose shares are 0/0."""
        if not self.is_learned:
            return np.asarray([0.0, _largest(len(self.shapley))])
        return edm_interval(self.shapley, self.covariance, self.degrees)


def measure_contributions(shapley: Floats, groups: Any = None) -> Contributions:
    """Average the samples' Shapley values `(N, n)`, with errors.

    Args:
        shapley: `(N, n)`, N >= 2.
        groups: `(N,)`, which cluster each sample belongs to; by default, each is its own.

    Example:
        >>> measured = measure_contributions(np.asarray([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.0, -1.0]]))
        >>> measured.shapley.tolist(), measured.errors.round(3).tolist()
        ([0.5, 0.0], [0.289, 0.408])
    """
    # What rounding leaves of contributions of 0 would look certain: it is the same for all samples.
    means, covariance, degrees = mean_and_covariance(without_rounding(shapley), groups)
    return Contributions(means, covariance, degrees)


def without_rounding(rows: Floats) -> Floats:
    """Set to 0 what is 0 but for rounding, beside the largest."""
    kept: Floats = np.where(np.abs(rows) > 1e-12 * np.abs(rows).max(initial=0), rows, 0.0)
    return kept


def mean_and_covariance(rows: Floats, groups: Any = None) -> tuple[Floats, Floats, float]:
    """Average rows `(N, q)`: means `(q,)`, their covariance `(q, q)`, and its degrees of freedom.

    Raises:
        ValueError: there are fewer than 2 rows or groups, or not a group per row.
    """
    if groups is not None and np.shape(groups) != (len(rows),):
        raise ValueError(f"groups must be one per sample, {len(rows)}, got shape {np.shape(groups)}")
    means = rows.mean(0)
    sums = rows - means
    if groups is not None:
        _, cluster = np.unique(np.asarray(groups), return_inverse=True)
        by_cluster = np.zeros((int(cluster.max()) + 1, rows.shape[1]))
        np.add.at(by_cluster, cluster, sums)
        sums = by_cluster
    count = len(sums)
    if count < 2:
        kind = "samples" if groups is None else "groups"
        raise ValueError(f"errors need at least 2 {kind}, got {count}")
    covariance = sums.T @ sums * (count / (count - 1) / len(rows) ** 2)
    return means, covariance, float(count - 1)


def p_value(value: float, error: float, degrees: float) -> float:
    """Compute the two-sided p-value of Student's t, by D. L. Wallace's normalisation (1959), within .01.

    Example:
        >>> round(p_value(2.0, 1.0, 1e9), 3), round(p_value(2.0, 1.0, 10), 2), p_value(0.0, 0.0, 10)
        (0.046, 0.07, 1.0)
    """
    if value == 0 or math.isinf(error):
        return 1.0
    if error == 0:
        return 0.0
    t = abs(value / error)
    z = (8 * degrees + 1) / (8 * degrees + 3) * math.sqrt(degrees * math.log1p(t * t / degrees))
    return math.erfc(z / math.sqrt(2))


def half_width(error: Any, degrees: float) -> Any:
    """Turn a standard error into half of a 95 % interval."""
    return 1.959964 * student(degrees) * error


def edm_interval(shapley: Floats, covariance: Floats, degrees: float = math.inf) -> Floats:
    """Compute a 95 % interval of the EDM, from contributions and their covariance.

    An estimated EDM is never below 0: near equilibrium it is too large, and percentiles of resampled ones larger still,
    so that their intervals miss a true 0 almost always. Here, with shares p of target η and their errors Δ, drawn from
    the normal distribution of the contributions: where the sign s_i of p_i − η is clear, the EDM is off by s_i Δ_i;
    where it is not, by at most |Δ_i|. The interval takes off and adds the 97.5 % quantiles of the sums of these, so
    that it holds the true EDM in equilibrium as well as far from it; in between it is somewhat wide.

    Args:
        shapley: (n,) contributions.
        covariance: (n, n) of them.
        degrees: degrees of freedom of the covariance.

    Returns:
        `(2,)`, within [0, 2(1 − 1/n)]; the same for the same input, for the draws have a fixed seed.

    Example:
        >>> edm_interval(np.asarray([0.3, 0.2]), 0.03**2 * np.eye(2)).round(2).tolist()
        [0.0, 0.4]
        >>> edm_interval(np.asarray([0.26, 0.24]), 0.03**2 * np.eye(2)).round(2).tolist()
        [0.0, 0.24]
    """
    n, largest = len(shapley), _largest(len(shapley))
    if not (np.isfinite(covariance).all() and (shapley > 0).any()):
        return np.asarray([0.0, largest])
    variances, directions = np.linalg.eigh(covariance)
    spread = directions * np.sqrt(np.maximum(variances, 0)) * float(student(degrees))
    drawn = shapley + np.random.default_rng(0).normal(size=(_DRAWS, n)) @ spread.T
    shares = np.asarray(contribution_shares(shapley))
    errors, gaps = np.asarray(contribution_shares(drawn)) - shares, shares - 1 / n
    errors = np.concatenate([errors, -errors])  # a share of 0 can only be drawn above 0, but errs to either side
    clear = np.abs(gaps) > _CLEAR * np.sqrt(np.square(errors).mean(0))
    signed, unclear = errors @ (clear * np.sign(gaps)), np.abs(errors) @ ~clear
    middle = np.abs(gaps).sum()
    lower, upper = middle - np.quantile(signed + unclear, 0.975), middle + np.quantile(unclear - signed, 0.975)
    interval: Floats = np.clip(np.asarray([min(lower, middle), max(upper, middle)]), 0.0, largest)
    return interval


def _largest(n: int) -> float:
    return 2 * (1 - 1 / n)
