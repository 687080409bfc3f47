"""Folders of `.jsonl` files, a part each, with pictures beside them, such as Hateful Memes.

    {train,dev,test}.jsonl          an object per line with the keys img, label and text; dev may be called val, and dev
                                    and test may end in _seen
    img/…                           what img names, from the folder itself or from img

Samples without a label, as the test parts of challenges have them, are left out and counted; where that leaves no test
part, dev is it.
"""

from __future__ import annotations

from pathlib import Path

from equilib_torch.data.cells import level, text
from equilib_torch.data.public.layout import PublicTable, Record, put_together, where
from equilib_torch.data.textfiles import read_jsonl
from equilib_torch.errors import InputError

_NAMES = {"train": ("train",), "val": ("dev", "val", "dev_seen", "valid"), "test": ("test", "test_seen")}


def is_jsonl_set(root: Path) -> bool:
    """Tell whether a folder is one of these.

    Example:
        >>> is_jsonl_set(Path("no such folder"))
        False
    """
    return (root / "train.jsonl").is_file()


def read_folder(root: Path, name: str | None = None) -> PublicTable:
    """List the samples of such a folder.

    Args:
        root: the folder, which is data-root.
        name: of the set; default: that of the folder.

    Raises:
        InputError: a part is missing or empty, an object lacks a key, or there are no pictures.
    """
    samples: list[dict[str, str]] = []
    notes = []
    for part, names in _NAMES.items():
        path = next((root / f"{n}.jsonl" for n in names if (root / f"{n}.jsonl").is_file()), None)
        if path is None:
            continue
        read = _read_part(path, part)
        labelled = [sample for sample in read if sample["label"]]
        if len(labelled) < len(read):
            notes.append(f"{path.name}: {len(read) - len(labelled):,} of {len(read):,} samples have no label: left out")
        samples += labelled
    parts = {sample["split"] for sample in samples}
    if "test" not in parts and "val" in parts:
        notes.append("no test part has labels: the dev part is the test part")
        samples = [s | {"split": "test"} if s["split"] == "val" else s for s in samples]
    for part in ("train", "test"):
        if not any(sample["split"] == part for sample in samples):
            raise InputError(
                f"looked for labelled samples in {' or '.join(f'{n}.jsonl' for n in _NAMES[part])}, and found none"
            )
    image = where(root, ["{img}", "img/{img}", "images/{img}", "images/{split}/{img}"], samples, "the pictures")
    records: list[Record] = [
        {"label": s["label"], "image": image.format_map(s), "text": s["text"] or None, "split": s["split"]}
        for s in samples
    ]
    table = put_together(name or root.resolve().name, root, records, notes=notes, identity="image")
    return PublicTable(table, ("image=image", "text=text"))


def _read_part(path: Path, part: str) -> list[dict[str, str]]:
    try:
        table = read_jsonl(path, None)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error
    for key in ("img", "text"):
        if key not in table.columns:
            raise InputError(f"{path.name}: needs the keys img, label and text, got {', '.join(table.columns)[:200]}")
    labels = table.columns.get("label", [None] * len(table))
    samples = []
    for row, (image, written, label) in enumerate(
        zip(table.columns["img"], table.columns["text"], labels, strict=True)
    ):
        if not (place := level(image)):
            raise InputError(f"{path.name}, {table.place(row)}: needs the key img, got none")
        samples.append({"img": place, "text": text(written), "label": level(label) or "", "split": part})
    return samples
