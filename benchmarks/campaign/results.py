"""Train every method on every data set, and write benchmarks/campaign/RESULTS.md from the runs.

    python -m benchmarks.campaign.results --output DIR [--jobs 2] [--datasets mfeat ...] [--seeds 5] [--write PATH]

The budget is the same for all methods; `tune` chose one option of each, if campaign/tuned.json exists. Runs, tables and
plots are kept in DIR/<data set>: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.campaign.budgets import (
    DATASETS,
    TUNED,
    Tuned,
    choose_names,
    positive_integer,
    read_tuned,
    run_command,
    variants_for,
)
from benchmarks.campaign.cost import DATASETS as COSTED
from benchmarks.campaign.cost import Cost, cost_lines, measure_costs
from equilib_torch import InputError, load_dataset
from equilib_torch.comparison.markdown import (
    best_mean,
    cell,
    line,
    notes,
    show,
    show_p,
    table_lines,
    versions_note,
)
from equilib_torch.comparison.queue import plan_runs, run_all
from equilib_torch.comparison.report import write_report
from equilib_torch.comparison.statistics import NAN, holm, mean_ranks, paired_p
from equilib_torch.comparison.table import Row, Table, summarise_runs
from equilib_torch.comparison.variants import OURS, Variant, default_variants
from equilib_torch.files import write_atomically

RESULTS = Path(__file__).parent / "RESULTS.md"
ORDERS = ("strong-to-weak", "random")  # that weak to strong is tested against
THOROUGH = ("mfeat-small", "mfeat")  # small enough for the other ablations
COSTLY = ("av-digits-sum",)  # a run of it takes a minute: no ablations
TESTED = {"accuracy": "accuracy", "edm": "EDM", "missing_0.5": "50% missing"}


@dataclass(frozen=True)
class Measured:
    """What was measured on one data set.

    Attributes:
        methods: the table of all methods.
        rows: of the methods and the ablations, by variant.
        variants: of both, with their options.
    """

    methods: Table
    rows: dict[str, Row]
    variants: list[Variant]


Measurements = Mapping[str, Measured]
"""By data set."""


def ablations(dataset: str, n_modalities: int) -> dict[str, list[str]]:
    """List variants of ours to hold against its usual form: orders where affordable, the others where cheap."""
    if dataset in COSTLY:
        return {}
    changes = {method: [f"policy={order}" for order in ORDERS] for method in OURS}
    if dataset in THOROUGH:
        changes["equilib"] += [
            "policy=fixed",
            "memory-inherit=false",
            "memory-mapping=none",
            "memory-mapping=both",
            "fusion=sum",
        ]
        changes["alternating"] += ["policy=fixed", f"updates-per-batch={n_modalities + 2}"]
    return {method: [f"{method}:{change}" for change in those] for method, those in changes.items()}


def measure(dataset: str, seeds: int, directory: Path, jobs: int) -> Measured:
    """Run everything on one data set that has not been run."""
    methods = default_variants()
    n = len(load_dataset(dataset, seed=0).modalities)
    others = [text for texts in ablations(dataset, n).values() for text in texts]
    variants = variants_for(dataset, [*methods, *others], read_tuned())
    outcomes = run_all(plan_runs(variants, range(seeds), directory), jobs=jobs, progress=True)
    if all(outcome.summary is None for outcome in outcomes if outcome.variant in methods):
        raise InputError(f"{dataset}: all runs failed, the first: {outcomes[0].reason}")
    of_methods = [outcome for outcome in outcomes if outcome.variant in methods]
    table = summarise_runs(of_methods)
    write_report(directory, table, of_methods, variants[: len(methods)])
    return Measured(table, {row.variant: row for row in summarise_runs(outcomes).rows}, variants)


def best_rival(measured: Measured, key: str) -> float:
    """Find the highest mean of a figure among the methods that are not ours; NaN without any."""
    means = [row.mean(key) for row in measured.methods.rows if row.variant.partition(":")[0] not in OURS]
    return max((mean for mean in means if not math.isnan(mean)), default=NAN)


def gaps(measurements: Measurements, key: str = "accuracy") -> dict[str, tuple[float, str]]:
    """Compute by how many points a variant is above the best rival where it is worst off, and find that data set."""
    worst: dict[str, tuple[float, str]] = {}
    for dataset, measured in measurements.items():
        best = best_rival(measured, key)
        for row in measured.methods.rows:
            gap = 100 * (row.mean(key) - best)
            if math.isnan(gap):  # NaN: all its runs failed, or there is no rival
                continue
            worst[row.variant] = min(worst.get(row.variant, (gap, dataset)), (gap, dataset))
    return worst


def overview(measurements: Measurements, key: str = "accuracy") -> list[str]:
    """Tabulate a figure of every variant on all data sets, by mean rank."""
    scores = {d: {r.variant: r.mean(key) for r in measured.methods.rows} for d, measured in measurements.items()}
    finite = {d: {v: score for v, score in means.items() if math.isfinite(score)} for d, means in scores.items()}
    ranks, worst = mean_ranks(finite), gaps(measurements, key)
    best = {d: round(max(means.values()), 3) for d, means in finite.items()}
    variants = {name for means in scores.values() for name in means}
    names = sorted(variants, key=lambda name: (ranks.get(name, math.inf), name))
    lines = [
        line(["variant", "mean rank", *measurements, "worst gap to the best rival, points"]),
        line(["---"] * (len(measurements) + 3)),
    ]
    for name in names:
        cells = []
        for dataset in measurements:
            score = scores[dataset].get(name, NAN)
            bold = "**" if round(score, 3) == best[dataset] else ""
            cells.append(f"{bold}{show(score) or 'failed'}{bold}")
        rank = f"{ranks[name]:.2f}" if name in ranks else ""
        gap = "{:+.1f} ({})".format(*worst[name]) if name in worst else ""
        lines.append(line([f"`{name}`", rank, *cells, gap]))
    return lines


def balance(measurements: Measurements) -> list[str]:
    """Tabulate the EDM of every variant on all data sets, mean ± sd."""
    lines = [line(["variant", *measurements]), line(["---"] * (len(measurements) + 1))]
    columns = {d: next(c for c in measured.methods.columns if c.key == "edm") for d, measured in measurements.items()}
    best = {d: best_mean(columns[d], measured.methods.rows) for d, measured in measurements.items()}
    for name in sorted({row.variant for measured in measurements.values() for row in measured.methods.rows}):
        rows = {d: measured.rows.get(name) for d, measured in measurements.items()}
        cells = [cell(row, columns[d], best[d]) if row is not None else "" for d, row in rows.items()]
        lines.append(line([f"`{name}`", *cells]))
    return lines


def correlations(measurements: Measurements) -> list[str]:
    """Tabulate Spearman's correlation of EDM and accuracy over the runs of all methods, by data set."""
    lines = [line(["data set", "ρ", "p", "runs"]), line(["---"] * 4)]
    for dataset, measured in measurements.items():
        lines.append(
            line([dataset, show(measured.methods.rho, 2), show_p(measured.methods.rho_p), str(measured.methods.n_runs)])
        )
    return lines


def orders(measurements: Measurements) -> list[str]:
    """Tabulate weak to strong against other orders: mean differences and corrected p, by data set and method."""
    head = [f"{title}{part}" for title in TESTED.values() for part in (", difference", ", p")]
    lines = [line(["data set", "method", "weak to strong minus", *head]), line(["---"] * (3 + len(head)))]
    for dataset, measured in measurements.items():
        pairs = [(m, order) for m in OURS for order in ORDERS if f"{m}:policy={order}" in measured.rows]
        columns = []
        for key in TESTED:
            rows = [(measured.rows[m], measured.rows[f"{m}:policy={order}"]) for m, order in pairs]
            ps = holm([paired_p(a.values[key], b.values[key]) for a, b in rows])
            columns.append(
                [(f"{a.mean(key) - b.mean(key):+.3f}", show_p(p)) for (a, b), p in zip(rows, ps, strict=True)]
            )
        for k, (method, order) in enumerate(pairs):
            lines.append(line([dataset, f"`{method}`", order, *(text for column in columns for text in column[k])]))
    return lines


def ablation_lines(measured: Measured) -> list[str]:
    """Tabulate variants of ours against their usual form on one data set, tests corrected per method of ours."""
    keys = ("accuracy", "macro_f1", "missing_0.3", "missing_0.5", "missing_0.7", "edm", "relative_seconds")
    columns = [column for key in keys for column in measured.methods.columns if column.key == key]
    tests = [f"p, {title}" for title in TESTED.values()]
    lines = [line(["variant", *(column.title for column in columns), *tests])]
    lines.append(line(["---"] * (1 + len(columns) + len(tests))))
    for method in OURS:
        rows = [measured.rows[v.name] for v in measured.variants if v.name.partition(":")[0] == method]
        best = {column.key: best_mean(column, rows) for column in columns}
        ps = [[NAN, *holm([paired_p(r.values[k], rows[0].values[k]) for r in rows[1:]])] for k in TESTED]
        for k, row in enumerate(rows):
            cells = [cell(row, column, best[column.key]) for column in columns]
            lines.append(line([f"`{row.variant}`", *cells, *(show_p(p[k]) for p in ps)]))
    return lines


def costs_of(datasets: Sequence[str], path: Path) -> dict[str, dict[str, Cost]]:
    """Measure what an epoch costs, once, and keep it in a file; by data set, then by variant."""
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for dataset in datasets:
        if dataset in COSTED and dataset not in kept:
            kept[dataset] = measure_costs(dataset, default_variants())
            write_atomically(path, json.dumps(kept, indent=2).encode())
    return {d: {name: Cost(*cost) for name, cost in those.items()} for d, those in kept.items() if d in datasets}


def tuned_lines(measurements: Measurements, tuned: Tuned) -> list[str]:
    """Tabulate the tuned option of every variant, by data set."""
    lines = [line(["variant", *measurements]), line(["---"] * (len(measurements) + 1))]
    for name in dict.fromkeys(row.variant for measured in measurements.values() for row in measured.methods.rows):
        chosen = (tuned.get(dataset, {}).get(name, {}) for dataset in measurements)
        cells = [", ".join(f"{option} {value:g}" for option, value in options.items()) for options in chosen]
        lines.append(line([f"`{name}`", *cells]))
    return lines


def document(measurements: Measurements, seeds: int, costs: dict[str, dict[str, Cost]], tuned: Tuned) -> str:
    """Compose RESULTS.md."""
    first = next(iter(measurements.values()))
    budgets = ", ".join(
        f"{dataset} {' and '.join(map(str, measured.methods.epochs))}" for dataset, measured in measurements.items()
    )
    parts = [
        "# Results",
        "Written by `python -m benchmarks.campaign.results` from its runs; do not edit. Test accuracy of the best "
        "epoch on validation. Every method has the same encoders, data, optimiser and budget.",
        "\n".join(
            [
                f"- Seeds 0 to {seeds - 1}. Epochs: {budgets}.",
                f"- {versions_note(first.methods)}",
                f"- Ours are {' and '.join(f'`{name}`' for name in OURS)}; all others are rivals, `joint` with other "
                "fusions among them.",
            ]
        ),
        "## What was tuned",
        "One option of every method, chosen on validation with other seeds by `benchmarks.campaign.tune`, every method "
        "having the same number of trials; empty where nothing was.",
        "\n".join(tuned_lines(measurements, tuned)),
        "## All data sets",
        "Mean accuracy; best in bold. Mean rank by accuracy, 1 is best. The gap of the best rival itself is 0.",
        "\n".join(overview(measurements)),
        "## With modalities missing",
        "Mean accuracy where every modality is missing half of the time and one at least is kept; as above.",
        "\n".join(overview(measurements, "missing_0.5")),
        "## Balance",
        "EDM on test, mean ± sd; the lowest in bold.",
        "\n".join(balance(measurements)),
        "## Balance and accuracy",
        "Spearman's ρ of EDM and accuracy, over all runs of all methods; negative if balance goes with accuracy.",
        "\n".join(correlations(measurements)),
        "## Does the order matter?",
        "Mean over seeds of weak to strong minus another order; a lower EDM is better. Two-sided paired t-tests, "
        "Holm-corrected over the tests of one figure on one data set.",
        "\n".join(orders(measurements)),
    ]
    if costs:
        parts += [
            "## What it costs",
            "Training time of an epoch relative to `joint` and, in brackets, the time of measuring all coalitions and "
            "making the schedule relative to the epoch. One thread; medians of rounds in which every method takes its "
            "turn. Estimates that `g-blending` makes every few epochs are all in the one epoch measured.",
            "\n".join(cost_lines(costs)),
        ]
    for dataset, measured in measurements.items():
        parts += [
            f"## {dataset}",
            "\n".join(table_lines(measured.methods)),
            "\n".join(f"- {note}" for note in notes(measured.methods)),
        ]
        if len(measured.rows) == len(measured.methods.rows):
            continue
        parts += [
            f"### Ablations on {dataset}",
            "Against the first row of the same method: paired t-tests, Holm-corrected per figure and method.",
            "\n".join(ablation_lines(measured)),
            *(
                f"- `{row.variant}` seed {seed} failed: {reason}."
                for row in measured.rows.values()
                for seed, reason in row.failed.items()
                if row.variant not in {shown.variant for shown in measured.methods.rows}
            ),
        ]
    return "\n\n".join(parts) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write; return the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.campaign.results", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="directory of the runs, new or to go on with")
    parser.add_argument("--jobs", type=positive_integer, default=1, help="runs at a time")
    parser.add_argument("--datasets", nargs="+", help=f"of {', '.join(DATASETS)}; default: all")
    parser.add_argument("--seeds", type=positive_integer, default=5, help="number of seeds, from 0")
    parser.add_argument("--write", type=Path, default=RESULTS, help="default: benchmarks/campaign/RESULTS.md")
    arguments = parser.parse_args(argv)

    def command() -> int:
        datasets = choose_names("datasets", arguments.datasets, list(DATASETS))
        measurements = {
            name: measure(name, arguments.seeds, arguments.output / name, arguments.jobs) for name in datasets
        }
        costs = costs_of(datasets, arguments.output / "cost.json")
        write_atomically(arguments.write, document(measurements, arguments.seeds, costs, read_tuned()).encode())
        failed = sum(len(row.failed) for measured in measurements.values() for row in measured.rows.values())
        if failed:
            raise InputError(f"{failed} runs failed; {arguments.write.name} says which")
        return 0

    if not TUNED.exists():
        print("benchmarks.campaign.results: nothing was tuned; all options at their defaults", file=sys.stderr)
    return run_command("benchmarks.campaign.results", argv, command)


if __name__ == "__main__":
    sys.exit(main())
