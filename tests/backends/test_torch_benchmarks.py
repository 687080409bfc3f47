"""The benchmarks of training: what is tuned by what, and the document that is written from the runs."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from comparison_samples import outcome_of

from benchmarks.campaign import budgets, cost, results, tune
from benchmarks.campaign.budgets import variants_for
from equilib_torch import InputError
from equilib_torch.comparison import queue
from equilib_torch.comparison.outcomes import Outcome
from equilib_torch.comparison.variants import default_variants
from equilib_torch.methods import METHODS

N = 60


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A tiny data set among those of the campaign, and no other."""
    monkeypatch.chdir(tmp_path)
    labels = np.arange(N) % 3
    split = np.array(["train"] * 36 + ["val"] * 12 + ["test"] * 12)
    noise = np.random.default_rng(0).standard_normal((2, N, 3))
    a, b = (labels[:, None] == 0) + noise[0], (labels[:, None] == 1) + noise[1]
    np.savez("toy.npz", label=labels, split=split, a=a, b=b)
    for name in list(budgets.DATASETS):
        monkeypatch.delitem(budgets.DATASETS, name)
    budget = {"epochs": 1, "batch_size": 8, "width": 16, "device": "cpu"}
    monkeypatch.setitem(budgets.DATASETS, "toy.npz", budget)
    return "toy.npz"


# --- tuning ----------------------------------------------------------------------------------------------------------


def test_every_method_has_the_same_number_of_trials_its_default_first():
    for text in default_variants():
        options, values = zip(*tune.trials(text), strict=True)
        declared = [parameter for parameter in METHODS[text.partition(":")[0]].parameters if parameter.trials]
        assert len(set(values)) == 3
        if declared:
            assert {*options} == {declared[0].written}
            assert values == pytest.approx([declared[0].default, *declared[0].trials], rel=1e-3)
        else:
            assert {*options} == {"lr"}
            assert values[0] == 0.002


def test_a_parameter_that_a_variant_sets_is_not_tuned():
    assert tune.trials("mla:alpha=0.5") == [("lr", 0.002), ("lr", 0.001), ("lr", 0.004)]


@pytest.mark.parametrize("dataset", list(budgets.DATASETS))
def test_trials_of_a_learning_rate_are_around_the_data_set_s(dataset):
    rate = budgets.DATASETS[dataset].get("lr", 0.001)
    assert tune.trials("joint", dataset) == [("lr", rate), ("lr", rate / 2), ("lr", 2 * rate)]
    assert tune.trials("joint:lr=0.1", dataset) == [("lr", 0.1), ("lr", 0.05), ("lr", 0.2)]
    assert tune.trials("equilib", dataset) == tune.trials("equilib")


def test_the_best_epoch_on_validation_decides_and_nothing_of_the_test_part():
    def run(*accuracies):
        return Outcome("joint", 0, {}, "", tuple({"accuracy": accuracy} for accuracy in accuracies))

    assert tune.score([run(0.5, 0.9, 0.7), run(0.6, 0.5)]) == 0.75
    assert tune.score([run(0.9), Outcome("joint", 1, None, "diverged")]) == -float("inf")


def test_tuning_trains_once_and_keeps_what_others_chose(toy, tmp_path, monkeypatch, capsys):
    target = tmp_path / "tuned.json"
    target.write_text('{"mfeat": {"pmr": {"alpha": 2}}, "toy.npz": {"agm": {"alpha": 3}}}')
    argv = ["--output", "runs", "--methods", "late-fusion", "modality-dropout", "--trial-seeds", "7"]
    argv += ["--write", str(target)]
    assert tune.main(argv) == 0
    tuned = json.loads(target.read_text())
    assert tuned["mfeat"] == {"pmr": {"alpha": 2}}
    assert tuned["toy.npz"]["agm"] == {"alpha": 3}
    assert tuned["toy.npz"]["late-fusion"]["lr"] in (0.0005, 0.001, 0.002)
    assert tuned["toy.npz"]["modality-dropout"]["rate"] in (0.1, 0.3, 0.9)
    assert len(list(tmp_path.glob("runs/toy.npz/runs/*/seed-7/summary.json"))) == 6
    said = capsys.readouterr().out
    monkeypatch.setattr(queue, "train_run", None)  # it would fail
    assert tune.main(argv) == 0
    assert capsys.readouterr().out == said
    assert json.loads(target.read_text()) == tuned


def test_what_was_tuned_reaches_the_runs_unless_they_say_otherwise(toy):
    tuned = {toy: {"agm": {"alpha": 2.0}, "joint": {"lr": 0.002}, "joint:fusion=memory": {"lr": 0.0005}}}
    texts = ["agm", "agm:alpha=1", "joint:fusion=memory", "joint:fusion=sum", "joint:lr=0.1", "pmr"]
    options = {variant.name: variant.options for variant in variants_for(toy, texts, tuned)}
    assert options["agm"].method == "agm:alpha=2"
    assert options["agm:alpha=1"].method == "agm:alpha=1"
    rates = [options[name].lr for name in texts[2:]]
    assert rates == [0.0005, 0.002, 0.1, 0.001]
    assert all(each.epochs == 1 for each in options.values())


def test_wrong_usage(toy, tmp_path, capsys):
    for main in (tune.main, results.main):
        assert main(["--output", "runs", "--datasets", "nowhere"]) == 2
        assert "datasets must be of toy.npz, got 'nowhere'" in capsys.readouterr().err
        with pytest.raises(SystemExit):
            main(["--output", "runs", "--jobs", "0"])
        assert "argument --jobs: invalid positive_integer value: '0'" in capsys.readouterr().err
    assert tune.main(["--output", "runs", "--methods", "nothing"]) == 2
    (tmp_path / "tuned.json").write_text("[1]")
    with pytest.raises(InputError, match=r"tuned.json must hold"):
        budgets.read_tuned(tmp_path / "tuned.json")


# --- the document ----------------------------------------------------------------------------------------------------


@pytest.fixture
def untrained(monkeypatch):
    """Outcomes by formula instead of training: variants differ, `late-fusion` fails."""

    def run_all(planned, **_):
        place = {name: k for k, name in enumerate(dict.fromkeys(run.variant for run in planned))}
        rng = np.random.default_rng(0)
        return [
            outcome_of(
                run.variant,
                run.options.seed,
                0.9 - place[run.variant] / 100 + rng.normal() / 1e5,
                0.1 + place[run.variant] / 100,
                reason="diverged" if run.variant == "late-fusion" else "",
            )
            for run in planned
        ]

    monkeypatch.setattr(results, "run_all", run_all)


def sections(text):
    return dict(re.findall(r"^##+ (.*?)\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL))


def test_the_document(toy, tmp_path, untrained, capsys):
    assert results.main(["--output", "runs", "--seeds", "3", "--write", "RESULTS.md"]) == 2
    assert "3 runs failed; RESULTS.md says which" in capsys.readouterr().err
    text = (tmp_path / "RESULTS.md").read_text()
    found = sections(text)
    assert list(found) == [
        "What was tuned",
        "All data sets",
        "With modalities missing",
        "Balance",
        "Balance and accuracy",
        "Does the order matter?",
        "toy.npz",
        "Ablations on toy.npz",
    ]
    assert "| `equilib` | 1.00 | **.900** | +2.0 (toy.npz) |" in found["All data sets"]  # joint is the third
    assert "| `joint` | 3.00 | .880 | +0.0 (toy.npz) |" in found["All data sets"]
    assert "| `late-fusion` |  | failed |  |" in found["All data sets"]
    assert re.search(r"\| toy.npz \| -(\.\d\d|1\.00) \| <.001 \| \d+ \|", found["Balance and accuracy"])
    assert len(re.findall(r"^\| toy.npz \|", found["Does the order matter?"], re.MULTILINE)) == 4
    assert "`late-fusion` seed 2 failed: diverged." in found["toy.npz"]
    shown = re.findall(r"^\| `([^`]*)`", found["Ablations on toy.npz"], re.MULTILINE)
    assert shown == [name for ours, of in results.ablations(toy, 2).items() for name in (ours, *of)]
    assert "alternating:updates-per-batch=4" in results.ablations("mfeat", 2)["alternating"]
    assert "| `equilib` |  |\n" in found["What was tuned"]
    assert "| `pmr` | .180 ± .000 |" in found["Balance"]
    assert {path.name for path in (tmp_path / "runs" / "toy.npz").iterdir()} >= {"table.md", "comparison.json"}
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1, table


def test_what_was_tuned_is_a_table_of_the_methods_alone(toy, tmp_path, untrained, monkeypatch):
    tuned = {toy: {"equilib": {"alpha": 0.3333}, "equilib:policy=random": {"alpha": 2.0}, "joint": {"lr": 0.004}}}
    monkeypatch.setattr(results, "read_tuned", lambda: tuned)
    results.main(["--output", "runs", "--seeds", "3", "--write", "RESULTS.md"])
    table = sections((tmp_path / "RESULTS.md").read_text())["What was tuned"]
    assert "| `equilib` | alpha 0.3333 |" in table
    assert "| `joint` | lr 0.004 |" in table
    assert "policy=random" not in table


def test_costs_are_relative_to_joint_training():
    found = cost.measure_costs("mfeat-small", ["equilib", "joint"], repeats=2)
    assert found["joint"].relative == 1
    assert all(each.schedule > 0 and each.seconds > 0 for each in found.values())
    head, _, *rows = cost.cost_lines(
        {"mfeat-small": {"equilib": cost.Cost(0.5, 1.25, 0.0625), "joint": found["joint"]}}
    )
    assert head == "| variant | mfeat-small |"
    assert rows[0] == "| `equilib` | 1.25 (6.2%) |"
    assert rows[-1] == f"| an epoch of `joint` | {found['joint'].seconds:.3f} s |"


def test_costs_are_measured_once(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(results, "measure_costs", lambda d, _: asked.append(d) or {"joint": cost.Cost(0.1, 1.0, 0.01)})
    for _ in range(2):
        found = results.costs_of(["mfeat", "av-digits-sum"], tmp_path / "cost.json")
        assert found == {"mfeat": {"joint": cost.Cost(0.1, 1.0, 0.01)}}
    assert asked == ["mfeat"]


def test_an_interruption_says_how_to_go_on(toy, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(results, "run_all", interrupted)
    assert results.main(["--output", "runs"]) == 130
    assert "go on by: python -m benchmarks.campaign.results --output runs" in capsys.readouterr().err
