"""Choose one option of every method on validation: benchmarks/campaign/tuned.json, which `results` reads.

    python -m benchmarks.campaign.tune --output DIR [--jobs 2] [--datasets mfeat ...] [--methods pmr ...] \
        [--trial-seeds 100 101]

Every method gets the same number of trials, over the parameter it declares trials of, else over the learning rate. What
decides is the accuracy of the best epoch on validation, its mean over seeds that the results do not use; figures of the
test part are not looked at. Runs are kept in DIR: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.campaign.budgets import (
    DATASETS,
    TUNED,
    choose_names,
    positive_integer,
    read_tuned,
    run_command,
    variants_for,
)
from equilib_torch import InputError, TrainOptions
from equilib_torch.comparison.outcomes import Outcome
from equilib_torch.comparison.queue import plan_runs, run_all
from equilib_torch.comparison.variants import default_variants, read_variant
from equilib_torch.files import write_atomically
from equilib_torch.methods import METHODS
from equilib_torch.parameters import split_spec

LEARNING_RATES = (1.0, 0.5, 2.0)  # times the default, which wins where several are equal
SEEDS = (100, 101)


def trials(text: str, dataset: str = "av-digits-noisy") -> list[tuple[str, float]]:
    """List what to try for a variant on a data set, name and value, its default first.

    That is the first parameter of its method that declares trials and that the variant does not set itself, else the
    learning rate.

    Example:
        >>> trials("joint")
        [('lr', 0.002), ('lr', 0.001), ('lr', 0.004)]
        >>> trials("ogm-ge")
        [('alpha', 0.3), ('alpha', 0.1), ('alpha', 0.9)]
    """
    options = read_variant(text, TrainOptions(**DATASETS.get(dataset, {}))).options
    for parameter in METHODS[options.method_name].parameters:
        if parameter.trials and parameter.written not in split_spec(options.method)[1]:
            return [(parameter.written, float(f"{value:.4g}")) for value in (parameter.default, *parameter.trials)]
    return [("lr", float(f"{options.lr * factor:.4g}")) for factor in LEARNING_RATES]


def score(outcomes: Sequence[Outcome]) -> float:
    """Compute the mean over the seeds of the best epoch's accuracy on validation; -inf if a run failed."""
    if any(not outcome.history for outcome in outcomes):
        return -float("inf")
    return float(np.mean([max(record["accuracy"] for record in outcome.history) for outcome in outcomes]))


def tune(dataset: str, texts: Sequence[str], seeds: Sequence[int], directory: Path, jobs: int) -> dict[str, dict]:
    """Choose one option of every variant on one data set."""
    names = {text: [f"{text}:{option}={value:g}" for option, value in trials(text, dataset)] for text in texts}
    variants = variants_for(dataset, [name for tried in names.values() for name in dict.fromkeys(tried)], {})
    outcomes = run_all(plan_runs(variants, seeds, directory), jobs=jobs, progress=True)
    chosen = {}
    for text, tried in names.items():
        scores = [score([outcome for outcome in outcomes if outcome.variant == name]) for name in tried]
        if max(scores) == -float("inf"):
            raise InputError(f"{dataset}: every trial of {text!r} has failed runs")
        option, value = trials(text, dataset)[int(np.argmax(scores))]
        chosen[text] = {option: value}
        listed = ", ".join(f"{name.rpartition(':')[2]} {s:.4f}" for name, s in zip(tried, scores, strict=True))
        print(f"{dataset}: {text}: {option} {value:g} ({listed})", flush=True)
    return chosen


def main(argv: Sequence[str] | None = None) -> int:
    """Tune and write; return the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.campaign.tune", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="directory of the runs, new or to go on with")
    parser.add_argument("--jobs", type=positive_integer, default=1, help="runs at a time")
    parser.add_argument("--datasets", nargs="+", help=f"of {', '.join(DATASETS)}; default: all")
    parser.add_argument("--methods", nargs="+", help="methods or variants; default: all, and joint:fusion=memory")
    parser.add_argument("--trial-seeds", nargs="+", type=int, default=list(SEEDS), help="default: 100 101")
    parser.add_argument("--write", type=Path, default=TUNED, help="default: benchmarks/campaign/tuned.json")
    arguments = parser.parse_args(argv)

    def command() -> int:
        for dataset in choose_names("datasets", arguments.datasets, list(DATASETS)):
            texts = choose_names("methods", arguments.methods, default_variants())
            chosen = tune(dataset, texts, arguments.trial_seeds, arguments.output / dataset, arguments.jobs)
            tuned = read_tuned(arguments.write)  # anew each time: what another process chose meanwhile stays
            tuned[dataset] = tuned.get(dataset, {}) | chosen
            write_atomically(arguments.write, (json.dumps(tuned, indent=2, sort_keys=True) + "\n").encode())
        return 0

    return run_command("benchmarks.campaign.tune", argv, command)


if __name__ == "__main__":
    sys.exit(main())
