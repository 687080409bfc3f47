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


def geometric_mean(ratios: list[float]) -> float:
    """Average ratios."""
    return float(np.exp(np.mean(np.log(ratios))))


def against(runs: list[Run], ours: str = "equilib ") -> Iterator[str]:
    """Compare our methods with each peer, over the cells that both have, and with the best peer of every cell."""
    errors = {
        method: {cell: max(value, EXACT) for cell, value in cells.items()}
        for method, cells in mean_errors(runs).items()
    }
    own = {method: cells for method, cells in errors.items() if method.startswith(ours)}
    peers = {method: cells for method, cells in errors.items() if not method.startswith(ours)}
    if not own or not peers:
        return
    yield "Errors over those of a peer: geometric mean over cells, and how many of them are led\n"
    yield f"| | {' | '.join(own)} |"
    yield "|---" * (1 + len(own)) + "|"
    for peer, theirs in peers.items():
        row = []
        for cells in own.values():
            ratios = [value / theirs[cell] for cell, value in cells.items() if cell in theirs]
            led = sum(ratio < 1 for ratio in ratios)
            row.append(f"{geometric_mean(ratios):.3g} ({led} of {len(ratios)})" if ratios else "–")
        yield f"| {peer} | {' | '.join(row)} |"
    best = {
        cell: min((theirs[cell], peer) for peer, theirs in peers.items() if cell in theirs)
        for cell in cells_of(runs)
        if any(cell in theirs for theirs in peers.values())
    }
    yield "\nErrors over those of the best peer of the cell\n"
    yield f"| | {' | '.join(own)} | best peer | its error |"
    yield "|---" * (3 + len(own)) + "|"
    for (game, factor), (value, peer) in best.items():
        row = [f"{cells[game, factor] / value:.3g}" if (game, factor) in cells else "–" for cells in own.values()]
        yield f"| {game} {factor}n | {' | '.join(row)} | {peer} | {value:.2g} |"
    summaries = []
    for cells in own.values():
        ratios = [value / best[cell][0] for cell, value in cells.items() if cell in best]
        led = sum(ratio < 1 for ratio in ratios)
        summaries.append(
            f"{geometric_mean(ratios):.3g}, at worst {max(ratios):.3g}; {led} of {len(ratios)} led" if ratios else "–"
        )
    yield f"| **all** | {' | '.join(summaries)} | | |"


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
