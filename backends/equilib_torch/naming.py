"""Names of modalities and coalitions in files: a coalition is called by its members, joined by "+"."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from equilib import coalitions


def by_modality(names: Sequence[str], values: Iterable[float]) -> dict[str, float]:
    """Name the values of the n modalities, as plain numbers.

    Example:
        >>> by_modality(["image", "audio"], np.array([0.5, 1.0]))
        {'image': 0.5, 'audio': 1.0}
    """
    return dict(zip(names, np.asarray(values).tolist(), strict=True))


def by_coalition(names: Sequence[str], table: npt.ArrayLike) -> dict[str, float]:
    """Name the values of the 2ⁿ - 1 non-empty coalitions.

    Example:
        >>> by_coalition(["image", "audio"], [0.0, 0.25, 0.5, 1.0])
        {'image': 0.25, 'audio': 0.5, 'image+audio': 1.0}
    """
    members = coalitions(len(names))[1:]
    keys = ("+".join(name for name, inside in zip(names, row, strict=True) if inside) for row in members)
    return dict(zip(keys, np.asarray(table).tolist()[1:], strict=True))
