"""Fixtures over array libraries, and the Hypothesis profiles."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import array_api_strict
import jax
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# The fixtures below never change during a test, so sharing them between examples is safe; jax compiles on its first
# example of a shape, so a deadline would measure that.
settings.register_profile(
    "default", deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))

# jax compiles every operation for every shape, which takes longer than all else here: random arrays have these sizes.
SIZES = st.sampled_from((1, 2, 5))
NAMESPACES: dict[str, Any] = {"numpy": np, "strict": array_api_strict, "torch": torch, "jax": jax.numpy}


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the whole suite in two processes, unless told otherwise by -n; a file or a test by itself in this one."""
    if hasattr(config, "workerinput") or config.option.usepdb:
        return  # one of the two, which must not start two more
    whole = config.args_source is not pytest.Config.ArgsSource.ARGS
    if whole and config.pluginmanager.hasplugin("xdist") and config.option.numprocesses is None:
        config.option.numprocesses, config.option.dist = 2, "worksteal"


class Kind(NamedTuple):
    """An array library and a floating dtype of it."""

    xp: Any
    dtype: Any
    tolerance: float

    def array(self, data: Any) -> Any:
        """Make an array of this kind."""
        return self.xp.asarray(data, dtype=self.dtype)

    def owns(self, x: Any) -> bool:
        """Whether `x` is an array of this library and dtype."""
        return isinstance(x, array_types(self.xp)) and x.dtype == self.dtype


def lists(elements: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Draw lists of one of the `SIZES`."""
    return SIZES.flatmap(lambda n: st.lists(elements, min_size=n, max_size=n))


def array_types(xp: Any) -> tuple[type, ...]:
    """Return the types of the arrays of a library; NumPy's reductions give scalars, not arrays."""
    if xp is np:
        return (np.ndarray, np.generic)
    return (jax.Array,) if xp is jax.numpy else (type(xp.zeros(1)),)


def to_numpy(x: Any) -> np.ndarray:
    """Copy an array of any library to NumPy."""
    return np.asarray(x.detach() if isinstance(x, torch.Tensor) else x)


@pytest.fixture(params=list(NAMESPACES))
def xp(request: pytest.FixtureRequest) -> Any:
    """Array libraries, as modules."""
    return NAMESPACES[request.param]


# jax has no float64 unless asked, and compiles every shape again for it: test_tracing.py has a test of that alone.
@pytest.fixture(params=[f"{n}-{d}" for n in NAMESPACES for d in ("float32", "float64") if (n, d) != ("jax", "float64")])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Array libraries in both precisions."""
    name, dtype = request.param.split("-")
    return Kind(NAMESPACES[name], getattr(NAMESPACES[name], dtype), {"float32": 1e-5, "float64": 1e-12}[dtype])
