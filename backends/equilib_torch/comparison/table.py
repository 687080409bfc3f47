"""The figures of every variant over its seeds, with significance: computed from outcomes alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from equilib_torch.comparison.outcomes import Outcome, figures
from equilib_torch.comparison.statistics import NAN, holm, mean_sd, paired_p, spearman
from equilib_torch.comparison.variants import OURS
from equilib_torch.runs.summary import MISSING_RATES

BASELINE = "joint"
TESTED = "missing_0.5"


class Figure(NamedTuple):
    """A figure of a run.

    Attributes:
        key: its name in files.
        title: over its column.
        best: which end is good.
    """

    key: str
    title: str
    best: Literal["high", "low", ""] = "high"


@dataclass(frozen=True)
class Row:
    """A variant.

    Attributes:
        variant: its name.
        values: figure by column key, then by seed.
        failed: reasons by seed of the runs that failed.
        p_joint: corrected p of its accuracy against joint training's; NaN where not tested.
        p_rival: the same against the best rival's.
        p_missing: the same as `p_joint`, of the accuracy with half of the modalities missing.
    """

    variant: str
    values: dict[str, dict[int, float]]
    failed: dict[int, str]
    p_joint: float = NAN
    p_rival: float = NAN
    p_missing: float = NAN

    def mean(self, key: str) -> float:
        """Mean over the seeds; NaN if there is none."""
        return mean_sd(list(self.values[key].values()))[0]

    def sd(self, key: str) -> float:
        """Sample standard deviation over the seeds; NaN for fewer than two."""
        return mean_sd(list(self.values[key].values()))[1]


@dataclass(frozen=True)
class Table:
    """A comparison on one data set.

    Attributes:
        dataset: its name.
        columns: the figures, in order.
        rows: the variants, the most accurate first.
        seeds: of all runs, sorted.
        epochs: numbers of epochs of the runs, sorted.
        rival: name of the best variant that is not ours; None without.
        rho: Spearman's correlation of EDM and accuracy over all runs; negative if balance goes with accuracy.
        rho_p: its p.
        n_runs: number of finished runs.
        versions: of the packages, by name; several where the runs differ.
    """

    dataset: str
    columns: tuple[Figure, ...]
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    epochs: tuple[int, ...]
    rival: str | None
    rho: float
    rho_p: float
    n_runs: int
    versions: dict[str, list[str]]


def figure_columns(modalities: Sequence[str]) -> tuple[Figure, ...]:
    """Give the columns of a table for data of these modalities."""
    return (
        Figure("accuracy", "accuracy"),
        Figure("macro_f1", "macro-F1"),
        *(Figure(f"alone_{name}", f"{name} alone") for name in modalities),
        *(Figure(f"missing_{rate}", f"{rate:.0%} missing") for rate in MISSING_RATES),
        Figure("edm", "EDM", "low"),
        Figure("seconds_per_epoch", "s per epoch", "low"),
        Figure("relative_seconds", "time ÷ joint", "low"),
        Figure("schedule_percent", "schedule, % of time", ""),
    )


def summarise_runs(outcomes: Sequence[Outcome]) -> Table:
    """Compute everything the table says.

    Every p is of a two-sided paired t-test over the seeds that both variants finished, corrected by Holm's method for
    all variants tested in its column. The best rival is the variant with the highest mean accuracy whose method is not
    ours, among those with the fewest failed runs.

    Args:
        outcomes: of runs on one data set, in any order; at least one is finished.
    """
    summaries = [outcome.summary for outcome in outcomes if outcome.summary is not None]
    first = summaries[0]
    columns = figure_columns(first["modalities"])
    rows = [_row(name, outcomes, columns) for name in dict.fromkeys(outcome.variant for outcome in outcomes)]
    by_name = {row.variant: row for row in rows}
    rivals = [row for row in rows if row.variant.partition(":")[0] not in OURS and row.values["accuracy"]]
    best = max(rivals, key=lambda row: (len(row.values["accuracy"]), row.mean("accuracy")), default=None)
    joint = by_name.get(BASELINE)
    tests = (
        p_values(rows, joint, "accuracy"),
        p_values(rows, best, "accuracy"),
        p_values(rows, joint, TESTED),
    )
    tested = [
        Row(row.variant, _with_relative(row, joint), row.failed, *p) for row, *p in zip(rows, *tests, strict=True)
    ]
    rho, rho_p = spearman([s["edm"] for s in summaries], [s["test_accuracy"] for s in summaries])
    versions: dict[str, set[str]] = {}
    for summary in summaries:
        for package, version in summary["versions"].items():
            versions.setdefault(package, set()).add(version)
    return Table(
        dataset=first["dataset"],
        columns=columns,
        rows=tuple(sorted(tested, key=_place)),
        seeds=tuple(sorted({outcome.seed for outcome in outcomes})),
        epochs=tuple(sorted({summary["epochs"] for summary in summaries})),
        rival=best.variant if best else None,
        rho=rho,
        rho_p=rho_p,
        n_runs=len(summaries),
        versions={package: sorted(distinct) for package, distinct in versions.items()},
    )


def p_values(rows: Sequence[Row], reference: Row | None, key: str) -> list[float]:
    """Give the corrected p of every row's figure against the reference's; NaN for the reference itself."""
    if reference is None:
        return [NAN] * len(rows)
    return holm([NAN if row is reference else paired_p(row.values[key], reference.values[key]) for row in rows])


def _row(name: str, outcomes: Sequence[Outcome], columns: Sequence[Figure]) -> Row:
    values: dict[str, dict[int, float]] = {column.key: {} for column in columns}
    failed = {}
    for outcome in sorted((o for o in outcomes if o.variant == name), key=lambda o: o.seed):
        if outcome.summary is None:
            failed[outcome.seed] = outcome.reason
            continue
        for key, value in figures(outcome.summary).items():
            values[key][outcome.seed] = value
    return Row(name, values, failed)


def _with_relative(row: Row, joint: Row | None) -> dict[str, dict[int, float]]:
    key = "seconds_per_epoch"
    ours, theirs = row.values[key], joint.values[key] if joint else {}
    return {**row.values, "relative_seconds": {s: ours[s] / theirs[s] for s in ours if s in theirs}}


def _place(row: Row) -> tuple[float, str]:
    mean = row.mean("accuracy")
    return (1.0 if math.isnan(mean) else -mean, row.variant)  # those without a finished run come last
