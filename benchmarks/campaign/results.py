"""Write RESULTS.md from the lines of the campaign's runs.

python -m benchmarks.campaign.results --runs FILE [--costs FILE] [--extra DIR] [--write PATH]
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.campaign import baseline
from benchmarks.campaign.analysis import (
    Figures,
    best_rival,
    expected_accuracy,
    means_by_set,
    missing_rates,
    paired_difference,
)
from benchmarks.campaign.plan import (
    ABLATED,
    ABLATIONS,
    AS_PLANNED,
    DEFAULT,
    ORDERS,
    OTHERS,
    OURS,
    PLAIN,
    PLAIN_RATE,
    REFERENCE,
    RIVALS,
    at_plain_rate,
    changed,
)
from benchmarks.campaign.run import Line, read_lines, tuned_rates
from benchmarks.campaign.sets import BUNDLED, load
from equilib_torch.commands.ending import run_command
from equilib_torch.files import write_atomically

RESULTS = Path(__file__).parent / "RESULTS.md"
FEWEST_RUNS = 3
"""Runs that a variant must have to be shown beside others."""

Figure = Callable[[dict[str, Any]], float]


def accuracy(summary: dict[str, Any]) -> float:
    """Test accuracy with all modalities."""
    return float(summary["test_accuracy"])


def half_missing(summary: dict[str, Any]) -> float:
    """Expected test accuracy if every modality is absent half of the time."""
    return float(summary["missing_modality"]["0.5"])


def balance(summary: dict[str, Any]) -> float:
    """EDM on test."""
    return float(summary["edm"])


def unequal(which: str, strongest_by: Mapping[str, Mapping[str, float]]) -> Figure:
    """Expected test accuracy at unequal rates; the strongest modality is that of the data set's ceilings."""

    def figure(summary: dict[str, Any]) -> float:
        alone = strongest_by.get(summary["dataset"]) or summary["unimodal_accuracy"]
        return expected_accuracy(summary["coalition_accuracy"], missing_rates(alone)[which])

    return figure


def collect(
    lines: Iterable[Line], figure: Figure, sets: Sequence[str] | None = None
) -> dict[str, dict[str, dict[int, float]]]:
    """Arrange a figure of the finished runs by variant, data set and seed."""
    table: dict[str, dict[str, dict[int, float]]] = {}
    for line in lines:
        if "summary" in line and (sets is None or line["dataset"] in sets):
            by_set = table.setdefault(line["variant"], {})
            by_set.setdefault(line["dataset"], {})[line["seed"]] = figure(line["summary"])
    return table


def row(cells: Iterable[str]) -> str:
    """Join the cells of a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def table_of(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """Lay out a Markdown table."""
    return "\n".join([row(head), row("---" for _ in head), *map(row, body)])


def percent(value: float, digits: int = 1) -> str:
    """Write a share in points, nothing for NaN."""
    return "" if math.isnan(value) else f"{100 * value:.{digits}f}"


def signed(mean: float, se: float) -> str:
    """Write a difference in points with its standard error."""
    if math.isnan(mean):
        return ""
    return f"{100 * mean:+.2f}" + ("" if math.isnan(se) else f" ± {100 * se:.2f}")


def show_p(p: float) -> str:
    """Write a p-value."""
    return "" if math.isnan(p) else "<.001" if p < 0.0005 else f"{p:.3f}".lstrip("0")


def overview(figures: Mapping[str, Figures], sets: Sequence[str], variants: Sequence[str], rivals: set[str]) -> str:
    """Lay out means by variant and data set, with the difference to each set's best rival.

    Of every data set the seeds count that all of the variants have; data sets without such seeds are left out.
    """
    shown = [v for v in variants if v in figures]
    seeds = shared_seeds(figures, sets, shown)
    common = [name for name in sets if seeds[name]]
    figures = {v: {name: {s: figures[v][name][s] for s in seeds[name]} for name in common} for v in shown}
    means = {v: means_by_set(figures[v]) for v in shown}
    ranks = [stats.rankdata([-means[v][name] for v in shown]) for name in common]
    rank = dict(zip(shown, np.mean(ranks, axis=0), strict=True)) if common else {}
    champions = {name: best_rival(figures, [v for v in shown if v in rivals], name) for name in common}
    champion: Figures = {name: figures[v][name] for name, v in champions.items() if v}
    body = []
    for v in sorted(shown, key=lambda v: rank.get(v, 99.0)):
        cells = []
        for name in common:
            best = max(means[u][name] for u in shown)
            mean = means[v][name]
            cells.append(f"**{percent(mean)}**" if round(mean, 3) == round(best, 3) else percent(mean))
        difference = paired_difference(figures[v], champion)
        worst = min(difference.by_set.items(), key=lambda item: item[1][0], default=("", (math.nan, math.nan)))
        cells += [f"{rank[v]:.2f}" if v in rank else "", signed(difference.mean, difference.se_seeds)]
        cells += [f"± {100 * difference.se_sets:.2f}", f"{signed(*worst[1])} ({worst[0]})"]
        body.append([f"`{v}`", *cells])
    head = ["variant", *common, "mean rank", "− best rival, mean ± se (seeds)", "se (sets)", "worst set"]
    return table_of(head, body)


def pairwise(figures: Mapping[str, Mapping[str, Figures]], reference: str, others: Sequence[str]) -> str:
    """Lay out the paired differences of a reference minus other variants, for several figures."""
    head = [
        "minus",
        *(f"{title}{part}" for title in figures for part in (", ± se (seeds)", ", se (sets)", ", p (seeds)")),
    ]
    body = []
    for other in others:
        if sum(map(len, by_variant_of(figures, other).values())) < FEWEST_RUNS:
            continue
        cells = []
        for by_variant in figures.values():
            d = paired_difference(by_variant.get(reference, {}), by_variant.get(other, {}))
            cells += [signed(d.mean, d.se_seeds), percent(d.se_sets, 2), show_p(d.p_seeds)]
        body.append([f"`{other}`", *cells])
    return table_of(head, body)


def by_variant_of(figures: Mapping[str, Mapping[str, Figures]], variant: str) -> Figures:
    """Look up the runs of a variant, by data set and seed."""
    return next(iter(figures.values())).get(variant, {})


def shared_seeds(figures: Mapping[str, Figures], sets: Sequence[str], variants: Sequence[str]) -> dict[str, set[int]]:
    """Find the seeds that all variants have, by data set."""
    of_each = {name: [{*figures[v].get(name, {})} for v in variants] for name in sets}
    return {name: set.intersection(*seeds) if seeds else set() for name, seeds in of_each.items()}


def seeds_note(figures: Mapping[str, Figures], sets: Sequence[str], variants: Sequence[str]) -> str:
    """Say how many seeds count on each data set, and why those without are empty."""
    by_number: dict[int, list[str]] = {}
    for name, seeds in shared_seeds(figures, sets, [v for v in variants if v in figures]).items():
        by_number.setdefault(len(seeds), []).append(name)
    counted = "; ".join(f"{n} on {', '.join(names)}" for n, names in sorted(by_number.items(), reverse=True) if n)
    rest = f" Not all of the methods have run on {', '.join(by_number[0])}." if 0 in by_number else ""
    return f"Seeds that all have: {counted}.{rest}"


def ceilings(lines: Sequence[Line]) -> dict[str, dict[str, float]]:
    """Average the accuracy of each modality trained alone, by data set and modality."""
    by_variant = collect([line for line in lines if line["experiment"] == "ceiling"], accuracy)
    found: dict[str, dict[str, float]] = {}
    for variant, by_set in by_variant.items():
        for name, mean in means_by_set(by_set).items():
            found.setdefault(name, {})[variant.partition(":")[2]] = mean
    return found


def ceiling_table(lines: Sequence[Line], limits: Mapping[str, Mapping[str, float]], variants: Sequence[str]) -> str:
    """Lay out each modality's ceiling and its accuracy alone in the models of some variants."""
    body = []
    for name, alone in limits.items():
        for modality, limit in alone.items():
            cells = []
            for v in variants:
                values = [
                    line["summary"]["unimodal_accuracy"][modality]
                    for line in lines
                    if line["variant"] == v and line["dataset"] == name and "summary" in line
                ]
                cells.append(percent(float(np.mean(values))) if values else "")
            body.append([name, modality, percent(limit), *cells])
    return table_of(["data set", "modality", "trained alone", *(f"`{v}`" for v in variants)], body)


def correlations(lines: Sequence[Line], sets: Sequence[str]) -> str:
    """Lay out Spearman's correlation of EDM and accuracy over the runs of all variants, by data set."""
    body = []
    for name in sets:
        runs = [line["summary"] for line in lines if line["dataset"] == name and "summary" in line]
        runs = [s for s in runs if len(s["modalities"]) > 1]
        if len(runs) > 2 and min(len({f(s) for s in runs}) for f in (accuracy, balance)) > 1:
            found = stats.spearmanr([balance(s) for s in runs], [accuracy(s) for s in runs])
            body.append([name, f"{found.statistic:+.2f}", show_p(float(found.pvalue)), str(len(runs))])
    return table_of(["data set", "ρ", "p", "runs"], body)


def rates_table(tuned: Mapping[str, float]) -> str:
    """Lay out the learning rates that were chosen."""
    by_rate: dict[float, list[str]] = {}
    for variant, lr in tuned.items():
        by_rate.setdefault(lr, []).append(f"`{variant}`")
    return table_of(["learning rate", "methods"], [[f"{lr:g}", ", ".join(v)] for lr, v in sorted(by_rate.items())])


def baseline_table(figures: Mapping[str, Mapping[str, Figures]], sets: Sequence[str], extra: Path | None) -> str:
    """Lay out the default beside scikit-learn's best figure, on the same splits, seeds 0 to 2."""
    body = []
    for name in sets:
        references = [baseline.measure(load(name, seed, extra), seed) for seed in range(3)]
        cells = []
        for title, field in (("accuracy", "accuracy"), ("50% missing", "half_missing")):
            ours = figures[title][DEFAULT].get(name, {})
            theirs = {seed: float(getattr(r, field)) for seed, r in enumerate(references)}
            d = paired_difference({name: ours}, {name: theirs})
            mean = float(np.mean([ours[s] for s in theirs if s in ours])) if ours else math.nan
            cells += [percent(mean), percent(float(np.mean(list(theirs.values())))), signed(d.mean, d.se_seeds)]
        body.append([name, *cells])
    head = ["data set", "accuracy", "scikit-learn", "difference", "50% missing", "scikit-learn", "difference"]
    return table_of(head, body)


def calibration_table(lines: Sequence[Line]) -> str:
    """Lay out the mean calibration error and log-likelihood with and without stacking, over the same runs."""
    runs: dict[str, dict[tuple[str, int], dict[str, float]]] = {}
    for line in lines:
        if "summary" in line:
            runs.setdefault(line["variant"], {})[line["dataset"], line["seed"]] = line["calibration"]
    body = []
    for pair in ((changed("stack=false"), REFERENCE), ("late-fusion", "late-fusion:stack=true")):
        shared = set.intersection(*(set(runs.get(variant, ())) for variant in pair))
        for variant in pair if shared else ():
            chosen = [runs[variant][key] for key in sorted(shared)]
            error, likelihood = (float(np.mean([c[name] for c in chosen])) for name in ("ece", "log_likelihood"))
            body.append([f"`{variant}`", percent(error), f"{likelihood:.3f}", str(len(chosen))])
    return table_of(["variant", "calibration error, points", "log-likelihood", "runs"], body)


def cost_table(costs: Mapping[str, Any]) -> str:
    """Lay out what an update of every variant costs, relative to both baselines, by data set."""
    body = [
        [f"`{v}`", *(f"{by[v]['joint']:.2f} / {by[v]['joint:fusion=memory']:.2f}" for by in costs.values())]
        for v in next(iter(costs.values()))
    ]
    return table_of(["variant", *costs], body)


def parameter_table(lines: Sequence[Line]) -> str:
    """Lay out, on validation, what the values of every method's parameter lead to."""
    scores: dict[str, list[float]] = {}
    for line in lines:
        if line["experiment"] == "parameters" and "summary" in line:
            scores.setdefault(line["variant"], []).append(float(np.mean(line["validation"][-3:])))
    body = [[f"`{variant}`", percent(float(np.mean(values)))] for variant, values in sorted(scores.items())]
    return table_of(["variant", "accuracy on validation"], body)


def document(lines: Sequence[Line], costs: Mapping[str, Any], extra: Path | None, *, baselines: bool = True) -> str:
    """Compose RESULTS.md."""
    sets = list(dict.fromkeys(line["dataset"] for line in lines if line["experiment"] == "table"))
    sets = [*(s for s in BUNDLED if s in sets), *sorted(s for s in sets if s not in BUNDLED)]
    design = [name for name in sets if name not in BUNDLED]
    main = [line for line in lines if line["experiment"] not in ("tuning", "parameters", "ceiling")]
    limits = ceilings(lines)
    titles: dict[str, Figure] = {"accuracy": accuracy, "50% missing": half_missing, "EDM": balance}
    everywhere = {title: collect(main, figure) for title, figure in titles.items()}
    on_design = {title: collect(main, figure, design) for title, figure in titles.items()}
    failed = [line for line in main if "failed" in line]
    versions = next((line["summary"]["versions"] for line in main if "summary" in line), {})
    tuned = [*AS_PLANNED, *OURS[2:], *RIVALS]
    plain_rivals, rivals = {at_plain_rate(v) for v in RIVALS}, set(RIVALS)
    parts = [
        "# Results",
        "Written by `python -m benchmarks.campaign.results` from the lines of `python -m benchmarks.campaign.run`; do "
        "not edit. All methods have the same encoders, data, optimiser and updates (the default, but 8 epochs on "
        "av-digits-sum). Figures are percentages; differences are in points, paired by data set and seed, with the "
        "standard error over seeds (data sets given) and over data sets.",
        f"There are two comparisons. In the first every method runs at the learning rate of the plain command, "
        f"{PLAIN_RATE:g}. In the second every method, ours too, has a rate of its "
        "own, of three, chosen by validation on mfeat-small. The second was planned, run and seen on test first; ours "
        "did worse there than hoped, above all on av-digits-sum, and the first was added after that. The design of "
        "`equilib`, its default rate included, was chosen by some 540 runs on validation parts of these sets and in "
        "earlier studies; a rival had three rates, two seeds.",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
        "## All at the learning rate of the plain command",
        seeds_note(everywhere["accuracy"], sets, PLAIN),
        "Accuracy:",
        overview(everywhere["accuracy"], sets, PLAIN, plain_rivals),
        "Accuracy, every modality missing half of the time:",
        overview(everywhere["50% missing"], sets, PLAIN, plain_rivals),
        "The strongest modality missing with probability .7, the others with .3:",
        overview(collect(main, unequal("strongest", limits)), sets, PLAIN, plain_rivals),
        "The strongest modality missing with probability .3, the others with .7:",
        overview(collect(main, unequal("others", limits)), sets, PLAIN, plain_rivals),
        "## Each at a learning rate of its own",
        seeds_note(everywhere["accuracy"], sets, tuned),
        rates_table(tuned_rates(lines)),
        "Accuracy:",
        overview(everywhere["accuracy"], sets, tuned, rivals),
        "Accuracy, every modality missing half of the time:",
        overview(everywhere["50% missing"], sets, tuned, rivals),
        "## Beside scikit-learn",
        "The best of logistic regression and random forest, on everything at once or a modality each, seeds 0 to 2.",
        baseline_table(everywhere, design, extra) if baselines else "Not measured.",
        *(
            [
                "## Ceilings",
                "Accuracy of each modality alone: trained alone, and in the models of some methods.",
                ceiling_table(main, limits, [DEFAULT, "joint", "joint-unimodal", "late-fusion"]),
            ]
            if limits
            else []
        ),
        "## The default beside everything else",
        f"`{DEFAULT}` minus the variant, all data sets.",
        pairwise(everywhere, DEFAULT, [v for v in (*PLAIN, *tuned) if v != DEFAULT]),
        "The same on the design sets, with the methods that ran there only, each at a rate of its own:",
        pairwise(on_design, DEFAULT, [*(v for v in (*PLAIN, *tuned) if v != DEFAULT), *OTHERS]),
        "## Does the order matter?",
        f"`{REFERENCE}`, weak to strong, minus another order; a lower EDM is better. Design sets, ten seeds.",
        pairwise(on_design, REFERENCE, [changed(order) for order in ORDERS]),
        "## Ablations",
        f"`{REFERENCE}` minus the variant, on {', '.join(ABLATED)}, three seeds.",
        pairwise(everywhere, REFERENCE, ABLATIONS),
        *(
            [
                "## Parameters of the methods",
                "On the validation part of mfeat-small, mean of the last three measurements and of two seeds. The runs "
                "above have the defaults.",
                parameter_table(lines),
            ]
            if any(line["experiment"] == "parameters" for line in lines)
            else []
        ),
        "## Calibration",
        calibration_table(main),
        "## Balance and accuracy",
        "Spearman's ρ of EDM and accuracy over all runs; negative if balance goes with accuracy.",
        correlations(main, sets),
    ]
    if costs:
        parts += [
            "## Cost",
            "Seconds of an update relative to `joint` and to `joint:fusion=memory`, one thread.",
            cost_table(costs),
        ]
    if failed:
        listed = [f"- `{x['variant']}` on {x['dataset']}, seed {x['seed']}: {x['failed']}" for x in failed]
        parts += ["## Failed runs", "\n".join(listed)]
    return "\n\n".join(parts) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the document; the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.campaign.results", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=Path, required=True, help="file that benchmarks.campaign.run wrote")
    parser.add_argument("--costs", type=Path, help="file that benchmarks.campaign.cost wrote")
    parser.add_argument("--extra", type=Path, help="folder with further data sets as .npz files")
    parser.add_argument("--write", type=Path, default=RESULTS, help="default: benchmarks/campaign/RESULTS.md")
    options = parser.parse_args(argv)

    def command() -> None:
        costs = json.loads(options.costs.read_text(encoding="utf-8")) if options.costs else {}
        write_atomically(options.write, document(read_lines(options.runs), costs, options.extra).encode())

    return run_command("benchmarks.campaign.results", command)


if __name__ == "__main__":
    raise SystemExit(main())
