"""ASV benchmarks of the pure core: `asv run --config benchmarks/asv.conf.json`."""

import numpy as np

import equilib


class ShapleyValues:
    """Exact values from a complete table; the floor is one read of the table."""

    params = ([4, 8, 12, 16, 20], ["float32", "float64"])
    param_names = ("n", "dtype")

    def setup(self, n: int, dtype: str) -> None:
        self.table = np.random.default_rng(0).normal(size=2**n).astype(dtype)

    def time_exact(self, n: int, dtype: str) -> None:
        equilib.shapley_values(self.table)

    def time_floor(self, n: int, dtype: str) -> None:
        self.table.sum()

    def peakmem_exact(self, n: int, dtype: str) -> None:
        equilib.shapley_values(self.table)


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
