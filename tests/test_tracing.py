from __future__ import annotations

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from conftest import to_numpy

import equilib
from equilib import (
    banzhaf_values,
    contribution_shares,
    edm,
    expected_when_missing,
    pairwise_synergy,
    shapley_interactions,
    shapley_schedule,
    shapley_scheduler,
    shapley_values,
)

TABLE = [0.0, 0.5, 0.25, 0.625, 0.1875, 0.75, 0.5, 1.0]
CONTRIBUTIONS = [
    [0.5, 0.25, 0.25],
    [0.3, 0.3, 0.3],
    [0.3, 0.3, 0.1],
    [0.5, 0.0, 0.0],
    [0.5, -0.25, 0.125],
    [-0.5, -0.25, -0.125],
    [0.0, 0.0, 0.0],
    [0.0, 0.0, -1.0],
    [1e30, 1.0, 0.0],
    [1e-30, 1e-30, 0.0],
    [1e-30, 1.0, -1e30],
]


def everything(table):
    """Call the whole core on one table of three players."""
    phi = shapley_values(table)
    init, update, schedule = shapley_scheduler(3, policy="random", smoothing=0.5, n_updates=10, seed=2)
    first = update(init(like=phi), phi)
    state = update(first, contribution_shares(phi))
    return (
        phi,
        contribution_shares(phi),
        edm(phi),
        edm(phi, target=[0.5, 0.25, 0.25]),
        expected_when_missing(table, 0.5),
        expected_when_missing(table, contribution_shares(phi)),
        shapley_interactions(table),
        pairwise_synergy(table),
        banzhaf_values(table),
        *(x for policy in ("weak-to-strong", "fixed") for x in shapley_schedule(phi, policy=policy, n_updates=10)),
        *shapley_schedule(phi, policy="random", seed=1),
        *state,
        *schedule(first),
        *schedule(state),
    )


def assert_same(actual, expected) -> None:
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(to_numpy(a), to_numpy(b), rtol=0, atol=1e-6)


def test_jax_jit():
    assert_same(jax.jit(everything)(jnp.asarray(TABLE)), everything(np.asarray(TABLE, np.float32)))


@pytest.mark.slow
def test_jax_vmap():
    tables = jnp.asarray([TABLE, TABLE[::-1]])
    batched = jax.vmap(everything)(tables)
    for row in range(2):
        assert_same([np.asarray(x)[row] for x in batched], everything(np.asarray(tables[row])))


def test_jax_scan_carries_the_scheduler():
    init, update, schedule = shapley_scheduler(3, smoothing=0.5, policy="random", seed=0)
    shapley = jnp.asarray([[0.1, 0.2, 0.3], [0.3, 0.1, 0.2], [0.2, 0.2, 0.2]])

    def step(state, measured):
        return update(state, measured), schedule(state)

    last, schedules = jax.lax.scan(step, init(shapley), shapley)
    state = init(shapley)
    for row in range(3):
        assert schedules.order[row].tolist() == schedule(state).order.tolist()
        state = update(state, shapley[row])
    assert_same(last, state)


def test_jax_jit_of_constants():
    assert float(jax.jit(lambda: edm(jnp.asarray([0.2, 0.2])))()) == 0


@pytest.mark.parametrize("n", [3, 9, 49])
def test_jax_jit_meets_equilibrium_exactly(n):
    assert float(jax.jit(edm)(jnp.full((n,), 0.3))) == 0


def test_jax_float64():
    with jax.enable_x64(True):
        table = jnp.asarray(TABLE)
        results = jax.jit(everything)(table)
        assert {x.dtype.name for x in results} == {"float64", "int64", "int32"}
        for a, b in zip(results, everything(np.asarray(TABLE)), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)
        assert float(edm(jnp.full((9,), 1.3516065598966978e16))) == 0  # XLA's reciprocals make this 1e-16


def test_torch_vmap():
    tables = torch.tensor([TABLE, TABLE[::-1]])
    batched = torch.func.vmap(everything)(tables)
    for row in range(2):
        assert_same([x[row] for x in batched], everything(tables[row]))


def test_torch_vmap_of_another_axis():
    tables = torch.tensor([TABLE, TABLE[::-1]]).reshape(2, 8, 1)
    batched = torch.func.vmap(lambda table: shapley_values(table, axis=0))(tables)
    assert_same(batched[..., 0], shapley_values(tables[..., 0]))


@pytest.mark.slow
def test_torch_compile():
    # The eager backend traces without a C++ compiler; fullgraph makes every break of the graph an error.
    table = torch.tensor(TABLE)
    assert_same(torch.compile(everything, backend="eager", fullgraph=True)(table), everything(table))


def test_shapley_values_have_the_gradient_of_their_formula():
    expected = shapley_values(np.eye(8), axis=1).T  # linear: the values of the unit tables
    np.testing.assert_allclose(jax.jacrev(shapley_values)(jnp.asarray(TABLE)), expected, atol=1e-6)
    np.testing.assert_allclose(torch.func.jacrev(shapley_values)(torch.tensor(TABLE)), expected, atol=1e-6)


@pytest.mark.parametrize("shapley", CONTRIBUTIONS)
@pytest.mark.parametrize("function", [edm, lambda x: contribution_shares(x)[0], lambda x: edm(x, target=[1.0, 0, 0])])
def test_gradients_are_finite_and_agree(function, shapley):
    leaf = torch.tensor(shapley, requires_grad=True)
    function(leaf).backward()
    gradients = [
        leaf.grad,
        torch.func.grad(function)(torch.tensor(shapley)),
        jax.jit(jax.grad(function))(jnp.asarray(shapley)),
        torch.func.vmap(torch.func.grad(function))(torch.tensor([shapley]))[0],
    ]
    for gradient in gradients:
        assert np.isfinite(to_numpy(gradient)).all()
        if max(map(abs, shapley)) <= 1 and min(map(abs, filter(None, shapley)), default=1) > 1e-3:
            # Elsewhere rounding may put a share on either side of a kink.
            np.testing.assert_allclose(to_numpy(gradient), to_numpy(gradients[0]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shapley", [[0.5, 0.2, 0.1], [0.4, 0.4, 0.1], [0.5, -0.25, 0.2], [0.2, 0.2, 0.2]])
def test_gradient_of_the_shares_agrees_with_differences(shapley):
    x = torch.tensor(shapley, dtype=torch.float64)
    jacobian = torch.func.jacrev(contribution_shares)(x)
    step = 1e-6
    for i in range(3):
        nudge = step * torch.eye(3, dtype=torch.float64)[i]
        slope = (contribution_shares(x + nudge) - contribution_shares(x - nudge)) / (2 * step)
        np.testing.assert_allclose(jacobian[:, i], slope, atol=1e-8)


def test_target_has_a_gradient():
    def deviation(target):
        return edm(jnp.asarray([0.75, 0.25]), target=target)

    np.testing.assert_allclose(jax.jit(jax.grad(deviation))(jnp.asarray([0.5, 0.5])), [-1, 1])
    target = torch.tensor([0.5, 0.5], requires_grad=True)
    edm(torch.tensor([0.75, 0.25]), target=target).backward()
    np.testing.assert_allclose(target.grad, [-1, 1])


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap])
def test_shapes_are_checked_while_tracing(transform):
    with pytest.raises(ValueError, match=r"^values must list 2\*\*n coalitions"):
        transform(shapley_values)(jnp.zeros((2, 3)))


def test_values_are_not_checked_while_tracing():
    bad = [[math.nan, 1.0]]
    assert np.isnan(jax.jit(edm)(jnp.asarray(bad))).all()
    assert np.isnan(to_numpy(torch.func.vmap(edm)(torch.tensor(bad)))).all()


def test_every_public_function_is_traced_above():
    no_array_goes_in = {"audit", "coalitions", "estimate_shapley"}
    functions = {name for name in equilib.__all__ if name.islower()} - no_array_goes_in
    source = inspect.getsource(everything)
    assert all(f"{name}(" in source for name in functions)
