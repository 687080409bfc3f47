"""Which modality to train, in what order, how often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from equilib._namespace import (
    Array,
    Namespace,
    as_floating,
    as_fraction,
    as_int,
    as_numbers,
    beside,
    device_of,
    get_namespace,
    move_to,
    require_finite,
    stop_gradient,
)
from equilib._random import random_order, read_seed
from equilib.equilibrium import shares_last

MAX_UPDATES = 2**20
"""Up to here the rounding of float32 quotas stays below one update."""


class Schedule(NamedTuple):
    """When and how often to train each modality.

    Attributes:
        order: `(..., n)` int, modality indices in the order of their updates.
        updates: `(..., n)` int, updates of each modality per cycle (by modality, not by position): at least 1 each.
    """

    order: Array
    updates: Array


class SchedulerState(NamedTuple):
    """What a scheduler remembers between measurements.

    Attributes:
        step: `()` int32, number of measurements so far.
        average: `(n,)` floating, exponential moving average of the Shapley values; zeros before the first.
    """

    step: Array
    average: Array


class Scheduler(NamedTuple):
    """A schedule that follows the measured Shapley values, as three pure functions over a state.

    Attributes:
        init: `init(like=None, *, xp=None, device=None, dtype=None) -> SchedulerState`: nothing measured yet. In the
            library, device and floating dtype of the example array `like`, or of the three others (NumPy, its default
            device and its default float unless named), which `like` overrules.
        update: `update(state, shapley) -> SchedulerState` for `(n,)` Shapley values; the new state takes their
            library, device and dtype. Traceable.
        schedule: `schedule(state) -> Schedule`, in the library and on the device of the state. Before the first
            measurement all modalities count as equal. Traceable.
    """

    init: Callable[..., SchedulerState]
    update: Callable[[SchedulerState, Any], SchedulerState]
    schedule: Callable[[SchedulerState], Schedule]


def shapley_schedule(
    shapley: Any, *, policy: str = "weak-to-strong", n_updates: int | None = None, seed: int | None = None
) -> Schedule:
    """Order the modalities by their contribution, and give more updates to the weakest, or to the strongest.

    The order is `weak-to-strong` (ascending Shapley values), `strong-to-weak` (descending; ties by index in both),
    `fixed` (0, 1, ..., n-1) or `random`. The updates do not depend on it: each modality gets one, and the others are
    shared out in proportion to 1 − ψ (ψ the contribution share), rounded down, and what rounding leaves goes to the
    weakest, one each: a weaker modality never gets fewer than a stronger one.

    `strong-first` is the opposite in both: the order of strong-to-weak, and the other updates in proportion to ψ, what
    rounding leaves to the strongest: a stronger modality never gets fewer than a weaker one.

    Args:
        shapley: `(..., n)` real, Shapley values; the other dimensions are a batch of independent schedules.
        policy: one of the five above.
        n_updates: updates of all modalities per cycle, n to 2**20; n by default, which is one each.
        seed: seed of the random policy, 0 to 2**64 - 1, with the same order in every library; drawn from the operating
            system's entropy if None (once per trace: give one under jax.jit). Other policies ignore it.

    Returns:
        Schedule(order, updates), both `(..., n)` int in the library and device of `shapley`. Traceable.

    Raises:
        ValueError: `shapley` is not real and finite or holds no modality, `policy` is unknown, `n_updates` is not an
            integer from n to 2**20, or `seed` is not one from 0 to 2**64 - 1.

    Source:
        Weak to strong follows the abstract of arXiv 2506.00030, and so does the idea of fair participation; how many
        updates each modality gets, and the other orders, are our decisions where the paper leaves it open. Strong first
        is for the claim against it, that the strongest modality should lead and learn most (PDMP, arXiv 2604.05773, and
        ARL, ICCV 2025); in proportion to ψ is our reading of it.

    Example:
        >>> order, updates = shapley_schedule([0.5, 0.1, 0.2], n_updates=9)
        >>> order.tolist(), updates.tolist()
        ([1, 2, 0], [2, 4, 3])
        >>> order, updates = shapley_schedule([0.5, 0.1, 0.2], policy="strong-first", n_updates=9)
        >>> order.tolist(), updates.tolist()
        ([0, 2, 1], [5, 1, 3])
    """
    x, xp = as_floating(shapley, "shapley")
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"shapley must list at least one modality, got shape {tuple(x.shape)}")
    require_finite(x, "shapley", xp=xp)
    draw_order, to_strong = _get_policy(policy)
    n_updates = _read_n_updates(n_updates, x.shape[-1])
    with beside(x):
        step = xp.zeros((), dtype=xp.int32, device=device_of(x))
        order = draw_order(x, _read_key(seed, policy), step, xp)
        return Schedule(order, _apportion(x, n_updates, to_strong=to_strong, xp=xp))


def shapley_scheduler(
    n: int,
    *,
    policy: str = "weak-to-strong",
    smoothing: float = 0.0,
    n_updates: int | None = None,
    seed: int | None = None,
) -> Scheduler:
    """Make a scheduler: learn from Shapley values measured again and again, and schedule by what was learned.

    Each update smooths the Shapley values, average ← smoothing · average + (1 − smoothing) · measured; the first
    measurement is taken as it is. The schedule is :func:`shapley_schedule` of the average.

    Args:
        n: number of modalities, from 1.
        policy: as in :func:`shapley_schedule`; `random` draws another one for every number of measurements,
            none among them.
        smoothing: weight of the past in [0, 1); 0 follows the last measurement alone.
        n_updates: updates of all modalities per cycle, as in :func:`shapley_schedule`.
        seed: seed of the random policy, 0 to 2**64 - 1; if None, drawn once, here, from the operating system's entropy.

    Returns:
        Scheduler(init, update, schedule), pure functions; see there for their arguments.

    Raises:
        ValueError: an argument breaks its rule above; from `update`, if `shapley` is not `(n,)`, real and finite; from
            `init`, if `like` is not real or `xp` is no array module.

    Source:
        Measuring every epoch and training the next one from weak to strong follows the abstract of arXiv 2506.00030.
        Smoothing is our decision where the paper leaves it open: small validation splits are noisy.

    Example:
        >>> init, update, schedule = shapley_scheduler(2, smoothing=0.5)
        >>> state = init()
        >>> schedule(state).order.tolist()
        [0, 1]
        >>> for measured in ([0.2, 0.4], [0.6, 0.0]):
        ...     state = update(state, measured)
        >>> state.average.round(2).tolist(), schedule(state).order.tolist()
        ([0.4, 0.2], [1, 0])
    """
    n = as_int(n, "n")
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    draw_order, to_strong = _get_policy(policy)
    weight = as_fraction(smoothing, "smoothing")
    total, key = _read_n_updates(n_updates, n), _read_key(seed, policy)

    def init(like: Any = None, *, xp: Namespace | None = None, device: Any = None, dtype: Any = None) -> SchedulerState:
        if like is None:
            xp = get_namespace(xp)
        else:
            like, xp = as_floating(like, "like")
            device, dtype = device_of(like), like.dtype
        return SchedulerState(xp.zeros((), dtype=xp.int32, device=device), xp.zeros((n,), dtype=dtype, device=device))

    def update(state: SchedulerState, shapley: Any) -> SchedulerState:
        x, xp = as_floating(shapley, "shapley")
        if tuple(x.shape) != (n,):
            raise ValueError(f"shapley must have shape ({n},), got {tuple(x.shape)}")
        require_finite(x, "shapley", xp=xp)
        x = stop_gradient(x)  # a schedule has none, and the state must not keep the graphs of all steps
        average, own = as_numbers(state.average, "state.average")  # of the library of what was measured last
        with beside(x):
            step = move_to(as_numbers(state.step, "state.step")[0], own, x, xp=xp, dtype=xp.int32)
            past = move_to(average, own, x, xp=xp)
            average = xp.where(step == 0, x, weight * past + (1 - weight) * x)
            return SchedulerState(xp.asarray(step + 1), average)

    def schedule(state: SchedulerState) -> Schedule:
        average, xp = as_floating(state.average, "state.average")
        with beside(average):
            step = xp.asarray(state.step, dtype=xp.int32, device=device_of(average))
            updates = _apportion(average, total, to_strong=to_strong, xp=xp)
            return Schedule(draw_order(average, key, step, xp), updates)

    return Scheduler(init, update, schedule)


def _weak_to_strong(x: Array, seed: int, step: Array, xp: Namespace) -> Array:
    return xp.argsort(x, axis=-1, stable=True)


def _strong_to_weak(x: Array, seed: int, step: Array, xp: Namespace) -> Array:
    return xp.argsort(-x, axis=-1, stable=True)


def _fixed(x: Array, seed: int, step: Array, xp: Namespace) -> Array:
    order = xp.arange(x.shape[-1], device=device_of(x))
    return order + xp.zeros(x.shape, dtype=order.dtype, device=device_of(x))


def _random(x: Array, seed: int, step: Array, xp: Namespace) -> Array:
    return random_order(tuple(x.shape), seed, step, xp=xp, device=device_of(x))


class _Policy(NamedTuple):
    """How to draw an order, and whether the strongest get more updates instead of the weakest."""

    draw_order: Callable[[Array, int, Array, Namespace], Array]
    to_strong: bool = False


_POLICIES = {
    "weak-to-strong": _Policy(_weak_to_strong),
    "strong-to-weak": _Policy(_strong_to_weak),
    "fixed": _Policy(_fixed),
    "random": _Policy(_random),
    "strong-first": _Policy(_strong_to_weak, to_strong=True),
}
POLICIES = tuple(_POLICIES)
"""Names of the policies."""


def _get_policy(name: str) -> _Policy:
    try:
        return _POLICIES[name]
    except (KeyError, TypeError):
        raise ValueError(f"policy must be one of {', '.join(_POLICIES)}, got {name!r}") from None


def _read_key(seed: int | None, policy: str) -> int:
    return 0 if seed is None and policy != "random" else read_seed(seed)


def _read_n_updates(n_updates: int | None, n: int) -> int:
    total = n if n_updates is None else as_int(n_updates, "n_updates")
    if not n <= total <= MAX_UPDATES:
        raise ValueError(f"n_updates must be from {n} (one per modality) to {MAX_UPDATES}, got {total}")
    return total


def _apportion(x: Array, n_updates: int, *, to_strong: bool, xp: Namespace) -> Array:
    """Share out `n_updates` by the weakness 1 − ψ, or by ψ: one each, the rest rounded down, `(..., n)` int."""
    n = x.shape[-1]
    shares = shares_last(x, xp=xp)
    if x.dtype != xp.float64:
        shares = xp.astype(shares, xp.float32)  # half precision could not count the updates
    # Σ(1 − ψ) = n − 1 needs no summing; a lone modality takes everything: its ψ is 1.
    weights = shares if to_strong or n == 1 else (1 - shares) / (n - 1)
    # Ranking φ, not ψ, tells modalities of negative contribution apart, whose shares are all 0. Rank 0 takes first.
    rank = xp.argsort(xp.argsort(-x if to_strong else x, axis=-1, stable=True), axis=-1)
    exact = (n_updates - n) * weights
    # What is whole but for rounding counts as whole: 25 x 0.2 may come out as 4.99.
    whole = xp.astype(xp.floor(exact + xp.clip(4 * xp.finfo(exact.dtype).eps * exact, None, 1e-3)), rank.dtype)
    remaining = n_updates - n - xp.sum(whole, axis=-1, keepdims=True, dtype=rank.dtype)
    return 1 + whole + xp.astype(rank < remaining, rank.dtype)
