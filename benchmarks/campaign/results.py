"""Train every method on every data set, and write benchmarks/campaign/RESULTS.md from the runs.

    python -m benchmarks.campaign.results --output DIR [--jobs 2] [--datasets mfeat ...] [--seeds 5] [--write PATH]

The budget is the same for all methods; `tune` chose one option of each, if campaign/tuned.json exists. Runs, tables and
plots are kept in DIR/<data set>: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

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


class Found(NamedTuple):
    """What was found on one data set.

    Attributes:
        methods: the table of all methods.
        everything: rows of the methods and the ablations.
        variants: of both, with their options.
    """

    methods: Table
    everything: dict[str, Row]
    variants: list[Variant]


def ablations(dataset: str, n_modalities: int) -> dict[str, list[str]]:
    """Variants of ours to hold against its usual form: orders where affordable, the others where cheap."""
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
    return {method: [f"{method}:{change}" for change in of] for method, of in changes.items()}


def measure(dataset: str, seeds: int, directory: Path, jobs: int) -> Found:
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
    return Found(table, {row.variant: row for row in summarise_runs(outcomes).rows}, variants)


def best_rival(of: Found, key: str) -> float:
    """Highest mean of a figure among the methods that are not ours; NaN without any."""
    means = [row.mean(key) for row in of.methods.rows if row.variant.partition(":")[0] not in OURS]
    return max((mean for mean in means if mean == mean), default=NAN)


def gaps(found: Mapping[str, Found], key: str = "accuracy") -> dict[str, tuple[float, str]]:
    """By how many points every variant is above the best rival where it is worst off, and on which data set."""
    worst: dict[str, tuple[float, str]] = {}
    for dataset, of in found.items():
        best = best_rival(of, key)
        for row in of.methods.rows:
            gap = 100 * (row.mean(key) - best)
            if gap != gap:  # NaN: all its runs failed, or there is no rival
                continue
            worst[row.variant] = min(worst.get(row.variant, (gap, dataset)), (gap, dataset))
    return worst


def overview(found: Mapping[str, Found], key: str = "accuracy") -> list[str]:
    """A figure of every variant on all data sets, by mean rank."""
    scores = {d: {r.variant: r.mean(key) for r in of.methods.rows} for d, of in found.items()}
    finite = {d: {name: score for name, score in of.items() if score == score} for d, of in scores.items()}
    ranks, worst = mean_ranks(finite), gaps(found, key)
    best = {d: round(max(of.values()), 3) for d, of in finite.items()}
    names = sorted({name for of in scores.values() for name in of}, key=lambda name: (ranks.get(name, 99), name))
    lines = [
        line(["variant", "mean rank", *found, "worst gap to the best rival, points"]),
        line(["---"] * (len(found) + 3)),
    ]
    for name in names:
        cells = []
        for dataset in found:
            score = scores[dataset].get(name, NAN)
            bold = "**" if round(score, 3) == best[dataset] else ""
            cells.append(f"{bold}{show(score) or 'failed'}{bold}")
        rank = f"{ranks[name]:.2f}" if name in ranks else ""
        gap = "{:+.1f} ({})".format(*worst[name]) if name in worst else ""
        lines.append(line([f"`{name}`", rank, *cells, gap]))
    return lines


def balance(found: Mapping[str, Found]) -> list[str]:
    """EDM of every variant on all data sets, mean ± sd."""
    lines = [line(["variant", *found]), line(["---"] * (len(found) + 1))]
    columns = {d: next(c for c in of.methods.columns if c.key == "edm") for d, of in found.items()}
    best = {d: best_mean(columns[d], of.methods.rows) for d, of in found.items()}
    for name in sorted({row.variant for of in found.values() for row in of.methods.rows}):
        rows = {d: of.everything.get(name) for d, of in found.items()}
        cells = [cell(row, columns[d], best[d]) if row is not None else "" for d, row in rows.items()]
        lines.append(line([f"`{name}`", *cells]))
    return lines


def correlations(found: Mapping[str, Found]) -> list[str]:
    """Spearman's correlation of EDM and accuracy over the runs of all methods, by data set."""
    lines = [line(["data set", "ρ", "p", "runs"]), line(["---"] * 4)]
    for dataset, of in found.items():
        lines.append(line([dataset, show(of.methods.rho, 2), show_p(of.methods.rho_p), str(of.methods.n_runs)]))
    return lines


def orders(found: Mapping[str, Found]) -> list[str]:
    """Weak to strong against other orders: mean differences and corrected p, by data set and method of ours."""
    head = [f"{title}{part}" for title in TESTED.values() for part in (", difference", ", p")]
    lines = [line(["data set", "method", "weak to strong minus", *head]), line(["---"] * (3 + len(head)))]
    for dataset, of in found.items():
        pairs = [(m, order) for m in OURS for order in ORDERS if f"{m}:policy={order}" in of.everything]
        columns = []
        for key in TESTED:
            rows = [(of.everything[m], of.everything[f"{m}:policy={order}"]) for m, order in pairs]
            ps = holm([paired_p(a.values[key], b.values[key]) for a, b in rows])
            columns.append(
                [(f"{a.mean(key) - b.mean(key):+.3f}", show_p(p)) for (a, b), p in zip(rows, ps, strict=True)]
            )
        for k, (method, order) in enumerate(pairs):
            lines.append(line([dataset, f"`{method}`", order, *(text for column in columns for text in column[k])]))
    return lines


def ablation_lines(of: Found) -> list[str]:
    """Variants of ours against their usual form on one data set, tests corrected per method of ours."""
    keys = ("accuracy", "macro_f1", "missing_0.3", "missing_0.5", "missing_0.7", "edm", "relative_seconds")
    columns = [column for key in keys for column in of.methods.columns if column.key == key]
    tests = [f"p, {title}" for title in TESTED.values()]
    lines = [line(["variant", *(column.title for column in columns), *tests])]
    lines.append(line(["---"] * (1 + len(columns) + len(tests))))
    for method in OURS:
        rows = [of.everything[v.name] for v in of.variants if v.name.partition(":")[0] == method]
        best = {column.key: best_mean(column, rows) for column in columns}
        ps = [[NAN, *holm([paired_p(r.values[k], rows[0].values[k]) for r in rows[1:]])] for k in TESTED]
        for k, row in enumerate(rows):
            cells = [cell(row, column, best[column.key]) for column in columns]
            lines.append(line([f"`{row.variant}`", *cells, *(show_p(p[k]) for p in ps)]))
    return lines


def costs_of(datasets: Sequence[str], path: Path) -> dict[str, dict[str, Cost]]:
    """What an epoch costs, measured once and kept in a file; by data set, then by variant."""
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for dataset in datasets:
        if dataset in COSTED and dataset not in kept:
            kept[dataset] = measure_costs(dataset, default_variants())
            write_atomically(path, json.dumps(kept, indent=2).encode())
    return {d: {name: Cost(*cost) for name, cost in of.items()} for d, of in kept.items() if d in datasets}


def tuned_lines(found: Mapping[str, Found], tuned: Tuned) -> list[str]:
    """The tuned option of every variant, by data set."""
    lines = [line(["variant", *found]), line(["---"] * (len(found) + 1))]
    for name in dict.fromkeys(row.variant for of in found.values() for row in of.methods.rows):
        chosen = (tuned.get(dataset, {}).get(name, {}) for dataset in found)
        cells = [", ".join(f"{option} {value:g}" for option, value in options.items()) for options in chosen]
        lines.append(line([f"`{name}`", *cells]))
    return lines


def document(found: Mapping[str, Found], seeds: int, costs: dict[str, dict[str, Cost]], tuned: Tuned) -> str:
    """RESULTS.md."""
    first = next(iter(found.values()))
    budgets = ", ".join(f"{dataset} {' and '.join(map(str, of.methods.epochs))}" for dataset, of in found.items())
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
        "\n".join(tuned_lines(found, tuned)),
        "## All data sets",
        "Mean accuracy; best in bold. Mean rank by accuracy, 1 is best. The gap of the best rival itself is 0.",
        "\n".join(overview(found)),
        "## With modalities missing",
        "Mean accuracy where every modality is missing half of the time and one at least is kept; as above.",
        "\n".join(overview(found, "missing_0.5")),
        "## Balance",
        "EDM on test, mean ± sd; the lowest in bold.",
        "\n".join(balance(found)),
        "## Balance and accuracy",
        "Spearman's ρ of EDM and accuracy, over all runs of all methods; negative if balance goes with accuracy.",
        "\n".join(correlations(found)),
        "## Does the order matter?",
        "Mean over seeds of weak to strong minus another order; a lower EDM is better. Two-sided paired t-tests, "
        "Holm-corrected over the tests of one figure on one data set.",
        "\n".join(orders(found)),
    ]
    if costs:
        parts += [
            "## What it costs",
            "Training time of an epoch relative to `joint` and, in brackets, the time of measuring all coalitions and "
            "making the schedule relative to the epoch. One thread; medians of rounds in which every method takes its "
            "turn. Estimates that `g-blending` makes every few epochs are all in the one epoch measured.",
            "\n".join(cost_lines(costs)),
        ]
    for dataset, of in found.items():
        parts += [
            f"## {dataset}",
            "\n".join(table_lines(of.methods)),
            "\n".join(f"- {note}" for note in notes(of.methods)),
        ]
        if len(of.everything) == len(of.methods.rows):
            continue
        parts += [
            f"### Ablations on {dataset}",
            "Against the first row of the same method: paired t-tests, Holm-corrected per figure and method.",
            "\n".join(ablation_lines(of)),
            *(
                f"- `{row.variant}` seed {seed} failed: {reason}."
                for row in of.everything.values()
                for seed, reason in row.failed.items()
                if row.variant not in {shown.variant for shown in of.methods.rows}
            ),
        ]
    return "\n\n".join(parts) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write; the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.campaign.results", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="directory of the runs, new or to go on with")
    parser.add_argument("--jobs", type=positive_integer, default=1, help="runs at a time")
    parser.add_argument("--datasets", nargs="+", help=f"of {', '.join(DATASETS)}; default: all")
    parser.add_argument("--seeds", type=positive_integer, default=5, help="number of seeds, from 0")
    parser.add_argument("--write", type=Path, default=RESULTS, help="default: benchmarks/campaign/RESULTS.md")
    asked = parser.parse_args(argv)

    def command() -> int:
        datasets = choose_names("datasets", asked.datasets, list(DATASETS))
        found = {name: measure(name, asked.seeds, asked.output / name, asked.jobs) for name in datasets}
        costs = costs_of(datasets, asked.output / "cost.json")
        write_atomically(asked.write, document(found, asked.seeds, costs, read_tuned()).encode())
        failed = sum(len(row.failed) for of in found.values() for row in of.everything.values())
        if failed:
            raise InputError(f"{failed} runs failed; {asked.write.name} says which")
        return 0

    if not TUNED.exists():
        print("benchmarks.campaign.results: nothing was tuned; all options at their defaults", file=sys.stderr)
    return run_command("benchmarks.campaign.results", argv, command)


if __name__ == "__main__":
    sys.exit(main())
