"""The public data sets, read as users have them on disk: a short module each, listed in `PUBLIC`.

A module's `read` lists the samples of a folder as a table; what reads tables does the rest, so that decoding, cache and
the treatment of files that are missing are the same as for a user's own table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from equilib_torch.data.dataset import Dataset
from equilib_torch.data.public import crema_d, food_101, kinetics_sounds, mvsa_single
from equilib_torch.data.public.layout import PublicTable
from equilib_torch.errors import InputError
from equilib_torch.parameters import Parameter, read_parameters, split_spec
from equilib_torch.registry import Registry


@dataclass(frozen=True)
class PublicDataset:
    """A public data set by name.

    Attributes:
        name: for `--dataset`.
        description: one line on what it holds.
        read: lists the samples in a folder, given the parameters.
        parameters: that can be set behind its name, such as crema-d:split=speaker.
        defaults: options of training that suit it, by field of `TrainOptions`; what a user gives wins.
    """

    name: str
    description: str
    read: Callable[..., PublicTable]
    parameters: tuple[Parameter, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)


_AUDIO_VISUAL = {"method": "paper", "encoder": ["video=resnet18", "audio=resnet18"], "lr": 1e-3}

PUBLIC = Registry(
    "dataset",
    [
        PublicDataset(
            "crema-d",
            "faces and voices, 6 emotions, 7,442 clips (needs --data-root; crema-d:split=speaker keeps speakers apart)",
            crema_d.read,
            (
                Parameter(
                    "split",
                    str,
                    "public",
                    "parts: as published, or such that share no speaker",
                    choices=("public", "speaker"),
                ),
            ),
            _AUDIO_VISUAL,
        ),
        PublicDataset(
            "kinetics-sounds",
            "actions seen and heard, about 31 classes, 17,000 clips (needs --data-root)",
            kinetics_sounds.read,
            tuple(
                Parameter(part, str, None, f"list of the {part} part, below data-root; none: found by its name")
                for part in ("train", "val", "test")
            ),
            _AUDIO_VISUAL,
        ),
        PublicDataset(
            "food-101",
            "UPMC Food-101: pictures and titles of recipes, 101 dishes, 90,000 pairs (needs --data-root)",
            food_101.read,
            defaults={"method": "paper", "encoder": ["image=resnet18"], "lr": 1e-3},
        ),
        PublicDataset(
            "mvsa-single",
            "tweets and their pictures, 3 sentiments, 4,500 pairs (needs --data-root)",
            mvsa_single.read,
            (
                Parameter(
                    "labels",
                    str,
                    "merged",
                    "of text and picture: merged, where one is neutral; or equal ones only",
                    choices=mvsa_single.RULES,
                ),
            ),
            {"method": "paper", "encoder": ["image=resnet18"], "lr": 1e-3},
        ),
    ],
)
"""Every public data set by name."""


def find_public(source: object) -> PublicDataset | None:
    """Give the public set that is meant by NAME or NAME:parameter=value:…, if any is.

    Example:
        >>> find_public("crema-d:split=speaker").name
        'crema-d'
        >>> find_public("mine.csv") is None
        True
    """
    return PUBLIC.get(source.partition(":")[0]) if isinstance(source, str) else None


def read_public(source: str, root: Path | None) -> PublicTable:
    """List the samples of a public set.

    Args:
        source: NAME or NAME:parameter=value:….
        root: the folder it is in.

    Raises:
        InputError: an unknown parameter, no folder, or not the layout, in which case it says what was looked for.
    """
    name, written = split_spec(source)
    entry = PUBLIC.find(name)
    parameters = read_parameters(f"dataset {name}", entry.parameters, written)
    if root is None:
        raise InputError(f"{name} is not bundled: say where it is by --data-root DIR; the guide shows its layout")
    if not root.is_dir():
        raise InputError(f"data-root must be a folder, got {str(root)!r}")
    try:
        return entry.read(root, **parameters)
    except OSError as error:
        raise InputError(f"{name} in {str(root)!r}: cannot be read ({error})") from error
    except InputError as error:
        raise InputError(f"{name} in {str(root)!r}: {error}") from error.__cause__


def in_order(dataset: Dataset, classes: tuple[str, ...] | None) -> Dataset:
    """Number the classes of a data set in an order of their own; those that do not occur are left out."""
    if classes is None:
        return dataset
    known = [name for name in classes if name in dataset.classes]
    order = [dataset.classes.index(name) for name in known]
    return replace(dataset, classes=tuple(known), labels=np.argsort(order)[dataset.labels])
