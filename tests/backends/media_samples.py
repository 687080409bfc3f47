"""Pictures, sounds and films that tests write."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import soundfile
from PIL import Image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def halves(left: tuple[int, ...], right: tuple[int, ...], mode: str = "RGB", size: tuple[int, int] = (32, 16)):
    """Make a picture whose left half has one colour and whose right half another."""
    image = Image.new(mode, size, left)
    image.paste(right, (size[0] // 2, 0, *size))
    return image


def write_tone(
    path: Path, *, seconds: float = 0.5, rate: int = 16_000, channels: int = 1, hertz: float = 1000, **options
):
    """Write a sine."""
    time = np.arange(round(seconds * rate)) / rate
    samples = 0.5 * np.sin(2 * np.pi * hertz * time)
    soundfile.write(path, np.repeat(samples[:, None], channels, 1), rate, **options)


def write_film(
    path: Path, colours, *, fps: int = 5, sound: float = 0, size: tuple[int, int] = (64, 48), codec="mpeg4", **options
):
    """Write a film of one picture per colour, and a sine of so many seconds if any."""
    with av.open(str(path), "w", options=options) as container:
        pictures = container.add_stream(codec, rate=fps)
        pictures.width, pictures.height, pictures.pix_fmt = *size, "yuv420p"
        track = container.add_stream("aac", rate=16_000) if sound else None
        for colour in colours:
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), colour, np.uint8), format="rgb24")
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode(None))
        if track is not None:
            samples = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(sound * 16_000)) / 16_000)
            frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
            frame.sample_rate = 16_000
            container.mux(track.encode(frame))
            container.mux(track.encode(None))
