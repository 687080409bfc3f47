"""From a picture, sound or film in a file to arrays of one shape, whatever its format, size and rate.

What cannot be read is an `UnreadableError` with the reason in a few words, of whatever kind the fault is; nothing here
warns, and no file makes it take memory beyond what its limits allow.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from equilib_torch.data.modality import Array
from equilib_torch.errors import InputError

MediaKind = Literal["image", "audio", "video", "frames", "array"]
"""What a file holds: of `frames` a folder of pictures, of `array` an `.npy` file of features (T, F)."""

SOUND = "sound"
"""Part of a film that is its sound track; its pictures are the part "" like all that other files hold."""

_PACKAGES: dict[MediaKind, tuple[str, ...]] = {
    "image": ("PIL",),
    "audio": ("soundfile", "av"),
    "video": ("PIL", "av"),
    "frames": ("PIL",),
    "array": (),
}


class UnreadableError(Exception):
    """A file does not hold what it should; says why in a few words."""


@dataclass(frozen=True, kw_only=True)
class MediaOptions:
    """How files become arrays, and what happens to those that cannot be read.

    Attributes:
        image_size: Pixels of both sides of a picture, 1 to 4096; its sides are scaled apart, so that nothing is cut.
        audio_seconds: Longest sound that is kept, from its beginning, above 0 up to 3600.
        video_frames: Pictures taken from a film or a folder of frames, evenly spaced, 1 to 1024; 1 makes it a modality
            of pictures.
        allow_unreadable: Whether to go on when more than a fifth of a column's files cannot be read.
        workers: Processes that decode, 0 or more; 0 decodes in this one. None: as many as cores, 8 at most.

    Raises:
        InputError: A number outside its range.
    """

    image_size: int = 224
    audio_seconds: float = 10.0
    video_frames: int = 3
    allow_unreadable: bool = False
    workers: int | None = None

    def __post_init__(self) -> None:
        ranges = {
            "image-size": (1 <= self.image_size <= 4096, "1 to 4096", self.image_size),
            "audio-seconds": (0 < self.audio_seconds <= 3600, "above 0 and at most 3600", self.audio_seconds),
            "video-frames": (1 <= self.video_frames <= 1024, "1 to 1024", self.video_frames),
            "decode-workers": (self.workers is None or 0 <= self.workers <= 256, "0 to 256", self.workers),
        }
        for name, (holds, rule, value) in ranges.items():
            if not holds:
                raise InputError(f"{name} must be {rule}, got {value!r}")


def require_packages(kind: MediaKind) -> None:
    """Refuse to begin where a package is missing that reads such files.

    Raises:
        InputError: Names the package and the extra.
    """
    for package in _PACKAGES[kind]:
        if find_spec(package) is None:
            raise InputError(f"reading files of kind {kind} needs the extra [media]: the package {package} is missing")


def decode(kind: MediaKind, path: Path, options: MediaOptions) -> dict[str, Array]:
    """Read one file.

    Args:
        kind: What it should hold; its name plays no part, its content decides on the format.
        path: Where it is.
        options: Sizes and lengths.

    Returns:
        Arrays by part. "" is, of an image, uint8 (image_size, image_size, 3); of audio, float32 (T, 64), a log-mel
        spectrogram; of video and frames, uint8 (at most video_frames, image_size, image_size, 3); of an array, float32
        (T, F). `SOUND` is a film's sound as that of audio, if it has any.

    Raises:
        UnreadableError: It does not hold that.
    """
    with decoding_faults(path):
        if kind == "image":
            from equilib_torch.data.picture import read_picture

            return {"": read_picture(path, options.image_size)}
        if kind == "audio":
            from equilib_torch.data.sound import read_sound

            return {"": read_sound(path, options.audio_seconds)}
        if kind == "frames":
            from equilib_torch.data.stills import read_stills

            return {"": read_stills(path, options)}
        if kind == "array":
            from equilib_torch.data.spectra import read_features

            return {"": read_features(path)}
        from equilib_torch.data.film import read_film

        return read_film(path, options)


@contextmanager
def decoding_faults(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises or warns about into an `UnreadableError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UnreadableError:
        raise
    except FileNotFoundError as error:
        raise UnreadableError("there is no such file") from error
    except PermissionError as error:
        raise UnreadableError("not permitted to read it") from error
    except MemoryError as error:
        raise UnreadableError("it needs more memory than there is") from error
    except Exception as error:  # decoders of damaged files raise nearly anything
        reason = " ".join(str(error).replace(str(path), "the file").split())[:120]
        raise UnreadableError(guess(path) or f"damaged, or of an unknown format: {reason}") from error


def guess(path: Path) -> str:
    """Say what a file is that is no medium at all, as far as its first bytes tell, else nothing.

    Example:
        >>> guess(Path(__file__))
        'it is a text, no medium'
    """
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError:
        return ""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not head:
        return "the file is empty"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "it is an HTML page, as a failed download leaves behind"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; fetch the file by: git lfs pull"
    if start.startswith((b"<svg", b"<?xml")):
        return "it is SVG or XML; draw it as PNG first"
    if head[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"):
        return "it is a HEIC picture; convert it to JPEG"
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        text = head[: error.start].decode("utf-8") if error.start > len(head) - 4 and len(head) == 1024 else "\0"
    if all(letter.isprintable() or letter in "\t\r\n\f" for letter in text):
        return "it is a text, no medium"
    return ""
