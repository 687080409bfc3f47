"""Bundled data sets, splits, and the rules every data set keeps."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from equilib_torch.data import DATASETS, Dataset, Modality, load_dataset, make_splits
from equilib_torch.data.dataset import SPLITS
from equilib_torch.data.split import hold_out
from equilib_torch.errors import InputError

load = cache(lambda name, seed=0: load_dataset(name, seed=seed))

AV = {"image": ("image", (3000, 28, 28), "uint8"), "audio": ("sequence", (3000, 92, 13), "float16")}
VIEWS = {
    "profile_correlations": (216, "uint16"),
    "fourier_coefficients": (76, "float32"),
    "karhunen_loeve": (64, "float32"),
    "morphological": (6, "float32"),
    "pixel_averages": (240, "uint16"),
    "zernike_moments": (47, "float32"),
}
SMALL = {"fourier": 76, "karhunen_loeve": 64, "morphological": 6, "zernike": 47}
EXPECTED = {
    "av-digits": (AV, 10, (2040, 360, 600)),
    "mfeat": ({name: ("vector", (2000, d), dtype) for name, (d, dtype) in VIEWS.items()}, 10, (1190, 210, 600)),
    "av-digits-noisy": (
        {name: (kind, shape, "float32") for name, (kind, shape, _) in AV.items()},
        10,
        (2040, 360, 600),
    ),
    "av-digits-pca": (
        {"image": ("vector", (3000, 4), "float32"), "audio": ("sequence", (3000, 92, 13), "float32")},
        10,
        (2040, 360, 600),
    ),
    "av-digits-sum": (
        {"image": ("image", (12000, 28, 28), "uint8"), "audio": ("sequence", (12000, 92, 13), "float16")},
        19,
        (8160, 1440, 2400),
    ),
    "mfeat-small": ({name: ("vector", (1200, d), "float32") for name, d in SMALL.items()}, 10, (300, 300, 600)),
}


def digests(values):
    """One hashable value per row, to find a row again."""
    return [row.tobytes() for row in np.ascontiguousarray(values)]


def training(dataset):
    return np.sort(np.concatenate([dataset.splits["train"], dataset.splits["val"]]))


def frames(modality, rows):
    valid = np.arange(modality.values.shape[1]) < modality.lengths[rows, None]
    return modality.values[rows][valid].astype(np.float64), valid


# --- the bundled sets ------------------------------------------------------------------------------------------------


def test_every_builtin_is_expected_and_described():
    assert set(DATASETS) == set(EXPECTED)
    assert all(line and "\n" not in line for line in DATASETS.descriptions().values())


@pytest.mark.parametrize("name", EXPECTED)
def test_builtin_shapes_and_counts(name):
    modalities, n_classes, counts = EXPECTED[name]
    dataset = load(name)
    found = {m.name: (m.kind, m.values.shape, m.values.dtype.name) for m in dataset.modalities}
    assert found == modalities
    assert dataset.name == name
    assert dataset.classes == tuple(range(n_classes))
    assert dataset.n_classes == n_classes
    assert tuple(dataset.splits[part].size for part in SPLITS) == counts
    assert sum(counts) == len(dataset.labels)
    assert all(m.present.all() for m in dataset.modalities)
    if n_classes == 10:  # stratified, so every part has its classes in equal numbers
        for part, count in zip(SPLITS, counts, strict=True):
            assert (np.bincount(dataset.labels[dataset.splits[part]]) == count // 10).all(), part


@pytest.mark.parametrize("name", EXPECTED)
def test_builtin_is_deterministic(name):
    first, again = load(name), load_dataset(name, seed=0)
    for a, b in zip(first.modalities, again.modalities, strict=True):
        assert a.values.tobytes() == b.values.tobytes()
        assert (a.lengths is None and b.lengths is None) or np.array_equal(a.lengths, b.lengths)
    assert np.array_equal(first.labels, again.labels)
    assert all(np.array_equal(first.splits[part], again.splits[part]) for part in SPLITS)


@pytest.mark.parametrize("name", ["av-digits", "mfeat", "av-digits-noisy", "av-digits-pca", "mfeat-small"])
def test_another_seed_changes_the_validation_part_only(name):
    one, other = load(name), load(name, 1)
    for a, b in zip(one.modalities, other.modalities, strict=True):
        assert a.values.tobytes() == b.values.tobytes()
    assert np.array_equal(training(one), training(other))
    assert np.array_equal(one.splits["test"], other.splits["test"])
    # mfeat-small's recipe includes its validation part.
    assert np.array_equal(one.splits["val"], other.splits["val"]) == (name == "mfeat-small")


@pytest.mark.parametrize("name", EXPECTED)
def test_no_sample_is_in_two_parts(name):
    dataset = load(name)
    for modality in dataset.modalities:
        if name == "av-digits-pca" and modality.name == "image":
            continue  # four numbers of an image: equal ones would not mean equal images
        rows = digests(modality.values)
        parts = [{rows[row] for row in dataset.splits[part]} for part in SPLITS]
        if not name.startswith("mfeat"):  # its source repeats itself, see below
            assert sum(map(len, parts)) == len(set.union(*parts)), modality.name
    used = np.concatenate([dataset.splits[part] for part in SPLITS])
    assert np.unique(used).size == used.size


def test_mfeat_repeats_no_more_digits_than_its_source():
    dataset = load("mfeat")
    rows = digests(np.concatenate([m.values.astype(np.float32) for m in dataset.modalities], axis=1))
    test = {rows[row] for row in dataset.splits["test"]}
    assert len(set(rows)) == 1994
    assert len(test & {rows[row] for row in training(dataset)}) == 4


# --- the recipes -----------------------------------------------------------------------------------------------------


def test_noise_has_the_stated_sd():
    clean, noisy = load("av-digits"), load("av-digits-noisy")
    train = training(clean)
    image = clean.modalities[0].values.astype(np.float64)
    standardised = (image - image[train].mean()) / image[train].std()
    noise = noisy.modalities[0].values - standardised
    for part in (train, clean.splits["test"]):
        assert noise[part].mean() == pytest.approx(0, abs=0.01)
        assert noise[part].std() == pytest.approx(1.5, rel=0.01)

    audio, noisy_audio = clean.modalities[1], noisy.modalities[1]
    fitted, _ = frames(audio, train)
    for part in (train, clean.splits["test"]):
        values, valid = frames(audio, part)
        noise = noisy_audio.values[part][valid] - (values - fitted.mean(axis=0)) / fitted.std(axis=0)
        assert noise.mean(axis=0) == pytest.approx(np.zeros(13), abs=0.1)
        assert noise.std(axis=0) == pytest.approx(np.full(13, 3.5), rel=0.02)
        assert not noisy_audio.values[part][~valid].any()


def test_pca_keeps_the_fewest_components_that_hold_a_quarter_of_the_energy():
    clean, reduced = load("av-digits"), load("av-digits-pca")
    train = training(clean)
    pixels = clean.modalities[0].values[train].reshape(train.size, -1).astype(np.float64)
    pixels = (pixels - pixels.mean(axis=0)) / pixels.std()
    with threadpool_limits(1, user_api="blas"):  # see _leading_components
        energy = np.linalg.eigvalsh(np.cov(pixels.T, bias=True))[::-1]
    kept = reduced.modalities[0].values[train].astype(np.float64)
    # The projections are centred, uncorrelated, and have the variances of the leading components.
    assert kept.mean(axis=0) == pytest.approx(np.zeros(4), abs=1e-4)
    assert np.cov(kept.T, bias=True) == pytest.approx(np.diag(energy[:4]), abs=1e-3)
    assert kept.var(axis=0).sum() / energy.sum() >= 0.25
    assert kept.var(axis=0)[:3].sum() / energy.sum() < 0.25
    assert reduced.modalities[1].values.tobytes() == load("av-digits-noisy").modalities[1].values.tobytes()


@pytest.mark.parametrize("seed", [0, 1])
def test_sum_labels_and_pairs(seed):
    source, dataset = load("av-digits"), load("av-digits-sum", seed)
    found = []
    for original, paired in zip(source.modalities, dataset.modalities, strict=True):
        row_of = {digest: row for row, digest in enumerate(digests(original.values))}
        assert len(row_of) == 3000
        rows = np.array([row_of[digest] for digest in digests(paired.values)])
        if original.lengths is not None:
            assert np.array_equal(original.lengths[rows], paired.lengths)
        found.append(rows)
    images, recordings = found
    assert np.array_equal(source.labels[images] + source.labels[recordings], dataset.labels)
    assert len(set(zip(images.tolist(), recordings.tolist(), strict=True))) == 12_000
    test = set(source.splits["test"].tolist())
    for part, count in zip(SPLITS, (2040, 360, 600), strict=True):
        rows = dataset.splits[part]
        seen, times = np.unique(images[rows], return_counts=True)
        assert seen.size == count
        assert (times == 4).all()
        assert (np.bincount(source.labels[seen]) == count // 10).all()
        assert (set(seen.tolist()) <= test) == (set(recordings[rows].tolist()) <= test) == (part == "test")
        # The spoken digit is random given the written one: correlation zero within sampling error.
        r = np.corrcoef(source.labels[images[rows]], source.labels[recordings[rows]])[0, 1]
        assert abs(r) < 4 / np.sqrt(rows.size)


def test_sum_test_pairs_do_not_depend_on_the_seed():
    one, other = load("av-digits-sum"), load("av-digits-sum", 1)
    assert not np.array_equal(one.modalities[0].values, other.modalities[0].values)
    for a, b in zip(one.modalities, other.modalities, strict=True):
        assert np.array_equal(a.values[one.splits["test"]], b.values[other.splits["test"]])


def test_mfeat_small_comes_from_the_parts_of_mfeat():
    large, small = load("mfeat"), load("mfeat-small")
    views = zip([large.modalities[i] for i in (1, 2, 3, 5)], small.modalities, strict=True)
    for original, view in views:
        assert np.array_equal(original.values[large.splits["test"]], view.values[small.splits["test"]])
        source = set(digests(original.values[training(large)]))
        assert set(digests(view.values[training(small)])) <= source
    assert np.array_equal(large.labels[large.splits["test"]], small.labels[small.splits["test"]])


def test_recipes_draw_what_they_always_drew():
    """A changed stream would silently make the published numbers incomparable."""
    noisy, summed = load("av-digits-noisy"), load("av-digits-sum")
    assert noisy.modalities[0].values[0, 0, :3] == pytest.approx([-2.466, -1.2039, -2.2733], abs=1e-4)
    assert noisy.modalities[1].values[0, 0, :3] == pytest.approx([-0.6507, -2.3283, 6.0993], abs=1e-4)
    assert summed.labels[summed.splits["test"]][:12].tolist() == [16, 10, 12, 13, 1, 2, 6, 7, 5, 4, 6, 12]
    assert load("mfeat-small").splits["train"][:8].tolist() == [3, 11, 23, 25, 26, 34, 35, 36]


# --- loading by name -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["av_digits", "", "table.xlsx", "av-digits\nmfeat", "mfeat.npz.gz", "x" * 300, "a\0b"])
def test_unknown_name(name):
    with pytest.raises(InputError, match=r"^dataset: must be one of av-digits, mfeat, .* or \.npz; got ") as info:
        load_dataset(name, seed=0)
    assert repr(name) in str(info.value)
    assert "\n" not in str(info.value)


def test_negative_seed():
    with pytest.raises(InputError, match="seed: must be an integer, 0 or more, got -1"):
        load_dataset("av-digits", seed=-1)


# --- splits ----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(8, 60), min_size=2, max_size=6), st.integers(0, 2**70), st.booleans())
def test_drawn_splits_are_stratified_and_a_partition(counts, seed, named):
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = np.array([f"class {label}" for label in labels]) if named else labels
    parts = make_splits(labels, None, seed)
    assert np.array_equal(np.sort(np.concatenate([parts[part] for part in SPLITS])), np.arange(labels.size))
    for part, fraction in (("test", 0.2), ("val", 0.8 * 0.15)):
        assert abs(parts[part].size - fraction * labels.size) <= 1.2
        drawn = [np.sum(labels[parts[part]] == name) for name in np.unique(labels)]
        assert np.abs(np.array(drawn) - fraction * np.array(counts)).max() <= 2
    again = make_splits(labels, None, seed)
    assert all(np.array_equal(parts[part], again[part]) for part in SPLITS)


def test_a_given_split_is_kept():
    split = np.array(["test", "val", "train", "train", "val", "test"])
    parts = make_splits(np.array([0, 0, 0, 1, 1, 1]), split, seed=0)
    assert {part: rows.tolist() for part, rows in parts.items()} == {"train": [2, 3], "val": [1, 4], "test": [0, 5]}


def test_validation_is_held_out_of_train_when_the_split_has_none():
    split = np.array(["train"] * 100 + ["test"] * 20)
    parts = make_splits(np.arange(120) % 2, split, seed=3)
    assert parts["test"].tolist() == list(range(100, 120))
    assert (parts["train"].size, parts["val"].size) == (85, 15)
    other = make_splits(np.arange(120) % 2, split, seed=4)
    assert not np.array_equal(parts["val"], other["val"])


@pytest.mark.parametrize(
    ("labels", "split", "message"),
    [
        (range(20), None, "nothing to hold out of 20 samples of 20 classes, one of each"),
        (range(21), ["train"] * 10 + ["test"] * 11, "nothing to hold out of 10 samples of 10 classes, one of each"),
        ([0, 1] * 4, ["train"] * 8, r"needs 'train' and 'test' rows .* got no 'test'"),
        ([0, 1] * 4, ["test"] * 4 + ["val"] * 4, r"got no 'train'"),
        ([0, 1] * 4, ["train"] * 7 + ["Test"], r"must be one of train, val, test, got 'Test'"),
        ([0, 1] * 4, ["train"] * 7, r"needs 8 strings, got <U5 of shape \(7,\)"),
        ([0, 1] * 4, [0] * 8, r"needs 8 strings, got int64 of shape \(8,\)"),
    ],
)
def test_bad_splits(labels, split, message):
    with pytest.raises(InputError, match=message):
        make_splits(np.array(labels), None if split is None else np.array(split), seed=0)


@pytest.mark.parametrize(
    "counts", [(18, 2), (19, 1), (2,) * 10, (3, 3, 2, 2, 2, 2, 2, 2, 2), (10, 10), (12, *[1] * 8), (395, 5)]
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_twenty_rows_are_enough_and_every_class_is_trained(counts, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    parts = make_splits(labels, None, seed)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(labels)))
    assert (np.bincount(labels[parts["train"]], minlength=len(counts)) >= 1).all()
    assert parts["test"].size == min(int(np.ceil(0.2 * len(labels))), len(labels) - len(counts))
    assert parts["val"].size >= 1
    again = make_splits(labels, None, seed)
    assert all(np.array_equal(parts[part], again[part]) for part in parts)


def test_streams_are_independent_draws():
    labels = np.arange(100) % 2
    assert not np.array_equal(*(hold_out(labels, 0.2, 0, stream=stream)[1] for stream in (0, 1)))


# --- the rules of a data set -----------------------------------------------------------------------------------------

NAN = float("nan")
HERE = np.ones(4, np.bool_)


def vector(name="x", values=None, present=HERE):
    return Modality(name, "vector", np.eye(4) if values is None else values, None, present)


def rows(*numbers):
    return np.array(numbers, dtype=np.int64)


def toy(**changes):
    parts = {"train": rows(0, 1), "val": rows(2), "test": rows(3)}
    return replace(Dataset("toy", (vector(),), rows(0, 1, 0, 1), ("no", "yes"), parts), **changes)


def test_what_carries_no_information_is_cleared_in_a_copy():
    values = np.full((3, 4, 2), NAN)
    values[0, :2] = values[1] = 1
    given_values = values.copy()
    present = np.array([True, True, False])
    modality = Modality("x", "sequence", values, rows(2, 4, 99), present)
    assert modality.values[0].tolist() == [[1, 1], [1, 1], [0, 0], [0, 0]]
    assert modality.values[1].all()
    assert not modality.values[2].any()
    assert modality.lengths.tolist() == [2, 4, 1]
    assert np.array_equal(values, given_values, equal_nan=True)


def test_foreign_byte_order_and_layout_become_native():
    values = np.asfortranarray(np.arange(8, dtype=">f4").reshape(4, 2))
    native = vector(values=values).values
    assert native.dtype == np.float32
    assert native.dtype.isnative
    assert native.flags.c_contiguous
    assert native.tolist() == values.tolist()


@pytest.mark.parametrize("name", ["", " ", "a+b", "a=b", "a\n", "\x1b[31m", " a", "a\x00", "\u202e", "\ud800"])
def test_refused_names(name):
    with pytest.raises(InputError, match="modality name: must be printable") as info:
        vector(name)
    assert str(info.value).isprintable()


SEQUENCE = np.ones((4, 5, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("x", "words", np.eye(4), None, HERE),
            r"x: kind must be one of vector, sequence, image, video, text, got 'words'",
        ),
        (("x", "vector", np.eye(4) * 1j, None, HERE), r"x: values must be bool, integer or real, got dtype complex128"),
        (("x", "vector", np.array([["a"]] * 4), None, HERE), r"got dtype <U1"),
        (("x", "vector", np.array([[None]] * 4), None, HERE), r"got dtype object"),
        (("x", "vector", np.array([["NaT"]] * 4, "M8[s]"), None, HERE), r"got dtype datetime64\[s\]"),
        (
            ("x", "vector", np.ones(4), None, HERE),
            r"kind 'vector' needs 2 dimensions, none of size 0, got shape \(4,\)",
        ),
        (("x", "vector", np.ones((4, 0)), None, HERE), r"got shape \(4, 0\)"),
        (("x", "image", np.ones((4, 1, 1, 1, 1)), None, HERE), r"kind 'image' needs 3 or 4 dimensions"),
        (
            ("x", "vector", np.eye(4), rows(1, 1, 1, 1), HERE),
            r"only a sequence .* has lengths, this is of kind 'vector'",
        ),
        (("x", "sequence", SEQUENCE, None, HERE), r"a sequence needs lengths, got None; give np.full"),
        (("x", "sequence", SEQUENCE, rows(1, 2), HERE), r"lengths must be 4 integers, got int64 of shape \(2,\)"),
        (("x", "sequence", SEQUENCE, np.ones(4), HERE), r"lengths must be 4 integers, got float64"),
        (("x", "sequence", SEQUENCE, rows(1, 5, 6, 1), HERE), r"lengths must be 1 to 5 \(its frames\), got 6 in row 2"),
        (("x", "sequence", SEQUENCE, rows(0, 5, 5, 1), HERE), r"got 0 in row 0"),
        (("x", "sequence", SEQUENCE, np.full(4, 2**64 - 1, np.uint64), HERE), r"got 18446744073709551615 in row 0"),
        (("x", "vector", np.eye(4), None, HERE[:3]), r"present must be 4 booleans, got bool of shape \(3,\)"),
        (("x", "vector", np.eye(4), None, np.full(4, 0.5)), r"x_present: must be bool, or 0 and 1, got 0.5 in row 0"),
        (("x", "vector", [[1, 2], [3]], None, HERE), r"x: must be one regular array .*; pad rows"),
        (
            ("x", "vector", np.array([[1], [NAN], [1], [1]]), None, HERE),
            r"row 1 lacks this modality, say so in 'x_present'",
        ),
        ((3, "vector", np.eye(4), None, HERE), r"modality name: must be a string, got 3"),
        (("x", "vector", np.eye(4), None, ~HERE), r"x: absent in all 4 samples"),
        (("x", "vector", np.array([[1, 2, NAN]] * 4), None, HERE), r"must be finite, got nan at \[0, 2\]"),
        (("x", "vector", np.array([[1, -np.inf]] * 4), None, HERE), r"got -inf at \[0, 1\]"),
        (("x", "sequence", SEQUENCE * NAN, rows(1, 1, 1, 1), HERE), r"got nan at \[0, 0, 0\]"),
    ],
)
def test_bad_modalities(arguments, message):
    with pytest.raises(InputError, match=message) as info:
        Modality(*arguments)
    assert "\n" not in str(info.value)


PARTS = {"train": rows(0, 1), "val": rows(2), "test": rows(3)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("only",)}, r"label: needs two or more distinct classes, got \['only'\]"),
        ({"classes": ("a", "a")}, r"two or more distinct classes"),
        ({"labels": rows(0, 1, 0, 2)}, r"label: indices must be 0 to 1, got 0 to 2"),
        ({"labels": rows(0, 1, -1, 1)}, r"got -1 to 1"),
        ({"labels": np.ones(4)}, r"label: needs one integer per sample, .* got float64 .*np\.unique"),
        ({"labels": rows(0, 1, 0)}, r"split: rows must be 0 to 2, got 3 to 3"),
        ({"splits": {"train": rows(0)}}, r"split: needs exactly train, val, test, each with its rows, got train"),
        (
            {"splits": PARTS | {"val": rows()}},
            r"split: 'val' must be integer rows, one or more, got int64 of shape \(0,\)",
        ),
        ({"splits": PARTS | {"val": np.array([0.5])}}, r"split: 'val' must be integer rows"),
        ({"splits": PARTS | {"val": np.array([False, False, True, False])}}, r"got bool .*np\.flatnonzero"),
        ({"splits": [rows(0, 1), rows(2), rows(3)]}, r"split: needs exactly .* got list"),
        ({"classes": (0.0, 1.0)}, r"classes: must be all integers or all strings"),
        ({"classes": ("a", 1)}, r"classes: must be all integers or all strings"),
        ({"modalities": (vector("x"), vector("x_length"))}, r"'x_length' would be read as the length of 'x'; rename"),
        ({"modalities": (vector("x_present"), vector("x"))}, r"'x_present' would be read as the present of 'x'"),
        ({"modalities": (np.eye(4),)}, r"modalities: must be a tuple of Modality"),
        ({"splits": PARTS | {"val": rows(3)}}, r"a row must be in one part only"),
        ({"splits": PARTS | {"val": rows(2, 2)}}, r"a row must be in one part only"),
        ({"splits": PARTS | {"val": rows(-1)}}, r"rows must be 0 to 3, got -1 to -1"),
        ({"labels": rows(0, 0, 0, 1)}, r"every class needs a training sample, 'yes' has none"),
        ({"modalities": ()}, r"modalities: needs 1 to 8 of distinct names, got 0"),
        ({"modalities": tuple(vector(f"x{i}") for i in range(9))}, r"needs 1 to 8 of distinct names, got 9"),
        ({"modalities": (vector(), vector())}, r"distinct names, got 2: \['x', 'x'\]"),
        ({"modalities": (Modality("x", "vector", np.eye(3), None, HERE[:3]),)}, r"x: needs a row per label, 4, got 3"),
        (
            {"modalities": (vector(), vector("y", present=np.array([False, False, True, True])))},
            r"y: absent in all 2 training samples",
        ),
        (
            {"modalities": (vector(present=np.array([True, True, False, False])),)},
            r"every sample needs a modality, 2 have none, the first in row 2",
        ),
    ],
)
def test_bad_datasets(changes, message):
    with pytest.raises(InputError, match=message) as info:
        toy(**changes)
    assert "\n" not in str(info.value)


def test_a_toy_dataset_is_accepted():
    assert toy().names == ("x",)


def test_lists_and_integers_of_any_width_are_taken():
    """What comes out is as if arrays and plain numbers had been given, to the end of the files that are written."""
    x = Modality(np.str_("x"), "sequence", [[[1.0], [2.0]]] * 4, [2, 1, 2, 2], [1, 1, 0, 1])
    y = Modality("y", "vector", np.eye(4).tolist(), None, [True] * 4)
    parts = {"train": [0, 1], "val": np.array([2], np.uint8), "test": [np.int16(3)]}
    dataset = Dataset("d", [x, y], [0, 1, 0, 1], np.array([5, 7]), parts)
    assert dataset.labels.dtype == x.lengths.dtype == np.int64
    assert all(rows.dtype == np.int64 for rows in dataset.splits.values())
    assert x.present.tolist() == [True, True, False, True]
    assert json.loads(json.dumps([dataset.classes, dataset.names])) == [[5, 7], ["x", "y"]]
    assert Dataset("d", [y], [0, 1, 0, 1], np.array(["a", "b"]), parts).classes == ("a", "b")


@pytest.mark.parametrize(
    "labels", [[0, 1] * 20, ["a", "b"] * 20, np.array(["a", "b"] * 20, object), [True, False] * 20]
)
def test_make_splits_takes_lists(labels):
    given = ["train", "train", "test", "val"] * 10
    assert make_splits(labels, given, np.int64(0))["val"].tolist() == list(range(3, 40, 4))
    parts = make_splits(labels, None, np.uint8(3))
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(40))


@pytest.mark.parametrize(
    ("labels", "split", "seed", "message"),
    [
        ([0.0, 1.0] * 20, None, 0, r"label must be integers or strings, got float64; .*\.astype\(int\)"),
        ([0, "a", None] * 20, None, 0, r"label must be integers or strings, got object"),
        ([[0], [1, 2]], None, 0, r"label: must be one regular array"),
        ([0, 1] * 20, None, 1.5, r"seed: must be an integer, 0 or more, got 1.5"),
        ([0, 1] * 20, [0] * 40, 0, r"split: needs 40 strings, got int64 .*; write 'train', 'val', 'test'"),
    ],
)
def test_make_splits_says_what_is_wrong(labels, split, seed, message):
    with pytest.raises(InputError, match=message):
        make_splits(labels, split, seed)


def test_checks_need_little_memory_beside_the_data():
    images = np.ones((64, 3000, 100), np.uint8)
    frames = np.ones((64, 3000, 100), np.float32)
    labels = np.arange(64) % 2
    tracemalloc.start()
    modalities = (
        Modality("image", "image", images, None, np.ones(64, bool)),
        Modality("sound", "sequence", frames, np.full(64, 3000), np.ones(64, bool)),
    )
    assert Dataset("d", modalities, labels, (0, 1), make_splits(labels, None, 0)).fingerprint
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.25 * frames.nbytes
    assert np.shares_memory(modalities[0].values, images)
