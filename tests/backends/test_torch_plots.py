"""Plots: what is drawn, and that no name of a modality can break them."""

from __future__ import annotations

from io import BytesIO

import pytest
from matplotlib.figure import Figure

from equilib_torch import plot_edm, plot_shares
from equilib_torch.runs.plots import balance_png


def history_of(names, epochs=3):
    return [
        {"epoch": e, "edm": 0.1 * e, "shares": {name: (k + e) / 10 for k, name in enumerate(names)}}
        for e in range(1, epochs + 1)
    ]


def test_shares_and_edm_are_drawn_as_recorded():
    history = history_of("ab")
    ax = plot_shares(history)
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert lines["a"].get_xydata().tolist() == [[1, 0.1], [2, 0.2], [3, 0.3]]
    assert lines["b"].get_ydata().tolist() == pytest.approx([0.2, 0.3, 0.4])
    assert list(lines["equilibrium"].get_ydata()) == [0.5, 0.5]
    assert plot_edm(history).get_lines()[0].get_ydata().tolist() == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize("plot", [plot_shares, plot_edm])
def test_plots_are_drawn_on_the_axes_given(plot):
    ax = Figure().subplots()
    assert plot(history_of("ab"), ax=ax) is ax
    assert ax.get_lines()
    assert ax.get_xlabel() == "epoch"


@pytest.mark.parametrize("names", [["a"], list("abcdefgh"), ["$\\frac$", "a_b^c"], ["<b>", "100 %"]], ids=str)
@pytest.mark.parametrize("epochs", [1, 30])
def test_any_run_can_be_drawn(names, epochs):
    png = balance_png(history_of(names, epochs))
    assert BytesIO(png).read(8) == b"\x89PNG\r\n\x1a\n"


def test_the_legend_shows_names_as_they_are():
    ax = plot_shares(history_of(["$x$", "_b"]))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["$x$", "_b", "equilibrium"]
    assert not any(text.get_parse_math() for text in ax.get_legend().get_texts())
