"""The results of a run, as the contents of summary.json and as a few readable lines."""

from __future__ import annotations

import math
import platform
from importlib.metadata import version
from typing import Any

from sklearn.metrics import f1_score, precision_recall_fscore_support

from equilib import contribution_shares, edm, expected_when_missing, shapley_schedule, shapley_values
from equilib_torch.coalition_table import CoalitionTable
from equilib_torch.naming import by_coalition, by_modality
from equilib_torch.runs.errors import describe_run, measure_errors
from equilib_torch.training.evaluation import VALUES
from equilib_torch.training.loop import Run
from equilib_torch.training.planning import is_rising, plan_budget

MISSING_RATES = (0.3, 0.5, 0.7)
_PACKAGES = ("equilib-multimodal", "numpy", "torch", "safetensors", "scikit-learn")


def summarise(run: Run, *, seconds_total: float) -> dict[str, Any]:
    """Give everything summary.json holds; accuracies in [0, 1], all of the network that is kept on the test split.

    `coalition_accuracy` is that of every non-empty set of modalities, `unimodal_accuracy` that of its singletons.
    Shapley values, shares and EDM follow from the run's value function; `schedule` is weak → strong by them.
    `shapley_error` holds standard errors, from the test samples, or their groups where the data set has any (null if
    there is one only), `edm_interval` a 95 % interval of the EDM, and `finding` says in a sentence what they mean.
    `missing_modality` is the expected accuracy if each modality is absent with that probability and at least one is
    kept. `n_train` counts the samples that were trained on, `n_incomplete` those of them that lack a modality,
    `n_excluded` those that were left out because they do; `missing_in_training` and `missing_in_testing` hold, of every
    modality, the rate at which it was made missing, from how many samples of train and test it was so taken, and how
    many of those in use lack it. `still_rising` tells whether accuracy on validation had not settled, `per_class` holds
    recall, precision, F1 and number of test samples of every class.

    Args:
        run: what `fit` returned.
        seconds_total: from start to end, the loading of data included.
    """
    options, dataset, test = run.options, run.dataset, run.test
    names, accuracies = dataset.names, CoalitionTable(test.accuracies)
    shapley, value = shapley_values(test.values), VALUES[options.coalition_value]
    groups = None if dataset.groups is None else dataset.groups[dataset.splits["test"]]
    measured = measure_errors(test, value, seed=options.seed, groups=groups)
    errors = [error if math.isfinite(error) else None for error in measured.errors.tolist()]
    n_train = len(run.samples.dataset.splits["train"])
    budget = plan_budget(options, n_train, len(dataset.splits["val"]), len(names))
    n_samples = run.updates * n_train / budget.per_epoch
    return {
        "backend": options.backend,
        "dataset": dataset.name,
        "fingerprint": dataset.fingerprint,
        "method": options.method_name,
        "parameters": {name.replace("_", "-"): value for name, value in options.parameters.items()},
        "fusion": options.chosen_fusion,
        "seed": options.seed,
        "modalities": list(names),
        "n_train": n_train,
        "n_val": len(dataset.splits["val"]),
        "n_test": len(dataset.splits["test"]),
        "n_excluded": run.samples.n_excluded,
        "n_incomplete": run.samples.n_incomplete,
        "missing_in_training": _missing(run, "missing-in-training", "train"),
        "missing_in_testing": _missing(run, "missing-in-testing", "test"),
        "updates": run.updates,
        "epochs": run.epochs,
        "best_epoch": run.best_epoch,
        "still_rising": is_rising([record["accuracy"] for record in run.history], len(dataset.splits["val"])),
        "stacked": options.stacks,
        "test_accuracy": float(accuracies.of_all),
        "test_macro_f1": float(f1_score(test.labels, test.predictions, average="macro", zero_division=0.0)),
        "per_class": _per_class(run),
        "majority_accuracy": float(accuracies.of_none),
        "unimodal_accuracy": by_modality(names, accuracies.alone),
        "coalition_accuracy": by_coalition(names, test.accuracies),
        "value": options.coalition_value,
        "shapley": by_modality(names, shapley),
        "shapley_error": dict(zip(names, errors, strict=True)),
        "shares": by_modality(names, contribution_shares(shapley)),
        "edm": float(edm(shapley)),
        "edm_interval": measured.edm_interval.tolist(),
        "finding": describe_run(run, value, measured),
        "schedule": [names[k] for k in shapley_schedule(shapley).order.tolist()],
        "missing_modality": {str(p): float(expected_when_missing(test.accuracies, p)) for p in MISSING_RATES},
        "seconds": {"total": seconds_total, **run.seconds},
        "samples_per_second": n_samples / run.seconds["train"],
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    }


def _missing(run: Run, option: str, split: str) -> dict[str, dict[str, float]]:
    """Say of each modality at what rate it was made missing, from how many samples, and how many lack it in all."""
    samples = run.samples
    absent = samples.n_absent(split)
    return {
        name: {"rate": rate, "n_removed": samples.removed[option][name], "n_absent": absent[name]}
        for name, rate in samples.rates[option].items()
    }


def _per_class(run: Run) -> dict[str, dict[str, float]]:
    """Measure every class on test: recall, precision, F1 and number of samples."""
    classes = range(run.dataset.n_classes)
    scores = precision_recall_fscore_support(run.test.labels, run.test.predictions, labels=classes, zero_division=0.0)
    return {
        str(name): {"recall": float(recall), "precision": float(precision), "f1": float(f1), "n": int(n)}
        for name, precision, recall, f1, n in zip(run.dataset.classes, *scores, strict=True)
    }


def readable(summary: dict[str, Any]) -> str:
    """Describe a summary in a few lines."""
    names, best = summary["modalities"], summary["best_epoch"]
    width = max(map(len, names))
    lines = [
        f"{summary['method']} ({summary['fusion']} fusion) on {summary['dataset']}, seed {summary['seed']}: "
        f"test accuracy {summary['test_accuracy']:.3f}, macro-F1 {summary['test_macro_f1']:.3f} (epoch {best})",
        f"  {'modality':<{max(width, 8)}}  alone  share",
    ]
    for name in summary["schedule"]:
        share = summary["shares"][name]
        bar = "#" * round(20 * share)
        lines.append(f"  {name:<{max(width, 8)}}  {summary['unimodal_accuracy'][name]:.3f}  {share:.3f} {bar}")
    missing = ", ".join(f"{float(p):.0%} {a:.3f}" for p, a in summary["missing_modality"].items())
    if len(names) > 1:
        limit, (low, high) = 2 * (1 - 1 / len(names)), summary["edm_interval"]
        meaning = f"0: equal contributions, {limit:.2f}: one modality does everything"
        lines.append(f"  EDM {summary['edm']:.3f}, 95 % {low:.3f} to {high:.3f} ({meaning})")
    lines.append(f"  {summary['finding']}")
    rising = "was still rising: more --updates may help" if summary["still_rising"] else "had settled"
    if summary["n_incomplete"] or summary["n_excluded"]:
        lines.append(
            f"  {summary['n_incomplete']} of {summary['n_train']} training samples lack a modality, "
            f"{summary['n_excluded']} more were excluded"
        )
    lines += [
        f"  {summary['updates']:,} updates, {summary['epochs']} epochs; validation accuracy {rising}",
        f"  accuracy with modalities missing: {missing}",
        f"  {summary['seconds']['total']:.1f} s, {summary['samples_per_second']:,.0f} training samples per second",
    ]
    return "\n".join(lines)
