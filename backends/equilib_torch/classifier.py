"""A trained network for prediction: save it, load it, and ask it with any subset of its modalities."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from equilib_torch.data import Kind, Modality
from equilib_torch.data.batches import Batch, Column, column, join
from equilib_torch.data.modality import TIMED
from equilib_torch.errors import InputError
from equilib_torch.files import BEST_MODEL, write_atomically
from equilib_torch.network import ModalityConfig, MultimodalNetwork, NetworkConfig, match_own_encoders
from equilib_torch.network.backbones.storing import find_backbones, store_backbones
from equilib_torch.network.preparing import Preparation, make_preparation, prepare_rows

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
Inputs = Mapping[str, npt.NDArray[Any]]


class MultimodalClassifier:
    """Predict classes from whatever modalities are there.

    Inputs are a mapping laid out like an `.npz` data set, without labels: a modality's name to its array with N rows,
    and, where needed, `<modality>_length` (N,) and `<modality>_present` (N,). A modality that is not given is absent. A
    prediction does not depend on which other samples are asked with it.

    Attributes:
        network: the trained network, in eval mode.
        classes_: (n_classes,) the labels, in the order of the columns of `predict_proba`.
        modalities_: names of the modalities.

    Example:
        >>> import tempfile
        >>> from equilib_torch import TrainOptions, fit, load_dataset
        >>> run = fit(TrainOptions(epochs=1), load_dataset("mfeat-small", seed=0))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     MultimodalClassifier(run.network).save_pretrained(folder)
        ...     classifier = MultimodalClassifier.from_pretrained(folder)
        >>> classifier.predict_proba({"karhunen_loeve": np.zeros((2, 64)), "morphological": np.zeros((2, 6))}).shape
        (2, 10)
    """

    def __init__(self, network: MultimodalNetwork) -> None:
        self.network = network.eval()
        self._preparations: dict[int, Preparation | None] = {}
        self.classes_ = np.array(network.config.classes)
        self.modalities_ = tuple(m.name for m in network.config.modalities)

    def predict_proba(self, inputs: Inputs, *, batch_size: int = 256) -> npt.NDArray[np.float32]:
        """Probabilities of the classes, (N, n_classes), each row summing to 1.

        Raises:
            InputError: no known modality, an unknown one, or an array whose shape or values do not fit.
        """
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}")
        batch, device = self._batch(inputs), self.network.log_prior.device
        parts = (batch.rows(slice(start, start + batch_size)) for start in range(0, len(batch.labels), batch_size))
        with torch.inference_mode():
            probabilities = torch.cat([self.network(part.to(device)).softmax(-1).cpu() for part in parts])
        if not probabilities.isfinite().all():
            raise InputError("inputs must be comparable to the training data, got values that overflow the network")
        return cast(npt.NDArray[np.float32], probabilities.numpy())

    def predict(self, inputs: Inputs, *, batch_size: int = 256) -> npt.NDArray[Any]:
        """Most probable class of each sample, (N,), among `classes_`."""
        classes: npt.NDArray[Any] = self.classes_[self.predict_proba(inputs, batch_size=batch_size).argmax(1)]
        return classes

    def score(self, inputs: Inputs, labels: npt.ArrayLike, *, batch_size: int = 256) -> float:
        """Accuracy, in [0, 1], against the true classes (N,)."""
        predicted, truth = self.predict(inputs, batch_size=batch_size), np.asarray(labels)
        if truth.shape != predicted.shape or not np.isin(truth, self.classes_).all():
            raise InputError(f"labels must be {len(predicted)} of {self.classes_.tolist()}, got {truth.tolist()[:20]}")
        return float(np.mean(predicted == truth))

    def save_pretrained(self, directory: str | Path) -> None:
        """Write `config.json`, `model.safetensors` and what backbones need into a directory, each file atomically."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        store_backbones(self.network.config, directory)
        config = json.dumps(asdict(self.network.config), indent=2)
        write_atomically(directory / _CONFIG, config.encode())
        # Copies: a method may have tied weights, of which safetensors would store one without saying which.
        state = self.network.state_dict()
        weights = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
        write_atomically(directory / _WEIGHTS, safetensors.torch.save(weights))

    @classmethod
    def from_pretrained(
        cls,
        directory: str | Path,
        *,
        device: str = "cpu",
        encoders: Mapping[str, nn.Module] | None = None,
        backbones: Mapping[str, str | Path] | None = None,
    ) -> MultimodalClassifier:
        """Load what `save_pretrained` wrote, or the best model of a run directory.

        Args:
            directory: of the model or the run.
            device: where to predict.
            encoders: for a model trained with modules of one's own, new ones of the same make, by modality. They are
                copied, and the copies get the saved weights.
            backbones: folders of checkpoints that are no longer where they were when the model was trained, by
                modality; their content must be the same.

        Raises:
            InputError: the directory holds no model, or a damaged one; modules that do not fit it; or a backbone that
                is not there, or has changed.
        """
        directory = Path(directory)
        best = directory / BEST_MODEL
        if best.is_dir():
            directory = best
        with _described(directory, "the saved model is damaged"):
            config = _read_config(directory / _CONFIG)
        config = find_backbones(config, directory, backbones or {})
        match_own_encoders(config, encoders or {})
        own = ", ".join(m.name for m in config.modalities if m.encoder is None)
        hint = f", or its weights do not fit the modules given for {own}" if own else ""
        with _described(directory, f"the saved model is damaged{hint}"):
            network = MultimodalNetwork(config, encoders, pretrained=False)
            unstacked = {name: x for name, x in network.state_dict().items() if name.startswith("stacking_")}
            # Models of 0.1.0 do not say how they are stacked: they are not.
            network.load_state_dict({**unstacked, **safetensors.torch.load_file(directory / _WEIGHTS)})
        try:
            return cls(network.to(device))
        except (RuntimeError, AssertionError) as error:  # torch raises either for a device it does not have
            raise InputError(f"device must be available, got {device!r}") from error

    def _batch(self, inputs: Inputs) -> Batch:
        keys = {f"{name}{suffix}" for name in self.modalities_ for suffix in ("", "_length", "_present")}
        given = [name for name in self.modalities_ if name in inputs]
        if not given or not keys.issuperset(inputs):
            got = ", ".join(map(repr, inputs)) or "nothing"
            raise InputError(f"inputs must name some of the modalities {', '.join(self.modalities_)}, got {got}")
        arrays = {key: _array(key, value) for key, value in inputs.items()}
        n_rows = len(arrays[given[0]])
        return join(
            [
                _column(
                    m,
                    arrays,
                    n_rows,
                    any_length=self.network.reads_any_length(k),
                    prepare=lambda raw, k=k: self._prepared(k, raw),  # type: ignore[misc]  # mypy knows no default of a lambda
                )
                for k, m in enumerate(self.network.config.modalities)
            ]
        )

    def _prepared(self, k: int, raw: Modality) -> Modality:
        if k not in self._preparations:
            config = self.network.config.modalities[k]
            self._preparations[k] = make_preparation(config, self.network.log_prior.device)
        preparation = self._preparations[k]
        return raw if preparation is None else prepare_rows(preparation, raw)


@contextmanager
def _described(directory: Path, fault: str) -> Iterator[None]:
    """Say in one line what is wrong with a model that cannot be read."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{str(directory)!r}: holds no saved model ({error.strerror})") from error
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{str(directory)!r}: {fault} ({reason})") from error


def _array(key: str, value: npt.ArrayLike) -> npt.NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"{key}: must be one regular array ({error})") from error
    if array.ndim == 0 or len(array) == 0:
        raise InputError(f"{key}: needs one row or more, got shape {array.shape}")
    return array


def _column(
    config: ModalityConfig,
    inputs: Inputs,
    n_rows: int,
    *,
    any_length: bool,
    prepare: Callable[[Modality], Modality],
) -> Column:
    """One modality of N samples: checked like training data where it is given, else absent everywhere."""
    name, sequence, timed = config.name, config.kind == "sequence", config.kind in TIMED
    present = inputs.get(f"{name}_present", np.full(n_rows, name in inputs))
    if present.shape != (n_rows,) or not np.isin(present, (0, 1)).all():
        raise InputError(f"{name}_present: must be {n_rows} booleans, got {present.dtype} of shape {present.shape}")
    present = present.astype(np.bool_)
    if name not in inputs and present.any():
        raise InputError(f"{name}_present: says that {name} is there, which is not given")
    if not present.any():
        ones = torch.ones(n_rows, dtype=torch.int64) if (config.read_kind or config.kind) in TIMED else None
        return Column(torch.zeros(n_rows, *config.encoded_shape), ones, torch.zeros(n_rows, dtype=torch.bool))
    values = inputs[name]
    free = 1 if sequence and any_length else 0
    if values.ndim != len(config.shape) + 1 or values.shape[1 + free :] != config.shape[free:]:
        raise InputError(f"{name}: samples must have shape {config.shape}, got {values.shape[1:]}")
    if len(values) != n_rows:
        raise InputError(f"{name}: needs {n_rows} rows like the first modality given, got {len(values)}")
    default_lengths = np.full(n_rows, values.shape[1]) if timed else None
    lengths = inputs.get(f"{name}_length", default_lengths)
    modality = Modality(name, cast(Kind, config.kind), values, lengths, present)
    return column(prepare(modality), np.arange(n_rows))


def _read_config(path: Path) -> NetworkConfig:
    raw = json.loads(path.read_bytes())
    shapes = ("shape", "read_shape")
    modalities = tuple(
        ModalityConfig(**{**m, **{key: tuple(m[key]) for key in shapes if m.get(key) is not None}})
        for m in raw.pop("modalities")
    )
    return NetworkConfig(modalities=modalities, **{**raw, "classes": tuple(raw["classes"])})
