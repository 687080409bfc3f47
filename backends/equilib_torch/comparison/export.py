"""A comparison as CSV and JSON; the same outcomes give the same text."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from io import StringIO
from typing import Any

from equilib_torch.comparison.outcomes import Outcome, figures
from equilib_torch.comparison.table import Table
from equilib_torch.comparison.variants import Variant
from equilib_torch.runs.directory import config_of


def table_csv(table: Table) -> str:
    """Write a row per variant; means and standard deviations in full precision, empty where there are none."""
    names = [f"{column.key}_{statistic}" for column in table.columns for statistic in ("mean", "sd")]
    rows = [
        [
            row.variant,
            len(row.values["accuracy"]),
            len(row.failed),
            *(_number(value) for c in table.columns for value in (row.mean(c.key), row.sd(c.key))),
            *map(_number, (row.p_joint, row.p_rival, row.p_missing)),
        ]
        for row in table.rows
    ]
    return _csv([["variant", "n_runs", "n_failed", *names, "p_joint", "p_best_rival", "p_joint_missing_0.5"], *rows])


def runs_csv(outcomes: Sequence[Outcome]) -> str:
    """Write a row per run with all its figures, those of the summary that have parts as key.part."""
    flat = [
        {"variant": o.variant, "seed": o.seed, "failed": o.reason, **_flat({**figures(o.summary), **o.summary})}
        if o.summary is not None
        else {"variant": o.variant, "seed": o.seed, "failed": o.reason}
        for o in outcomes
    ]
    names = list(dict.fromkeys(name for row in flat for name in row))
    return _csv([names, *([row.get(name, "") for name in names] for row in flat)])


def as_json(table: Table, outcomes: Sequence[Outcome], variants: Sequence[Variant]) -> dict[str, Any]:
    """Give everything: options of every variant, figures, tests, correlation, and the summaries of all runs."""
    leave_out = ("backend", "dataset", "seed")
    return {
        "dataset": table.dataset,
        "seeds": list(table.seeds),
        "epochs": list(table.epochs),
        "options": {
            v.name: {name: value for name, value in config_of(v.options).items() if name not in leave_out}
            for v in variants
        },
        "variants": [
            {
                "variant": row.variant,
                "figures": {
                    column.key: {"mean": _null(row.mean(column.key)), "sd": _null(row.sd(column.key))}
                    for column in table.columns
                },
                "p_joint": _null(row.p_joint),
                "p_best_rival": _null(row.p_rival),
                "p_joint_missing_0.5": _null(row.p_missing),
                "failed": {str(seed): reason for seed, reason in row.failed.items()},
            }
            for row in table.rows
        ],
        "best_rival": table.rival,
        "spearman_edm_accuracy": {"rho": _null(table.rho), "p": _null(table.rho_p), "n_runs": table.n_runs},
        "versions": {**table.versions, "scipy": [version("scipy")]},
        "runs": [
            {"variant": o.variant, "seed": o.seed, "failed": o.reason or None, "summary": o.summary} for o in outcomes
        ],
    }


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    file = StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


def _flat(summary: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in summary.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{part}": figure for part, figure in value.items()}
        else:
            flat[key] = " ".join(map(str, value)) if isinstance(value, list) else value
    return flat


def _number(value: float) -> str:
    return "" if math.isnan(value) else repr(value)


def _null(value: float) -> float | None:
    return None if math.isnan(value) else value
