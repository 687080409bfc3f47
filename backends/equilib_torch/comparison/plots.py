"""Plots of a comparison. Every function draws on the axes it is given, or on new ones, and returns them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from equilib.plots import new_figure
from equilib_torch.comparison.outcomes import Outcome
from equilib_torch.comparison.statistics import mean_sd, spearman
from equilib_torch.runs.plots import png
from equilib_torch.runs.summary import MISSING_RATES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

_MARKERS = "osD^vP*X<>phd"
_COLUMNS = 4


def plot_accuracy_edm(outcomes: Sequence[Outcome], variants: Sequence[str], ax: Axes | None = None) -> Axes:
    """Draw a point per run: EDM against accuracy on test, with their rank correlation in the title.

    Args:
        outcomes: of the runs; those that failed are left out.
        variants: names in the order of the legend.
        ax: where to draw; default: a new figure's axes.
    """
    ax = ax if ax is not None else new_figure(7, 4.5).subplots()
    done = [(o.variant, o.summary) for o in outcomes if o.summary is not None]
    for k, name in enumerate(variants):
        points = [(summary["edm"], summary["test_accuracy"]) for variant, summary in done if variant == name]
        if points:
            ax.plot(*zip(*points, strict=True), ls="", alpha=0.85, label=name, **_style(k))
    rho, p = spearman([s["edm"] for _, s in done], [s["test_accuracy"] for _, s in done])
    correlation = "not defined" if np.isnan(rho) else f"{rho:.2f}, p {'< 0.001' if p < 0.0005 else f'= {p:.3f}'}"
    ax.set(xlabel="EDM (0: in equilibrium)", ylabel="test accuracy")
    ax.set_title(f"Spearman's ρ: {correlation}, {len(done)} runs", fontsize="medium")
    ax.grid(alpha=0.3)
    _legend(ax)
    return ax


def plot_accuracy_missing(outcomes: Sequence[Outcome], variants: Sequence[str], ax: Axes | None = None) -> Axes:
    """Draw the expected accuracy of each variant against the rate of missing modalities: mean and sd over seeds.

    Args:
        outcomes: of the runs; those that failed are left out.
        variants: names in the order of the legend.
        ax: where to draw; default: a new figure's axes.
    """
    ax = ax if ax is not None else new_figure(7, 4.5).subplots()
    rates = [0.0, *MISSING_RATES]
    for k, name in enumerate(variants):
        summaries = [o.summary for o in outcomes if o.variant == name and o.summary is not None]
        if not summaries:
            continue
        values = [[s["test_accuracy"], *s["missing_modality"].values()] for s in summaries]
        means, sds = np.array([mean_sd(accuracies) for accuracies in zip(*values, strict=True)]).T
        # Beside each other, or the bars of many variants would hide each other.
        shift = min(0.007, 0.12 / len(variants)) * (k - (len(variants) - 1) / 2)
        style = _style(k)
        ax.errorbar(np.array(rates) + shift, means, np.nan_to_num(sds), lw=0.8, elinewidth=0.8, label=name, **style)
    ax.set(xlabel="probability of a modality to be missing", ylabel="expected test accuracy, mean ± sd over seeds")
    ax.set_xticks(rates)
    ax.grid(alpha=0.3)
    _legend(ax)
    return ax


def plot_mean_shares(histories: Sequence[Sequence[dict[str, Any]]], ax: Axes | None = None) -> Axes:
    """Draw the contribution share of each modality over the epochs on validation, the mean of several runs.

    Args:
        histories: records of each run, all of the same modalities and number of epochs.
        ax: where to draw; default: a new figure's axes.
    """
    ax = ax if ax is not None else new_figure(4, 3).subplots()
    names = list(histories[0][0]["shares"])
    epochs = [record["epoch"] for record in histories[0]]
    for name in names:
        shares = [[record["shares"][name] for record in history] for history in histories]
        ax.plot(epochs, np.mean(shares, axis=0), label=name, lw=1.5)
    ax.axhline(1 / len(names), color="0.5", lw=1, ls=":", zorder=0)
    ax.set(xlim=(min(epochs) - 0.5, max(epochs) + 0.5), ylim=(0, None))
    ax.locator_params(axis="x", integer=True)
    return ax


def accuracy_edm_png(outcomes: Sequence[Outcome], variants: Sequence[str]) -> bytes:
    """Draw the scatter of all runs and give the bytes of a PNG file."""
    figure = _figure(len(variants))
    plot_accuracy_edm(outcomes, variants, figure.subplots())
    return png(figure)


def accuracy_missing_png(outcomes: Sequence[Outcome], variants: Sequence[str]) -> bytes:
    """Draw accuracy against missing rate and give the bytes of a PNG file."""
    figure = _figure(len(variants))
    plot_accuracy_missing(outcomes, variants, figure.subplots())
    return png(figure)


def shares_png(outcomes: Sequence[Outcome], variants: Sequence[str]) -> bytes:
    """Draw shares over the epochs, a small picture for every variant, and give the bytes of a PNG file."""
    histories = {name: [o.history for o in outcomes if o.variant == name and o.history] for name in variants}
    shown = [name for name in variants if histories[name]]
    columns = min(_COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure = new_figure(2.6 * columns + 1.6, 2.1 * rows + 0.7)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for ax, name in zip(grid, shown, strict=False):
        plot_mean_shares(histories[name], ax).set_title(name, fontsize="small")
    highest = max(np.max(np.asarray(line.get_ydata())) for ax in grid for line in ax.get_lines())
    grid[0].set_ylim(0, 1.05 * highest)  # of all, which share it
    for ax in grid[len(shown) :]:
        ax.set_visible(False)
    figure.supxlabel("epoch", fontsize="medium")
    figure.supylabel("contribution share, mean over seeds", fontsize="medium")
    lines = grid[0].get_lines()
    names = list(histories[shown[0]][0][0]["shares"])
    _as_written(
        figure.legend(lines, [*names, "equilibrium"], loc="outside right upper", fontsize="small", frameon=False)
    )
    return png(figure)


def _figure(n_variants: int) -> Figure:
    return new_figure(8.5, max(4.5, 0.22 * n_variants + 1))


def _style(k: int) -> dict[str, Any]:
    from matplotlib import colormaps

    listed = colormaps["tab20"].colors  # type: ignore[attr-defined]  # pairs of a dark and a light one
    colours = [*listed[::2], *listed[1::2]]
    return {"color": colours[k % len(colours)], "marker": _MARKERS[k % len(_MARKERS)], "ms": 5}


def _legend(ax: Axes) -> None:
    handles, names = ax.get_legend_handles_labels()
    _as_written(
        ax.legend(handles, names, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    )


def _as_written(legend: Legend) -> None:
    for text in legend.get_texts():
        text.set_parse_math(False)  # a modality may be called anything, "$\\frac$" too
