"""Predictions of a saved and loaded model, and every way to ask or load it wrongly."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from equilib_torch import InputError, MultimodalClassifier, fit
from equilib_torch.data.batches import take

CLASSES = ("ant", "bee", "wasp")
KINDS = ("vector", "sequence", "colour")
PARTS = [("a",), ("b",), ("c",), ("a", "b"), ("b", "c"), ("a", "b", "c")]


@pytest.fixture(scope="module")
def run(make_dataset, make_options):
    dataset = make_dataset(3, kinds=KINDS, missing=0.2, classes=CLASSES)
    return fit(make_options(memory_mapping="both", epochs=3), dataset)


@pytest.fixture(scope="module")
def classifier(run):
    return MultimodalClassifier(run.network)


@pytest.fixture(scope="module")
def inputs(run):
    """The test split, laid out as in an .npz file."""
    rows, arrays = run.dataset.splits["test"], {}
    for modality in run.dataset.modalities:
        arrays[modality.name] = modality.values[rows]
        arrays[f"{modality.name}_present"] = modality.present[rows]
        if modality.lengths is not None:
            arrays[f"{modality.name}_length"] = modality.lengths[rows]
    return arrays


@pytest.fixture
def saved(classifier, tmp_path):
    classifier.save_pretrained(tmp_path)
    return tmp_path


def some(inputs, names, rows=slice(None)):
    return {key: array[rows] for key, array in inputs.items() if key[0] in names}


# --- predictions -----------------------------------------------------------------------------------------------------


def test_predictions_are_those_of_the_evaluation(run, classifier, inputs):
    assert [CLASSES.index(label) for label in classifier.predict(inputs)] == run.test.predictions.tolist()
    labels = [CLASSES[i] for i in run.test.labels]
    assert classifier.score(inputs, labels) == pytest.approx(run.test.accuracies[-1])


def test_probabilities(run, classifier, inputs):
    probabilities = classifier.predict_proba(inputs)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    with torch.inference_mode():
        expected = run.network.eval()(take(run.dataset, run.dataset.splits["test"])).softmax(-1)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("names", PARTS)
def test_alone_as_in_a_batch(classifier, inputs, names):
    part = some(inputs, names)
    together = classifier.predict_proba(part)
    for i in range(len(together)):
        alone = classifier.predict_proba(some(inputs, names, slice(i, i + 1)))
        np.testing.assert_allclose(alone[0], together[i], atol=1e-6)
        assert alone[0].argmax() == together[i].argmax()
    np.testing.assert_allclose(classifier.predict_proba(part, batch_size=4), together, atol=1e-6)


@pytest.mark.parametrize("names", PARTS)
def test_a_modality_not_given_is_absent(classifier, inputs, names):
    marked = dict(inputs)
    for name in set("abc") - set(names):
        marked[f"{name}_present"] = np.zeros(len(inputs[name]), np.bool_)
    assert np.array_equal(classifier.predict_proba(some(inputs, names)), classifier.predict_proba(marked))


def test_what_is_marked_absent_may_be_anything(classifier, inputs):
    damaged = {**inputs, "a": np.where(inputs["a_present"][:, None], inputs["a"], np.nan)}
    assert np.isnan(damaged["a"]).any()
    assert np.array_equal(classifier.predict_proba(damaged), classifier.predict_proba(inputs))


@pytest.mark.parametrize("padding", [1, 5])
def test_padding_of_a_sequence_does_not_count(classifier, inputs, padding):
    longer = {**inputs, "b": np.pad(inputs["b"], ((0, 0), (0, padding), (0, 0)), constant_values=9.0)}
    np.testing.assert_allclose(classifier.predict_proba(longer), classifier.predict_proba(inputs), atol=1e-6)
    n_frames = inputs["b_length"].max()
    shorter = {**inputs, "b": inputs["b"][:, :n_frames]}
    np.testing.assert_allclose(classifier.predict_proba(shorter), classifier.predict_proba(inputs), atol=1e-6)


def test_without_lengths_every_frame_of_a_sequence_counts(classifier, inputs):
    whole = {"b": inputs["b"]}
    lengths = {**whole, "b_length": np.full(len(inputs["b"]), inputs["b"].shape[1])}
    assert np.array_equal(classifier.predict_proba(whole), classifier.predict_proba(lengths))


@pytest.mark.parametrize("encoder", ["mlp", "image-cnn"])
def test_an_encoder_that_reads_one_number_of_frames_says_so(make_dataset, make_options, encoder):
    run = fit(make_options(encoder=[f"a={encoder}"], epochs=1), make_dataset(1, kinds=("sequence",)))
    with pytest.raises(InputError, match=r"a: samples must have shape \(6, 3\), got \(7, 3\)"):
        MultimodalClassifier(run.network).predict({"a": np.zeros((2, 7, 3))})


def test_lists_and_integers_will_do(classifier, inputs):
    rounded = np.round(inputs["a"]).astype(int)
    a = classifier.predict_proba({"a": rounded.astype(float)})
    assert np.array_equal(classifier.predict_proba({"a": rounded}), a)
    assert np.array_equal(classifier.predict_proba({"a": rounded.tolist()}), a)


# --- saving and loading ----------------------------------------------------------------------------------------------


def test_round_trip(classifier, saved, inputs):
    loaded = MultimodalClassifier.from_pretrained(saved)
    assert np.array_equal(loaded.predict_proba(inputs), classifier.predict_proba(inputs))
    assert loaded.classes_.tolist() == list(CLASSES)
    assert loaded.modalities_ == ("a", "b", "c")
    assert loaded.network.config == classifier.network.config
    assert set(loaded.predict(inputs)) <= set(CLASSES)


@pytest.mark.parametrize("fusion", ["concat", "mlp", "sum"])
def test_round_trip_of_every_fusion(make_dataset, make_network, tmp_path, fusion):
    classifier = MultimodalClassifier(make_network(make_dataset(), fusion))
    classifier.save_pretrained(tmp_path / "new" / "folder")
    loaded = MultimodalClassifier.from_pretrained(tmp_path / "new" / "folder")
    x = {"a": np.ones((3, 4)), "b": np.zeros((3, 4))}
    assert np.array_equal(loaded.predict_proba(x), classifier.predict_proba(x))
    assert loaded.predict(x).dtype.kind == "i"


def test_a_run_directory_holds_its_best_model(classifier, inputs, tmp_path):
    classifier.save_pretrained(tmp_path / "checkpoints" / "best")
    loaded = MultimodalClassifier.from_pretrained(str(tmp_path))
    assert np.array_equal(loaded.predict_proba(inputs), classifier.predict_proba(inputs))


def test_saving_again_replaces(make_dataset, make_network, saved, inputs):
    other = MultimodalClassifier(make_network(make_dataset(3, kinds=KINDS, classes=CLASSES), "sum"))
    other.save_pretrained(saved)
    loaded = MultimodalClassifier.from_pretrained(saved)
    assert np.array_equal(loaded.predict_proba(inputs), other.predict_proba(inputs))
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "model.safetensors"]


def test_a_model_saved_before_there_was_stacking(make_dataset, make_network, saved, inputs):
    classifier = MultimodalClassifier(make_network(make_dataset(3, kinds=KINDS, classes=CLASSES)))
    classifier.save_pretrained(saved)
    path = saved / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    safetensors.torch.save_file({name: x for name, x in weights.items() if not name.startswith("stacking_")}, path)
    loaded = MultimodalClassifier.from_pretrained(saved)
    assert np.array_equal(loaded.predict_proba(inputs), classifier.predict_proba(inputs))


class Canary:
    """What a pickle could do."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


def test_a_pickle_is_neither_needed_nor_read(classifier, saved, inputs, tmp_path):
    canary, payload = tmp_path / "canary", pickle.dumps(Canary(tmp_path / "canary"))
    for name in ("model.pt", "pytorch_model.bin", "model.pkl"):
        (saved / name).write_bytes(payload)
    loaded = MultimodalClassifier.from_pretrained(saved)
    assert np.array_equal(loaded.predict_proba(inputs), classifier.predict_proba(inputs))
    for name in ("model.safetensors", "config.json"):
        (saved / name).write_bytes(payload)
        with pytest.raises(InputError, match="the saved model is damaged"):
            MultimodalClassifier.from_pretrained(saved)
    assert not canary.exists()
    pickle.loads(payload)
    assert canary.exists()  # else this test could not fail


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_is_missing(saved, name):
    (saved / name).unlink()
    with pytest.raises(InputError, match="holds no saved model"):
        MultimodalClassifier.from_pretrained(saved)


def test_a_directory_that_is_missing(tmp_path):
    with pytest.raises(InputError, match="holds no saved model"):
        MultimodalClassifier.from_pretrained(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99])
def test_a_file_cut_off(saved, name, part):
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[: int(part * len(content))])
    with pytest.raises(InputError, match="the saved model is damaged"):
        MultimodalClassifier.from_pretrained(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: None,
        lambda config: "text",
        lambda config: [config],
        lambda config: {},
        lambda config: config | {"extra": 1},
        lambda config: config | {"fusion": "gate"},
        lambda config: config | {"fusion": "concat"},
        lambda config: config | {"width": 32},
        lambda config: config | {"width": "wide"},
        lambda config: config | {"dropout": 7},
        lambda config: config | {"classes": ["ant", "bee"]},
        lambda config: config | {"classes": 3},
        lambda config: config | {"modalities": config["modalities"][:2]},
        lambda config: config | {"modalities": "abc"},
        lambda config: config | {"modalities": [m | {"encoder": "os.system"} for m in config["modalities"]]},
        lambda config: config | {"modalities": [m | {"shape": None} for m in config["modalities"]]},
        lambda config: config | {"modalities": [m | {"shape": [2]} for m in config["modalities"]]},
    ],
)
def test_a_wrong_configuration(saved, change):
    path = saved / "config.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(InputError, match="the saved model is damaged") as error:
        MultimodalClassifier.from_pretrained(saved)
    assert "\n" not in str(error.value)


def test_a_configuration_nested_without_end(saved):
    (saved / "config.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="the saved model is damaged"):
        MultimodalClassifier.from_pretrained(saved)


def test_weights_of_another_model(saved):
    safetensors.torch.save_file({"w": torch.zeros(2)}, saved / "model.safetensors")
    with pytest.raises(InputError, match="the saved model is damaged"):
        MultimodalClassifier.from_pretrained(saved)


# --- asking wrongly --------------------------------------------------------------------------------------------------

A, B, C = np.zeros((2, 4)), np.zeros((2, 6, 3)), np.zeros((2, 5, 4, 3))
WRONG = {
    "nothing": ({}, "inputs must name some of the modalities a, b, c, got nothing"),
    "unknown": ({"a": A, "z": A}, "inputs must name some of the modalities a, b, c, got 'a', 'z'"),
    "only a mark": ({"a_present": np.ones(2, np.bool_)}, "inputs must name some of the modalities"),
    "marked there, not given": ({"a": A, "c_present": np.ones(2, np.bool_)}, "c_present: .* not given"),
    "labels": ({"a": A, "label": np.zeros(2)}, "inputs must name some of the modalities"),
    "width": ({"a": np.zeros((2, 5))}, r"a: samples must have shape \(4,\), got \(5,\)"),
    "one sample": ({"a": np.zeros(4)}, r"a: samples must have shape \(4,\)"),
    "frame": ({"b": np.zeros((2, 6, 4))}, r"b: samples must have shape \(6, 3\), got \(6, 4\)"),
    "picture": ({"c": np.zeros((2, 5, 4))}, r"c: samples must have shape \(5, 4, 3\)"),
    "rows": ({"a": A, "c": C[:1]}, "c: needs 2 rows like the first modality given, got 1"),
    "no rows": ({"a": A[:0]}, r"a: needs one row or more, got shape \(0, 4\)"),
    "a number": ({"a": np.float64(3)}, r"a: needs one row or more, got shape \(\)"),
    "NaN": ({"a": np.full((2, 4), np.nan)}, "a: values must be finite"),
    "infinite": ({"c": np.full((2, 5, 4, 3), np.inf)}, "c: values must be finite"),
    "too large": ({"a": np.full((2, 4), 1e300)}, "values that overflow the network"),
    "text": ({"a": np.full((2, 4), "x")}, "a: values must be bool, integer or real"),
    "objects": ({"a": np.full((2, 4), None)}, "a: values must be bool, integer or real"),
    "ragged": ({"a": [[1.0, 2.0], [3.0]]}, "a: must be one regular array"),
    "lengths of a vector": ({"a": A, "a_length": np.ones(2, int)}, "a: only a sequence or video has lengths"),
    "a length of 0": ({"b": B, "b_length": np.array([0, 1])}, "b: lengths must be 1 to 6"),
    "a length too long": ({"b": B, "b_length": np.array([7, 1])}, "b: lengths must be 1 to 6"),
    "a length too many": ({"b": B, "b_length": np.ones(3, int)}, "b: lengths must be 2 integers"),
    "marks of another length": ({"a": A, "b_present": np.zeros(3, np.bool_)}, "b_present: must be 2 booleans"),
    "marks that are none": ({"a": A, "a_present": np.array([0.5, 1.0])}, "a_present: must be 2 booleans"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_inputs(classifier, case):
    asked, message = WRONG[case]
    with pytest.raises(InputError, match=message) as error:
        classifier.predict(asked)
    assert "\n" not in str(error.value)
