"""What a saved model keeps of its backbones, and how they are found again when it is loaded.

Beside the weights that were trained, which are with all others in one file: `backbones/K` of modality K holds the
checkpoint's configuration, tokenizer and processor, and with `copy=true` its weights. A backbone that is trained as a
whole needs no more; of others the checkpoint must be there, the same as it was.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from equilib_torch.errors import InputError
from equilib_torch.network.backbones.checkpoint import check_safe, files_of, find_checkpoint, fingerprint, has_weights
from equilib_torch.network.backbones.spec import BackboneSpec
from equilib_torch.network.config import ModalityConfig, NetworkConfig

_FOLDER = "backbones"


def store_backbones(config: NetworkConfig, directory: Path) -> None:
    """Copy what a model needs of its backbones into its directory; what is there already stays.

    Raises:
        InputError: a checkpoint is no longer there.
        OSError: the disk is full or refuses.
    """
    for k, modality in enumerate(config.modalities):
        if modality.fingerprint is None:
            continue
        spec = BackboneSpec.read(modality.encoder or "")
        whole = bool(spec.parameters["copy"]) and spec.tune != "all"
        source = find_checkpoint(spec.source, f"encoder of {modality.name}", weights=whole)
        target = directory / _FOLDER / str(k)
        target.mkdir(parents=True, exist_ok=True)
        for path in files_of(source, weights=whole):
            if not _is_copied(path, target / path.name):
                _copy_atomically(path, target / path.name)


def find_backbones(config: NetworkConfig, directory: Path, given: Mapping[str, str | Path]) -> NetworkConfig:
    """Point a saved model's configuration to its checkpoints, on this machine.

    Args:
        config: as it was saved.
        directory: of the model.
        given: where checkpoints are now, by modality.

    Raises:
        InputError: a checkpoint is not there or another one than the model was trained with; says how to point to it.
    """
    unknown = sorted(set(given) - {m.name for m in config.modalities if m.fingerprint is not None})
    if unknown:
        raise InputError(f"backbones must be given by modalities that have one, got {unknown[0]!r}")
    modalities = tuple(
        m if m.fingerprint is None else _found(m, directory / _FOLDER / str(k), given.get(m.name))
        for k, m in enumerate(config.modalities)
    )
    return replace(config, modalities=modalities)


def _found(modality: ModalityConfig, own: Path, given: str | Path | None) -> ModalityConfig:
    spec, what = BackboneSpec.read(modality.encoder or ""), f"backbone of {modality.name}"
    if spec.tune == "all" and given is None:
        check_safe(own, what, weights=False)
        return replace(modality, encoder=str(spec.at(own.absolute())))
    remedy = f"point to it by from_pretrained(…, backbones={{{modality.name!r}: PATH}})"
    place = str(given) if given is not None else str(own.absolute()) if _is_whole(own) else spec.source
    try:
        folder = find_checkpoint(place, what)
    except InputError as error:
        raise InputError(f"{error}; {remedy}") from error
    if fingerprint(folder) != modality.fingerprint:
        raise InputError(f"{what}: {str(folder)!r} is not the checkpoint that the model was trained with; {remedy}")
    if given is not None or place != spec.source:
        spec = spec.at(folder)
    return replace(modality, encoder=str(spec))


def _is_whole(folder: Path) -> bool:
    return folder.is_dir() and has_weights(folder)


def _is_copied(source: Path, target: Path) -> bool:
    with suppress(FileNotFoundError):
        return source.samefile(target) or source.stat().st_size == target.stat().st_size
    return False


def _copy_atomically(source: Path, target: Path) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".tmp-{target.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file, source.open("rb") as content:
            shutil.copyfileobj(content, file, 2**20)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
