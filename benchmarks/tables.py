"""Tables of runs, in markdown: errors, time, evaluations used, and our errors over those of the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.cells import Run

EXACT = 1e-12
"""Normalised errors below this are the rounding of exact values; ratios take them for this."""
Cell = tuple[str, int]
"""A game, and evaluations per player."""


def by_cell(runs: list[Run]) -> dict[str, dict[Cell, list[Run]]]:
    """Sort runs by method and version, then by cell."""
    sorted_runs: dict[str, dict[Cell, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        sorted_runs[f"{run['method']} {run['version']}"][run["game"], run["factor"]].append(run)
    return sorted_runs


def mean_errors(runs: list[Run]) -> dict[str, dict[Cell, float]]:
    """Average the errors of every method and cell over seeds; cells where a run failed are left out."""
    return {
        method: {
            cell: float(np.mean([run["error"] for run in of_cell]))  # type: ignore[misc]
            for cell, of_cell in cells.items()
            if all(run["error"] is not None for run in of_cell)
        }
        for method, cells in by_cell(runs).items()
    }


def cells_of(runs: list[Run]) -> list[Cell]:
    """List cells, games in the order of the runs, budgets from small to large."""
    games = list(dict.fromkeys(run["game"] for run in runs))
    return sorted({(run["game"], run["factor"]) for run in runs}, key=lambda cell: (games.index(cell[0]), cell[1]))


def table(runs: list[Run], fill: Callable[[list[Run]], str]) -> Iterator[str]:
    """Lay out something of every method and cell: a row for each cell, a column for each method."""
    methods, players = by_cell(runs), {run["game"]: run["players"] for run in runs}
    yield f"| game, n, budget | {' | '.join(methods)} |"
    yield "|---" * (1 + len(methods)) + "|"
    for game, factor in cells_of(runs):
        row = [fill(cells.get((game, factor), [])) for cells in methods.values()]
        yield f"| {game}, {players[game]}, {factor}n | {' | '.join(row)} |"


def error(runs: list[Run]) -> str:
    """Fill a cell with the mean error, its standard error, and how many seeds there are; or say that a run failed."""
    if any(run["failed"] for run in runs):
        return "failed"
    if not runs:
        return "–"
    errors = np.asarray([run["error"] for run in runs])
    if len(runs) == 1:
        return f"{errors[0]:.2g} (1)"
    share = errors.std(ddof=1) / np.sqrt(len(runs)) / max(errors.mean(), EXACT)
    return f"{errors.mean():.2g} ({100 * share:.0f} %, {len(runs)})"


def microseconds(runs: list[Run]) -> str:
    """Fill a cell with the time per evaluation, that of the game included: the median over seeds."""
    times = [1e6 * run["seconds"] / run["evaluations"] for run in runs if run["evaluations"]]
    return f"{np.median(times):.3g}" if times else "–"


def evaluations(runs: list[Run]) -> Iterator[str]:
    """Say how much of their budgets methods used."""
    yield "| | evaluations used, % of the budget |"
    yield "|---|---|"
    for method, cells in by_cell(runs).items():
        shares = [
            100 * run["evaluations"] / (run["factor"] * run["players"])
            for of_cell in cells.values()
            for run in of_cell
            if run["failed"] is None
        ]
        if shares:
            yield f"| {method} | {min(shares):.4g} to {max(shares):.4g} |"


def failures(runs: list[Run]) -> Iterator[str]:
    """List what failed, and why."""
    failed: dict[str, list[str]] = defaultdict(list)
    for run in runs:
        if run["failed"]:
            failed[f"{run['method']}: {run['failed']}"].append(f"{run['game']} {run['factor']}n seed {run['seed']}")
    for why, where in failed.items():
        yield f"- {why} ({', '.join(where)})"


def compared(ours: dict[Cell, float], theirs: dict[Cell, float]) -> str:
    """Sum up our errors over theirs: geometric mean, worst, and how many cells are led, or equally exact.

    Cells that ours are exact in count as led or equal, but have no part in the mean: one of them would decide it.
    """
    ratios = {cell: max(value, EXACT) / max(theirs[cell], EXACT) for cell, value in ours.items() if cell in theirs}
    if not ratios:
        return "–"
    measured = [np.log(ratio) for cell, ratio in ratios.items() if ours[cell] > EXACT]
    mean = f"{np.exp(np.mean(measured)):.3g}, " if measured else ""
    led, equal = (sum(sign(ratio) for ratio in ratios.values()) for sign in (lambda r: r < 1, lambda r: r == 1))
    also = f" and {equal} equal" if equal else ""
    return f"{mean}at worst {max(ratios.values()):.3g}; {led}{also} of {len(ratios)}"


def against(runs: list[Run], prefix: str = "equilib ") -> Iterator[str]:
    """Compare our methods with each peer, over the cells that both have, and with the best peer of every cell."""
    errors = mean_errors(runs)
    own = {method: cells for method, cells in errors.items() if method.startswith(prefix)}
    peers = {method: cells for method, cells in errors.items() if not method.startswith(prefix)}
    if not own or not peers:
        return
    best = {
        cell: min((theirs[cell], peer) for peer, theirs in peers.items() if cell in theirs)
        for cell in cells_of(runs)
        if any(cell in theirs for theirs in peers.values())
    }
    yield "Our errors over those of a peer: geometric mean over the cells that ours are not exact in, cells led\n"
    yield f"| | {' | '.join(own)} |"
    yield "|---" * (1 + len(own)) + "|"
    for peer, theirs in peers.items():
        yield f"| {peer} | {' | '.join(compared(ours, theirs) for ours in own.values())} |"
    of_best = {cell: value for cell, (value, _) in best.items()}
    yield f"| the best peer of each cell | {' | '.join(compared(ours, of_best) for ours in own.values())} |"
    yield "\nOur errors over those of the best peer of the cell\n"
    yield f"| game, budget | {' | '.join(own)} | best peer | its error |"
    yield "|---" * (3 + len(own)) + "|"
    for (game, factor), (value, peer) in best.items():
        row = [
            f"{max(ours[game, factor], EXACT) / max(value, EXACT):.3g}" if (game, factor) in ours else "–"
            for ours in own.values()
        ]
        yield f"| {game} {factor}n | {' | '.join(row)} | {peer} | {value:.2g} |"


def report(runs: list[Run]) -> str:
    """Put all tables of some runs together."""
    parts = [
        ["Normalised mean squared errors, averaged over seeds (standard error, seeds)\n", *table(runs, error)],
        ["Time per evaluation, that of the game included, in µs, the median over seeds\n", *table(runs, microseconds)],
        [*evaluations(runs)],
        [*failures(runs)],
        [*against(runs)],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)
