"""From the raw download of a public set of films to the layout that is read: stills at one per second, and sounds.

Every sound and every folder of stills is written beside its place and renamed, the stills last: a film whose stills are
there is done, so that the same command goes on where it was stopped.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from equilib_torch.data.media import UnreadableError, decoding_faults, require_packages
from equilib_torch.data.picture import MAX_PIXELS
from equilib_torch.data.public import PUBLIC, crema_d, read_public
from equilib_torch.data.split import hold_out
from equilib_torch.errors import InputError
from equilib_torch.files import DirectoryLock, InUseError, write_atomically

if TYPE_CHECKING:
    from av.container import InputContainer

_FILMS = (".flv", ".mp4", ".avi", ".mkv", ".webm", ".mov", ".mpg", ".m4v")
_PARTS = {"train": ("train",), "test": ("test", "val", "validate", "validation")}
_QUALITY = 92  # of the stills' JPEG


@dataclass(frozen=True)
class Job:
    """One film, the sound beside it if there is one, and what is to be made of them."""

    film: Path
    wav: Path | None
    stills: Path
    sound: Path


@dataclass(frozen=True)
class Prepared:
    """What came of a set.

    Attributes:
        films: their number.
        before: how many of them had been prepared before.
        silent: how many of the others have no sound.
        faults: films that cannot be read, and why.
        notes: what else is to be said.
    """

    films: int
    before: int
    silent: int
    faults: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def prepare(name: str, source: Path, target: Path | None, *, jobs: int = 1, progress: bool = False) -> Prepared:
    """Prepare a public set from its raw download.

    - crema-d: films `VideoFlash/ID.flv`, sounds `AudioWAV/ID.wav` (else those of the films), and `train.csv` and
      `test.csv` if they are there; if not, a tenth of each class is drawn for the test part, always the same.
    - kinetics-sounds: films in class folders, `{train,test}/CLASS/CLIP.mp4`, of which the second may be called val,
      validate or validation.
    - All others are read as they are downloaded; it is only checked that they can be.

    Args:
        name: of the set.
        source: folder of the download.
        target: folder of what is made, which becomes data-root; may be there already.
        jobs: films at a time.
        progress: whether a bar shows how far it is, on a terminal.

    Raises:
        InputError: an unknown set, no films where they are looked for, or none that can be read.
        OSError: the disk is full or refuses.
    """
    PUBLIC.find(name)
    if not source.is_dir():
        raise InputError(f"from must be a folder, got {str(source)!r}")
    if name not in ("crema-d", "kinetics-sounds"):
        table = read_public(name, source).table
        return Prepared(0, 0, 0, (), (*table.notes, f"{name} is read as it is downloaded: --data-root {source}"))
    if target is None:
        raise InputError(f"to: {name} needs a folder for what is made: --to DIR")
    require_packages("video")
    films = list(_crema_d(source, target) if name == "crema-d" else _kinetics_sounds(source, target))
    if not films:
        looked = "'VideoFlash/ID.flv'" if name == "crema-d" else "'train/CLASS/CLIP.mp4' and 'test/CLASS/CLIP.mp4'"
        raise InputError(f"{name} in {str(source)!r}: looked for films, {looked}, and found none")
    target.mkdir(parents=True, exist_ok=True)
    try:
        lock = DirectoryLock(target)
    except InUseError as error:
        raise InputError(f"to: another process is preparing {str(target)!r}; wait for it") from error
    with closing(lock):
        for leftover in [*target.rglob(".tmp-*")]:  # of one that was killed
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        notes = _write_lists(source, target, films) if name == "crema-d" else ()
        waiting = [job for job in films if not job.stills.is_dir()]
        silent, faults = _convert_all(waiting, jobs, progress)
    if len(faults) == len(films):
        raise InputError(f"none of {len(films)} films can be read, the first: {faults[0][0].name!r} ({faults[0][1]})")
    named = tuple(sorted((film.relative_to(source).as_posix(), reason) for film, reason in faults))
    return Prepared(len(films), len(films) - len(waiting), silent, named, notes)


def _convert_all(films: list[Job], jobs: int, progress: bool) -> tuple[int, list[tuple[Path, str]]]:
    """Make stills and sounds of films; count those without sound, and name those that cannot be read."""
    silent, faults = 0, []
    with ThreadPoolExecutor(jobs) as pool:  # FFmpeg and Pillow let other threads go on
        running = {pool.submit(_convert, job): job for job in films}
        try:
            for future in tqdm(
                as_completed(running), total=len(running), unit="film", disable=None if progress else True
            ):
                try:
                    silent += not future.result()
                except UnreadableError as error:
                    faults.append((running[future].film, str(error)))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return silent, faults


def _crema_d(source: Path, target: Path) -> Iterator[Job]:
    for film in _films(source / "VideoFlash"):
        wav = source / "AudioWAV" / f"{film.stem}.wav"
        yield Job(
            film,
            wav if wav.is_file() else None,
            target / "Image-01-FPS" / film.stem,
            target / "AudioWAV" / f"{film.stem}.wav",
        )


def _write_lists(source: Path, target: Path, films: list[Job]) -> tuple[str, ...]:
    """Copy the lists of the parts, or draw them; leave those that are there."""
    if (target / "train.csv").is_file() and (target / "test.csv").is_file():
        return ()
    if (source / "train.csv").is_file() and (source / "test.csv").is_file():
        for part in ("train", "test"):
            write_atomically(target / f"{part}.csv", (source / f"{part}.csv").read_bytes())
        return ()
    names = sorted(job.film.stem for job in films)
    labels = [name.split("_")[2] if name.count("_") >= 2 else "" for name in names]
    if unknown := set(labels) - set(crema_d.CLASSES):
        wrong = names[labels.index(unknown.pop())]
        raise InputError(f"VideoFlash: names must be like 1001_IEO_NEU_XX, got {wrong!r}")
    train, test = hold_out(np.array(labels), 0.1, 0, stream=0)
    for part, rows in {"train": train, "test": test}.items():
        lines = "".join(f"{names[row]},{labels[row]}\n" for row in rows)
        write_atomically(target / f"{part}.csv", lines.encode())
    return ("train.csv and test.csv are drawn: put the published ones into --from before, to compare with others",)


def _kinetics_sounds(source: Path, target: Path) -> Iterator[Job]:
    for part, folders in _PARTS.items():
        folder = next((source / name for name in folders if (source / name).is_dir()), None)
        if folder is None:
            raise InputError(
                f"kinetics-sounds in {str(source)!r}: looked for the folder {folders[0]!r}, and there is none"
            )
        seen = {"train": "train_img", "test": "val_img"}[part]
        for film in _films(folder, "*/"):
            yield Job(
                film,
                None,
                target / "visual" / seen / "Image-01-FPS" / film.parent.name / film.stem,
                target / "audio" / part / film.parent.name / f"{film.stem}.wav",
            )


def _films(folder: Path, below: str = "") -> Iterator[Path]:
    return (path for path in sorted(folder.glob(f"{below}*")) if path.suffix.lower() in _FILMS and path.is_file())


def _convert(job: Job) -> bool:
    """Make stills and sound of one film; tell whether there is a sound.

    Raises:
        UnreadableError: the film cannot be read.
    """
    for place in (job.sound.parent, job.stills.parent):
        place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=job.stills.parent, prefix=".tmp-") as folder:
        stills, sound = Path(folder, "stills"), Path(folder, "sound.wav")
        stills.mkdir()
        try:
            with decoding_faults(job.film):
                _write_stills(job.film, stills)
                heard = job.wav is not None or _write_sound(job.film, sound)
        except UnreadableError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT):
                raise error.__cause__ from None  # not the film's fault
            raise
        if job.wav is not None:
            shutil.copyfile(job.wav, sound)
        if heard:
            os.replace(sound, job.sound)  # noqa: PTH105 - one file system: the folder is beside it
        stills.rename(job.stills)
    return heard


def _write_stills(film: Path, folder: Path) -> None:
    import av

    with av.open(str(film)) as container:
        if not container.streams.video:
            raise UnreadableError("it has no pictures")
        stream = container.streams.video[0]
        if stream.width * stream.height > MAX_PIXELS:
            raise UnreadableError(f"too large: more than {MAX_PIXELS / 1e6:.0f} million pixels")
        stream.thread_count = 1
        start, n = None, 0
        for frame in container.decode(stream):
            time = frame.time or 0.0
            start = time if start is None else start
            if time - start >= n:
                image = frame.to_image()  # type: ignore[no-untyped-call]  # PyAV types it in a comment
                if frame.rotation % 360:
                    image = image.rotate(frame.rotation, expand=True)
                image.save(folder / f"{n:05d}.jpg", quality=_QUALITY)
                n = int(time - start) + 1
    if not n:
        raise UnreadableError("it has no pictures")


def _write_sound(film: Path, path: Path) -> bool:
    import av

    with av.open(str(film)) as container:
        if not container.streams.audio:
            return False
        return _write_track(container, path)


def _write_track(container: InputContainer, path: Path) -> bool:
    """Write the first sound track as 16 bit mono, at its own rate."""
    import av

    stream = container.streams.audio[0]
    resampler = av.AudioResampler(format="s16", layout="mono", rate=stream.rate)
    n = 0
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(stream.rate)
        for frame in (*container.decode(stream), None):
            for piece in resampler.resample(frame):
                file.writeframes(piece.to_ndarray().tobytes())
                n += piece.samples
    return n > 0
