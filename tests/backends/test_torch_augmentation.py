"""Random changes of training samples: by the seed and the update, within lengths, and in training only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equilib_torch import Dataset, InputError, Modality, TrainOptions, fit
from equilib_torch.comparison.variants import read_variant
from equilib_torch.data.batches import take
from equilib_torch.training import State
from equilib_torch.training.augmentation import (
    Augmenter,
    add_noise,
    random_crop,
    random_flip,
    random_shift,
    read_augmentations,
)

CPU = torch.device("cpu")
CHANGES = {"a": {"crop": 0.2, "flip": 0.5}, "b": {"noise": 0.5, "shift": 0.3}}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def dataset(make_dataset):
    return make_dataset(2, kinds=("image", "sequence"), missing=0.3)


@given(st.sampled_from([(6, 5), (6, 5, 3)]), st.integers(0, 99), st.sampled_from([torch.uint8, torch.float32]))
def test_a_crop_moves_each_picture_and_repeats_its_border(shape, seed, dtype):
    x = torch.randint(0, 255, (7, *shape), generator=generator(seed)).to(dtype)
    moved = random_crop(x, 0.3, generator(seed))
    assert moved.dtype == dtype
    for before, after in zip(x.numpy(), moved.numpy(), strict=True):
        width = [(2, 2), (2, 2), (0, 0)][: before.ndim]  # 0.3 of 6 and of 5 pixels, rounded up
        padded = np.pad(before, width, mode="edge")
        windows = [padded[i : i + 6, j : j + 5] for i in range(5) for j in range(5)]
        assert any(np.array_equal(after, window) for window in windows)


def test_moves_are_spread_over_all_that_are_allowed():
    x = torch.arange(10).expand(4000, 1, 10)
    first = random_crop(x, 0.2, generator())[:, 0, 5] - 5
    values, counts = first.unique(return_counts=True)
    assert values.tolist() == [-2, -1, 0, 1, 2]
    assert counts.min() > 700


def test_a_flip_mirrors_left_to_right():
    x = torch.randn(400, 3, 4, 2, generator=generator())
    flipped = (random_flip(x, 0.3, generator()) == x.flip(2)).flatten(1).all(1)
    same = (random_flip(x, 0.3, generator()) == x).flatten(1).all(1)
    assert (flipped ^ same).all()
    assert 0.2 < flipped.float().mean() < 0.4


def test_the_pictures_of_a_film_change_alike():
    films = torch.randn(20, 1, 6, 5, 3, generator=generator()).expand(-1, 4, -1, -1, -1)
    for change in (random_crop, random_flip):
        changed = change(films, 0.5, generator())
        assert not torch.equal(changed, films)
        assert torch.equal(changed, changed[:, :1].expand_as(changed))


@given(st.integers(0, 99))
def test_a_shift_goes_round_within_the_length(seed):
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.standard_normal((9, 8, 2)))
    lengths = torch.from_numpy(rng.integers(1, 9, size=9))
    shifted = random_shift(x, lengths, 0.4, generator(seed))
    for before, after, n in zip(x.numpy(), shifted.numpy(), lengths.tolist(), strict=True):
        np.testing.assert_array_equal(after[n:], before[n:])
        reach = int(np.ceil(0.4 * n))
        assert any(np.array_equal(after[:n], np.roll(before[:n], s, axis=0)) for s in range(-reach, reach + 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int16])
def test_noise_is_as_large_as_it_says_where_frames_count(dtype):
    x = torch.zeros(200, 50, 2, dtype=dtype)
    inside = torch.arange(50) < torch.randint(1, 51, (200, 1), generator=generator())
    noisy = add_noise(x, inside, 0.5, torch.tensor([1.0, 10.0], dtype=torch.float64), generator())
    assert noisy.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert not noisy[~inside].any()
    torch.testing.assert_close(noisy[inside].std(0).double(), torch.tensor([0.5, 5.0]).double(), rtol=0.05, atol=0)


def test_batches_change_by_seed_and_update_alone(dataset):
    augment, other = (Augmenter(CHANGES, dataset, seed=seed, device=CPU) for seed in (0, 1))
    batch = take(dataset, np.arange(12))
    before = [x.clone() for x in batch.inputs]
    changed = augment(batch, 5)
    torch.rand(3)
    for x, again, later, by_other in zip(
        changed.inputs, augment(batch, 5).inputs, augment(batch, 6).inputs, other(batch, 5).inputs, strict=True
    ):
        assert torch.equal(x, again)
        assert not torch.equal(x, later)
        assert not torch.equal(x, by_other)
    assert all(torch.equal(x, old) for x, old in zip(batch.inputs, before, strict=True))
    assert all(a is b for a, b in zip(changed[1:], batch[1:], strict=True))
    for x, here in zip(changed.inputs, batch.present.T, strict=True):
        assert not x[~here].any()  # what is absent stays 0
    behind = torch.arange(6) >= batch.lengths[1][:, None]
    assert not changed.inputs[1][behind].any()
    nothing = Augmenter({}, dataset, seed=0, device=CPU)
    assert nothing(batch, 5) is batch


def test_only_training_changes_and_a_run_goes_on_to_the_bit(dataset, make_options):
    options = make_options(augment=["a=crop=0.2+flip", "b=noise=0.5+shift"], epochs=3, method="g-blending:every=2")
    plain, state = State.create(replace(options, augment=[]), dataset), State.create(options, dataset)
    for split in ("train", "val", "test"):
        for a, b in zip(state.batches(split), plain.batches(split), strict=True):
            assert all(torch.equal(x, y) for x, y in zip(a.inputs, b.inputs, strict=True))
    whole = fit(options, dataset, state=state)
    stopped, rest = State.create(options, dataset), State.create(options, dataset)
    fit(options, dataset, state=stopped, on_epoch=lambda record, best: False)
    rest.load_state_dict(stopped.state_dict())
    assert fit(options, dataset, state=rest).history == whole.history
    assert fit(replace(options, augment=[]), dataset).history != whole.history


def test_noise_is_measured_in_the_standard_deviations_of_training():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((40, 5, 2)) * [1.0, 100.0]
    values[30:] *= 1e3  # not trained on
    sound = Modality("sound", "sequence", values, np.full(40, 5), np.ones(40, bool))
    splits = {"train": np.arange(30), "val": np.arange(30, 35), "test": np.arange(35, 40)}
    dataset = Dataset("toy", (sound,), np.arange(40) % 2, (0, 1), splits)
    batch = take(dataset, np.arange(30))
    noise = Augmenter({"sound": {"noise": 1.0}}, dataset, seed=0, device=CPU)(batch, 0).inputs[0] - batch.inputs[0]
    np.testing.assert_allclose(noise.flatten(0, 1).std(0), [1.0, 100.0], rtol=0.3)


@pytest.mark.parametrize(
    ("items", "fault"),
    [
        (["image"], "augment must be given as MODALITY=NAME"),
        (["image=turn"], "augment of image must be one of crop, flip, noise, shift, got 'turn'"),
        (["image=crop=2"], "augment of image: crop must be a number from 0 up to 1, got '2'"),
        (["image=noise=-1"], "noise must be a number from 0 up, got '-1'"),
        (["image=noise=inf"], "noise must be a number"),
        (["image=crop=x"], "crop must be a number"),
        (["image=crop", "image=flip"], "every modality once"),
    ],
)
def test_what_cannot_be_read(items, fault):
    with pytest.raises(InputError, match=fault):
        TrainOptions(augment=items)


def test_what_does_not_fit_the_data(dataset, make_options):
    with pytest.raises(InputError, match="augment: toy has no modality 'c', only a, b"):
        State.create(make_options(augment=["c=flip"]), dataset)
    with pytest.raises(
        InputError, match=r"augment of b: flip changes .* image or video, .* sequence; use noise or shift"
    ):
        State.create(make_options(augment=["b=flip"]), dataset)


def test_in_a_variant():
    variant = read_variant("joint:augment=a=crop=0.1+flip:augment=b=noise", TrainOptions())
    assert read_augmentations(variant.options.augment) == {"a": {"crop": 0.1, "flip": 0.5}, "b": {"noise": 0.1}}
