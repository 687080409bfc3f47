"""Plots of a run. Every function draws on the axes it is given, or on new ones, and returns them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

from equilib.plots import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_shares(history: Sequence[dict[str, Any]], ax: Axes | None = None) -> Axes:
    """Draw the contribution share of each modality over the epochs, in [0, 1].

    Args:
        history: records of `fit`, or the lines of a run's metrics.jsonl.
        ax: where to draw; default: a new figure's axes.
    """
    ax = ax if ax is not None else new_figure(7, 4).subplots()
    names = list(history[0]["shares"])
    for name in names:
        ax.plot(_epochs(history), [record["shares"][name] for record in history], marker="o", ms=3, label=name)
    ax.axhline(1 / len(names), color="0.5", lw=1, ls=":", label="equilibrium", zorder=0)
    ax.set(xlabel="epoch", ylabel="contribution share")
    ax.set_ylim(bottom=0)
    ax.locator_params(axis="x", integer=True)
    # Named one by one: left to itself, a legend leaves out what begins with "_".
    handles = ax.get_lines()[-len(names) - 1 :]
    legend = ax.legend(
        handles, [*names, "equilibrium"], fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # a modality may be called anything, "$\\frac$" too
    return ax


def plot_edm(history: Sequence[dict[str, Any]], ax: Axes | None = None) -> Axes:
    """Draw the equilibrium deviation over the epochs: 0 in equilibrium, 2(1 - 1/n) where one modality does everything.

    Args:
        history: records of `fit`, or the lines of a run's metrics.jsonl.
        ax: where to draw; default: a new figure's axes.
    """
    ax = ax if ax is not None else new_figure(7, 2.5).subplots()
    ax.plot(_epochs(history), [record["edm"] for record in history], color="black", marker="o", ms=3)
    ax.set(xlabel="epoch", ylabel="EDM")
    ax.set_ylim(bottom=0)
    ax.locator_params(axis="x", integer=True)
    return ax


def balance_png(history: Sequence[dict[str, Any]]) -> bytes:
    """Draw shares above EDM in one picture and give the bytes of a PNG file."""
    figure = new_figure(8, 5.5)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    plot_shares(history, upper).set(xlabel="", title="Balance of the modalities on validation")
    plot_edm(history, lower)
    return png(figure)


def png(figure: Figure) -> bytes:
    """Give the bytes of a PNG file of the figure."""
    buffer = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # fonts without a name's characters draw boxes for them
        figure.savefig(buffer, format="png", backend="agg", dpi=120)
    return buffer.getvalue()


def _epochs(history: Sequence[dict[str, Any]]) -> list[int]:
    return [record["epoch"] for record in history]
