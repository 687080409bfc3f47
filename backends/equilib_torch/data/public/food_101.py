"""UPMC Food-101: pictures of dishes and the titles of the pages they are from.

    texts/{train,test}_titles.csv             columns text,label,Image_path; or, as downloaded, without a header the
                                              columns Image_path,text,label
    images/{train,test}/LABEL/Image_path      the pictures

or {train,dev,test}.jsonl with the keys img, label and text.

Source: Wang et al., "Recipe Recognition with Large Multimodal Food Dataset" (ICMEW 2015).
"""

from __future__ import annotations

import csv
import io
from pathlib import Path, PurePosixPath

from equilib_torch.data.public.jsonl import is_jsonl_set, read_folder
from equilib_torch.data.public.layout import PublicTable, Record, put_together, read_utf8, where
from equilib_torch.errors import InputError

_COLUMNS = ("text", "label", "Image_path")
_RAW = ("Image_path", "text", "label")
_PICTURES = (".jpg", ".jpeg", ".png")


def read(root: Path) -> PublicTable:
    """List the samples.

    Raises:
        InputError: lists or pictures are missing, or a line is wrong.
    """
    if not (root / "texts").is_dir() and is_jsonl_set(root):
        return read_folder(root, name="food-101")
    records: list[Record] = []
    for part in ("train", "test"):
        samples = _read_titles(root / "texts" / f"{part}_titles.csv")
        places = (f"images/{part}/{{label}}/{{Image_path}}", f"images/{part}/{{Image_path}}")
        image = where(root, places, samples, "the pictures")
        records += [
            {"label": sample["label"], "image": image.format_map(sample), "text": sample["text"] or None, "split": part}
            for sample in samples
        ]
    return PublicTable(put_together("food-101", root, records), ("image=image", "text=text"))


def _read_titles(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise InputError(
            f"looked for the list 'texts/{path.name}' and for train.jsonl, and found neither; check --data-root"
        )
    try:
        rows = [row for row in csv.reader(io.StringIO(read_utf8(path), newline="")) if any(row)]
    except csv.Error as error:
        raise InputError(f"texts/{path.name}: no .csv file ({error})") from error
    if not rows:
        raise InputError(f"the list 'texts/{path.name}' is empty; it needs a line per sample")
    if sorted(name.strip() for name in rows[0]) == sorted(_COLUMNS):
        header, rows = tuple(name.strip() for name in rows[0]), rows[1:]
    elif PurePosixPath(rows[0][0]).suffix.lower() in _PICTURES:
        header = _RAW
    else:
        raise InputError(
            f"texts/{path.name}: needs the columns {', '.join(_COLUMNS)}, got {', '.join(rows[0])[:200]!r}"
        )
    samples = []
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise InputError(f"texts/{path.name}, record {number}: needs {len(header)} cells, got {len(row)}")
        sample = {key: cell.strip() for key, cell in zip(header, row, strict=True)}
        for key in ("label", "Image_path"):
            if not sample[key]:
                raise InputError(f"texts/{path.name}, record {number}: needs a {key}, got none")
        samples.append(sample)
    if not samples:
        raise InputError(f"the list 'texts/{path.name}' has a header and no samples")
    return samples
