"""Train twice on one data set, jointly and by equilib, and draw the README's picture from the two runs.

    python -m benchmarks.campaign.picture [--dataset mfeat] [--seed 0] [--write benchmarks/campaign/picture.png]

Both runs have the options of the plain command but for the method. The shares are means over all measurements on
validation; the accuracies are of the test part.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator, PercentFormatter
from PIL import Image

from equilib import edm, expected_when_missing
from equilib_torch import Run, TrainOptions, fit, load_dataset
from equilib_torch.commands.ending import run_command
from equilib_torch.files import write_atomically

PICTURE = Path(__file__).parent / "picture.png"
METHODS = {"joint": "usual training", "equilib": "equilib"}
COLOURS = {"joint": "#b6bcc4", "equilib": "#1f6fb4"}
ON_COLOURS = {"joint": "#24292f", "equilib": "white"}
ON_WHITE = {"joint": "#6b737c", "equilib": "#1f6fb4"}
RATES = np.linspace(0, 0.7, 15)
INK = "#24292f"


class Portrait(NamedTuple):
    """What the picture shows of one run.

    Attributes:
        shares: (n,) contribution shares, means over the measurements on validation.
        accuracies: (2ⁿ,) accuracy of every coalition on test.
    """

    shares: npt.NDArray[np.float64]
    accuracies: npt.NDArray[np.float64]


def portray(run: Run) -> Portrait:
    """Take from a run what the picture shows."""
    shares = [[record["shares"][name] for name in run.dataset.names] for record in run.history]
    return Portrait(np.mean(shares, axis=0), run.test.accuracies)


def draw_shares(ax: Axes, names: Sequence[str], portraits: dict[str, Portrait]) -> None:
    """Draw the share of every modality as a bar per method, the strongest of the first portrait on top."""
    order = np.argsort(next(iter(portraits.values())).shares)
    height = 0.8 / len(portraits)
    for k, (method, portrait) in enumerate(portraits.items()):
        shares = portrait.shares[order]
        positions = np.arange(len(names)) + 0.4 - height * (k + 0.5)
        bars = ax.barh(positions, shares, height, color=COLOURS[method], label=METHODS[method])
        ax.bar_label(bars, [f"{share:.0%}" for share in shares], padding=-26, fontsize=9, color=ON_COLOURS[method])
    equal, top = 1 / len(names), len(names) - 0.5
    ax.plot([equal, equal], [-0.5, top], color=INK, lw=1, ls=(0, (4, 3)), zorder=0)
    ax.text(equal, top, "equal shares", ha="center", va="bottom", fontsize=9, color=INK)
    ax.set_yticks(np.arange(len(names)), [names[k].replace("_", " ") for k in order])
    ax.set_xticks([])
    ax.set_xlim(0, 1.12 * max(portrait.shares.max() for portrait in portraits.values()))
    ax.legend(loc="lower right", borderaxespad=0, frameon=False, labelcolor=INK, handlelength=1, handleheight=1)
    ax.set_title("What each modality contributes", loc="left", pad=20, fontsize=12.5, fontweight="bold", color=INK)


def draw_missing(ax: Axes, portraits: dict[str, Portrait]) -> None:
    """Draw the expected accuracy against the chance that a modality is missing, a line per method."""
    for method, portrait in portraits.items():
        accuracy = [float(expected_when_missing(portrait.accuracies, rate)) for rate in RATES]
        ax.plot(RATES, accuracy, color=COLOURS[method], lw=3, solid_capstyle="round")
        ax.annotate(
            f"{METHODS[method]}\n{accuracy[-1]:.0%}",
            (RATES[-1], accuracy[-1]),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            color=ON_WHITE[method],
            fontweight="bold",
        )
    ax.set_xticks([0, 0.3, 0.5, 0.7], ["none", "30%", "50%", "70%"])
    ax.yaxis.set_major_locator(MultipleLocator(0.05))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.grid(axis="y", color="#e4e7eb")
    ax.set_xlabel("chance of each modality to be missing", color=INK)
    ax.set_title(
        "Accuracy when modalities are missing", loc="left", pad=20, fontsize=12.5, fontweight="bold", color=INK
    )


def draw(names: Sequence[str], portraits: dict[str, Portrait]) -> bytes:
    """Draw both sides, as the bytes of a PNG file."""
    figure = Figure(figsize=(9.6, 3.9), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1, wspace=0.08)  # type: ignore[union-attr] - just chosen
    left, right = figure.subplots(1, 2)
    draw_shares(left, names, portraits)
    draw_missing(right, portraits)
    for ax in (left, right):
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0, labelcolor=INK)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    smaller = BytesIO()
    Image.open(buffer).convert("RGB").quantize(64).save(smaller, format="png", optimize=True)
    return smaller.getvalue()


def describe(portraits: dict[str, Portrait]) -> str:
    """Say in a line per method what the picture shows."""
    lines = []
    for method, portrait in portraits.items():
        missing = ", ".join(
            f"{rate:.0%} missing {float(expected_when_missing(portrait.accuracies, rate)):.3f}" for rate in (0.5, 0.7)
        )
        lines.append(
            f"{method}: accuracy {portrait.accuracies[-1]:.3f}, {missing}; shares {portrait.shares.min():.2f} to "
            f"{portrait.shares.max():.2f}, EDM of the mean shares {float(edm(portrait.shares)):.2f}"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Train, draw and write; return the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.campaign.picture", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dataset", default="mfeat", help="name of a bundled data set, or a path; default: mfeat")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--write", type=Path, default=PICTURE, help="default: benchmarks/campaign/picture.png")
    arguments = parser.parse_args(argv)

    def command() -> None:
        dataset = load_dataset(arguments.dataset, seed=arguments.seed)
        options = {m: TrainOptions(dataset=arguments.dataset, method=m, seed=arguments.seed) for m in METHODS}
        portraits = {method: portray(fit(o, dataset, progress=True)) for method, o in options.items()}
        write_atomically(arguments.write, draw(dataset.names, portraits))
        print(f"{describe(portraits)}\nwritten to {arguments.write}")

    return run_command("benchmarks.campaign.picture", command)


if __name__ == "__main__":
    sys.exit(main())
