"""Folders of pictures, such as the stills of a film, as films of few pictures."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from equilib_torch.data.digests import digest_files
from equilib_torch.data.media import MediaOptions, UnreadableError
from equilib_torch.data.picture import read_picture

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
"""What the names of stills end in; upper and lower case alike."""


def choose_stills(folder: Path, n: int) -> list[Path]:
    """Choose pictures of a folder: that in the middle of each of n equal parts of the sorted ones, or all if fewer.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for k in (3, 1, 0, 2):
        ...         Path(folder, f"{k}.jpg").touch()
        ...     [path.name for path in choose_stills(Path(folder), 2)]
        ['1.jpg', '3.jpg']
    """
    # A pipe of that name could block for ever; hidden files are leftovers of other systems.
    names = sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.name.lower().endswith(PICTURES) and entry.is_file() and entry.name[0] != "."
    )
    n = min(n, len(names))
    return [folder / names[(2 * k + 1) * len(names) // (2 * n)] for k in range(n)]


def digest_stills(folders: Sequence[Path | None], n: int, memory: Path | None) -> list[str | None]:
    """Give a digest of the chosen pictures of each folder; None for what is None or has none that can be read.

    Args:
        folders: Absolute paths.
        n: Pictures that are chosen of each.
        memory: As for `digest_files`.
    """
    chosen = [_listed(folder, n) for folder in folders]
    digests = iter(digest_files([path for paths in chosen for path in paths], memory))
    joined = [[next(digests) or "" for _ in paths] for paths in chosen]
    return [hashlib.sha256("\n".join(parts).encode()).hexdigest() if any(parts) else None for parts in joined]


def _listed(folder: Path | None, n: int) -> list[Path]:
    try:
        return [] if folder is None else choose_stills(folder, n)
    except OSError:
        return []


def read_stills(folder: Path, options: MediaOptions) -> npt.NDArray[np.uint8]:
    """Read the chosen pictures of a folder.

    Returns:
        (n, image_size, image_size, 3) uint8, n from 1 to video_frames.

    Raises:
        UnreadableError: The folder has no pictures, or one of those chosen cannot be read.
    """
    paths = choose_stills(folder, options.video_frames)
    if not paths:
        raise UnreadableError("the folder has no pictures")
    pictures = []
    for path in paths:
        try:
            pictures.append(read_picture(path, options.image_size))
        except Exception as error:  # what decoders raise of damaged files
            raise UnreadableError(f"its picture {path.name} cannot be read") from error
    return np.stack(pictures)
