"""Errors of estimators in games whose values are known, one line of JSON a run, and the tables made of them.

A cell is a game at a budget. Runs in one file are done once, and those of several files, from several environments,
are compared if their games have the same values.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from benchmarks.approximators import Approximator
from equilib.games import Game


class Run(TypedDict):
    """One run of an estimator on a game; `error` is None where it failed, for the reason in `failed`."""

    method: str
    version: str
    game: str
    players: int
    factor: int  # evaluations per player
    seed: int
    error: float | None  # mean squared error over the mean squared Shapley value
    seconds: float
    evaluations: int  # coalitions that the game was asked for
    scale: float  # the mean squared Shapley value, by which games are known to be the same
    failed: str | None


class Counted:
    """A game that counts the coalitions it is asked for."""

    def __init__(self, game: Game) -> None:
        self.game, self.evaluations = game, 0
        self.n_players = game.n_players

    @property
    def shapley_values(self) -> Any:
        """Exact values."""
        return self.game.shapley_values

    def __call__(self, coalitions: Any) -> Any:
        """Count, and pass on."""
        self.evaluations += len(coalitions)
        return self.game(coalitions)


def run(approximator: Approximator, name: str, game: Game, factor: int, seed: int) -> Run:
    """Measure one run. What a library raises, and values that are not finite, are results, too."""
    counted, exact = Counted(game), game.shapley_values
    scale, error, failed = float(np.mean(exact**2)), None, None
    begin = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = np.asarray(approximator.approximate(counted, factor * game.n_players, seed))
    except Exception as raised:
        failed = f"{type(raised).__name__}: {raised}"
    seconds = time.perf_counter() - begin
    if failed is None:
        if np.isfinite(values).all():
            error = float(np.mean((values - exact) ** 2)) / scale
        else:
            failed = "values that are not finite"
    return Run(
        method=approximator.label,
        version=approximator.version,
        game=name,
        players=game.n_players,
        factor=factor,
        seed=seed,
        error=error,
        seconds=round(seconds, 4),
        evaluations=counted.evaluations,
        scale=scale,
        failed=failed,
    )


def key(one: Run) -> tuple[str, str, str, int, int]:
    """Tell runs apart."""
    return one["method"], one["version"], one["game"], one["factor"], one["seed"]


def read(paths: Iterable[Path]) -> list[Run]:
    """Read runs; a line cut off by an interruption is left out.

    Raises:
        ValueError: a game has other values in another file, which was then made with another version of something.
    """
    runs: dict[tuple[str, str, str, int, int], Run] = {}
    scales: dict[str, float] = {}
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                one: Run = json.loads(line)
            except json.JSONDecodeError:
                continue
            scale = scales.setdefault(one["game"], one["scale"])
            if abs(one["scale"] - scale) > 1e-6 * scale:
                raise ValueError(f"{path}: {one['game']} is not the game of the other runs")
            runs[key(one)] = one
    return list(runs.values())


def add(path: Path, text: str) -> None:
    """Add to the end of a file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def fill(
    path: Path | None,
    approximators: Iterable[Approximator],
    games: dict[str, Game],
    factors: list[int],
    seeds: int,
    patience: float = float("inf"),
) -> Iterator[Run]:
    """Run what the file lacks, and add it line by line; a cell stops after the run that exhausts the patience.

    Yields:
        The runs asked for, those of the file among them.

    Budgets of half of all coalitions or more are left out: who can pay so much takes all of them, and is exact.
    """
    known: dict[tuple[str, str, str, int, int], Run] = {}
    if path and path.exists():
        known = {key(one): one for one in read([path])}
        if not path.read_bytes().endswith(b"\n"):
            add(path, "\n")  # after a line cut off
    for approximator in approximators:
        for name, game in games.items():
            for factor in [factor for factor in factors if 2 * factor * game.n_players < 2**game.n_players]:
                seconds = 0.0
                for seed in range(seeds):
                    one = known.get((approximator.label, approximator.version, name, factor, seed))
                    if one is None:
                        if seconds > patience:
                            break
                        one = run(approximator, name, game, factor, seed)
                        if path:
                            add(path, json.dumps(one) + "\n")
                    seconds += one["seconds"]
                    yield one
