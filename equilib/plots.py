"""Pictures of an audit. Every function draws on the axes it is given, or on new ones, and returns them.

matplotlib (the extra `[plot]`) is imported when one is called.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from equilib.audit import Audit
from equilib.findings import fixed
from equilib.uncertainty import half_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POSITIVE, _NEGATIVE = "#2a6f97", "#bc4749"


def plot_contributions(result: Audit, ax: Axes | None = None) -> Axes:
    """Draw what each modality contributes, with 95 % intervals, in the unit of the score; strongest first.

    Args:
        result: what :func:`equilib.audit` found.
        ax: where to draw; default: a new figure's axes.
    """
    names, order = result.modalities, np.argsort(-result.shapley, kind="stable")
    ax = ax if ax is not None else new_figure(6, 1.2 + 0.45 * len(names)).subplots()
    values = result.shapley[order]
    reach = half_width(result.shapley_errors[order], result.contributions.degrees)
    places = np.arange(len(names))
    ax.barh(
        places,
        values,
        xerr=np.where(np.isfinite(reach), reach, 0.0),
        color=[_POSITIVE if value >= 0 else _NEGATIVE for value in values],
        error_kw={"ecolor": "0.25", "capsize": 3, "lw": 1.2},
        height=0.65,
    )
    ax.axvline(0, color="0.25", lw=0.8)
    if result.contributions.is_learned and len(names) > 1:
        equal = result.contributions.total / len(names)
        ax.axvline(equal, color="0.5", lw=1, ls=":", zorder=0)
        ax.text(equal, 1, "equal", transform=ax.get_xaxis_transform(), ha="center", va="bottom", color="0.4", size=8)
    ax.set_yticks(places, [names[k] for k in order])
    ax.invert_yaxis()
    ax.set_xlabel(f"contribution to {result.score} (95 % intervals, {result.n_samples:,} samples)")
    return _finish(ax)


def plot_missing(result: Audit, ax: Axes | None = None) -> Axes:
    """Draw the score to expect when modalities go missing at random, with 95 % intervals, beside that of none.

    Args:
        result: what :func:`equilib.audit` found, from a complete table.
        ax: where to draw; default: a new figure's axes.

    Raises:
        ValueError: the audit drew coalitions, so that it has no table.
    """
    if not result.missing:
        raise ValueError("result must come from a complete table of coalitions, got one of drawn coalitions")
    ax = ax if ax is not None else new_figure(5, 3.4).subplots()
    rates = [0.0, *result.missing]
    values = [result.value_of_all, *result.missing.values()]
    reach = half_width(np.asarray([result.error_of_all, *result.missing_errors.values()]), result.contributions.degrees)
    ax.errorbar(rates, values, yerr=reach, marker="o", color=_POSITIVE, ecolor="0.25", capsize=3, lw=1.5)
    ax.axhline(result.value_of_none, color="0.5", lw=1, ls=":")
    across, none = ax.get_yaxis_transform(), result.value_of_none
    ax.text(1, none, "no modality", transform=across, ha="right", va="bottom", color="0.4", size=8)
    ax.set_xticks(rates, ["none" if rate == 0 else f"{rate:.0%}" for rate in rates])
    ax.set(xlabel="each modality missing", ylabel=f"expected {result.score}")
    ax.margins(x=0.06, y=0.12)
    return _finish(ax)


def plot_interactions(result: Audit, ax: Axes | None = None) -> Axes:
    """Draw the interactions as a matrix: blue where two modalities need each other, red where one replaces the other.

    Args:
        result: what :func:`equilib.audit` found, from a complete table.
        ax: where to draw; default: a new figure's axes.

    Raises:
        ValueError: the audit drew coalitions, so that it has no interactions.
    """
    if result.interactions is None or result.interaction_errors is None:
        raise ValueError("result must come from a complete table of coalitions, got one of drawn coalitions")
    names, matrix = result.modalities, result.interactions
    n = len(names)
    ax = ax if ax is not None else new_figure(2.6 + 0.75 * n, 1.6 + 0.7 * n).subplots()
    limit = float(np.abs(matrix).max()) or 1.0
    image = ax.imshow(matrix, cmap="RdBu", vmin=-limit, vmax=limit)
    for row in range(n):
        for column in range(n):
            value = float(matrix[row, column])
            dark = abs(value) > 0.6 * limit
            written, colour = fixed(value, 3 if limit < 0.1 else 2), "white" if dark else "0.15"
            ax.text(column, row, written, ha="center", va="center", size=9, color=colour)
    ax.set_xticks(range(n), names, rotation=30, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(n), names)
    ax.set_title("rows add up to the contributions", size=9, color="0.4")
    figure = ax.get_figure(root=True)
    if figure is not None:
        bar = figure.colorbar(image, ax=ax, fraction=0.046)
        bar.set_label(f"redundant  ←  {result.score}  →  complementary", size=8)
    for text in (*ax.get_xticklabels(), *ax.get_yticklabels()):
        text.set_parse_math(False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return ax


def new_figure(width: float, height: float) -> Figure:
    """Make a figure of so many inches that belongs to no window."""
    # A notebook's MPLBACKEND names a module that this environment may lack, which importing matplotlib would refuse.
    named = os.environ.pop("MPLBACKEND", None) if "matplotlib" not in sys.modules else None
    try:
        import matplotlib
        from matplotlib.figure import Figure
    finally:
        if named is not None:
            os.environ["MPLBACKEND"] = named
    if named is not None:
        with suppress(ValueError):
            matplotlib.rcParams["backend"] = named  # as the import would have done, for those who draw in windows
    return Figure(figsize=(width, height), layout="constrained")


def _finish(ax: Axes) -> Axes:
    """Take away what says nothing, and show names as they are: a modality may be called anything, "$x$" too."""
    ax.spines[["top", "right"]].set_visible(False)
    for text in (*ax.get_yticklabels(), *ax.get_xticklabels()):
        text.set_parse_math(False)
    for label in (ax.xaxis.label, ax.yaxis.label):
        label.set_parse_math(False)
    return ax
