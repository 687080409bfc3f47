"""Reading `.npz` files: what is written comes back, and what is wrong or hostile is refused in one line."""

from __future__ import annotations

import io
import os
import pickle
import re
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import equilib_torch.data.npz as npz
from equilib_torch.data import load_dataset, read_npz
from equilib_torch.data.dataset import SPLITS
from equilib_torch.errors import InputError

N = 40
LABEL = np.arange(N) % 2
X = np.arange(N * 3, dtype=np.float32).reshape(N, 3)


@pytest.fixture
def save(tmp_path):
    def write(**arrays):
        path = tmp_path / "some set.npz"
        np.savez(path, **arrays)
        return path

    return write


def refused(path, message, seed=0):
    with pytest.raises(InputError, match=message) as info:
        read_npz(path, seed=seed)
    text = str(info.value)
    assert text.startswith(repr(str(path)))
    assert text.isprintable()  # hence one line, and no terminal escapes from the file


# --- what is right comes back ----------------------------------------------------------------------------------------


@st.composite
def files(draw):
    """Arrays of a valid file, and the kind, values and lengths to expect."""
    n = draw(st.integers(24, 40))
    arrays, expected = {}, {}
    names = st.sampled_from(["image", "a", "über", "x_y", "length", "_", "present_x", "../../x", "file", "∅"])
    for name in draw(st.lists(names, min_size=1, max_size=8, unique=True)):
        kind = draw(st.sampled_from(["vector", "sequence", "plain sequence", "grey image", "image"]))
        sides = tuple(draw(st.integers(1, 4)) for _ in range({"vector": 1, "image": 3}.get(kind, 2)))
        dtypes = ["uint8"] if kind == "grey image" else ["bool", "int16", ">i4", "uint16", "float16", "<f4", ">f8"]
        if kind in ("vector", "sequence", "image"):
            dtypes.append("uint8")
        dtype = np.dtype(draw(st.sampled_from(dtypes)))
        finite = {"allow_nan": False, "allow_infinity": False, "width": 16} if dtype.kind == "f" else {}
        elements = st.floats(**finite) if finite else hnp.from_dtype(dtype)
        values = draw(hnp.arrays(dtype, (n, *sides), elements=elements, fill=elements))
        arrays[name], lengths, present = values, None, np.ones(n, np.bool_)
        if kind == "sequence":
            lengths = draw(hnp.arrays(np.int16, n, elements=st.integers(1, sides[0])))
            arrays[f"{name}_length"] = lengths
        elif kind == "plain sequence":
            lengths = np.full(n, sides[0])
        if expected and draw(st.booleans()):  # the first modality is everywhere
            present = draw(hnp.arrays(np.bool_, n))
            present[:8] = True
            arrays[f"{name}_present"] = present.astype(draw(st.sampled_from(["bool", "uint8"])))
        expected[name] = (kind.split()[-1], values, lengths, present)
    labels = np.arange(n) % draw(st.integers(2, 3))
    arrays["label"] = labels if draw(st.booleans()) else np.array(["no", "yes", "maybe"])[labels]
    if draw(st.booleans()):
        arrays["split"] = np.resize(["train"] * 3 + ["test"] * 3 + ["val"] * 3, n)
    return arrays, expected


@settings(deadline=None, max_examples=60)
@given(files(), st.booleans())
def test_round_trip(tmp_path_factory, file, compressed):
    arrays, expected = file
    path = tmp_path_factory.getbasetemp() / "round.npz"
    with path.open("wb") as stream, zipfile.ZipFile(stream, "w", 8 if compressed else 0) as archive:
        for key, array in arrays.items():  # np.savez takes no key called "file"
            with archive.open(f"{key}.npy", "w") as member:
                np.lib.format.write_array(member, array)
    dataset = read_npz(path, seed=0)
    assert dataset.name == "round"
    assert dataset.names == tuple(expected)
    for modality in dataset.modalities:
        kind, values, lengths, present = expected[modality.name]
        assert modality.kind == kind
        assert modality.values.dtype == values.dtype.newbyteorder("=")
        assert np.array_equal(modality.present, present)
        assert (modality.lengths is None) == (kind != "sequence")
        valid = np.broadcast_to(present.reshape(-1, *[1] * (values.ndim - 1)), values.shape)
        if lengths is not None:
            assert np.array_equal(modality.lengths[present], lengths[present])
            valid = valid & (np.arange(values.shape[1]) < lengths[:, None])[..., None]
        assert np.array_equal(modality.values, np.where(valid, values, 0))
    assert list(dataset.classes) == sorted(dataset.classes)
    assert [dataset.classes[label] for label in dataset.labels] == arrays["label"].tolist()
    if "split" in arrays:
        for part in SPLITS:
            assert np.array_equal(dataset.splits[part], np.flatnonzero(arrays["split"] == part))


def test_load_dataset_reads_a_path(save, monkeypatch):
    path = save(label=LABEL, x=X)
    assert load_dataset(str(path), seed=0).name == "some set"
    upper = path.rename(path.with_name("SET.NPZ"))
    monkeypatch.chdir(upper.parent)
    assert load_dataset("SET.NPZ", seed=0).n_classes == 2


def test_the_seed_draws_the_splits(save):
    path = save(label=LABEL, x=X)
    tests = [read_npz(path, seed=seed).splits["test"].tolist() for seed in (0, 0, 1)]
    assert tests[0] == tests[1] != tests[2]


@pytest.mark.parametrize("label", [LABEL.astype(np.uint64) + 2**63, LABEL.astype(np.int8) - 5, LABEL.astype(">i2")])
def test_integer_labels_of_any_width(save, label):
    dataset = read_npz(save(label=label, x=X), seed=0)
    assert dataset.classes == (int(label.min()), int(label.max()))
    assert all(type(name) is int for name in dataset.classes)


def test_missing_rows_may_be_nan(save):
    x = X.copy()
    x[3:9] = np.nan
    dataset = read_npz(save(label=LABEL, x=x, y=X, x_present=~np.isnan(x[:, 0])), seed=0)
    assert not dataset.modalities[0].values[3:9].any()
    assert dataset.modalities[0].present.sum() == N - 6


# --- what is wrong is refused ----------------------------------------------------------------------------------------

SERIES = np.ones((N, 4, 2))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, r"label: this key is required, got 'x'"),
        ({}, r"label: this key is required, got no keys"),
        ({"label": LABEL}, r"modalities: needs 1 to 8 keys besides label and split, got 0"),
        ({"label": LABEL} | {f"x{i}": X for i in range(9)}, r"needs 1 to 8 keys besides label and split, got 9"),
        (
            {"label": LABEL + 0.5, "x": X},
            r"label must be integers or strings, got float64; .* save them with \.astype\(int\)",
        ),
        ({"label": np.array([b"a", b"b"] * 20), "x": X}, r"label must .* got \|S1; .* \.astype\(str\)"),
        ({"label": LABEL[:, None], "x": X}, r"label: must be one label per sample, .* got shape \(40, 1\)"),
        ({"label": np.int64(3), "x": X}, r"label: .* got shape \(\)"),
        ({"label": LABEL[:0], "x": X[:0]}, r"label: .* got shape \(0,\)"),
        ({"label": np.array(["a\n"] * N), "x": X}, r"label: needs two or more classes, got only 'a\\n'"),
        ({"label": LABEL, "x": X[:-1]}, r"x: needs a row per label, 40, got 39"),
        ({"label": LABEL, "x": X[:, 0]}, r"x: needs 2 \(vectors\), .* got \(40,\)"),
        ({"label": LABEL, "x": np.float32(1)}, r"x: needs 2 \(vectors\), .* got \(\)"),
        ({"label": LABEL, "x": X[:, :, None, None, None]}, r"x: needs 2 \(vectors\), .* got \(40, 3, 1, 1, 1\)"),
        ({"label": LABEL, "x": X[:, :0]}, r"x: kind 'vector' needs 2 dimensions, none of size 0"),
        ({"label": LABEL, "x": X * 1j}, r"x: values must be bool, integer or real, got dtype complex64"),
        ({"label": LABEL, "x": X.astype("U")}, r"x: values must be bool, integer or real, got dtype <U"),
        ({"label": LABEL, "x": np.zeros((N, 2), "i4,f4")}, r"x: values must be bool, integer or real"),
        (
            {"label": LABEL, "x": np.where(X == 4, np.nan, X)},
            r"x: values must be finite, got nan at \[1, 1\]",
        ),
        ({"label": LABEL, "x": np.where(X == 4, np.inf, X)}, r"got inf at \[1, 1\]"),
        ({"label": LABEL, "a+b": X}, r"modality name: .* got 'a\+b'"),
        ({"label": LABEL, "a=b": X[:-1]}, r"modality name: .* got 'a=b'"),
        ({"label": LABEL, "\x1b[2J": X[:-1]}, r"modality name: .* got '\\x1b\[2J'"),
        ({"label": LABEL, "": X}, r"modality name: .* got ''"),
        ({"label": LABEL, "x": X, "y_length": LABEL}, r"'y_length': there is no modality 'y' for it to describe"),
        ({"label": LABEL, "x_present": LABEL == 1}, r"'x_present': there is no modality 'x'"),
        ({"label": LABEL, "x": X, "label_present": LABEL}, r"'label_present': there is no modality 'label'"),
        ({"label": LABEL, "x": SERIES, "x_length": LABEL + 1, "x_length_present": LABEL}, r"no modality 'x_length'"),
        ({"label": LABEL, "x": X, "_length": LABEL}, r"'_length': there is no modality ''"),
        (
            {"label": LABEL, "x": X, "x_length": LABEL + 1},
            r"x: only a sequence .* has lengths, this is of kind 'vector'",
        ),
        (
            {"label": LABEL, "x": SERIES[..., None], "x_length": LABEL},
            r"x: only a sequence .* has lengths, .* 'image'",
        ),
        ({"label": LABEL, "x": SERIES, "x_length": LABEL}, r"x: lengths must be 1 to 4 \(its frames\), got 0 in row 0"),
        ({"label": LABEL, "x": SERIES, "x_length": LABEL + 4}, r"x: lengths must be 1 to 4 .* got 5 in row 1"),
        ({"label": LABEL, "x": SERIES, "x_length": LABEL + 1.0}, r"x: lengths must be 40 integers, got float64"),
        ({"label": LABEL, "x": SERIES, "x_length": LABEL[1:] + 1}, r"x: lengths must be 40 integers, .*\(39,\)"),
        (
            {"label": LABEL, "x": X, "x_present": LABEL[1:]},
            r"x: present must be 40 booleans, got int64 of shape \(39,\)",
        ),
        (
            {"label": LABEL, "x": X, "x_present": LABEL + 1},
            r"x_present: must be bool, or 0 and 1, got 2 in row 1; write 1 where",
        ),
        (
            {"label": LABEL, "x": X, "x_present": LABEL * np.nan},
            r"x_present: must be bool, or 0 and 1, got nan in row 0",
        ),
        ({"label": LABEL, "x": X, "x_present": (LABEL == 1)[:, None]}, r"present must be 40 .* of shape \(40, 1\)"),
        ({"label": LABEL, "x": X, "x_present": LABEL.astype(str)}, r"present must be 40 booleans, got <U"),
        ({"label": LABEL, "x": X, "x_length": X}, r"only a sequence .* has lengths, .* rename 'x_length'"),
        ({"label": LABEL, "x": X, "x_present": LABEL * 0}, r"x: absent in all 40 samples"),
        (
            {"label": LABEL, "x": X, "x_present": LABEL},
            r"every sample needs a modality, 20 have none, the first in row 0",
        ),
        ({"label": LABEL, "x": X, "split": np.array(["train", "exam"] * 20)}, r"split: must be one of .* got 'exam'"),
        ({"label": LABEL, "x": X, "split": np.array(["train", "val"] * 20)}, r"split: needs 'train' and 'test'"),
        ({"label": LABEL, "x": X, "split": np.array(["train", "test"] * 20)}, r"every class needs a training .* 1 has"),
        ({"label": LABEL, "x": X, "split": np.array(["train"])}, r"split: needs 40 strings, got <U5 of shape \(1,\)"),
        ({"label": np.arange(N), "x": X}, r"split: nothing to hold out"),
    ],
)
def test_wrong_contents(save, arrays, message):
    path = save()
    with zipfile.ZipFile(path, "w") as archive:
        for key, array in arrays.items():
            archive.writestr(f"{key}.npy", npy(np.asarray(array)))
    refused(path, message)


def test_wrong_files(tmp_path, save):
    refused(tmp_path / "missing.npz", "no such file")
    refused(tmp_path, "must be an .npz file, got a directory")
    text = tmp_path / "a\nb.npz"
    text.write_text("label,x\n")
    refused(text, r"cannot be read as an \.npz file \(File is not a zip file\)")
    text.write_bytes(b"")
    refused(text, r"File is not a zip file")
    np.save(tmp_path / "array.npy", X)
    refused(tmp_path / "array.npy", r"File is not a zip file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    refused(tmp_path / "pipe.npz", "not a regular file")


def test_an_unreadable_file(save, monkeypatch):
    path = save(label=LABEL, x=X)

    def deny(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    refused(path, "Permission denied")


# --- what is hostile is refused --------------------------------------------------------------------------------------


def npy(array, **options):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **options)
    return stream.getvalue()


def header(shape, descr="<f8"):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def archive_of(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for key, data in {"label.npy": npy(LABEL), **members}.items():
            archive.writestr(key, data)
    return path


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


@pytest.mark.parametrize("key", ["x", "label", "split", "x_length", "x_present"])
def test_pickles_never_run(tmp_path, key):
    canary = tmp_path / "ran"
    objects = np.empty(N, dtype=object)
    objects[:] = [Canary(canary)] * N
    arrays = {"label": LABEL, "x": SERIES, "split": np.array(["train", "test"] * 20)} | {key: objects}
    path = tmp_path / "pickle.npz"
    np.savez(path, allow_pickle=True, **arrays)
    regular = f"'{key}': must be one regular array, got an object array .* pad sequences"
    refused(path, f"{key}: must be integers or strings, got Python objects" if key in ("label", "split") else regular)
    assert not canary.exists()
    with np.load(path, allow_pickle=True) as loaded:  # the canary does sing when let
        loaded[key]
    assert canary.exists()


def test_a_pickle_in_place_of_an_array(tmp_path):
    canary = tmp_path / "ran"
    refused(archive_of(tmp_path / "p.npz", {"x.npy": pickle.dumps(Canary(canary))}), "'x': its .npy header cannot")
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(Canary(canary)))
    refused(tmp_path / "bare.npz", "not a zip file")
    assert not canary.exists()


def test_a_header_may_not_claim_more_than_the_archive_holds(tmp_path):
    path = archive_of(tmp_path / "claim.npz", {"x.npy": header((N, 2**32)) + bytes(8)})
    refused(path, r"'x': its header announces \d+ bytes, the archive 136")
    for shape in [(2**40, 2**40), (-1, -1), (N, -1), (0, N)]:
        refused(archive_of(path, {"x.npy": header(shape) + bytes(8)}), "'x': its header announces")
    refused(archive_of(path, {"x.npy": npy(X) + b"more"}), "'x': its header announces")
    refused(archive_of(path, {"x.npy": npy(X)[:-1]}), "'x': its header announces")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "bomb.npz"
    # Sizes that agree with each other, 16 GiB; a real bomb would hold them, and take a minute to write.
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("label.npy", npy(LABEL))
        archive.writestr("x.npy", header((N, 2**34 // (8 * N))) + bytes(8))
        archive.infolist()[-1].file_size = 2**34
    tracemalloc.start()
    refused(path, r"unpacks to 16\.0 GiB, more than the limit of 8 GiB")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_many_members_count_together(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "MAX_BYTES", 2**20)
    big = np.zeros((N, 2**11))  # 640 KiB
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, label=LABEL, x=big)
    assert path.stat().st_size < 2**13
    assert read_npz(path, seed=0).names == ("x",)
    np.savez_compressed(path, label=LABEL, x=big, y=big)
    refused(path, r"unpacks to 0\.0 GiB, more than the limit")


def test_a_huge_header_is_not_read(tmp_path):
    data = b"\x93NUMPY\x02\x00" + (2**26).to_bytes(4, "little") + b" " * 2**26
    path = archive_of(tmp_path / "header.npz", {"x.npy": data}, compression=zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    refused(path, "'x': its .npy header cannot be read")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "text",
    ["", "()", "{}", "(" * 9000, "{'shape': 1}", "__import__('os').abort()", "{'descr': 'V-1'}", "\x00", "'" * 3],
)
def test_hostile_headers(tmp_path, text):
    data = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()
    refused(archive_of(tmp_path / "header.npz", {"x.npy": data}), "'x': its .npy header cannot be read")


def test_archives_numpy_would_not_write(tmp_path):
    path = tmp_path / "odd.npz"
    refused(archive_of(path, {"x.txt": b"hello"}), r"must hold \.npy arrays only, got 'x\.txt'")
    refused(archive_of(path, {"folder/": b""}), r"must hold \.npy arrays only, got 'folder/'")
    refused(archive_of(path, {"x.npy": npy(X)}, compression=zipfile.ZIP_LZMA), "'label': must be stored or deflated")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("label.npy", npy(LABEL))
        archive.writestr("x.npy", npy(X))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("x.npy", npy(X))
    refused(path, "'x': a key must occur once, got it twice")
    archive_of(path, {"x.npy": npy(X)})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the central directory's "encrypted" flag of the first member
    path.write_bytes(data)
    refused(path, "'label': must be stored or deflated and not encrypted")


def test_nothing_is_written_outside(tmp_path):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    path = archive_of(folder / "up.npz", {"../../x.npy": npy(X)})
    assert read_npz(path, seed=0).names == ("../../x",)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "b", "up.npz"]


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("damaged") / "damaged.npz"
    np.savez_compressed(path, label=LABEL, x=X, y=SERIES, y_length=LABEL + 1)
    return path, path.read_bytes()


def test_a_cut_at_any_length_is_refused(small_file):
    path, data = small_file
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        refused(path, "cannot be read as an .npz file|header|key is required|modalities")


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_flipped_bytes_are_refused_or_harmless(small_file, data):
    path, original = small_file
    damaged = bytearray(original)
    for index in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=3)):
        damaged[index] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    try:  # zip has fields that nobody reads, such as times: not every flip is damage
        dataset = read_npz(path, seed=0)
    except InputError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert np.array_equal(dataset.labels, LABEL)
    assert "\n" not in refusal


def test_labels_of_two_truth_values_are_the_classes_0_and_1(save):
    dataset = read_npz(save(label=LABEL == 1, x=X, x_present=np.ones(N)), seed=0)
    assert dataset.classes == (0, 1)
    assert dataset.labels.tolist() == LABEL.tolist()


@pytest.mark.parametrize(
    ("array", "note"),
    [
        (np.zeros((N, 9, 9)), r"x: float64 samples of shape \(9, 9\) are read as sequences of 9 frames"),
        (
            np.zeros((N, 3, 9, 9), np.uint8),
            r"read as images of 3 × 9 pixels in 9 channels; .* \.transpose\(0, 2, 3, 1\)",
        ),
        (np.zeros((N, 3, 9, 9), np.float32), r"in 9 channels; if the channels come first"),
        (np.zeros((N, 9, 9, 3), np.float32), r"images of 9 × 9 pixels in 3 channels$"),
        (np.zeros((N, 9, 9, 3), np.uint8), None),
        (np.zeros((N, 9, 9), np.uint8), None),
        (np.zeros((N, 20, 3)), None),
        (np.zeros((N, 81)), None),
    ],
    ids=lambda x: str(getattr(x, "shape", x))[:20],
)
def test_what_could_be_meant_otherwise_is_noted(save, array, note):
    notes = read_npz(save(label=LABEL, x=array), seed=0).notes
    assert len(notes) == (note is not None)
    assert all(re.search(note, line) and "\n" not in line for line in notes)


def test_the_fingerprint_is_of_content_alone(save, tmp_path):
    def fingerprint(seed=0, **changes):
        arrays = {"label": LABEL, "x": X, "y": SERIES} | changes
        return read_npz(
            save(**{key: value for key, value in arrays.items() if value is not None}), seed=seed
        ).fingerprint

    split = np.array(["train", "test", "train", "test"] * 10)[np.argsort(LABEL, kind="stable")]
    same = [fingerprint(), fingerprint(seed=7)]
    others = [
        fingerprint(x=X + 1),
        fingerprint(x=X.astype(np.float64)),
        fingerprint(x=None, z=X),
        fingerprint(label=1 - LABEL),
        fingerprint(label=LABEL.astype(str)),
        fingerprint(label=LABEL + 1),
        fingerprint(y_length=np.full(N, 2)),
        fingerprint(x_present=np.arange(N) > 0),
        fingerprint(y=None),
        fingerprint(split=split),
        fingerprint(split=split[::-1].copy()),
    ]
    assert len({*same}) == 1
    assert len({*same, *others}) == 1 + len(others)
    assert fingerprint(split=split, seed=1) == fingerprint(split=split)
