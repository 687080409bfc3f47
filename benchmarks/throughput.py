"""Samples per second that ResNet-18 trains on, beside torch alone doing the same: `python -m benchmarks.throughput`.

    decoded     JPEG files are decoded, and every picture trained on once
    cached      decoded before, mapped from the cache
    resident    on the device, or on a CPU in memory

Ours is method `joint` on one modality with `sum` fusion and no augmentation; torch alone has the same module, batches,
loss and optimiser in a loop of ten lines. On a CPU, seconds are those of the process (one thread), so that other work
on the machine does not count; on CUDA, those of the clock. Best of a few epochs, taken in turns.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from equilib_torch import Dataset, Modality, TrainOptions
from equilib_torch.data.cache import Cache
from equilib_torch.data.decoding import decode_column
from equilib_torch.data.media import MediaOptions
from equilib_torch.network.encoders import build_encoder
from equilib_torch.training import State, train

SIDE, N_CLASSES, N_HELD = 224, 10, 20
MODES = ("decoded", "cached", "resident")


def write_pictures(folder: Path, n: int) -> list[str]:
    """Write JPEG files of coloured patches and give their names."""
    from PIL import Image

    rng = np.random.default_rng(0)
    names = [f"{k}.jpg" for k in range(n)]
    for name in names:
        patches = rng.integers(0, 256, (14, 14, 3), dtype=np.uint8)
        Image.fromarray(patches).resize((256, 256)).save(folder / name, quality=90)
    return names


def decode(path: Path) -> np.ndarray:
    """Decode a file the plain way."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB").resize((SIDE, SIDE)))


def ours(folder: Path, names: list[str], options: TrainOptions, cache: Cache, mode: str) -> Callable[[], None]:
    """Make one epoch of training by this library, from files on."""
    if mode == "decoded":  # nothing is cached yet
        cache = Cache(Path(tempfile.mkdtemp(dir=folder)), 10**12)

    def epoch() -> None:
        media = MediaOptions(image_size=SIDE, workers=0)
        column = decode_column("photo", "image", names, data_root=folder, options=media, cache=cache, progress=False)
        found = column["photo"]
        photo = Modality("photo", "image", found.values, None, found.present)
        rows = np.arange(len(names))
        splits = {"train": rows[2 * N_HELD :], "val": rows[:N_HELD], "test": rows[N_HELD : 2 * N_HELD]}
        state = State.create(options, Dataset("files", (photo,), rows % N_CLASSES, tuple(range(N_CLASSES)), splits))
        train(state, state.budget.per_epoch)

    return epoch


def plain(folder: Path, names: list[str], options: TrainOptions, device: torch.device, mode: str) -> Callable[[], None]:
    """Make the same by torch alone."""
    decoded = None if mode == "decoded" else np.load(folder / "plain.npy", mmap_mode="r" if mode == "cached" else None)
    resident = torch.from_numpy(decoded).to(device) if mode == "resident" else None

    def take(rows: np.ndarray) -> Tensor:
        if resident is not None:
            return resident[torch.from_numpy(rows).to(device)]
        values = np.stack([decode(folder / names[row]) for row in rows]) if decoded is None else decoded[rows]
        return torch.from_numpy(values).to(device)

    def epoch() -> None:
        encoder = build_encoder("resnet18", "image", (SIDE, SIDE, 3), width=options.width, dropout=options.dropout)
        model = nn.Sequential(encoder, nn.Linear(options.width, N_CLASSES)).to(device)
        with torch.no_grad():
            encoder.standardise.mean.fill_(127.0)
            encoder.standardise.sd.fill_(64.0)
        optimiser = torch.optim.AdamW(model.parameters(), lr=options.lr, fused=True)
        for batch in batches(len(names), int(options.batch_size or 64)):
            labels = torch.from_numpy(batch % N_CLASSES).to(device)
            optimiser.zero_grad()
            F.cross_entropy(model(take(batch)), labels).backward()
            optimiser.step()

    return epoch


def batches(n: int, size: int) -> Iterator[np.ndarray]:
    """Give the training rows of an epoch in random order."""
    order = 2 * N_HELD + np.random.default_rng(0).permutation(n - 2 * N_HELD)
    return (order[start : start + size] for start in range(0, len(order), size))


def seconds(epoch: Callable[[], None], device: torch.device) -> float:
    """Measure an epoch."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    start = clock()
    epoch()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start


def main() -> None:
    """Print a row per mode."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=300, help="trained on, besides 40 for validation and test")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--only", nargs="+", choices=MODES, default=MODES)
    given = parser.parse_args()
    device = torch.device(given.device)
    torch.set_num_threads(1)
    print("| data | ours, samples/s | torch alone | time, ours to torch alone |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = write_pictures(folder, given.pictures + 2 * N_HELD)
        np.save(folder / "plain.npy", np.stack([decode(folder / name) for name in names]))
        cache = Cache(folder / "cache", 10**12)
        for mode in given.only:
            options = TrainOptions(
                method="joint",
                fusion="sum",
                encoder=["photo=resnet18"],
                epochs=1,
                batch_size=given.batch_size,
                device=given.device,
                resident="yes" if mode == "resident" else "no",
            )
            if mode != "decoded":
                media = MediaOptions(image_size=SIDE, workers=0)
                decode_column("photo", "image", names, data_root=folder, options=media, cache=cache, progress=False)
            times = [
                [
                    seconds(make, device)
                    for make in (
                        ours(folder, names, options, cache, mode),
                        plain(folder, names, options, device, mode),
                    )
                ]
                for _ in range(given.repeats)
            ]
            mine, theirs = (min(each) for each in zip(*times, strict=True))
            rates = [given.pictures / each for each in (mine, theirs)]
            print(f"| {mode} | {rates[0]:.1f} | {rates[1]:.1f} | {mine / theirs:.3f} |", flush=True)


if __name__ == "__main__":
    main()
