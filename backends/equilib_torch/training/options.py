"""Options of a training run: the command line, the config file and `train` share this one definition."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any, cast, get_args

from equilib.schedule import POLICIES
from equilib_torch.errors import InputError
from equilib_torch.methods import METHODS, Method
from equilib_torch.network import FusionName, Mapping
from equilib_torch.network.encoders import ENCODERS
from equilib_torch.parameters import read_parameters, split_spec
from equilib_torch.training.evaluation import VALUES

_TYPES: dict[str, tuple[type, ...]] = {
    "int": (Integral,),
    "float": (Real,),
    "bool": (bool,),
    "str": (str,),
    "list[str]": (list, tuple),
}
PRECISIONS = ("no", "bf16", "fp16")
DEVICES = ("auto", "cpu", "cuda")


def _option(default: Any, text: str) -> Any:  # a field, as `dataclasses.field` itself is typed
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": text})
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class TrainOptions:
    """Options of a training run; every one has a default, checked when the object is made.

    Raises:
        InputError: a value outside its range or an unknown name, naming the option, the rule and the value.

    Example:
        >>> TrainOptions(dataset="mfeat", epochs=5).method
        'equilib'
    """

    backend: str = _option("torch", "who trains")
    dataset: str = _option("av-digits", "name of a bundled data set (see --list datasets) or path of an .npz file")
    method: str = _option("equilib", "training method, NAME or NAME:parameter=value:… (see --list methods)")
    fusion: str | None = _option(None, "concat, mlp, sum, memory or confidence; default: the method's usual one")
    encoder: list[str] = _option([], "MODALITY=NAME …: another encoder than the usual one (see --list encoders)")
    policy: str = _option("weak-to-strong", f"order of the modalities: {', '.join(POLICIES)}")
    value: str = _option("accuracy", f"what a coalition is worth on validation: {', '.join(VALUES)}")
    smoothing: float = _option(0.0, "weight of earlier epochs in the contributions that the order follows, in [0, 1)")
    mapping: str = _option("feature", "memory fusion only: mapping before the memory: none, feature, sample or both")
    inherit: bool = _option(True, "memory fusion only: whether the memory is inherited from epoch to epoch")
    width: int = _option(64, "features per modality, a multiple of 16")
    dropout: float = _option(0.3, "dropout in the encoders, in [0, 1)")
    epochs: int = _option(20, "passes over the training data")
    batch_size: int = _option(64, "training samples per batch")
    eval_batch_size: int = _option(256, "samples per batch in evaluation; changes results by rounding at most")
    lr: float = _option(1e-3, "learning rate of AdamW at the start; it falls to 0 along a cosine")
    weight_decay: float = _option(1e-2, "weight decay of AdamW")
    seed: int = _option(0, "seed of everything random")
    device: str = _option("auto", f"where to train: {', '.join(DEVICES)}")
    precision: str = _option("no", f"mixed precision: {', '.join(PRECISIONS)}")
    output: str | None = _option(None, "new or empty directory for the run; default: nothing is written")

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            if value is None and option.default is not None:
                raise InputError(f"{_flag(option.name)} must have a value, got null")
            allowed = _TYPES[str(option.type).partition(" ")[0]]
            if value is not None and (
                not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed)
            ):
                raise InputError(f"{_flag(option.name)} must be of type {option.type}, got {value!r}")
        _one_of("backend", self.backend, ("torch",))
        self._read_method()
        if self.fusion is not None:
            _one_of("fusion", self.fusion, get_args(FusionName))
        _one_of("policy", self.policy, POLICIES)
        _one_of("value", self.value, VALUES)
        _one_of("mapping", self.mapping, get_args(Mapping))
        _one_of("device", self.device, DEVICES)
        _one_of("precision", self.precision, PRECISIONS)
        for name in ("epochs", "batch_size", "eval_batch_size"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise InputError(f"{_flag(name)} must be at least 1, got {number}")
        for name in ("smoothing", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{_flag(name)} must be in [0, 1), got {getattr(self, name)}")
        if self.width < 16 or self.width % 16:
            raise InputError(f"width must be a positive multiple of 16, got {self.width}")
        if not 0 < self.lr < float("inf"):
            raise InputError(f"lr must be positive and finite, got {self.lr}")
        if not 0 <= self.weight_decay < float("inf"):
            raise InputError(f"weight-decay must be at least 0 and finite, got {self.weight_decay}")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed must be in [0, 2**32), got {self.seed}")
        _read_encoders(self.encoder)

    @property
    def encoders(self) -> dict[str, str]:
        """Encoder names by modality, from `encoder`."""
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
    def chosen_fusion(self) -> FusionName:
        """The fusion asked for, or the method's usual one."""
        return cast(FusionName, self.fusion or METHODS[self.method_name].fusion)


def help_texts() -> dict[str, str]:
    """One line on each option, by field name."""
    return {f.name: f.metadata["help"] for f in fields(TrainOptions)}


def _read_encoders(items: Sequence[str]) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for item in items:
        modality, equals, name = item.partition("=")
        if not equals or not modality:
            raise InputError(f"encoder must be given as MODALITY=NAME, got {item!r}")
        _one_of(f"encoder of {modality}", name, ENCODERS)
        if modality in chosen:
            raise InputError(f"encoder must name every modality once, got {modality!r} twice")
        chosen[modality] = name
    return chosen


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _one_of(name: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise InputError(f"{name} must be one of {', '.join(known)}, got {value!r}")
