"""How a backbone is written: hf:PATH_OR_NAME:parameter=value:…, whatever characters a path may hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equilib_torch.errors import InputError
from equilib_torch.parameters import Parameter, format_spec, read_parameters

BACKBONE = "hf"
"""The name that an encoder's description begins with."""

BACKBONE_PARAMETERS = (
    Parameter("tune", str, "frozen", "what of the backbone is trained", choices=("frozen", "all", "lora")),
    Parameter(
        "pool",
        str,
        None,
        "what of the last layer is the feature; default: what is usual for the model (text: mean, of decoders last)",
        choices=("cls", "mean", "last"),
    ),
    Parameter("max_length", int, 128, "tokens of a text that are read; what follows is cut", low=4),
    Parameter("dtype", str, "float32", "of the backbone's weights", choices=("float32", "bfloat16", "float16")),
    Parameter("rank", int, 8, "lora only: r, rank of what is added to every linear layer", low=1),
    Parameter("alpha", float, 16.0, "lora only: α, what is added counts α/r times", low=0, above=True),
    Parameter(
        "lr",
        float,
        None,
        "learning rate of the backbone at the start; default: 5e-5, with lora 5e-4",
        low=0,
        above=True,
    ),
    Parameter("batch_size", int, 32, "frozen only: samples that are read at once", low=1),
    Parameter("copy", bool, False, "whether a saved model gets a copy of the checkpoint, not only its path"),
)
"""What can be set of a backbone."""

_USUAL_LR = {"frozen": 0.0, "all": 5e-5, "lora": 5e-4}
_ONLY = {"rank": ("lora",), "alpha": ("lora",), "lr": ("all", "lora"), "batch-size": ("frozen",)}


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone and how it is used.

    Attributes:
        source: path of a folder, or name of a model of the hub.
        written: parameters as they were written, by their written names.

    Raises:
        InputError: a parameter that does not exist, a value that breaks its rule, or one that would have no effect.

    Example:
        >>> spec = BackboneSpec.read("hf:models/a:b=c:tune=lora:rank=4")
        >>> spec.source, spec.tune, spec.parameters["rank"], str(spec)
        ('models/a:b=c', 'lora', 4, 'hf:models/a:b=c:tune=lora:rank=4')
    """

    source: str
    written: Mapping[str, str]

    def __post_init__(self) -> None:
        for name, tunes in _ONLY.items():
            if name in self.written and self.tune not in tunes:
                raise InputError(
                    f"encoder {BACKBONE}: {name} has no effect with tune={self.tune}; leave it out, or set tune="
                    f"{' or '.join(tunes)}"
                )

    @classmethod
    def read(cls, text: str) -> BackboneSpec:
        """Read hf:PATH_OR_NAME:parameter=value:…; the path is all before the parameters, which are read from the end.

        Raises:
            InputError: no path, a parameter given twice, or as said of the class.
        """
        source, written = text.removeprefix(BACKBONE).removeprefix(":"), dict[str, str]()
        known = {parameter.written for parameter in BACKBONE_PARAMETERS}
        while True:
            before, colon, item = source.rpartition(":")
            name, equals, value = item.partition("=")
            if not (colon and equals and name in known):
                break
            if name in written:
                raise InputError(f"{text!r} must set {name} once, got {value!r} too")
            written[name], source = value, before
        if not source or not source.isprintable():
            raise InputError(f"encoder must be {BACKBONE}:PATH_OR_NAME:parameter=value:…, got {text!r}")
        return cls(source, dict(reversed(written.items())))

    def __str__(self) -> str:
        return format_spec(f"{BACKBONE}:{self.source}", self.written)

    @property
    def parameters(self) -> dict[str, Any]:
        """All parameters by keyword, with their defaults where they were left out."""
        return read_parameters(f"encoder {BACKBONE}", BACKBONE_PARAMETERS, self.written)

    @property
    def tune(self) -> str:
        """What is trained: frozen (nothing), all or lora."""
        return str(self.parameters["tune"])

    @property
    def lr(self) -> float:
        """Learning rate of the backbone at the start."""
        written = self.parameters["lr"]
        return _USUAL_LR[self.tune] if written is None else float(written)

    def at(self, source: str | Path) -> BackboneSpec:
        """The same with the checkpoint somewhere else."""
        return BackboneSpec(str(source), self.written)

    def from_anywhere(self) -> BackboneSpec:
        """The same with the whole path of the checkpoint, if it is one that is there."""
        folder = Path(self.source).expanduser()
        try:
            return self.at(folder.absolute()) if folder.is_dir() else self
        except (OSError, ValueError):  # no path at all
            return self
