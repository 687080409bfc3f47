"""A folder whose sub-folders are the classes, as a table: each holds pictures, sounds, films or texts' names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from equilib_torch.data.dataset import SPLITS
from equilib_torch.data.kinds import EXTENSIONS, MEDIA
from equilib_torch.data.rows import Table, make_table
from equilib_torch.errors import InputError

_OF_EXTENSION = {extension: kind for kind in MEDIA for extension in EXTENSIONS[kind]}


def read_tree(root: Path) -> Table:
    """List the files of a folder whose sub-folders are the classes.

    Files of one class that are called alike but for the ending, such as `cat/1.png` and `cat/1.wav`, are one sample.
    Where the sub-folders are called train, test and perhaps val, they are the parts, and theirs the classes. Hidden
    files do not count; files of other kinds are left out, and counted in a note.

    Returns:
        Columns `label`, `image`, `audio` and `video` as far as there are such files, and `split`.

    Raises:
        InputError: there are fewer than two classes with files in them.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("cat", "dog"):
        ...         Path(folder, name).mkdir()
        ...         Path(folder, name, "1.png").touch()
        ...     read_tree(Path(folder)).columns
        {'label': ['cat', 'dog'], 'image': ['cat/1.png', 'dog/1.png']}
    """
    tops = _folders(root)
    parts = {"train", "test"} <= set(tops) <= set(SPLITS)
    samples: dict[tuple[str, str, str], dict[str, str]] = {}
    others: list[str] = []
    for part in tops if parts else [""]:
        for label in _folders(root / part):
            for path in _files(root, str(PurePosixPath(part, label))):
                kind = _OF_EXTENSION.get(PurePosixPath(path).suffix.lower())
                if kind is None:
                    others.append(path)
                    continue
                sample = samples.setdefault((part, label, str(PurePosixPath(path).with_suffix(""))), {})
                # Two pictures of one name and two endings are two samples.
                if kind in sample:
                    sample = samples.setdefault((part, label, path), {})
                sample[kind] = path
    labels = [label for _, label, _ in samples]
    if len(set(labels)) < 2:
        raise InputError(
            f"a folder must hold a sub-folder with pictures, sounds or films for each of two or more classes, got "
            f"{', '.join(map(repr, sorted(set(labels)))) or 'none with such files'}"
        )
    columns: dict[str, Sequence[str | None]] = {"label": labels}
    for kind in MEDIA:
        cells = [sample.get(kind) for sample in samples.values()]
        if any(cells):
            columns[kind] = cells
    if parts:
        columns["split"] = [part for part, _, _ in samples]
    notes = (
        [f"{len(others):,} files are no pictures, sounds or films and left out, such as {others[0]!r}"]
        if others
        else []
    )
    return make_table(root.resolve().name or "folder", columns, root, notes=notes)


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _files(root: Path, below: str) -> Iterator[str]:
    """Give the files below a folder in order, as paths that start from the root."""
    for folder, folders, files in os.walk(root / below):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(folder, name).relative_to(root).as_posix()
