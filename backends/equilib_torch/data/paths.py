"""Where the files are that the cells of a table name: inside one folder, and files."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

from equilib_torch.errors import InputError

_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def resolve(cell: str, root: Path, *, folder: bool = False) -> Path:
    """Give the path of the file that a cell names, relative to a folder that it must not leave.

    Whether the file is there is not asked: one that is not is a missing sample, no attack. What is there must be a
    regular file, because a pipe could block for ever and a device never end. Symbolic links are followed, and must not
    lead out of the folder either.

    Args:
        cell: a relative path with "/", such as "images/0.png".
        root: the folder, data-root.
        folder: whether it names a folder, not a file.

    Returns:
        The path with all links followed.

    Raises:
        InputError: an absolute path, one that leaves the folder, one no file can have, or no regular file; names the
            rule and the cell, to which the caller adds column and row.

    Example:
        >>> resolve("../secret.png", Path("."))
        Traceback (most recent call last):
            ...
        equilib_torch.errors.InputError: a path must not leave data-root, got '../secret.png'; ...
    """
    if "\0" in cell or not cell.strip():
        raise InputError(f"a path must name a file, got {cell[:200]!r}")
    if PurePosixPath(cell).is_absolute():
        raise InputError(f"a path must be relative to data-root, got {cell[:200]!r}; {_remedy(cell, root)}")
    top = os.path.realpath(root)
    path = os.path.realpath(os.path.join(top, cell))  # noqa: PTH118 - as strings: a table has 100,000 of them
    if path != top and not path.startswith(top.rstrip(os.sep) + os.sep):
        raise InputError(
            f"a path must not leave data-root, got {cell[:200]!r}; give --data-root a folder that holds all of them"
        )
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except OSError:  # not there, too long, not permitted: whoever opens it learns why
        return Path(path)
    if not (stat.S_ISDIR if folder else stat.S_ISREG)(mode):
        what = _KINDS.get(stat.S_IFMT(mode), "something else")
        wanted = "folder" if folder else "file"
        raise InputError(f"a path must name a {wanted}, got {cell[:200]!r}, which is {what}")
    return Path(path)


def _remedy(cell: str, root: Path) -> str:
    """Say how an absolute path is written as a relative one."""
    inside = os.path.relpath(cell, root.absolute())
    if inside.startswith(".."):
        return "give --data-root a folder that holds all of them, and paths below it"
    return f"write {inside[:200]!r}"
