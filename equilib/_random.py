"""Random orders that need no generator, trace, and agree between libraries."""

from __future__ import annotations

import os
from typing import Any

from equilib._namespace import Array, Namespace, as_int

_INCREMENT = 0x9E3779B9  # 2**32 / golden ratio: keeps the hash away from 0, its only fixed point of interest


def read_seed(seed: Any) -> int:
    """Read a seed; None draws a fresh one from the operating system, never from a global random state.

    Raises:
        ValueError: `seed` is not an integer from 0 to 2**64 - 1.
    """
    if seed is None:
        return int.from_bytes(os.urandom(8))
    value = as_int(seed, "seed")
    if not 0 <= value < 2**64:
        raise ValueError(f"seed must be from 0 to 2**64 - 1, got {value}")
    return value


def random_order(shape: tuple[int, ...], seed: int, step: Array, *, xp: Namespace, device: Any) -> Array:
    """Draw independent orders of the last axis of `shape`: sort a hash of (seed, step, position).

    `step` is a `()` int32 array. Hashes of one draw differ from each other, for the hash is a bijection.
    """
    size = 1
    for length in shape:
        size *= length
    positions = xp.arange(size, dtype=xp.int32, device=device)
    # An array even where it is constant: NumPy warns when a scalar wraps around, not when an array does.
    key = xp.zeros_like(positions)
    for word in (_signed(seed & 0xFFFFFFFF), _signed(seed >> 32), step, positions):
        key = _mix((key ^ word) + _signed(_INCREMENT))
    return xp.argsort(xp.reshape(key, shape), axis=-1, stable=True)


def _mix(key: Array) -> Array:
    """Hash int32 to int32 by the finalizer of MurmurHash3 (Appleby, 2011); products wrap around."""
    key = (key ^ _shift(key, 16)) * _signed(0x85EBCA6B)
    key = (key ^ _shift(key, 13)) * _signed(0xC2B2AE35)
    return key ^ _shift(key, 16)


def _shift(key: Array, bits: int) -> Array:
    """Shift int32 right, filling with zeros: unsigned integers are incomplete in torch."""
    return (key >> bits) & (2 ** (32 - bits) - 1)


def _signed(word: int) -> int:
    """Read 32 bits as a signed integer."""
    return (word ^ 0x80000000) - 0x80000000
