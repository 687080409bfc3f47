"""The exact kernels: their arithmetic and their launches on the CPU, and that they compile for GPUs."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import equilib
from equilib_cupy import KERNELS, TORCH_KERNELS, exact

HERE = Path(__file__).parent
SOURCE = Path(exact.__file__).with_name("exact.cu")
KERNEL_NAMES = {"sum_tiles_float32", "sum_tiles_float64", "sum_blocks", "finish_float32", "finish_float64"}


def make_tables(batch: int, n: int, dtype: Any = np.float64, *, offset: float = 0.0, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((batch, 2**n)) + offset).astype(dtype)


def reference(tables: np.ndarray) -> np.ndarray:
    return equilib.shapley_values(tables.astype(np.float64))


class FakeArray(np.ndarray):
    """A NumPy array that looks like one of cupy's."""

    device = nullcontext()

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.ctypes.data)


def allocate(shape: Any, dtype: Any = np.float64) -> FakeArray:
    """Full of NaN, at a multiple of 16 bytes as cupy's pool gives it."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.full(size + 16, 255, np.uint8)
    start = -memory.ctypes.data % 16
    return memory[start : start + size].view(dtype).reshape(shape).view(FakeArray)


def as_fake(x: np.ndarray) -> FakeArray:
    copy = allocate(x.shape, x.dtype)
    copy[...] = x
    return copy


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++ to compile the kernels for the CPU")
    path = tmp_path_factory.mktemp("exact") / "exact.so"
    flags = ["-std=c++17", "-O2", "-Wall", "-Wno-unknown-pragmas", "-Werror", "-shared", "-fPIC"]
    define = f'-DEXACT_CU="{SOURCE}"'
    subprocess.run([compiler, *flags, define, f"-I{HERE}", "-o", path, HERE / "exact_on_cpu.cpp"], check=True)
    return ctypes.CDLL(str(path))


@pytest.fixture
def launches(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, int]]]:
    """A cupy whose kernels run on the CPU; lists the kernels launched, and their blocks."""
    log: list[tuple[str, int]] = []
    types = {np.int32: ctypes.c_int, np.int64: ctypes.c_longlong}

    def get_function(name: str) -> Any:
        def kernel(grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
            assert name in KERNEL_NAMES
            assert len(grid) == 1
            assert block == (256,)
            log.append((name, grid[0]))
            # cupy passes arrays as pointers and NumPy scalars by their own type, which the kernel's must be.
            converted = [types[type(x)](x) if type(x) in types else ctypes.c_void_p(x.ctypes.data) for x in arguments]
            getattr(library, f"run_{name}")(ctypes.c_longlong(grid[0]), *converted)

        return kernel

    def raw_module(code: str, options: tuple[str, ...]) -> Any:
        assert code == SOURCE.read_text(encoding="utf-8")
        return SimpleNamespace(get_function=get_function)

    stream = SimpleNamespace(synchronize=lambda: None)
    cuda = SimpleNamespace(Device=lambda: SimpleNamespace(id=0), get_current_stream=lambda: stream)
    fake = SimpleNamespace(
        RawModule=raw_module,
        cuda=cuda,
        empty=allocate,
        asarray=as_fake,
        ascontiguousarray=lambda x: x if x.flags.c_contiguous else as_fake(x),
        subtract=np.subtract,
        isfinite=np.isfinite,
    )
    monkeypatch.setitem(sys.modules, "cupy", fake)  # type: ignore[arg-type]
    caches = exact.compile_module, exact._function, exact._on_device
    for cache in caches:
        cache.cache_clear()
    yield log
    for cache in caches:
        cache.cache_clear()


def close_to(dtype: Any) -> dict[str, float]:
    """Tolerance of a result: rounding it to float32 is all that float32 may cost."""
    return {"rtol": 2e-7 if dtype == np.float32 else 1e-12, "atol": 1e-10 if dtype == np.float64 else 1e-9}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", range(1, 19))
def test_every_n(launches, n, dtype):
    tables = make_tables(1 if n > 14 else 3, n, dtype)
    found = KERNELS.shapley_values(as_fake(tables), n)
    assert found.shape == (len(tables), n)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, reference(tables), **close_to(dtype))
    assert bool(launches) == (n > exact.PRODUCT_PLAYERS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mid", range(7))
def test_every_division_of_the_bits(launches, monkeypatch, mid, dtype):
    n, low = 18, exact.divide_bits(18, np.dtype(dtype).itemsize).low
    monkeypatch.setattr(exact, "divide_bits", lambda n, itemsize, batch: exact.BitLayout(low, mid, n - low - mid))
    tables = make_tables(2, n, dtype, seed=mid)
    found = KERNELS.shapley_values(as_fake(tables), n)
    np.testing.assert_allclose(found, reference(tables), **close_to(dtype))
    assert launches[0][1] == 2 << (n - low - mid)


@pytest.mark.parametrize("n", [12, 15])
def test_every_coalition_has_its_weight(launches, n):
    """One coalition of value 1 at a time, one of every size among them: its column of the weights."""
    coalitions = [0, 1, 2, 2**n - 1, 2 ** (n - 1), *(2**s - 1 for s in range(2, n)), *range(3, 2**n, 2**n // 13)]
    tables = np.zeros((len(coalitions), 2**n))
    tables[np.arange(len(coalitions)), coalitions] = 1.0
    np.testing.assert_allclose(KERNELS.shapley_values(as_fake(tables), n), reference(tables), rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_offset(launches, dtype):
    """v(∅) is subtracted first, so an offset costs what it rounds away in the table, and nothing more."""
    tables = make_tables(1, 14, dtype, offset=1e6)
    gains = tables.astype(np.float64) - tables[:, :1].astype(np.float64)
    np.testing.assert_allclose(KERNELS.shapley_values(as_fake(tables), 14), reference(gains), **close_to(dtype))


def test_efficiency_symmetry_and_null_player(launches):
    n = 13
    sizes = equilib.coalitions(n)[:, :-1].sum(1)  # the last player adds nothing, the others are alike
    found = KERNELS.shapley_values(as_fake(np.sqrt(sizes)[None]), n)
    np.testing.assert_allclose(found[0, :-1], np.sqrt(n - 1) / (n - 1), rtol=1e-13)
    assert abs(found[0, -1]) < 1e-14


def test_order_of_threads_does_not_matter(launches, library):
    tables = as_fake(make_tables(2, 16))
    first = KERNELS.shapley_values(tables, 16)
    library.set_order(-1)
    try:
        np.testing.assert_array_equal(KERNELS.shapley_values(tables, 16), first)
    finally:
        library.set_order(1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1, 5000, 2**13 - 1])
def test_a_value_that_is_not_finite_reaches_all_results(launches, bad, place):
    tables = make_tables(2, 13)
    tables[1, place] = bad
    with np.errstate(invalid="ignore"):
        found = KERNELS.shapley_values(as_fake(tables), 13)
    np.testing.assert_allclose(found[0], reference(tables[:1])[0], atol=1e-10)
    assert not np.isfinite(found[1]).any()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("n", [5, 13])
def test_the_flag_tells_whether_all_is_finite(launches, n, dtype):
    tables = make_tables(3, n, dtype)
    for bad, flag in ((None, False), (np.nan, True), (np.inf, True)):
        table = as_fake(tables)
        if bad is not None:
            table[2, 2**n - 2] = bad
        with np.errstate(invalid="ignore"):
            shapley, found = KERNELS.checked_shapley_values(table, n)
        assert found.shape == (1,)
        assert bool(found) is flag
        np.testing.assert_allclose(shapley[:2], reference(tables[:2]), rtol=1e-3, atol=1e-3)
    assert not bool(KERNELS.checked_shapley_values(allocate((0, 2**n)), n)[1].any())


def test_functions_are_looked_up_once(launches):
    for _ in range(3):
        KERNELS.shapley_values(as_fake(make_tables(1, 13)), 13)
    assert exact._function.cache_info().misses == 3
    assert len(launches) == 9


def test_torch_tensors_take_the_same_way_on_their_own_stream(launches, monkeypatch):
    """By DLPack, whose stand-in hands the memory over, on the stream and the device that torch uses."""
    entered = []

    class Context:
        def __init__(self, *what: Any) -> None:
            self.what, self.id = what, 0

        def __enter__(self) -> None:
            entered.append(self.what)

        def __exit__(self, *_: Any) -> None: ...

    cupy = sys.modules["cupy"]
    cupy.cuda.Device = lambda *index: Context("device", *index)
    cupy.cuda.ExternalStream = lambda pointer, index: Context("stream", pointer, index)
    cupy.from_dlpack = lambda tensor: as_fake(tensor.numpy())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=77))
    table = torch.tensor(make_tables(2, 13), requires_grad=True)
    stand_in = SimpleNamespace(dtype=table.dtype, device=SimpleNamespace(index=1), detach=table.detach)
    shapley, bad = TORCH_KERNELS.checked_shapley_values(stand_in, 13)
    np.testing.assert_allclose(shapley.numpy(), reference(table.detach().numpy()), atol=1e-10)
    assert not bool(bad)
    assert entered[:2] == [("device", 1), ("stream", 77, 1)]
    monkeypatch.setattr("equilib_cupy._cupy_is_installed", lambda: True)
    assert [TORCH_KERNELS.takes(torch.zeros(4, dtype=d)) for d in (torch.float32, torch.bfloat16)] == [True, False]
    monkeypatch.setattr("equilib_cupy._cupy_is_installed", lambda: False)
    assert not TORCH_KERNELS.takes(torch.zeros(4))


@pytest.mark.parametrize("itemsize", [4, 8])
def test_a_batch_fills_the_blocks_of_all_its_tables(itemsize):
    alone, many = exact.divide_bits(14, itemsize), exact.divide_bits(14, itemsize, 2**14)
    assert alone.mid == 0
    assert many.mid == 14 - many.low
    for batch in (1, 3, 1000, 2**20):
        layout = exact.divide_bits(20, itemsize, batch)
        assert layout.low + layout.mid + layout.block == 20
        assert batch << layout.block >= min(4096, batch << (20 - layout.low))


def test_layouts(launches):
    tables = make_tables(2, 13)
    strided = as_fake(np.repeat(tables, 2, axis=1))[:, ::2]
    memory = allocate(2 * 2**13 + 1)
    shifted = memory[1:].reshape(2, 2**13)
    shifted[...] = tables
    assert shifted.data.ptr % 16
    for table in (strided, shifted):
        np.testing.assert_allclose(KERNELS.shapley_values(table, 13), reference(tables), atol=1e-10)
    half = tables.astype(np.float16)
    found = KERNELS.shapley_values(as_fake(half), 13)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, reference(half), rtol=1e-3, atol=1e-6)
    assert KERNELS.shapley_values(allocate((0, 2**13)), 13).shape == (0, 13)


@pytest.mark.parametrize("itemsize", [4, 8])
def test_layouts_of_the_bits(itemsize):
    for n in range(exact.PRODUCT_PLAYERS + 1, 41):
        layout = exact.divide_bits(n, itemsize)
        assert layout.low + layout.mid + layout.block == n
        assert 0 <= layout.mid <= 6
        assert layout.block >= min(12, n - layout.low)
        assert layout.columns * 8 * 2**layout.block <= 0.0065 * itemsize * 2**n


@pytest.mark.slow
def test_compiles_with_nvcc(tmp_path):
    compiler = shutil.which("nvcc")
    if compiler is None:
        pytest.skip("needs nvcc")
    for architecture in ("sm_80", "sm_90"):
        command = [compiler, "-std=c++17", f"-arch={architecture}", "--resource-usage", "-cubin", "-o", tmp_path / "x"]
        result = subprocess.run([*command, SOURCE], check=True, capture_output=True, text=True)
        assert "warning" not in result.stderr
        assert result.stderr.count("0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads") == 5


@pytest.mark.parametrize("architecture", ["80", "90"])
def test_compiles_with_nvrtc(architecture):
    """The compiler that cupy uses, which knows no standard headers."""
    nvrtc = pytest.importorskip("cupy.cuda", reason="needs cupy", exc_type=ImportError).nvrtc
    try:
        nvrtc.getVersion()
    except RuntimeError as error:
        pytest.skip(f"needs the library NVRTC: {error}")
    program = nvrtc.createProgram(exact.read_source(), "exact.cu", (), ())
    try:
        nvrtc.compileProgram(program, ("-std=c++17", f"-arch=sm_{architecture}"))
        cubin = nvrtc.getCUBIN(program)
    finally:
        nvrtc.destroyProgram(program)
    assert {name for name in KERNEL_NAMES if f".text.{name}".encode() in cubin} == KERNEL_NAMES
