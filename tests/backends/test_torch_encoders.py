"""Encoders: shapes, padding, batches, standardisation."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from equilib_torch.data import Modality
from equilib_torch.data.batches import column
from equilib_torch.errors import InputError
from equilib_torch.network.encoders import DEFAULT_ENCODER, ENCODERS, Standardise, build_encoder

WIDTH = 32
LEGAL = [
    ("mlp", "vector", (5,)),
    ("mlp", "vector", (1,)),
    ("mlp", "sequence", (7, 3)),
    ("mlp", "image", (9, 6)),
    ("mlp", "image", (9, 6, 3)),
    ("temporal-cnn", "sequence", (7, 3)),
    ("temporal-cnn", "sequence", (1, 1)),
    ("temporal-cnn", "image", (9, 6)),
    ("image-cnn", "image", (9, 6)),
    ("image-cnn", "image", (1, 2)),
    ("image-cnn", "image", (40, 17, 3)),
    ("image-cnn", "sequence", (7, 3)),
    ("image-cnn", "video", (3, 9, 6, 2)),
    ("resnet18", "image", (8, 6)),
    ("resnet18", "image", (70, 64, 3)),
    ("resnet18", "sequence", (7, 3)),
    ("resnet18", "video", (3, 8, 9, 1)),
    ("hashed-ngrams", "text", (7, 1)),
]
SEQUENCES = [case for case in LEGAL if case[1] in ("sequence", "video", "text") and case[2] != (1, 1)]


def encoder_of(name, kind, shape, *, dropout=0.0):
    torch.manual_seed(0)
    encoder = build_encoder(name, kind, shape, width=WIDTH, dropout=dropout)
    if name == "hashed-ngrams":
        return encoder
    # Statistics other than 0 and 1: what is behind a length must stay away from them too.
    encoder.standardise.mean.uniform_(0.5, 1.0)
    encoder.standardise.sd.uniform_(0.5, 1.5)
    for block in encoder.blocks if name == "resnet18" else ():  # which begin as the identity
        torch.nn.init.ones_(block.norm2.weight)
    return encoder


def samples(kind, shape, n=6):
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.standard_normal((n, *shape), dtype=np.float32))
    if kind not in ("sequence", "video", "text"):
        return x, None
    if kind == "text":
        x = torch.from_numpy(rng.integers(1, 2**14, size=(n, *shape)))
    lengths = 1 + torch.arange(n) % shape[0]
    inside = torch.arange(shape[0]) < lengths[:, None]
    return x * inside.reshape(n, shape[0], *[1] * (len(shape) - 1)), lengths


def test_every_encoder_is_covered():
    assert {name for name, _, _ in LEGAL} == set(ENCODERS) - {"hf"}  # test_torch_backbones.py
    assert set(DEFAULT_ENCODER) == {kind for _, kind, _ in LEGAL}


@pytest.mark.parametrize(("name", "kind", "shape"), LEGAL)
def test_features_of_a_batch(name, kind, shape):
    encoder = encoder_of(name, kind, shape)
    x, lengths = samples(kind, shape)
    features = encoder(x, lengths)
    assert features.shape == (6, WIDTH)
    assert features.isfinite().all()
    assert features.std(0).max() > 0


@pytest.mark.parametrize(("name", "kind", "shape"), LEGAL)
@pytest.mark.parametrize("training", [True, False])
def test_a_sample_alone_has_the_features_it_has_in_a_batch(name, kind, shape, training):
    encoder = encoder_of(name, kind, shape).train(training)
    x, lengths = samples(kind, shape)
    together = encoder(x, lengths)
    for i in range(len(x)):
        alone = encoder(x[[i]], None if lengths is None else lengths[[i]])
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "kind", "shape"), SEQUENCES)
def test_what_is_behind_a_length_never_counts(name, kind, shape):
    encoder = encoder_of(name, kind, shape)
    x, lengths = samples(kind, shape)
    rubbish = torch.where(x == 0, 1000, x)
    assert not torch.equal(rubbish, x)
    torch.testing.assert_close(encoder(rubbish, lengths), encoder(x, lengths), atol=0, rtol=0)


@pytest.mark.parametrize(("name", "kind", "shape"), SEQUENCES)
def test_what_is_within_a_length_counts(name, kind, shape):
    encoder = encoder_of(name, kind, shape)
    x, lengths = samples(kind, shape)
    changed = x.clone()
    changed[torch.arange(len(x)), lengths - 1] += 1  # the last frame of each
    assert (encoder(changed, lengths) - encoder(x, lengths)).abs().amax(1).min() > 1e-4


@pytest.mark.parametrize("padding", [1, 2, 3, 9])
def test_temporal_cnn_reads_any_amount_of_padding(padding):
    encoder = encoder_of("temporal-cnn", "sequence", (7, 3))
    x, lengths = samples("sequence", (7, 3))
    padded = torch.nn.functional.pad(x, (0, 0, 0, padding))
    torch.testing.assert_close(encoder(padded, lengths), encoder(x, lengths), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("name", "kind", "shape"), SEQUENCES)
def test_without_lengths_every_frame_counts(name, kind, shape):
    encoder = encoder_of(name, kind, shape)
    x = samples(kind, shape)[0][-1:].repeat(2, *[1] * len(shape))  # the last one has all frames
    x[1] = x[1].flip(0)
    torch.testing.assert_close(encoder(x), encoder(x, torch.full((len(x),), shape[0])))


@pytest.mark.parametrize(("name", "kind", "shape"), LEGAL)
def test_gradients_reach_every_parameter(name, kind, shape):
    encoder = encoder_of(name, kind, shape)
    x, lengths = samples(kind, shape)
    encoder(x, lengths).square().sum().backward()
    for parameter_name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        if (name, shape) != ("image-cnn", (1, 2)):  # there group norm leaves the size of the first layer nothing to do
            assert parameter.grad.any(), parameter_name


@pytest.mark.parametrize(("name", "kind", "shape"), LEGAL)
def test_dropout_acts_in_training_only(name, kind, shape):
    encoder = encoder_of(name, kind, shape, dropout=0.5)
    x, lengths = samples(kind, shape)
    assert not torch.equal(encoder(x, lengths), encoder(x, lengths))
    encoder.eval()
    assert torch.equal(encoder(x, lengths), encoder(x, lengths))


def test_unknown_encoder():
    with pytest.raises(
        InputError, match=r"encoder must be one of mlp, temporal-cnn, image-cnn, resnet18, .*, got 'resnet'"
    ):
        build_encoder("resnet", "image", (8, 8), width=16, dropout=0.0)


@pytest.mark.parametrize(
    ("name", "shape"), [("temporal-cnn", (5,)), ("temporal-cnn", (5, 5, 3)), ("image-cnn", (5,)), ("mlp", ())]
)
def test_an_encoder_that_cannot_read_the_shape(name, shape):
    with pytest.raises(InputError, match=rf"encoder {name} reads samples of .* dimensions, got shape"):
        build_encoder(name, "vector", shape, width=16, dropout=0.0)


# --- standardisation -------------------------------------------------------------------------------------------------


def fitted(modality, rows, n_features):
    standardise = Standardise(n_features)
    standardise.fit(modality, np.asarray(rows))
    return standardise


def test_statistics_come_from_the_present_rows_asked_for():
    values = np.array([[1.0, 10.0], [3.0, 30.0], [np.nan, np.nan], [5.0, 80.0], [1e6, -1e6]])
    modality = Modality("x", "vector", values, None, np.array([True, True, False, True, True]))
    standardise = fitted(modality, [0, 1, 2, 3], 2)
    kept = values[[0, 1, 3]]
    np.testing.assert_allclose(standardise.mean.numpy(), kept.mean(0), rtol=1e-6)
    np.testing.assert_allclose(standardise.sd.numpy(), kept.std(0), rtol=1e-6)
    result = standardise(torch.from_numpy(kept.astype(np.float32)))
    np.testing.assert_allclose(result.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(result.std(0, correction=0), 1, rtol=1e-5)


def test_statistics_of_sequences_come_from_their_frames():
    values = np.arange(12.0).reshape(2, 3, 2)
    modality = Modality("x", "sequence", values, np.array([1, 2]), np.array([True, True]))
    standardise = fitted(modality, [0, 1], 2)
    frames = np.array([values[0, 0], values[1, 0], values[1, 1]])
    np.testing.assert_allclose(standardise.mean.numpy(), frames.mean(0), rtol=1e-6)
    np.testing.assert_allclose(standardise.sd.numpy(), frames.std(0), rtol=1e-6)


def test_statistics_of_images_are_those_of_their_channels():
    values = np.random.default_rng(0).standard_normal((4, 5, 6, 3)) * [1, 2, 3]
    modality = Modality("x", "image", values, None, np.ones(4, np.bool_))
    standardise = fitted(modality, range(4), 3)
    np.testing.assert_allclose(standardise.sd.numpy(), values.std((0, 1, 2)), rtol=1e-6)


@pytest.mark.parametrize("constant", [0.0, 0.1, -12345.678, 1e8 / 3, 1e30 / 7])
def test_a_constant_feature_becomes_0_and_keeps_its_scale(constant):
    """The mean of many equal numbers is rounded: their sd may come out above 0, and would blow up any other value."""
    modality = Modality("x", "vector", np.full((777, 1), constant), None, np.ones(777, np.bool_))
    standardise = fitted(modality, range(777), 1)
    assert standardise.sd.item() == 1.0
    assert standardise(torch.full((2, 1), constant)).abs().max() == 0


def test_small_features_are_standardised_too():
    values = np.array([[1e-6], [-1e-6], [3e-6]])
    standardise = fitted(Modality("x", "vector", values, None, np.ones(3, np.bool_)), range(3), 1)
    assert standardise.sd.item() == pytest.approx(values.std(), rel=1e-5)


def test_a_clock_keeps_its_seconds():
    values = 1.7e9 + np.random.default_rng(0).normal(size=(40, 2))
    modality = Modality("stamp", "vector", values, None, np.ones(40, bool))
    standardised = fitted(modality, range(40), 2)(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(standardised, (values - values.mean(0)) / values.std(0), atol=1e-5)


@pytest.mark.parametrize("unit", [1e-300, 1e-13, 1e13, 1e300])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_the_unit_does_not_matter(unit, offset):
    values = offset + np.random.default_rng(0).normal(size=(40, 3))
    found = []
    for scaled in (values, values * unit):
        modality = Modality("x", "vector", scaled, None, np.ones(40, bool))
        found.append(fitted(modality, range(30), 3)(torch.from_numpy(scaled)))
    torch.testing.assert_close(found[0], found[1])
    assert found[0].dtype == torch.float32
    assert found[0].std() > 0.5


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.uint16, np.int64, np.float16, np.float32])
def test_every_dtype_is_standardised(dtype):
    values = np.random.default_rng(0).integers(0, 2, size=(40, 3)).astype(dtype)
    modality = Modality("x", "vector", values, None, np.ones(40, bool))
    standardised = fitted(modality, range(40), 3)(column(modality, np.arange(40)).inputs).numpy()
    exact = values.astype(np.float64)
    np.testing.assert_allclose(standardised, (exact - exact.mean(0)) / exact.std(0), atol=1e-6)


def test_statistics_take_little_memory_and_do_not_depend_on_the_pieces(monkeypatch):
    values = np.random.default_rng(0).integers(0, 256, size=(3000, 32, 32, 3), dtype=np.uint8)  # 9 MB
    modality = Modality("x", "image", values, None, np.ones(3000, bool))
    tracemalloc.start()
    standardise = fitted(modality, range(3000), 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * 8 * 2**20 + 2**20  # a few pieces in float64
    np.testing.assert_allclose(standardise.mean.numpy(), values.mean((0, 1, 2)), rtol=1e-9)
    np.testing.assert_allclose(standardise.sd.numpy(), values.std((0, 1, 2)), rtol=1e-9)


def test_an_image_of_one_pixel_is_refused():
    with pytest.raises(InputError, match=r"2 pixels or more.*use mlp"):
        build_encoder("image-cnn", "image", (1, 1, 3), width=16, dropout=0.0)
