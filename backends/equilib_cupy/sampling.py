"""Sampled Shapley values without leaving the device: coalitions drawn there, and means and errors kept there.

    random_bits → antithetic_coalitions → your game, on the device → pair_contributions → add_sample → standard_errors

Array-API calls only, so it is tested with NumPy and runs with cupy. Randomness is counter-based: a number depends on
the seed, its row and its column alone, so chunks of any size give the same sample, on every device.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from equilib._namespace import as_int, get_namespace

Array: TypeAlias = Any
Namespace: TypeAlias = Any

_GOLDEN = 0x9E3779B97F4A7C15
_STREAMS = {"permutations": 0, "coalitions": 1, "sizes": 2}


class Moments(NamedTuple):
    """A running mean: `rows` so far, `mean` (n,), `squares` (n,): summed squared deviations from it."""

    rows: int
    mean: Array
    squares: Array


class Sample(NamedTuple):
    """Shapley values (n,) and their standard errors (n,), on the device, from `n_evaluations` of the game."""

    values: Array
    standard_errors: Array
    n_evaluations: int


def random_bits(
    seed: int, stream: str, start: int, shape: tuple[int, int], *, xp: Namespace, device: Any = None
) -> Array:
    """Draw uint64 `(rows, columns)` whose first row is row `start` of the seed's and the stream's sequence.

    Source:
        The output function of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
        2014), applied to the row, then to the column.
    """
    base = int(np.random.SeedSequence([seed, _STREAMS[stream]]).generate_state(1, np.uint64)[0])
    rows = xp.arange(start, start + shape[0], dtype=xp.uint64, device=device)
    columns = xp.arange(1, shape[1] + 1, dtype=xp.uint64, device=device)
    state = _mix(rows * _constant(_GOLDEN, rows, xp=xp) + _constant(base, rows, xp=xp), xp=xp)
    return _mix(state[:, None] + (columns * _constant(_GOLDEN, rows, xp=xp))[None, :], xp=xp)


def antithetic_coalitions(
    n: int, n_pairs: int, seed: int, start: int = 0, *, xp: Namespace = None, device: Any = None
) -> tuple[Array, Array]:
    """List the coalitions along random permutations and along their reversals.

    Args:
        n: number of players, at least 2.
        n_pairs: number of permutations, each followed by its reversal.
        seed: seed of the sequence of pairs.
        start: first pair of the sequence: a sample in chunks has the same pairs as one at once.
        xp: array module of the result; NumPy by default.
        device: device of the result.

    Returns:
        `(n_pairs * 2 * (n - 1), n)` bool, the first 1 to n − 1 players of each permutation: neither the empty coalition
        nor everybody; and `(n_pairs, n)` integers, the place of each player in the permutations.

    Source:
        Mitchell, Cooper, Frank and Holmes, "Sampling permutations for Shapley value estimation" (2022).
    """
    xp = get_namespace(xp)
    bits = random_bits(seed, "permutations", start, (n_pairs, n), xp=xp, device=device)
    places = xp.argsort(xp.argsort(bits, axis=-1), axis=-1)
    both = xp.stack([places, n - 1 - places], axis=1)  # (n_pairs, 2, n)
    lengths = xp.arange(1, n, dtype=places.dtype, device=device)
    return xp.reshape(both[:, :, None, :] < lengths[None, None, :, None], (-1, n)), places


def pair_contributions(values: Array, places: Array, empty: Array, full: Array, *, xp: Namespace = None) -> Array:
    """Turn the values of `antithetic_coalitions` into the mean marginal contributions of each pair.

    Args:
        values: `(n_pairs * 2 * (n - 1),)` values of the coalitions.
        places: `(n_pairs, n)` places of the players, as `antithetic_coalitions` returns them.
        empty: `()` value of the empty coalition.
        full: `()` value of everybody.
        xp: array module of `values`; NumPy by default.

    Returns:
        `(n_pairs, n)`: independent, unbiased estimates of the Shapley values; each row adds up to `full - empty`.
    """
    xp = get_namespace(xp)
    n_pairs, n = places.shape
    chains = xp.reshape(values, (n_pairs, 2, n - 1))
    ends = xp.zeros((n_pairs, 2, 1), dtype=values.dtype, device=values.device)
    steps = xp.concat([chains, ends + full], axis=-1) - xp.concat([ends + empty, chains], axis=-1)
    steps = (steps[:, 0, :] + xp.flip(steps[:, 1, :], axis=-1)) / 2  # the reversal meets the players the other way
    return xp.take_along_axis(steps, places, axis=-1)


def sized_coalitions(
    n: int,
    m: int,
    seed: int,
    start: int = 0,
    *,
    sizes: Literal["leverage", "kernel"] = "leverage",
    xp: Namespace = None,
    device: Any = None,
) -> Array:
    """Draw coalitions by size, neither empty nor everybody; all coalitions of a size are equally likely.

    Args:
        n: number of players, at least 2.
        m: number of coalitions.
        seed: seed of the sequence of coalitions.
        start: first coalition of the sequence.
        sizes: "leverage" draws every size from 1 to n − 1 equally often, which is a coalition by its leverage in the
            regression for the Shapley values; "kernel" draws size s as 1/(s(n − s)), as KernelSHAP does.
        xp: array module of the result; NumPy by default.
        device: device of the result.

    Returns:
        `(m, n)` bool.

    Source:
        Musco and Witter, "Provably accurate Shapley value estimation via leverage score sampling" (2025).
    """
    if sizes not in ("leverage", "kernel"):
        raise ValueError(f"sizes must be one of leverage, kernel, got {sizes!r}")
    xp = get_namespace(xp)
    s = np.arange(1, n)
    weights = np.ones(n - 1) if sizes == "leverage" else 1 / (s * (n - s))
    bounds = xp.asarray((weights.cumsum() / weights.sum())[:-1], dtype=xp.float64, device=device)
    drawn = random_bits(seed, "sizes", start, (m, 1), xp=xp, device=device)[:, 0]
    uniform = xp.astype(drawn >> _constant(11, drawn, xp=xp), xp.float64) * 2.0**-53
    size = xp.searchsorted(bounds, uniform, side="right") + 1
    bits = random_bits(seed, "coalitions", start, (m, n), xp=xp, device=device)
    return bits < xp.take_along_axis(xp.sort(bits, axis=-1), size[:, None], axis=-1)


def add_sample(moments: Moments | None, rows: Array, *, xp: Namespace = None) -> Moments:
    """Add rows `(m, n)` to a running mean; None starts one.

    Source:
        Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
    """
    xp = get_namespace(xp)
    count, mean = rows.shape[0], xp.mean(rows, axis=0)
    squares = xp.sum((rows - mean) ** 2, axis=0)
    if moments is None:
        return Moments(count, mean, squares)
    total, gap = moments.rows + count, mean - moments.mean
    squares = moments.squares + squares + gap**2 * (moments.rows * count / total)
    return Moments(total, moments.mean + gap * (count / total), squares)


def standard_errors(moments: Moments, *, xp: Namespace = None) -> Array:
    """Return the standard errors `(n,)` of the mean, from at least two rows.

    Raises:
        ValueError: there is one row only.
    """
    if moments.rows < 2:
        raise ValueError(f"moments must hold at least 2 rows, got {moments.rows}")
    return get_namespace(xp).sqrt(moments.squares / ((moments.rows - 1) * moments.rows))


def sample_permutations(
    game: Callable[[Array], Array],
    n: int,
    *,
    n_pairs: int,
    seed: int,
    batch_size: int = 2**16,
    xp: Namespace = None,
    device: Any = None,
) -> Sample:
    """Estimate Shapley values by antithetic permutations, `batch_size` coalitions of memory at a time.

    Args:
        game: turns coalitions `(m, n)` bool into values `(m,)`, both of the library `xp` and on `device`.
        n: number of players, at least 2.
        n_pairs: number of pairs of permutations, at least 2; a pair takes 2(n − 1) evaluations.
        seed: non-negative integer. The sample does not depend on `batch_size`.
        batch_size: coalitions at a time, rounded to whole pairs, at least one.
        xp: array module, cupy for one; NumPy by default.
        device: device of `xp` to draw on.

    Raises:
        ValueError: an argument is out of its range, or `game` returns another shape.
    """
    for name, value, least in (("n", n, 2), ("n_pairs", n_pairs, 2), ("seed", seed, 0), ("batch_size", batch_size, 1)):
        if as_int(value, name) < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    xp = get_namespace(xp)

    def play(rows: Array) -> Array:
        values = game(rows)
        if tuple(values.shape) != (rows.shape[0],):
            raise ValueError(f"game must return shape ({rows.shape[0]},), got {tuple(values.shape)}")
        return values if xp.isdtype(values.dtype, "real floating") else xp.astype(values, xp.float64)

    ends = play(xp.stack([xp.zeros(n, dtype=xp.bool, device=device), xp.ones(n, dtype=xp.bool, device=device)]))
    step, moments = max(1, batch_size // (2 * (n - 1))), None
    for start in range(0, n_pairs, step):
        coalitions, places = antithetic_coalitions(n, min(step, n_pairs - start), seed, start, xp=xp, device=device)
        rows = pair_contributions(play(coalitions), places, ends[0], ends[1], xp=xp)
        moments = add_sample(moments, xp.astype(rows, xp.float64), xp=xp)
    assert moments is not None  # noqa: S101 - for mypy: there are at least two pairs
    return Sample(moments.mean, standard_errors(moments, xp=xp), 2 + n_pairs * 2 * (n - 1))


def _mix(z: Array, *, xp: Namespace) -> Array:
    """Scramble 64 bits, one to one."""
    z = (z ^ (z >> _constant(30, z, xp=xp))) * _constant(0xBF58476D1CE4E5B9, z, xp=xp)
    z = (z ^ (z >> _constant(27, z, xp=xp))) * _constant(0x94D049BB133111EB, z, xp=xp)
    return z ^ (z >> _constant(31, z, xp=xp))


def _constant(value: int, like: Array, *, xp: Namespace) -> Array:
    """Make a 64-bit constant `(1,)`: a scalar above 2**63 is not known to be unsigned everywhere."""
    return xp.full((1,), value, dtype=xp.uint64, device=like.device)
