"""The benchmark beside other libraries: what it runs, keeps, leaves out and says."""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import pytest

from benchmarks import peers
from benchmarks.approximators import Approximator, approximators
from benchmarks.cells import fill, read
from benchmarks.tables import report
from equilib.games import Additive

GAMES = {"one": Additive((1.0, 2.0, 3.0, 4.0, 0.0, 2.0)), "two": Additive((1.0,) * 7)}


def off_by(share, name, package="other"):
    """Ask the game for half the budget, and be wrong by a share of the values' root mean square."""
    asked = []

    def approximate(game, budget, seed):
        asked.append((game.n_players, budget, seed))
        game(np.zeros((budget // 2, game.n_players), dtype=bool))
        return game.shapley_values + share * np.sqrt(np.mean(game.shapley_values**2))

    return Approximator(package, "1.0", name, approximate), asked


def refuse(game, budget, seed):
    raise RuntimeError("no")


def test_runs_are_measured_and_done_once(tmp_path):
    path = tmp_path / "runs.jsonl"
    method, asked = off_by(0.1, "tenth")
    first = list(fill(path, [method], GAMES, [2, 4], 2))
    assert asked == [(6, 12, 0), (6, 12, 1), (6, 24, 0), (6, 24, 1), (7, 14, 0), (7, 14, 1), (7, 28, 0), (7, 28, 1)]
    assert [run["evaluations"] for run in first] == [6, 6, 12, 12, 7, 7, 14, 14]
    assert [run["error"] for run in first] == pytest.approx([0.01] * 8)
    assert list(fill(path, [method], GAMES, [2, 4], 2)) == first == read([path])
    assert len(asked) == 8


def test_budgets_of_half_the_coalitions_are_left_out():
    method, asked = off_by(0.1, "tenth")
    list(fill(None, [method], GAMES, [5, 6, 9, 10], 1))
    assert asked == [(6, 30, 0), (7, 35, 0), (7, 42, 0), (7, 63, 0)]


def test_a_line_cut_off_is_run_again(tmp_path):
    path = tmp_path / "runs.jsonl"
    method, asked = off_by(0.1, "tenth")
    list(fill(path, [method], {"one": GAMES["one"]}, [2], 3))
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    assert len(list(fill(path, [method], {"one": GAMES["one"]}, [2], 3))) == 3
    assert asked[3:] == [(6, 12, 2)]
    assert [run["seed"] for run in read([path])] == [0, 1, 2]


def test_patience_ends_a_cell_not_the_benchmark():
    slow = Approximator("other", "1.0", "slow", lambda game, budget, seed: time.sleep(0.01) or game.shapley_values)
    runs = fill(None, [slow], GAMES, [2], 5, patience=0.001)
    assert [(run["game"], run["seed"]) for run in runs] == [("one", 0), ("two", 0)]


def test_what_fails_is_a_result(tmp_path):
    nan = Approximator("other", "1.0", "nan", lambda game, budget, seed: [np.nan] * game.n_players)
    raising = Approximator("other", "1.0", "raising", refuse)
    runs = list(fill(tmp_path / "runs.jsonl", [nan, raising], {"one": GAMES["one"]}, [2], 2))
    assert [run["failed"] for run in runs] == ["values that are not finite"] * 2 + ["RuntimeError: no"] * 2
    assert {run["error"] for run in runs} == {None}
    said = report(read([tmp_path / "runs.jsonl"]))
    assert "| one, 6, 2n | failed | failed |" in said
    assert "- other raising: RuntimeError: no (one 2n seed 0, one 2n seed 1)" in said


def test_other_games_of_the_same_name_are_refused(tmp_path):
    method, _ = off_by(0.1, "tenth")
    for name, game in ("a", GAMES["one"]), ("b", Additive((2.0,) * 6)):
        list(fill(tmp_path / name, [method], {"game": game}, [2], 1))
    with pytest.raises(ValueError, match="game is not the game of the other runs"):
        read([tmp_path / "a", tmp_path / "b"])


def test_our_errors_are_compared_cell_by_cell():
    methods = [off_by(0.1, "good")[0], off_by(0.3, "bad")[0], off_by(0.2, "auto", "equilib")[0]]
    runs = list(fill(None, methods, GAMES, [2], 2))
    exact = off_by(0.0, "exact")[0]
    runs += fill(None, [exact], {"two": GAMES["two"]}, [2], 2)
    said = report(runs)
    assert "| one, 6, 2n | 0.01 (0 %, 2) | 0.09 (0 %, 2) | 0.04 (0 %, 2) | – |" in said
    assert "| other good 1.0 | 50 to 50 |" in said
    assert "| other good 1.0 | 4, at worst 4; 0 of 2 |" in said
    assert "| other bad 1.0 | 0.444, at worst 0.444; 2 of 2 |" in said
    assert "| one 2n | 4 | other good 1.0 | 0.01 |" in said
    assert "| two 2n | 4e+10 | other exact 1.0 | 0 |" in said
    assert "| the best peer of each cell | 4e+05, at worst 4e+10; 0 of 2 |" in said


def test_cells_that_ours_are_exact_in_do_not_decide_the_mean():
    class Half(Additive):
        """Where ours are wrong by half."""

    games = {"one": GAMES["one"], "half": Half((1.0, 2.0, 3.0, 4.0, 5.0, 6.0))}
    auto = Approximator(
        "equilib", "1.0", "auto", lambda game, _, seed: game.shapley_values * (1 + isinstance(game.game, Half) / 2)
    )
    runs = list(fill(None, [off_by(0.0, "exact")[0], off_by(1.0, "bad")[0], auto], games, [2], 1))
    said = report(runs)
    assert "| other bad 1.0 | 0.25, at worst 0.25; 2 of 2 |" in said
    assert "| other exact 1.0 | 2.5e+11, at worst 2.5e+11; 0 and 1 equal of 2 |" in said


def test_errors_say_how_much_they_differ_between_seeds():
    worse = Approximator(
        "other", "1.0", "worse", lambda game, budget, seed: game.shapley_values + np.sqrt([1.0, 3.0][seed])
    )
    assert "| two, 7, 2n | 2 (50 %, 2) |" in report(list(fill(None, [worse], {"two": GAMES["two"]}, [2], 2)))
    assert "| two, 7, 2n | 1 (1) |" in report(list(fill(None, [worse], {"two": GAMES["two"]}, [2], 1)))


def test_command_fills_a_file_and_prints_it(tmp_path, monkeypatch, capsys):
    path = tmp_path / "runs.jsonl"
    command = ["peers", "--only", "kernel", "--budgets", "10", "--seeds", "1"]
    monkeypatch.setattr(sys, "argv", [*command, "--results", str(path), "--games", "graph", "soug"])
    assert peers.main() == 0
    assert [json.loads(line)["game"] for line in path.read_text(encoding="utf-8").splitlines()] == ["graph", "soug"]
    monkeypatch.setattr(sys, "argv", ["peers", "--table", str(path), "--games", "nine"])
    capsys.readouterr()
    assert peers.main() == 0
    printed = capsys.readouterr().out
    assert "| soug, 30, 10n |" in printed
    assert "graph" not in printed
    assert "| equilib kernel" in printed


@pytest.mark.parametrize("arguments", [["--games", "chess"], ["--table", "nowhere.jsonl"]])
def test_command_refuses_in_one_line(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["peers", *arguments])
    assert peers.main() == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert arguments[1] in said


def test_ours_are_there_without_any_peer():
    assert {"auto", "boosted", "kernel"} <= {one.name for one in approximators([]) if one.package == "equilib"}
