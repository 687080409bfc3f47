"""Do the standard errors hold? Coverage, stopped runs and errors by budget, in games that one player or a few decide.

    python -m benchmarks.errors [--seeds 200] [--budgets 5 10 100] [--only auto kernel ...] [--games leader ...]

A cell of the first table is: how often value ± 1.96 standard errors holds the truth, in %, on average over the players
/ for the worst player / how often an error is infinite ("too few to tell", which counts as held) / the mean of the
finite errors over the true root mean squared error. Another table stops at tolerances, and counts the stops that are
wrong by more than four of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from equilib import coalitions, estimate_shapley, shapley_values
from equilib.estimators import ESTIMATORS
from equilib.games import random_kernel_machine, random_unanimity, random_voting

BUDGETS = (5, 10, 100)
TOLERANCES = (0.1, 0.03, 0.01)


class Decided(NamedTuple):
    """A game with its exact values; `scale` is what a tolerance of 1 means."""

    play: Callable[[Any], Any]
    n: int
    exact: Any
    scale: float


def tabulated(rule: Callable[[Any], Any], n: int) -> Decided:
    """Make a game of a rule, whose values are those of its table."""
    table = np.asarray(rule(coalitions(n)), dtype=np.float64)
    exact = shapley_values(table)
    powers = 1 << np.arange(n)
    return Decided(lambda z: table[z @ powers], n, exact, float(np.abs(exact).max()))


def rules(n: int) -> dict[str, Callable[[Any], Any]]:
    """List games that one player or a few decide."""
    rng = np.random.default_rng(5)
    small, pairs = rng.uniform(0, 0.1, n), np.triu(rng.normal(size=(n, n)), 1) / n
    others = slice(1, None)
    return {
        "leader": lambda z: z[:, 0] * (z[:, others].sum(1) >= n // 3) + z @ small,
        "gate": lambda z: z[:, 0] * np.sqrt(z[:, others] @ small[others]),
        "veto": lambda z: z[:, 0] * z[:, 1] * z[:, 2] + 0.1 * ((z @ pairs) * z).sum(1),
        "either": lambda z: (z[:, 0] | z[:, 1]) + 0.2 * np.tanh(z @ small - 0.5),
        "apex": lambda z: (z[:, 0] & z[:, others].any(1)) | z[:, others].all(1),
        "runway": lambda z: (z * np.where(np.arange(n) == 0, 10.0, small * 10)).max(1),
        "last": lambda z: z[:, others].all(1),
        "alone": lambda z: z[:, 0] * (z.sum(1) <= 2) + 0.02 * z.sum(1),
        "five": lambda z: (z[:, :5].sum(1) >= 3) * 1.0,
        "spoiler": lambda z: ~z[:, 0] * (z @ small) ** 2,
        "crowd": lambda z: z[:, 0] * (z[:, others].sum(1) >= n - 3),
        "key": lambda z: np.where(z[:, 0], (z[:, 1:4].sum(1) >= 2) * 1.0, 0.1 * z[:, 5] * z[:, 6]),
    }


def games(only: list[str], n: int) -> dict[str, Decided]:
    """Collect the games of a study."""
    made = {name: tabulated(rule, n) for name, rule in rules(n).items() if not only or name in only}
    known = {"soug": random_unanimity, "voting": random_voting, "svm": random_kernel_machine}
    for name, make in known.items():
        if not only or name in only:
            game = make()
            exact = game.shapley_values
            made[name] = Decided(game, game.n_players, exact, float(np.abs(exact).max()))
    return made


def coverage(game: Decided, name: str, factor: int, seeds: int) -> tuple[str, float]:
    """Measure one cell, and the normalised error."""
    runs = [estimate_shapley(game.play, game.n, budget=factor * game.n, estimator=name, seed=s) for s in range(seeds)]
    off = np.abs(np.stack([run.values for run in runs]) - game.exact)
    errors = np.stack([run.standard_errors for run in runs])
    held = off <= 1.96 * errors + 1e-12 * game.scale
    finite = np.isfinite(errors)
    rmse = float(np.sqrt(np.mean(off**2)))
    ratio = float(np.mean(errors[finite])) / rmse if finite.any() and rmse > 1e-12 * game.scale else float("nan")
    cell = f"{100 * held.mean():.0f}/{100 * held.mean(0).min():.0f}/{100 * (~finite).mean():.0f}/{ratio:.2f}"
    return cell, rmse**2 / float(np.mean(game.exact**2))


def stopped(game: Decided, name: str, seeds: int) -> tuple[int, int, float]:
    """Count runs that stopped, those of them that were wrong, and their mean cost in evaluations per player."""
    stops, wrong, cost = 0, 0, 0.0
    for tolerance in TOLERANCES:
        for seed in range(seeds):
            limit = tolerance * game.scale
            run = estimate_shapley(game.play, game.n, budget=400 * game.n, estimator=name, seed=seed, tolerance=limit)
            stops += run.converged
            wrong += bool(run.converged and np.abs(run.values - game.exact).max() > 4 * limit)
            cost += run.n_evaluations / game.n / seeds / len(TOLERANCES)
    return stops, wrong, cost


def table(title: str, head: list[str], rows: dict[str, list[str]]) -> None:
    """Print a markdown table."""
    print(f"\n{title}\n\n| | {' | '.join(head)} |\n|---|{'---|' * len(head)}")
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--stop-seeds", type=int, default=40, help="0: no table of stopped runs")
    parser.add_argument("--budgets", type=int, nargs="+", default=list(BUDGETS), help="evaluations per player")
    parser.add_argument("--players", type=int, default=16, help="players of the games that few decide, at most 20")
    parser.add_argument("--only", nargs="*", default=[], help="estimators")
    parser.add_argument("--games", nargs="*", default=[])
    options = parser.parse_args()
    names = options.only or [name for name in ESTIMATORS if name not in ("exact", "adjusted")]
    study = games(options.games, options.players)
    for name in names:
        held: dict[str, list[str]] = {}
        mse: dict[str, list[str]] = {}
        for title, game in study.items():
            cells = [coverage(game, name, factor, options.seeds) for factor in options.budgets]
            held[title], mse[title] = [cell for cell, _ in cells], [f"{error:.2g}" for _, error in cells]
        head = [f"{factor} n" for factor in options.budgets]
        table(f"{name}: coverage mean/worst/infinite/error over truth, {options.seeds} seeds", head, held)
        table(f"{name}: normalised MSE", head, mse)
        if options.stop_seeds:
            rows = {title: stopped(game, name, options.stop_seeds) for title, game in study.items()}
            stops = {title: [f"{a}", f"{b}", f"{c:.0f}"] for title, (a, b, c) in rows.items()}
            table(f"{name}: stopped runs, wrong ones, evaluations per player", ["stopped", "wrong", "cost"], stops)


if __name__ == "__main__":
    main()
