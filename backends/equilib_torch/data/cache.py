"""A cache on disk: folders of finished files by a key, made once whoever comes first, whole or not there at all.

What is expensive to compute (decoded pictures and sounds, features of a frozen backbone) is kept here, as arrays that
are mapped into memory. A key is a digest of all that the content depends on, so that an entry never goes stale.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equilib_torch.errors import InputError
from equilib_torch.streams import say_aside

ENVIRONMENT = "EQUILIB_CACHE"
"""The environment variable that says where the cache is."""

MAX_BYTES = 50 * 2**30
"""How large a cache may become unless told otherwise."""

_MANIFEST = "manifest.json"
_BUILDING, _TRASH, _LOCK = ".building-", ".trash-", ".lock-"
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_PATIENCE = 5.0  # seconds after which somebody who waits is told why
_STALE = 24 * 3600.0  # seconds after which leftovers go where no lock can tell whether somebody still needs them
_REMEDY = f"choose another place by --cache DIR or the environment variable {ENVIRONMENT}"

_held: dict[Path, tuple[int, int]] = {}  # entries that this process uses: their inodes, and the locks' descriptors


@dataclass(frozen=True)
class Cache:
    """Folders of finished files below a directory, which several processes may use at once.

    An entry is built in a temporary folder, flushed to the disk and renamed: it is whole or not there, whatever is
    killed when. Sizes and SHA-256 of its files are checked when a process first uses it; a damaged entry is built
    anew. Where the file system has locks, one process builds and the others wait; else the first to finish wins.

    Attributes:
        directory: Where; made when needed.
        max_bytes: When an entry has been added, those that were not used for longest go until the rest is not larger.
            Entries in use stay, and so may exceed it.
    """

    directory: Path
    max_bytes: int = MAX_BYTES

    def folder(self, key: str, build: Callable[[Path], None]) -> Path:
        """Give the folder of a key, built if it is not there.

        Args:
            key: Letters, digits, "_" and "-", at most 100; see `make_key`.
            build: Writes all files into the folder that it is given, nothing else.

        Returns:
            The folder. Its files are only to be read; they stay for as long as this process lives.

        Raises:
            InputError: The cache cannot be written, or the disk is full; nothing is left of the entry then.

        Example:
            >>> with tempfile.TemporaryDirectory() as place:
            ...     cache = Cache(Path(place))
            ...     for _ in range(2):
            ...         folder = cache.folder("greeting", lambda to: print(to.joinpath("x").write_text("hello")))
            ...     folder.joinpath("x").read_text()
            5
            'hello'
        """
        if not _KEY.fullmatch(key):
            raise ValueError(f"key must be letters, digits, '_' and '-', 1 to 100 of them, got {key!r:.120}")
        entry = self.directory / key
        if _hold(entry):
            return entry
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with _locked(self.directory, key) as locked:
                if not _hold(entry):
                    self._clean(key if locked else None)
                    self._build(entry, build)
            if not _hold(entry):
                raise InputError(f"cache {self.directory}: entry {key} does not read as it was written; {_REMEDY}")
        except PermissionError as error:
            if not _is_below(error.filename, self.directory):
                raise
            raise InputError(f"cache {self.directory}: cannot be written ({error.strerror}); {_REMEDY}") from error
        except FileExistsError as error:
            raise InputError(f"cache {self.directory}: must be a directory; {_REMEDY}") from error
        except OSError as error:
            raise self._explained(error) from error
        self._prune(keep=key)
        return entry

    def _build(self, entry: Path, build: Callable[[Path], None]) -> None:
        temporary = Path(tempfile.mkdtemp(dir=self.directory, prefix=f"{_BUILDING}{entry.name}."))
        try:
            build(temporary)
            files = {str(path.relative_to(temporary)): path for path in _files(temporary)}
            manifest = {name: [path.stat().st_size, _digest(path)] for name, path in files.items()}
            (temporary / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
            for path in (*files.values(), temporary / _MANIFEST, *_folders(temporary), temporary):
                _flush(path)
            temporary.chmod(0o777 & ~_umask())
            if entry.exists():
                if _hold(entry):  # somebody was faster, where there are no locks
                    return
                _discard(entry)  # it is damaged
            temporary.rename(entry)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # somebody was faster just now
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        _flush(self.directory)

    def _explained(self, error: OSError) -> Exception:
        # NumPy does not say why it could write less than it wanted.
        short = error.errno is None and "requested" in str(error) and "written" in str(error)
        if error.errno in _FULL or short:
            return InputError(
                f"cache {self.directory}: the disk is full or a file may not grow further; nothing is left of what "
                f"was being written; free some space, or {_REMEDY}"
            )
        if error.errno in (errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG) and _is_below(
            error.filename, self.directory
        ):
            return InputError(f"cache {self.directory}: cannot be written ({error.strerror}); {_REMEDY}")
        return error

    def _clean(self, key: str | None) -> None:
        """Remove what processes left behind that were killed, the key's own if it is locked."""
        for left in (*self.directory.glob(f"{_BUILDING}*"), *self.directory.glob(f"{_TRASH}*")):
            owner = left.name.removeprefix(_BUILDING).rpartition(".")[0]
            with suppress(OSError):
                if left.name.startswith(_TRASH) or owner == key or time.time() - left.stat().st_mtime > _STALE:
                    shutil.rmtree(left, ignore_errors=True)
                elif _KEY.fullmatch(owner):
                    with _locked(self.directory, owner, wait=False) as locked:
                        if locked:
                            shutil.rmtree(left, ignore_errors=True)

    def _prune(self, keep: str) -> None:
        """Remove the entries that were not used for longest until the rest is small enough."""
        entries: list[tuple[float, int, Path]] = []
        with suppress(OSError):
            for entry in self.directory.iterdir():
                with suppress(OSError):
                    if _KEY.fullmatch(entry.name) and (entry / _MANIFEST).is_file():
                        size = sum(path.stat().st_size for path in _files(entry))
                        entries.append((entry.stat().st_mtime, size, entry))
        total = sum(size for _, size, _ in entries)
        for _, size, entry in sorted(entries):
            if total <= self.max_bytes:
                break
            if entry.name != keep and _discard_unused(entry):
                total -= size


def default_cache(directory: str | Path | None = None, max_bytes: int = MAX_BYTES) -> Cache:
    """Give the cache at a place, by default that of the environment variable EQUILIB_CACHE, else the user's own.

    Args:
        directory: Where, if said.
        max_bytes: How large it may become.

    Raises:
        InputError: There is no home directory to put it into.

    Example:
        >>> default_cache("somewhere").directory.name
        'somewhere'
    """
    place = directory or os.environ.get(ENVIRONMENT)
    if place:
        return Cache(Path(place).expanduser().absolute(), max_bytes)
    try:
        usual = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    except RuntimeError as error:
        raise InputError(f"cache: there is no home directory; {_REMEDY}") from error
    return Cache(Path(os.environ.get("XDG_CACHE_HOME") or usual) / "equilib", max_bytes)


def make_key(name: str, content: Any) -> str:
    """Make a key from all that an entry depends on.

    Args:
        name: What is cached, a word, so that a person can tell entries apart.
        content: What JSON can say: digests of files, options, versions.

    Example:
        >>> make_key("features", {"model": "abc", "pool": "mean"})
        'features-cf6b71549537e10b7925bbd0c8d078da'
    """
    written = json.dumps(content, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return f"{name}-{hashlib.sha256(written.encode()).hexdigest()[:32]}"


def _hold(entry: Path) -> bool:
    """Use an entry from now on, so that nobody removes it, if it is there and whole."""
    with suppress(OSError):
        if entry in _held and _held[entry][0] == entry.stat().st_ino:
            return True
    descriptor = None
    try:
        descriptor = os.open(entry, os.O_RDONLY | os.O_DIRECTORY)
        _flock(descriptor, fcntl.LOCK_SH)
        inode = os.fstat(descriptor).st_ino
        if inode != entry.stat().st_ino or not _is_whole(entry):
            return False
        with suppress(OSError):
            os.utime(entry)
        _held[entry], descriptor = (inode, descriptor), None
        return True
    except (OSError, ValueError):
        return False
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _is_whole(entry: Path) -> bool:
    manifest = json.loads((entry / _MANIFEST).read_text(encoding="utf-8"))
    found = {str(path.relative_to(entry)): path for path in _files(entry)}
    found.pop(_MANIFEST, None)
    return (
        isinstance(manifest, dict)
        and found.keys() == manifest.keys()
        and all(path.stat().st_size == manifest[name][0] for name, path in found.items())
        and all(_digest(path) == manifest[name][1] for name, path in found.items())
    )


def _discard_unused(entry: Path) -> bool:
    with suppress(OSError):
        descriptor = os.open(entry, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino == entry.stat().st_ino:
                _discard(entry)
                return True
        finally:
            os.close(descriptor)
    return False


def _discard(entry: Path) -> None:
    """Take an entry out of the way at once, then remove it; whoever has its files mapped keeps them."""
    trash = entry.rename(entry.with_name(f"{_TRASH}{entry.name}.{os.urandom(4).hex()}"))
    shutil.rmtree(trash, ignore_errors=True)


@contextmanager
def _locked(directory: Path, key: str, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of a key: True, or False where it cannot be had. Nothing is left of it afterwards."""
    path = directory / f"{_LOCK}{key}"
    begun, told = time.monotonic(), False
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            real = _flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                if os.fstat(descriptor).st_ino == path.stat().st_ino:
                    break
            os.close(descriptor)  # whoever had it has just removed it
        except BlockingIOError:
            os.close(descriptor)
            if not wait:
                yield False
                return
            if not told and time.monotonic() - begun > _PATIENCE:
                say_aside(f"equilib: waiting for another process that fills the cache {directory}")
                told = True
            time.sleep(0.05)
    try:
        yield real
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _flock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_dir()]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_below(path: object, directory: Path) -> bool:
    return isinstance(path, str) and (Path(path) in directory.parents or directory in (Path(path), *Path(path).parents))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
