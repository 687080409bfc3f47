"""Modalities made missing at a rate, and training samples that are left out because they lack one."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from equilib_torch import InputError, TrainOptions, fit, summarise
from equilib_torch.commands.compare import compare_command
from equilib_torch.commands.train import train_command
from equilib_torch.comparison.variants import read_variant
from equilib_torch.data.batches import take
from equilib_torch.data.missing import draw_missing, make_missing, presence, read_rates
from equilib_torch.methods import METHODS
from equilib_torch.training import State
from equilib_torch.training.samples import prepare_samples

RATES = ["a=0.5", "b=0.2"]


@given(n=st.integers(1, 4), seed=st.integers(0, 99), rate=st.sampled_from([0.0, 0.3, 1.0]), absent=st.booleans())
def test_no_sample_loses_everything_or_what_it_does_not_have(n, seed, rate, absent):
    rng = np.random.default_rng(seed)
    present = rng.random((40, n)) < (0.5 if absent else 2)
    present[np.arange(40), rng.integers(n, size=40)] = True
    missing = draw_missing(present, [rate] * n, rng)
    assert not (missing & ~present).any()
    left = present & ~missing
    assert left.any(1).all()
    if rate in (0, 1):
        np.testing.assert_array_equal(left.sum(1), 1 if rate else present.sum(1))


def test_modalities_are_lost_at_their_rates_and_every_one_is_as_likely_kept():
    missing = draw_missing(np.ones((20_000, 3), bool), [0.6, 0.2, 0.0], np.random.default_rng(0))
    np.testing.assert_allclose(missing.mean(0), [0.6, 0.2, 0.0], atol=0.01)
    missing = draw_missing(np.ones((20_000, 2), bool), [1.0, 0.5], np.random.default_rng(0))
    np.testing.assert_allclose(missing.mean(0), [0.75, 0.25], atol=0.01)  # half of them would lose both


def test_what_is_lost_is_cleared_in_batches_and_shared_in_memory(make_dataset):
    dataset = make_dataset(3, kinds=("vector", "sequence", "image"))
    missing = np.zeros((60, 3), bool)
    missing[::2, 1] = missing[1::2, 2] = True
    thinned = make_missing(dataset, missing)
    assert all(a.values is b.values for a, b in zip(thinned.modalities, dataset.modalities, strict=True))
    batch, whole = take(thinned, np.arange(60)), take(dataset, np.arange(60))
    np.testing.assert_array_equal(batch.present, ~missing)
    assert not batch.inputs[1][::2].any()
    assert (batch.lengths[1][::2] == 1).all()
    assert torch.equal(batch.inputs[1][1::2], whole.inputs[1][1::2])
    assert torch.equal(batch.lengths[1][1::2], whole.lengths[1][1::2])
    np.testing.assert_array_equal(presence(dataset), True)  # which is as it was


def test_training_and_validation_lose_by_one_option_and_test_by_the_other(make_dataset, make_options):
    dataset = make_dataset(2, rows=2000)
    made = prepare_samples(make_options(missing_in_training=RATES, missing_in_testing=["0.4"]), dataset)
    present = presence(made.dataset)
    for part, rates in {"train": (0.45, 0.15), "val": (0.45, 0.15), "test": (0.32, 0.32)}.items():
        np.testing.assert_allclose((~present[dataset.splits[part]]).mean(0), rates, atol=0.06)
    for option, part in (("missing-in-training", "train"), ("missing-in-testing", "test")):
        assert list(made.removed[option].values()) == (~present[dataset.splits[part]]).sum(0).tolist()
    nothing = prepare_samples(make_options(), dataset)
    assert nothing.dataset is dataset
    assert nothing.n_excluded == nothing.n_incomplete == 0


def test_what_is_missing_depends_on_the_seed_alone(make_dataset, make_options):
    dataset = make_dataset(2)
    options = make_options(missing_in_training=RATES, missing_in_testing=RATES)
    first, *others = (
        presence(State.create(replace(options, **changes), dataset).samples.dataset)
        for changes in ({}, {"batch_size": 3, "eval_batch_size": 5}, {"method": "joint"}, {"seed": 1})
    )
    assert [np.array_equal(first, other) for other in others] == [True, True, False]


def test_what_is_lost_enters_no_statistic(make_dataset, make_options):
    """Neither means and deviations, nor anything that a run makes of them."""
    dataset = make_dataset(2, kinds=("vector", "sequence"))
    options = make_options(missing_in_training=["a=0.5"], missing_in_testing=["b=0.5"], epochs=1)
    lost = ~presence(prepare_samples(options, dataset).dataset)
    changed = tuple(
        replace(m, values=np.where(lost[:, k].reshape(-1, *[1] * (m.values.ndim - 1)), 1e4, m.values))
        for k, m in enumerate(dataset.modalities)
    )
    run, other = fit(options, dataset), fit(options, replace(dataset, modalities=changed))
    assert run.history == other.history
    np.testing.assert_array_equal(run.test.values, other.test.values)


def cannot(patch, name):
    patch.setitem(METHODS._entries, name, replace(METHODS[name], incomplete=False))


def test_methods_that_cannot_leave_incomplete_samples_out(make_dataset, make_options, monkeypatch, capsys):
    dataset = make_dataset(2, missing=0.3)
    cannot(monkeypatch, "joint")
    run = fit(make_options(method="joint"), dataset, progress=True)
    complete = presence(dataset)[dataset.splits["train"]].all(1)
    assert 0 < run.samples.n_excluded == (~complete).sum()
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert warnings == [
        f"equilib: warning: {(~complete).sum()} of 30 training samples lack a modality and are excluded"
    ]
    summary = summarise(run, seconds_total=1.0)
    assert summary["n_excluded"] + summary["n_train"] == 30
    assert summary["n_incomplete"] == 0
    only = replace(dataset, splits={**dataset.splits, "train": dataset.splits["train"][complete]})
    assert fit(make_options(method="joint"), only).history == run.history
    with pytest.raises(InputError, match=r"incomplete must be exclude with the method joint"):
        make_options(method="joint", incomplete="use")
    assert fit(make_options(method="joint-unimodal"), dataset).samples.n_incomplete == (~complete).sum()
    assert fit(make_options(method="equilib", incomplete="exclude"), dataset).samples.n_excluded == (~complete).sum()


def test_too_little_left(make_dataset, make_options):
    dataset = make_dataset(2)
    with pytest.raises(InputError, match=r"missing-in-training: too high a rate .a: absent in all 30"):
        State.create(make_options(missing_in_training=["a=1"]), dataset)
    options = make_options(missing_in_training=["0.95"], incomplete="exclude", batch_size=None, seed=1)
    with pytest.raises(InputError, match=r"incomplete: .* of 30 training samples lack a modality"):
        State.create(options, dataset)
    run = fit(make_options(missing_in_testing=["a=1"]), dataset)
    assert run.test.accuracies[1] == run.test.accuracies[0]  # nobody has it: its coalition answers the frequencies


@pytest.mark.parametrize(
    ("items", "fault"),
    [
        (["a"], "MODALITY=RATE"),
        (["a=2"], r"a rate in \[0, 1\], got 'a=2'"),
        (["a=nan"], "a rate in"),
        (["=0.1"], "MODALITY=RATE, got '=0.1'"),
        (["a=0.1", "a=0.2"], "every modality once, got 'a' twice"),
        (["a=0.1b=0.2"], "MODALITY=RATE"),
        (["-0.1"], "a rate in"),
    ],
)
def test_rates_that_cannot_be_read(items, fault):
    with pytest.raises(InputError, match=f"^missing-in-training must .*{fault}"):
        TrainOptions(missing_in_training=items)


def test_names_may_hold_commas(make_dataset, make_options):
    assert read_rates("", ["a,b=0.1,c=0.2"]) == {"a,b": 0.1, "c": 0.2}
    with pytest.raises(InputError, match=r"missing-in-testing: toy has no modality 'c', only a, b"):
        State.create(make_options(missing_in_testing=["c=0.1"]), make_dataset(2))


def test_from_the_command_line_and_from_a_configuration(tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    argv = ["--dataset", "mfeat-small", "--updates", "4", "--method", "joint", "--incomplete", "exclude"]
    rates = ["--missing-in-training", "zernike=0.3,fourier=0.1", "--missing-in-testing", "zernike=0.5"]
    assert train_command([*argv, *rates, "--output", str(first)]) == 0
    said = capsys.readouterr()
    assert said.err.count("are excluded") == 1
    summary = json.loads((first / "summary.json").read_text())
    assert summary["n_train"] + summary["n_excluded"] == 300
    assert summary["missing_in_training"]["zernike"] == {"rate": 0.3, "n_removed": 90 + 10, "n_absent": 0}
    assert summary["missing_in_testing"]["fourier"] == {"rate": 0.0, "n_removed": 0, "n_absent": 0}
    assert 250 < summary["missing_in_testing"]["zernike"]["n_absent"] < 350
    assert yaml.safe_load((first / "config.yaml").read_text())["missing_in_testing"] == ["zernike=0.5"]
    assert train_command(["--config", str(first / "config.yaml"), "--output", str(second), "--quiet"]) == 0
    again = json.loads((second / "summary.json").read_text())
    assert again["coalition_accuracy"] == summary["coalition_accuracy"]
    bad = tmp_path / "bad.yaml"
    bad.write_text("missing_in_training: {zernike: 0.3}")
    assert train_command(["--config", str(bad)]) == 2
    assert "missing_in_training must be a list of text" in capsys.readouterr().err


@pytest.mark.slow
def test_in_a_comparison(capsys, tmp_path):
    variant = read_variant("joint:missing-in-training=a=0.3:missing-in-training=b=0.1", TrainOptions())
    assert variant.options.missing_in_training == ["a=0.3", "b=0.1"]
    methods = "joint:missing-in-training=zernike=0.5,joint:incomplete=exclude"
    argv = ["--dataset", "mfeat-small", "--updates", "2", "--seeds", "1", "--missing-in-testing", "0.3"]
    assert compare_command([*argv, "--methods", methods, "--output", str(tmp_path / "c")]) == 0
    capsys.readouterr()
    summaries = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("c/runs/*/*/summary.json"))]
    assert [s["n_incomplete"] > 0 for s in summaries] == [False, True]
    assert summaries[0]["missing_in_testing"] == summaries[1]["missing_in_testing"]
