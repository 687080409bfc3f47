"""A comparison as Markdown: how figures, tables and notes are written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from equilib_torch.comparison.table import BASELINE, Figure, Row, Table


def markdown(table: Table) -> str:
    """Write the comparison as Markdown: table, then notes."""
    listed = [f"- {note}" for note in (*notes(table), versions_note(table))]
    return "\n".join([f"# Comparison on {plain(table.dataset)}", "", *table_lines(table), "", *listed, ""])


def table_lines(table: Table) -> list[str]:
    """Write the table in Markdown, a line per variant, the best mean of every column in bold."""
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
    """Say what the table rests on, and the correlation of balance and accuracy, as sentences."""
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
    """Say the correlation of EDM and accuracy in a sentence."""
    if math.isnan(table.rho):
        return f"Spearman's ρ of EDM and accuracy: not defined over these {table.n_runs} runs."
    return (
        f"Spearman's ρ of EDM and accuracy: {show(table.rho, 2)} over {table.n_runs} runs (p {show_p(table.rho_p)}); "
        "negative if lower EDM goes with higher accuracy."
    )


def versions_note(table: Table) -> str:
    """Name the packages that trained."""
    versions = (f"{name} {' and '.join(distinct)}" for name, distinct in table.versions.items())
    return f"Versions: {', '.join(versions)}."


def show(value: float, digits: int = 3) -> str:
    """Write a number without its leading zero; nothing for NaN.

    Example:
        >>> show(0.9484), show(1.5), show(-0.25, 2)
        ('.948', '1.500', '-.25')
    """
    if math.isnan(value):
        return ""
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def show_p(p: float) -> str:
    """Write a p-value, as exactly as one reads it.

    Example:
        >>> show_p(0.0002), show_p(0.04), show_p(1.0)
        ('<.001', '.040', '1.000')
    """
    return "<.001" if p < 0.0005 else show(p)


def cell(row: Row, column: Figure, best: float) -> str:
    """Write a figure as mean ± deviation, bold if its mean is the best one."""
    mean, sd = row.mean(column.key), row.sd(column.key)
    if math.isnan(mean):
        return "failed" if column.key == "accuracy" else ""
    digits = _digits(column)
    text = show(mean, digits) if math.isnan(sd) else f"{show(mean, digits)} ± {show(sd, digits)}"
    return f"**{text}**" if round(mean, digits) == best else text


def best_mean(column: Figure, rows: Sequence[Row]) -> float:
    """Give the best mean as printed, so that all that look the best are bold."""
    means = [mean for row in rows if not math.isnan(mean := round(row.mean(column.key), _digits(column)))]
    if not means or not column.best:
        return math.nan
    return max(means) if column.best == "high" else min(means)


def _digits(column: Figure) -> int:
    return {"relative_seconds": 2, "schedule_percent": 1}.get(column.key, 3)


def _name(row: Row) -> str:
    n = len(row.failed) + len(row.values["accuracy"])
    return f"`{row.variant}`" + (f" ({len(row.failed)} of {n} failed)" if row.failed else "")


def plain(text: str) -> str:
    """Write any name so that it stays in one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def line(cells: Iterable[str]) -> str:
    """Write a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"
