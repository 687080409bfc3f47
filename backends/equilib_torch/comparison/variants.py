"""What is compared: variants of training, METHOD:name=value:…, a name being a parameter or an option of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import get_origin
from urllib.parse import quote, unquote

import torch

from equilib_torch.data import Dataset
from equilib_torch.errors import InputError
from equilib_torch.methods import METHODS
from equilib_torch.network import MultimodalNetwork
from equilib_torch.parameters import format_spec
from equilib_torch.training.arguments import describe_old_spelling, parse_options
from equilib_torch.training.options import TYPES, TrainOptions
from equilib_torch.training.state import check

OURS = tuple(name for name, method in METHODS.items() if method.ours)
"""Methods of this project; all others count as rivals."""

_DATA = ("dataset", "label", "drop", "modality", "categorical", "data_root", "encoding")
_FILES = ("image_size", "audio_seconds", "video_frames", "allow_unreadable", "decode_workers", "cache", "cache_size")
_COMMON = ("backend", *_DATA, *_FILES, "method", "seed", "output")  # the same for all variants, or said elsewhere
_OPTIONS = {f.name.replace("_", "-") for f in fields(TrainOptions) if f.name not in _COMMON}


_LISTS = {name.replace("_", "-") for name, kind in TYPES.items() if get_origin(kind) is list}


@dataclass(frozen=True)
class Variant:
    """What is trained with several seeds: a method, with options of its own.

    Attributes:
        name: how it is called in tables and, as `slug`, in directories.
        options: of its runs; their seed and output are set run by run.
    """

    name: str
    options: TrainOptions

    @property
    def slug(self) -> str:
        """Its name as that of a directory; `name_of` is the inverse."""
        return quote(self.name.replace(":", ","), safe=",=+")


def name_of(slug: str) -> str:
    """Return the name of the variant whose runs are in a directory of this name.

    Example:
        >>> name_of("joint,fusion=memory")
        'joint:fusion=memory'
    """
    return unquote(slug).replace(",", ":")


def default_variants() -> list[str]:
    """Name every method, and joint training with the fusion of ours.

    The latter is there so that a gain from the fusion is not credited to the method.
    """
    return [*METHODS, "joint:fusion=memory"]


def read_variant(text: str, common: TrainOptions) -> Variant:
    """Read a variant; what its text does not say is as in `common`.

    Args:
        text: METHOD:name=value:…, a name being a parameter of the method or an option of a run. What is given by
            modality, such as `encoder`, may be given more than once; all else once.
        common: options of all variants.

    Raises:
        InputError: an unknown method, name or value, named together with the variant.

    Example:
        >>> read_variant("mla:alpha=0.5:fusion=sum", TrainOptions(epochs=3)).options.method
        'mla:alpha=0.5'
    """
    method, *items = text.split(":")
    parameters = {parameter.written for parameter in METHODS.find(method, what="methods").parameters}
    values: dict[str, list[str]] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals:
            raise InputError(f"methods: variant {text!r} must be METHOD:option=value, got {item!r}")
        if name not in _OPTIONS | parameters:
            told = describe_old_spelling(name, value, method)
            if told:
                raise InputError(f"methods: variant {text!r}: {told}")
            known = ", ".join(sorted(_OPTIONS | parameters))
            raise InputError(f"methods: variant {text!r} may set {known}, got {name!r}")
        if name in values and name not in _LISTS:
            raise InputError(f"methods: variant {text!r} must set {name} once, got {value!r} too")
        values.setdefault(name, []).append(value)
    lists = {name: values.pop(name) for name in _LISTS & values.keys()}
    spec = format_spec(method, {name: value for name, (value,) in values.items() if name in parameters})
    argv = ["--method", spec, *(f"--{name}={value}" for name, (value,) in values.items() if name not in parameters)]
    for name, items in sorted(lists.items()):
        argv += [f"--{name}", *items]
    try:
        return Variant(text, parse_options("variant", "", argv, common))
    except InputError as error:
        raise InputError(f"methods: variant {text!r}: {error}") from error


def read_variants(texts: Sequence[str], common: TrainOptions, dataset: Dataset) -> list[Variant]:
    """Read several variants, and check that each of them can be trained on this data set; nothing random is drawn.

    Raises:
        InputError: as `read_variant`; a variant named twice; options that do not fit the data.
    """
    variants: dict[str, Variant] = {}
    for text in texts:
        if text in variants:
            raise InputError(f"methods must name every variant once, got {text!r} twice")
        variants[text] = read_variant(text, common)
        try:
            with torch.device("meta"):  # without weights, a network says whether its encoders can read the data
                MultimodalNetwork(check(variants[text].options, dataset))
        except InputError as error:
            raise InputError(f"methods: variant {text!r}: {error}") from error
    return list(variants.values())
