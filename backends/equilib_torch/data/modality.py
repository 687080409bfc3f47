"""What one modality is: an array with a row per sample, checked when it is put together.

Everything downstream relies on the checks here, so that it need not repeat them: a `Modality` that exists is well
formed.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.dtypes import StringDType

from equilib_torch.data.mapped import release
from equilib_torch.errors import InputError

Array: TypeAlias = npt.NDArray[Any]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
IntArray: TypeAlias = npt.NDArray[np.int64]

Kind = Literal["vector", "sequence", "image", "video", "text"]
"""What an encoder sees: a vector of features, a sequence of frames, an image, a sequence of images, or a text."""

_SMALLEST_IMAGE = 8  # pixels; a smaller array of two dimensions is hardly meant as one
_CHUNK = 2**20  # numbers checked at a time, so that a check needs little memory beside the data
_DIMENSIONS: dict[str, tuple[int, ...]] = {
    "vector": (2,),
    "sequence": (3,),
    "image": (3, 4),
    "video": (5,),
    "text": (1,),
}
TIMED = ("sequence", "video")


@dataclass(frozen=True, eq=False)
class Modality:
    """One modality of every sample.

    Whatever carries no information is cleared when the object is built: frames past the length and absent rows are 0,
    and an absent row of a sequence has length 1, so that an encoder that runs over it meets neither NaN nor an empty
    sequence. The arrays passed in are never written to.

    Attributes:
        name: Not empty, printable, no space at its ends, without "+" (joins names of coalitions) and "=" (joins a name
            and an encoder on the command line).
        kind: Decides the encoder.
        values: (N, D) vectors, (N, T, F) sequences, (N, H, W) or (N, H, W, C) images, (N, T, H, W, C) videos; bool,
            integer or real, in the dtype they came with (in native byte order) and C order; (N,) texts, as NumPy's
            `StringDType`. A memory-mapped array stays on disk.
        lengths: (N,) int64, valid frames of each row, 1..T; an array for sequences and videos, None for other kinds.
        present: (N,) bool, False where the sample lacks this modality; 0 and 1 will do.

    Lists and arrays of other libraries are taken as NumPy takes them.

    Raises:
        InputError: A rule above is broken, or a value that counts is NaN or infinite.

    Example:
        >>> everywhere = np.array([True, True])
        >>> Modality("text", "sequence", np.ones((2, 3, 1)), np.array([2, 3]), everywhere).values[0, :, 0]
        array([1., 1., 0.])
        >>> Modality("a+b", "vector", np.ones((2, 3)), None, everywhere)
        Traceback (most recent call last):
            ...
        equilib_torch.errors.InputError: modality name: must be printable, ... got 'a+b'
    """

    name: str
    kind: Kind
    values: Array
    lengths: IntArray | None
    present: BoolArray

    def __post_init__(self) -> None:
        check_name(self.name)
        name = str(self.name)
        values = _checked_values(name, self.kind, as_array(name, self.values))
        present = _checked_present(name, as_array(f"{name}_present", self.present), len(values))
        lengths, unused = None, ~present
        if self.kind in TIMED:
            lengths = _checked_lengths(name, self.lengths, present, values.shape[1])
            unused = (np.arange(values.shape[1]) >= lengths[:, None]) | unused[:, None]
        elif self.lengths is not None:
            raise InputError(
                f"{name}: only a sequence or video has lengths, this is of kind {self.kind!r}; leave them out, or "
                f"rename '{name}_length' if that is a modality"
            )
        values = _cleared(values, unused)
        _check_finite(name, values)
        fields = {"name": name, "values": values, "lengths": lengths, "present": present}
        for field, value in fields.items():
            object.__setattr__(self, field, value)

    def without(self, missing: BoolArray) -> Modality:
        """Give the same modality, absent in more rows, at no cost of memory.

        Its `values` are the same array, in which these rows still hold what they held: look at `present`, as batches
        do.

        Args:
            missing: (N,) bool, rows that are to lack it.

        Example:
            >>> x = Modality("x", "vector", np.eye(3), None, np.ones(3, bool))
            >>> x.without(np.array([True, False, False])).present
            array([False,  True,  True])
        """
        other = copy(self)
        object.__setattr__(other, "present", self.present & ~missing)
        if self.lengths is not None:
            object.__setattr__(other, "lengths", np.where(other.present, self.lengths, 1))
        return other


def check_name(name: str) -> None:
    """Refuse a name no modality may have; see `Modality`.

    Raises:
        InputError: The name is refused.

    Example:
        >>> check_name("karhunen_loeve")
    """
    if not isinstance(name, str):
        raise InputError(f"modality name: must be a string, got {name!r:.80}")
    if not name or not name.isprintable() or name != name.strip() or "+" in name or "=" in name:
        raise InputError(
            f"modality name: must be printable, not empty, without spaces at its ends, '+' and '=', got {name[:80]!r}"
        )


def as_array(name: str, value: Any) -> Array:
    """Take what NumPy can make an array of.

    Raises:
        InputError: It has rows of unequal shape, or is no array for another reason.

    Example:
        >>> as_array("image", [[1, 2], [3]])
        Traceback (most recent call last):
            ...
        equilib_torch.errors.InputError: image: must be one regular array (...); pad rows of unequal length
    """
    try:
        return np.asarray(value)
    except Exception as error:  # objects of other libraries raise what they like
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{name}: must be one regular array ({reason}); pad rows of unequal length") from error


def _checked_values(name: str, kind: str, values: Array) -> Array:
    if kind not in _DIMENSIONS:
        raise InputError(f"{name}: kind must be one of {', '.join(_DIMENSIONS)}, got {kind!r}")
    if kind == "text":
        return _checked_texts(name, values)
    if values.dtype.kind not in "biuf":
        remedy = (
            "give one regular array of numbers: pad rows of unequal length"
            if values.dtype.hasobject
            else "encode them as numbers"
        )
        raise InputError(f"{name}: values must be bool, integer or real, got dtype {values.dtype}; {remedy}")
    if values.ndim not in _DIMENSIONS[kind] or 0 in values.shape:
        dimensions = " or ".join(map(str, _DIMENSIONS[kind]))
        raise InputError(
            f"{name}: kind {kind!r} needs {dimensions} dimensions, none of size 0, got shape {values.shape}"
        )
    # torch takes no foreign byte order; a file from another machine may have one.
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))


def _checked_texts(name: str, values: Array) -> Array:
    if values.ndim != 1 or 0 in values.shape:
        raise InputError(f"{name}: kind 'text' needs 1 dimension, not of size 0, got shape {values.shape}")
    wrong = [] if values.dtype.kind in "UT" else [k for k, v in enumerate(values.tolist()) if not isinstance(v, str)]
    if wrong:
        raise InputError(
            f"{name}: texts must be strings, got {values[wrong[0]]!r:.80} in row {wrong[0]}; where there is none, give "
            f"'' and say so in '{name}_present'"
        )
    return values.astype(StringDType())


def _checked_present(name: str, present: Array, n_rows: int) -> BoolArray:
    if present.shape != (n_rows,) or present.dtype.kind not in "biuf":
        raise InputError(f"{name}: present must be {n_rows} booleans, got {present.dtype} of shape {present.shape}")
    wrong = (present != 0) & (present != 1)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{name}_present: must be bool, or 0 and 1, got {present[row]} in row {row}; "
            "write 1 where the sample has this modality, else 0"
        )
    if not present.any():
        raise InputError(f"{name}: absent in all {n_rows} samples; leave the modality out")
    return present.astype(np.bool_)


def _checked_lengths(name: str, lengths: Array | None, present: BoolArray, n_frames: int) -> IntArray:
    """Give (N,) lengths: 1..T where present, 1 where absent."""
    if lengths is None:
        raise InputError(
            f"{name}: a sequence needs lengths, got None; give np.full({present.size}, {n_frames}) if all frames count"
        )
    lengths = as_array(f"{name}_length", lengths)
    if lengths.shape != present.shape or lengths.dtype.kind not in "iu":
        raise InputError(
            f"{name}: lengths must be {present.size} integers, got {lengths.dtype} of shape {lengths.shape}; "
            f"give the number of frames of each row, or rename '{name}_length' if that is a modality"
        )
    wrong = present & ((lengths < 1) | (lengths > n_frames))
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{name}: lengths must be 1 to {n_frames} (its frames), got {lengths[row]} in row {row}; "
            f"if that sample lacks it, say so in '{name}_present'"
        )
    return np.where(present, lengths, 1).astype(np.int64)


def chunks(values: Array) -> Iterator[slice]:
    """Give slices of rows that together are all rows, each of about a million numbers.

    What was read of a mapped array is let go of again, so that it needs no more memory than a slice.
    """
    step = max(1, _CHUNK * len(values) // values.size)
    for start in range(0, len(values), step):
        yield slice(start, start + step)
        release(values)


def _cleared(values: Array, unused: BoolArray) -> Array:
    """Set what is not used to 0 or "", in a copy if that changes anything; NaN counts as not 0."""
    if any(np.any(values[rows][unused[rows]]) for rows in chunks(values)):
        values = values.copy()
        values[unused] = "" if values.dtype.kind == "T" else 0
    return values


def _check_finite(name: str, values: Array) -> None:
    if values.dtype.kind != "f":
        return
    for rows in chunks(values):
        with np.errstate(over="ignore"):
            finite = np.isfinite(values[rows].astype(np.float64, copy=False))
        if not finite.all():
            row, *place = map(int, np.argwhere(~finite)[0])
            row += rows.start
            raise InputError(
                f"{name}: values must be finite, got {values[(row, *place)]} at {[row, *place]}; "
                f"if the sample of row {row} lacks this modality, say so in '{name}_present' (False there), "
                "else fill or scale the value"
            )


def reading_note(modality: Modality) -> str:
    """Say how a modality was read if its array could be meant otherwise, else nothing."""
    name, values, shape = modality.name, modality.values, modality.values.shape[1:]
    what = f"{name}: {values.dtype} samples of shape {shape} are read as"
    if modality.kind == "image" and len(shape) == 3:
        height, width, channels = shape
        if channels > 4 and height <= 4:
            return (
                f"{what} images of {height} × {width} pixels in {channels} channels; if the channels come first, "
                "save .transpose(0, 2, 3, 1)"
            )
        if values.dtype.kind == "f":
            return f"{what} images of {height} × {width} pixels in {channels} channels"
    if modality.lengths is not None and min(shape) >= _SMALLEST_IMAGE and np.all(modality.lengths == shape[0]):
        return (
            f"{what} sequences of {shape[0]} frames with {shape[1]} numbers each; if they are images, save "
            "array[..., None]"
        )
    return ""
