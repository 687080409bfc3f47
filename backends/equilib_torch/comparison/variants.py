"""What is compared: variants of training, METHOD:name=value:…, a name being a parameter or an option of a run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from urllib.parse import quote, unquote

import torch

from equilib_torch.data import Dataset
from equilib_torch.errors import InputError
from equilib_torch.methods import METHODS, Losses, Setting, Update
from equilib_torch.network import MultimodalNetwork
from equilib_torch.parameters import format_spec
from equilib_torch.training.arguments import parse_options
from equilib_torch.training.options import TrainOptions
from equilib_torch.training.state import check

OURS = tuple(name for name, method in METHODS.items() if method.ours)
"""Methods of this project; all others count as rivals."""

_OF_ALL = ("backend", "dataset", "method", "seed", "output")  # the same for all variants, or said elsewhere
_FREE = {f.name.replace("_", "-") for f in fields(TrainOptions) if f.name not in _OF_ALL}


@dataclass(frozen=True)
class Variant:
    """A way of training, to be run with several seeds.

    Attributes:
        name: how it is called in tables and, as `slug`, in directories.
        options: of its runs; their seed and output are set run by run.
    """

    name: str
    options: TrainOptions

    @property
    def slug(self) -> str:
        """The name of its directory, from which `name_of` makes the variant's name again."""
        return quote(self.name.replace(":", ","), safe=",=+")


def name_of(slug: str) -> str:
    """The name of the variant whose runs are in a directory of this name.

    Example:
        >>> name_of("joint,fusion=memory")
        'joint:fusion=memory'
    """
    return unquote(slug).replace(",", ":")


def default_variants() -> list[str]:
    """Every method, and joint training with the fusion of ours, so that a gain of the form is not taken for another."""
    return [*METHODS, "joint:fusion=memory"]


def read_variant(text: str, common: TrainOptions) -> Variant:
    """A variant by its text; what it does not say is as in `common`.

    `encoder` may be given more than once, for several modalities; all others once.

    Raises:
        InputError: an unknown method, option or value, named together with the variant.

    Example:
        >>> read_variant("equilib:policy=random:memory-inherit=false", TrainOptions(epochs=3)).options.memory_inherit
        False
    """
    method, *items = text.split(":")
    own = {parameter.written for parameter in METHODS.find(method, what="methods").parameters}
    found: dict[str, list[str]] = {}
    for item in items:
        option, equals, value = item.partition("=")
        if not equals:
            raise InputError(f"methods: variant {text!r} must be METHOD:option=value, got {item!r}")
        if option not in _FREE | own:
            raise InputError(f"methods: variant {text!r} may set {', '.join(sorted(_FREE | own))}, got {option!r}")
        if option in found and option != "encoder":
            raise InputError(f"methods: variant {text!r} must set {option} once, got {value!r} too")
        found.setdefault(option, []).append(value)
    spec = format_spec(method, {option: values[0] for option, values in found.items() if option in own})
    argv = [f"--{option}={found[option][0]}" for option in found if option not in {"encoder", *own}]
    encoders = ["--encoder", *found["encoder"]] if "encoder" in found else []
    try:
        options = parse_options("variant", "", ["--method", spec, *argv, *encoders], common)
    except InputError as error:
        raise InputError(f"methods: variant {text!r}: {error}") from error
    return Variant(text, options)


def read_variants(texts: Sequence[str], common: TrainOptions, dataset: Dataset) -> list[Variant]:
    """Several variants, checked: each of them can be trained on this data set.

    Raises:
        InputError: as `read_variant`; a variant named twice; options that do not fit the data.
    """
    variants: list[Variant] = []
    for text in texts:
        if any(variant.name == text for variant in variants):
            raise InputError(f"methods must name every variant once, got {text!r} twice")
        variants.append(read_variant(text, common))
        try:
            _start(variants[-1].options, dataset)
        except InputError as error:
            raise InputError(f"methods: variant {text!r}: {error}") from error
    return variants


class _WouldTrainError(Exception):
    """Everything was in order up to here."""


def _start(options: TrainOptions, dataset: Dataset) -> None:
    """Go as far as one can without training."""
    config = check(options, dataset)
    with torch.random.fork_rng(range(torch.cuda.device_count())), suppress(_WouldTrainError):
        METHODS[options.method_name].begin(Setting(MultimodalNetwork(config), _would_train), options.parameters)


def _would_train(update: Update | None) -> Losses:
    raise _WouldTrainError
