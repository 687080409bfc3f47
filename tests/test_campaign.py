"""The campaign of training: its plan, its statistics, and the document that is written from the lines of its runs."""

from __future__ import annotations

import json
import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.campaign import plan, results, run, sets
from benchmarks.campaign.analysis import best_rival, expected_accuracy, missing_rates, paired_difference
from equilib import expected_when_missing
from equilib_torch import InputError, TrainOptions
from equilib_torch.comparison.variants import read_variant
from equilib_torch.naming import by_coalition

FIGURES = st.lists(st.floats(0, 1), min_size=6, max_size=6)


def figures_of(values: list[float]) -> dict[str, dict[int, float]]:
    """Arrange six numbers as a figure of two data sets and three seeds."""
    return {name: dict(enumerate(values[3 * k : 3 * k + 3])) for k, name in enumerate("xy")}


# --- plan -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["tuning", "parameters", *plan.EXPERIMENTS])
def test_every_run_that_is_planned_can_be_read(experiment):
    modalities = {"mfeat-small": ("a", "b"), "cells": ("a", "b", "c")}
    jobs = list(plan.jobs([experiment], list(modalities), modalities, n_seeds=2))
    assert jobs
    assert len(set(jobs)) == len(jobs)
    for variant in {job.variant for job in jobs if not job.variant.startswith("only:")}:
        assert read_variant(variant, TrainOptions()).name == variant


def test_a_run_that_two_experiments_share_is_trained_once():
    jobs = list(plan.jobs(plan.EXPERIMENTS, ["cells"], {"cells": ("a", "b")}, n_seeds=5))
    assert len({job[1:] for job in jobs}) == len(jobs)
    assert sum(job.variant == plan.REFERENCE for job in jobs) == 10  # the order's ten seeds hold the ablations' three


def test_all_methods_have_the_same_learning_rates_to_choose_from():
    rates: dict[str, set[str]] = {}
    for job in plan.jobs(["tuning"], [], {}, n_seeds=1):
        variant, _, rate = job.variant.rpartition(":lr=")
        rates.setdefault(variant, set()).add(rate)
    assert set(rates) == {*plan.OURS, *plan.RIVALS, *plan.OTHERS}
    assert len(set(map(frozenset, rates.values()))) == 1


def line_of(
    variant: str, dataset: str = "cells", seed: int = 0, experiment: str = "table", **figures: float
) -> run.Line:
    """Make the line of a run of two modalities."""
    accuracy = figures.get("accuracy", 0.9)
    table = {"a": 0.5, "b": figures.get("alone", 0.6), "a+b": accuracy}
    summary = {
        "dataset": dataset,
        "modalities": ["a", "b"],
        "test_accuracy": accuracy,
        "missing_modality": {"0.5": figures.get("half", 0.7)},
        "edm": figures.get("edm", 0.2),
        "coalition_accuracy": table,
        "unimodal_accuracy": {"a": 0.5, "b": table["b"]},
        "versions": {"numpy": "2"},
    }
    return {
        "experiment": experiment,
        "dataset": dataset,
        "variant": variant,
        "seed": seed,
        "summary": summary,
        "validation": [figures.get("validation", accuracy)],
        "calibration": {"log_likelihood": -0.3, "ece": 0.05},
    }


def test_the_learning_rate_is_chosen_on_validation_and_goes_to_variants_of_the_method():
    lines = [
        line_of(f"joint:lr={lr}", seed=seed, experiment="tuning", accuracy=1 - validation, validation=validation)
        for (lr, validation), seed in product([("0.001", 0.7), ("0.003", 0.8), ("0.009", 0.6)], (100, 101))
    ]
    tuned = run.tuned_rates(lines)
    assert tuned == {"joint": 0.003}
    assert run.rate_for("joint:fusion=memory", tuned) == 0.003
    assert run.rate_for("joint:lr=0.1", tuned) is run.rate_for("mla", tuned) is None


# --- statistics -----------------------------------------------------------------------------------------------------


@given(FIGURES, FIGURES)
def test_the_error_over_data_sets_is_that_of_a_one_sample_t_test(a, b):
    difference = paired_difference(figures_of(a), figures_of(b))
    means = [np.mean(np.subtract(a, b)[k : k + 3]) for k in (0, 3)]
    assert difference.mean == pytest.approx(np.mean(means), abs=1e-12)
    assert difference.se_sets == pytest.approx(stats.sem(means), abs=1e-12)
    if difference.se_sets > 1e-9:
        assert difference.p_sets == pytest.approx(stats.ttest_1samp(means, 0).pvalue, abs=1e-6)


@given(FIGURES, FIGURES)
def test_a_difference_turns_round_with_its_sides(a, b):
    there, back = paired_difference(figures_of(a), figures_of(b)), paired_difference(figures_of(b), figures_of(a))
    assert there.mean == pytest.approx(-back.mean, abs=1e-12)
    assert there.se_seeds == pytest.approx(back.se_seeds, abs=1e-12)
    assert paired_difference(figures_of(a), figures_of(a)).p_seeds == 1.0


def test_only_what_both_have_is_compared():
    a, b = {"x": {0: 1.0, 1: 1.0}, "y": {0: 1.0}}, {"x": {1: 0.5, 2: 0.0}}
    assert paired_difference(a, b).mean == 0.5
    assert math.isnan(paired_difference(a, {"z": {0: 1.0}}).mean)


@given(st.lists(st.floats(0, 1), min_size=8, max_size=8), st.floats(0, 0.9))
def test_equal_rates_give_what_the_core_gives(table, rate):
    names = ["a", "b", "c"]
    expected = float(expected_when_missing(np.array(table), rate))
    assert expected_accuracy(by_coalition(names, table), dict.fromkeys(names, rate)) == pytest.approx(expected)


def test_unequal_rates_single_out_the_strongest():
    assert missing_rates({"a": 0.1, "b": 0.9, "c": 0.2}) == {
        "strongest": {"a": 0.3, "b": 0.7, "c": 0.3},
        "others": {"a": 0.7, "b": 0.3, "c": 0.7},
    }


def test_the_best_rival_is_that_of_the_data_set():
    figures = {"joint": {"x": {0: 0.5}}, "mla": {"x": {0: 0.6}, "y": {0: 0.1}}}
    assert best_rival(figures, ["joint", "mla"], "x") == best_rival(figures, ["joint", "mla"], "y") == "mla"
    assert best_rival(figures, ["joint"], "y") is None


# --- data, runs and the document ------------------------------------------------------------------------------------


def test_the_sets_built_from_scikit_learn():
    assert {name: (load(0).n_classes, len(load(0).labels)) for name, load in sets.BUILT.items()} == {
        "breast_cancer": (2, 569),
        "digits_halves": (10, 1797),
    }
    with pytest.raises(InputError, match="extra must be a folder"):
        sets.names(sets.Path(__file__).parent)


def test_one_modality_alone_keeps_the_samples_that_have_it(make_toy):
    dataset = make_toy(missing=0.4)
    alone = sets.only(dataset, 1)
    here = dataset.modalities[1].present
    assert len(alone.labels) == here.sum()
    for part, rows in dataset.splits.items():
        np.testing.assert_array_equal(alone.labels[alone.splits[part]], dataset.labels[rows[here[rows]]])


@pytest.fixture
def make_toy():
    """Make a data set of two modalities, some of them missing."""
    from equilib_torch import Dataset, Modality

    def make(missing: float) -> Dataset:
        rng = np.random.default_rng(0)
        labels = np.arange(60) % 3
        second = rng.random(60) >= missing
        second[:3] = True
        x = rng.normal(size=(60, 4)) + labels[:, None]
        everywhere = np.ones(60, bool)
        parts = {"train": np.arange(36), "val": np.arange(36, 48), "test": np.arange(48, 60)}
        modalities = (Modality("a", "vector", x, None, everywhere), Modality("b", "vector", x, None, second))
        return Dataset("toy", modalities, labels.astype(np.int64), (0, 1, 2), parts)

    return make


def test_a_run_is_a_line_and_so_is_a_failure(monkeypatch, make_toy):
    monkeypatch.setattr(run, "load", lambda name, seed, extra: make_toy(missing=0.2))
    line = run.train(plan.Job("table", "toy", "joint:updates=4:width=16:batch-size=8", 0), None, 0.01)
    assert 0 <= line["summary"]["test_accuracy"] <= 1
    assert json.loads(json.dumps(line)) == line
    assert run.train(plan.Job("ceiling", "toy", "only:b:", 0), None, None)["failed"].startswith("ValueError")
    assert "no such method" not in run.train(plan.Job("table", "toy", "none", 0), None, None)["failed"]


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    path = tmp_path / "runs.jsonl"
    path.write_text(json.dumps({"seed": 1}) + "\n" + '{"seed": 2, "summ')
    assert run.read_lines(path) == [{"seed": 1}]
    assert run.read_lines(tmp_path / "none") == []


def test_the_document_says_what_the_lines_say():
    accuracies = {"equilib": 0.95, "joint": 0.9, plan.at_plain_rate("joint"): 0.92}
    lines = [line_of(v, seed=s, accuracy=a) for v, a in accuracies.items() for s in (0, 1, 2)]
    lines += [line_of(plan.REFERENCE, seed=s, accuracy=0.95, experiment="order") for s in (0, 1, 2)]
    other = plan.REFERENCE.replace(":", ":policy=random:")
    lines += [line_of(other, seed=s, accuracy=0.94, experiment="order") for s in (0, 1, 2)]
    lines += [line_of("only:b", experiment="ceiling", accuracy=0.61)]
    lines += [{"experiment": "table", "dataset": "cells", "variant": "mla", "seed": 0, "failed": "InputError: no"}]
    text = results.document(
        lines, {"cells": {"joint": {"joint": 1.0, "joint:fusion=memory": 0.5}}}, None, baselines=False
    )
    assert "| `equilib` | **95.0** | 1.00 | +3.00 ± 0.00 |" in text  # all at the plain command's rate
    assert f"| `{plan.REFERENCE}` | **95.0** | 1.00 | +5.00 ± 0.00 |" in text  # each at its own
    assert "Seeds that all have: 3 on cells." in text
    assert "seen on test first" in text
    assert f"| `{other}` | +1.00 ± 0.00 |" in text
    assert "| cells | b | 61.0 | 60.0 | 60.0 |" in text
    assert "- `mla` on cells, seed 0: InputError: no" in text
    assert "| `joint` | 1.00 / 0.50 |" in text
