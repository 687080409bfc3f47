"""Find a checkpoint on this machine, make sure that it is safe to read, and know it by its content.

A checkpoint is a folder of `config.json`, weights as `.safetensors` and what its tokenizer or processor needs. Code and
pickles that come with it are never run: a folder that needs them is refused before `transformers` sees it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from equilib_torch.errors import InputError

_SUFFIXES = (".json", ".safetensors", ".txt", ".model", ".jinja")
"""Files of a folder that count; all else in it is not read."""

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
_HUB_NAME = re.compile(r"\w[\w.-]{0,95}(/\w[\w.-]{0,95})?", re.ASCII)
_PATIENCE = 5.0  # seconds for the hub to answer


def find_checkpoint(source: str, what: str, *, weights: bool = True) -> Path:
    """Find the folder of a checkpoint: a path, or a model of the hub, which is downloaded if it is not here yet.

    Args:
        source: path or name; a folder of that name wins.
        what: the argument, for the error.
        weights: whether it must hold weights.

    Raises:
        InputError: no such folder or model, a hub that cannot be reached, or a checkpoint that needs code or pickles.
    """
    folder = Path(source).expanduser()
    try:
        here = folder.is_dir()
    except (OSError, ValueError):  # a name too long, or a null byte
        here = False
    if not here:
        folder = _from_hub(source, what)
    check_safe(folder, what, weights=weights)
    return folder.absolute()


def files_of(folder: Path, *, weights: bool = True) -> list[Path]:
    """List the files of a checkpoint that are read, by name.

    Args:
        folder: of the checkpoint.
        weights: whether those of the weights are meant too.
    """
    found = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())
    return [path for path in found if weights or not _is_of_weights(path)]


def has_weights(folder: Path) -> bool:
    """Tell whether a folder holds weights that may be read."""
    return any(path.suffix == ".safetensors" for path in files_of(folder))


def check_safe(folder: Path, what: str, *, weights: bool = True) -> None:
    """Refuse a checkpoint that needs code or pickles of its own, or that reaches outside its folder.

    Args:
        folder: of the checkpoint.
        what: the argument, for the error.
        weights: whether it must hold weights.

    Raises:
        InputError: says what is wrong with which file.
    """
    shown = f"{what}: {str(folder)!r}"
    if not (folder / "config.json").is_file():
        raise InputError(f"{shown} holds no config.json; give the folder of a checkpoint of transformers")
    for path in files_of(folder):
        if path.suffix == ".json":
            content = _read_json(path, what)
            if _has_key(content, "auto_map"):
                raise InputError(
                    f"{shown} needs code of its own (auto_map in {path.name}), which is never run; take a model that "
                    "transformers knows by itself"
                )
            if path.name.endswith(".safetensors.index.json"):
                _check_index(folder, path, content, shown)
    if weights and not has_weights(folder):
        pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
        only = f", only {pickles[0]}, a format that can run code and is not read" if pickles else ""
        raise InputError(f"{shown} holds no .safetensors{only}; save it again by model.save_pretrained(folder)")


def fingerprint(folder: Path) -> str:
    """SHA-256 of the files that are read, in hexadecimal: equal for the same checkpoint, whatever its place."""
    files = files_of(folder)
    return _fingerprint(tuple((str(path), (s := path.stat()).st_size, s.st_mtime_ns) for path in files))


@lru_cache(maxsize=64)
def _fingerprint(files: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, size, _ in files:
        digest.update(f"{Path(name).name} {size} ".encode())
        with Path(name).open("rb") as file:
            while piece := file.read(2**20):
                digest.update(piece)
    return digest.hexdigest()


def transformers() -> Any:
    """Import the library, whose types say little."""
    return import_module("transformers")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep `transformers` from writing progress bars and reports; its settings are put back afterwards."""
    logging: Any = import_module("transformers.utils.logging")

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def described(what: str, folder: Path) -> Iterator[None]:
    """Say in one line what is wrong with a checkpoint that cannot be read, and which extra is missing."""
    try:
        with needs_extra(what), quiet():
            yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # whatever the library raises about files that it cannot read
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InputError(f"{what}: {str(folder)!r} cannot be read ({reason})") from error


@contextmanager
def needs_extra(what: str) -> Iterator[None]:
    """Name the extra where one of its packages is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in ("transformers", "peft", "huggingface_hub", "tokenizers"):
            raise
        raise InputError(f"{what}: needs the extra [hf] (package {error.name}): pip install '.[hf]'") from error


def _from_hub(source: str, what: str) -> Path:
    if not _HUB_NAME.fullmatch(source):
        raise InputError(
            f"{what}: there is no folder {source!r}; give the folder of a checkpoint, or a name of the hub"
        )
    with needs_extra(what):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    patterns = [f"*{suffix}" for suffix in _SUFFIXES]
    try:
        folder = Path(snapshot_download(source, allow_patterns=patterns, local_files_only=True))
        if (folder / "config.json").exists() and has_weights(folder):
            return folder
    except LocalEntryNotFoundError:
        pass
    revision = _revision_on_hub(source, what)
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=patterns))
    except Exception as error:  # of the network, the hub or the disk
        raise InputError(f"{what}: {source!r} cannot be downloaded ({type(error).__name__}: {error})") from error


def _revision_on_hub(source: str, what: str) -> str | None:
    """Ask the hub for a model once, without the library's half a minute of attempts where there is no network."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    remedy = f"download it where there is a network by: hf download {source}, or give the path of a folder"
    try:
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
            raise ConnectionError("HF_HUB_OFFLINE is set")
        info = HfApi().model_info(source, timeout=_PATIENCE)
    except RepositoryNotFoundError as error:
        raise InputError(f"{what}: there is no folder {source!r}, and no model of that name on the hub") from error
    except Exception as error:  # whatever the network raises
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"{what}: {source!r} is no folder, not among the models downloaded before, and the hub cannot be reached "
            f"({reason}); {remedy}"
        ) from error
    names = [sibling.rfilename for sibling in info.siblings or []]
    if not any("/" not in name and name.endswith(".safetensors") for name in names):
        raise InputError(f"{what}: {source!r} has no .safetensors on the hub; other formats can run code, none is read")
    return info.sha


def _read_json(path: Path, what: str) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{what}: {str(path)!r} is damaged ({error})") from error


def _has_key(value: Any, key: str) -> bool:
    """Look for a key at any depth, without recursion: the file may come from anyone."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if key in item:
                return True
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
    return False


def _check_index(folder: Path, path: Path, content: Any, shown: str) -> None:
    named = content.get("weight_map") if isinstance(content, dict) else None
    files = (
        set(named.values()) if isinstance(named, dict) and all(isinstance(x, str) for x in named.values()) else set()
    )
    if not files:
        raise InputError(f"{shown}: {path.name} names no files; download the checkpoint again")
    for file in sorted(files):
        if Path(file).name != file or not file.endswith(".safetensors") or not (folder / file).is_file():
            raise InputError(f"{shown}: {path.name} names {file!r}, which is no .safetensors in this folder")


def _is_of_weights(path: Path) -> bool:
    return path.suffix == ".safetensors" or path.name.endswith(".safetensors.index.json")
