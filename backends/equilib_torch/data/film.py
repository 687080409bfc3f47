"""Films: evenly spaced pictures, and the sound track as a spectrogram."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from equilib_torch.data.media import SOUND, MediaOptions, UnreadableError
from equilib_torch.data.modality import Array
from equilib_torch.data.picture import MAX_PIXELS
from equilib_torch.data.sound import track_spectrogram

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# FFmpeg reads pictures, subtitles and texts as films, too.
_NO_FILMS = {"image2", "apng", "webp", "ico", "srt", "ass", "webvtt", "microdvd", "subviewer", "mpsub", "tty", "txt"}
_SHORT = 20.0  # seconds; a film that is not longer is decoded from end to end, which takes less time than seeking


def read_film(path: Path, options: MediaOptions) -> dict[str, Array]:
    """Read pictures and sound of a film.

    Args:
        path: What FFmpeg reads (MP4, AVI, MKV, WebM, animated GIF …), whatever the name says.
        options: How many pictures, of what size; how much of the sound.

    Returns:
        "": (n, image_size, image_size, 3) uint8, what is seen in the middle of each of video_frames equal parts, or
        all pictures if there are fewer; `SOUND`: (T, 64) float32 as `log_mel` says, if there is any sound.

    Raises:
        UnreadableError: It has no pictures, or too large ones.
        Exception: What FFmpeg raises for a file that is damaged or no film.
    """
    import av

    if not path.stat().st_size:
        raise UnreadableError("the file is empty")
    with av.open(str(path)) as container:
        formats = set(container.format.name.split(","))
        stream = _pictures_of(container)
        if stream is None or formats & _NO_FILMS or any(name.endswith("_pipe") for name in formats):
            raise UnreadableError("it is no film")
        if stream.width * stream.height > MAX_PIXELS:
            raise UnreadableError(f"too large: more than {MAX_PIXELS / 1e6:.0f} million pixels")
        start, duration = _declared_span(container, stream)
        short = duration <= _SHORT
        if short:
            start, duration = _measured_span(container, stream)
        heard = bool(container.streams.audio)
    moments = [start + (k + 0.5) * duration / options.video_frames for k in range(options.video_frames)]
    with av.open(str(path)) as container:
        stream = _pictures_of(container)
        assert stream is not None  # noqa: S101 - the same file as above
        stream.thread_count = 1  # there are as many processes as cores
        found = _passed(container, stream, moments) if short else _sought(container, stream, moments)
        parts: dict[str, Array] = {"": _scaled(found, options.image_size)}
    if heard:
        with av.open(str(path)) as container, suppress(UnreadableError):  # a track without samples: a silent film
            parts[SOUND] = track_spectrogram(container, options.audio_seconds)
    return parts


def _pictures_of(container: InputContainer) -> VideoStream | None:
    from av.stream import Disposition

    # The cover of a song is a stream of pictures, too.
    streams = (s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
    return next(streams, None)


def _declared_span(container: InputContainer, stream: VideoStream) -> tuple[float, float]:
    """Give the seconds at which the pictures begin, and for how long they go on, as the file says; 0 if it does not."""
    base = float(stream.time_base or 1)
    duration = stream.duration * base if stream.duration else (container.duration or 0) / 1e6
    return (stream.start_time or 0) * base, duration


def _measured_span(container: InputContainer, stream: VideoStream) -> tuple[float, float]:
    """Give the same by what is there, without decoding it: of short films, some formats say nonsense."""
    base = float(stream.time_base or 1)
    stamps = (packet.dts if packet.pts is None else packet.pts for packet in container.demux(stream))
    times = sorted(stamp * base for stamp in stamps if stamp is not None)
    if not times:
        raise UnreadableError("it has no pictures")
    n = len(times)
    return times[0], (times[-1] - times[0]) * (n / (n - 1) if n > 1 else 1)


def _passed(container: InputContainer, stream: VideoStream, moments: Sequence[float]) -> Iterator[VideoFrame]:
    """Give what is seen at some moments, from end to end; a film that is cut off is found out."""
    last, k = None, 0
    for frame in container.decode(stream):
        while k < len(moments) and last is not None and frame.time is not None and frame.time > moments[k]:
            yield last
            k += 1
        last = frame
    if last is None:
        raise UnreadableError("it has no pictures")
    start, duration = _declared_span(container, stream)
    end = (last.time or 0.0) + (last.duration or 0) * float(last.time_base or 0)
    if stream.duration and last.time is not None and end < start + 0.8 * duration - 0.2:
        raise UnreadableError(f"it is cut off: it ends after {end - start:.1f} of {duration:.1f} seconds")
    if k < len(moments):
        yield last


def _sought(container: InputContainer, stream: VideoStream, moments: Sequence[float]) -> Iterator[VideoFrame]:
    """Give the same by going to the key frame before each moment, of which it takes few to decode."""
    for moment in moments:
        container.seek(int(moment / float(stream.time_base or 1)), stream=stream)
        last = None
        for frame in container.decode(stream):
            if last is not None and frame.time is not None and frame.time > moment:
                break
            last = frame
        if last is None:
            raise UnreadableError(f"it is cut off: it has no picture at {moment:.1f} seconds")
        yield last


def _scaled(frames: Iterable[VideoFrame], size: int) -> npt.NDArray[np.uint8]:
    """Give (n, size, size, 3), upright, of the frames that are different ones."""
    scaled: dict[int | None, Array] = {}
    for frame in frames:
        if frame.pts not in scaled:
            pixels = frame.to_ndarray(format="rgb24", width=size, height=size)
            scaled[frame.pts] = np.rot90(pixels, frame.rotation // 90)
    return np.stack(list(scaled.values())).astype(np.uint8)
