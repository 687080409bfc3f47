"""What the campaign trains: experiments, each a list of runs (data set, variant, seed)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks.campaign.sets import BUNDLED
from equilib_torch.methods import METHODS

DEFAULT = "equilib"
OURS = ("equilib", "equilib:rule=simultaneous", "alternating", "paper")
"""Ours and the paper's form; all others are rivals, whatever their fusion."""

RIVALS = (
    "joint",
    "joint:fusion=memory",
    "joint:fusion=masked-transformer",
    "joint-unimodal",
    "late-fusion",
    "late-fusion:stack=true",
    "mla",
    "modality-dropout",
    "pretrained-late-fusion",
)
OTHERS = ("dgl", "aug", "data-remixing", "ogm-ge", "agm", "pmr", "g-blending", "reconboost", "mmpareto")
REFERENCE = f"{DEFAULT}:lr=0.009"
"""The default at the learning rate that tuning chose for it: what orders and ablations are held against."""

AS_PLANNED = (REFERENCE, f"{DEFAULT}:rule=simultaneous:lr=0.001")
"""Ours with the learning rates that tuning chose, as for the rivals: the comparison as it was planned."""

PLAIN_RATE = 3e-3


def at_plain_rate(variant: str) -> str:
    """Name a variant at the learning rate of the plain command.

    Example:
        >>> at_plain_rate("joint:fusion=memory")
        'joint:fusion=memory:lr=0.003'
    """
    return f"{variant}:lr={PLAIN_RATE:g}"


PLAIN = (*OURS[:2], *map(at_plain_rate, (*OURS[2:], *RIVALS)))
"""All methods at the product's default learning rate, which nobody's tuning chose: what each gives as it comes."""

ORDERS = ("policy=strong-to-weak", "policy=random")
CHANGES = (
    "updates=200",
    "stack=false",
    "coalitions=false",
    "own=false",
    "memory-freeze=1",
    "keep=best",
    "fusion=sum",
    "memory-mapping=none",
    "memory-mapping=both",
    "memory-inherit=false",
)


def changed(option: str) -> str:
    """Name the reference with one option changed.

    Example:
        >>> changed("stack=false")
        'equilib:stack=false:lr=0.009'
    """
    return REFERENCE.replace(":", f":{option}:")


ABLATIONS = (f"{DEFAULT}:lr=0.001", *map(changed, CHANGES))
ABLATED = ("cells", "leaves", "mfeat-small", "digits_halves")
BUDGETS: dict[str, dict[str, int]] = {"av-digits-sum": {"epochs": 8}}
"""Of all methods alike, where the default is more than this campaign could spend: 1,024 updates instead of 2,560."""

TUNED_ON = "mfeat-small"
LEARNING_RATES = (1e-3, 3e-3, 9e-3)
TUNING_SEEDS = (100, 101)


class Job(NamedTuple):
    """One run.

    Attributes:
        experiment: what it is for.
        dataset: name of the data set.
        variant: METHOD:name=value:…, or `only:MODALITY` for a ceiling.
        seed: of the run.
    """

    experiment: str
    dataset: str
    variant: str
    seed: int


def jobs(
    experiments: Sequence[str], datasets: Sequence[str], modalities: dict[str, tuple[str, ...]], n_seeds: int
) -> Iterator[Job]:
    """List the runs of some experiments; a run that two experiments share is listed once, under the first.

    Args:
        experiments: of `EXPERIMENTS`.
        datasets: names of data sets.
        modalities: names of the modalities of each.
        n_seeds: seeds of the table; the others follow from it.
    """
    seen: set[tuple[str, str, int]] = set()
    for experiment in experiments:
        for dataset, variant, seed in _runs(experiment, datasets, modalities, n_seeds):
            if (dataset, variant, seed) not in seen:
                seen.add((dataset, variant, seed))
                yield Job(experiment, dataset, variant, seed)


EXPERIMENTS = ("table", "plain", "order", "ablation", "others", "ceiling")
"""All but `tuning`, which comes first and on its own, for its choice is the learning rate of all others; and
`parameters`, which tries the values that methods declare."""


def _runs(
    experiment: str, datasets: Sequence[str], modalities: dict[str, tuple[str, ...]], n_seeds: int
) -> Iterator[tuple[str, str, int]]:
    small = [name for name in datasets if name not in BUNDLED]
    if experiment == "tuning":
        for seed in TUNING_SEEDS:
            for variant in dict.fromkeys([*OURS, *RIVALS, *OTHERS]):
                yield from ((TUNED_ON, f"{variant}:lr={lr:g}", seed) for lr in LEARNING_RATES)
    elif experiment == "parameters":
        for name, method in METHODS.items():
            for parameter in method.parameters:
                values = (parameter.default, *parameter.trials) if parameter.trials else ()
                yield from (
                    (TUNED_ON, f"{name}:{parameter.written}={value:g}", seed)
                    for value in values
                    for seed in TUNING_SEEDS
                )
    elif experiment == "table":
        for seed in range(n_seeds):
            yield from ((name, variant, seed) for name in datasets for variant in (*OURS, *RIVALS))
    elif experiment == "plain":
        for seed in range(n_seeds):
            yield from ((name, variant, seed) for name in datasets for variant in PLAIN)
    elif experiment == "order":
        for seed in range(2 * n_seeds):
            for name in small:
                yield from ((name, variant, seed) for variant in (REFERENCE, *map(changed, ORDERS)))
    elif experiment == "ablation":
        for seed in range(min(3, n_seeds)):
            for name in (name for name in datasets if name in ABLATED):
                yield from ((name, variant, seed) for variant in (REFERENCE, *ABLATIONS))
    elif experiment == "others":
        for seed in range(min(3, n_seeds)):
            yield from ((name, variant, seed) for name in small for variant in OTHERS)
    elif experiment == "ceiling":
        for seed in range(min(3, n_seeds)):
            yield from ((name, f"only:{modality}", seed) for name in datasets for modality in modalities[name])
