"""`python -m equilib.compare`: what it trains, keeps and refuses, and how it ends."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
import yaml
from methods_reference import replace_start

from equilib.compare import main
from equilib.train import main as train
from equilib_torch import TrainOptions
from equilib_torch.comparison import queue
from equilib_torch.comparison.outcomes import read_outcomes
from equilib_torch.comparison.table import summarise_runs
from equilib_torch.comparison.workers import run_in_workers
from equilib_torch.data import DATASETS
from equilib_torch.data.public import PUBLIC
from equilib_torch.methods import METHODS, stateless
from equilib_torch.runs.directory import RunDirectory

N = 60
FILES = {
    "runs",
    "table.md",
    "table.csv",
    "runs.csv",
    "comparison.json",
    "accuracy_edm.png",
    "accuracy_missing.png",
    "shares.png",
}
SMALL = ["--epochs", "2", "--batch-size", "8", "--width", "16", "--device", "cpu", "--seeds", "2"]
METHOD_LIST = "joint,equilib:policy=random:memory-inherit=false,late-fusion"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    rng = np.random.default_rng(0)
    labels = np.arange(N) % 3
    path = tmp_path_factory.mktemp("data") / "toy.npz"
    split = np.array(["train"] * 36 + ["val"] * 12 + ["test"] * 12)
    a = (labels[:, None] == 0) + 0.5 * rng.standard_normal((N, 4))
    b = (labels[:, None] == 1) + 0.5 * rng.standard_normal((N, 3))
    np.savez(path, label=labels, split=split, a=a, b=b)
    return str(path)


@pytest.fixture
def command(data, capsys):
    """Run the command in this process; (exit code, output, lines on stderr but the progress bar)."""

    def run(*argv, methods=METHOD_LIST):
        code = main(["--dataset", data, *SMALL, "--methods", methods, *map(str, argv)])
        out, err = capsys.readouterr()
        return code, out, messages(err)

    return run


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A comparison that has been made; not to be changed."""
    path = tmp_path_factory.mktemp("compared") / "deep" / "comparison"
    assert main(["--dataset", data, *SMALL, "--methods", METHOD_LIST, "--output", str(path)]) == 0
    return path


@pytest.fixture
def comparison(finished, tmp_path):
    """A copy of it."""
    return shutil.copytree(finished, tmp_path / "comparison")


@pytest.fixture
def trained(monkeypatch):
    """Names of the directories of the runs that are trained from now on."""
    names, original = [], queue.train_or_say_why

    def noting(options, on_epoch):
        names.append("/".join(options.output.split("/")[-2:]))
        return original(options, on_epoch)

    monkeypatch.setattr(queue, "train_or_say_why", noting)
    return names


def messages(err):
    lines = err.replace("\r", "\n").splitlines()
    return [line for line in lines if line.strip() and not re.match(r" *\d+%( |\|)", line)]


def outputs(capsys):
    out, err = capsys.readouterr()
    return out, messages(err)


def refused(result, message):
    code, out, lines = result
    assert (code, out, len(lines)) == (2, "", 1), result
    assert lines[0].startswith("equilib.compare: error: ")
    assert re.search(message, lines[0]), lines[0]


def table(path):
    with (path / "table.csv").open() as file:
        return list(csv.DictReader(file))


def run_figures(path):
    """All figures of all runs but the times, as text."""
    with (path / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if not re.search("second|percent", k)} for row in rows]


# --- done ------------------------------------------------------------------------------------------------------------


def test_files(finished):
    assert {path.name for path in finished.iterdir()} == FILES
    assert {path.name for path in (finished / "runs").iterdir()} == {
        "joint",
        "equilib,policy=random,memory-inherit=false",
        "late-fusion",
    }
    assert {row["variant"] for row in table(finished)} == set(METHOD_LIST.split(","))
    details = json.loads((finished / "comparison.json").read_text())
    assert details["seeds"] == [0, 1]
    assert details["options"]["equilib:policy=random:memory-inherit=false"]["policy"] == "random"
    assert len(details["runs"]) == 6


def test_a_run_is_as_train_makes_it(finished, data, tmp_path):
    run = finished / "runs" / "joint" / "seed-1"
    alone = ["--dataset", data, "--method", "joint", "--seed", "1", *SMALL[:-2], "--output", str(tmp_path / "run")]
    assert train(alone) == 0
    assert {path.name for path in run.iterdir()} == {path.name for path in (tmp_path / "run").iterdir()}
    for name in ("config.yaml", "metrics.jsonl", "checkpoints/best/model.safetensors"):
        assert (run / name).read_bytes() == (tmp_path / "run" / name).read_bytes()


def test_options_reach_their_runs(finished):
    config = {path.parts[-3]: yaml.safe_load(path.read_text()) for path in finished.glob("runs/*/seed-0/config.yaml")}
    ours, joint = config["equilib,policy=random,memory-inherit=false"], config["joint"]
    assert (ours["method"], ours["policy"], ours["memory_inherit"]) == ("equilib", "random", False)
    assert (joint["method"], joint["policy"], joint["memory_inherit"]) == ("joint", "weak-to-strong", True)
    assert all(found["width"] == 16 and found["epochs"] == 2 for found in config.values())


@pytest.mark.slow
def test_the_table_is_printed_without_a_directory(command, finished):
    code, out, lines = command()
    assert (code, lines) == (0, [])
    shown = re.compile(r"(`[^`]*` \| [^|]* \| [^|]* )\|")  # variant, accuracy, macro-F1: no times
    assert shown.findall(out) == shown.findall((finished / "table.md").read_text())
    assert len(shown.findall(out)) == 3


def test_the_table_follows_from_the_directory_alone(finished):
    found = summarise_runs(read_outcomes(finished))
    assert [row.variant for row in found.rows] == [row["variant"] for row in table(finished)]
    assert [repr(row.mean("accuracy")) for row in found.rows] == [row["accuracy_mean"] for row in table(finished)]


@pytest.mark.parametrize(("what", "known"), [("datasets", {**DATASETS, **PUBLIC}), ("methods", METHODS)])
def test_list(capsys, what, known):
    assert main(["--list", what]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line[0] != " "] == list(known)


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    out = capsys.readouterr().out
    assert stop.value.code == 0
    for name in ({*vars(TrainOptions())} - {"method", "seed"}) | {"methods", "seeds", "jobs"}:
        assert f"--{name.replace('_', '-')}" in out
    assert all(f"--{name} " not in out for name in ("method", "seed"))
    assert "every method and joint:fusion=memory" in " ".join(out.split())


@pytest.mark.slow
def test_a_configuration_can_say_all(command, data, tmp_path):
    (tmp_path / "c.yaml").write_text(
        f"methods: joint\nseeds: 1\nepochs: 1\nwidth: 16\ndataset: {data}\nbatch_size: 8\n"
    )
    assert main(["--config", str(tmp_path / "c.yaml"), "--output", str(tmp_path / "out")]) == 0
    assert [row["variant"] for row in table(tmp_path / "out")] == ["joint"]


# --- resumed ---------------------------------------------------------------------------------------------------------


def test_the_second_time_trains_nothing_and_says_the_same(command, comparison, trained):
    before = {path: path.read_bytes() for path in comparison.rglob("*") if path.is_file()}
    assert command("--output", comparison)[0] == 0
    assert trained == []
    after = {path: path.read_bytes() for path in comparison.rglob("*") if path.is_file()}
    assert {str(path) for path in before if before[path] != after[path]} == set()
    assert after.keys() == before.keys()


def test_a_run_that_was_stopped_is_started_over(command, comparison, trained):
    run = comparison / "runs" / "joint" / "seed-1"
    whole = (run / "metrics.jsonl").read_bytes()
    figures = run_figures(comparison)
    (run / "summary.json").unlink()
    (run / "metrics.jsonl").write_bytes(whole[:20])
    (run / "checkpoints" / "best" / ".tmp-left").write_bytes(b"")
    assert command("--output", comparison)[0] == 0
    assert trained == ["joint/seed-1"]
    assert (run / "metrics.jsonl").read_bytes() == whole
    assert not (run / "checkpoints" / "best" / ".tmp-left").exists()
    assert run_figures(comparison) == figures


@pytest.mark.slow
def test_seeds_and_variants_can_be_added(command, comparison, trained):
    assert command("--output", comparison, "--seeds", "3", methods="pmr,joint")[0] == 0
    # All variants of one seed come one after the other.
    assert trained == ["pmr/seed-0", "pmr/seed-1", "pmr/seed-2", "joint/seed-2"]
    assert sorted(row["variant"] for row in table(comparison)) == ["joint", "pmr"]


@pytest.mark.slow
def test_runs_with_other_options_are_refused(command, comparison, trained):
    refused(command("--output", comparison, "--lr", "0.1"), r"joint/seed-0' holds .* another lr: 0.003, not 0.1;")
    config = comparison / "runs" / "late-fusion" / "seed-1" / "config.yaml"
    config.write_text(config.read_text() + "age: 3\n")
    refused(command("--output", comparison), "late-fusion/seed-1' holds a run with another age: 3, not 'nothing'")
    config.write_text("[1")
    refused(command("--output", comparison), "config.yaml' is damaged .*; remove the directory .*seed-1'")
    config.unlink()
    refused(command("--output", comparison), "config.yaml' is damaged")
    assert trained == []


DAMAGES = {
    "cut": ("summary.json", lambda text: text[:50]),
    "empty": ("summary.json", lambda text: ""),
    "no mapping": ("summary.json", lambda text: "[]"),
    "keys missing": (
        "summary.json",
        lambda text: json.dumps({"seed": 1, "fingerprint": json.loads(text)["fingerprint"]}),
    ),
    "another type": ("summary.json", lambda text: text.replace('"edm": ', '"edm": null, "was": ')),
    "not finite": ("summary.json", lambda text: text.replace('"edm": ', '"edm": NaN, "was": ')),
    "metrics cut": ("metrics.jsonl", lambda text: text[:-9]),
    "metrics empty": ("metrics.jsonl", lambda text: ""),
    "metrics of others": ("metrics.jsonl", lambda text: text.replace('"shares"', '"parts"')),
}


@pytest.mark.parametrize(("name", "damage"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_files_are_named_before_anything_is_trained(command, comparison, trained, name, damage):
    path = comparison / "runs" / "joint" / "seed-1" / name
    path.write_text(damage(path.read_text()))
    refused(command("--output", comparison, "--seeds", "3"), f"{name}' is damaged .*; remove the directory .*seed-1'")
    assert trained == []


@pytest.mark.slow
def test_runs_on_other_data_are_refused(data, comparison, trained, capsys, tmp_path):
    """The path and every option are the same; only what the file holds has changed."""
    with np.load(data) as file:
        arrays = {key: file[key] for key in file.files}
    argv = [*SMALL, "--methods", "joint", "--seeds", "2", "--output", str(tmp_path / "out"), "--dataset"]
    mine = str(tmp_path / "mine.npz")
    np.savez(mine, **arrays)
    assert main([*argv, mine]) == 0
    trained.clear()
    renamed = {{"b": "c"}.get(key, key): array for key, array in arrays.items()}
    for other in (renamed, arrays | {"a": arrays["a"] + 1}, arrays | {"split": arrays["split"][::-1]}):
        np.savez(mine, **other)
        capsys.readouterr()
        refused((main([*argv, mine, "--seeds", "3"]), *outputs(capsys)), "holds a run on other data: .*mine.npz")
    np.savez(mine, **arrays)
    assert main([*argv, mine, "--seeds", "3"]) == 0
    assert trained == ["joint/seed-2"]


def test_what_is_being_written_is_refused_at_once_and_kept(command, comparison, trained):
    before = {path: path.read_bytes() for path in comparison.rglob("*") if path.is_file()}
    with queue.open_comparison(comparison):
        refused(command("--output", comparison, "--seeds", "3"), "is being written by another command; wait")
    running = comparison / "runs" / "joint" / "seed-2"
    directory = RunDirectory.create(running)  # as `train --output` does
    refused(command("--output", comparison, "--seeds", "3"), "seed-2' is being written by another command")
    directory.close()
    (running / "notes.txt").write_text("mine")
    refused(command("--output", comparison, "--seeds", "3"), "'notes.txt', which no run writes; move it")
    assert trained == []
    after = {path: path.read_bytes() for path in comparison.rglob("*") if path.is_file()}
    assert after == before | {running / "metrics.jsonl": b"", running / "notes.txt": b"mine"}


# --- what cannot be shown --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_narrow_standard_output_gets_the_whole_table(data, comparison, monkeypatch, encoding):
    out = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr("sys.stdout", out)
    assert main(["--dataset", data, *SMALL, "--methods", METHOD_LIST, "--output", str(comparison)]) == 0
    text = out.buffer.getvalue().decode(encoding)
    assert "Spearman's \\u03c1 of EDM" in text
    assert f"Written to {comparison}" in text


def test_plots_that_fail_cost_a_warning(command, comparison, monkeypatch):
    def broken(*_):
        raise ImportError("no display")

    monkeypatch.setattr("equilib_torch.comparison.report.shares_png", broken)
    (comparison / "shares.png").unlink()
    code, _, lines = command("--output", comparison)
    assert (code, lines) == (0, ["equilib: warning: no shares.png: ImportError: no display"])
    assert {path.name for path in comparison.iterdir()} == FILES - {"shares.png"}


# --- wrong usage -----------------------------------------------------------------------------------------------------

USAGE = [
    (["--methods", "mlaa"], "methods must be one of equilib, .*, got 'mlaa'"),
    (["--methods", ""], "methods must be one of .*, got ''"),
    (["--methods", "joint,"], "methods must be one of .*, got ''"),
    (["--methods", "joint,pmr,joint"], "methods must name every variant once, got 'joint' twice"),
    (["--methods", "joint:colour=red"], "variant 'joint:colour=red' may set .*, got 'colour'"),
    (["--methods", "joint:lr=much"], "variant 'joint:lr=much': .*lr.*much"),
    (["--methods", "mla:alpha=0"], "variant 'mla:alpha=0': method mla: alpha must be a number above 0, got 0"),
    (["--methods", "joint:encoder=z=mlp"], "toy has no modality 'z'"),
    (["--methods", "joint:encoder=--seed"], "encoder"),
    (["--method", "joint"], "method"),
    (["--seed", "1"], "unrecognized arguments: --seed 1"),
    (["--seeds", "0"], "seeds must be at least 1, got 0"),
    (["--seeds", "few"], "seeds.*few"),
    (["--jobs", "0"], "jobs must be at least 1, got 0"),
    (["--epochs", "0"], "epochs must be at least 1, got 0"),
    (["--batch-size", "37"], "batch-size must be at most the 36 training samples"),
    (["--dataset", "nowhere"], "dataset: must be one of"),
    (["--precision", "fp16"], "precision must suit the device"),
    (["--backend", "jax"], "backend must be one of"),
    (["--bogus"], "unrecognized arguments: --bogus"),
]


@pytest.mark.parametrize(("argv", "message"), USAGE, ids=[" ".join(argv) for argv, _ in USAGE])
def test_wrong_usage_trains_nothing(command, trained, argv, message, tmp_path):
    refused(command("--output", tmp_path / "out", *argv), message)
    assert trained == []
    assert not list(tmp_path.glob("out/runs/*"))


def test_directories_that_are_no_comparison(command, tmp_path):
    (tmp_path / "file").touch()
    refused(command("--output", tmp_path / "file"), "output must be .*, got the file")
    refused(command("--output", tmp_path), "output must be a new or empty directory, or a comparison's, .* not empty")
    refused(command("--output", "a\0b"), "output must be a new or empty directory, or a comparison's, got")


# --- failing, interrupted --------------------------------------------------------------------------------------------


def test_a_failing_run_does_not_lose_the_others(command, tmp_path):
    code, out, lines = command("--output", tmp_path / "out", methods="joint:lr=1e30,late-fusion")
    assert (code, len(lines)) == (2, 1)
    assert re.search("2 of 4 runs failed, the first: training diverged in epoch 1", lines[0])
    assert "| `joint:lr=1e30` (2 of 2 failed) | failed |" in out
    assert "`joint:lr=1e30` seed 1 failed: training diverged" in (tmp_path / "out" / "table.md").read_text()
    assert [row["n_failed"] for row in table(tmp_path / "out")] == ["0", "2"]


def test_when_all_fail_there_is_no_table(command, tmp_path):
    refused(command("--output", tmp_path / "out", methods="joint:lr=1e30"), "all 2 runs failed, .* diverged in epoch 1")


def test_a_fault_of_a_method_is_a_failed_run(command, monkeypatch):
    def broken(network, batch, plan, step):
        raise RuntimeError("out of\nmemory")

    replace_start(monkeypatch, "joint", stateless(broken))
    code, out, lines = command(methods="joint,late-fusion")
    assert (code, len(lines)) == (2, 1)
    assert "`joint` seed 0 failed: RuntimeError: out of memory." in out


@pytest.mark.parametrize("output", [True, False])
def test_an_interruption_keeps_what_is_finished(command, tmp_path, monkeypatch, trained, output):
    def interrupted(network, batch, plan, step):
        raise KeyboardInterrupt

    argv = ["--output", tmp_path / "out put"] if output else []
    with monkeypatch.context() as patch:
        replace_start(patch, "pmr", lambda setting, *, alpha: stateless(interrupted)(setting))
        code, out, lines = command(*argv, methods="joint,pmr")
    assert (code, out, len(lines)) == (130, "", 1)
    if output:
        assert "interrupted; 1 of 4 runs are finished; go on by: python -m equilib.compare --dataset" in lines[0]
        assert lines[0].endswith("out put'")
        trained.clear()
        assert command(*argv, methods="joint,pmr")[0] == 0
        assert trained == ["pmr/seed-0", "joint/seed-1", "pmr/seed-1"]
    else:
        assert lines == ["equilib.compare: interrupted"]


# --- several processes -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_find_what_one_does(command, finished, tmp_path):
    ours = METHOD_LIST.split(",")[1]
    methods = f"{ours},joint:lr=1e30"
    code, _, lines = command("--output", tmp_path / "out", "--jobs", "2", methods=methods)
    assert (code, len(lines)) == (2, 1)  # one of the variants fails
    expected = [row for row in run_figures(finished) if row["variant"] == ours]
    assert [row for row in run_figures(tmp_path / "out") if not row["failed"]] == expected
    assert sum(row["failed"].startswith("training diverged") for row in run_figures(tmp_path / "out")) == 2


def test_a_process_that_dies_is_a_failed_run(capfd):
    told = []
    # os._exit takes no second argument: the process ends by an error that nothing catches.
    run_in_workers(os._exit, ["one", "two", "three"], 2, lambda run, reason: told.append((run, reason)))
    assert sorted(told) == [(run, "its process ended with exit code 1") for run in ("one", "three", "two")]


def gone(group):
    """Whether all processes of a group end soon; the last is a helper of Python's own, which watches the others."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
def test_a_real_interruption_leaves_no_process(data, tmp_path):
    argv = ["--dataset", data, *SMALL, "--epochs", "100000", "--jobs", "2", "--output", str(tmp_path / "out")]
    child = subprocess.Popen(
        [sys.executable, "-m", "equilib.compare", *argv, "--methods", "joint,late-fusion"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a Ctrl-C goes to all processes of a terminal's foreground
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # what runs in the background ignores it
    )
    try:
        for _ in range(1200):
            if len(list(tmp_path.glob("out/runs/*/*/metrics.jsonl"))) == 2 or child.poll() is not None:
                break
            time.sleep(0.1)
        os.killpg(child.pid, signal.SIGINT)
        out, err = child.communicate(timeout=60)
        assert gone(child.pid)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    assert (child.returncode, out) == (130, "")
    assert [line[:61] for line in messages(err)] == ["equilib.compare: interrupted; 0 of 4 runs are finished; go on"]
