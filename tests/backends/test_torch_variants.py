"""Variants of a comparison: what their text means, and what is refused before anything is trained."""

from __future__ import annotations

import re

import pytest
import torch

from equilib_torch import InputError, TrainOptions
from equilib_torch.comparison.variants import default_variants, name_of, read_variant, read_variants
from equilib_torch.methods import METHODS


def test_a_variant_says_what_differs_from_the_others():
    common = TrainOptions(epochs=3, lr=0.1, seed=7)
    options = read_variant("equilib:policy=random:own=false:encoder=a=mlp:lr=0.2:encoder=b=mlp", common).options
    assert options == TrainOptions(
        epochs=3, lr=0.2, seed=7, policy="random", method="equilib:own=false", encoder=["a=mlp", "b=mlp"]
    )


@pytest.mark.parametrize("method", list(METHODS))
def test_every_parameter_of_a_method_can_be_set(method):
    for parameter in METHODS[method].parameters:
        values = parameter.trials or parameter.choices or ((not parameter.default) if parameter.type is bool else 7,)
        options = read_variant(f"{method}:width=32:{parameter.written}={values[-1]}", TrainOptions()).options
        assert options.parameters[parameter.name] == values[-1]
        assert (options.method_name, options.width) == (method, 32)


def test_parameters_of_the_common_method_do_not_reach_a_variant():
    options = read_variant("mla", TrainOptions(method="mla:alpha=0.5")).options
    assert options.method == "mla"


@pytest.mark.slow
def test_every_method_is_compared_and_joint_training_with_our_fusion():
    texts = default_variants()
    assert texts == [*METHODS, "joint:fusion=memory"]
    assert all(read_variant(text, TrainOptions()).name == text for text in texts)


@pytest.mark.parametrize("text", [*default_variants(), "mla:alpha=0.3:lr=1e-3", "joint:encoder=a b/c=mlp"])
def test_a_directory_is_named_after_its_variant(text):
    slug = read_variant(text, TrainOptions()).slug
    assert re.fullmatch(r"[\w.,=+%-]+", slug)
    assert name_of(slug) == text


REFUSED = [
    ("mlaa", "methods must be one of equilib, .*, got 'mlaa'"),
    ("", "methods must be one of .*, got ''"),
    ("joint:fusion", "methods: variant 'joint:fusion' must be METHOD:option=value, got 'fusion'"),
    ("joint:", "must be METHOD:option=value, got ''"),
    ("joint:colour=red", "variant 'joint:colour=red' may set .*, got 'colour'"),
    ("joint:seed=3", "may set .*, got 'seed'"),
    ("joint:alpha=3", "may set .*, got 'alpha'"),
    ("mla:weight_decay=3", "may set alpha, .*, weight-decay, .*, got 'weight_decay'"),
    ("joint:updates-per-batch=3", "may set .*, got 'updates-per-batch'"),
    ("joint:lr=1:lr=2", "must set lr once, got '2' too"),
    ("mla:alpha=1:alpha=1", "must set alpha once, got '1' too"),
    ("mla:alpha=0", "variant 'mla:alpha=0': method mla: alpha must be a number above 0, got 0"),
    ("g-blending:every=2.5", "method g-blending: every must be a whole number from 1 up, got 2.5"),
    ("modality-dropout:rate=2", "method modality-dropout: rate must be a number from 0 up to 1, got 2"),
    ("reconboost:agreement=1.5", "method reconboost: agreement must be a number from 0 up to 1, got 1.5"),
    ("equilib:updates-per-batch=1", "updates-per-batch must be at least 2, one per modality, got 1"),
    ("joint:encoder=z=mlp", "has no modality 'z'"),
    ("joint:encoder=a=image-cnn", "encoder image-cnn reads samples"),
    ("joint:batch-size=31", "batch-size must be at most the 30 training samples"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[text for text, _ in REFUSED])
def test_what_cannot_be_trained_on_the_data_is_refused(make_dataset, make_options, text, message):
    with pytest.raises(InputError, match=message) as refusal:
        read_variants(["late-fusion", text], make_options(), make_dataset())
    assert str(refusal.value).isprintable()  # hence one line


def test_a_variant_is_named_once(make_dataset, make_options):
    with pytest.raises(InputError, match="methods must name every variant once, got 'joint' twice"):
        read_variants(["joint", "pmr", "joint"], make_options(), make_dataset())


def test_checking_begins_and_draws_nothing(make_dataset, make_options, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a method was begun")

    monkeypatch.setattr(type(METHODS["pmr"]), "begin", refuse)
    before = torch.random.get_rng_state()
    variants = read_variants(["pmr", "equilib:encoder=a=mlp:encoder=b=mlp"], make_options(), make_dataset())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [variant.name for variant in variants] == ["pmr", "equilib:encoder=a=mlp:encoder=b=mlp"]
    assert variants[1].options.encoders == {"a": "mlp", "b": "mlp"}
