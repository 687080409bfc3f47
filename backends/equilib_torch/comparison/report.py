"""A comparison as files: table.md, table.csv, runs.csv and comparison.json; the same outcomes give the same bytes."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

from equilib_torch.comparison.plots import accuracy_edm_png, accuracy_missing_png, shares_png
from equilib_torch.comparison.queue import Outcome
from equilib_torch.comparison.table import BASELINE, Column, Row, Table, figures
from equilib_torch.comparison.variants import Variant
from equilib_torch.files import write_atomically
from equilib_torch.runs.directory import settings


def write_report(directory: Path, table: Table, outcomes: Sequence[Outcome], variants: Sequence[Variant]) -> None:
    """All files of a comparison, in a directory that is made if need be.

    Raises:
        OSError: the disk is full or refuses.
    """
    details = json.dumps(as_json(table, outcomes, variants), indent=2, allow_nan=False)
    names = [variant.name for variant in variants]
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in {
        "table.md": markdown(table).encode(),
        "table.csv": table_csv(table).encode(),
        "runs.csv": runs_csv(outcomes).encode(),
        "accuracy_edm.png": accuracy_edm_png(outcomes, names),
        "accuracy_missing.png": accuracy_missing_png(outcomes, names),
        "shares.png": shares_png(outcomes, names),
        "comparison.json": details.encode(),
    }.items():
        write_atomically(directory / name, content)


def markdown(table: Table) -> str:
    """The table for a person, with what it takes to read it below."""
    found = [f"# Comparison on {plain(table.dataset)}", "", *table_lines(table), ""]
    return "\n".join([*found, *(f"- {note}" for note in [*notes(table), versions_note(table)]), ""])


def table_lines(table: Table) -> list[str]:
    """The table in Markdown, a line per variant, the best mean of every column in bold."""
    shown = [column for column in table.columns if column.key != "seconds_per_epoch"]
    if all(math.isnan(row.mean("relative_seconds")) for row in table.rows):
        shown = [column for column in table.columns if column.key != "relative_seconds"]
    tests = [f"p, {BASELINE}", "p, best rival", f"p, {BASELINE}, 50% missing"]
    head = ["variant", *(column.title for column in shown), *tests]
    lines = [line(map(plain, head)), line(["---"] * len(head))]
    best = {column.key: best_mean(column, table.rows) for column in shown}
    for row in table.rows:
        cells = [cell(row, column, best[column.key]) for column in shown]
        lines.append(line([_name(row), *cells, *map(show_p, (row.p_joint, row.p_rival, row.p_missing))]))
    return lines


def notes(table: Table) -> list[str]:
    """What the table rests on, and the correlation of balance and accuracy, as sentences."""
    failed = [f"`{row.variant}` seed {seed} failed: {why}." for row in table.rows for seed, why in row.failed.items()]
    rival = f"; the best rival is `{table.rival}`" if table.rival else ""
    return [
        f"Mean ± standard deviation over seeds {', '.join(map(str, table.seeds))}; "
        f"epochs: {', '.join(map(str, table.epochs))}; on test, by the best epoch on validation; best mean in bold.",
        f"p: two-sided paired t-test over the seeds, Holm-corrected per column{rival}.",
        spearman_note(table),
        *failed,
    ]


def spearman_note(table: Table) -> str:
    """The correlation of EDM and accuracy in a sentence."""
    if math.isnan(table.rho):
        return f"Spearman's ρ of EDM and accuracy: not defined over these {table.n_runs} runs."
    return (
        f"Spearman's ρ of EDM and accuracy: {show(table.rho, 2)} over {table.n_runs} runs (p {show_p(table.rho_p)}); "
        "negative if lower EDM goes with higher accuracy."
    )


def versions_note(table: Table) -> str:
    """The packages that trained."""
    versions = (f"{name} {' and '.join(found)}" for name, found in table.versions.items())
    return f"Versions: {', '.join(versions)}."


def table_csv(table: Table) -> str:
    """A row per variant; means and standard deviations in full precision, empty where there are none."""
    names = [f"{column.key}_{of}" for column in table.columns for of in ("mean", "sd")]
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
    """A row per run with all its figures, those of the summary that have parts as key.part."""
    flat = [
        {"variant": o.variant, "seed": o.seed, "failed": o.reason, **_flat({**figures(o.summary), **o.summary})}
        if o.summary is not None
        else {"variant": o.variant, "seed": o.seed, "failed": o.reason}
        for o in outcomes
    ]
    names = list(dict.fromkeys(name for row in flat for name in row))
    return _csv([names, *([row.get(name, "") for name in names] for row in flat)])


def as_json(table: Table, outcomes: Sequence[Outcome], variants: Sequence[Variant]) -> dict[str, Any]:
    """Everything: options of every variant, figures, tests, correlation, and the summaries of all runs."""
    leave_out = ("backend", "dataset", "seed")
    return {
        "dataset": table.dataset,
        "seeds": list(table.seeds),
        "epochs": list(table.epochs),
        "options": {
            v.name: {name: value for name, value in settings(v.options).items() if name not in leave_out}
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


def show(value: float, digits: int = 3) -> str:
    """A number without its leading zero; nothing for NaN.

    Example:
        >>> show(0.9484), show(1.5), show(-0.25, 2)
        ('.948', '1.500', '-.25')
    """
    if math.isnan(value):
        return ""
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def show_p(p: float) -> str:
    """A p-value, as exactly as one reads it.

    Example:
        >>> show_p(0.0002), show_p(0.04), show_p(1.0)
        ('<.001', '.040', '1.000')
    """
    return "<.001" if p < 0.0005 else show(p)


def cell(row: Row, column: Column, best: float) -> str:
    """A figure as mean ± deviation, bold if its mean is the best one."""
    mean, sd = row.mean(column.key), row.sd(column.key)
    if math.isnan(mean):
        return "failed" if column.key == "accuracy" else ""
    digits = _digits(column)
    text = show(mean, digits) if math.isnan(sd) else f"{show(mean, digits)} ± {show(sd, digits)}"
    return f"**{text}**" if round(mean, digits) == best else text


def best_mean(column: Column, rows: Sequence[Row]) -> float:
    """The best mean as printed, so that all that look the best are bold."""
    means = [mean for row in rows if not math.isnan(mean := round(row.mean(column.key), _digits(column)))]
    if not means or not column.best:
        return math.nan
    return max(means) if column.best == "high" else min(means)


def _digits(column: Column) -> int:
    return {"relative_seconds": 2, "schedule_percent": 1}.get(column.key, 3)


def _name(row: Row) -> str:
    n = len(row.failed) + len(row.values["accuracy"])
    return f"`{row.variant}`" + (f" ({len(row.failed)} of {n} failed)" if row.failed else "")


def plain(text: str) -> str:
    """Names of data sets and modalities may be anything; in a table they must be one cell."""
    return " ".join(text.split()).replace("|", "\\|")


def line(cells: Iterable[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


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
