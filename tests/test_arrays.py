"""Every array library, every precision: what stays, what is refused, and how much memory it takes."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tracemalloc
from typing import Any

import array_api_compat.torch as torch_namespace
import array_api_strict
import dask
import dask.array as da
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import equilib
from equilib import coalitions, shapley_values
from equilib._namespace import CHECKED_AT_ONCE, require_finite

WEIGHTS = 1 + np.arange(18) % 7


def vote(n: int) -> np.ndarray:
    """A table of 0 and 1, which every precision holds."""
    weights = WEIGHTS[:n]
    return (coalitions(n) @ weights > weights.sum() / 2).astype(np.float64)


def run(code: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("n", [3, 12, 13, 14, 15, 17])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("xp", [torch, jnp], ids=["torch", "jax"])
def test_sums_are_kept_in_more_than_half_precision(xp, dtype, n):
    table, dtype = vote(n), getattr(xp, dtype)
    found = shapley_values(xp.asarray(table, dtype=dtype))
    assert found.dtype == dtype
    expected = shapley_values(table)
    # A rounding of the result itself, and 80 units of float32.
    error = float(xp.finfo(dtype).eps) + 80 * 2.0**-23
    as_float64 = np.asarray(xp.asarray(found, dtype=xp.float32), dtype=np.float64)
    np.testing.assert_allclose(as_float64, expected, rtol=0, atol=error * expected.max())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_other_functions_in_half_precision(dtype):
    table = vote(15)
    found = equilib.expected_when_missing(torch.tensor(table, dtype=dtype), 0.4)
    assert found.dtype == dtype
    assert float(found) == pytest.approx(
        float(equilib.expected_when_missing(table, 0.4)), rel=float(torch.finfo(dtype).eps)
    )


def everything(table: Any) -> list[Any]:
    phi = shapley_values(table)
    return [
        phi,
        equilib.contribution_shares(phi),
        equilib.edm(phi),
        equilib.expected_when_missing(table, 0.3),
        equilib.shapley_interactions(table),
        equilib.banzhaf_values(table),
        *equilib.shapley_schedule(phi, n_updates=20),
    ]


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("n", [3, 15])
def test_autocast_changes_nothing(n, half):
    table = torch.tensor(np.random.default_rng(n).random(2**n), dtype=torch.float32)
    expected = everything(table)
    with torch.autocast("cpu", dtype=half):
        found = everything(table)
        assert torch.is_autocast_enabled("cpu")  # the caller's is as it was
    for x, y in zip(found, expected, strict=True):
        assert x.dtype == y.dtype
        assert torch.equal(x, y)


@pytest.mark.slow
def test_autocast_while_compiling():
    table = torch.rand(8)
    compiled = torch.compile(shapley_values, backend="eager", fullgraph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = compiled(table)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, shapley_values(table))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("n", [3, 12, 16])
def test_tensors_without_gradient_have_the_values_of_numpy(n, dtype):
    table = vote(n).astype(dtype)
    tensor = torch.tensor(table)
    with torch.device("meta"):  # the default device of new tensors
        found = shapley_values(tensor[None])
    assert (found.dtype, found.device.type) == (tensor.dtype, "cpu")
    assert torch.equal(found[0], torch.tensor(shapley_values(table)))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of make_dual itself
def test_nothing_of_torch_is_lost_on_the_way():
    table, direction = torch.rand(8, dtype=torch.float64), torch.rand(8, dtype=torch.float64)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(table, direction)
        tangent = torch.autograd.forward_ad.unpack_dual(shapley_values(dual)).tangent
    torch.testing.assert_close(tangent, shapley_values(direction))
    negative = torch.imag(torch.complex(table, table).conj())  # a view that is negated when it is read
    assert negative.is_neg()
    torch.testing.assert_close(shapley_values(negative), -shapley_values(table))

    class Measured(torch.Tensor):
        pass

    assert type(shapley_values(table.as_subclass(Measured))) is Measured
    with FlopCounterMode(display=False) as counted:
        shapley_values(table)
    assert counted.get_total_flops() > 0
    leaf = table.clone().requires_grad_()
    assert shapley_values(leaf).requires_grad
    with torch.no_grad():
        assert not shapley_values(leaf).requires_grad


def test_a_sum_that_overflows_is_no_bad_value():
    result = torch.full((4,), 6e4, dtype=torch.float16, requires_grad=True)
    assert result.sum().isinf()
    require_finite(result, "x", xp=torch_namespace)
    with pytest.raises(ValueError, match=r"^x must be finite, got inf"):
        require_finite(torch.tensor([1.0, math.inf, -math.inf], requires_grad=True), "x", xp=torch_namespace)


def test_large_tables_have_gradients():
    n = 15
    table = torch.zeros(2**n, dtype=torch.float64, requires_grad=True)
    shapley_values(table)[4].backward()
    inside = coalitions(n)[:, 4]
    sizes = coalitions(n).sum(1) - inside
    weights = np.array([1 / (n * math.comb(n - 1, s)) for s in range(n)])[np.minimum(sizes, n - 1)]
    np.testing.assert_allclose(table.grad, np.where(inside, weights, -weights), atol=1e-15)


def at_home(x: Any) -> np.ndarray:
    """Copy an array of array-api-strict, which gives away only what is on its CPU."""
    return np.asarray(x.to_device(array_api_strict.Device("CPU_DEVICE")))


def test_a_device_without_float64():
    device = array_api_strict.Device("no_float64")
    for n in (3, 15):
        table = vote(n)
        there = array_api_strict.asarray(table, dtype=array_api_strict.float32, device=device)
        results = everything(there) if n == 3 else [shapley_values(there)]
        assert all(x.device == device for x in results)
        np.testing.assert_allclose(at_home(results[0]), shapley_values(table), rtol=0, atol=1e-6)
    whole = array_api_strict.asarray([0, 1, 2, 4], device=device)
    assert shapley_values(whole).dtype == array_api_strict.float32


@pytest.mark.parametrize("estimator", ["permutation", "auto", "exact"])
def test_estimates_on_a_device_without_float64(estimator):
    device = array_api_strict.Device("no_float64")

    def game(z: Any) -> Any:
        assert z.device == device
        return array_api_strict.sum(array_api_strict.astype(z, array_api_strict.float32), axis=1)

    estimate = equilib.estimate_shapley(
        game, 6, budget=64, estimator=estimator, xp=array_api_strict, device=device, seed=0
    )
    assert estimate.values.device == device
    np.testing.assert_allclose(at_home(estimate.values), 1, rtol=1e-6)


def test_tensors_without_values_have_results_without_values():
    results = everything(torch.zeros(8, device="meta"))
    assert [tuple(x.shape) for x in results] == [(3,), (3,), (), (), (3, 3), (3,), (3,), (3,)]
    assert all(x.device.type == "meta" for x in results)


@pytest.mark.slow
def test_tables_spread_over_several_devices():
    code = """
import jax, numpy as np, jax.numpy as jnp, equilib
from jax.sharding import NamedSharding, PartitionSpec
assert len(jax.devices()) == 2
mesh = jax.make_mesh((2,), ("d",))
for shape, spec in (((4, 2**6), ("d",)), ((2**16,), ("d",))):
    table = np.random.default_rng(0).random(shape)
    spread = jax.device_put(jnp.asarray(table, jnp.float32), NamedSharding(mesh, PartitionSpec(*spec)))
    phi = equilib.shapley_values(spread)
    np.testing.assert_allclose(phi, equilib.shapley_values(table), atol=1e-6)
    np.testing.assert_allclose(equilib.edm(phi), equilib.edm(np.asarray(phi)), atol=1e-5)
    expected = equilib.expected_when_missing(table, 0.5)
    np.testing.assert_allclose(equilib.expected_when_missing(spread, 0.5), expected, rtol=1e-5)
    equilib.shapley_schedule(phi)
there = jax.device_put(jnp.asarray([0.0, 1.0, 2.0, 4.0]), jax.devices()[1])
assert equilib.shapley_values(there).devices() == {jax.devices()[1]}
assert equilib.shapley_schedule(equilib.shapley_values(there), policy="fixed").order.devices() == {jax.devices()[1]}
print("done")
"""
    assert run(code, XLA_FLAGS="--xla_force_host_platform_device_count=2").strip() == "done"


MASKED = np.ma.masked_array([0.1, 0.8, 999.0, 0.9], mask=[0, 0, 1, 0])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (MASKED, "a masked MaskedArray"),
        ([MASKED, MASKED], "a masked item in a list"),
        ((0.1, np.ma.masked), "a masked item in a tuple"),
        (torch.tensor([0.0, 0, 0, 1]).to_sparse(), "a sparse Tensor"),
        (torch.nested.nested_tensor([torch.ones(2), torch.ones(4)], layout=torch.jagged), "a nested NestedTensor"),
    ],
    ids=["numpy", "list", "tuple", "sparse", "nested"],
)
def test_what_is_no_plain_array_is_refused(values, kind):
    for function in (shapley_values, lambda x: equilib.expected_when_missing(x, 0.5)):
        with pytest.raises(ValueError, match=f"^values must be a plain array, got {kind}"):
            function(values)
    for function in (equilib.edm, equilib.contribution_shares, equilib.shapley_schedule):
        with pytest.raises(ValueError, match=f"^shapley must be a plain array, got {kind}"):
            function(values)


def test_sparse_arrays_of_scipy_and_jax_are_refused():
    from jax.experimental import sparse
    from scipy.sparse import csr_array

    for table in (csr_array([[0.0, 1.0]]), sparse.BCOO.fromdense(jnp.asarray([0.0, 1.0]))):
        with pytest.raises(ValueError, match=r"^values must be a plain array, got a sparse "):
            shapley_values(table)


def test_a_second_argument_is_refused_likewise():
    with pytest.raises(ValueError, match=r"^target must be a plain array, got a masked"):
        equilib.edm([0.5, 0.5], target=np.ma.masked_array([0.5, 0.5], mask=[0, 1]))
    with pytest.raises(ValueError, match=r"^target must be a plain array, got a masked item in a list"):
        equilib.edm([0.5, 0.5], target=[0.5, np.ma.masked])


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("xp", [torch, jnp], ids=["torch", "jax"])
def test_eight_bits_are_too_few(xp, dtype):
    with pytest.raises(ValueError, match=rf"^values must hold real numbers, got dtype .*{dtype}$"):
        shapley_values(xp.zeros(4, dtype=getattr(xp, dtype)))


def test_lists_of_numbers_that_will_not_come_along():
    scalars = [torch.tensor(float(x), requires_grad=True) for x in range(4)]
    with pytest.raises(ValueError, match=r"^values must be an array of real numbers, got what NumPy cannot read"):
        shapley_values(scalars)
    with pytest.raises(ValueError, match=r"^game must return an array of real numbers, got list"):
        equilib.estimate_shapley(lambda z: [scalars[1] for _ in z], 3, budget=8)


def test_masked_and_sparse_answers_of_a_game():
    for answer in (
        lambda z: np.ma.masked_array(z[:, 0], mask=z[:, 0]),
        lambda z: torch.tensor(z[:, 0] * 1.0).to_sparse(),
    ):
        with pytest.raises(ValueError, match=r"^what game returns must be a plain array, got a (masked|sparse)"):
            equilib.estimate_shapley(answer, 3, budget=8)


def test_infinity_is_named_without_boolean_indexing():
    table = array_api_strict.asarray([0.0, 1.0, -math.inf, 2.0])
    with (
        array_api_strict.ArrayAPIStrictFlags(boolean_indexing=False, data_dependent_shapes=False),
        pytest.raises(ValueError, match=r"^values must be finite, got -inf in an array of shape \(4,\)$"),
    ):
        shapley_values(table)


def test_the_search_for_a_bad_value_takes_little_memory(monkeypatch):
    monkeypatch.setattr("equilib._namespace.CHECKED_AT_ONCE", 2**12)
    assert CHECKED_AT_ONCE > 2**12
    table = np.zeros(2**18)
    table[-1] = np.nan
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"^x must be finite, got nan in an array of shape \(262144,\)$"):
        require_finite(table, "x", xp=np)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**15


class TestDask:
    def test_orders(self):
        estimate = equilib.estimate_shapley(
            lambda z: z.sum(axis=1), 5, budget=30, xp=da, estimator="permutation", seed=0
        )
        np.testing.assert_allclose(np.asarray(estimate.values), 1)

    def test_a_table_is_computed_once(self):
        table, computed = np.random.default_rng(0).random(2**16), []

        def source():
            computed.append(1)
            return table

        lazy = da.from_delayed(dask.delayed(source)(), shape=table.shape, dtype=float)
        found = shapley_values(lazy)
        np.testing.assert_allclose(found.compute(), shapley_values(table), atol=1e-14)
        assert computed == [1]

    def test_bad_values_and_shapes_are_named(self):
        table = da.from_array(np.array([0.0, np.nan, 1.0, 2.0]), chunks=2)
        with pytest.raises(ValueError, match=r"^values must be finite, got nan"):
            shapley_values(table)
        with pytest.raises(
            ValueError, match=r"^values must have a known shape, got \(nan,\): call its compute_chunk_sizes"
        ):
            shapley_values(table[table > 0])


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "float16", "float32", "float64", ">f8"])
def test_memory_of_large_tables(dtype):
    n = 20
    table = (np.random.default_rng(0).random(2**n) * 100).astype(dtype)
    shapley_values(table[: 2**16])  # what is imported first
    tracemalloc.start()
    found = shapley_values(table)
    extra = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert extra <= 0.3 * table.nbytes
    np.testing.assert_allclose(found, shapley_values(table.astype(np.float64)), rtol=1e-3, atol=1e-3 * abs(found).max())


@pytest.mark.parametrize("axis", [0, 1])
def test_memory_of_batches_along_another_axis(axis):
    table = np.random.default_rng(0).random((2, 2**17, 3) if axis else (2**17, 2, 3))
    tracemalloc.start()
    found = shapley_values(table, axis=axis)
    extra = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert extra <= 0.3 * table.nbytes
    np.testing.assert_allclose(
        found[1, :, 2] if axis else found[:, 1, 2], shapley_values(np.take(np.take(table, 1, 1 - axis), 2, 1))
    )


@pytest.mark.parametrize("n", [9, 16])
def test_memory_of_coalitions(n):
    coalitions(2)
    tracemalloc.start()
    result = coalitions(n)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 3 * result.nbytes + 4096


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["torch.int8", "jax.float32"])
def test_memory_in_other_libraries(kind):
    library, dtype = kind.split(".")
    code = f"""
import resource, numpy as np
from equilib import shapley_values
host = np.random.default_rng(0).integers(0, 100, 2**23).astype("{dtype}")
if "{library}" == "torch":
    import torch
    table = torch.tensor(host)
else:
    import jax.numpy
    table = jax.numpy.asarray(host)
np.asarray(shapley_values(table[:2**16]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
np.asarray(shapley_values(table))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / host.nbytes)
"""
    assert float(run(code)) <= 3


@pytest.mark.parametrize("n", [12, 16, 20])
@pytest.mark.parametrize("offset", [2.0**6, 2.0**20, 2.0**40])
def test_offsets_of_any_size_cost_few_digits(n, offset):
    # Multiples of 2**-10, which no offset here rounds.
    table = np.round(np.random.default_rng(n).normal(size=2**n) * 2**10) / 2**10
    expected = shapley_values(table - table[0])
    np.testing.assert_allclose(shapley_values(table + offset), expected, rtol=0, atol=2e-13 * abs(expected).max())


def test_equal_values_near_the_largest_number():
    np.testing.assert_array_equal(shapley_values(np.full(2**16, 1.7e308)), np.zeros(16))
