"""The public data sets, from small trees laid out as users have them: read, trained, prepared; what may be wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import public_trees as trees
import pytest
import yaml

from equilib._commands import main
from equilib_torch import InputError, MultimodalClassifier, load_dataset
from equilib_torch.commands.train import read_request
from equilib_torch.data import MediaOptions
from equilib_torch.data.public import PUBLIC

SMALL = MediaOptions(image_size=8, workers=0)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EQUILIB_CACHE", str(tmp_path / "cache"))


def load(source, root=None, **options):
    return load_dataset(source, data_root=root, media=SMALL, **options)


def sizes(dataset):
    return [len(dataset.splits[part]) for part in ("train", "val", "test")]


def shapes(dataset):
    return {modality.name: (modality.kind, modality.values.shape[1:]) for modality in dataset.modalities}


def messages(capsys):
    return capsys.readouterr().err.splitlines()


# --- what is read ----------------------------------------------------------------------------------------------------


def test_crema_d(tmp_path):
    root = trees.crema_d(tmp_path / "crema")
    dataset = load("crema-d", root)
    assert dataset.classes == trees.EMOTIONS  # in the order of the published lists, not of the alphabet
    assert shapes(dataset) == {"video": ("video", (3, 8, 8, 3)), "audio": ("sequence", (31, 64))}
    assert dataset.splits["test"].tolist() == list(range(48, 72))  # as listed
    assert sizes(dataset) == [40, 8, 24]  # val is held out of train
    assert dataset.labels[:6].tolist() == [0, 0, 1, 1, 2, 2]
    video, audio = dataset.modalities
    assert video.lengths is not None
    assert sorted(set(video.lengths.tolist())) == [1, 2, 3]  # 1 to 4 stills, of which 3 are read
    colours = [video.values[np.flatnonzero(dataset.labels == k), 0, 4, 4] for k in range(6)]
    assert all(np.ptp(colour, axis=0).max() == 0 for colour in colours)  # so every row has its own pictures
    assert len({tuple(colour[0]) for colour in colours}) == 6
    pitch = [audio.values[dataset.labels == k].mean((0, 1)).argmax() for k in range(6)]
    assert pitch == sorted(set(pitch))
    assert "72 samples (48 train, 24 test), 6 classes: NEU, HAP, SAD, FEA, DIS, ANG" in dataset.notes
    assert any("of 4 speakers 4 are in the training and in the test part" in note for note in dataset.notes)


def test_crema_d_apart_by_speaker(tmp_path):
    root = trees.crema_d(tmp_path, speakers=5)
    dataset = load("crema-d:split=speaker", root, seed=1)
    lines = [line for part in ("train", "test") for line in (root / f"{part}.csv").read_text("utf-8-sig").split()]
    speakers = np.array([line[:4] for line in lines])
    parts = [set(speakers[rows]) for rows in dataset.splits.values()]
    assert sum(map(len, parts)) == 5  # no speaker twice
    assert all(parts)
    assert any("no speaker of 5 is in two parts" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("form", "classes", "features"),
    [("spaces", (0, 1, 2), 64), ("commas", ("c0", "c1", "c2"), 128), ("folders", ("c0", "c1", "c2"), 64)],
)
def test_kinetics_sounds(tmp_path, form, classes, features):
    dataset = load("kinetics-sounds", trees.kinetics_sounds(tmp_path, form))
    assert dataset.classes == classes
    assert sizes(dataset) == [15, 3, 6]
    assert [m.name for m in dataset.modalities] == ["video", "audio"]
    assert dataset.modalities[1].values.shape[2] == features
    assert all(modality.present.all() for modality in dataset.modalities)
    if form == "commas":
        assert np.array_equal(dataset.modalities[1].values[:, 0, 0], dataset.labels)
    assert any("24 samples (18 train, 6 test), 3 classes" in note for note in dataset.notes)


def test_lists_may_be_named_and_val_may_be_the_test_part(tmp_path):
    root = trees.kinetics_sounds(tmp_path, "spaces")
    (root / "my_test.txt").rename(root / "my_val.txt")
    dataset = load("kinetics-sounds", root)
    assert sizes(dataset) == [15, 3, 6]
    assert "the part called val is the test part" in dataset.notes
    (root / "old_train.txt").write_text("nothing 1")
    with pytest.raises(InputError, match=r"found several lists for train: 'my_train.txt' and 'old_train.txt'"):
        load("kinetics-sounds", root)
    assert sizes(load("kinetics-sounds:train=my_train.txt:test=my_val.txt", root)) == [15, 3, 6]


@pytest.mark.parametrize("header", [True, False])
def test_food_101(tmp_path, header):
    dataset = load("food-101", trees.food_101(tmp_path, header=header))
    assert dataset.classes == trees.DISHES
    assert sizes(dataset) == [13, 3, 6]
    image, text = dataset.modalities
    assert (image.kind, text.kind) == ("image", "text")
    assert text.values[0] == 'Apple_Pie, the "best" 0'
    assert len({tuple(row) for row in image.values[dataset.labels == 1, 4, 4]}) == 1


def test_food_101_as_jsonl(tmp_path):
    trees.memes(tmp_path)
    dataset = load("food-101", tmp_path)
    assert (dataset.name, dataset.names) == ("food-101", ("image", "text"))


def test_mvsa_single(tmp_path):
    root = trees.mvsa_single(tmp_path)
    merged, equal = load("mvsa-single", root), load("mvsa-single:labels=equal", root)
    assert merged.classes == equal.classes == trees.SENTIMENTS
    assert np.bincount(merged.labels).tolist() == [8, 8, 8]  # neutral gives way; contradictions are left out
    assert np.bincount(equal.labels).tolist() == [6, 8, 6]
    assert "2 of 26 are left out, whose labels of text and picture contradict each other" in merged.notes
    assert "6 of 26 are left out, whose labels of text and picture differ" in equal.notes
    assert merged.modalities[1].values[0] == "café negative day 0"


def test_mvsa_single_by_lists(tmp_path):
    root = trees.mvsa_single(tmp_path, lists=True)
    assert sizes(load("mvsa-single", root)) == [15, 3, 6]
    with pytest.raises(InputError, match="labels=equal is for labelResultAll"):
        load("mvsa-single:labels=equal", root)


def test_folders_of_jsonl_files(tmp_path):
    dataset = load(trees.memes(tmp_path / "memes"))
    assert (dataset.name, dataset.names, sizes(dataset)) == ("memes", ("image", "text"), [12, 4, 4])
    unlabelled = load(trees.memes(tmp_path / "challenge", test_labels=False))
    assert sizes(unlabelled) == [10, 2, 4]
    assert "test.jsonl: 4 of 4 samples have no label: left out" in unlabelled.notes
    assert "no test part has labels: the dev part is the test part" in unlabelled.notes


# --- files that are missing, and what is no such data set ---------------------------------------------------------


def test_missing_and_unreadable_files_are_counted_and_named(tmp_path, capsys):
    root = trees.crema_d(tmp_path)
    name = "1001_IEO_NEU_XX"
    shutil.rmtree(root / "Image-01-FPS" / name)
    (root / "Image-01-FPS" / "1001_TIE_NEU_XX" / "00000.jpg").write_bytes(b"\xff\xd8\xff no picture")
    empty = root / "Image-01-FPS" / "1001_IEO_HAP_XX"
    shutil.rmtree(empty)
    empty.mkdir()
    (root / "AudioWAV" / "1002_IEO_SAD_XX.wav").write_bytes(b"")
    (root / "AudioWAV" / "1002_IEO_FEA_XX.wav").unlink()
    dataset = load("crema-d", root)
    video, audio = dataset.modalities
    assert np.flatnonzero(~video.present).tolist() == [0, 1, 2]
    assert np.flatnonzero(~audio.present).tolist() == [16, 18]
    lines = messages(capsys)
    assert len(lines) == 2
    assert f"video: 3 of 72 files cannot be read, the first in row 0: 'Image-01-FPS/{name}'" in lines[0]
    assert "audio: 2 of 72 files cannot be read, the first in row 16: 'AudioWAV/1002_IEO_SAD_XX.wav'" in lines[1]


def test_missing_texts_are_counted_and_named(tmp_path, capsys):
    root = trees.mvsa_single(tmp_path)
    (root / "data" / "100.txt").unlink()
    dataset = load("mvsa-single", root)
    assert np.flatnonzero(~dataset.modalities[1].present).tolist() == [8]
    assert messages(capsys) == [
        "equilib: warning: text: 1 of 24 files cannot be read, the first 'data/100.txt' (No such file or directory); "
        "they count as missing"
    ]


def test_a_sample_in_two_parts_is_warned_of(tmp_path, capsys):
    root = trees.crema_d(tmp_path)
    with (root / "test.csv").open("a") as file:
        file.write("1001_IEO_NEU_XX,NEU\n")
    load("crema-d", root)
    assert messages(capsys) == [
        "equilib: warning: crema-d: 1 samples are listed for training and for test, such as "
        "'AudioWAV/1001_IEO_NEU_XX.wav'"
    ]


def nothing(root):
    root.mkdir()


def crema_with(path, content):
    def spoil(root):
        trees.crema_d(root, speakers=1)
        if content is None:
            shutil.rmtree(root / path)
        else:
            (root / path).write_bytes(content)

    return spoil


def food_with(content):
    def spoil(root):
        trees.food_101(root)
        (root / "texts" / "train_titles.csv").write_text(content)

    return spoil


def mvsa_with(line):
    def spoil(root):
        trees.mvsa_single(root)
        (root / "labelResultAll.txt").write_text(f"ID\ttext,image\n{line}")

    return spoil


def memes_with(line):
    def spoil(root):
        trees.memes(root)
        (root / "train.jsonl").write_text(line)

    return spoil


def kinetics_with(line):
    def spoil(root):
        trees.kinetics_sounds(root, "spaces")
        (root / "my_train.txt").write_text(line)

    return spoil


MALFORMED = [
    ("crema-d", nothing, "looked for the list 'train.csv', and there is none"),
    (
        "crema-d",
        crema_with("train.csv", b"\xef\xbb\xbf\n"),
        "the list 'train.csv' is empty; it needs a line per sample",
    ),
    (
        "crema-d",
        crema_with("test.csv", b"1001_IEO_NEU_XX,JOY"),
        "test.csv, line 1: must be ID,CLASS, CLASS one of NEU, ",
    ),
    ("crema-d", crema_with("test.csv", b"a,NEU\n1001_IEO_NEU_XX"), "test.csv, line 2: must be ID,CLASS"),
    (
        "crema-d",
        crema_with("test.csv", b"\xe9,NEU"),
        "the list 'test.csv' must be text in the encoding utf-8, got byte",
    ),
    (
        "crema-d",
        crema_with("AudioWAV", None),
        "looked for the sounds, such as 'AudioWAV/1001_IEO_NEU_XX.wav', and found",
    ),
    ("crema-d", crema_with("Image-01-FPS", None), "looked for the folders of stills, such as 'Image-01-FPS/1001_IEO"),
    ("crema-d", crema_with("test.csv", b"../../etc/passwd,NEU"), "a path must not leave data-root"),
    ("kinetics-sounds", nothing, "looked for lists called train and test (.txt or .csv), and for the class folders"),
    ("kinetics-sounds", kinetics_with("train00"), "my_train.txt, line 1: must be 'NAME LABEL', NAME,LABEL or NAME,SEC"),
    ("kinetics-sounds", kinetics_with("\n"), "the list 'my_train.txt' is empty"),
    ("food-101", nothing, "looked for the list 'texts/train_titles.csv' and for train.jsonl, and found neither"),
    ("food-101", food_with(""), "the list 'texts/train_titles.csv' is empty"),
    ("food-101", food_with("text,label,Image_path"), "has a header and no samples"),
    ("food-101", food_with("title,class\na,b"), "needs the columns text, label, Image_path, got 'title, class'"),
    ("food-101", food_with("text,label,Image_path\na,b"), "texts/train_titles.csv, record 1: needs 3 cells, got 2"),
    ("food-101", food_with("text,label,Image_path\na,,b.jpg"), "record 1: needs a label, got none"),
    (
        "food-101",
        food_with("text,label,Image_path\na,b,c.jpg"),
        "looked for the pictures, such as 'images/train/b/c.jpg'",
    ),
    ("mvsa-single", nothing, "looked for 'labelResultAll.txt', and for 'train.txt' and 'test.txt', and found neither"),
    ("mvsa-single", mvsa_with(""), "labelResultAll.txt: has a header and no samples"),
    ("mvsa-single", mvsa_with("1 positive"), "labelResultAll.txt, line 2: must be ID<Tab>LABEL,LABEL"),
    (
        "mvsa-single",
        mvsa_with("1\tpositive,angry"),
        "each one of negative, neutral, positive, got '1\\tpositive,angry'",
    ),
    (
        "mvsa-single",
        mvsa_with("1\tpositive,negative"),
        "no sample is left: all 1 have labels that contradict each other",
    ),
    ("", memes_with(""), "train.jsonl: the file is empty"),
    ("", memes_with('{"image": "a.png"}'), "train.jsonl: needs the keys img, label and text, got image"),
    (
        "",
        memes_with('{"img": "img/train0.png", "text": "a"}'),
        "looked for labelled samples in train.jsonl, and found none",
    ),
    ("", memes_with("[1]"), "train.jsonl: line 1: must be a JSON object, got list"),
]


@pytest.mark.parametrize(("name", "spoil", "message"), MALFORMED, ids=range(len(MALFORMED)))
def test_what_is_malformed_is_said_in_a_line(tmp_path, name, spoil, message):
    root = tmp_path / "root"
    spoil(root)
    with pytest.raises(InputError) as error:
        load(name or root, root if name else None)
    assert message in str(error.value)
    assert str(root) in str(error.value) or "data-root" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["crema-d"], "crema-d is not bundled: say where it is by --data-root DIR"),
        (["food-101", "--data-root", "none"], "data-root must be a folder, got 'none'"),
        (["crema-d:parts=2", "--data-root", "."], "dataset crema-d has the parameters split, got parts=2"),
        (
            ["crema-d:split=actor", "--data-root", "."],
            "dataset crema-d: split must be one of public, speaker, got actor",
        ),
        (["food-101", "--data-root", ".", "--label", "dish"], "label is for tables, and food-101 is a public set"),
    ],
)
def test_bad_usage_is_said_in_a_line(capsys, arguments, message):
    assert main(["train", "--dataset", *arguments]) == 2
    (line,) = messages(capsys)
    assert message in line


# --- training --------------------------------------------------------------------------------------------------------


def tiny(root, *more):
    return [
        "--data-root",
        str(root),
        "--image-size",
        "8",
        "--epochs",
        "1",
        "--width",
        "16",
        "--decode-workers",
        "0",
        *more,
    ]


@pytest.mark.parametrize(
    ("name", "write", "encoder"),
    [
        ("kinetics-sounds", lambda root: trees.kinetics_sounds(root, "spaces"), "video=image-cnn audio=mlp"),
        ("food-101", trees.food_101, "image=mlp"),
        ("mvsa-single", trees.mvsa_single, "image=mlp"),
        ("jsonl", trees.memes, "image=mlp"),
    ],
)
def test_each_trains_an_epoch(tmp_path, capsys, name, write, encoder):
    root = write(tmp_path / "tree")
    source = [str(root)] if name == "jsonl" else [name, "--data-root", str(root)]
    options = ["--image-size", "8", "--epochs", "1", "--width", "16", "--decode-workers", "0", "--method", "joint"]
    assert main(["train", "--dataset", *source, *options, "--encoder", *encoder.split(), "--quiet"]) == 0
    assert messages(capsys) == []


@pytest.mark.slow
def test_crema_d_trains_the_configuration_of_the_article(tmp_path, capsys):
    root = trees.crema_d(tmp_path / "crema", speakers=1)
    options = tiny(root, "--audio-seconds", "0.05", "--output", str(tmp_path / "run"))
    assert main(["train", "--dataset", "crema-d", *options]) == 0
    out, err = capsys.readouterr()
    assert "video   frames  video" in out
    assert "note: 18 samples (12 train, 6 test), 6 classes" in err
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (config["dataset"], config["method"]) == ("crema-d", "paper")
    assert config["encoder"] == ["video=resnet18", "audio=resnet18"]
    assert config["modality"] == ["video=frames", "audio=audio"]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["n_test"] == 6
    # The model reads raw rows again, of folders of stills and sounds.
    model = MultimodalClassifier.from_pretrained(tmp_path / "run")
    rows = pd.DataFrame(
        {"video": ["Image-01-FPS/1001_IEO_SAD_XX", None], "audio": ["AudioWAV/1001_IEO_SAD_XX.wav"] * 2}
    )
    assert set(model.predict(rows, data_root=root)) <= set(trees.EMOTIONS)
    # The configuration of the run is one that can be trained again.
    again = read_request(["--config", str(tmp_path / "run" / "config.yaml")]).options
    assert again.data.load(0).fingerprint == load_dataset("crema-d", data_root=root, media=again.media).fingerprint


def test_given_options_overrule_the_defaults_of_a_set(tmp_path):
    def options(*argv):
        return read_request(argv).options

    usual = options("--dataset", "crema-d:split=speaker")
    assert (usual.method, usual.encoder) == ("paper", ["video=resnet18", "audio=resnet18"])
    given = options("--dataset", "crema-d", "--method", "joint", "--encoder", "audio=temporal-cnn", "--lr", "0.1")
    assert (given.method, given.lr) == ("joint", 0.1)
    assert given.encoders == {"video": "resnet18", "audio": "temporal-cnn"}
    assert options("--dataset=crema-d", "--drop", "audio").encoder == ["video=resnet18"]
    config = tmp_path / "config.yaml"
    config.write_text("dataset: food-101\nlr: 0.5\n")
    read = options("--config", str(config), "--epochs", "3")
    assert (read.method, read.encoder, read.lr, read.epochs) == ("paper", ["image=resnet18"], 0.5, 3)
    assert options("--dataset", "mfeat").encoder == options().encoder == []


def test_every_default_of_a_set_is_an_option_and_every_encoder_has_its_modality(tmp_path):
    write = {
        "crema-d": lambda root: trees.crema_d(root, speakers=1),
        "kinetics-sounds": lambda root: trees.kinetics_sounds(root, "commas"),
        "food-101": trees.food_101,
        "mvsa-single": trees.mvsa_single,
    }
    assert set(write) == set(PUBLIC)
    for name, entry in PUBLIC.items():
        names = load(name, write[name](tmp_path / name)).names
        assert set(read_request(["--dataset", name]).options.encoders) <= set(names)
        assert "--data-root" in entry.description


# --- kinds of columns that the sets bring ----------------------------------------------------------------------------


def test_frames_and_arrays_are_kinds_of_anybody_s_columns(tmp_path, capsys):
    for k in range(20):
        for still in range(5):
            trees.picture(tmp_path / f"clip{k}" / f"{still}.PNG", still)
        np.save(tmp_path / f"{k}.npy", np.full((3 + k % 2, 4), k, np.float64))
    np.save(tmp_path / "3.npy", np.zeros((3, 5)))
    np.save(tmp_path / "4.npy", np.full((3, 4), np.nan))
    np.save(tmp_path / "5.npy", np.array([{}], dtype=object), allow_pickle=True)
    table = pd.DataFrame(
        {"clip": [f"clip{k}" for k in range(20)], "bank": [f"{k}.npy" for k in range(20)], "label": [0, 1] * 10}
    )
    dataset = load(table, tmp_path, modalities={"clip": "frames", "bank": "array"})
    assert shapes(dataset) == {"clip": ("video", (3, 8, 8, 3)), "bank": ("sequence", (4, 4))}
    greens = dataset.modalities[0].values[0, :, 4, 4, 1]
    assert np.all(np.abs(greens - [255, 195, 135]) < 6)  # of five, sorted: the first, third and fifth
    bank = dataset.modalities[1]
    assert np.flatnonzero(~bank.present).tolist() == [3, 4, 5]
    assert bank.values[7, :, 0].tolist() == [7, 7, 7, 7]
    assert bank.lengths[:2].tolist() == [3, 4]
    (line,) = messages(capsys)
    assert (
        "bank: 3 of 20 files cannot be read, the first in row 3: '3.npy' (it has 5 features, those before it 4)" in line
    )
    with pytest.raises(InputError, match=r"a path must name a folder, got '0\.npy', which is a file"):
        load(table.assign(clip="0.npy"), tmp_path, modalities={"clip": "frames", "bank": "array"})
    with pytest.raises(InputError, match="a path must name a file, got 'clip0', which is a folder"):
        load(table.assign(bank="clip0"), tmp_path, modalities={"clip": "frames", "bank": "array"})


# --- preparation -----------------------------------------------------------------------------------------------------


def prepare(*arguments):
    return main(["prepare", *map(str, arguments)])


def stills(root):
    return {
        str(folder.relative_to(root)): len(list(folder.glob("*.jpg"))) for folder in root.rglob("*") if folder.is_dir()
    }


def raw_crema_d(root):
    for speaker in (1001, 1002):
        for emotion in trees.EMOTIONS:
            for take in ("IEO", "TIE"):
                name = f"{speaker}_{take}_{emotion}_XX"
                if (speaker, take) == (1001, "IEO"):
                    trees.film(root / "VideoFlash" / f"{name}.mp4")  # any container
                else:
                    shutil.copy(next((root / "VideoFlash").iterdir()), root / "VideoFlash" / f"{name}.mp4")
    return root


def test_prepare_crema_d(tmp_path, capsys):
    raw, made = raw_crema_d(tmp_path / "raw"), tmp_path / "made"
    broken = raw / "VideoFlash" / "1002_TIE_ANG_XX.mp4"
    broken.write_bytes(broken.read_bytes()[:300])
    trees.sound(raw / "AudioWAV" / "1001_IEO_NEU_XX.wav", 3)
    assert prepare("crema-d", "--from", raw, "--to", made) == 0
    out, err = capsys.readouterr()
    assert "24 films: 23 are prepared, 0 before; 1 cannot be read; 0 without sound" in out
    assert "warning: 'VideoFlash/1002_TIE_ANG_XX.mp4' cannot be read" in err
    assert "note: train.csv and test.csv are drawn" in err
    counts = stills(made / "Image-01-FPS")
    assert set(counts.values()) == {3}  # 2.2 s: at 0, 1 and 2 s
    assert len(counts) == 23
    # The sound beside a film counts, where there is one.
    assert (made / "AudioWAV" / "1001_IEO_NEU_XX.wav").read_bytes() == (
        raw / "AudioWAV" / "1001_IEO_NEU_XX.wav"
    ).read_bytes()
    dataset = load("crema-d", made)
    assert sizes(dataset)[2] == 3
    video, _ = dataset.modalities
    there = video.present
    assert there.sum() == 23
    assert np.all(np.abs(video.values[there][:, :, 4, 4, 0].astype(int) - [0, 60, 120]) < 8)  # each second's brightness
    capsys.readouterr()
    # Again: only what is missing.
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*.jpg")}
    gone = made / "Image-01-FPS" / "1001_IEO_HAP_XX"
    shutil.rmtree(gone)
    (made / "Image-01-FPS" / ".tmp-left").mkdir()  # as a kill leaves behind
    trees.film(broken)
    assert prepare("crema-d", "--from", raw, "--to", made, "--jobs", 2) == 0
    assert "24 films: 24 are prepared, 22 before; 0 cannot be read" in capsys.readouterr().out
    after = {path: path.stat().st_mtime_ns for path in made.rglob("*.jpg")}
    assert {p: t for p, t in after.items() if p in before and p.parent != gone} == {
        p: t for p, t in before.items() if p.parent != gone
    }
    assert not list(made.rglob(".tmp*"))


def test_prepare_kinetics_sounds(tmp_path, capsys):
    raw, made = tmp_path / "raw", tmp_path / "made"
    for part, n in (("train", 3), ("val", 1)):
        for label in ("drum", "flute"):
            for k in range(n):
                trees.film(
                    raw / part / label / f"{part}{k}.mp4", seconds=1, silent=(part, label, k) == ("train", "drum", 0)
                )
    assert prepare("kinetics-sounds", "--from", raw, "--to", made) == 0
    assert "8 films: 8 are prepared, 0 before; 0 cannot be read; 1 without sound" in capsys.readouterr().out
    dataset = load("kinetics-sounds", made)
    assert (dataset.classes, sizes(dataset)[2]) == (("drum", "flute"), 2)
    assert [int(modality.present.sum()) for modality in dataset.modalities] == [8, 7]
    assert dataset.modalities[1].values.shape[1] > 95  # the whole second


def test_sets_without_films_are_checked(tmp_path, capsys):
    root = trees.mvsa_single(tmp_path / "mvsa")
    assert prepare("mvsa-single", "--from", root) == 0
    lines = messages(capsys)
    assert "24 samples, 3 classes" in lines[0]
    assert lines[-1] == f"equilib prepare: note: mvsa-single is read as it is downloaded: --data-root {root}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs a set and the folder of its download"),
        (["imagenet", "--from", "."], "dataset must be one of crema-d, kinetics-sounds"),
        (["crema-d", "--from", "."], "crema-d needs a folder for what is made: --to DIR"),
        (["crema-d", "--from", "none", "--to", "made"], "from must be a folder, got 'none'"),
        (["crema-d", "--from", ".", "--to", "made"], "looked for films, 'VideoFlash/ID.flv', and found none"),
        (["kinetics-sounds", "--from", ".", "--to", "made"], "looked for the folder 'train', and there is none"),
        (["crema-d", "--from", ".", "--jobs", "0"], "jobs must be at least 1, got 0"),
        (["crema-d", "--from", ".", "--fast"], "unknown argument '--fast'"),
    ],
)
def test_what_cannot_be_prepared_is_said_in_a_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert prepare(*arguments) == 2
    (line,) = messages(capsys)
    assert message in line


def test_a_full_disk_is_not_the_films_fault(tmp_path, monkeypatch, capsys):
    trees.film(tmp_path / "raw" / "VideoFlash" / "1001_IEO_NEU_XX.mp4", seconds=1)
    trees.film(tmp_path / "raw" / "VideoFlash" / "1001_IEO_HAP_XX.mp4", seconds=1)
    for name in ("train", "test"):
        (tmp_path / "raw" / f"{name}.csv").write_text("1001_IEO_NEU_XX,NEU\n")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("PIL.Image.Image.save", full)
    assert prepare("crema-d", "--from", tmp_path / "raw", "--to", tmp_path / "made") == 2
    assert "cannot read or write" in messages(capsys)[-1]
    assert list(Path(tmp_path / "made" / "Image-01-FPS").iterdir()) == []
