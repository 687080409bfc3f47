"""Spectrograms, or other sequences of features, that somebody has computed and saved as `.npy` files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from equilib_torch.data.media import UnreadableError

MAX_VALUES = 2**24
"""Numbers of the largest array that is read: 64 MB as float32."""


def read_features(path: Path) -> npt.NDArray[np.float32]:
    """Read an array of two dimensions.

    Returns:
        (T, F) float32.

    Raises:
        UnreadableError: It has other dimensions, no values or too many, or such as are no finite numbers.
        Exception: What NumPy raises for a file that is damaged or no `.npy` file.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     np.save(Path(folder, "a.npy"), np.ones((100, 128)))
        ...     read_features(Path(folder, "a.npy")).shape
        (100, 128)
    """
    if not path.stat().st_size:
        raise UnreadableError("the file is empty")
    array = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: a header can promise anything
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "fiu":
        raise UnreadableError("it must be an array of numbers, (T, F)")
    if not 0 < array.size <= MAX_VALUES:
        raise UnreadableError(f"it must have 1 to {MAX_VALUES:,} values, has {array.size:,}")
    with np.errstate(over="ignore"):
        values = np.array(array, np.float32)
    if not np.isfinite(values).all():
        raise UnreadableError("it has values that are NaN, infinite or too large")
    return values
