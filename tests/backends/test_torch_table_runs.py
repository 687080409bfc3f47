"""Tables from the command line to a model that reads raw rows: what is said, stored and predicted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from equilib.compare import main as compare
from equilib.train import main as train
from equilib_torch import InputError, MultimodalClassifier, TrainOptions, fit, load_dataset
from equilib_torch.data import MediaOptions
from equilib_torch.data.cache import Cache
from equilib_torch.runs.directory import RunDirectory

N = 36
COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}
SMALL = ["--width", "16", "--updates", "4", "--batch-size", "8", "--image-size", "16", "--decode-workers", "0"]


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("EQUILIB_CACHE", str(tmp_path / "cache"))


def rows():
    """A table of pictures and numbers, by column."""
    rng = np.random.default_rng(0)
    labels = [list(COLOURS)[k % 3] for k in range(N)]
    return pd.DataFrame(
        {
            "photo": [f"photos/{k}.png" for k in range(N)],
            "pulse": [f"{x:.2f}" for x in rng.normal(60, 5, N) + np.arange(N) % 3],
            "code": [["007", "010", "100"][k % 3] for k in range(N)],
            "label": labels,
        }
    )


@pytest.fixture
def folder(tmp_path):
    """A folder of pictures of 24 × 16 pixels beside which the table is to be written."""
    root = tmp_path / "data"
    (root / "photos").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for k, colour in enumerate(rows()["label"]):
        pixels = np.clip(np.array(COLOURS[colour]) + rng.integers(-30, 30, (16, 24, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(root / "photos" / f"{k}.png")
    return root


@pytest.fixture
def command(folder, capsys):
    """Write the table, run the command in this process, and give its exit code, output and lines on standard error."""

    def run(*argv, table=None):
        (rows() if table is None else table).to_csv(folder / "table.csv", index=False)
        capsys.readouterr()
        code = train(["--dataset", str(folder / "table.csv"), *SMALL, *map(str, argv)])
        out, err = capsys.readouterr()
        return code, out, [line for line in err.splitlines() if "epoch" not in line]

    return run


def test_the_columns_are_printed_before_training_and_stored(command, tmp_path):
    code, out, errors = command("--output", tmp_path / "run", "--drop", "pulse")
    assert (code, errors) == (0, [])
    assert out.splitlines()[:4] == [
        "column  kind      modality  missing  values",
        "photo   image     photo           0  36 files",
        "code    category  table           0  3 levels: 007, 010, 100",
        "",
    ]
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["modality"] == ["photo=image", "table=table:code"]
    assert (config["categorical"], config["drop"], config["label"]) == (["code"], ["pulse"], "label")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["modalities"] == ["photo", "table"]


def test_a_run_is_trained_again_from_its_config(command, folder, tmp_path, monkeypatch):
    command("--output", tmp_path / "run", "--modality", "vitals=table:pulse", "--modality", "photo=image")
    monkeypatch.chdir(tmp_path)
    assert train(["--config", str(tmp_path / "run" / "config.yaml"), "--output", "again"]) == 0
    first, again = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("run", "again"))
    assert first["modalities"] == again["modalities"] == ["photo", "vitals", "table"]
    for key in ("fingerprint", "test_accuracy", "coalition_accuracy"):
        assert first[key] == again[key]


def test_flags_may_be_repeated_and_said_alone(command):
    code, out, _ = command("--drop", "pulse", "--drop=code", "--allow-unreadable")
    assert code == 0
    assert out.splitlines()[1:3] == ["photo   image  photo           0  36 files", ""]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--label", "klass"], "there is no column 'klass', only photo, pulse, code, label"),
        (["--drop", "x"], "drop: there is no column 'x'"),
        (["--modality", "photo=sound"], "modality must be NAME=KIND"),
        (["--modality", "photo=text:photo", "--categorical", "photo"], "categorical: column 'photo' is declared"),
        (["--data-root", "no/such"], "data-root must be a folder, got 'no/such'"),
        (["--encoding", "utf-99"], "encoding must be one that Python knows"),
        (["--modality", "pulse=image"], "36 of 36 files cannot be read, the first in row 0"),
    ],
)
def test_wrong_options_end_in_one_line(command, argv, message):
    code, out, errors = command(*argv)
    assert (code, out, len(errors)) == (2, "", 1), errors
    assert errors[0].startswith("equilib.train: error: ")
    assert message in errors[0]


def test_paths_that_leave_the_root_end_in_one_line(command, folder):
    for cell in ("../secret.png", "/etc/passwd.png", "photos"):
        table = rows()
        table.loc[5, "photo"] = cell
        code, _, errors = command(table=table)
        assert (code, len(errors)) == (2, 1)
        assert "photo: row 5: a path must" in errors[0]
    os.mkfifo(folder / "photos" / "pipe.png")
    table.loc[5, "photo"] = "photos/pipe.png"
    assert "which is a pipe" in command(table=table)[2][0]


def damage(folder, table, fault):
    """Put a fault into the file or cell of row 5, and give what the warning says of it."""
    path = folder / table.loc[5, "photo"]
    match fault:
        case "missing file":
            path.unlink()
        case "empty file":
            path.write_bytes(b"")
        case "truncated":
            path.write_bytes(path.read_bytes()[:-60])
        case "text":
            path.write_text("no picture")
        case "html":
            path.write_text("<!DOCTYPE html><html><body>404</body></html>")
        case "cut jpeg":
            Image.open(path).resize((99, 99)).save(path, "JPEG")
            path.write_bytes(path.read_bytes()[:800])
    return {"missing file": "no such file", "empty file": "empty", "html": "HTML", "text": "text"}.get(
        fault, "truncated"
    )


@pytest.mark.parametrize("fault", ["missing file", "empty file", "truncated", "text", "html", "cut jpeg"])
def test_a_file_that_cannot_be_read_counts_as_missing_with_one_warning(command, folder, fault):
    table = rows()
    reason = damage(folder, table, fault)
    code, out, errors = command(table=table)
    assert (code, len(errors)) == (0, 1)
    assert "photo: 1 of 36 files cannot be read, the first in row 5: 'photos/5.png'" in errors[0]
    assert reason in errors[0]
    assert "photo   image     photo           1  35 files" in out


def test_too_many_such_files_stop_unless_allowed(command, folder):
    for k in range(21):
        (folder / "photos" / f"{k}.png").unlink()
    code, out, errors = command()
    assert (code, out, len(errors)) == (2, "", 1)
    assert "21 of 36 files cannot be read" in errors[0]
    assert "--allow-unreadable" in errors[0]
    code, _, errors = command("--allow-unreadable")
    assert (code, len(errors)) == (0, 1)


def test_content_decides_on_the_format_and_any_size_is_read(command, folder):
    Image.new("RGB", (1, 1), "red").save(folder / "photos" / "0.png")
    Image.new("RGB", (1, 500), "green").save(folder / "photos" / "1.png")
    Image.new("RGB", (500, 1), "blue").save(folder / "photos" / "2.png")
    Image.new("RGB", (20, 20), "red").save(folder / "photos" / "3.png", "JPEG")
    code, out, errors = command()
    assert (code, errors) == (0, [])
    assert "36 files" in out


def test_missing_cells_of_every_kind_train(command):
    table = rows()
    table["pulse"] = ["", "NA", "null", *table["pulse"][3:]]
    table["photo"] = ["", "nan", "None", *table["photo"][3:]]
    table.loc[0, "code"] = ""
    code, out, errors = command(table=table)
    assert code == 0
    assert [line.split()[3] for line in out.splitlines()[1:4]] == ["3", "3", "1"]
    assert len(errors) == 1
    assert "1 of 36 rows have no modality at all and are left out, the first is row 0 (line 2)" in errors[0]


def test_an_empty_column_ends_in_one_line(command):
    code, _, errors = command(table=rows().assign(photo=""))
    assert code == 2
    assert "column 'photo' has no value: all 36 cells are empty; leave it out: --drop photo" in errors[0]


# --- models ----------------------------------------------------------------------------------------------------------


def test_a_model_reads_raw_rows_in_another_process_as_the_test_did(command, folder, tmp_path):
    table = rows()
    table.loc[3, "pulse"] = ""
    (folder / table.loc[8, "photo"]).unlink()
    assert command("--output", tmp_path / "run", table=table)[0] == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    test = load_dataset(folder / "table.csv", media=MediaOptions(image_size=16, workers=0)).splits["test"].tolist()
    script = f"""
import pandas as pd
from equilib_torch import MultimodalClassifier
model = MultimodalClassifier.from_pretrained({str(tmp_path / "run")!r})
frame = pd.read_csv({str(folder / "table.csv")!r}, dtype={{"code": str}}).iloc[{test}]
root = {str(folder)!r}
print(model.score(frame, data_root=root))
for columns in (["photo"], ["code", "pulse"], ["pulse"]):
    some = frame[columns + ["label"]]
    print(model.score(some, data_root=root))
proba = model.predict_proba(frame.assign(other=1), data_root=root)
print(abs(proba - model.predict_proba(frame.drop(columns="label").iloc[::-1], data_root=root)[::-1]).max() < 1e-6)
"""
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert found.returncode == 0, found.stderr
    score, photo, vector, _, same = found.stdout.split()
    assert float(score) == pytest.approx(summary["test_accuracy"])
    assert float(photo) == pytest.approx(summary["unimodal_accuracy"]["photo"])
    assert float(vector) == pytest.approx(summary["unimodal_accuracy"]["table"])
    assert same == "True"


@pytest.fixture
def model(folder):
    """A model of the table, and the table as a DataFrame of types."""
    frame = rows().astype({"pulse": float})
    dataset = load_dataset(
        frame,
        data_root=folder,
        media=MediaOptions(image_size=16, workers=0),
        modalities={"vitals": "table:pulse"},
        cache=Cache(folder.parent / "cache"),
    )
    run = fit(TrainOptions(updates=4, width=16), dataset)
    return MultimodalClassifier(run.network), frame, dataset


def test_raw_rows_and_arrays_are_predicted_alike(model, folder):
    classifier, frame, dataset = model
    arrays = {m.name: m.values for m in dataset.modalities}
    expected = classifier.predict_proba(arrays)
    np.testing.assert_allclose(classifier.predict_proba(frame, data_root=folder), expected, atol=1e-6)
    frame.to_csv(folder / "new.csv", index=False)
    np.testing.assert_allclose(classifier.predict_proba(folder / "new.csv"), expected, atol=1e-6)
    del arrays["photo"]
    some = frame.assign(photo=None)
    np.testing.assert_allclose(classifier.predict_proba(some), classifier.predict_proba(arrays), atol=1e-6)


def test_rows_with_nothing_get_the_frequencies_of_the_classes(model):
    classifier, frame, dataset = model
    nothing = pd.DataFrame({"photo": [None, ""], "pulse": [None, None]})
    counts = np.bincount(dataset.labels[dataset.splits["train"]])
    np.testing.assert_allclose(classifier.predict_proba(nothing), [counts / counts.sum()] * 2, atol=1e-6)
    assert classifier.predict(frame[["code"]].assign(code="unknown")).shape == (N,)


def test_raw_rows_that_do_not_do_are_refused(model, folder):
    classifier, frame, _ = model
    for inputs, message in [
        (frame[["label"]], "columns: must be some of photo, pulse, code"),
        (frame.assign(pulse="much"), "column 'pulse': cells must be finite numbers or empty, got 'much' in row 0"),
        (frame.assign(photo="../x.png"), "row 0: a path must not leave data-root"),
        (Path("no.csv"), r"'no\.csv': no such file"),
    ]:
        with pytest.raises(InputError, match=message):
            classifier.predict(inputs, data_root=None if isinstance(inputs, Path) else folder)
    with pytest.raises(InputError, match="data_root is for raw rows"):
        classifier.predict({"vitals": np.ones((2, 1))}, data_root=folder)
    with pytest.raises(InputError, match="labels must be given"):
        classifier.score({"vitals": np.ones((2, 1))})


def test_a_model_of_arrays_refuses_raw_rows():
    dataset = load_dataset({"label": [0, 1] * 20, "x": np.ones((40, 3))})
    classifier = MultimodalClassifier(fit(TrainOptions(updates=2, width=16), dataset).network)
    with pytest.raises(InputError, match="inputs must be arrays of x: this model was trained on arrays, not a table"):
        classifier.predict(pd.DataFrame({"x": [1, 2]}))


# --- comparisons -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_methods_are_compared_on_a_table_and_the_comparison_goes_on(command, folder, tmp_path, capsys):
    rows().drop(columns="photo").to_csv(folder / "table.csv", index=False)
    argv = ["--dataset", str(folder / "table.csv"), "--methods", "joint,late-fusion", "--seeds", "2", "--width", "16"]
    argv += ["--updates", "2", "--modality", "vitals=table:pulse", "--output", str(tmp_path / "out")]
    assert compare(argv) == 0
    out = capsys.readouterr().out
    assert out.startswith("column  kind      modality  missing  values\npulse   number    vitals ")
    config = RunDirectory(tmp_path / "out" / "runs" / "joint" / "seed-1").read_config()
    assert config["modality"] == ["vitals=table:pulse", "table=table:code"]
    assert compare(argv) == 0  # nothing is trained again, and nothing refused
    rows().drop(columns="photo").assign(pulse="1").to_csv(folder / "table.csv", index=False)
    capsys.readouterr()
    assert compare(argv) == 2
    assert "a run on other data" in capsys.readouterr().err
