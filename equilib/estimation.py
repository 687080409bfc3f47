"""Estimated Shapley values, for any number of players, from as many evaluations of the game as one can afford."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from equilib._evaluation import Evaluator, ValueFunction, to_numpy
from equilib._namespace import Array, Namespace, as_int, get_namespace, has_float64
from equilib._random import read_seed
from equilib._record import Evaluations
from equilib.estimators import ESTIMATORS, ORDERS
from equilib.estimators._problem import Problem, Solution
from equilib.estimators.exact import StoppedError
from equilib.shapley import MAX_PLAYERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor


MAX_ROWS = 20
"""Players in an estimate's table, at most."""


class ShapleyEstimate(NamedTuple):
    """Estimated Shapley values and what they are worth.

    For a game of one output, values and errors are `(n,)`; for k outputs `(k, n)`: players come last, as everywhere.
    As a string it is a table of them, of the first and the last players where there are many.

    Attributes:
        values: the estimates, in the unit of the game.
        standard_errors: their standard errors, widened for small samples by the quantiles of Student's t, so that
            values ± 1.96 standard errors hold about 95 % of the time, and a little more for what may not have been met
            yet; 0 where nothing was left to chance, infinity where the budget was too small to tell.
        n_evaluations: coalitions evaluated, the empty one and that of all players included.
        estimator: the name of the estimator that was used.
        converged: whether every standard error is at most `tolerance`; without a tolerance, whether all coalitions
            were evaluated.
        evaluations: all coalitions and their values, in order: what `start` goes on from.
        players: names of the players, if the game has an attribute `players`.
    """

    values: Array
    standard_errors: Array
    n_evaluations: int
    estimator: str
    converged: bool
    evaluations: Evaluations
    players: tuple[str, ...] | None = None

    def __str__(self) -> str:
        values, errors = np.atleast_2d(to_numpy(self.values)), np.atleast_2d(to_numpy(self.standard_errors))
        players = list(range(values.shape[1]))
        if len(players) > MAX_ROWS:
            players = [*players[: MAX_ROWS // 2], *players[-MAX_ROWS // 2 :]]
        names = self.players or tuple(map(str, range(values.shape[1])))
        rows = [
            [names[i], *(f"{v:.4g} ± {e:.2g}" for v, e in zip(values[:, i], errors[:, i], strict=True))]
            for i in players
        ]
        if len(players) < values.shape[1]:
            rows.insert(MAX_ROWS // 2, ["…"] * len(rows[0]))
        head = ["value ± error"] if len(values) == 1 else [f"output {k} ± error" for k in range(len(values))]
        table = [["player", *head], *rows]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
        state = "converged" if self.converged else "not converged"
        return "\n".join([*lines, f"{self.estimator}, {self.n_evaluations} evaluations, {state}"])


def estimate_shapley(
    game: ValueFunction,
    n_players: int | None = None,
    *,
    budget: int,
    estimator: str = "auto",
    seed: int | None = None,
    xp: Namespace | None = None,
    device: Any = None,
    batch_size: int | None = None,
    tolerance: float | None = None,
    executor: Executor | None = None,
    start: ShapleyEstimate | None = None,
    on_progress: Callable[[int, Array], object] | None = None,
) -> ShapleyEstimate:
    """Estimate the Shapley values of a game from `budget` evaluations of coalitions.

    Estimators, each in its module of `equilib.estimators` with formula and source:

    * `exact`: all 2**n coalitions.
    * `permutation`: marginal contributions along random orders. Unbiased, adds up to v(N) − v(∅), for any n.
    * `antithetic`: the same, each order with its reverse.
    * `kernel`: least squares with the Shapley kernel (KernelSHAP), coalitions drawn by leverage, without replacement,
      each with its complement; `kernel-unpaired` draws them on their own. Adds up to v(N) − v(∅).
    * `stratified`: means by size of coalition, with and without each player (Stratified SVARM); biased while the budget
      is small.
    * `adjusted`: a model of the game, cross-fitted, corrected by sampling its residuals by size; nearly unbiased for
      any game. `adjusted-paired` and `adjusted-unpaired` draw coalitions with or without their complements; `adjusted`
      decides by a pilot of 40 % of the budget, and from the same pilot how many of each size to draw.
    * `boosted`: `adjusted` with boosted trees beside that model, each weighed by what it says of coalitions it has not
      seen. Some 300 µs an evaluation; where rules decide, more exact.
    * `auto`: `exact` if 2**n ≤ budget; else `adjusted` if n ≤ 512, budget ≥ 4 n and budget · n ≤ 2**27; else antithetic
      orders, unless the first 8 pairs show that reversing does not pay: then plain ones.

    Complements cancel the even part of a game, (v(S) + v(N∖S))/2, which no Shapley value depends on, but double the
    error of the odd part: a game with a constant even part, such as a majority vote, should not be sampled in pairs.

    On a device, only orders (`permutation`, `antithetic`) are drawn and added up there; all else is drawn and solved in
    NumPy, which takes 10 µs an evaluation or more. Most games take longer, and `auto` does not look at the device: name
    `antithetic` if yours takes less.

    Args:
        game: takes coalitions `(m, n)` bool, true for members, in the library `xp` on `device`; returns their values
            `(m,)`, or `(m, k)` for k outputs, real and finite, in any array library. If it has an attribute `noise`,
            the standard deviation of the noise in one answer (of each output, if more than one number), the standard
            errors include it; :class:`equilib.repeated.Repeated` finds it out by repeats.
        n_players: number of players n, from 1; by default `game.n_players`.
        budget: evaluations, at least n + 1 (at least 2**n for `exact`). All are used, unless the tolerance is
            met before or all 2**n coalitions are known; the empty coalition and that of all are evaluated once each.
        estimator: one of the names above.
        seed: 0 to 2**64 - 1. The same seed gives the same coalitions in the same order for every `batch_size`, library
            and executor; None draws one from the operating system's entropy.
        xp: array module of the coalitions and of the result; NumPy by default.
        device: device of `xp` for them; its default if None.
        batch_size: coalitions in a call of the game, at most; by default 2**22 // n, up to 2**26 // n by the memory of
            a CUDA device, and few enough to keep all workers of an executor busy.
        tolerance: stop as soon as no standard error exceeds it, and no value has moved by more than three tolerances
            since the last look. Looks are after 7 n (which stops nothing), 10 n, 15 n, 22.5 n ... evaluations (orders:
            32 times in the budget, from 10 orders, or 8 pairs, on, from 40 if all were alike), never depending on
            `batch_size`.
        executor: where to call the game, any `concurrent.futures.Executor`: at most 32 batches wait at a time; the game
            must be safe to call from several threads or, for processes, to pickle. Called here if None.
        start: an earlier estimate of the same game, to go on from: its evaluations count towards the budget, and the
            result has the law of one run of the whole budget. Orders go on from orders, what draws coalitions from
            what draws coalitions; `exact` takes what there is.
        on_progress: called with the evaluations and the standard errors so far, `(n,)` or `(k, n)`, at every look (see
            `tolerance`; coalitions are then drawn from look to look); `exact` tells infinite errors 32 times. If it
            returns False, no more is evaluated.

    Returns:
        ShapleyEstimate(values, standard_errors, n_evaluations, estimator, converged, evaluations, players); see there.

    Raises:
        ValueError: an argument breaks its rule above, or the game returns values of wrong shape or type, or not finite.
        Exception: whatever the game raises, with a note that names the batch.
        KeyboardInterrupt: the run was interrupted; the estimate from what was evaluated until then is the exception's
            attribute `estimate` (None before the first answers).

    Example:
        >>> from equilib.games import Glove
        >>> estimate = estimate_shapley(Glove(5, 20), 25, budget=2000, seed=0)
        >>> estimate.estimator, estimate.n_evaluations, estimate.values.shape
        ('adjusted-paired', 2000, (25,))
        >>> bool(abs(estimate.values - Glove(5, 20).shapley_values).max() < 0.02)
        True
        >>> print(estimate_shapley(Glove(1, 2), 3, budget=8))
        player  value ± error
             0     0.6667 ± 0
             1     0.1667 ± 0
             2     0.1667 ± 0
        exact, 8 evaluations, converged
    """
    if n_players is None:
        n_players = getattr(game, "n_players", None)
        if n_players is None:
            raise ValueError("n_players must be given for a game without an attribute n_players")
    n, budget = as_int(n_players, "n_players"), as_int(budget, "budget")
    _check_numbers(n, budget, estimator, batch_size)
    tolerance = _read_tolerance(tolerance)
    _check_calls(game, executor, on_progress)
    players = _read_players(game, n)
    known = _read_start(start, n, budget, estimator)
    xp = get_namespace(xp)
    rng = np.random.Generator(np.random.PCG64(_read_seed(seed, known)))
    evaluate = Evaluator(
        game,
        n,
        xp=xp,
        device=device,
        batch_size=batch_size,
        executor=executor,
        start=known.evaluations if known else None,
    )
    try:
        if not evaluate.count:
            evaluate(np.asarray([[False] * n, [True] * n]))
        empty, full = evaluate.record.matrix[:2]
        problem = Problem(evaluate, n, budget - 2, empty, full, rng, tolerance, on_progress)
        with np.errstate(over="ignore", invalid="ignore"):  # the report checks
            try:
                solution = ESTIMATORS[estimator].estimate(problem)
            except StoppedError:
                return _so_far(evaluate, estimator, xp, players)
            return _report(solution, problem, xp, players)
    except KeyboardInterrupt as stop:
        estimate = _so_far(evaluate, estimator, xp, players) if evaluate.count >= 2 else None
        stop.estimate = estimate  # type: ignore[attr-defined]
        raise


def _so_far(evaluate: Evaluator, estimator: str, xp: Namespace, players: tuple[str, ...] | None) -> ShapleyEstimate:
    """Estimate from what was evaluated until now, and nothing more."""
    drawn_alone = evaluate.record.drawn
    evaluate.stop()
    n, record = evaluate.n, evaluate.record
    empty, full = record.matrix[:2]
    rng = np.random.Generator(np.random.PCG64(len(record)))
    problem = Problem(evaluate, n, len(record) - 2, empty, full, rng, None)
    if len(record) < min(n + 1, 2**n if n < 63 else n + 1):
        values = np.broadcast_to(problem.fair[:, None], (len(problem.fair), n))
        solution = Solution(values, np.full(values.shape, np.inf), estimator, complete=False)
    else:
        drawn = "adjusted-unpaired" if estimator == "exact" else estimator
        if estimator == "auto":
            drawn = "adjusted" if drawn_alone else "permutation"
        with np.errstate(over="ignore", invalid="ignore"):
            solution = ESTIMATORS[drawn].estimate(problem)
    return _report(solution, problem, xp, players)


def _read_start(start: Any, n: int, budget: int, estimator: str) -> ShapleyEstimate | None:
    if start is None:
        return None
    if not isinstance(start, ShapleyEstimate):
        raise ValueError(f"start must be a ShapleyEstimate, got {type(start).__name__}")
    if start.evaluations.n != n:
        raise ValueError(f"start must be an estimate of {n} players, got one of {start.evaluations.n}")
    if budget < start.n_evaluations:
        raise ValueError(f"budget must be at least that of start, {start.n_evaluations}, got {budget}")
    if estimator == "exact":
        twice = len(start.evaluations) - len(np.unique(start.evaluations.coalitions, axis=0))
        if budget < 2**n + twice:
            raise ValueError(f"budget must be at least {2**n + twice}, as start holds coalitions twice, got {budget}")
    free = estimator in ("auto", "exact") or start.estimator == "exact"
    if not free and (estimator in ORDERS) != (start.estimator in ORDERS):
        raise ValueError(f"start must be of an estimator like {estimator!r}, got one of {start.estimator!r}")
    return start


def _read_seed(seed: Any, start: ShapleyEstimate | None) -> list[int]:
    """Make what a generator starts from: going on with the same seed must not draw the same again."""
    return [read_seed(seed), *([start.n_evaluations] if start is not None else [])]


def _read_players(game: Any, n: int) -> tuple[str, ...] | None:
    names = getattr(game, "players", None)
    if names is None:
        return None
    players = tuple(map(str, names))
    if len(players) != n:
        raise ValueError(f"game.players must be {n} names, got {len(players)}")
    return players


def _check_numbers(n: int, budget: int, estimator: str, batch_size: int | None) -> None:
    if n < 1:
        raise ValueError(f"n_players must be at least 1, got {n}")
    if budget < n + 1:
        raise ValueError(f"budget must be at least n_players + 1 = {n + 1}, got {budget}")
    if not isinstance(estimator, str) or estimator not in ESTIMATORS:
        raise ValueError(f"estimator must be one of {', '.join(ESTIMATORS)}, got {estimator!r}")
    if estimator == "exact" and (n > MAX_PLAYERS or 2**n > budget):
        number = f"{2**n}" if n <= MAX_PLAYERS else f"{2**MAX_PLAYERS} and n_players at most {MAX_PLAYERS}"
        raise ValueError(f"budget must be at least 2**n_players = {number} for estimator 'exact', got {budget}")
    if batch_size is not None and as_int(batch_size, "batch_size") < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")


def _read_tolerance(tolerance: Any) -> float | None:
    if tolerance is None:
        return None
    if isinstance(tolerance, bool) or not isinstance(tolerance, Real) or not 0 < float(tolerance) < math.inf:
        raise ValueError(f"tolerance must be a positive number, got {tolerance!r}")
    return float(tolerance)


def _check_calls(game: Any, executor: Any, on_progress: Any) -> None:
    if not callable(game):
        raise ValueError(f"game must be callable, got {type(game).__name__}")
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise ValueError(f"executor must have a submit method, got {type(executor).__name__}")
    if on_progress is not None and not callable(on_progress):
        raise ValueError(f"on_progress must be callable, got {type(on_progress).__name__}")


def _report(solution: Solution, problem: Problem, xp: Namespace, players: tuple[str, ...] | None) -> ShapleyEstimate:
    """Check a solution, and hand it over in the library and on the device of the game."""
    evaluate, values, errors = problem.evaluate, solution.values, solution.errors
    if np.isnan(errors).any() or not np.isfinite(values**2).all():
        raise ValueError("game must return values whose squares float64 can hold, got larger ones")
    converged = solution.complete if problem.tolerance is None else problem.reaches(errors)
    if evaluate.output_shape == ():
        values, errors = values[0], errors[0]
    # float64, as it was computed, wherever the library has it.
    dtype = xp.float64 if has_float64(xp, evaluate.device) else xp.float32
    values, errors = (
        xp.asarray(np.ascontiguousarray(x), dtype=dtype, device=evaluate.device) for x in (values, errors)
    )
    return ShapleyEstimate(values, errors, evaluate.count, solution.name, converged, evaluate.record.copy(), players)
