"""The files of a run, and what they say."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
import yaml

from equilib import expected_when_missing, shapley_values
from equilib.train import main
from equilib_torch import InputError, MultimodalClassifier, TrainOptions, fit, load_dataset, summarise
from equilib_torch.files import write_atomically
from equilib_torch.runs.directory import RunDirectory

FILES = {"config.yaml", "metrics.jsonl", "checkpoints", "balance.png", "summary.json"}
OPTIONS = ["--epochs", "3", "--batch-size", "16", "--width", "16", "--seed", "5", "--device", "cpu"]
METHOD = "equilib:updates-per-batch=4"


def command(*argv):
    return main([str(item) for item in argv])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A file with three modalities, string labels, lengths and absent rows."""
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 4
    path = tmp_path_factory.mktemp("data") / "insects.npz"
    np.savez(
        path,
        label=np.array(["ant", "bee", "fly", "wasp"])[labels],
        photo=(labels[:, None, None] * 60 + rng.integers(0, 40, (80, 8, 8))).astype(np.uint8),
        sound=labels[:, None, None] % 2 + 0.5 * rng.standard_normal((80, 6, 3)),
        sound_length=rng.integers(1, 7, 80),
        size=labels[:, None] // 2 + 0.5 * rng.standard_normal((80, 2)),
        size_present=rng.random(80) < 0.7,
    )
    return path


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "deep" / "run"
    assert command("--dataset", data, *OPTIONS, "--method", METHOD, "--output", path) == 0
    return path


@pytest.fixture(scope="module")
def summary(run):
    return json.loads((run / "summary.json").read_text())


def lines(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


# --- files -----------------------------------------------------------------------------------------------------------


def test_files(run):
    assert {path.name for path in run.iterdir()} == FILES
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert files - FILES == {"checkpoints/best/config.json", "checkpoints/best/model.safetensors"}
    assert (run / "balance.png").read_bytes().startswith(b"\x89PNG")


def test_a_line_per_epoch(run, summary):
    records = lines(run)
    assert [record["epoch"] for record in records] == [1, 2, 3]
    scores = [(record["accuracy"], record["log_likelihood"]) for record in records]
    assert summary["best_epoch"] == 1 + scores.index(max(scores))


def test_the_configuration_gives_the_same_run(run, tmp_path):
    settings = yaml.safe_load((run / "config.yaml").read_text())
    assert set(settings) == set(vars(TrainOptions())) - {"output"} | {"fingerprint"}
    assert (settings["seed"], settings["method"], settings["fusion"]) == (5, METHOD, None)
    assert command("--config", run / "config.yaml", "--output", tmp_path / "again") == 0
    assert (tmp_path / "again" / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()
    assert (tmp_path / "again" / "config.yaml").read_bytes() == (run / "config.yaml").read_bytes()
    model = "checkpoints/best/model.safetensors"
    assert (tmp_path / "again" / model).read_bytes() == (run / model).read_bytes()


def test_the_best_model_predicts_as_the_summary_says(run, data, summary):
    classifier = MultimodalClassifier.from_pretrained(run)
    assert classifier.classes_.tolist() == ["ant", "bee", "fly", "wasp"]
    with np.load(data) as file:
        arrays = {key: file[key] for key in file.files}
    labels = arrays.pop("label")
    rows = load_dataset(str(data), seed=5).splits["test"]
    test = {key: array[rows] for key, array in arrays.items()}
    assert classifier.score(test, labels[rows]) == pytest.approx(summary["test_accuracy"])
    # Absent modalities: those who lack it too are counted, with the most frequent class.
    photo = {"photo": test["photo"]}
    assert classifier.score(photo, labels[rows]) == pytest.approx(summary["unimodal_accuracy"]["photo"])


# --- summary.json ----------------------------------------------------------------------------------------------------

NAMES = ["photo", "sound", "size"]
COALITIONS = ["photo", "sound", "photo+sound", "size", "photo+size", "sound+size", "photo+sound+size"]


def test_every_key_has_its_type(summary):
    numbers = {"test_accuracy", "test_macro_f1", "majority_accuracy", "edm", "samples_per_second"}
    for key in numbers:
        assert type(summary[key]) is float
    for key in ("seed", "n_train", "n_val", "n_test", "epochs", "best_epoch"):
        assert type(summary[key]) is int
    known = {key: summary[key] for key in ("backend", "dataset", "method", "fusion", "seed", "epochs", "value")}
    assert known == {
        "backend": "torch",
        "dataset": "insects",
        "method": "equilib",
        "fusion": "memory",
        "seed": 5,
        "epochs": 3,
        "value": "accuracy",
    }
    assert summary["modalities"] == NAMES
    assert (summary["n_train"], summary["n_val"], summary["n_test"]) == (54, 10, 16)
    assert list(summary["unimodal_accuracy"]) == list(summary["shapley"]) == list(summary["shares"]) == NAMES
    assert list(summary["coalition_accuracy"]) == COALITIONS
    assert list(summary["missing_modality"]) == ["0.3", "0.5", "0.7"]
    assert set(summary["seconds"]) == {"total", "train", "schedule", "evaluate"}
    assert {"equilib-multimodal", "torch", "numpy", "python"} <= set(summary["versions"])
    assert all(re.match(r"\d+\.", version) for version in summary["versions"].values())


def test_the_numbers_agree_with_each_other(summary):
    coalition = summary["coalition_accuracy"]
    table = [summary["majority_accuracy"], *coalition.values()]
    assert summary["test_accuracy"] == coalition["photo+sound+size"]
    assert summary["unimodal_accuracy"] == {name: coalition[name] for name in NAMES}
    assert list(summary["shapley"].values()) == pytest.approx(shapley_values(table).tolist())
    assert sum(summary["shapley"].values()) == pytest.approx(table[-1] - table[0])
    assert sum(summary["shares"].values()) == pytest.approx(1)
    assert min(summary["shares"].values()) >= 0
    assert summary["edm"] == pytest.approx(sum(abs(1 / 3 - share) for share in summary["shares"].values()))
    ranked = [summary["shapley"][name] for name in summary["schedule"]]
    assert sorted(summary["schedule"]) == sorted(NAMES)
    assert ranked == sorted(ranked)
    for rate, accuracy in summary["missing_modality"].items():
        assert accuracy == pytest.approx(float(expected_when_missing(table, float(rate))))
    seconds = summary["seconds"]
    assert all(value > 0 for value in seconds.values())
    assert seconds["train"] + seconds["schedule"] + seconds["evaluate"] <= seconds["total"]
    assert summary["samples_per_second"] == pytest.approx(3 * summary["n_train"] / seconds["train"])


def test_macro_f1_by_hand(make_dataset, make_options):
    run = fit(make_options(epochs=1), make_dataset(2))
    run = run._replace(test=run.test._replace(labels=np.array([0, 0, 1, 2]), predictions=np.array([0, 1, 1, 1])))
    # F1: class 0 has precision 1, recall 1/2; class 1 precision 1/3, recall 1; class 2 is never predicted.
    assert summarise(run, seconds_total=1.0)["test_macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)


def test_values_other_than_accuracy_are_those_of_the_shapley_values(make_dataset, make_options):
    run = fit(make_options(epochs=1, coalition_value="log-likelihood"), make_dataset(2))
    summary = summarise(run, seconds_total=1.0)
    assert sum(summary["shapley"].values()) == pytest.approx(run.test.values[-1] - run.test.values[0])
    assert summary["test_accuracy"] == run.test.accuracies[-1]
    assert summary["value"] == "log-likelihood"


# --- where to write --------------------------------------------------------------------------------------------------


def test_a_directory_that_is_not_empty_is_refused_and_kept(run, data, capsys):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert command("--dataset", data, *OPTIONS, "--output", run) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"equilib.train: error: output must be a new or empty directory, {str(run)!r} is not empty; "
        "take another or remove this one"
    ]
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_an_output_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below", "a\0b"):
        with pytest.raises(InputError, match="output must be a new or empty directory"):
            RunDirectory.create(path)
    assert (tmp_path / "file").read_text() == "mine"


def test_an_empty_directory_will_do(data, tmp_path):
    assert command("--dataset", data, *OPTIONS, "--epochs", "1", "--output", tmp_path) == 0
    assert {path.name for path in tmp_path.iterdir()} == FILES


def test_without_output_nothing_is_written(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command("--dataset", data, *OPTIONS, "--epochs", "1") == 0
    assert list(tmp_path.iterdir()) == []


def test_bad_input_leaves_no_directory(data, tmp_path):
    for argv in (["--epochs", "0"], ["--dataset", "nowhere.npz"]):
        assert command("--dataset", data, "--output", tmp_path / "new", *argv) == 2
        assert not (tmp_path / "new").exists()


def test_a_run_that_could_not_start_does_not_block_its_directory(data, tmp_path):
    """The same command with the mistake corrected is expected to work."""
    argv = ["--dataset", data, *OPTIONS, "--epochs", "1", "--output", tmp_path / "run"]
    assert command(*argv, "--batch-size", "5000") == 2
    assert command(*argv, "--encoder", "nothing=mlp") == 2
    assert command(*argv) == 0


def test_a_disk_that_fails_is_one_line(data, tmp_path, capsys, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("equilib_torch.classifier.write_atomically", full)
    assert command("--dataset", data, *OPTIONS, "--output", tmp_path / "run") == 2
    assert "equilib.train: error: cannot read or write: [Errno 28] No space left on device" in capsys.readouterr().err
    assert not (tmp_path / "run" / "summary.json").exists()


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    monkeypatch.setattr("os.fsync", lambda descriptor: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_names_of_modalities_are_only_text(make_dataset, make_options, tmp_path):
    """No name is a path, a format or a formula where it is written."""
    dataset = make_dataset(2, names=["../../x", "$\\frac{$<b>%s{0}"])
    directory = RunDirectory.create(tmp_path / "run")
    run = fit(make_options(epochs=1), dataset, on_epoch=directory.add_epoch)
    directory.write_results(summarise(run, seconds_total=1.0), run.history, run.network)
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["modalities"] == list(dataset.names)
    assert MultimodalClassifier.from_pretrained(tmp_path / "run").modalities_ == dataset.names


def test_of_two_runs_that_start_at_once_one_gets_the_directory(tmp_path):
    first = RunDirectory.create(tmp_path / "run")
    with pytest.raises(InputError, match="is being written by another command"):
        RunDirectory.create(tmp_path / "run")
    first.close()
    with pytest.raises(InputError, match="is not empty"):
        RunDirectory.create(tmp_path / "run")


def test_a_config_serves_from_another_directory(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command("--config", run / "config.yaml", "--epochs", "1") == 0


def test_the_fingerprint_is_that_of_the_data(run, data, summary):
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["fingerprint"] == summary["fingerprint"] == load_dataset(str(data), seed=0).fingerprint


# --- what cannot be shown --------------------------------------------------------------------------------------------


class Refusing(io.StringIO):
    """A stream that refuses whatever is written, as a full device or a pipe without a reader does."""

    def write(self, text):
        raise OSError(28, "No space left on device")


def narrow(encoding):
    return io.TextIOWrapper(io.BytesIO(), encoding)


@pytest.mark.parametrize("out", [Refusing(), narrow("ascii"), None], ids=["full", "ascii", "closed"])
def test_standard_output_costs_no_run(out, tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "ρ.npz", label=np.arange(60) % 3, **{"😀": rng.normal(size=(60, 2)), "b": np.ones((60, 2))})
    monkeypatch.setattr("sys.stdout", out)
    argv = ["--dataset", tmp_path / "ρ.npz", *OPTIONS, "--epochs", "1", "--output", tmp_path / "run"]
    assert command(*argv) == 0
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    if isinstance(out, io.TextIOWrapper):
        assert b"\\U0001f600" in out.buffer.getvalue()
    else:
        assert "equilib: warning: standard output: " in capsys.readouterr().err


@pytest.mark.parametrize("err", [Refusing(), narrow("ascii"), None], ids=["full", "ascii", "closed"])
def test_standard_error_costs_no_run(err, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr", err)
    assert command("--dataset", data, *OPTIONS, "--epochs", "1", "--output", tmp_path / "run") == 0
    assert (tmp_path / "run" / "summary.json").is_file()
    assert command("--dataset", data, "--epochs", "0") == 2
    assert "must be at least" not in capsys.readouterr().out  # what is meant for a closed stream goes nowhere else


def test_a_plot_that_fails_costs_a_warning(data, tmp_path, monkeypatch, capsys):
    def broken(history):
        raise RuntimeError("no fonts")

    monkeypatch.setattr("equilib_torch.runs.directory.balance_png", broken)
    assert command("--dataset", data, *OPTIONS, "--epochs", "1", "--output", tmp_path / "run") == 0
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES - {"balance.png"}
    assert "equilib: warning: no balance.png: RuntimeError: no fonts" in capsys.readouterr().err


def test_results_that_cannot_be_written_are_printed(data, tmp_path, monkeypatch, capsys):
    def full(path, content):
        if path.name == "summary.json":
            raise OSError(28, "No space left on device")
        write_atomically(path, content)

    monkeypatch.setattr("equilib_torch.runs.directory.write_atomically", full)
    assert command("--dataset", data, *OPTIONS, "--epochs", "1", "--output", tmp_path / "run") == 2
    out, err = capsys.readouterr()
    assert "test accuracy" in out
    assert "No space left on device" in err


@pytest.mark.slow
def test_a_real_run_without_streams_under_a_notebook_backend(data, tmp_path):
    """Descriptor 2 is closed, so that a file of the run could be mistaken for it; what 1 leads to is full."""
    argv = ["--dataset", str(data), *OPTIONS, "--epochs", "1", "--output", str(tmp_path / "run")]
    script = f"exec {shlex.join([sys.executable, '-m', 'equilib.train', *argv])} >/dev/full 2>&-"
    env = {**os.environ, "MPLBACKEND": "module://not.installed", "OMP_NUM_THREADS": "1"}
    assert subprocess.run(["/bin/sh", "-c", script], env=env, check=False).returncode == 0
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    assert len(lines(tmp_path / "run")) == 1
