"""The kernels on a GPU: skipped where there is no cupy or no CUDA device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import equilib


@pytest.fixture(scope="module")
def cp() -> Any:
    cupy = pytest.importorskip("cupy", reason="needs cupy", exc_type=ImportError)
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        pytest.skip(f"needs a CUDA device: {error}")
    return cupy


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "batch"), [(1, 4), (5, 1000), (11, 9), (12, 300), (13, 3), (18, 2), (23, 1), (26, 1)])
def test_parity_with_numpy(cp, n, batch, dtype):
    tables = np.random.default_rng(n).standard_normal((batch, 2**n)).astype(dtype)
    found = equilib.shapley_values(cp.asarray(tables))
    assert isinstance(found, cp.ndarray)
    assert found.dtype == dtype
    tolerance = {"rtol": 2e-7, "atol": 1e-9} if dtype == np.float32 else {"rtol": 0, "atol": 1e-10}
    np.testing.assert_allclose(cp.asnumpy(found), equilib.shapley_values(tables.astype(np.float64)), **tolerance)


@pytest.mark.parametrize("n", [10, 20])
def test_axis_and_bad_values(cp, n):
    tables = cp.random.default_rng(0).standard_normal((2**n, 2, 3))
    found = equilib.shapley_values(tables, axis=0)
    np.testing.assert_allclose(cp.asnumpy(found), equilib.shapley_values(cp.asnumpy(tables), axis=0), atol=1e-10)
    tables[5, 1, 1] = cp.nan
    with pytest.raises(ValueError, match=r"values.*finite"):
        equilib.shapley_values(tables, axis=0)


@pytest.mark.parametrize("n", [11, 16, 25])
def test_the_same_bits_at_every_run(cp, n):
    tables = cp.random.default_rng(0).standard_normal((3, 2**n), dtype=np.float32)
    first = equilib.shapley_values(tables)
    for _ in range(5):
        assert bool((equilib.shapley_values(tables) == first).all())


@pytest.mark.slow
def test_n_28_without_a_temporary_as_large_as_the_table(cp):
    free, _ = cp.cuda.Device().mem_info
    if free < 3 * 2**30:
        pytest.skip("needs 3 GiB of device memory")
    table = cp.random.default_rng(0).standard_normal(2**28, dtype=np.float32)
    expected = equilib.shapley_values(cp.asnumpy(table).astype(np.float64))
    pool = cp.get_default_memory_pool()
    pool.free_all_blocks()
    before = pool.total_bytes()
    found = cp.asnumpy(equilib.shapley_values(table))
    assert pool.total_bytes() - before < table.nbytes / 100
    np.testing.assert_allclose(found, expected, rtol=2e-7, atol=1e-9)
