"""How far the modalities are from contributing equally."""

from __future__ import annotations

from typing import Any

from equilib._namespace import (
    Array,
    Namespace,
    as_floating,
    as_floating_like,
    beside,
    is_traced,
    keep,
    move_axis,
    move_axis_last,
    require_finite,
    stop_gradient,
)


def contribution_shares(shapley: Any, *, axis: int = -1) -> Array:
    """Turn Shapley values into shares of the total contribution.

    ψ_i = max(φ_i, 0) / Σ_j max(φ_j, 0), and 1/n each where no φ is positive. Equal positive contributions give 1/n
    exactly, in any floating dtype, and any scale of φ gives the same shares.

    Args:
        shapley: `(..., n)` real, Shapley values along `axis`.
        axis: dimension of `shapley` that lists the modalities.

    Returns:
        `(..., n)` non-negative, adding up to 1 along `axis`; library, dtype and device of `shapley`.
        Differentiable (the gradient is 0 where φ <= 0) and traceable.

    Raises:
        ValueError: `shapley` is not real and finite, holds no modality, or has no such axis.

    Source:
        Shares by Shapley contribution follow arXiv 2506.00030, as a third party summarises it. Dropping negative
        contributions, and 1/n where none is positive, are our decisions where the paper leaves it open.

    Example:
        >>> contribution_shares([0.3, 0.1, -0.2]).round(4)
        array([0.75, 0.25, 0.  ])
    """
    x, xp = _read_contributions(shapley, axis)
    with beside(x):
        return move_axis(shares_last(x, xp=xp), -1, axis, xp=xp)


def edm(shapley: Any, *, target: Any = None, axis: int = -1) -> Array:
    """Measure the deviation of the modalities' contributions from equilibrium (EDM).

    EDM = Σ_i |η_i − ψ_i| with the contribution shares ψ of :func:`contribution_shares` and the target η.

    Args:
        shapley: `(..., n)` real, Shapley values along `axis`, or contribution shares: the scale does not matter.
        target: the shares η at equilibrium, 1/n each by default. `(n,)`, or as many dimensions as `shapley` and
            broadcasting with it; non-negative, adding up to 1 within the square root of the dtype's precision.
        axis: dimension of `shapley` that lists the modalities.

    Returns:
        `(...)`, from 0 at equilibrium (exactly 0 for equal contributions) to 2(1 − min η), where the modality with
        the smallest target contributes everything: 2(1 − 1/n) by default. Library, dtype and device of `shapley`.
        Differentiable (a subgradient where an absolute value or a share is 0) and traceable.

    Raises:
        ValueError: `shapley` is not real and finite, holds no modality or has no such axis; `target` has another
            shape, is negative or not finite, or does not add up to 1.

    Source:
        EDM follows arXiv 2506.00030, as a third party summarises it; the target 1/n is our decision where the paper
        leaves it open.

    Example:
        >>> float(edm([0.3, 0.3]))
        0.0
        >>> float(edm([0.4, 0.0]))
        1.0
        >>> round(float(edm([0.3, 0.1], target=[0.7, 0.3])), 4)
        0.1
    """
    x, xp = _read_contributions(shapley, axis)
    with beside(x):
        eta = _read_target(target, x, axis, xp=xp)
        return xp.sum(xp.abs(eta - shares_last(x, xp=xp)), axis=-1)


def shares_last(x: Array, *, xp: Namespace) -> Array:
    """Compute the shares `(..., n)` of contributions `(..., n)`, modalities last."""
    gains = xp.where(x <= 0, xp.zeros_like(x), x)  # NaN, unchecked while tracing, stays NaN
    # Relative to the largest, nothing overflows and equal values are 1. The shares do not depend on this scale: as
    # a constant, it leaves their gradient the same, and no 1/scale**2 in it to overflow.
    scale = stop_gradient(xp.max(gains, axis=-1, keepdims=True))
    # The where keeps 0/0 out of the gradient, too.
    relative = gains / xp.where(scale > 0, scale, xp.ones_like(scale))
    # The largest is 1: exactly, though XLA divides by multiplying with a rounded reciprocal; and where nothing is
    # positive, all are the largest.
    relative = relative + stop_gradient(xp.where(gains == scale, 1 - relative, xp.zeros_like(x)))
    return relative / xp.sum(relative, axis=-1, keepdims=True)


def _read_contributions(shapley: Any, axis: int) -> tuple[Array, Namespace]:
    """Read Shapley values as `(..., n)`, n >= 1, modalities last."""
    x, xp = as_floating(shapley, "shapley")
    x = move_axis_last(x, axis, "shapley", xp=xp)
    if x.shape[-1] == 0:
        raise ValueError(f"shapley must hold at least one modality along axis {axis}, got a length of 0")
    x = keep(x)
    require_finite(x, "shapley", xp=xp)
    return x, xp


def _read_target(target: Any, x: Array, axis: int, *, xp: Namespace) -> Array:
    """Read target shares that broadcast with x `(..., n)`, modalities last; None is 1/n."""
    if target is None:
        # Divided in the array's dtype, as the shares are: then equal contributions meet it exactly.
        return xp.ones_like(x) / x.shape[-1]
    eta = as_floating_like(target, "target", x, xp=xp)
    if eta.ndim > 1 and eta.ndim == x.ndim:
        eta = move_axis(eta, axis, -1, xp=xp)
    elif eta.ndim != 1:
        raise ValueError(f"target must have 1 or {x.ndim} dimensions, got {eta.ndim}")
    sizes = zip(eta.shape[::-1], x.shape[::-1], strict=False)
    if eta.shape[-1] != x.shape[-1] or any(size not in (1, expected) for size, expected in sizes):
        raise ValueError(
            f"target must list {x.shape[-1]} modalities and broadcast with shapley, got shape {tuple(eta.shape)}"
        )
    require_finite(eta, "target", xp=xp)
    lowest, total = xp.min(eta), xp.sum(eta, axis=-1)
    error = xp.max(xp.abs(total - 1))
    if not is_traced(error):
        if lowest < 0:
            raise ValueError(f"target must not be negative, got {float(lowest)}")
        if error > xp.finfo(x.dtype).eps ** 0.5:
            raise ValueError(f"target must add up to 1, got a sum that is off by {float(error):.3g}")
    return eta
