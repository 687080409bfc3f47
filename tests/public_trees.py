"""Small trees of files laid out as public data sets are, with real pictures, sounds and films."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import av
import numpy as np
from PIL import Image

EMOTIONS = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
DISHES = ("apple_pie", "ramen")
SENTIMENTS = ("negative", "neutral", "positive")


def picture(path: Path, k: int) -> Path:
    """Write a JPEG whose colour tells k."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 16), (40 * k % 256, 255 - 30 * k % 256, 90)).save(path, format="JPEG")
    return path


def sound(path: Path, k: int, rate: int = 8000) -> Path:
    """Write a WAV of .3 s whose pitch tells k."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 8000 * np.sin(np.arange(int(0.3 * rate)) / rate * 2 * np.pi * 200 * (k + 1))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def film(path: Path, *, seconds: float = 2.2, silent: bool = False) -> Path:
    """Write a film of 5 pictures a second, the brightness of which tells the second; with a sound unless silent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=5)
        video.width, video.height, video.pix_fmt = 32, 24, "yuv420p"
        audio = None if silent else container.add_stream("aac", rate=16000, layout="mono")
        for k in range(round(5 * seconds)):
            pixels = np.full((24, 32, 3), 60 * (k // 5), np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode(None))
        if audio is not None:
            samples = (0.3 * np.sin(np.arange(int(16000 * seconds)) / 10)).astype(np.float32)
            for start in range(0, len(samples), 1024):
                piece = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="fltp", layout="mono")
                piece.sample_rate, piece.pts = 16000, start
                container.mux(audio.encode(piece))
            container.mux(audio.encode(None))
    return path


def crema_d(root: Path, speakers: int = 4) -> Path:
    """Write a clip of each speaker and emotion; the last emotion's takes are the test part's, for every speaker."""
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for speaker in range(1001, 1001 + speakers):
        for k, emotion in enumerate(EMOTIONS):
            for take, part in (("IEO", "train"), ("TIE", "train"), ("IWW", "test")):
                name = f"{speaker}_{take}_{emotion}_XX"
                lists[part].append(f"{name},{emotion}")
                sound(root / "AudioWAV" / f"{name}.wav", k)
                for still in range(1 + (k % 4)):
                    picture(root / "Image-01-FPS" / name / f"{still:05d}.jpg", k)
    for part, lines in lists.items():
        (root / f"{part}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8-sig")  # with a byte order mark
    return root


def kinetics_sounds(root: Path, form: str) -> Path:
    """Write 3 classes in one of the forms: `spaces`, `commas` (sounds as .npy) or `folders`."""
    for part, n in (("train", 6), ("test", 2)):
        lines = []
        for label in range(3):
            for k in range(n):
                name = f"{part}{label}{k}"
                if form == "folders":
                    stills = (
                        root / "visual" / f"{'train' if part == 'train' else 'val'}_img" / "Image-01-FPS" / f"c{label}"
                    )
                    voice = root / "audio" / part / f"c{label}" / name
                else:
                    stills, voice = root / "visual", root / "audio" / name
                for still in range(2):
                    picture(stills / name / f"frame_{still + 1:05d}.jpg", label)
                if form == "commas":
                    voice.parent.mkdir(parents=True, exist_ok=True)
                    np.save(f"{voice}.npy", np.full((20, 128), label, np.float32))
                else:
                    sound(Path(f"{voice}.wav"), label)
                lines.append(f"{name},10,c{label}" if form == "commas" else f"{name} {label}")
        if form != "folders":
            (root / f"my_{part}.txt").write_text("\n".join(lines), encoding="utf-8")
    return root


def food_101(root: Path, *, header: bool = True) -> Path:
    """Write 2 dishes."""
    (root / "texts").mkdir(parents=True)
    for part, n in (("train", 8), ("test", 3)):
        lines = ["text,label,Image_path"] if header else []
        for label, dish in enumerate(DISHES):
            for k in range(n):
                name = f"{dish}_{k}.jpg"
                picture(root / "images" / part / dish / name, label)
                title = f'"{dish.title()}, the ""best"" {k}"'
                lines.append(f"{title},{dish},{name}" if header else f"{name},{title},{dish}")
        (root / "texts" / f"{part}_titles.csv").write_text("\n".join(lines), encoding="utf-8")
    return root


def mvsa_single(root: Path, *, lists: bool = False) -> Path:
    """Write 3 sentiments, 8 each; of the raw labels, one in 4 has a neutral text, and 2 contradict each other."""
    lines = ["ID\ttext,image"]
    parts: dict[str, list[str]] = {"train": [], "test": []}
    for label, sentiment in enumerate(SENTIMENTS):
        for k in range(8):
            number = 100 * label + k
            picture(root / "data" / f"{number}.jpg", label)
            (root / "data" / f"{number}.txt").write_bytes(f"caf\xe9 {sentiment} day {k}".encode("latin-1"))
            lines.append(f"{number}\t{'neutral' if k % 4 == 0 else sentiment},{sentiment}")
            parts["test" if k > 5 else "train"].append(f"{number} {sentiment}")
    for number, pair in ((901, "positive,negative"), (902, "negative,positive")):
        picture(root / "data" / f"{number}.jpg", 0)
        (root / "data" / f"{number}.txt").write_text("both")
        lines.append(f"{number}\t{pair}")
    if lists:
        for part, samples in parts.items():
            (root / f"{part}.txt").write_text("\n".join(samples))
    else:
        (root / "labelResultAll.txt").write_text("\r\n".join(lines))
    return root


def memes(root: Path, *, test_labels: bool = True) -> Path:
    """Write a set of `.jsonl` files like Hateful Memes."""
    root.mkdir(parents=True, exist_ok=True)
    for part, n in (("train", 12), ("dev", 4), ("test", 4)):
        lines = []
        for k in range(n):
            name = f"img/{part}{k}.png"
            picture(root / name, k % 2)
            label = {"label": k % 2} if test_labels or part != "test" else {}
            lines.append(json.dumps({"id": k, "img": name, "text": f"meme {'ha' * (k % 2)} {k}"} | label))
        (root / f"{part}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return root
