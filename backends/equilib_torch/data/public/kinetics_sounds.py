"""Kinetics-Sounds: actions that are seen and heard, in the forms in which it is passed on.

Lists, found by their names (or named by the parameters train, val and test), of lines `NAME LABEL`, `NAME,LABEL` or
`NAME,SECONDS,LABEL`; or class folders, of which the names of samples are taken:

    visual/{train_img,val_img}/Image-01-FPS/CLASS/CLIP/     stills
    audio/{train,test}/CLASS/CLIP.wav                       sounds, or .npy of filter banks (T, F)

With lists, stills are in a folder NAME below `visual`, sounds in `audio`, with or without folders of parts and classes
between. Where there is no test part, val is it. There may be any number of classes: sources have 31, 33 or 34.

Source: Arandjelović and Zisserman, "Look, Listen and Learn" (ICCV 2017).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path, PurePosixPath

from equilib_torch.data.public.layout import PublicTable, Record, put_together, read_lines, where
from equilib_torch.errors import InputError

_FOLDERS = {
    "train": ("train_img", "train"),
    "val": ("val_img", "val", "validation"),
    "test": ("test_img", "test", "val_img", "val", "validation"),
}
_SOUNDS = (".wav", ".npy", ".flac", ".mp3")
_ENDINGS = (*_SOUNDS, ".mp4", ".avi", ".mkv", ".webm")
_LISTED = r"(^|[^a-z]){part}([^a-z]|$)"

Sample = tuple[str, str, str]  # part, name, label


def read(root: Path, train: str | None, val: str | None, test: str | None) -> PublicTable:
    """List the samples.

    Args:
        root: data-root.
        train: list of the training part, below data-root; None: found by its name.
        val: that of the validation part.
        test: that of the test part.

    Raises:
        InputError: neither lists nor class folders, two lists of one part, a wrong line, no files, sounds of two kinds.
    """
    given = {part: root / name for part, name in {"train": train, "val": val, "test": test}.items() if name}
    lists = given or _find_lists(root)
    samples = (
        [(part, *sample) for part, path in lists.items() for sample in _read_list(path)] if lists else _clips(root)
    )
    parts = {part for part, _, _ in samples}
    notes = []
    if "test" not in parts and "val" in parts:
        notes = ["the part called val is the test part"]
        samples = [("test" if part == "val" else part, name, label) for part, name, label in samples]
    if missing := {"train", "test"} - {part for part, _, _ in samples}:
        raise InputError(f"looked for a training and a test part, and found none for {missing.pop()}")
    records: list[Record] = []
    endings = set()
    for part in ("train", "val", "test"):
        mine = [{"name": name, "label": label} for of, name, label in samples if of == part]
        if not mine:
            continue
        video = where(root, _places(("visual", "."), part, ("Image-01-FPS", "."), ""), mine, "folders of stills")
        audio = where(
            root, [p for end in _SOUNDS for p in _places(("audio", "."), part, (".",), end)], mine, "the sounds"
        )
        endings.add(PurePosixPath(audio).suffix == ".npy")
        records += [
            {"label": s["label"], "video": video.format_map(s), "audio": audio.format_map(s), "split": part}
            for s in mine
        ]
    if len(endings) > 1:
        raise InputError("sounds must be of one kind in all parts, got .npy in one and sound files in another")
    table = put_together("kinetics-sounds", root, records, notes=notes, identity="audio")
    return PublicTable(table, ("video=frames", "audio=array" if endings.pop() else "audio=audio"))


def _places(bases: Sequence[str], part: str, below: Sequence[str], ending: str) -> Iterator[str]:
    """Give the patterns by which files may be laid out."""
    for pieces in product(bases, (".", *_FOLDERS[part]), below, (".", "{label}"), ("{name}",)):
        yield "/".join(piece for piece in pieces if piece != ".") + ending


def _find_lists(root: Path) -> dict[str, Path]:
    """Find the list of each part by its name, in data-root or a folder in it."""
    files = sorted(
        path for pattern in ("*", "*/*") for path in root.glob(pattern) if path.suffix.lower() in (".txt", ".csv")
    )
    lists: dict[str, Path] = {}
    for part in _FOLDERS:
        expression = re.compile(_LISTED.format(part=part), re.IGNORECASE)
        found = [path for path in files if expression.search(path.stem)]
        if len(found) > 1:
            names = " and ".join(repr(path.relative_to(root).as_posix()) for path in found[:2])
            raise InputError(
                f"found several lists for {part}: {names}; say which each part has: kinetics-sounds:{part}=FILE:…"
            )
        if found:
            lists[part] = found[0]
    return lists


def _read_list(path: Path) -> list[tuple[str, str]]:
    samples = []
    for line, text in read_lines(path):
        name, *others = text.split(",") if "," in text else text.rsplit(maxsplit=1)
        if not 1 <= len(others) <= 2 or not name.strip() or not others[-1].strip():
            raise InputError(
                f"{path.name}, line {line}: must be 'NAME LABEL', NAME,LABEL or NAME,SECONDS,LABEL, got {text[:80]!r}"
            )
        bare = PurePosixPath(name.strip())
        samples.append((str(bare.with_suffix("") if bare.suffix.lower() in _ENDINGS else bare), others[-1].strip()))
    return samples


def _clips(root: Path) -> list[Sample]:
    """List the clips in class folders: those that are seen or heard."""
    samples: dict[Sample, None] = {}
    for part, base in product(("train", "test"), ("visual", "audio")):
        folders = [root / base / name for name in _FOLDERS[part]]
        folder = next((folder for folder in folders if folder.is_dir()), None)
        if folder is None:
            raise InputError(
                "looked for lists called train and test (.txt or .csv), and for the class folders "
                f"{' and '.join(repr(f.relative_to(root).as_posix()) for f in folders[:3])}, and found none of them; "
                "check --data-root"
            )
        below = folder / "Image-01-FPS"
        for entry in sorted((below if below.is_dir() else folder).glob("*/*")):
            if entry.name[0] != "." and (entry.is_dir() if base == "visual" else entry.suffix.lower() in _SOUNDS):
                samples[part, entry.name if base == "visual" else entry.stem, entry.parent.name] = None
    return list(samples)
