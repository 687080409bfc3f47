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
    from av.stream import Disposition

    if not path.stat().st_size:
        raise UnreadableError("the file is empty")
    with av.open(str(path)) as container:
        formats = set(container.format.name.split(","))
        # The cover of a song is a stream of pictures, too.
        streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams or formats & _NO_FILMS or any(name.endswith("_pipe") for name in formats):
            raise UnreadableError("it is no film")
        if streams[0].width * streams[0].height > MAX_PIXELS:
            raise UnreadableError(f"too large: more than {MAX_PIXELS / 1e6:.0f} million pixels")
        streams[0].thread_count = 1  # there are as many processes as cores
        parts: dict[str, Array] = {"": _pictures(container, streams[0], options)}
        heard = bool(container.streams.audio)
    if heard:
        with av.open(str(path)) as container, suppress(UnreadableError):  # a track without samples: a silent film
            parts[SOUND] = track_spectrogram(container, options.audio_seconds)
    return parts


def _pictures(container: InputContainer, stream: VideoStream, options: MediaOptions) -> npt.NDArray[np.uint8]:
    start, duration = _span(container, stream)
    n, size = options.video_frames, options.image_size
    moments = [start + (k + 0.5) * duration / n for k in range(n)]
    if duration <= _SHORT:
        found = _seen(container.decode(stream), moments, to_end=True)  # so that one that is cut off is found out
    else:
        found = (frame for moment in moments for frame in _seen(_decoded_from(container, stream, moment), [moment]))
    shown: dict[int | None, npt.NDArray[np.uint8]] = {}
    for frame in found:
        if frame.pts not in shown:
            shown[frame.pts] = _scaled(frame, size)
    if not shown:
        raise UnreadableError("it has no pictures")
    return np.stack(list(shown.values()))


def _span(container: InputContainer, stream: VideoStream) -> tuple[float, float]:
    """Give the seconds at which the pictures begin, and for how long they go on."""
    base = float(stream.time_base or 1)
    start = (stream.start_time or 0) * base
    if stream.duration:
        return start, stream.duration * base
    if container.duration:
        return start, container.duration / 1e6
    times = [packet.pts * base for packet in container.demux(stream) if packet.pts is not None]
    container.seek(0)
    return start, max(times, default=start) - start


def _decoded_from(container: InputContainer, stream: VideoStream, moment: float) -> Iterator[VideoFrame]:
    container.seek(int(moment / float(stream.time_base or 1)), stream=stream)  # to the key frame before it
    yield from container.decode(stream)


def _seen(frames: Iterable[VideoFrame], moments: Sequence[float], *, to_end: bool = False) -> Iterator[VideoFrame]:
    """Give what is seen at each of some moments: the last frame that has begun."""
    last, k = None, 0
    for frame in frames:
        while k < len(moments) and last is not None and frame.time is not None and frame.time > moments[k]:
            yield last
            k += 1
        if k == len(moments) and not to_end:
            return
        last = frame
    if last is not None and k < len(moments):
        yield last


def _scaled(frame: VideoFrame, size: int) -> npt.NDArray[np.uint8]:
    pixels = frame.to_ndarray(format="rgb24", width=size, height=size)
    return np.ascontiguousarray(np.rot90(pixels, frame.rotation // 90), dtype=np.uint8)
