"""Files that a crash leaves as they were or as they should be, and directories that only one process writes to."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path

BEST_MODEL = Path("checkpoints", "best")
"""Where a run directory keeps the model of its best measurement."""


class InUseError(Exception):
    """Another process, or another part of this one, holds the directory."""


class DirectoryLock:
    """Holds a directory until `close`, or until the process ends in whatever way.

    The lock is the operating system's and leaves no file behind. Where a file system has none, nothing is held.

    Raises:
        InUseError: somebody else holds it.
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor: int | None = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise InUseError(str(path)) from error
        except OSError:
            self.close()

    def close(self) -> None:
        """Let go of the directory."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file: write beside it, flush to the disk, rename over it, flush the directory.

    Raises:
        OSError: the disk is full or refuses; the old file is then still there.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".tmp-{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
