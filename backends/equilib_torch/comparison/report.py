"""The files of a comparison: table.md, table.csv, runs.csv, comparison.json and plots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from equilib_torch.comparison.export import as_json, runs_csv, table_csv
from equilib_torch.comparison.markdown import markdown
from equilib_torch.comparison.outcomes import Outcome
from equilib_torch.comparison.plots import accuracy_edm_png, accuracy_missing_png, shares_png
from equilib_torch.comparison.table import Table
from equilib_torch.comparison.variants import Variant
from equilib_torch.files import write_atomically
from equilib_torch.runs.directory import write_plots


def write_report(directory: Path, table: Table, outcomes: Sequence[Outcome], variants: Sequence[Variant]) -> None:
    """Write all files of a comparison into a directory that is made if need be, what cannot be drawn excepted.

    Raises:
        OSError: the disk is full or refuses.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in {
        "table.md": markdown(table),
        "table.csv": table_csv(table),
        "runs.csv": runs_csv(outcomes),
        "comparison.json": json.dumps(as_json(table, outcomes, variants), indent=2, allow_nan=False),
    }.items():
        # A file's name, and so a data set's, may hold bytes that are no text.
        write_atomically(directory / name, text.encode("utf-8", "backslashreplace"))
    names = [variant.name for variant in variants]
    pictures = {
        "accuracy_edm.png": accuracy_edm_png,
        "accuracy_missing.png": accuracy_missing_png,
        "shares.png": shares_png,
    }
    write_plots(directory, {name: partial(draw, outcomes, names) for name, draw in pictures.items()})
