"""Sampling by array-API calls: on NumPy and array-api-strict here, on cupy where there is a GPU."""

from typing import Any

import array_api_strict
import numpy as np
import pytest

import equilib
from equilib_cupy import sampling


def cupy_or_skip() -> Any:
    cupy = pytest.importorskip("cupy", reason="needs cupy", exc_type=ImportError)
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        pytest.skip(f"needs a CUDA device: {error}")
    return cupy


@pytest.fixture(params=["numpy", "strict", "cupy"])
def sampler(request: pytest.FixtureRequest) -> Any:
    return {"numpy": lambda: np, "strict": lambda: array_api_strict, "cupy": cupy_or_skip}[request.param]()


def host(x: Any) -> np.ndarray:
    return x.get() if hasattr(x, "get") else np.asarray(x)


def make_game(n: int, xp: Any) -> tuple[Any, np.ndarray]:
    """A random game as a table on the device, and its Shapley values."""
    table = np.random.default_rng(0).standard_normal(2**n)
    on_device, powers = xp.asarray(table), xp.asarray(2 ** np.arange(n))

    def game(coalitions: Any) -> Any:
        index = xp.sum(xp.where(coalitions, powers[None, :], 0 * powers[None, :]), axis=1)
        return xp.take(on_device, index)

    return game, equilib.shapley_values(table)


def test_bits_do_not_depend_on_the_chunk_and_look_uniform(sampler):
    whole = host(sampling.random_bits(7, "sizes", 0, (2000, 9), xp=sampling.get_namespace(sampler)))
    part = host(sampling.random_bits(7, "sizes", 500, (100, 9), xp=sampling.get_namespace(sampler)))
    np.testing.assert_array_equal(part, whole[500:600])
    assert len(np.unique(whole)) == whole.size
    np.testing.assert_array_equal(whole, sampling.random_bits(7, "sizes", 0, (2000, 9), xp=np))
    ones = np.unpackbits(whole.view(np.uint8).reshape(-1, 8), axis=1).mean(0)
    assert abs(ones - 0.5).max() < 5 * 0.5 / np.sqrt(whole.size)
    uniform = whole / 2.0**64
    assert abs(np.corrcoef(uniform.T) - np.eye(9)).max() < 5 / np.sqrt(2000)
    assert abs(np.corrcoef(uniform[:-1, 0], uniform[1:, 0])[0, 1]) < 5 / np.sqrt(2000)
    for other in (
        sampling.random_bits(8, "sizes", 0, (2000, 9), xp=np),
        sampling.random_bits(7, "coalitions", 0, (2000, 9), xp=np),
    ):
        assert not np.isin(other, whole).any()


def test_antithetic_coalitions(sampler):
    n, pairs = 6, 50
    coalitions, places = (host(x) for x in sampling.antithetic_coalitions(n, pairs, 3, xp=sampler))
    assert coalitions.shape == (pairs * 2 * (n - 1), n)
    np.testing.assert_array_equal(np.sort(places, axis=1), np.tile(np.arange(n), (pairs, 1)))
    chains = coalitions.reshape(pairs, 2, n - 1, n)
    np.testing.assert_array_equal(chains.sum(3), np.broadcast_to(np.arange(1, n), (pairs, 2, n - 1)))
    assert (chains[:, :, 1:] >= chains[:, :, :-1]).all()  # each holds the one before
    np.testing.assert_array_equal(chains[:, 1], ~chains[:, 0, ::-1])  # the reversal: complements
    counts = np.stack(
        [np.bincount(column, minlength=n) for column in host(sampling.antithetic_coalitions(n, 6000, 3)[1]).T]
    )
    assert abs(counts - 1000).max() < 5 * np.sqrt(1000)


@pytest.mark.parametrize("sizes", ["leverage", "kernel"])
def test_sized_coalitions(sampler, sizes):
    n, m = 5, 8000
    coalitions = host(sampling.sized_coalitions(n, m, 1, sizes=sizes, xp=sampler))
    assert coalitions.shape == (m, n)
    s = np.arange(1, n)
    share = np.ones(n - 1) if sizes == "leverage" else 1 / (s * (n - s))
    share = share / share.sum()
    counts = np.bincount(coalitions.sum(1), minlength=n + 1)
    assert counts[0] == counts[n] == 0
    assert (abs(counts[1:n] - m * share) < 5 * np.sqrt(m * share)).all()
    pairs = coalitions[coalitions.sum(1) == 2] @ (2 ** np.arange(n))
    found = np.bincount(pairs, minlength=2**n)
    expected = len(pairs) / 10
    assert (found > 0).sum() == 10
    assert (abs(found[found > 0] - expected) < 5 * np.sqrt(expected)).all()
    chunk = host(sampling.sized_coalitions(n, 10, 1, 100, sizes=sizes, xp=sampler))
    np.testing.assert_array_equal(chunk, coalitions[100:110])


def test_two_players_have_one_size():
    assert (sampling.sized_coalitions(2, 100, 0).sum(1) == 1).all()


def test_estimate_is_right_and_says_how_uncertain(sampler):
    n = 5
    game, expected = make_game(n, sampler)
    sample = sampling.sample_permutations(game, n, n_pairs=3000, seed=5, batch_size=1000, xp=sampler)
    values, errors = host(sample.values), host(sample.standard_errors)
    assert (abs(values - expected) < 4.5 * errors).all()
    assert errors.max() < 0.05
    assert sample.n_evaluations == 2 + 3000 * 8
    np.testing.assert_allclose(values.sum(), expected.sum(), rtol=1e-12)
    whole = sampling.sample_permutations(game, n, n_pairs=3000, seed=5, xp=sampler)
    np.testing.assert_allclose(host(whole.values), values, rtol=1e-10)
    np.testing.assert_allclose(host(whole.standard_errors), errors, rtol=1e-10)


def test_standard_errors_are_those_of_the_rows():
    rows = np.random.default_rng(0).standard_normal((100, 3)) + 1e6
    moments = None
    for chunk in np.split(rows, [1, 5, 60]):
        moments = sampling.add_sample(moments, chunk)
    np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-15)
    np.testing.assert_allclose(sampling.standard_errors(moments), rows.std(0, ddof=1) / 10, rtol=1e-9)
    with pytest.raises(ValueError, match="moments must hold at least 2 rows, got 1"):
        sampling.standard_errors(sampling.add_sample(None, rows[:1]))


def test_an_additive_game_is_exact():
    weights = np.array([1.0, -2.0, 0.5, 0.0])
    sample = sampling.sample_permutations(lambda s: s @ weights, 4, n_pairs=2, seed=0)
    np.testing.assert_allclose(sample.values, weights, atol=1e-15)
    np.testing.assert_allclose(sample.standard_errors, 0, atol=1e-15)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 1}, "n must be at least 2, got 1"),
        ({"n_pairs": 1}, "n_pairs must be at least 2, got 1"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"seed": None}, "seed must be an integer, got None"),
        ({"game": lambda s: s}, r"game must return shape \(2,\), got \(2, 3\)"),
    ],
)
def test_errors(change, message):
    arguments = {"game": lambda s: s.sum(1), "n": 3, "n_pairs": 4, "seed": 0} | change
    with pytest.raises(ValueError, match=message):
        sampling.sample_permutations(arguments.pop("game"), arguments.pop("n"), **arguments)
    with pytest.raises(ValueError, match="sizes must be one of leverage, kernel, got 'x'"):
        sampling.sized_coalitions(3, 4, 0, sizes="x")
