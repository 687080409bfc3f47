"""The statistics of a comparison against their definitions, and the table made of them."""

from __future__ import annotations

import csv
import json
import math
from io import StringIO

import numpy as np
import pytest
from comparison_samples import outcome_of
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from equilib_torch import TrainOptions
from equilib_torch.comparison.export import as_json, runs_csv, table_csv
from equilib_torch.comparison.markdown import markdown, show, show_p
from equilib_torch.comparison.plots import (
    accuracy_edm_png,
    accuracy_missing_png,
    plot_accuracy_edm,
    plot_accuracy_missing,
    plot_mean_shares,
    shares_png,
)
from equilib_torch.comparison.statistics import holm, mean_ranks, mean_sd, paired_p, spearman
from equilib_torch.comparison.table import summarise_runs
from equilib_torch.comparison.variants import Variant, name_of, read_variant

PS = st.lists(st.floats(0, 1), min_size=1, max_size=8)
NUMBERS = st.lists(st.integers(0, 600).map(lambda k: k / 600), min_size=2, max_size=7)
NAN = float("nan")

# --- statistics ------------------------------------------------------------------------------------------------------


def rejected(ps, level):
    """Holm's procedure as it is told: the smallest p first, each at level / (tests left), until one does not pass."""
    passed = set()
    for rank, k in enumerate(sorted(range(len(ps)), key=lambda k: ps[k])):
        if ps[k] * (len(ps) - rank) > level:
            break
        passed.add(k)
    return passed


@given(PS, st.floats(0.001, 0.999))
def test_holm_rejects_what_the_procedure_does(ps, level):
    assert {k for k, p in enumerate(holm(ps)) if p <= level} == rejected(ps, level)


@given(PS)
def test_holm_keeps_the_order_and_only_adds(ps):
    corrected = holm(ps)
    assert all(p <= c <= 1 and c <= len(ps) * p + 1e-12 for p, c in zip(ps, corrected, strict=True))
    assert all((corrected[i] <= corrected[k]) for i, p in enumerate(ps) for k, q in enumerate(ps) if p <= q)
    shuffled = np.random.default_rng(0).permutation(len(ps))
    assert holm([ps[k] for k in shuffled]) == [corrected[k] for k in shuffled]


@given(PS, st.integers(0, 8))
def test_holm_does_not_count_what_was_not_tested(ps, place):
    found = holm([*ps[:place], NAN, *ps[place:]])
    assert math.isnan(found.pop(min(place, len(ps))))
    assert found == holm(ps)


@given(NUMBERS)
def test_mean_and_sd_by_their_formulas(values):
    mean, sd = mean_sd(values)
    assert mean == pytest.approx(sum(values) / len(values))
    assert sd == pytest.approx(math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)))
    assert math.isnan(mean_sd(values[:1])[1])
    assert all(map(math.isnan, mean_sd([])))


@given(NUMBERS, st.integers(0, 2**32 - 1))
def test_the_paired_test_by_its_formula(values, seed):
    """t = mean / (sd / √n) of the differences, in a t distribution of n - 1; symmetric, and blind to shifts."""
    a = dict(enumerate(values))
    b = {s: v + float(d) for (s, v), d in zip(a.items(), np.random.default_rng(seed).normal(size=len(a)), strict=True)}
    mean, sd = mean_sd([a[s] - b[s] for s in a])
    expected = 2 * stats.t.sf(abs(mean) / (sd / math.sqrt(len(a))), len(a) - 1)
    assert paired_p(a, b) == pytest.approx(expected, rel=1e-6)
    assert paired_p(b, a) == pytest.approx(paired_p(a, b))
    assert paired_p(a, {**b, 99: 0.0}) == paired_p(a, b)  # a seed that only one of them has


@given(NUMBERS, st.sampled_from([0.0, 0.1, -1 / 3]))
def test_equal_differences_raise_no_warning(values, shift):
    a = dict(enumerate(values))
    b = {s: v + shift for s, v in a.items()}
    assert paired_p(a, b) == (1.0 if shift == 0 else 0.0)


def test_too_few_pairs_are_not_tested():
    assert math.isnan(paired_p({0: 1.0}, {0: 2.0}))
    assert math.isnan(paired_p({0: 1.0, 1: 2.0}, {1: 2.0, 2: 1.0}))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=9))
def test_spearman_is_the_correlation_of_ranks(pairs):
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    rho, p = spearman(a, b)
    if len(pairs) < 3 or len(set(a)) == 1 or len(set(b)) == 1:
        assert math.isnan(rho)
        assert math.isnan(p)
    else:
        ranks = [[sum(w < v for w in x) + sum(w == v for w in x) / 2 for v in x] for x in (a, b)]
        assert rho == pytest.approx(np.corrcoef(ranks)[0, 1])
        assert 0 <= p <= 1


def test_mean_ranks():
    scores = {"x": {"a": 0.9, "b": 0.8, "c": 0.8, "d": 0.5}, "y": {"c": 0.2, "b": 0.9, "a": 0.7}}
    assert mean_ranks(scores) == {"a": 1.5, "b": 1.75, "c": 2.75}
    assert mean_ranks({}) == {}


# --- the table -------------------------------------------------------------------------------------------------------


ACCURACIES = {
    "joint": (0.80, 0.81, 0.79),
    "equilib": (0.90, 0.92, 0.91),
    "equilib:policy=random": (0.85, 0.86, 0.90),
    "pmr": (0.82, 0.85, 0.83),
    "agm:alpha=0.5": (0.70, 0.74, 0.75),
}


@pytest.fixture
def outcomes():
    return [
        outcome_of(name, seed, values[seed], 1 - values[seed], seconds=1.0 + (name != "joint"))
        for seed in range(3)
        for name, values in ACCURACIES.items()
    ]


def rows_of(table):
    return {row.variant: row for row in table.rows}


def test_rows_come_by_accuracy_with_means_of_seeds(outcomes):
    table = summarise_runs(outcomes)
    assert [row.variant for row in table.rows] == [
        "equilib",
        "equilib:policy=random",
        "pmr",
        "joint",
        "agm:alpha=0.5",
    ]
    row = table.rows[0]
    assert (row.mean("accuracy"), row.sd("accuracy")) == (pytest.approx(0.91), pytest.approx(0.01))
    assert row.mean("macro_f1") == pytest.approx(0.455)
    assert row.mean("alone_b") == pytest.approx(0.91 / 3)
    assert row.mean("missing_0.5") == pytest.approx(0.728)
    assert (row.mean("seconds_per_epoch"), row.mean("relative_seconds")) == (1.0, 2.0)
    assert row.mean("schedule_percent") == pytest.approx(20)
    assert (table.seeds, table.epochs, table.n_runs) == ((0, 1, 2), (2,), 15)


def test_the_order_of_the_runs_does_not_matter(outcomes):
    assert summarise_runs(outcomes[::-1]) == summarise_runs(outcomes)


def test_tests_are_against_joint_and_the_best_of_the_others(outcomes):
    table = summarise_runs(outcomes)
    rows = rows_of(table)
    assert table.rival == "pmr"  # the variants of ours are better, but ours
    for reference, p_of in (("joint", lambda row: row.p_joint), ("pmr", lambda row: row.p_rival)):
        raw = {
            name: stats.ttest_rel(values, ACCURACIES[reference]).pvalue
            for name, values in ACCURACIES.items()
            if name != reference
        }
        expected = dict(zip(raw, holm(list(raw.values())), strict=True))
        assert {name: p_of(rows[name]) for name in raw} == pytest.approx(expected)
        assert math.isnan(p_of(rows[reference]))
    assert rows["equilib"].p_missing == pytest.approx(rows["equilib"].p_joint)  # 0.8 times the same figures


def test_balance_against_accuracy(outcomes):
    table = summarise_runs(outcomes)
    assert table.rho == pytest.approx(-1)  # EDM is 1 - accuracy here
    assert "Spearman's ρ of EDM and accuracy: -1.00 over 15 runs (p <.001)" in markdown(table)


def test_without_joint_or_rivals_nothing_is_tested_against_them():
    table = summarise_runs([outcome_of("equilib", seed, 0.9 + seed / 10) for seed in range(2)])
    assert table.rival is None
    assert math.isnan(table.rows[0].p_joint)
    assert math.isnan(table.rows[0].mean("relative_seconds"))
    assert "s per epoch" in markdown(table)
    assert "÷ joint" not in markdown(table)


def test_failed_runs_are_named_and_not_counted(outcomes):
    kept = [o for o in outcomes if (o.variant, o.seed) != ("pmr", 1) and o.variant != "agm:alpha=0.5"]
    failed = [outcome_of("pmr", 1, 0, reason="it | diverged")]
    failed += [outcome_of("agm:alpha=0.5", seed, 0, reason="too strong") for seed in range(3)]
    table = summarise_runs([*kept, *failed])
    rows = rows_of(table)
    assert rows["pmr"].mean("accuracy") == pytest.approx(0.825)
    assert table.rival == "joint"  # pmr's mean is of fewer seeds
    assert table.rows[-1].variant == "agm:alpha=0.5"
    text = markdown(table)
    assert "| `pmr` (1 of 3 failed) | .825 ± .007 |" in text
    assert "| `agm:alpha=0.5` (3 of 3 failed) | failed |" in text
    assert "`pmr` seed 1 failed: it | diverged." in text


def test_one_seed_has_no_deviation_and_no_p():
    text = markdown(summarise_runs([outcome_of("joint", 0, 0.5), outcome_of("pmr", 0, 0.6)]))
    assert "| `pmr` | **.600** | **.300** |" in text
    assert text.count("±") == 1  # the explanation
    assert [line[-9:].strip() for line in text.splitlines() if "`pmr` |" in line] == ["|  |  |"]


def test_the_best_of_every_column_is_bold(outcomes):
    lines = markdown(summarise_runs(outcomes)).splitlines()
    assert lines[4].startswith("| `equilib` | **.910 ± .010** | **.455 ± .005** |")
    assert [line.count("**") for line in lines[4:9]] == [16, 0, 0, 2, 0]  # joint is the fastest
    close = [outcome_of("joint", 0, 0.50001), outcome_of("pmr", 0, 0.50002)]
    assert all(line.split(" | ")[1] == "**.500**" for line in markdown(summarise_runs(close)).splitlines()[4:6])


def test_a_modality_may_be_called_anything():
    table = summarise_runs([outcome_of("joint", 0, 0.5, names=("a|b", "c\nd"))])
    lines = markdown(table).splitlines()
    assert [line.replace("\\|", "").count("|") for line in lines[2:5]] == [lines[3].count("|")] * 3


def read_csv(text):
    return list(csv.DictReader(StringIO(text)))


def test_files_say_what_the_table_says(outcomes):
    outcomes.append(outcome_of("pmr", 3, 0, reason="diverged"))
    table = summarise_runs(outcomes)
    rows = read_csv(table_csv(table))
    assert [row["variant"] for row in rows] == [row.variant for row in table.rows]
    assert [float(row["accuracy_mean"]) for row in rows] == [row.mean("accuracy") for row in table.rows]
    assert [row["p_joint"] for row in rows if row["variant"] == "joint"] == [""]
    assert [(row["n_runs"], row["n_failed"]) for row in rows if row["variant"] == "pmr"] == [("3", "1")]
    runs = read_csv(runs_csv(outcomes))
    assert len(runs) == 16
    assert (runs[0]["variant"], runs[0]["test_accuracy"], runs[0]["unimodal_accuracy.a"]) == ("joint", "0.8", "0.4")
    assert (runs[-1]["failed"], runs[-1]["test_accuracy"]) == ("diverged", "")
    variants = [read_variant(name, TrainOptions(epochs=2)) for name in ACCURACIES]
    found = json.loads(json.dumps(as_json(table, outcomes, variants), allow_nan=False))
    assert found["best_rival"] == "pmr"
    assert found["options"]["agm:alpha=0.5"]["method"] == "agm:alpha=0.5"
    assert found["variants"][0]["figures"]["accuracy"]["mean"] == pytest.approx(0.91)
    assert len(found["runs"]) == 16
    assert found["versions"].keys() == {"torch", "scipy"}


def test_numbers_are_shown_short():
    assert [show(x) for x in (0.0, 1.0, 0.9999, -0.5, NAN)] == [".000", "1.000", "1.000", "-.500", ""]
    assert [show_p(x) for x in (0.0, 0.0005, 1.0, NAN)] == ["<.001", ".001", "1.000", ""]


@given(st.text(st.characters(exclude_characters=",", exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_directories_name_their_variants(name):
    slug = Variant(name, TrainOptions()).slug
    assert name_of(slug) == name
    assert not set(slug) & set('/\\:*?"<>| \0')


# --- plots -----------------------------------------------------------------------------------------------------------


def test_plots_show_every_finished_run(outcomes):
    outcomes.append(outcome_of("pmr", 3, 0, reason="diverged"))
    ax = plot_accuracy_edm(outcomes, list(ACCURACIES))
    points = {line.get_label(): line.get_xydata() for line in ax.get_lines()}
    assert {name: len(found) for name, found in points.items()} == dict.fromkeys(ACCURACIES, 3)
    assert points["pmr"].tolist() == pytest.approx(np.array([[0.18, 0.82], [0.15, 0.85], [0.17, 0.83]]))
    assert "ρ: -1.00, p < 0.001, 15 runs" in ax.get_title()
    ax = plot_accuracy_missing(outcomes, ["joint", "pmr"])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["joint", "pmr"]
    assert ax.get_lines()[0].get_ydata().tolist() == pytest.approx([0.8, 0.72, 0.64, 0.56])
    assert plot_mean_shares([o.history for o in outcomes[:2]]).get_lines()[0].get_ydata().tolist() == [0.5, 0.5]


@pytest.mark.parametrize("n", [1, 15])
def test_any_comparison_can_be_drawn(n):
    names = [f"joint:lr={k}" for k in range(n)]
    found = [outcome_of(name, 0, 0.5, names=("$\\frac$", "_b")) for name in names]
    found.append(outcome_of("pmr", 0, 0, reason="diverged"))
    for draw in (accuracy_edm_png, accuracy_missing_png, shares_png):
        assert draw(found, [*names, "pmr"]).startswith(b"\x89PNG")
