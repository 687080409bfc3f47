"""Data larger than the memory one would give them: mapped, read in pieces, and let go of."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from equilib_torch import Dataset, Modality, TrainOptions
from equilib_torch.data.mapped import ArrayWriter, read_array, release
from equilib_torch.network.encoders import build_encoder
from equilib_torch.training.state import State

# Reads 200 MB of zeros twice, of which the file system keeps none, in every way that a run does before it trains.
SCRIPT = """
import resource, sys
import numpy as np
from equilib_torch import Dataset, Modality
from equilib_torch.data.batches import take
from equilib_torch.data.mapped import read_array
from equilib_torch.network.encoders import build_encoder

def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024

before = peak()
for path, kind in ((sys.argv[1], "image"), (sys.argv[2], "sequence")):
    values = read_array(path)
    n = len(values)
    lengths = np.full(n, values.shape[1]) if kind == "sequence" else None
    modality = Modality("x", kind, values, lengths, np.ones(n, bool))
    rows = np.arange(n)
    dataset = Dataset("x", (modality,), rows % 2, (0, 1), {"train": rows[:-2], "val": rows[-2:-1], "test": rows[-1:]})
    dataset.fingerprint
    build_encoder("mlp", modality.kind, values.shape[1:], width=16, dropout=0.0).standardise.fit(modality, rows)
    for start in range(0, n, 32):
        take(dataset, rows[start : start + 32])
print(peak() - before)
"""


@pytest.mark.slow
def test_a_mapped_array_is_never_in_memory_as_a_whole(tmp_path):
    shapes = {np.uint8: (1000, 256, 256, 3), np.float32: (1000, 784, 64)}
    for dtype, shape in shapes.items():
        with (tmp_path / np.dtype(dtype).name).open("wb") as file:
            header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + int(np.prod(shape)) * np.dtype(dtype).itemsize)
    paths = [str(tmp_path / name) for name in ("uint8", "float32")]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *paths], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 80e6  # of 200 MB each


def test_letting_go_of_an_array_changes_nothing(tmp_path):
    with ArrayWriter(tmp_path / "x.npy", (100, 1000), np.int64) as writer:
        writer.append(np.arange(100_000).reshape(100, 1000))
    mapped, private = read_array(tmp_path / "x.npy"), np.load(tmp_path / "x.npy", mmap_mode="c")
    private[0] = 7
    for values in (mapped, mapped[3:].reshape(-1), private, private[:1], np.arange(5)):
        before = values.copy()
        release(values)
        np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("rows", [3, 5])
def test_rows_that_are_missing_or_too_many_are_refused(tmp_path, rows):
    def write():
        with ArrayWriter(tmp_path / "x.npy", (4, 2), np.uint8) as writer:
            for _ in range(rows):
                writer.append(np.zeros((1, 2), np.uint8))

    with pytest.raises(ValueError, match="rows"):
        write()


@pytest.mark.parametrize("lengths", [False, True])
def test_pixels_are_standardised_as_the_same_numbers_in_float64_are(lengths):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (30, 6, 5), dtype=np.uint8)
    values[..., 2] = 9
    n_frames = rng.integers(1, 7, 30) if lengths else None
    kind = "sequence" if lengths else "image"
    fitted = []
    for dtype in (np.uint8, np.float64):
        samples = values.astype(dtype) if lengths else values.astype(dtype)[..., None]
        modality = Modality("x", kind, samples, n_frames, np.ones(30, bool))
        encoder = build_encoder("mlp", kind, modality.values.shape[1:], width=16, dropout=0.0)
        encoder.standardise.fit(modality, np.arange(3, 30))
        fitted.append((encoder.standardise.mean.numpy(), encoder.standardise.sd.numpy()))
    np.testing.assert_allclose(fitted[0], fitted[1], rtol=1e-12)


def test_evaluation_takes_fewer_of_large_samples_at_a_time():
    sizes = {}
    for side in (8, 512):
        x = Modality("x", "image", np.zeros((24, side, side, 3), np.uint8), None, np.ones(24, bool))
        rows = {"train": np.array([0, 1]), "val": np.arange(2, 22), "test": np.arange(22, 24)}
        dataset = Dataset("x", (x,), np.arange(24) % 2, (0, 1), rows)
        state = State.create(TrainOptions(updates=1, batch_size=1, width=16), dataset)
        sizes[side] = [len(batch.labels) for batch in state.batches("val")]
    assert sizes == {8: [20], 512: [10, 10]}
