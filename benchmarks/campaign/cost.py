"""What training costs: methods beside joint training, one after the other in one process, again and again.

python -m benchmarks.campaign.cost --output FILE [--rounds 3] [--updates 64]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch

from benchmarks.campaign.plan import OURS, RIVALS
from equilib_torch import Dataset, TrainOptions, fit, load_dataset
from equilib_torch.commands.ending import run_command
from equilib_torch.comparison.variants import read_variant
from equilib_torch.files import write_atomically

# av-digits-sum has the encoders of av-digits-noisy, and more samples: its ratios are the same.
DATASETS = ("av-digits-noisy", "av-digits-pca", "mfeat-small", "mfeat")
BASELINES = ("joint", "joint:fusion=memory")


def measure(dataset: Dataset, texts: Sequence[str], *, rounds: int, updates: int) -> dict[str, dict[str, float]]:
    """Time the updates of every variant, with one thread; medians of rounds in which each has its turn.

    Returns:
        By variant: `seconds` per update, and those relative to each baseline in the same round, by its name.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    taken: list[dict[str, float]] = []
    for _ in range(rounds):
        seconds = {}
        for text in texts:
            options = read_variant(text, TrainOptions(updates=updates, device="cpu")).options
            seconds[text] = fit(options, dataset).seconds["train"] / updates
        taken.append(seconds)
    torch.set_num_threads(threads)
    return {
        text: {
            "seconds": median(seconds[text] for seconds in taken),
            **{base: median(seconds[text] / seconds[base] for seconds in taken) for base in BASELINES},
        }
        for text in texts
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write; return the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.campaign.cost", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="JSON file that benchmarks.campaign.results reads")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--updates", type=int, default=64, help="of every run; default: 64")
    options = parser.parse_args(argv)

    def command() -> None:
        texts = list(dict.fromkeys([*BASELINES, *OURS, *RIVALS]))
        costs = {
            name: measure(load_dataset(name, seed=0), texts, rounds=options.rounds, updates=options.updates)
            for name in DATASETS
        }
        write_atomically(options.output, json.dumps(costs, indent=2).encode())

    return run_command("benchmarks.campaign.cost", command)


if __name__ == "__main__":
    raise SystemExit(main())
