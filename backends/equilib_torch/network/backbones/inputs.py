"""What a backbone's tokenizer or processor makes of raw samples: arrays that a batch can hold, made once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from equilib_torch.errors import InputError

Array = npt.NDArray[Any]

_CHARACTERS = 64
"""Characters of a text that are looked at for each token that may be kept."""

_OFFSETS = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer", "roberta-prelayernorm")
"""Models whose positions begin behind that of the padding."""


class Rows(NamedTuple):
    """Prepared samples.

    Attributes:
        values: (n, ...).
        lengths: (n,) int64 of sequences and videos, else None.
    """

    values: Array
    lengths: npt.NDArray[np.int64] | None


def token_limit(tokenizer: Any, config: Any, max_length: int) -> int:
    """Say how many tokens of a text are read: no more than asked for, and than tokenizer and model take."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    limits = [max_length]
    if isinstance(tokenizer.model_max_length, int):  # a huge number where it is not known
        limits.append(tokenizer.model_max_length)
    places = getattr(text, "max_position_embeddings", None)
    if isinstance(places, int) and places > 0:
        limits.append(places - (1 + text.pad_token_id if config.model_type in _OFFSETS else 0))
    return min(limits)


def tokenise(texts: Sequence[str], tokenizer: Any, config: Any, max_length: int, what: str) -> Rows:
    """Turn texts into token numbers, (n, T, 1) int32, padded on the right whatever the tokenizer's side is.

    A text without tokens becomes one end token, so that no feature is of padding alone. Of a long text, the first
    `64 max_length` characters are looked at.

    Args:
        texts: n of them.
        tokenizer: of the checkpoint.
        config: of the model.
        max_length: tokens that are kept.
        what: the argument, for errors.

    Raises:
        InputError: the tokenizer makes a token that the model does not have.
    """
    limit = token_limit(tokenizer, config, max_length)
    fixed = config.model_type in (
        "siglip",
        "siglip_text_model",
        "siglip2",
        "siglip2_text_model",
    )  # pools the last place
    given = tokenizer(
        [text[: _CHARACTERS * limit] for text in texts],
        truncation=True,
        max_length=limit,
        padding=False,
        add_special_tokens=True,
        return_attention_mask=False,
        verbose=False,
    )["input_ids"]
    names = ("eos_token_id", "sep_token_id", "bos_token_id", "cls_token_id", "pad_token_id")
    instead = next((x for x in (getattr(tokenizer, name, None) for name in names) if x is not None), 0)
    rows = [list(row) or [instead] for row in given]
    if fixed:
        text = config.get_text_config()
        places = text.max_position_embeddings
        padding = next(x for x in (tokenizer.pad_token_id, instead) if x is not None)
        rows = [(row + [padding] * places)[:places] for row in rows]
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    ids = np.zeros((len(rows), int(lengths.max(initial=1)), 1), dtype=np.int32)
    for i, row in enumerate(rows):
        ids[i, : len(row), 0] = row
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    if ids.max(initial=0) >= text.vocab_size:
        raise InputError(f"{what}: the tokenizer makes token {ids.max()}, the model has {text.vocab_size}")
    return Rows(ids, lengths)


def size_pictures(pictures: Array, processor: Any, what: str) -> Array:
    """Bring pictures to the size that a model reads, as its processor does, (n, H', W', 3) uint8.

    Args:
        pictures: (n, H, W), or (n, H, W, C) with 1 or 3 channels; whole numbers 0 to 255, or real ones from 0 to 1.
        processor: of the checkpoint; what it does to the values of pixels is left to the model's reader.
        what: the argument, for errors.

    Raises:
        InputError: values out of range, or a processor that gives something else than pictures.
    """
    low, high = pictures.min(), pictures.max()
    if pictures.dtype.kind in "fb":
        if low < 0 or high > 1:
            raise InputError(f"{what}: real pixels must be 0 to 1, got {low:g} to {high:g}; scale them, or give uint8")
        pictures = np.rint(np.asarray(pictures, np.float32) * 255)
    elif low < 0 or high > 255:
        raise InputError(f"{what}: whole pixels must be 0 to 255, got {low} to {high}; give uint8")
    pictures = pictures.astype(np.uint8)
    if pictures.ndim == 3:
        pictures = pictures[..., None]
    pictures = np.ascontiguousarray(np.broadcast_to(pictures, (*pictures.shape[:3], 3)))
    sized = processor(
        images=list(pictures),
        do_rescale=False,
        do_normalize=False,
        input_data_format="channels_last",
        return_tensors="np",
    )["pixel_values"]
    if sized.ndim != 4 or sized.shape[1] != 3:
        raise InputError(f"{what}: its processor must give pictures (3, H, W), got shape {sized.shape[1:]}")
    return np.ascontiguousarray(np.rint(sized).clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1))


def extract_spectrograms(waves: Array, lengths: npt.NDArray[np.int64], extractor: Any) -> Rows:
    """Turn raw samples into the spectrograms that a model reads, (n, T', F) float32, all of one length.

    Args:
        waves: (n, T, 1), at the rate of the extractor.
        lengths: (n,).
        extractor: of the checkpoint; what it subtracts and divides by is left to the model's reader.
    """
    scale = np.iinfo(waves.dtype).max if waves.dtype.kind in "iu" else 1.0
    clips = [np.asarray(wave[:length, 0], np.float32) / scale for wave, length in zip(waves, lengths, strict=True)]
    rate, shortest = extractor.sampling_rate, 400  # one window of a spectrogram
    clips = [np.pad(clip, (0, max(0, shortest - len(clip)))).astype(np.float32) for clip in clips]
    if "input_features" in extractor.model_input_names:
        made = extractor(clips, sampling_rate=rate, return_tensors="np", return_attention_mask=True)
        frames = np.asarray(made["attention_mask"].sum(1), dtype=np.int64)
        return Rows(np.ascontiguousarray(made["input_features"].transpose(0, 2, 1), dtype=np.float32), frames.clip(1))
    values = np.asarray(extractor(clips, sampling_rate=rate, return_tensors="np")["input_values"], dtype=np.float32)
    return Rows(values, np.full(len(values), values.shape[1], dtype=np.int64))
