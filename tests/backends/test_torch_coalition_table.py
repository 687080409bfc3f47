"""The layout of a coalition table is that of the core."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from equilib import coalitions
from equilib_torch.coalition_table import CoalitionTable


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_rows_are_those_of_the_coalitions(n, convert):
    members = coalitions(n)
    table = CoalitionTable(convert(members))
    assert table.n == n
    assert not table.of_none.any()
    assert table.of_all.all()
    assert np.array_equal(np.asarray(table.alone), np.eye(n, dtype=bool))
    assert np.array_equal(np.asarray(table.without), ~np.eye(n, dtype=bool))
