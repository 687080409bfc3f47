"""What is compared: the estimators of this library and, where they are installed, those of shapiq and shap."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import equilib
from equilib import estimate_shapley
from equilib.estimators import ESTIMATORS
from equilib.games import Game

Approximate = Callable[[Game, int, int], Any]
"""Shapley values of a game from a budget and a seed."""


class Approximator(NamedTuple):
    """An estimator of a package, in its version here, by its name there."""

    package: str
    version: str
    name: str
    approximate: Approximate

    @property
    def label(self) -> str:
        """Name it in a table."""
        return f"{self.package} {self.name}"


def ours(name: str) -> Approximate:
    """Make one of an estimator of this library."""
    return lambda game, budget, seed: (
        estimate_shapley(game, game.n_players, budget=budget, estimator=name, seed=seed).values
    )


def of_shapiq(name: str, **options: Any) -> Approximate:
    """Make one of an approximator of shapiq."""

    def run(game: Game, budget: int, seed: int) -> Any:
        import shapiq.approximator

        n = game.n_players
        approximator = getattr(shapiq.approximator, name)(n=n, random_state=seed, **options)
        values = approximator.approximate(budget, lambda z: np.asarray(game(np.atleast_2d(z).astype(bool))))
        return np.asarray([values[(player,)] for player in range(n)])

    return run


def shap_permutation(game: Game, budget: int, seed: int) -> Any:
    """Run the permutation explainer of shap; it takes whole pairs of orders only."""
    import shap

    n = game.n_players
    explainer = shap.explainers.Permutation(lambda z: game(np.asarray(z) > 0.5), np.zeros((1, n)), seed=seed)
    evaluations = max(1, budget // (2 * n)) * 2 * n + 1
    return explainer(np.ones((1, n)), max_evals=evaluations, silent=True).values[0]


PEERS: dict[str, dict[str, Approximate]] = {
    "shapiq": {
        "KernelSHAP paired": of_shapiq("KernelSHAP", pairing_trick=True),
        "SVARM": of_shapiq("SVARM"),
        "permutation": of_shapiq("PermutationSamplingSV"),
        "LeverageSHAP": of_shapiq("LeverageSHAP"),
        "PolySHAP": of_shapiq("PolySHAP"),
        "OddSHAP": of_shapiq("OddSHAP"),
        "RegressionMSR": of_shapiq("RegressionMSR", index="SV"),
        "RegressionMSR 5 folds": of_shapiq("RegressionMSR", index="SV", k_folds=5),
    },
    "shap": {"Permutation": shap_permutation},
}


def approximators(only: list[str]) -> Iterator[Approximator]:
    """List what there is to compare: all, or those of these names."""
    for name in ESTIMATORS:
        if name != "exact" and (not only or name in only):
            yield Approximator("equilib", equilib.__version__, name, ours(name))
    for package, theirs in PEERS.items():
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        for name, approximate in theirs.items():
            if not only or name in only:
                yield Approximator(package, version, name, approximate)
