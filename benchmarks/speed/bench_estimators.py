"""ASV benchmarks of the estimators: time and peak memory of 30,000 evaluations of a game that costs next to nothing."""

from __future__ import annotations

import numpy as np

import equilib

BUDGET = 30_000


class Estimators:
    """Overhead of each estimator beside the game itself; `auto` is the most accurate and the most costly."""

    params = (["permutation", "antithetic", "stratified", "kernel", "auto"], [30, 1000])
    param_names = ("estimator", "n")
    timeout = 300

    def setup(self, estimator: str, n: int) -> None:
        if n > 512 and estimator in ("stratified", "kernel"):
            raise NotImplementedError("slow by design")  # how ASV is told to skip
        self.weights = np.random.default_rng(0).normal(size=n)

    def time_estimate(self, estimator: str, n: int) -> None:
        equilib.estimate_shapley(lambda z: z @ self.weights, n, budget=BUDGET, estimator=estimator, seed=0)

    def peakmem_estimate(self, estimator: str, n: int) -> None:
        equilib.estimate_shapley(lambda z: z @ self.weights, n, budget=BUDGET, estimator=estimator, seed=0)


class LargeGame:
    """10,000 players, 20 evaluations each."""

    def setup(self) -> None:
        self.weights = np.random.default_rng(0).normal(size=10_000)

    def time_estimate(self) -> None:
        equilib.estimate_shapley(lambda z: z @ self.weights, 10_000, budget=200_000, seed=0)

    def peakmem_estimate(self) -> None:
        equilib.estimate_shapley(lambda z: z @ self.weights, 10_000, budget=200_000, seed=0)
