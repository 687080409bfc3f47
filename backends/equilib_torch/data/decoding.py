"""A column of files as arrays: decoded once, in several processes, into the cache, and mapped into memory from there.

A file that cannot be read is counted, named and treated as missing, unless that befalls too many of a column.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from equilib_torch.data.cache import Cache, make_key
from equilib_torch.data.decoders import decode_all
from equilib_torch.data.digests import digest_files
from equilib_torch.data.mapped import ArrayWriter, read_array
from equilib_torch.data.media import SOUND, MediaKind, MediaOptions, UnreadableError, require_packages
from equilib_torch.data.modality import Array, BoolArray, IntArray, Kind
from equilib_torch.data.paths import resolve
from equilib_torch.data.stills import digest_stills
from equilib_torch.errors import InputError
from equilib_torch.streams import warn

if TYPE_CHECKING:
    from tqdm import tqdm

_VERSION = 1  # of what decoding makes of a file; a change of it makes all entries of the cache old
_FEW, _PART = 20, 0.2  # faults that are too many: so many, and more than this part of a column's files


class Fault(NamedTuple):
    """A file that cannot be read: its row, from 0, what the cell says, and why."""

    row: int
    cell: str
    reason: str


@dataclass(frozen=True)
class Report:
    """How reading a column went: the number of its files, and those that cannot be read, by row."""

    n_files: int
    faults: tuple[Fault, ...] = ()

    def __str__(self) -> str:
        """Say it in a line, with an example."""
        if not self.faults:
            return f"{self.n_files} files"
        row, cell, reason = self.faults[0]
        counted = f"{len(self.faults)} of {self.n_files} files cannot be read"
        return f"{counted}, the first in row {row}: {cell[:200]!r} ({reason})"


@dataclass(frozen=True, eq=False)
class Decoded:
    """One modality of decoded files, as `Modality` takes it.

    Attributes:
        kind: image, sequence (of a sound or array) or video.
        values: (N, H, W, 3) uint8 pictures, (N, T, F) float32 spectrograms or arrays, or (N, T, H, W, 3)
            uint8 pictures of a film; 0 where absent and behind a length. A memory map that cannot be written to, if
            there is a cache.
        lengths: (N,) of sequences and videos, 1 where absent; None for images.
        present: (N,), False for an empty cell and for a file that cannot be read.
        report: Which files these are; the same for both parts of a film.
    """

    kind: Kind
    values: Array
    lengths: IntArray | None
    present: BoolArray
    report: Report


def decode_column(
    name: str,
    kind: MediaKind,
    cells: Sequence[str | None],
    *,
    data_root: Path,
    options: MediaOptions,
    cache: Cache | None,
    progress: bool,
) -> dict[str, Decoded]:
    """Decode the files that a column names, or find them decoded.

    An entry of the cache depends on the files' content and on the options, not on names and places. Where files cannot
    be read, one warning says how many, and gives an example.

    Args:
        name: Of the column, for messages, and of the modality.
        kind: image, audio, video, frames (of folders of pictures) or array.
        cells: N paths below data_root; None or "" where a sample has none.
        data_root: The folder that holds all files.
        options: How to decode, and whether many faults are allowed.
        cache: Where to keep what was decoded; None: nowhere, and in memory, which suits a few samples.
        progress: Whether a bar shows how far it is, on a terminal.

    Returns:
        By the name of the modality: NAME, and of films NAME-sound if any has sound.

    Raises:
        InputError: A cell is no path of a regular file below data_root; no file can be read; at least 20 and more than
            a fifth cannot, unless allowed; a package is missing; the cache cannot be written.

    Example:
        >>> from PIL import Image
        >>> with TemporaryDirectory() as folder:
        ...     Image.new("RGB", (9, 5), "red").save(Path(folder, "a.png"))
        ...     decoded = decode_column("photo", "image", ["a.png", None], data_root=Path(folder), cache=None,
        ...                             options=MediaOptions(image_size=4), progress=False)
        >>> decoded["photo"].values.shape, decoded["photo"].values[:, 0, 0].tolist(), decoded["photo"].present
        ((2, 4, 4, 3), [[255, 0, 0], [0, 0, 0]], array([ True, False]))
    """
    require_packages(kind)
    paths = _paths(name, cells, data_root, folders=kind == "frames")
    memory = None if cache is None else cache.directory
    digests = digest_stills(paths, options.video_frames, memory) if kind == "frames" else digest_files(paths, memory)
    absent = {
        row: _why_not(path)
        for row, (path, digest) in enumerate(zip(paths, digests, strict=True))
        if path is not None and digest is None
    }
    n_files = sum(path is not None for path in paths)
    _check(name, _report(n_files, cells, absent), options)  # sooner than after hours of decoding
    build = partial(_build, name, kind, paths, absent, options, progress)
    with ExitStack() as stack:
        if cache is None:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="equilib-")))
            build(folder)
        else:
            folder = cache.folder(make_key(kind, _content(kind, digests, absent, options)), build)
        reasons = {int(row): str(reason) for row, reason in json.loads(_read(folder, "faults.json")).items()}
        report = _report(n_files, cells, absent | reasons)
        _check(name, report, options)
        if report.faults:
            warn(f"{name}: {report}; they count as missing")
        kinds = {"": _kind(kind, options)} | ({SOUND: "sequence"} if kind == "video" else {})
        decoded: dict[str, Decoded] = {}
        for part, of_kind in kinds.items():
            if _file(folder, part, "values").exists():
                values, lengths, present = (
                    read_array(_file(folder, part, what), mapped=cache is not None and what == "values")
                    for what in ("values", "lengths", "present")
                )
                modality = f"{name}-{part}" if part else name
                decoded[modality] = Decoded(of_kind, values, None if of_kind == "image" else lengths, present, report)
    return decoded


def _paths(name: str, cells: Sequence[str | None], data_root: Path, *, folders: bool) -> list[Path | None]:
    paths: list[Path | None] = []
    for row, cell in enumerate(cells):
        try:
            paths.append(resolve(cell, data_root, folder=folders) if cell else None)
        except InputError as error:
            raise InputError(f"{name}: row {row}: {error}") from error
    if not any(paths):
        raise InputError(f"{name}: all {len(paths)} cells are empty; leave the column out")
    return paths


def _why_not(path: Path) -> str:
    if path.is_dir():
        return "no picture in this folder can be read"
    try:
        path.open("rb").close()
    except FileNotFoundError:
        return "there is no such file"
    except OSError as error:
        return error.strerror or "it cannot be opened"
    return "it came and went"


def _report(n_files: int, cells: Sequence[str | None], reasons: dict[int, str]) -> Report:
    return Report(n_files, tuple(Fault(row, cells[row] or "", reasons[row]) for row in sorted(reasons)))


def _check(name: str, report: Report, options: MediaOptions) -> None:
    """Refuse a column of which nothing, or not enough, can be read."""
    n_faults = len(report.faults)
    if n_faults == report.n_files:
        raise InputError(f"{name}: {report}; check the column and --data-root")
    if n_faults >= _FEW and n_faults > _PART * report.n_files and not options.allow_unreadable:
        raise InputError(
            f"{name}: {report}; more than {_PART:.0%} are too many: check --data-root, or treat them as missing by "
            "--allow-unreadable"
        )


def _kind(kind: MediaKind, options: MediaOptions) -> Kind:
    if kind in ("video", "frames"):
        return "image" if options.video_frames == 1 else "video"
    return "image" if kind == "image" else "sequence"


def _content(
    kind: MediaKind, digests: Sequence[str | None], absent: dict[int, str], options: MediaOptions
) -> dict[str, Any]:
    """Say all that the decoded arrays depend on."""
    sizes: dict[MediaKind, tuple[float, ...]] = {
        "image": (options.image_size,),
        "audio": (options.audio_seconds,),
        "video": (options.image_size, options.audio_seconds, options.video_frames),
        "frames": (options.image_size, options.video_frames),
        "array": (),
    }
    return {
        "version": _VERSION,
        "kind": kind,
        "options": sizes[kind],
        "files": [absent.get(row, digest) for row, digest in enumerate(digests)],
    }


def _build(
    name: str,
    kind: MediaKind,
    paths: Sequence[Path | None],
    absent: dict[int, str],
    options: MediaOptions,
    progress: bool,
    folder: Path,
) -> None:
    """Decode into a folder: values, lengths and presence of each part, and the reasons for what is absent."""
    wanted = [path for row, path in enumerate(paths) if path is not None and row not in absent]
    n, size = len(paths), options.image_size
    picture: tuple[int, ...] = (size, size, 3)
    reasons: dict[int, str] = {}
    with ExitStack() as stack:
        bar = stack.enter_context(_Bar(f"decoding {name}", len(wanted), progress))
        parts: dict[str, _Fixed | _Ragged] = {}
        if kind in ("audio", "array"):
            parts[""] = stack.enter_context(_Ragged(folder, "", n))
        elif _kind(kind, options) == "image":
            parts[""] = stack.enter_context(_Fixed(folder, "", (n, *picture)))
        else:
            parts[""] = stack.enter_context(_Fixed(folder, "", (n, options.video_frames, *picture)))
        if kind == "video":
            parts[SOUND] = stack.enter_context(_Ragged(folder, SOUND, n))
        outcomes = decode_all(kind, wanted, options)
        stack.callback(outcomes.close)  # whatever happens, no process is left
        for row, path in enumerate(paths):
            outcome: dict[str, Array] | str = {}
            if path is not None and row not in absent:
                outcome = next(outcomes)
                bar.advance()
            if isinstance(outcome, str):
                reasons[row], outcome = outcome, {}
            for part, writer in parts.items():
                try:
                    writer.add(outcome.get(part))
                except UnreadableError as error:
                    reasons[row] = str(error)
                    writer.add(None)
    (folder / "faults.json").write_text(json.dumps(reasons), encoding="utf-8")


class _Part:
    """What is common to parts: which rows are there, and how long they are."""

    def __init__(self, folder: Path, part: str) -> None:
        self._folder, self._part = folder, part
        self._lengths: list[int] = []

    def __enter__(self) -> Self:
        return self

    def _finish(self) -> None:
        lengths = np.array(self._lengths, np.int64)
        np.save(_file(self._folder, self._part, "lengths"), np.maximum(lengths, 1), allow_pickle=False)
        np.save(_file(self._folder, self._part, "present"), lengths > 0, allow_pickle=False)


class _Fixed(_Part):
    """Pictures: as many as fit into a row of known shape."""

    def __init__(self, folder: Path, part: str, shape: tuple[int, ...]) -> None:
        super().__init__(folder, part)
        self._shape = shape[1:]
        self._writer = ArrayWriter(_file(folder, part, "values"), shape, np.uint8)

    def add(self, pictures: Array | None) -> None:
        row = np.zeros(self._shape, np.uint8)
        if pictures is None:
            self._lengths.append(0)
        elif len(self._shape) == 3:
            row[...] = pictures.reshape(-1, *self._shape)[0]
            self._lengths.append(1)
        else:
            row[: len(pictures)] = pictures
            self._lengths.append(len(pictures))
        self._writer.append(row[None])

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        self._writer.__exit__(kind, *error)
        if kind is None:
            self._finish()


class _Ragged(_Part):
    """Spectrograms of any length: one after the other first, then padded to the longest."""

    def __init__(self, folder: Path, part: str, n_rows: int) -> None:
        super().__init__(folder, part)
        self._frames = _file(folder, part, "frames").open("xb")
        self._width = 0

    def add(self, spectrogram: Array | None) -> None:
        if spectrogram is not None:
            self._width = self._width or spectrogram.shape[1]
            if spectrogram.shape[1] != self._width:
                raise UnreadableError(f"it has {spectrogram.shape[1]} features, those before it {self._width}")
            self._frames.write(np.ascontiguousarray(spectrogram, np.float32).view(np.uint8).data)
        self._lengths.append(0 if spectrogram is None else len(spectrogram))

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        self._frames.close()
        if kind is None and any(self._lengths):
            shape = len(self._lengths), max(self._lengths), self._width
            with Path(self._frames.name).open("rb") as file, _writer(self._folder, self._part, shape) as writer:
                for length in self._lengths:
                    row = np.zeros((1, *shape[1:]), np.float32)
                    read = file.read(length * self._width * 4)
                    row[0, :length] = np.frombuffer(read, np.float32).reshape(-1, self._width)
                    writer.append(row)
            self._finish()
        Path(self._frames.name).unlink()


def _writer(folder: Path, part: str, shape: tuple[int, ...]) -> ArrayWriter:
    return ArrayWriter(_file(folder, part, "values"), shape, np.float32)


def _file(folder: Path, part: str, what: str) -> Path:
    return folder / f"{part}{'-' if part else ''}{what}.npy"


def _read(folder: Path, name: str) -> str:
    return (folder / name).read_text(encoding="utf-8")


class _Bar:
    """A progress bar on a terminal, which is given up when the terminal refuses it."""

    def __init__(self, what: str, total: int, shown: bool) -> None:
        self._bar: tqdm[Any] | None = None
        with suppress(OSError, ValueError, AttributeError):
            if shown and sys.stderr.isatty():
                from tqdm import tqdm  # naming the data sets needs no package but NumPy

                self._bar = tqdm(total=total, desc=what, unit="file", file=sys.stderr)

    def __enter__(self) -> Self:
        return self

    def advance(self) -> None:
        if self._bar is not None:
            try:
                self._bar.update()
            except (OSError, ValueError):
                self._bar.disable = True  # or it would try again when it is collected
                self._bar = None

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            with suppress(OSError, ValueError):
                self._bar.close()
