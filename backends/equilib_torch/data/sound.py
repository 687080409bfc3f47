"""Sounds: any rate and number of channels as the log-mel spectrogram of 16 kHz mono."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from equilib_torch.data.media import UnreadableError

if TYPE_CHECKING:
    from av.container import InputContainer

RATE = 16_000
"""Samples per second that spectrograms are computed from."""

N_MELS = 64
"""Bands of a spectrogram."""

_WINDOW, _HOP = 400, 160  # samples: 25 ms and 10 ms
_FLOOR = 1e-6  # added to the power: silence is log(1e-6)
_RATES = (1_000, 1_000_000)
_MOST_CHANNELS = 64
_BLOCK = 2**16  # frames decoded at a time

Samples = npt.NDArray[np.float32]


def log_mel(samples: Samples) -> Samples:
    """Compute the log-mel spectrogram of 16 kHz mono.

    Windows of 25 ms (Hann) every 10 ms, centred, reflected at the ends; power in 64 bands of the HTK mel scale up to
    8 kHz, plus 1e-6, natural logarithm. What is shorter than a window is padded by silence.

    Args:
        samples: (n,) at 16 kHz, n ≥ 1.

    Returns:
        (1 + n // 160, 64) float32: float16 would halve the file, and cost the quiet bands their last digits.

    Example:
        >>> log_mel(np.zeros(16_000, np.float32)).shape
        (101, 64)
    """
    samples = np.pad(samples, (0, max(0, _WINDOW - len(samples))))
    padded = np.pad(samples, _WINDOW // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    bank, window = _mel_bank(), _hann()
    spectrogram = np.empty((len(frames), N_MELS), np.float32)
    for start in range(0, len(frames), 1024):
        piece = slice(start, start + 1024)
        power = np.square(np.abs(np.fft.rfft(frames[piece] * window)))
        spectrogram[piece] = np.log(power @ bank + _FLOOR)
    return spectrogram


def read_sound(path: Path, seconds: float) -> Samples:
    """Read the beginning of a sound file as a log-mel spectrogram.

    Args:
        path: What libsndfile reads (WAV, FLAC, OGG, MP3, Opus …), else what FFmpeg reads (M4A, AAC, the track of a
            film …), whatever the name says.
        seconds: The most that is read.

    Returns:
        (T, 64), see `log_mel`. Of a file that is cut off, what is there.

    Raises:
        UnreadableError: It is empty, or has NaN, or a rate or number of channels beyond reason.
        Exception: What the decoders raise for a file that is damaged or no sound.
    """
    import soundfile

    if not path.stat().st_size:
        raise UnreadableError("the file is empty")
    with path.open("rb") as opened:  # so that what is missing, or not permitted, says so by itself
        try:
            file = soundfile.SoundFile(opened)
        except soundfile.LibsndfileError:
            return _read_track(path, seconds)
        with file:
            rate, channels = file.samplerate, file.channels
            _check(rate, channels)
            blocks = (
                block.mean(1)
                for block in file.blocks(_BLOCK, frames=_most(seconds, rate), dtype="float32", always_2d=True)
            )
            return _spectrogram(blocks, rate, seconds)


def _read_track(path: Path, seconds: float) -> Samples:
    import av

    with av.open(str(path)) as container:
        if not container.streams.audio:
            raise UnreadableError("it has no sound")
        return track_spectrogram(container, seconds)


def track_spectrogram(container: InputContainer, seconds: float) -> Samples:
    """Read the first sound track of an opened film from where it stands; see `read_sound`."""
    import av

    stream = container.streams.audio[0]
    _check(stream.rate, stream.channels)
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=RATE)

    def blocks() -> Iterator[Samples]:
        for frame in container.decode(stream):
            for piece in resampler.resample(frame):
                yield piece.to_ndarray()[0]
        for piece in resampler.resample(None):
            yield piece.to_ndarray()[0]

    return _spectrogram(blocks(), RATE, seconds)


def _spectrogram(blocks: Iterable[Samples], rate: int, seconds: float) -> Samples:
    collected, left = [], _most(seconds, rate)
    for block in blocks:
        collected.append(block[:left])
        left -= len(collected[-1])
        if left <= 0:
            break
    samples = np.concatenate(collected) if collected else np.zeros(0, np.float32)
    if not len(samples):
        raise UnreadableError("there is no sound in it")
    if not np.isfinite(samples).all():
        raise UnreadableError("it has samples that are NaN or infinite")
    return log_mel(_at_16_khz(samples, rate))


def _at_16_khz(samples: Samples, rate: int) -> Samples:
    # An odd rate would need a filter of thousands of phases; this is exact to a millionth.
    ratio = Fraction(RATE, rate).limit_denominator(1000)
    if ratio == 1:
        return samples
    from scipy.signal import resample_poly

    resampled: Samples = resample_poly(samples, ratio.numerator, ratio.denominator).astype(np.float32)
    return resampled


def _most(seconds: float, rate: int) -> int:
    return max(1, round(seconds * rate))


def _check(rate: int, channels: int) -> None:
    if not _RATES[0] <= rate <= _RATES[1] or not 1 <= channels <= _MOST_CHANNELS:
        raise UnreadableError(f"its rate of {rate} Hz or number of channels, {channels}, is beyond reason")


@cache
def _hann() -> npt.NDArray[np.float64]:
    window: npt.NDArray[np.float64] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)
    return window


@cache
def _mel_bank() -> npt.NDArray[np.float64]:
    """(201, 64) triangles of height 1, evenly spaced on the HTK mel scale."""
    frequencies = np.linspace(0, RATE / 2, _WINDOW // 2 + 1)
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, N_MELS + 2) / 2595) - 1)
    rising = (frequencies[:, None] - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - frequencies[:, None]) / np.diff(edges)[1:]
    bank: npt.NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    return bank
