"""Options of a training run: the command line, the config file and `fit` share this one definition.

A group of options is a dataclass. The text below a field is its help, the field's type says what a value must be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_type_hints

from equilib.schedule import POLICIES
from equilib_torch.data import DATASETS, DataRequest, Dataset
from equilib_torch.data.cache import Cache, default_cache
from equilib_torch.data.media import MediaOptions
from equilib_torch.data.missing import read_rates
from equilib_torch.data.public import PUBLIC, find_public
from equilib_torch.data.table import declared_by
from equilib_torch.errors import InputError
from equilib_torch.methods import METHODS, Keep, Method
from equilib_torch.network import ENCODERS, FUSIONS, MemoryMapping
from equilib_torch.network.encoders import read_encoder
from equilib_torch.parameters import read_parameters, split_spec
from equilib_torch.training.augmentation import AUGMENTATIONS, read_augmentations
from equilib_torch.training.evaluation import VALUES
from equilib_torch.training.option_values import flag, read_as, require

KNOWN: Mapping[str, Iterable[str]] = {
    "augment": AUGMENTATIONS,
    "dataset": (*DATASETS, *PUBLIC),
    "encoder": ENCODERS,
    "fusion": FUSIONS,
    "method": METHODS,
    "policy": POLICIES,
    "coalition_value": VALUES,
}
"""The names that an option can have, by its field; its help lists them."""


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """What to train on."""

    dataset: str = "av-digits"
    """name of a data set (see --list datasets); path of a table (.csv, .tsv, .parquet, .jsonl) or of an .npz file; or a
    folder whose sub-folders are the classes, or with train.jsonl and others"""

    label: str = "label"
    """column of the labels"""

    drop: list[str] = field(default_factory=list)
    """COLUMN …: columns, or modalities, that are left out"""

    modality: list[str] = field(default_factory=list)
    """NAME=KIND[:COLUMN,…] …: what columns of a table are, where it is not to be inferred; KIND is image, audio, video,
    frames (folders of pictures), array (.npy files), text or table"""

    categorical: list[str] = field(default_factory=list)
    """COLUMN …: columns of a table that are categories, whatever they look like"""

    data_root: str | None = None
    """folder of a public data set, or that paths in a table start from; default: that of the table"""

    encoding: str | None = None
    """encoding of a table in a text file, such as cp1252; default: UTF-8, or what a byte order mark says"""

    batch_size: int | None = None
    """training samples per batch; default: 64, or all if there are fewer"""

    class_weights: Literal["none", "balanced"] = "none"
    """balanced: training sees every class equally often, however rare it is"""

    eval_batch_size: int = 256
    """samples per batch in evaluation, fewer where samples are large; changes results by rounding at most"""

    image_size: int = 224
    """pixels of both sides that pictures are scaled to, and pictures of films"""

    audio_seconds: float = 10.0
    """seconds from the beginning of a sound that are used at most"""

    video_frames: int = 3
    """pictures taken from a film or a folder of frames, evenly spaced; of one, it is a modality of pictures"""

    allow_unreadable: bool = False
    """whether to go on when more than a fifth of a column's files (and 20 or more) cannot be read"""

    decode_workers: int | None = None
    """processes that decode files; default: as many as cores, 8 at most; 0: the training process itself"""

    cache: str | None = None
    """directory of decoded files and features of backbones; default: the environment variable EQUILIB_CACHE, else the
    user's cache directory"""

    cache_size: float = 50.0
    """gigabytes that the cache may hold before what was not used for longest goes"""


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """What samples lack, and how training changes them."""

    incomplete: Literal["use", "exclude"] | None = None
    """training samples that lack a modality; default: use them, with a method that can"""

    missing_in_training: list[str] = field(default_factory=list)
    """MODALITY=RATE …, or a RATE for all: take modalities from training and validation samples at random"""

    missing_in_testing: list[str] = field(default_factory=list)
    """MODALITY=RATE …, or a RATE for all: take modalities from test samples at random"""

    augment: list[str] = field(default_factory=list)
    """MODALITY=NAME+NAME=NUMBER …: random changes of training samples"""


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Encoders, and the fusion of what they see."""

    fusion: str | None = None
    """what joins the modalities (see --list fusions); default: the method's usual one"""

    encoder: list[str] = field(default_factory=list)
    """MODALITY=NAME or MODALITY=hf:PATH_OR_NAME:tune=… …: another encoder than the usual one (see --list encoders)"""

    width: int = 64
    """features per modality, a multiple of 16"""

    dropout: float = 0.3
    """dropout in the encoders, in [0, 1)"""

    memory_mapping: MemoryMapping | None = None
    """fusion memory only: what brings the modalities together before they are written; default: the method's usual"""

    memory_inherit: bool = True
    """fusion memory only: whether the memory is inherited from epoch to epoch"""

    memory_freeze: float | None = None
    """fusion memory only: part of the updates after which the order of writing stays as it is, in [0, 1]"""


@dataclass(frozen=True, kw_only=True)
class MethodOptions:
    """How the modalities are trained together, and in what order."""

    method: str = "equilib"
    """training method, NAME or NAME:parameter=value:… (see --list methods)"""

    policy: str = "weak-to-strong"
    """order of the modalities"""

    coalition_value: str = "accuracy"
    """what a coalition of modalities is worth on validation (see --list values)"""

    shapley_smoothing: float = 0.0
    """weight of earlier measurements in the Shapley values that the order follows, in [0, 1)"""

    keep: Keep | None = None
    """which weights are kept: those after the last update, or the best on validation; default: the method's usual"""

    stack: bool | None = None
    """whether to weigh, on validation, what each modality adds to the prediction; default: the method's usual"""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How long, and in what steps."""

    updates: int | None = None
    """updates in all, one for each batch; default: 600, or those of 20 epochs where these are more"""

    epochs: int | None = None
    """passes over the training data, instead of updates"""

    patience: int | None = None
    """measurements on validation without a better one after which training ends; default: it never ends early"""

    lr: float = 3e-3
    """learning rate of AdamW at the start; it falls to 0 along a cosine"""

    weight_decay: float = 1e-2
    """weight decay of AdamW"""

    seed: int = 0
    """seed of everything random, in [0, 2**32)"""


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """Where to train, and where to write."""

    backend: Literal["torch"] = "torch"
    """who trains (see --list backends)"""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where to train; auto: on cuda if it is there"""

    precision: Literal["no", "bf16", "fp16"] = "no"
    """mixed precision; no: float32, not TF32, on CUDA too"""

    output: str | None = None
    """new or empty directory for the run; default: nothing is written"""


@dataclass(frozen=True, kw_only=True)
class LoadingOptions:
    """How batches are read; what is in them does not depend on it."""

    workers: int = 0
    """processes that read batches ahead, for data on a slow disk; 0: the training process itself"""

    resident: Literal["auto", "yes", "no"] = "auto"
    """whether all data are copied to the device once; auto: on cuda, where a quarter of its free memory holds them"""


GROUPS = {
    "data": DataOptions,
    "samples": SampleOptions,
    "network": NetworkOptions,
    "method": MethodOptions,
    "training": TrainingOptions,
    "machine": MachineOptions,
    "loading": LoadingOptions,
}
"""Groups of options by their headings."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions(
    LoadingOptions, MachineOptions, TrainingOptions, MethodOptions, NetworkOptions, SampleOptions, DataOptions
):
    """Options of a training run; every one has a default, checked when the object is made.

    Whole and real numbers of NumPy are accepted, and become Python's.

    Raises:
        InputError: a value outside its range or an unknown name, naming the option, the rule and the value.

    Example:
        >>> TrainOptions(dataset="mfeat", epochs=5).method
        'equilib'
    """

    def __post_init__(self) -> None:
        for name in TYPES:
            object.__setattr__(self, name, read_option(name, getattr(self, name)))
        self._read_method()
        if self.fusion is not None:
            FUSIONS.find(self.fusion)
        require("policy", self.policy in POLICIES, f"be one of {', '.join(POLICIES)}", self.policy)
        VALUES.find(self.coalition_value)
        for name in ("updates", "epochs", "patience", "batch_size", "eval_batch_size"):
            value = getattr(self, name)
            require(name, value is None or value >= 1, "be at least 1", value)
        if self.updates is not None and self.epochs is not None:
            raise InputError(f"updates and epochs must not both be given, got {self.updates} and {self.epochs}")
        require("workers", self.workers >= 0, "be at least 0", self.workers)
        require("memory_freeze", 0 <= self.freezes <= 1, "be in [0, 1]", self.memory_freeze)
        for name in ("shapley_smoothing", "dropout"):
            require(name, 0 <= getattr(self, name) < 1, "be in [0, 1)", getattr(self, name))
        require("width", self.width > 0 and self.width % 16 == 0, "be a positive multiple of 16", self.width)
        require("lr", 0 < self.lr < float("inf"), "be positive and finite", self.lr)
        require("weight_decay", 0 <= self.weight_decay < float("inf"), "be at least 0 and finite", self.weight_decay)
        require("cache_size", 0 <= self.cache_size < float("inf"), "be at least 0 and finite", self.cache_size)
        self.media  # noqa: B018 - checks its options
        require("seed", 0 <= self.seed < 2**32, "be in [0, 2**32)", self.seed)
        _read_encoders(self.encoder)
        for name in ("missing_in_training", "missing_in_testing"):
            read_rates(flag(name), getattr(self, name))
        read_augmentations(self.augment)
        if self.incomplete == "use" and not METHODS[self.method_name].incomplete:
            raise InputError(f"incomplete must be exclude with the method {self.method_name}, got 'use'")

    @property
    def media(self) -> MediaOptions:
        """How files are decoded."""
        return MediaOptions(
            image_size=self.image_size,
            audio_seconds=self.audio_seconds,
            video_frames=self.video_frames,
            allow_unreadable=self.allow_unreadable,
            workers=self.decode_workers,
        )

    @property
    def data(self) -> DataRequest:
        """Which data are meant, for any seed."""
        return DataRequest(
            self.dataset,
            self.label,
            tuple(self.drop),
            self.data_root,
            tuple(self.modality),
            tuple(self.categorical),
            self.encoding,
            self.media,
            self.cache_place,
        )

    def resolved(self, dataset: Dataset) -> TrainOptions:
        """Give the same options with what was inferred of the columns of a table, so that it is inferred no more."""
        if dataset.schema is None:
            return self
        modality, categorical = declared_by(dataset.schema)
        return replace(self, modality=modality, categorical=categorical)

    @property
    def cache_place(self) -> Cache:
        """Where decoded files are kept."""
        return default_cache(self.cache, int(self.cache_size * 1e9))

    @property
    def encoders(self) -> dict[str, str]:
        """Encoders as they are written, by modality, from `encoder`."""
        return _read_encoders(self.encoder)

    def _read_method(self) -> tuple[Method, dict[str, Any]]:
        name, written = split_spec(self.method)
        method = METHODS.find(name)
        return method, read_parameters(f"method {name}", method.parameters, written)

    @property
    def method_name(self) -> str:
        """The method's name, without parameters."""
        return split_spec(self.method)[0]

    @property
    def parameters(self) -> dict[str, Any]:
        """All parameters of the method, by keyword, with their defaults where they were left out."""
        return self._read_method()[1]

    @property
    def chosen_fusion(self) -> str:
        """The fusion of the run: the option, or the method's usual one."""
        return self.fusion or METHODS[self.method_name].fusion

    @property
    def chosen_mapping(self) -> MemoryMapping:
        """The mapping before the memory: the option, or the method's usual one."""
        return self.memory_mapping or METHODS[self.method_name].mapping

    @property
    def freezes(self) -> float:
        """The part of the updates after which the memory's order stays: the option, or what is usual for the method."""
        return METHODS[self.method_name].freeze if self.memory_freeze is None else self.memory_freeze

    @property
    def keeps(self) -> Keep:
        """Which weights are kept: the option, or what is usual for the method."""
        return self.keep or METHODS[self.method_name].keep

    @property
    def stacks(self) -> bool:
        """Whether predictions are stacked: the option, or what is usual for the method."""
        return METHODS[self.method_name].stack if self.stack is None else self.stack


TYPES = get_type_hints(TrainOptions)
"""Type of each option, by its field."""


def usual_options(dataset: str) -> TrainOptions:
    """Give the options that are usual for a data set: the defaults, but for what suits a public one.

    Example:
        >>> usual_options("crema-d").encoder, usual_options("mine.csv").encoder
        (['video=resnet18', 'audio=resnet18'], [])
    """
    entry = find_public(dataset)
    return TrainOptions(dataset=dataset, **({} if entry is None else entry.defaults))


def read_option(name: str, value: Any) -> Any:
    """Give the value of an option as an object of its type.

    Args:
        name: of the field.
        value: what was given.

    Raises:
        InputError: it is of another type.

    Example:
        >>> read_option("lr", 1)
        1.0
    """
    return read_as(name, value, TYPES[name])


def _read_encoders(items: Sequence[str]) -> dict[str, str]:
    encoders: dict[str, str] = {}
    for item in items:
        modality, equals, name = item.partition("=")
        require("encoder", bool(equals and modality), "be given as MODALITY=NAME or MODALITY=hf:PATH", item)
        read_encoder(name, what=f"encoder of {modality}")
        if modality in encoders:
            raise InputError(f"encoder must name every modality once, got {modality!r} twice")
        encoders[modality] = name
    return encoders
