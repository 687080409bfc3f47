"""`python -m equilib.train`: what it prints, what it refuses, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import yaml

import equilib
from equilib import _commands
from equilib.train import main
from equilib_torch import TrainOptions, runs
from equilib_torch.data import DATASETS
from equilib_torch.data.public import PUBLIC
from equilib_torch.methods import METHODS
from equilib_torch.methods.base import stateless
from equilib_torch.network import ENCODERS, FUSIONS
from equilib_torch.training.evaluation import VALUES
from equilib_torch.training.options import GROUPS

N = 60


def arrays(**changes):
    rng = np.random.default_rng(0)
    labels = np.arange(N) % 3
    split = np.array(["train"] * 36 + ["val"] * 12 + ["test"] * 12)
    a = (labels[:, None] == 0) + 0.3 * rng.standard_normal((N, 4))
    b = (labels[:, None] == 1) + 0.3 * rng.standard_normal((N, 3))
    found = {"label": labels, "split": split, "a": a, "b": b, **changes}
    return {key: value for key, value in found.items() if value is not None}


@pytest.fixture
def save(tmp_path):
    def write(name="toy.npz", **changes):
        np.savez(tmp_path / name, **arrays(**changes))
        return str(tmp_path / name)

    return write


@pytest.fixture
def command(save, capsys):
    """Run the command in this process on a tiny data set; (exit code, output, lines on stderr but the progress)."""

    def run(*argv, dataset=None):
        small = ["--dataset", dataset or save(), "--epochs", "1", "--batch-size", "8", "--width", "16"]
        code = main([*small, *map(str, argv)])
        out, err = capsys.readouterr()
        return code, out, messages(err)

    return run


def messages(err):
    """Lines on standard error, without those of the progress."""
    return [line for line in err.splitlines() if not re.match(r" *\d+%  epoch ", line)]


def refused(result, message):
    """Exit code 2, nothing on standard output, and one line that says why."""
    code, out, lines = result
    assert (code, out, len(lines)) == (2, "", 1), result
    assert lines[0].startswith("equilib.train: error: ")
    assert re.search(message, lines[0]), lines[0]


# --- done ------------------------------------------------------------------------------------------------------------


def test_it_ends_with_a_summary(command):
    code, out, lines = command("--method", "joint", "--fusion", "sum", "--seed", "7")
    assert (code, lines) == (0, [])
    first, *rest = out.splitlines()
    assert re.fullmatch(
        r"joint \(sum fusion\) on toy, seed 7: test accuracy [01]\.\d{3}, macro-F1 [01]\.\d{3} \(epoch 1\)", first
    )
    assert any(line.split()[:1] == ["a"] for line in rest)
    assert any("EDM" in line for line in rest)
    assert 5 <= len(rest) <= 10


def test_options_reach_the_run(command, monkeypatch):
    requests = []

    def stop(options, dataset, **_):
        requests.append((options, dataset.name))
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.train, "fit", stop)
    argv = (
        "--encoder a=mlp b=mlp --policy random --coalition-value probability --shapley-smoothing 0.5 --lr 0.01 "
        "--method equilib:updates-per-batch=5:own=false --memory-inherit false --memory-mapping both"
    )
    assert command(*argv.split())[0] == 130
    options, name = requests[0]
    assert name == "toy"
    assert options.encoders == {"a": "mlp", "b": "mlp"}
    expected = {"rule": "alternating", "coalitions": True, "own": False, "updates_per_batch": 5}
    assert options.parameters == expected
    expected = {
        **{"policy": "random", "coalition_value": "probability", "shapley_smoothing": 0.5, "lr": 0.01, "width": 16},
        **{"memory_inherit": False, "memory_mapping": "both", "fusion": None, "batch_size": 8, "epochs": 1},
    }
    assert {key: getattr(options, key) for key in expected} == expected


def test_quiet_leaves_where_it_was_written(command, tmp_path):
    assert command("--quiet") == (0, "", [])
    code, out, lines = command("--quiet", "--output", tmp_path / "run")
    assert (code, lines) == (0, [])
    assert out.split() == ["written", "to", str(tmp_path / "run")]


KNOWN = {
    "backends": ["torch"],
    "datasets": {**DATASETS, **PUBLIC},
    "methods": METHODS,
    "fusions": FUSIONS,
    "encoders": ENCODERS,
    "values": VALUES,
    "estimators": equilib.estimators.ESTIMATORS,
}


@pytest.mark.parametrize("what", KNOWN)
def test_list(capsys, what):
    assert main(["--list", what]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines() if line[0] != " "] == list(KNOWN[what])
    assert err == ""


def test_every_kind_is_listed():
    assert set(KNOWN) == set(_commands._LISTS)


@pytest.mark.parametrize("registry", [DATASETS, PUBLIC, METHODS, FUSIONS, ENCODERS, VALUES])
def test_every_entry_is_described_in_one_line(registry):
    assert list(registry) == [entry.name for entry in registry.values()]
    assert all(re.fullmatch(r"\S.{9,}", text) for text in registry.descriptions().values())


def test_methods_are_listed_with_their_parameters(capsys):
    main(["--list", "methods"])
    blocks = re.split(r"\n(?=\S)", capsys.readouterr().out.rstrip())
    for method, block in zip(METHODS.values(), blocks, strict=True):
        lines = [line.strip() for line in block.splitlines()[1:]]
        assert len(lines) == len(method.parameters)
        for parameter, line in zip(method.parameters, lines, strict=True):
            assert line.startswith(f"{parameter.written}={parameter.rule}")
            assert (f"(default: {parameter.default})" in line) == (parameter.default is not None)


def help_text(capsys, command="train"):
    with pytest.raises(SystemExit) as stop:
        _commands.main([command, "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_help_shows_every_option_in_its_group(capsys):
    _, *groups = re.split(rf"\n({'|'.join(GROUPS)}):\n", help_text(capsys))
    assert groups[::2] == list(GROUPS)
    for options, text in zip(GROUPS.values(), groups[1::2], strict=True):
        flags = re.findall(r"^  --([a-z-]+)", text, re.MULTILINE)
        assert flags == [name.replace("_", "-") for name in options.__dataclass_fields__]


@pytest.mark.parametrize("command", ["train", "compare"])
def test_help_says_what_is_known(capsys, command):
    text = "".join(help_text(capsys, command).split())
    for registry in ((*DATASETS, *PUBLIC), METHODS if command == "train" else (), FUSIONS, ENCODERS, VALUES):
        assert ",".join(registry) in text
    assert "--list" in text
    assert "--quiet" in text


# --- the command equilib ---------------------------------------------------------------------------------------------


def test_the_command_names_its_commands(capsys):
    for argv in ([], ["--help"], ["-h"]):
        assert _commands.main(argv) == 0
        assert {"train", "compare", "prepare"} <= set(capsys.readouterr().out.split())
    assert _commands.main(["--version"]) == 0
    assert capsys.readouterr().out == f"equilib {equilib.__version__}\n"
    assert _commands.main(["tarin"]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert "the command must be one of train, compare, prepare, --help, --version, got 'tarin'" in err


def test_the_command_is_the_module(capsys):
    for name in ("fusions", "backends"):
        assert _commands.main(["train", "--list", name]) == main(["--list", name]) == 0
        first, second = np.array_split(capsys.readouterr().out.splitlines(), 2)
        assert first.tolist() == second.tolist()


# --- configurations --------------------------------------------------------------------------------------------------


OLD = [
    ("--strength 0.5 --method ogm-ge", "--strength is now a parameter of the method: --method ogm-ge:alpha=0.5$"),
    ("--method=modality-dropout --strength=0.5", "--method modality-dropout:rate=0.5$"),
    ("--strength 2 --method pmr", "--method pmr:alpha=2$"),
    ("--strength 2", "equilib has none like it: leave it out"),
    ("--strength 2 --method joint", "--strength is now a parameter of the method, and joint has none like it"),
    ("--value probability", "--value is now --coalition-value$"),
    ("--mapping both --inherit false", "--mapping is now --memory-mapping; --inherit is now --memory-inherit$"),
    ("--smoothing=0.5", "--smoothing is now --shapley-smoothing$"),
]


@pytest.mark.parametrize(("argv", "message"), OLD)
def test_old_spellings_are_answered_with_the_new_one(command, argv, message):
    refused(command(*argv.split()), message)


def test_a_configuration_of_0_1_0_is_answered_with_the_new_spellings(command, tmp_path):
    old = {"method": "pmr", "strength": 2.0, "updates": None, "value": "accuracy", "smoothing": 0.0}
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(old, sort_keys=False))
    refused(
        command("--config", tmp_path / "old.yaml"),
        "strength is now a parameter of the method: method: pmr:alpha=2.0; "
        "value is now coalition_value; smoothing is now shapley_smoothing$",
    )


def test_a_printed_configuration_can_be_read_again(command, capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        command("--method", "joint", "--encoder", "a=mlp", "--print-config")
    printed = capsys.readouterr().out
    assert stop.value.code == 0
    assert yaml.safe_load(printed)["method"] == "joint"
    assert set(yaml.safe_load(printed)) == {*vars(TrainOptions()), "quiet"}
    (tmp_path / "printed.yaml").write_text(printed)
    code, out, _ = command("--config", tmp_path / "printed.yaml")
    assert (code, out.split()[0]) == (0, "joint")


def test_what_comes_later_wins(command, tmp_path):
    (tmp_path / "seed.yaml").write_text("seed: 3\nmethod: joint\n")
    assert "joint (concat fusion) on toy, seed 3" in command("--config", tmp_path / "seed.yaml")[1]
    assert "seed 4" in command("--config", tmp_path / "seed.yaml", "--seed", "4")[1]


HOSTILE = {
    "malformed": ("a: [1,\n b", "Problems parsing config"),
    "unknown key": ("nothing: 1", "nothing"),
    "nested unknown key": ("a: {b: {c: 1}}", "not accepted"),
    "a list": ("[1, 2]", "Unexpected config"),
    "text": ("hello", "Unexpected config|parsing"),
    "control characters": ("\x00\x01", "parsing"),
    "no text": (b"\xff\xfe\x00", "can't decode"),
    "null": ("lr: null", "lr must be a number, got None"),
    "null text": ("dataset: null", "dataset must be text, got None"),
    "bool for int": ("epochs: true", "epochs"),
    "list for text": ("method: [joint]", "method"),
    "null byte": ('output: "a\\0b"', "output must be a new or empty directory"),
    "itself": ("config: hostile.yaml", "loop"),
    "class_path": ("method: {class_path: os.system, init_args: {command: touch canary}}", "method"),
    "class_path on top": ("class_path: os.system\ninit_args: {command: touch canary}", "not accepted"),
    "class_path in a list": (
        "encoder: [{class_path: subprocess.Popen, init_args: {args: [touch, canary]}}]",
        "encoder",
    ),
    "python object": ("method: !!python/object/apply:os.system ['touch canary']", "constructor"),
    "python name": ("method: !!python/name:os.system", "constructor"),
    "anchor bomb": (
        "a: &a [x, x]\n" + "".join(f"{c}: &{c} [{', '.join([f'*{b}'] * 9)}]\n" for b, c in pairwise("abcdefghi")),
        "aliases are not read",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_wrong_configurations(command, tmp_path, monkeypatch, name):
    content, message = HOSTILE[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hostile.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(command("--config", "hostile.yaml"), message)
    assert not (tmp_path / "canary").exists()


def test_a_configuration_that_is_missing(command, tmp_path):
    refused(command("--config", tmp_path / "nowhere.yaml"), "does not exist")
    refused(command("--config", tmp_path), "not a file")


# --- wrong usage -----------------------------------------------------------------------------------------------------

USAGE = [
    ("--method sgd", "method must be one of equilib, .*, got 'sgd'"),
    ("--fusion gate", "fusion must be one of concat, .*, got 'gate'"),
    ("--policy best", "policy must be one of weak-to-strong, .*, got 'best'"),
    ("--coalition-value f1", "coalition-value must be one of accuracy, .*, got 'f1'"),
    ("--memory-mapping all", "memory-mapping must be one of none, .*, got 'all'"),
    ("--backend jax", "backend must be one of .*torch.*, got 'jax'"),
    ("--list methods --backend jax", "backend must be one of .*torch.*, got 'jax'"),
    ("--list recipes", "invalid choice: 'recipes'"),
    ("--list", "expected one argument"),
    ("--encoder a=resnet", "encoder of a must be one of mlp, .*, got 'resnet'"),
    ("--encoder z=mlp", "toy has no modality 'z', only a, b"),
    ("--encoder a", "encoder must be given as MODALITY=NAME.*, got 'a'"),
    ("--encoder a=image-cnn", "encoder image-cnn reads samples of .* dimensions"),
    ("--encoder", "expected at least one argument"),
    ("--dataset nowhere", "dataset: must be one of av-digits, .*; got 'nowhere'"),
    ("--dataset nowhere.npz", "'nowhere.npz': no such file"),
    ("--dataset .", "a folder must hold a sub-folder with pictures"),
    ("--batch-size 37", "batch-size must be at most the 36 training samples, got 37"),
    ("--batch-size 0", "batch-size must be at least 1, got 0"),
    ("--eval-batch-size -1", "eval-batch-size must be at least 1, got -1"),
    ("--epochs 0", "epochs must be at least 1, got 0"),
    ("--epochs -3", "epochs must be at least 1, got -3"),
    ("--epochs many", "epochs must be a whole number, got 'many'"),
    ("--epochs 1.5", "epochs must be a whole number, got '1.5'"),
    ("--lr nan", "lr.*nan"),
    ("--lr inf", "lr.*inf"),
    ("--lr -0.1", "lr must be positive and finite, got -0.1"),
    ("--lr 1e30", "training diverged in epoch 1"),
    ("--method equilib:updates-per-batch=1", "updates-per-batch must be at least 2, one per modality, got 1"),
    ("--method ogm-ge:alpha=-1", "method ogm-ge: alpha must be a number from 0 up, got -1"),
    ("--method joint:alpha=1", "method joint has no parameters, got alpha=1"),
    ("--method joint:", "must be NAME:parameter=value, got ''"),
    ("--shapley-smoothing 1", "shapley-smoothing must be in"),
    ("--dropout 1", "dropout must be in"),
    ("--width 20", "width must be a positive multiple of 16, got 20"),
    ("--seed -1", "seed must be in"),
    ("--seed one", "seed.*one"),
    ("--device tpu", "device must be one of auto, cpu, cuda, got 'tpu'"),
    ("--precision fp16 --device cpu", "precision must suit the device, got 'fp16'"),
    ("--memory-inherit maybe", "memory-inherit must be true or false, got 'maybe'"),
    ("--bogus 1", "unrecognized arguments: --bogus 1"),
    ("--bogus\n1", "unrecognized arguments"),
    ("stray", "unrecognized arguments: stray"),
]


@pytest.mark.parametrize(("argv", "message"), USAGE)
def test_wrong_usage(command, argv, message):
    refused(command(*argv.split(" ")), message)


WRONG_DATA = [
    ({"label": None}, "label: this key is required"),
    ({"label": np.zeros(N, int)}, "two or more classes"),
    ({"label": np.array([None] * N)}, "must be integers or strings, got Python objects"),
    ({"a": np.array([np.zeros(i % 3) for i in range(N)], object)}, "object array"),
    ({"a": np.full((N, 4), np.nan)}, "a: values must be finite"),
    ({"a": np.zeros(N)}, "a: needs .* dimensions"),
    ({"a": np.zeros((N - 1, 4))}, f"a: needs a row per label, {N}, got {N - 1}"),
    ({"a_present": np.zeros(N, np.bool_)}, "a: absent in all"),
    ({"a_present": np.arange(N) >= 36}, "a: absent in all 36 training samples"),
    ({"a": None, "b": None}, "modalities: needs 1 to 8"),
    ({"split": np.array(["train"] * N)}, "got no 'test'"),
    ({"split": np.array(["dev"] * N)}, "split: must be one of"),
    ({"label": np.arange(N), "split": None}, "nothing to hold out of"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG_DATA)
def test_wrong_data(command, save, changes, message):
    refused(command(dataset=save(**changes)), message)


@pytest.mark.parametrize("value", ["accuracy", "log-likelihood"])
def test_test_data_that_overflow(command, save, value):
    a = arrays()["a"]
    a[-1] = 3e38
    refused(command("--coalition-value", value, dataset=save(a=a)), "predictions on test are not finite")


def test_a_file_that_is_no_archive(command, tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04" + bytes(50))
    refused(command(dataset=str(tmp_path / "bad.npz")), "cannot be read as an .npz file")


# --- interrupted, incomplete -----------------------------------------------------------------------------------------


@pytest.fixture
def joint_as(monkeypatch):
    """Put another update in the place of joint training's."""

    def replace_update(update):
        monkeypatch.setitem(METHODS._entries, "joint", replace(METHODS["joint"], start=stateless(update)))

    return replace_update


@pytest.mark.parametrize("output", [True, False])
def test_an_interruption_during_training(command, tmp_path, joint_as, output):
    metrics, usual = tmp_path / "run" / "metrics.jsonl", METHODS["joint"].start(None)

    def interrupted(network, batch, plan, step):
        usual(network, batch, plan, step)
        if not output or metrics.stat().st_size:  # in the second epoch
            raise KeyboardInterrupt

    joint_as(interrupted)
    argv = ["--output", tmp_path / "run", "--epochs", "9"] if output else []
    code, out, lines = command("--method", "joint", *argv)
    assert (code, out, len(lines)) == (130, "", 1)
    assert "interrupted" in lines[0]
    assert (str(tmp_path / "run") in lines[0]) == output


def test_an_interruption_before_an_epoch_is_done_promises_nothing(command, tmp_path, joint_as):
    def interrupted(network, batch, plan, step):
        raise KeyboardInterrupt

    joint_as(interrupted)
    code, out, lines = command("--method", "joint", "--output", tmp_path / "run")
    assert (code, out, lines) == (130, "", ["equilib.train: interrupted"])


def python(*argv, **options):
    return subprocess.run([sys.executable, *argv], capture_output=True, text=True, timeout=120, **options)


@pytest.mark.slow
def test_as_a_module(save, tmp_path):
    argv = ["--dataset", save(), "--epochs", "1", "--batch-size", "8", "--width", "16", "--device", "cpu"]
    done = python("-W", "error", "-m", "equilib.train", *argv, "--output", str(tmp_path / "run"))
    assert (done.returncode, messages(done.stderr)) == (0, [])
    assert "test accuracy" in done.stdout
    assert "epoch 1" in done.stderr  # the progress
    assert (tmp_path / "run" / "summary.json").is_file()


@pytest.mark.slow
def test_a_real_interruption(save, tmp_path):
    argv = ["--dataset", save(), "--epochs", "100000", "--width", "16", "--batch-size", "8", "--device", "cpu"]
    child = subprocess.Popen(
        [sys.executable, "-m", "equilib.train", *argv, "--output", str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # what runs in the background ignores it
    )
    try:
        metrics = tmp_path / "run" / "metrics.jsonl"
        for _ in range(1200):
            if metrics.exists() or child.poll() is not None:
                break
            time.sleep(0.1)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    finally:
        child.kill()
    assert (child.returncode, out) == (130, "")
    assert [line for line in messages(err) if "interrupted" in line]
    assert "Traceback" not in err


WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
from equilib._commands import main
sys.exit(main({argv!r}))
"""
EXTRA = ["torch", "safetensors", "jsonargparse", "docstring_parser", "yaml", "sklearn", "scipy", "tqdm", "matplotlib"]


def without(packages, *argv):
    done = python("-c", WITHOUT.format(packages=packages, argv=list(argv)))
    return done.returncode, done.stdout, done.stderr.splitlines()


@pytest.mark.parametrize("package", ["torch", "jsonargparse", "docstring_parser"])
def test_a_requirement_that_is_not_installed(package):
    result = without([package], "train")
    refused(result, rf"needs the package {package}, .*install the extra by: pip install '\.\[torch\]'$")


def test_without_the_extra_help_says_what_it_can_and_names_it():
    code, out, lines = without(EXTRA, "train", "--help")
    assert (code, len(lines)) == (2, 1)
    assert "--list" in out
    assert "--backend" in out
    assert lines[0].endswith("pip install '.[torch]'")


@pytest.mark.parametrize("what", ["datasets", "estimators", "backends"])
def test_without_the_extra_what_needs_none_is_listed(what):
    code, out, lines = without(EXTRA, "train", "--list", what)
    assert (code, lines) == (0, [])
    assert {line.split()[0] for line in out.splitlines() if line[0] != " "} == set(KNOWN[what])


@pytest.mark.parametrize("what", ["methods", "fusions", "encoders", "values"])
def test_without_the_extra_what_needs_it_is_not_listed(what):
    refused(without(EXTRA, "train", "--list", what), r"pip install '\.\[torch\]'$")


@pytest.mark.slow
def test_help_and_lists_in_ascii_and_without_docstrings():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for argv, word in ((["compare", "--help"], "Shapley"), (["train", "--list", "methods"], "equilib")):
        done = python("-OO", "-W", "error", "-m", "equilib", *argv, env=environment)
        assert (done.returncode, done.stderr) == (0, ""), argv
        assert word in done.stdout


@pytest.mark.slow
def test_help_loads_nothing_that_trains_or_draws():
    script = (
        "import sys; from equilib._commands import main\n"
        "try: main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "print({'sklearn', 'scipy', 'matplotlib', 'jax', 'accelerate'} & set(sys.modules), file=sys.stderr)\n"
    )
    assert python("-c", script).stderr == "set()\n"


def test_naming_the_backend_and_reading_data_load_no_framework():
    script = (
        "import sys, equilib_torch; from equilib._commands import load_backend; load_backend('torch').description\n"
        "assert 'numpy' in sys.modules and 'torch' not in sys.modules and 'sklearn' not in sys.modules\n"
        "equilib_torch.load_dataset('mfeat-small', seed=0)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = python("-c", script)
    assert done.returncode == 0, done.stderr
