"""MVSA-Single: tweets and their pictures, by sentiment, as downloaded or by lists of parts.

    data/ID.jpg, data/ID.txt        picture and text (Latin-1)
    labelResultAll.txt              a header, then ID<Tab>LABEL OF THE TEXT,LABEL OF THE PICTURE
    {train,val,test}.txt            instead, or beside it: ID LABEL, of parts that somebody has made

A sample has one label of the two: if they are equal, this; if one is neutral, the other; a positive and a negative one
contradict each other, and the sample is left out, and counted. The parameter labels=equal leaves out all that differ.

Source: Niu et al., "Sentiment Analysis on Multi-view Social Data" (MMM 2016); the rule is that of Xu and Mao,
"MultiSentiNet" (CIKM 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from equilib_torch.data.paths import resolve
from equilib_torch.data.public.layout import PublicTable, Record, put_together, read_lines, where
from equilib_torch.errors import InputError
from equilib_torch.streams import warn

CLASSES = ("negative", "neutral", "positive")
"""Classes 0 to 2."""

RULES = ("merged", "equal")
"""What becomes of two labels: see `merge`."""

_RAW = "labelResultAll.txt"
_MAX_TEXT = 2**20  # bytes


def merge(text: str, image: str, rule: str) -> str | None:
    """Give the label of a sample by those of its text and picture, None if they contradict each other.

    Example:
        >>> merge("neutral", "positive", "merged"), merge("negative", "positive", "merged")
        ('positive', None)
        >>> merge("neutral", "positive", "equal"), merge("neutral", "neutral", "equal")
        (None, 'neutral')
    """
    if text == image:
        return text
    if rule == "equal" or "neutral" not in (text, image):
        return None
    return image if text == "neutral" else text


def read(root: Path, labels: str) -> PublicTable:
    """List the samples.

    Args:
        root: data-root.
        labels: one of `RULES`; lists of parts have one label each, and no use for it.

    Raises:
        InputError: lists or all files are missing, or a line is wrong.
    """
    lists = {part: root / f"{part}.txt" for part in ("train", "val", "test") if (root / f"{part}.txt").is_file()}
    notes = []
    if {"train", "test"} <= set(lists):
        listed = [(part, *sample) for part, path in lists.items() for sample in _read_list(path)]
        if labels != RULES[0]:
            raise InputError(
                f"labels={labels} is for {_RAW}, and train.txt and test.txt have one label each; leave it out"
            )
        if (root / _RAW).is_file():
            notes = [f"{_RAW} is not read: train.txt and test.txt have the labels"]
    elif (root / _RAW).is_file():
        pairs = _read_pairs(root / _RAW)
        merged = [("", identity, merge(text, image, labels)) for identity, text, image in pairs]
        listed = [(part, identity, label) for part, identity, label in merged if label is not None]
        why = "contradict each other" if labels == "merged" else "differ"
        notes = [
            f"{len(merged) - len(listed):,} of {len(merged):,} are left out, whose labels of text and picture {why}"
        ]
        if not listed:
            raise InputError(f"{_RAW}: no sample is left: all {len(merged):,} have labels that {why}")
    else:
        raise InputError(
            f"looked for {_RAW!r}, and for 'train.txt' and 'test.txt', and found neither; check --data-root"
        )
    names = [{"id": identity, "part": part} for part, identity, _ in listed]
    pattern = where(root, ["data/{id}.jpg", "{id}.jpg", "{part}/{id}.jpg"], names, "the pictures")
    texts = _read_texts(root, [pattern.format_map(name).removesuffix(".jpg") + ".txt" for name in names])
    records: list[Record] = [
        {
            "label": label,
            "image": pattern.format_map(name),
            "text": text,
            **({"split": part} if part else {}),
        }
        for (part, _, label), name, text in zip(listed, names, texts, strict=True)
    ]
    table = put_together("mvsa-single", root, records, notes=notes, identity="image")
    return PublicTable(table, ("image=image", "text=text"), CLASSES)


def _read_list(path: Path) -> list[tuple[str, str]]:
    samples = []
    for line, text in read_lines(path):
        identity, _, label = text.partition(" ") if " " in text else text.partition("\t")
        label = label.strip().lower()
        if label not in CLASSES:
            raise InputError(
                f"{path.name}, line {line}: must be 'ID LABEL', LABEL one of {', '.join(CLASSES)}, got {text[:80]!r}"
            )
        samples.append((identity, label))
    return samples


def _read_pairs(path: Path) -> list[tuple[str, str, str]]:
    _, *lines = read_lines(path)
    if not lines:
        raise InputError(f"{path.name}: has a header and no samples")
    pairs = []
    for line, record in lines:
        identity, _, both = record.partition("\t")
        text, comma, image = (part.strip().lower() for part in both.partition(","))
        if not comma or {text, image} - set(CLASSES):
            raise InputError(
                f"{path.name}, line {line}: must be ID<Tab>LABEL,LABEL, each one of {', '.join(CLASSES)}, got "
                f"{record[:80]!r}"
            )
        pairs.append((identity.strip(), text, image))
    return pairs


def _read_texts(root: Path, paths: Sequence[str]) -> list[str | None]:
    """Read texts; one warning says how many cannot be read, which count as missing."""
    texts: list[str | None] = []
    faults = []
    for path in paths:
        try:
            with resolve(path, root).open("rb") as file:
                texts.append(file.read(_MAX_TEXT).decode("latin-1").strip() or None)
        except OSError as error:
            texts.append(None)
            faults.append(f"{path!r} ({error.strerror})")
    if faults:
        warn(f"text: {len(faults)} of {len(paths)} files cannot be read, the first {faults[0]}; they count as missing")
    return texts
