"""A trained network for prediction: save it, load it, and ask it with any subset of its modalities."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from equilib_torch.data import Kind, Modality
from equilib_torch.data.batches import Batch, Column, column, join
from equilib_torch.data.cache import Cache
from equilib_torch.data.frames import is_frame, read_frame
from equilib_torch.data.labels import read_labels
from equilib_torch.data.loading import read_table
from equilib_torch.data.modality import TIMED
from equilib_torch.data.rows import Table
from equilib_torch.data.table import read_new_rows
from equilib_torch.errors import InputError
from equilib_torch.files import BEST_MODEL, write_atomically
from equilib_torch.network import ModalityConfig, MultimodalNetwork, NetworkConfig, match_own_encoders
from equilib_torch.network.backbones.storing import find_backbones, store_backbones
from equilib_torch.network.preparing import Preparation, make_preparation, prepare_rows

if TYPE_CHECKING:
    import pandas as pd

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
Inputs = Mapping[str, npt.NDArray[Any]]
Rows: TypeAlias = "Inputs | pd.DataFrame | str | Path"


class MultimodalClassifier:
    """Predict classes from whatever modalities are there.

    Inputs are a mapping laid out like an `.npz` data set, without labels: a modality's name to its array with N rows,
    and, where needed, `<modality>_length` (N,) and `<modality>_present` (N,). A modality that is not given is absent. A
    prediction does not depend on which other samples are asked with it.

    A model that was trained on a table takes raw rows as well: a pandas DataFrame, or the path of a table, with any of
    the columns it was trained on. Other columns do not count.

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

    def predict_proba(
        self,
        inputs: Rows,
        *,
        batch_size: int = 256,
        data_root: str | Path | None = None,
        cache: Cache | None = None,
    ) -> npt.NDArray[np.float32]:
        """Probabilities of the classes, (N, n_classes), each row summing to 1.

        A row in which there is nothing gets the frequencies of the classes in training.

        Args:
            inputs: arrays by name, or raw rows.
            batch_size: samples at a time.
            data_root: of raw rows, the folder that paths in cells start from; default: that of the table's file, or the
                current one.
            cache: of raw rows, where decoded files are kept; default: nowhere.

        Raises:
            InputError: no known modality or column, an unknown modality, or an array or cell that does not fit.
        """
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}")
        batch, device = self._batch(inputs, data_root, cache), self.network.log_prior.device
        parts = (batch.rows(slice(start, start + batch_size)) for start in range(0, len(batch.labels), batch_size))
        with torch.inference_mode():
            probabilities = torch.cat([self.network(part.to(device)).softmax(-1).cpu() for part in parts])
        if not probabilities.isfinite().all():
            raise InputError("inputs must be comparable to the training data, got values that overflow the network")
        return cast(npt.NDArray[np.float32], probabilities.numpy())

    def predict(
        self,
        inputs: Rows,
        *,
        batch_size: int = 256,
        data_root: str | Path | None = None,
        cache: Cache | None = None,
    ) -> npt.NDArray[Any]:
        """Most probable class of each sample, (N,), among `classes_`; arguments as for `predict_proba`."""
        probabilities = self.predict_proba(inputs, batch_size=batch_size, data_root=data_root, cache=cache)
        classes: npt.NDArray[Any] = self.classes_[probabilities.argmax(1)]
        return classes

    def score(
        self,
        inputs: Rows,
        labels: npt.ArrayLike | None = None,
        *,
        batch_size: int = 256,
        data_root: str | Path | None = None,
        cache: Cache | None = None,
    ) -> float:
        """Accuracy, in [0, 1], against the true classes (N,), which raw rows may bring in their label column.

        Raises:
            InputError: as `predict_proba`; no labels, or some that are no classes of the model.
        """
        if labels is None:
            table = _table(inputs)
            if table is None or self.network.config.schema is None:
                raise InputError("labels must be given, unless raw rows bring them")
            labels = read_labels(table, self.network.config.schema["label"]).values
        predicted = self.predict(inputs, batch_size=batch_size, data_root=data_root, cache=cache)
        truth = np.asarray(labels)
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

    def _batch(self, rows: Rows, data_root: str | Path | None, cache: Cache | None) -> Batch:
        table, n_rows = _table(rows), None
        if table is not None:
            inputs: Inputs = self._arrays(table, data_root, cache)
            n_rows = len(table)
        elif data_root is not None:
            raise InputError("data_root is for raw rows, these are arrays; leave it out")
        else:
            inputs = cast(Inputs, rows)
        keys = {f"{name}{suffix}" for name in self.modalities_ for suffix in ("", "_length", "_present")}
        given = [name for name in self.modalities_ if name in inputs]
        if not (given or n_rows) or not keys.issuperset(inputs):
            got = ", ".join(map(repr, inputs)) or "nothing"
            raise InputError(f"inputs must name some of the modalities {', '.join(self.modalities_)}, got {got}")
        arrays = {key: _array(key, value) for key, value in inputs.items()}
        n_rows = n_rows or len(arrays[given[0]])
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

    def _arrays(self, table: Table, data_root: str | Path | None, cache: Cache | None) -> dict[str, npt.NDArray[Any]]:
        """Make of raw rows what the network reads, laid out as arrays are."""
        schema = self.network.config.schema
        if schema is None:
            raise InputError(
                f"inputs must be arrays of {', '.join(self.modalities_)}: this model was trained on arrays, not a table"
            )
        root = None if data_root is None else Path(data_root)
        arrays: dict[str, npt.NDArray[Any]] = {}
        for modality in read_new_rows(schema, table, data_root=root, cache=cache):
            if modality.name not in self.modalities_:  # the sound of films, of which none had any in training
                continue
            k = self.modalities_.index(modality.name)
            values = modality.values
            if modality.lengths is not None:
                if not self.network.reads_any_length(k):
                    values = _of_length(values, self.network.config.modalities[k].shape[0])
                arrays[f"{modality.name}_length"] = np.minimum(modality.lengths, values.shape[1])
            arrays |= {modality.name: values, f"{modality.name}_present": modality.present}
        return arrays

    def _prepared(self, k: int, raw: Modality) -> Modality:
        if k not in self._preparations:
            config = self.network.config.modalities[k]
            self._preparations[k] = make_preparation(config, self.network.log_prior.device)
        preparation = self._preparations[k]
        return raw if preparation is None else prepare_rows(preparation, raw)


def _table(rows: Rows) -> Table | None:
    """Read raw rows; None if they are arrays."""
    if isinstance(rows, str | Path):
        try:
            return read_table(Path(rows))
        except InputError as error:
            raise InputError(f"{str(rows)!r}: {error}") from error
    return read_frame(rows) if is_frame(rows) else None


def _of_length(values: npt.NDArray[Any], n_frames: int) -> npt.NDArray[Any]:
    """Cut (N, T, ...) behind some frames, or fill it up with 0."""
    missing = max(0, n_frames - values.shape[1])
    filled = np.pad(values, [(0, 0), (0, missing), *((0, 0) for _ in values.shape[2:])]) if missing else values
    return filled[:, :n_frames]


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
