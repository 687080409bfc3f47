"""The layout of a coalition table, known here and nowhere else: row s is the coalition of the bits set in s."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class CoalitionTable:
    """A NumPy array or tensor of 2ⁿ rows, one per coalition of n modalities, read by coalition.

    Attributes:
        rows: (2ⁿ, ...), in the order of `equilib.coalitions`.

    Example:
        >>> table = CoalitionTable(np.array([0.1, 0.5, 0.4, 0.9]))
        >>> float(table.of_none), float(table.of_all), table.alone.tolist(), table.without.tolist()
        (0.1, 0.9, [0.5, 0.4], [0.4, 0.5])
    """

    rows: Any

    @property
    def n(self) -> int:
        """Number of modalities."""
        return len(self.rows).bit_length() - 1

    @property
    def of_none(self) -> Any:
        """Row of the empty coalition, (...)."""
        return self.rows[0]

    @property
    def of_all(self) -> Any:
        """Row of all modalities together, (...)."""
        return self.rows[-1]

    @property
    def alone(self) -> Any:
        """Row of each modality by itself, (n, ...)."""
        return self.rows[1 << np.arange(self.n)]

    @property
    def without(self) -> Any:
        """Row of all modalities but one, for each one, (n, ...)."""
        return self.rows[len(self.rows) - 1 - (1 << np.arange(self.n))]
