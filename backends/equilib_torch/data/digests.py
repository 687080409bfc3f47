"""Digests of files' content, remembered, so that a second run need not read what has not changed."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from equilib_torch.files import write_atomically

_FOLDER = ".digests"
_FORGET = 90 * 24 * 3600.0  # seconds without use
_RECENT = 2.0  # seconds; a file changed so lately may change once more without its times showing it
_THREADS = 4
_SHA256 = 32  # bytes

_Records = npt.NDArray[np.uint8]  # (N, 64): device, inode, size and times of a file, and the SHA-256 of its content


def digest_files(paths: Sequence[Path | None], memory: Path | None) -> list[str | None]:
    """Give the SHA-256 of each file, in hexadecimal, and None for what is None or cannot be read.

    A digest is remembered beside the file's inode, size and times (of its content's and of its own last change), as
    git does; only files that differ in one of them are read again.

    Args:
        paths: Absolute ones.
        memory: Directory to remember them in, if any; where it cannot be written, nothing is remembered.

    Example:
        >>> digest_files([Path("no such file"), None], None)
        [None, None]
    """
    stamps = [None if path is None else _stamp(path) for path in paths]
    names = hashlib.sha256("\n".join(map(str, paths)).encode("utf-8", "surrogateescape")).hexdigest()
    place = None if memory is None else memory / _FOLDER / f"{names}.npy"
    known = {} if place is None else _recall(place)
    with ThreadPoolExecutor(_THREADS) as pool:

        def digest(path: Path | None, stamp: bytes | None) -> bytes | None:
            return None if path is None or stamp is None else known.get(stamp) or _digest(path)

        digests = list(pool.map(digest, paths, stamps))
    if place is not None:
        _remember(place, {s: d for s, d in zip(stamps, digests, strict=True) if s and d}, known)
    return [None if digest is None else digest.hex() for digest in digests]


def _stamp(path: Path) -> bytes | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - a table has 100,000 of them
    except (OSError, ValueError):
        return None
    numbers = status.st_dev ^ status.st_ino << 16, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return np.array([n % 2**63 for n in numbers], np.int64).tobytes()


def _digest(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None


def _recall(place: Path) -> dict[bytes, bytes]:
    with suppress(OSError, ValueError, EOFError):
        records: _Records = np.load(place, allow_pickle=False)
        if records.dtype == np.uint8 and records.ndim == 2 and records.shape[1] == 2 * _SHA256:
            return {record[:_SHA256].tobytes(): record[_SHA256:].tobytes() for record in records}
    return {}


def _remember(place: Path, digests: dict[bytes, bytes], known: dict[bytes, bytes]) -> None:
    now = time.time_ns()
    settled = {s: d for s, d in digests.items() if np.frombuffer(s, np.int64)[2:].max() < now - _RECENT * 1e9}
    with suppress(OSError):  # it only saves time
        if settled == known:
            os.utime(place)
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        records = np.frombuffer(b"".join(s + d for s, d in settled.items()), np.uint8).reshape(-1, 2 * _SHA256)
        content = BytesIO()
        np.save(content, records, allow_pickle=False)
        write_atomically(place, content.getvalue())
        for other in place.parent.iterdir():
            if other.stat().st_mtime < now / 1e9 - _FORGET:
                other.unlink()
