"""A model under audit: ask it for its outputs when modalities are absent, check them, and score every sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from equilib._absent import Fill
from equilib._held_out import Batch, Numpy, to_numpy
from equilib._namespace import Array, Floats
from equilib.scores import OF_CLASSES, SCORES, Score


class Model:
    """A function of inputs, its score, and what stands for absent modalities.

    Attributes:
        names: of the modalities.
        score_name: what is measured.
        is_constant: whether all samples that were seen with all modalities got the same prediction.
    """

    def __init__(
        self,
        predict: Callable[[dict[str, Array]], Any],
        names: list[str],
        fill: Fill | None,
        score: str | Score,
        classes: Sequence[Any] | None,
    ) -> None:
        if not callable(predict):
            raise ValueError(f"predict must be callable, got {type(predict).__name__}")
        if not callable(score) and (not isinstance(score, str) or score not in SCORES):
            raise ValueError(f"score must be one of {', '.join(SCORES)}, or callable, got {score!r}")
        self.names, self.is_constant = names, True
        self._predict, self._fill = predict, fill
        self._score: Score = SCORES[score] if isinstance(score, str) else score
        self.score_name = score if isinstance(score, str) else str(getattr(score, "__name__", "score"))
        self._of_classes = isinstance(score, str) and score in OF_CLASSES
        self._is_accuracy = score == "accuracy"
        self._classes = None if classes is None else _read_classes(classes)
        self._columns: int | None = None  # of the outputs (m, n_classes); 0 if they are (m,)
        self._first_prediction: Any = None

    @property
    def leaves_out(self) -> bool:
        """Whether absent modalities are left out, so that there is nothing to ask when all are absent."""
        return self._fill is None

    def stand_ins(self, batch: Batch) -> dict[str, Array]:
        """Make what stands for each modality of a batch when it is absent."""
        fill = self._fill
        return {} if fill is None else {name: fill(name, x, batch.first) for name, x in batch.inputs.items()}

    def score(self, batch: Batch, members: Sequence[bool], stand_ins: dict[str, Array]) -> Floats:
        """Score the samples of a batch when only `members` are present: `(m,)`."""
        present = dict(zip(self.names, members, strict=True))
        inputs = {
            name: x if present[name] else stand_ins[name]
            for name, x in batch.inputs.items()
            if present[name] or not self.leaves_out
        }
        coalition = "+".join(name for name in self.names if present[name]) or "no modality"
        where = f"with {coalition} present, samples {batch.first} to {batch.first + batch.rows - 1}"
        try:
            answer = self._predict(inputs)
        except Exception as error:
            hint = "; absent='drop' leaves absent modalities out of the inputs" if self.leaves_out else ""
            error.add_note(f"raised by predict {where}{hint}")
            raise
        outputs = self._read_outputs(answer, batch, where)
        if all(members):
            self._note_prediction(outputs)
        return self._score_outputs(outputs, batch.targets)

    def score_frequencies(self, targets: Numpy) -> Floats:
        """Score what one would answer without input, `(N,)`: the targets' frequencies, most frequent label, or mean."""
        outputs: Numpy
        if self._columns and targets.ndim == 1:
            counts = np.bincount(self._indices(targets, self._columns), minlength=self._columns)
            outputs = np.broadcast_to(counts / len(targets), (len(targets), self._columns))
        elif targets.ndim == 1 and (self._is_accuracy or targets.dtype.kind not in "buif"):
            labels, counts = np.unique(targets, return_counts=True)
            outputs = np.full(targets.shape, labels[counts.argmax()], dtype=targets.dtype)
        else:
            outputs = np.broadcast_to(targets.astype(np.float64).mean(0), targets.shape)
        return self._score_outputs(np.ascontiguousarray(outputs), targets)

    def hits_of_the_majority(self, targets: Numpy) -> Floats | None:
        """Tell for which samples the most frequent label is right, `(N,)`; None if accuracy is not what is measured."""
        if not self._is_accuracy or targets.ndim != 1:
            return None
        labels, counts = np.unique(targets, return_counts=True)
        return np.asarray(targets == labels[counts.argmax()], dtype=np.float64)

    def _read_outputs(self, answer: Any, batch: Batch, where: str) -> Numpy:
        outputs = to_numpy(answer, "what predict returns")
        shape, columns = outputs.shape, 0 if outputs.ndim == 1 else outputs.shape[-1] if outputs.ndim else -1
        known = self._columns
        if len(shape) not in (1, 2) or shape[0] != batch.rows or (len(shape) == 2 and columns == 0):
            raise ValueError(
                f"predict must return ({batch.rows}, n_classes) or ({batch.rows},) for {batch.rows} samples, "
                f"got {shape} {where}"
            )
        if known is not None and columns != known:
            raise ValueError(f"predict must return as many columns as before, {known or 'none'}, got {shape} {where}")
        if outputs.dtype.kind not in "buifUTO":
            raise ValueError(f"predict must return numbers or labels, got dtype {outputs.dtype} {where}")
        if outputs.dtype.kind == "f" and not np.isfinite(outputs).all():
            row = int(np.argmin(np.isfinite(outputs.reshape(len(outputs), -1)).all(1)))
            wrong = outputs[row][~np.isfinite(outputs[row])][0] if outputs.ndim == 2 else outputs[row]
            raise ValueError(f"predict must return finite outputs, got {wrong} for sample {batch.first + row} {where}")
        self._columns = columns
        if columns == 1 and self._of_classes:
            raise ValueError(f"predict must return labels (m,) or one column per class, got {shape} {where}")
        return outputs[:, 0] if columns == 1 and batch.targets.ndim == 1 else outputs

    def _score_outputs(self, outputs: Numpy, targets: Numpy) -> Floats:
        if outputs.ndim == 2 and self._of_classes:
            targets = self._indices(targets, outputs.shape[1])
        scores = to_numpy(self._score(outputs, targets), "what the score returns")
        if scores.shape != (len(targets),):
            raise ValueError(f"score must return one number per sample, ({len(targets)},), got shape {scores.shape}")
        if scores.dtype.kind not in "buif" or not np.isfinite(scores.astype(np.float64)).all():
            raise ValueError(f"score must return finite numbers, got some that are not, of dtype {scores.dtype}")
        return scores.astype(np.float64)

    def _indices(self, targets: Numpy, columns: int) -> Any:
        """Find the column of every label."""
        classes = self._classes
        if targets.ndim != 1:
            raise ValueError(
                f"targets must be labels (m,) for the score {self.score_name!r}, got shape {targets.shape}"
            )
        if classes is None:
            whole = targets.dtype.kind in "bui" or (targets.dtype.kind == "f" and (targets == np.round(targets)).all())
            if not whole or targets.min() < 0 or targets.max() >= columns:
                wrong = targets[0] if not whole else targets.min() if targets.min() < 0 else targets.max()
                raise ValueError(
                    f"targets must be from 0 to {columns - 1}, the columns of what predict returns, got {wrong}: "
                    "give classes= what each column stands for, such as model.classes_"
                )
            return targets.astype(np.int64)
        if len(classes) != columns:
            raise ValueError(f"classes must be one per column of what predict returns, {columns}, got {len(classes)}")
        found = targets[:, None] == classes
        if not found.any(1).all():
            raise ValueError(f"targets must be among the classes, got {targets[int(found.any(1).argmin())]!r}")
        return found.argmax(1)

    def _note_prediction(self, outputs: Numpy) -> None:
        predictions = outputs.argmax(1) if outputs.ndim == 2 and self._is_accuracy else outputs
        if self._first_prediction is None:
            self._first_prediction = predictions[0]
        self.is_constant &= bool(np.all(predictions == self._first_prediction))


def _read_classes(classes: Sequence[Any]) -> Numpy:
    read = to_numpy(classes, "classes")
    if read.ndim != 1 or len(np.unique(read)) != len(read):
        raise ValueError(f"classes must be a list of different labels, got {read.tolist()!r}")
    return read
