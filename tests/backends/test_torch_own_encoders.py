"""Encoders of one's own: trained, saved, loaded, refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from equilib_torch import InputError, MultimodalClassifier, fit
from equilib_torch.methods import METHODS
from equilib_torch.network import FUSIONS
from equilib_torch.training import State


class Pooled(nn.Module):
    """A sequence's frames, averaged within each length; keeps what it was called with."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.linear = nn.Linear(3, d)
        self.seen = []

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        self.seen.append((x.detach(), lengths))
        inside = (torch.arange(x.shape[1]) < lengths[:, None])[..., None]
        return (self.linear(x) * inside).sum(1) / lengths[:, None]


def vectors(d=5):
    return nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, d))


@pytest.fixture
def dataset(make_dataset):
    return make_dataset(2, kinds=("vector", "sequence"), missing=0.2)


def weights(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def differs(a, b):
    return any(not torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_any_number_of_features_trains_with_every_fusion(dataset, make_options, fusion):
    given = {"a": vectors(5), "b": Pooled(9)}
    before = {name: weights(module) for name, module in given.items()}
    run = fit(make_options(fusion=fusion), dataset, encoders=given)
    assert [head.in_features for head in run.network.heads] == [5, 9]
    for name, own in zip("ab", run.network.encoders, strict=True):
        assert differs(weights(own.module), before[name])  # the copy is trained
        assert not differs(weights(given[name]), before[name])  # the caller's is not
    again = fit(make_options(fusion=fusion), dataset, encoders=given)
    assert again.history == run.history


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"mla"}))
@pytest.mark.parametrize("frozen", ["partly", "wholly"])
def test_every_method_trains_beside_frozen_parameters(dataset, make_options, method, frozen):
    module = vectors(16)
    for parameter in (module[0] if frozen == "partly" else module).parameters():
        parameter.requires_grad_(False)
    run = fit(make_options(method=method, epochs=1), dataset, encoders={"a": module})
    after = weights(run.network.encoders[0].module)
    assert torch.equal(after["0.weight"], module[0].weight)
    assert torch.equal(after["2.weight"], module[2].weight) == (frozen == "wholly")


def test_mla_needs_equally_many_features(dataset, make_options):
    with pytest.raises(InputError, match=r"method mla must have encoders of equally many features.* give .* 16"):
        fit(make_options(method="mla"), dataset, encoders={"a": vectors(5)})
    fit(make_options(method="mla", epochs=1), dataset, encoders={"a": vectors(16)})


def test_inputs_come_as_they_are_with_their_lengths(dataset, make_options):
    run = fit(make_options(epochs=1, batch_size=30), dataset, encoders={"b": Pooled(4)})
    modality, module = dataset.modalities[1], run.network.encoders[1].module
    rows = dataset.splits["test"]
    rows = rows[modality.present[rows]]  # nobody else's are looked at
    x, lengths = module.seen[-1]
    np.testing.assert_array_equal(x, modality.values[rows].astype(np.float32))
    np.testing.assert_array_equal(lengths, modality.lengths[rows])


class Unit(nn.Module):
    """Scales each sample to length 1: NaN for one of zeros, as which an absent one is stored."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / x.norm(dim=1, keepdim=True)


def test_absent_samples_are_not_looked_at(dataset, make_options):
    """Neither by what would be NaN there, nor by a batch norm, which may meet a sample that is alone."""
    module = nn.Sequential(Unit(), nn.Linear(4, 6), nn.BatchNorm1d(6))
    run = fit(make_options(epochs=2, batch_size=2), dataset, encoders={"a": module})
    rows = dataset.splits["train"]
    n_present = dataset.modalities[0].present[rows].sum()
    assert n_present < len(rows)
    seen = run.network.encoders[0].module[2].num_batches_tracked
    assert 0 < seen <= n_present


def test_a_state_with_own_encoders_goes_on_where_it_was_taken_down(dataset, make_options):
    options, given = make_options(epochs=4), {"a": vectors()}
    whole = fit(options, dataset, encoders=given)
    state = State.create(options, dataset, encoders=given)
    fit(options, dataset, state=state, on_epoch=lambda record, best: len(state.history) < 2)
    other = State.create(options, dataset, encoders={"a": vectors()})
    other.load_state_dict(state.state_dict())
    assert fit(options, dataset, state=other).history == whole.history
    with pytest.raises(InputError, match=r"encoders must be given to State\.create"):
        fit(options, dataset, state=other, encoders=given)


# --- saved and loaded ------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(dataset, make_options, tmp_path):
    network = fit(make_options(epochs=1), dataset, encoders={"a": vectors()}).network
    MultimodalClassifier(network).save_pretrained(tmp_path)
    return tmp_path


X = {"a": np.arange(8.0).reshape(2, 4), "b": np.ones((2, 6, 3))}


def test_a_saved_model_is_loaded_into_new_modules(dataset, make_options, tmp_path):
    given = {"a": vectors(), "b": Pooled(9)}
    classifier = MultimodalClassifier(fit(make_options(epochs=1), dataset, encoders=given).network)
    classifier.save_pretrained(tmp_path)
    fresh = {"a": vectors(), "b": Pooled(9)}
    loaded = MultimodalClassifier.from_pretrained(tmp_path, encoders=fresh)
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    longer = {**X, "b": np.ones((2, 8, 3)), "b_length": np.array([6, 6])}  # it takes lengths
    np.testing.assert_allclose(loaded.predict_proba(longer), classifier.predict_proba(X), rtol=1e-5)


REFUSED = {
    "none": (None, r"encoders must hold modules for a, got nothing; pass encoders=\{'a': module\}"),
    "others": ({"b": nn.Identity()}, "encoders must hold modules for a, got 'b'; pass"),
    "one too many": ({"a": nn.Identity(), "b": nn.Identity()}, "modules for a, got 'a', 'b'; pass"),
    "another make": ({"a": vectors(6)}, "its weights do not fit the modules given for a .*size mismatch"),
    "no weights": ({"a": nn.Identity()}, "its weights do not fit the modules given for a"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_modules_that_do_not_fit_a_saved_model(saved, case):
    encoders, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as error:
        MultimodalClassifier.from_pretrained(saved, encoders=encoders)
    assert "\n" not in str(error.value)


def test_modules_for_a_model_without_any(make_dataset, make_network, tmp_path):
    MultimodalClassifier(make_network(make_dataset())).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="encoders must hold no modules: no modality has one of its own, got 'a'"):
        MultimodalClassifier.from_pretrained(tmp_path, encoders={"a": vectors()})


def test_a_model_of_0_1_0_is_loaded(make_dataset, make_network, tmp_path):
    """Its configuration says nothing of modules of one's own."""
    classifier = MultimodalClassifier(make_network(make_dataset()))
    classifier.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for modality in config["modalities"]:
        assert modality.pop("width") is None
    (tmp_path / "config.json").write_text(json.dumps(config))
    x = {"a": np.ones((2, 4))}
    loaded = MultimodalClassifier.from_pretrained(tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(x), classifier.predict_proba(x))


# --- refused before training -----------------------------------------------------------------------------------------


class Returns(nn.Module):
    """Returns whatever it was made with, of a batch of two."""

    def __init__(self, value) -> None:
        super().__init__()
        self.value = value

    def forward(self, x):
        return self.value


class Lonely(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fixed = torch.ones(2, requires_grad=True) * 2  # of a graph: cannot be copied

    def forward(self, x):
        return x * self.fixed


WRONG = {
    "unknown modality": ({"z": nn.Identity()}, "encoders must be given by modality, toy has a, b, got 'z'"),
    "a class": ({"a": nn.Linear}, "encoders: a must have a torch.nn.Module, got type; pass an instance"),
    "another width": ({"a": nn.Linear(3, 2)}, r"module of a must turn a batch \(2, 4\) into .*got RuntimeError"),
    "lazy": ({"a": nn.LazyLinear(3)}, "must know its shapes, got lazy parameters; call it on a batch first"),
    "not flat": ({"b": nn.Linear(3, 2)}, r"got shape \(2, 6, 2\); flatten or pool them"),
    "no features": ({"a": Returns(torch.zeros(2, 0))}, r"got shape \(2, 0\)"),
    "another batch": ({"a": Returns(torch.zeros(3, 4))}, r"got shape \(3, 4\)"),
    "a tuple": ({"a": Returns((torch.zeros(2, 4),))}, "got tuple"),
    "NaN": ({"a": Returns(torch.full((2, 4), float("nan")))}, "got NaN or infinity; are the inputs"),
    "integers": ({"a": Returns(torch.zeros(2, 4, dtype=torch.int64))}, "got torch.int64"),
    "not to be copied": ({"a": Lonely()}, "got RuntimeError: Only Tensors created explicitly"),
}


@pytest.mark.parametrize("case", WRONG)
def test_modules_that_do_not_fit_the_data(dataset, make_options, case):
    encoders, message = WRONG[case]
    with pytest.raises(InputError, match=message) as error:
        fit(make_options(), dataset, encoders=encoders)
    assert "\n" not in str(error.value)


def test_a_module_and_a_name_for_one_modality(dataset, make_options):
    with pytest.raises(InputError, match="encoder: a has a module of its own, got 'mlp' too; leave one of them out"):
        fit(make_options(encoder=["a=mlp"]), dataset, encoders={"a": vectors()})


@pytest.mark.parametrize("mapping", ["none", "sample"])
def test_a_memory_without_mapping_needs_features_of_its_own_width(dataset, make_options, mapping):
    options = make_options(fusion="memory", memory_mapping=mapping, epochs=1)
    with pytest.raises(InputError, match="memory-mapping must be feature or both where a has 5 features"):
        fit(options, dataset, encoders={"a": vectors(5)})
    fit(options, dataset, encoders={"a": vectors(16)})


def test_trying_a_module_leaves_no_trace(dataset, make_options):
    module = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3))
    before, random = weights(module), torch.get_rng_state()
    State.create(make_options(), dataset, encoders={"a": module})
    assert module.training
    assert not differs(weights(module), before)
    assert torch.equal(torch.get_rng_state(), random)
