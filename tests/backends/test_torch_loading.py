"""How batches are read, and in what pieces, changes no result."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from equilib_torch import InputError, TrainOptions, fit
from equilib_torch.data import npz, read_npz
from equilib_torch.data.batches import Batch, loader, take
from equilib_torch.data.resident import Resident
from equilib_torch.network.encoders import build_encoder
from equilib_torch.network.inputs import in_pieces
from equilib_torch.training import State

KINDS = ("vector", "sequence", "image")
CPU = torch.device("cpu")


def assert_same_batch(a, b):
    for x, y in zip((*a.inputs, *a.lengths, *a[2:4]), (*b.inputs, *b.lengths, *b[2:4]), strict=True):
        assert (x is None) == (y is None)
        assert x is None or (x.dtype == y.dtype and torch.equal(x, y))


@pytest.fixture
def dataset(make_dataset):
    return make_dataset(3, kinds=KINDS, missing=0.3)


def test_resident_data_give_the_same_batches(dataset, monkeypatch):
    monkeypatch.setattr("equilib_torch.data.resident._PIECE", 100)
    rows = np.array([7, 3, 3, 59])
    assert_same_batch(Resident(dataset, CPU).take(rows), take(dataset, rows))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_workers_give_the_same_batches_and_leave_the_same_random_state(dataset):
    after = []
    passes = []
    for workers in (0, 2):
        torch.manual_seed(3)
        passes.append(list(loader(dataset, "train", 7, shuffle=(0, 1), workers=workers, skip=1)))
        passes.append(list(loader(dataset, "train", 7, shuffle=(0, 1), workers=workers)))
        after.append(torch.rand(3))
    assert torch.equal(*after)
    for a, b in zip(passes[0] + passes[1], passes[2] + passes[3], strict=True):
        assert_same_batch(a, b)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("changes", [{"resident": "yes"}, {"workers": 1}])
def test_a_run_is_the_same_however_its_data_are_read(dataset, make_options, changes):
    options = make_options(method="g-blending:every=1", missing_in_training=["b=0.3"], augment=["c=crop"])
    state = State.create(replace(options, **changes), dataset)
    assert (state.resident is not None) == ("resident" in changes)
    one, other = fit(options, dataset), fit(replace(options, **changes), dataset, state=state)
    assert one.history == other.history
    np.testing.assert_array_equal(one.test.values, other.test.values)


def test_fewer_than_no_workers():
    with pytest.raises(InputError, match="workers must be at least 0, got -1"):
        TrainOptions(workers=-1)


def test_a_batch_elsewhere_knows_who_has_what_without_asking(dataset):
    batch = take(dataset, np.arange(12))
    elsewhere = batch.to(torch.device("meta"))  # which can say nothing
    for k in range(3):
        assert elsewhere.has(k) == batch.present[:, k].any()
        assert elsewhere.rows(slice(0, 4)).has(k) == batch.present[:4, k].any()
        rows = elsewhere.rows_with(k)
        assert (rows is None) == bool(batch.present[:, k].all())
        assert rows is None or len(rows) == batch.present[:, k].sum()
    assert isinstance(elsewhere, Batch)
    assert batch.to(CPU) is batch


@pytest.mark.parametrize("kind", ["image", "video"])
def test_large_pictures_are_read_in_pieces_to_the_same_effect(monkeypatch, kind):
    torch.manual_seed(0)
    shape = (12, 10, 3) if kind == "image" else (2, 12, 10, 3)
    encoder = build_encoder("image-cnn", kind, shape, width=16, dropout=0.0)
    x = torch.randint(0, 255, (7, *shape), dtype=torch.uint8)
    lengths = None if kind == "image" else torch.tensor([1, 2] * 3 + [1])
    results = []
    for large in (2**20, 800):
        monkeypatch.setattr("equilib_torch.network.inputs._LARGE", large)
        encoder.zero_grad()
        z = encoder(x, lengths)
        z.square().sum().backward()
        with torch.no_grad():
            assert torch.allclose(encoder(x, lengths), z, atol=1e-5)
        results.append((z.detach(), *(p.grad.clone() for p in encoder.parameters())))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_pieces_are_as_large_as_they_may_be(monkeypatch):
    monkeypatch.setattr("equilib_torch.network.inputs._LARGE", 12)
    sizes = []
    in_pieces(lambda x: sizes.append(len(x)) or x, torch.zeros(7, 4))
    assert sizes == [3, 3, 1]


@pytest.mark.parametrize("compressed", [False, True])
def test_a_large_stored_array_stays_in_its_file(tmp_path, monkeypatch, compressed):
    monkeypatch.setattr(npz, "MAPPED_BYTES", 4000)
    rng = np.random.default_rng(0)
    arrays = {
        "small": rng.standard_normal((60, 2)),
        "photo": rng.integers(0, 256, (60, 5, 5, 3), dtype=np.uint8),
        "turned": np.asfortranarray(rng.standard_normal((60, 20))),
        "sound": rng.standard_normal((60, 9, 2)),
    }
    (np.savez_compressed if compressed else np.savez)(tmp_path / "x.npz", label=np.arange(60) % 2, **arrays)
    dataset = read_npz(tmp_path / "x.npz", seed=0)
    mapped = {m.name for m in dataset.modalities if not m.values.flags.writeable}
    assert mapped == (set() if compressed else {"photo", "sound"})
    for modality in dataset.modalities:
        np.testing.assert_array_equal(modality.values, arrays[modality.name])
    batch = take(dataset, np.array([3, 1]))
    np.testing.assert_array_equal(batch.inputs[3], arrays["sound"][[3, 1]])


def test_a_damaged_array_that_would_stay_in_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "MAPPED_BYTES", 4000)
    path = tmp_path / "x.npz"
    np.savez(path, label=np.arange(60) % 2, photo=np.full((60, 9, 9, 3), 77, np.uint8))
    data = bytearray(path.read_bytes())
    data[data.find(bytes([77]) * 50) + 25] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"cannot be read as an .npz file .*CRC"):
        read_npz(path, seed=0)


_PEAK = """
import resource, sys
from equilib_torch import TrainOptions, fit, load_dataset
dataset = load_dataset(sys.argv[1], seed=0)
fit(TrainOptions(updates=1, device="cpu"), dataset)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in other units elsewhere")
def test_large_pictures_train_in_little_memory(tmp_path):
    """A hundred and thirty of 224 x 224 here; three thousand take as much more as they are larger, 1.15 GB in all."""
    photos = np.random.default_rng(0).integers(0, 256, (130, 224, 224, 3), dtype=np.uint8)
    np.savez(tmp_path / "photos.npz", label=np.arange(130) % 2, photo=photos)
    command = [sys.executable, "-c", _PEAK, str(tmp_path / "photos.npz")]
    peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert peak + (3000 - 130) * photos[0].nbytes < 1.5e9
