"""Exact aggregation, error, overhead and coverage, beside shapiq and shap where they are installed: markdown tables.

    pip install '.[peers]'
    python benchmarks/peers.py [--seeds 10] [--budgets 10 100 1000] [--coverage 200] [--only auto kernel ...]

Errors are mean squared errors over mean squared Shapley values, averaged over seeds, on the same games in the same run.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from equilib import estimate_shapley, shapley_values
from equilib.estimators import ESTIMATORS
from equilib.games import Game, random_kernel_machine, random_unanimity, random_voting

GAMES: dict[str, Game] = {"soug": random_unanimity(), "voting": random_voting(), "svm": random_kernel_machine()}
Approximator = Callable[[Game, int, int], Any]
"""Shapley values of a game from a budget and a seed."""


def ours(name: str) -> Approximator:
    """Make an approximator of an estimator of this library."""
    return lambda game, budget, seed: (
        estimate_shapley(game, game.n_players, budget=budget, estimator=name, seed=seed).values
    )


def shapiq_approximator(name: str, **options: Any) -> Approximator:
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


def approximators(only: list[str]) -> Iterator[tuple[str, Approximator]]:
    """List what there is to compare, by name."""
    for name in ESTIMATORS:
        if name != "exact" and (not only or name in only):
            yield name, ours(name)
    peers: dict[str, dict[str, Approximator]] = {
        "shapiq": {
            "KernelSHAP paired": shapiq_approximator("KernelSHAP", pairing_trick=True),
            "SVARM": shapiq_approximator("SVARM"),
            "permutation": shapiq_approximator("PermutationSamplingSV"),
            "LeverageSHAP": shapiq_approximator("LeverageSHAP"),
            "PolySHAP": shapiq_approximator("PolySHAP"),
            "OddSHAP": shapiq_approximator("OddSHAP"),
            "RegressionMSR": shapiq_approximator("RegressionMSR", index="SV"),
            "RegressionMSR 5 folds": shapiq_approximator("RegressionMSR", index="SV", k_folds=5),
        },
        "shap": {"Permutation": shap_permutation},
    }
    for package, theirs in peers.items():
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        for name, approximate in theirs.items():
            if only and name not in only:
                continue
            yield f"{package} {version} {name}", approximate


def exact_computations(table: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """List ways to aggregate a complete table; the peers get it as a game that looks its rows up."""
    n = len(table).bit_length() - 1
    powers = 1 << np.arange(n)
    yield "v.sum()", table.sum
    yield "equilib", lambda: shapley_values(table)
    if importlib.util.find_spec("shapiq"):
        import shapiq

        def shapiq_exact() -> Any:
            computer = shapiq.ExactComputer(lambda z: table[np.asarray(z, dtype=np.int64) @ powers], n_players=n)
            return computer(index="SV").get_n_order_values(1)

        yield "shapiq ExactComputer", shapiq_exact
    if importlib.util.find_spec("shap"):
        import shap

        def shap_exact() -> Any:
            model = lambda z: table[(np.asarray(z) > 0.5).astype(np.int64) @ powers]  # noqa: E731 - shap wants one
            return shap.explainers.Exact(model, np.zeros((1, n)))(np.ones((1, n)), max_evals=2**n, silent=True).values[
                0
            ]

        yield "shap Exact", shap_exact


def exact_table(players: list[int]) -> None:
    """Print how long exact aggregation takes, and that all agree."""
    print("Exact values from a complete table, best of several runs; the peers' lookup of the table included\n")
    print("| n | " + " | ".join(name for name, _ in exact_computations(np.zeros(2))) + " |")
    print("|---" * (1 + len(list(exact_computations(np.zeros(2))))) + "|")
    for n in players:
        table = np.random.default_rng(0).normal(size=2**n)
        reference, cells = shapley_values(table), []
        for name, run in exact_computations(table):
            shapley, best = run(), float("inf")
            if name != "v.sum()":
                np.testing.assert_allclose(shapley, reference, atol=1e-9)
            for _ in range(1 if n > 12 and "shapiq" in name else 5):
                begin = time.perf_counter()
                run()
                best = min(best, time.perf_counter() - begin)
            cells.append(f"{best * 1e6:,.0f} µs")
        print(f"| {n} | {' | '.join(cells)} |", flush=True)
    print()


def overhead_table(only: list[str], n: int = 30, budget: int = 30_000) -> None:
    """Print the time per evaluation beside that of the game itself, which is linear."""
    weights = np.random.default_rng(0).normal(size=n)
    print(f"\nOverhead per evaluation, n = {n}, {budget:,} evaluations of a linear game, best of 3\n")
    print("| estimator | µs |\n|---|---|")
    for name in [name for name in ESTIMATORS if name != "exact" and (not only or name in only)]:
        best = float("inf")
        for seed in range(3):
            begin = time.perf_counter()
            estimate_shapley(lambda z: z @ weights, n, budget=budget, estimator=name, seed=seed)
            best = min(best, time.perf_counter() - begin)
        table = np.random.default_rng(0).random((budget, n)) < 0.5
        begin = time.perf_counter()
        table @ weights
        print(f"| {name} | {(best - time.perf_counter() + begin) / budget * 1e6:.2f} |", flush=True)


def measure(approximate: Approximator, budgets: list[int], seeds: int) -> str:
    """Fill a row of the table of errors."""
    cells = []
    for game in GAMES.values():
        errors, exact = [], game.shapley_values
        for factor in budgets:
            budget = factor * game.n_players
            runs = np.stack([approximate(game, budget, seed) for seed in range(seeds)])
            errors.append(f"{np.mean((runs - exact) ** 2) / np.mean(exact**2):.2g}")
        cells.append(" / ".join(errors))
    return " | ".join(cells)


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
    parser.add_argument("--only", nargs="*", default=[], help="only these, of ours and theirs")
    parser.add_argument("--exact", type=int, nargs="*", default=[12, 16], help="players of the exact tables")
    options = parser.parse_args()
    if options.exact:
        exact_table(options.exact)
    print(f"Normalised MSE at {' / '.join(f'{b} n' for b in options.budgets)} evaluations, {options.seeds} seeds\n")
    print(f"| method | {' | '.join(GAMES)} |")
    print("|---|" + "---|" * len(GAMES))
    for name, approximate in approximators(options.only):
        print(f"| {name} | {measure(approximate, options.budgets, options.seeds)} |", flush=True)
    overhead_table(options.only)
    if options.coverage:
        print(f"\nCoverage of values ± 1.96 standard errors in %, {options.coverage} seeds\n")
        print(f"| estimator | {' | '.join(GAMES)} |\n|---|" + "---|" * len(GAMES))
        for name in [name for name in ESTIMATORS if name != "exact" and (not options.only or name in options.only)]:
            print(f"| {name} | {coverage(name, options.budgets, options.coverage)} |", flush=True)


if __name__ == "__main__":
    main()
