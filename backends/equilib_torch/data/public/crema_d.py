"""CREMA-D: acted emotions, faces and voices, as the authors of OGM-GE lay it out.

    train.csv, test.csv             lines ID,CLASS without a header
    AudioWAV/ID.wav                 the voice
    Image-01-FPS/ID/00000.jpg …     stills of the face, one per second, of which up to 3 are read

Sounds become our log-mel spectrograms (64 bands of 16 kHz), not the linear ones of OGM-GE (257 bands of 22 kHz, the
sound repeated to 3 s): they are smaller, and no sound is repeated or cut. The listed parts are the usual ones.

Source: Cao et al., "CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset" (IEEE Trans. Affective Computing 2014);
layout and lists: Peng et al., "Balanced Multimodal Learning via On-the-fly Gradient Modulation" (CVPR 2022).
"""

from __future__ import annotations

from pathlib import Path

from equilib_torch.data.public.layout import PublicTable, Record, put_together, read_lines, where
from equilib_torch.errors import InputError

CLASSES = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
"""Neutral, happy, sad, fear, disgust, anger: classes 0 to 5, in the order of the published lists."""


def read(root: Path, split: str) -> PublicTable:
    """List the samples.

    Args:
        root: data-root.
        split: `public`, the parts listed; `speaker`: parts are drawn so that no speaker is in two.

    Raises:
        InputError: a list or all files are missing, or a line is wrong.
    """
    listed = [(part, *sample) for part in ("train", "test") for sample in _read_list(root / f"{part}.csv")]
    names = [{"id": identity} for _, identity, _ in listed]
    audio = where(root, ["AudioWAV/{id}.wav"], names, "the sounds")
    video = where(root, ["Image-01-FPS/{id}"], names, "the folders of stills")
    records: list[Record] = [
        {
            "label": label,
            "video": video.format(id=identity),
            "audio": audio.format(id=identity),
            **({"split": part} if split == "public" else {"group": identity[:4]}),
        }
        for part, identity, label in listed
    ]
    speakers = [{identity[:4] for of, identity, _ in listed if of == part} for part in ("train", "test")]
    note = (
        f"of {len(set.union(*speakers))} speakers {len(set.intersection(*speakers))} are in the training and in the "
        "test part; crema-d:split=speaker keeps them apart"
        if split == "public"
        else f"no speaker of {len(set.union(*speakers))} is in two parts, which are drawn by the seed"
    )
    table = put_together("crema-d", root, records, notes=[note], identity="audio", classes=CLASSES)
    return PublicTable(table, ("video=frames", "audio=audio"), CLASSES)


def _read_list(path: Path) -> list[tuple[str, str]]:
    samples = []
    for line, text in read_lines(path):
        identity, comma, label = (part.strip() for part in text.partition(","))
        if not comma or label not in CLASSES:
            raise InputError(
                f"{path.name}, line {line}: must be ID,CLASS, CLASS one of {', '.join(CLASSES)}, got {text[:80]!r}"
            )
        samples.append((identity, label))
    return samples
