"""What a CUDA device achieves, in one call: `python -m benchmarks.gpu [--seconds 540] [--output gpu.json]`.

Needs cupy, a CUDA device, and equilib installed: without entry points its kernels would not be found, and something
else would be timed, so that stops it. What is left of the time budget decides what is still measured, in this order:

    baselines   one read and one copy of the same memory: the physical floor
    exact       GB/s of the kernel and of the whole call, the same bits at every run, parity with NumPy up to n = 26
    bounds      which launch bounds of the kernel win
    batches     many small tables in one call
    torch       tensors, through the same kernels
    sampling    evaluations a second of a game that costs nothing, coalitions made on the host and on the device
    training    samples a second: the MLPs of mfeat, and two ResNet-18

Every measurement is a line of its own, and an entry of the JSON file, which is written again after each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import equilib
from equilib._kernels import find_kernels
from equilib_cupy import KERNELS, TORCH_KERNELS

Record = dict[str, Any]

SIZES = [(n, dtype) for n in (24, 26, 28, 30, 32) for dtype in ("float32", "float64")]
SIZES += [(33, "float64"), (34, "float32")]
PARITY_PLAYERS = 26


class Bench(NamedTuple):
    """The device to measure, and when to stop."""

    cupy: Any
    deadline: float

    def has_time_for(self, seconds: float) -> bool:
        return time.monotonic() + seconds < self.deadline

    def has_memory_for(self, size: float) -> bool:
        self.cupy.get_default_memory_pool().free_all_blocks()
        return size < self.cupy.cuda.Device().mem_info[0]

    def seconds(self, call: Callable[[], Any], repeats: int = 20) -> float:
        """Measure the median time of a call on the device, after three for warming up."""
        times = []
        for _ in range(repeats + 3):
            start, end = self.cupy.cuda.Event(), self.cupy.cuda.Event()
            start.record()
            call()
            end.record()
            end.synchronize()
            times.append(self.cupy.cuda.get_elapsed_time(start, end) / 1e3)
        return statistics.median(times[3:])

    def rate(self, size: int, call: Callable[[], Any]) -> float:
        """Measure the GB/s of a call that reads `size` bytes."""
        return round(size / self.seconds(call) / 1e9, 1)


def require_kernels(cupy: Any) -> None:
    """Stop unless arrays of cupy are computed by the CUDA kernels of this distribution.

    Raises:
        SystemExit: they are not found, or are somebody else's.
    """
    kernels = find_kernels(cupy.empty(0))
    if kernels is not KERNELS:
        raise SystemExit(
            f"the kernels of equilib_cupy are not used, but {kernels!r}: install equilib, entry points and all"
        )


def baselines(bench: Bench) -> Iterator[Record]:
    source = bench.cupy.ones(2**28, np.float32)
    target = bench.cupy.empty_like(source)
    read = bench.rate(source.nbytes, source.sum)
    yield {"what": "read of 1 GiB", "GB/s": read}
    yield {
        "what": "copy of 1 GiB, read and written",
        "GB/s": bench.rate(2 * source.nbytes, lambda: target.__setitem__(..., source)),
    }


def exact(bench: Bench) -> Iterator[Record]:
    from equilib_cupy import exact as kernels

    for n, dtype in SIZES:
        size = 2**n * np.dtype(dtype).itemsize
        what = f"exact, n = {n}, {dtype}"
        if not bench.has_memory_for(1.1 * size):
            yield {"what": what, "skipped": "does not fit the device"}
            continue
        if not bench.has_time_for(5 + size / 2e9 * (n <= PARITY_PLAYERS)):
            yield {"what": what, "skipped": "no time left"}
            continue
        table = random_table(bench, n, dtype)
        shapley = bench.cupy.asnumpy(equilib.shapley_values(table))
        same = all((bench.cupy.asnumpy(equilib.shapley_values(table)) == shapley).all() for _ in range(3))
        record = {
            "what": what,
            "kernel GB/s": bench.rate(size, lambda table=table, n=n: kernels.checked_shapley_values(table[None], n)),
            "call GB/s": bench.rate(size, lambda table=table: equilib.shapley_values(table)),
            "same bits": bool(same),
        }
        if n <= PARITY_PLAYERS:
            expected = equilib.shapley_values(bench.cupy.asnumpy(table).astype(np.float64))
            record["largest difference to NumPy"] = float(abs(shapley - expected).max())
            if not np.allclose(shapley, expected, rtol=1e-6 if dtype == "float32" else 1e-12, atol=1e-9):
                raise SystemExit(f"{what}: not the values that NumPy computes: {record}")
        yield record
        del table


def random_table(bench: Bench, n: int, dtype: str) -> Any:
    """Draw a table in parts: a generator may need memory of its own."""
    table, part = bench.cupy.empty(2**n, dtype), 2 ** min(n, 26)
    generator = bench.cupy.random.default_rng(n)
    for start in range(0, 2**n, part):
        table[start : start + part] = generator.standard_normal(part, dtype=dtype)
    return table


def bounds(bench: Bench) -> Iterator[Record]:
    """Time the kernel that reads, compiled for 2, 3 and 4 blocks per multiprocessor."""
    from equilib_cupy import exact as kernels

    n = 28
    for dtype, blocks in ((dtype, blocks) for dtype in ("float32", "float64") for blocks in (2, 3, 4)):
        what = f"launch bounds {blocks}, n = {n}, {dtype}"
        size = 2**n * np.dtype(dtype).itemsize
        if not bench.has_time_for(15) or not bench.has_memory_for(1.1 * size):
            yield {"what": what, "skipped": "no time or memory left"}
            continue
        function = kernels.compile_module((f"-DBLOCKS_{dtype.upper()}={blocks}",)).get_function(f"sum_tiles_{dtype}")
        table, weights = random_table(bench, n, dtype), bench.cupy.asarray(kernels.term_weights(n))
        layout = kernels.divide_bits(n, table.dtype.itemsize)
        partials = bench.cupy.empty((layout.columns, 2**layout.block), np.float64)
        arguments = (table, weights, partials, np.int32(n), np.int32(layout.mid))

        def launch(function: Any = function, layout: Any = layout, arguments: Any = arguments) -> None:
            function((2**layout.block,), (256,), arguments)

        yield {"what": what, "GB/s": bench.rate(size, launch), "registers": function.num_regs}
        del table, arguments


def batches(bench: Bench) -> Iterator[Record]:
    for n in (*range(2, 13), 16, 20):
        if not bench.has_time_for(3):
            yield {"what": f"batches, n = {n}", "skipped": "no time left"}
            continue
        tables = random_table(bench, 26, "float32").reshape(-1, 2**n)
        rate = bench.rate(tables.nbytes, lambda tables=tables: equilib.shapley_values(tables))
        yield {"what": f"{len(tables)} tables at once, n = {n}, float32", "call GB/s": rate}


def torch_tensors(bench: Bench) -> Iterator[Record]:
    import torch

    table = torch.rand(2**26, device="cuda")
    if find_kernels(table) is not TORCH_KERNELS:
        raise SystemExit("the kernels of equilib_cupy are not used for torch: install equilib, entry points and all")
    expected = equilib.shapley_values(table.cpu().numpy().astype(np.float64))
    found = equilib.shapley_values(table).cpu().numpy()
    if not np.allclose(found, expected, rtol=1e-6, atol=1e-9):
        raise SystemExit("torch: not the values that NumPy computes")
    rate = bench.rate(4 * 2**26, lambda: equilib.shapley_values(table))
    yield {"what": "torch tensor, n = 26, float32", "call GB/s": rate}


def sampling(bench: Bench) -> Iterator[Record]:
    """Estimate for a game that returns whether its first player is there: what is left is the estimator's own time."""
    n = 32
    for estimator, per_player in (("permutation", 20_000), ("kernel", 1_000), ("auto", 1_000)):
        for place, xp in (("host", np), ("device", bench.cupy)):
            what = f"sampling on the {place}, {estimator}, n = {n}"
            if not bench.has_time_for(20):
                yield {"what": what, "skipped": "no time left"}
                continue
            begin = time.perf_counter()
            estimate = equilib.estimate_shapley(
                lambda z, xp=xp: z[:, 0].astype(xp.float64),
                n,
                budget=per_player * n,
                estimator=estimator,
                xp=xp,
                seed=0,
            )
            spent = time.perf_counter() - begin
            yield {"what": what, "million evaluations/s": round(estimate.n_evaluations / spent / 1e6, 3)}


def training(bench: Bench) -> Iterator[Record]:
    for method in ("joint", "equilib"):
        yield from train(bench, f"mfeat, {method}", "mfeat", {"method": method, "updates": 300, "device": "cuda"})
    rng = np.random.default_rng(0)
    pictures = {name: rng.integers(0, 256, (640, 224, 224, 3)).astype(np.uint8) for name in ("first", "second")}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pictures.npz"
        np.savez(path, label=np.arange(640) % 10, **pictures)
        for method in ("joint", "equilib"):
            options = {"method": method, "updates": 30, "device": "cuda", "precision": "bf16", "batch_size": 64}
            options["encoder"] = ["first=resnet18", "second=resnet18"]
            yield from train(bench, f"two ResNet-18 at batch 64, bf16, {method}", str(path), options)


def train(bench: Bench, what: str, source: str, options: Record) -> Iterator[Record]:
    from equilib_torch import InputError, TrainOptions, fit, load_dataset, summarise

    if not bench.has_time_for(90):
        yield {"what": what, "skipped": "no time left"}
        return
    begin = time.monotonic()
    try:
        run = fit(TrainOptions(**options), load_dataset(source, seed=0))
    except InputError as error:
        yield {"what": what, "skipped": str(error)}
        return
    summary = summarise(run, seconds_total=time.monotonic() - begin)
    yield {"what": what, "samples/s": round(summary["samples_per_second"])}


SECTIONS = {
    "baselines": baselines,
    "exact": exact,
    "bounds": bounds,
    "batches": batches,
    "torch": torch_tensors,
    "sampling": sampling,
    "training": training,
}


def find_device() -> Any:
    """Import cupy and look for a CUDA device.

    Raises:
        SystemExit: there is none.
    """
    try:
        import cupy

        cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise SystemExit(f"benchmarks.gpu needs cupy and a CUDA device, and there is none here: {reason}") from None
    return cupy


def main(arguments: list[str]) -> int:
    """Measure what the time allows: a line each, and all of it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="What a CUDA device achieves.")
    parser.add_argument("--seconds", type=float, default=540.0, help="time budget (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="a JSON file for the results")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="parts to measure")
    options = parser.parse_args(arguments)
    cupy = find_device()
    require_kernels(cupy)
    bench = Bench(cupy, time.monotonic() + options.seconds)
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    machine = {
        "device": properties["name"].decode(),
        "cupy": cupy.__version__,
        "numpy": np.__version__,
        "equilib": equilib.__version__,
    }
    print(", ".join(f"{key} {value}" for key, value in machine.items()), flush=True)
    results: Record = {"machine": machine, "results": []}
    for section in options.only:
        for record in (
            SECTIONS[section](bench) if bench.has_time_for(0) else [{"what": section, "skipped": "no time left"}]
        ):
            results["results"].append({"section": section, **record})
            print(
                ", ".join(str(value) if key == "what" else f"{key}: {value}" for key, value in record.items()),
                flush=True,
            )
            if options.output:
                options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
