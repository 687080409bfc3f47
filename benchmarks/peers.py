"""Error, coverage and overhead of the estimators and, where they are installed, of shapiq and shap: markdown tables.

    python benchmarks/peers.py [--seeds 10] [--budgets 10 100 1000] [--coverage 200] [--only auto kernel ...]

Errors are mean squared errors over mean squared Shapley values, averaged over seeds, on the same games in the same run.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from equilib import estimate_shapley
from equilib.estimators import ESTIMATORS
from equilib.games import Game, random_kernel_machine, random_unanimity, random_voting

GAMES: dict[str, Game] = {"soug": random_unanimity(), "voting": random_voting(), "svm": random_kernel_machine()}
Method = Callable[[Game, int, int], Any]


def ours(name: str) -> Method:
    """An estimator of this library."""
    return lambda game, budget, seed: (
        estimate_shapley(game, game.n_players, budget=budget, estimator=name, seed=seed).values
    )


def shapiq_method(name: str, **options: Any) -> Method:
    """An approximator of shapiq."""

    def run(game: Game, budget: int, seed: int) -> Any:
        import shapiq

        n = game.n_players
        approximator = getattr(shapiq, name)(n=n, random_state=seed, **options)
        found = approximator.approximate(budget, lambda z: np.asarray(game(np.atleast_2d(z).astype(bool))))
        return np.asarray([found[(player,)] for player in range(n)])

    return run


def shap_permutation(game: Game, budget: int, seed: int) -> Any:
    """The permutation explainer of shap; it takes whole pairs of orders only."""
    import shap

    n = game.n_players
    explainer = shap.explainers.Permutation(lambda z: game(np.asarray(z) > 0.5), np.zeros((1, n)), seed=seed)
    evaluations = max(1, budget // (2 * n)) * 2 * n + 1
    return explainer(np.ones((1, n)), max_evals=evaluations, silent=True).values[0]


def methods(only: list[str]) -> Iterator[tuple[str, Method]]:
    """List what there is to compare."""
    for name in ESTIMATORS:
        if name != "exact" and (not only or name in only):
            yield name, ours(name)
    peers: dict[str, dict[str, Method]] = {
        "shapiq": {
            "KernelSHAP paired": shapiq_method("KernelSHAP", pairing_trick=True),
            "SVARM": shapiq_method("SVARM"),
            "permutation": shapiq_method("PermutationSamplingSV"),
        },
        "shap": {"Permutation": shap_permutation},
    }
    for package, theirs in peers.items():
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        for name, method in theirs.items():
            yield f"{package} {version} {name}", method


def measure(method: Method, budgets: list[int], seeds: int) -> str:
    """Fill a row of the table of errors: the errors on each game, and the time per evaluation less the game's own."""
    cells, overhead = [], float("inf")
    for game in GAMES.values():
        errors, exact = [], game.shapley_values
        for factor in budgets:
            budget = factor * game.n_players
            begin = time.perf_counter()
            runs = np.stack([method(game, budget, seed) for seed in range(seeds)])
            seconds = (time.perf_counter() - begin) / seeds
            overhead = min(overhead, seconds / budget)
            errors.append(f"{np.mean((runs - exact) ** 2) / np.mean(exact**2):.2g}")
        cells.append(" / ".join(errors))
    return " | ".join([*cells, f"{overhead * 1e6:.1f}"])


def coverage(name: str, budgets: list[int], seeds: int) -> str:
    """Fill a row of the table of coverage: how often values ± 1.96 standard errors hold the exact ones, in %."""
    cells = []
    for game in GAMES.values():
        n, parts = game.n_players, []
        for factor in budgets:
            runs = [estimate_shapley(game, n, budget=factor * n, estimator=name, seed=seed) for seed in range(seeds)]
            held = [np.abs(run.values - game.shapley_values) <= 1.96 * run.standard_errors for run in runs]
            parts.append(f"{100 * np.mean(held):.0f}")
        cells.append(" / ".join(parts))
    return " | ".join(cells)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budgets", type=int, nargs="+", default=[10, 100, 1000], help="evaluations per player")
    parser.add_argument("--coverage", type=int, default=0, metavar="SEEDS", help="also measure coverage")
    parser.add_argument("--only", nargs="*", default=[], help="of our estimators, only these")
    options = parser.parse_args()
    print(f"Normalised MSE at {' / '.join(f'{b} n' for b in options.budgets)} evaluations, {options.seeds} seeds\n")
    print(f"| method | {' | '.join(GAMES)} | µs per evaluation, fastest cell, game included |")
    print("|---|" + "---|" * (len(GAMES) + 1))
    for name, method in methods(options.only):
        print(f"| {name} | {measure(method, options.budgets, options.seeds)} |", flush=True)
    if options.coverage:
        print(f"\nCoverage of values ± 1.96 standard errors in %, {options.coverage} seeds\n")
        print(f"| estimator | {' | '.join(GAMES)} |\n|---|" + "---|" * len(GAMES))
        for name in options.only or [name for name in ESTIMATORS if name != "exact"]:
            print(f"| {name} | {coverage(name, options.budgets, options.coverage)} |", flush=True)


if __name__ == "__main__":
    main()
