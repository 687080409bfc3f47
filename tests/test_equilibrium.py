from __future__ import annotations

import math

import numpy as np
import pytest
import reference
from conftest import SIZES, Kind, lists, to_numpy
from hypothesis import given
from hypothesis import strategies as st

from equilib import contribution_shares, edm

contributions = lists(st.floats(-1, 1, width=32, allow_subnormal=False))


@given(shapley=contributions)
def test_shares_agree_with_the_definition(kind: Kind, shapley):
    shares = contribution_shares(kind.array(shapley))
    assert kind.owns(shares)
    expected = [float(x) for x in reference.shares(shapley)]
    np.testing.assert_allclose(to_numpy(shares), expected, rtol=0, atol=kind.tolerance)


@given(shapley=contributions)
def test_shares_lie_on_the_simplex(kind: Kind, shapley):
    shares = to_numpy(contribution_shares(kind.array(shapley)))
    assert (shares >= 0).all()
    assert shares.sum() == pytest.approx(1, abs=kind.tolerance)


@given(shapley=contributions)
def test_edm_agrees_with_the_definition(kind: Kind, shapley):
    deviation = edm(kind.array(shapley))
    assert kind.owns(deviation)
    assert tuple(deviation.shape) == ()
    assert float(deviation) == pytest.approx(float(reference.edm(shapley)), abs=kind.tolerance)


@given(n=st.sampled_from((1, 2, 3, 5, 9, 49)), value=st.floats(1e-30, 1e30))
def test_edm_is_exactly_zero_at_equal_contributions(kind: Kind, n, value):
    equal = kind.array([value] * n)
    assert float(edm(equal)) == 0.0
    assert float(edm(contribution_shares(equal))) == 0.0


@pytest.mark.parametrize("value", [0.0, -0.0, -1.0, -1e-30])
@pytest.mark.parametrize("n", [1, 3, 7])
def test_no_positive_contribution_counts_as_equal(kind: Kind, value, n):
    shapley = kind.array([value] * n)
    assert to_numpy(contribution_shares(shapley)).tolist() == to_numpy(kind.array([1.0] * n) / n).tolist()
    assert float(edm(shapley)) == 0.0


@given(shapley=contributions)
def test_edm_bounds(shapley):
    assert 0 <= edm(shapley) <= 2 * (1 - 1 / len(shapley)) + 1e-15


@pytest.mark.parametrize("n", [2, 3, 5])
def test_edm_reaches_its_maximum_where_one_does_everything(kind: Kind, n):
    assert float(edm(kind.array([0.3] + [-0.1] * (n - 1)))) == pytest.approx(2 * (1 - 1 / n), abs=kind.tolerance)


@given(shapley=contributions, exponent=st.integers(-60, 60))
def test_scale_invariance(shapley, exponent):
    scaled = [math.ldexp(x, exponent) for x in shapley]
    assert contribution_shares(scaled).tolist() == contribution_shares(shapley).tolist()
    assert edm(scaled) == edm(shapley)
    assert edm(contribution_shares(shapley)) == pytest.approx(edm(shapley), abs=1e-14)


@pytest.mark.parametrize("scale", [1e300, 1e-300, 1.7e308])
def test_extreme_scales_neither_overflow_nor_underflow(scale):
    assert contribution_shares([scale, scale / 2, -scale]).tolist() == contribution_shares([1.0, 0.5, -1.0]).tolist()
    assert edm([scale, scale, scale]) == 0


@given(shapley=contributions, data=st.data())
def test_permutation_invariance(kind: Kind, shapley, data):
    permuted = data.draw(st.permutations(shapley))
    before, after = (float(edm(kind.array(x))) for x in (shapley, permuted))
    assert after == pytest.approx(before, abs=kind.tolerance)


def test_half_precision_meets_equilibrium_too():
    import torch

    for dtype in (torch.float16, torch.bfloat16):
        for n in range(1, 40):
            deviation = edm(torch.full((n,), 0.3, dtype=dtype))
            assert deviation.dtype == dtype
            assert deviation == 0


@given(data=st.data(), n=SIZES)
def test_target(kind: Kind, data, n):
    # XLA flushes subnormals to 0
    shapley = data.draw(st.lists(st.floats(-1, 1, width=32, allow_subnormal=False), min_size=n, max_size=n))
    parts = data.draw(st.lists(st.integers(0, 9), min_size=n, max_size=n).filter(any))
    target = [part / sum(parts) for part in parts]
    deviation = float(edm(kind.array(shapley), target=kind.array(target)))
    assert deviation == pytest.approx(float(reference.edm(shapley, target)), abs=kind.tolerance)
    assert 0 <= deviation <= 2 * (1 - min(target)) + kind.tolerance
    assert float(edm(kind.array(target), target=target)) == pytest.approx(0, abs=kind.tolerance)


def test_target_of_numpy_meets_any_library(kind: Kind):
    deviation = edm(kind.array([1.0, 3.0]), target=np.asarray([0.25, 0.75]))
    assert kind.owns(deviation)
    assert float(deviation) == 0


def test_target_of_a_batch():
    shapley = np.asarray([[1.0, 3.0], [1.0, 1.0], [0.0, 2.0]])
    targets = np.asarray([[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]])
    np.testing.assert_allclose(edm(shapley, target=targets), [0, 0, 2])
    np.testing.assert_allclose(edm(shapley.T, target=targets.T, axis=0), [0, 0, 2])
    np.testing.assert_allclose(edm(shapley.T, target=[0.25, 0.75], axis=0), [0, 0.5, 0.5])
    np.testing.assert_allclose(edm(shapley, target=[[0.25, 0.75]]), [0, 0.5, 0.5])


@pytest.mark.parametrize("axis", [0, 1, 2, -2])
def test_batch(kind: Kind, axis):
    shapley = np.random.default_rng(3).normal(size=(2, 3, 4))
    x = kind.array(shapley)
    shares, deviation = contribution_shares(x, axis=axis), edm(x, axis=axis)
    assert kind.owns(shares)
    assert kind.owns(deviation)
    assert tuple(shares.shape) == shapley.shape
    rows = np.moveaxis(shapley, axis, -1)
    expected = np.asarray([contribution_shares(row) for row in rows.reshape(-1, rows.shape[-1])]).reshape(rows.shape)
    np.testing.assert_allclose(np.moveaxis(to_numpy(shares), axis, -1), expected, atol=kind.tolerance)
    expected = np.abs(expected - 1 / rows.shape[-1]).sum(-1)
    np.testing.assert_allclose(to_numpy(deviation), expected, atol=kind.tolerance)


@pytest.mark.parametrize("function", [contribution_shares, edm])
@pytest.mark.parametrize(
    ("shapley", "axis", "message"),
    [
        ([0.1, math.nan], -1, r"shapley must be finite, got nan in an array of shape \(2,\)"),
        ([math.inf, 1], -1, r"shapley must be finite, got inf in an array of shape \(2,\)"),
        ([], -1, "shapley must hold at least one modality along axis -1, got a length of 0"),
        (0.5, -1, "shapley must have at least one dimension, got a scalar"),
        ([0.5], 1, r"axis must be from -1 to 0 for shapley of shape \(1,\), got 1"),
        ([True], -1, "shapley must hold real numbers, got dtype bool"),
        ([1j], -1, "shapley must hold real numbers, got dtype complex128"),
    ],
)
def test_rejects_contributions(function, shapley, axis, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        function(shapley, axis=axis)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ([0.5, 0.6], "target must add up to 1, got a sum that is off by 0.1"),
        ([0.333, 0.666], "target must add up to 1, got a sum that is off by 0.001"),
        ([1.5, -0.5], "target must not be negative, got -0.5"),
        ([math.nan, 1], r"target must be finite, got nan in an array of shape \(2,\)"),
        ([1.0], r"target must list 2 modalities and broadcast with shapley, got shape \(1,\)"),
        ([0.2, 0.3, 0.5], r"target must list 2 modalities and broadcast with shapley, got shape \(3,\)"),
        (1.0, "target must have 1 or 1 dimensions, got 0"),
        ([[0.5, 0.5]], "target must have 1 or 1 dimensions, got 2"),
        (np.asarray([True, False]), "target must hold real numbers, got dtype bool"),
        (["a", "b"], "target must be an array of real numbers, got a malformed list"),
        ([[1.0], [0.5, 0.5]], "target must be an array of real numbers, got a malformed list"),
    ],
)
def test_rejects_a_target(target, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        edm([0.1, 0.2], target=target)


def test_rejects_a_target_of_another_batch():
    with pytest.raises(ValueError, match=r"broadcast with shapley, got shape \(2, 2\)$"):
        edm([[0.1, 0.2]] * 3, target=[[0.5, 0.5]] * 2)
