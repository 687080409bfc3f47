"""Exact aggregation, error, overhead and coverage, beside shapiq and shap where they are installed: markdown tables.

    pip install '.[peers]'
    python -m benchmarks.peers [--seeds 10] [--budgets 10 100 1000] [--coverage 200] [--only auto kernel ...]

All errors that are compared come from the same games. What does not install in one environment, or takes long, is run
into a file that is added to, and what is in such files is printed:

    python -m benchmarks.peers --results peers.jsonl --games nine fresh --only OddSHAP RegressionMSR
    python -m benchmarks.peers --results ours.jsonl --games nine fresh --only auto boosted
    python -m benchmarks.peers --table peers.jsonl ours.jsonl
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.approximators import approximators
from benchmarks.cells import fill, read
from benchmarks.fresh import FRESH
from benchmarks.tables import report
from equilib import estimate_shapley, shapley_values
from equilib.estimators import ESTIMATORS
from equilib.games import Game, random_kernel_machine, random_unanimity, random_voting

GAMES: dict[str, Game] = {"soug": random_unanimity(), "voting": random_voting(), "svm": random_kernel_machine()}


def named(names: list[str]) -> dict[str, Callable[[], Game]]:
    """List games by their names; `nine` stands for three that have nine cells, `fresh` for the dozen.

    Raises:
        ValueError: there is no game of that name.
    """
    known: dict[str, Callable[[], Game]] = {**{name: (lambda game=game: game) for name, game in GAMES.items()}, **FRESH}
    groups = {"nine": list(GAMES), "fresh": list(FRESH)}
    listed = [name for group in names for name in groups.get(group, [group])]
    for name in listed:
        if name not in known:
            raise ValueError(f"--games takes {', '.join([*groups, *known])}, got {name}")
    return {name: known[name] for name in listed}


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


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budgets", type=int, nargs="+", default=[10, 100, 1000], help="evaluations per player")
    parser.add_argument(
        "--games", nargs="+", default=[], help="whose errors: nine (unless told otherwise), fresh or names"
    )
    parser.add_argument("--results", type=Path, metavar="FILE", help="only run what this file of errors lacks")
    parser.add_argument("--patience", type=float, default=float("inf"), metavar="SECONDS", help="for a cell's seeds")
    parser.add_argument("--table", type=Path, nargs="+", metavar="FILE", help="only print what these files hold")
    parser.add_argument("--coverage", type=int, default=0, metavar="SEEDS", help="also measure coverage")
    parser.add_argument("--only", nargs="*", default=[], help="only these, of ours and theirs")
    parser.add_argument("--exact", type=int, nargs="*", default=[12, 16], help="players of the exact tables")
    options = parser.parse_args()
    try:
        games = named(options.games or (["nine", "fresh"] if options.table else ["nine"]))
        if options.table:
            print(report([run for run in read(options.table) if run["game"] in games]))
            return 0
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    made = {name: make() for name, make in games.items()}
    runs = fill(options.results, approximators(options.only), made, options.budgets, options.seeds, options.patience)
    if options.results:
        for run in runs:
            said = run["failed"] or f"{run['error']:.2g}"
            print(f"{run['method']}, {run['game']} {run['factor']}n, seed {run['seed']}: {said}", flush=True)
        return 0
    if options.exact:
        exact_table(options.exact)
    print(report(list(runs)), flush=True)
    overhead_table(options.only)
    if options.coverage:
        print(f"\nCoverage of values ± 1.96 standard errors in %, {options.coverage} seeds\n")
        print(f"| estimator | {' | '.join(GAMES)} |\n|---|" + "---|" * len(GAMES))
        for name in [name for name in ESTIMATORS if name != "exact" and (not options.only or name in options.only)]:
            print(f"| {name} | {coverage(name, options.budgets, options.coverage)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
