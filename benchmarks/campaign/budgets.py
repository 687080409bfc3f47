"""What the benchmarks of training share: data sets with their budgets, tuned options, and running a command."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from equilib_torch import InputError, TrainOptions, load_dataset
from equilib_torch.comparison.variants import Variant, read_variants
from equilib_torch.methods import METHODS
from equilib_torch.parameters import format_spec, split_spec

# Options of each data set, the same for all methods. The learning rates are those that late fusion and joint training
# chose on validation in these epochs. av-digits-sum has four times the samples of the other av-digits.
DATASETS: dict[str, dict[str, Any]] = {
    "av-digits-noisy": {"epochs": 10, "lr": 2e-3},
    "av-digits-pca": {"epochs": 10, "lr": 2e-3},
    "av-digits-sum": {"epochs": 6, "lr": 2e-3},
    "mfeat-small": {"epochs": 20, "lr": 8e-3},
    "mfeat": {"epochs": 20, "lr": 2e-3},
}
TUNED = Path(__file__).parent / "tuned.json"

Tuned = dict[str, dict[str, dict[str, float]]]  # data set -> variant -> option or parameter of the method -> value


def read_tuned(path: Path = TUNED) -> Tuned:
    """Read what `tune` chose; nothing if it has not run.

    Raises:
        InputError: the file is not of that form.
    """
    if not path.exists():
        return {}
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        return {
            dataset: {variant: dict(options) for variant, options in variants.items()}
            for dataset, variants in read.items()
        }
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(
            f"{path.name} must hold dataset, method, option and value, cannot be read ({error})"
        ) from error


def variants_for(dataset: str, texts: Sequence[str], tuned: Tuned) -> list[Variant]:
    """Read variants with the budget of a data set and, where they do not say otherwise, what was tuned for it.

    A variant that was not tuned itself gets what was tuned for its method.
    """
    common = TrainOptions(dataset=dataset, **DATASETS[dataset])
    tuned_here = tuned.get(dataset, {})
    variants = []
    for variant in read_variants(texts, common, load_dataset(dataset, seed=0)):
        method, *items = variant.name.split(":")
        said = {item.partition("=")[0] for item in items}
        changes = {
            name: value
            for name, value in tuned_here.get(variant.name, tuned_here.get(method, {})).items()
            if name not in said
        }
        parameters = {parameter.written for parameter in METHODS[method].parameters}
        written = split_spec(variant.options.method)[1] | {
            name: f"{value:g}" for name, value in changes.items() if name in parameters
        }
        others = {name: value for name, value in changes.items() if name not in parameters}
        options = replace(variant.options, method=format_spec(method, written), **others)
        variants.append(replace(variant, options=options))
    return variants


def choose_names(kind: str, wanted: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """Return the names wanted, or all.

    Raises:
        InputError: one is not known.
    """
    for name in wanted or ():
        if name not in known:
            raise InputError(f"{kind} must be of {', '.join(known)}, got {name!r}")
    return list(wanted or known)


def positive_integer(text: str) -> int:
    """Read a number from 1, for argparse."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def run_command(prog: str, argv: Sequence[str] | None, command: Callable[[], int]) -> int:
    """Run a command; 2 and one line for bad input, 130 and how to go on if interrupted."""
    try:
        return command()
    except (InputError, OSError) as error:
        print(f"{prog}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        again = shlex.join(["python", "-m", prog, *(sys.argv[1:] if argv is None else argv)])
        print(f"{prog}: interrupted; finished runs are kept, go on by: {again}", file=sys.stderr)
        return 130
