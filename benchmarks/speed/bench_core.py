"""ASV benchmarks of the pure core: `asv run --config benchmarks/speed/asv.conf.json`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

import equilib


def namespace(name: str) -> Any:
    """Import a module of arrays, on one thread where it has threads of its own; ASV skips what is not installed."""
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        raise NotImplementedError(name) from error  # how ASV is told to skip
    if name == "torch":
        module.set_num_threads(1)
    return module


class Exact:
    """Exact values from a complete table, beside one read of the table, which is the floor."""

    params = ([4, 8, 12, 16, 20, 24, 26], ["float32", "float64"])
    param_names = ("n", "dtype")

    def setup(self, n: int, dtype: str) -> None:
        self.table = np.random.default_rng(0).normal(size=2**n).astype(dtype)

    def time_exact(self, n: int, dtype: str) -> None:
        equilib.shapley_values(self.table)

    def time_floor(self, n: int, dtype: str) -> None:
        self.table.sum()

    def peakmem_exact(self, n: int, dtype: str) -> None:
        equilib.shapley_values(self.table)


class ExactByNamespace:
    """The same in other libraries."""

    params = ([4, 12, 20], ["numpy", "torch", "jax.numpy", "cupy"])
    param_names = ("n", "namespace")

    def setup(self, n: int, name: str) -> None:
        self.table = namespace(name).asarray(np.random.default_rng(0).normal(size=2**n).astype(np.float32))
        self.time_exact(n, name)  # compiled and cached

    def time_exact(self, n: int, name: str) -> None:
        shapley = equilib.shapley_values(self.table)
        float(shapley[0])  # waits for libraries that only queue the work


class Batches:
    """Many small tables, such as the contributions of every sample, beside one matrix product of that size."""

    params = ([2, 3, 4, 5, 6],)
    param_names = ("n",)

    def setup(self, n: int) -> None:
        rng = np.random.default_rng(0)
        self.tables, self.matrix = rng.normal(size=(100_000, 2**n)), rng.normal(size=(2**n, n))

    def time_exact(self, n: int) -> None:
        equilib.shapley_values(self.tables)

    def time_floor(self, n: int) -> None:
        self.tables @ self.matrix


class Equilibrium:
    """What runs once an epoch, on a vector and on a batch of them."""

    params = ([(3,), (8,), (1000, 8)],)
    param_names = ("shape",)

    def setup(self, shape: tuple[int, ...]) -> None:
        self.shapley = np.random.default_rng(0).normal(size=shape)

    def time_edm(self, shape: tuple[int, ...]) -> None:
        equilib.edm(self.shapley)

    def time_schedule(self, shape: tuple[int, ...]) -> None:
        equilib.shapley_schedule(self.shapley, n_updates=3 * shape[-1])

    def time_random_schedule(self, shape: tuple[int, ...]) -> None:
        equilib.shapley_schedule(self.shapley, policy="random", seed=0)


class Import:
    """Import in a fresh interpreter; at most 1.5 times as long as NumPy alone."""

    def timeraw_equilib(self) -> str:
        return "import equilib"

    def timeraw_numpy(self) -> str:
        return "import numpy"
