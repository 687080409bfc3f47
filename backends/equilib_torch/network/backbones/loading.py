"""Load a checkpoint's model and make it ready: the part that is used, nothing random left in it, LoRA if need be."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import nn

from equilib_torch.errors import InputError
from equilib_torch.network.backbones.checkpoint import described, transformers
from equilib_torch.network.backbones.readers import (
    PictureReader,
    Reader,
    SpectrogramReader,
    TextReader,
    WaveformReader,
)
from equilib_torch.network.backbones.spec import BackboneSpec

_SETTINGS = {"layerdrop": 0.0, "apply_spec_augment": False, "use_cache": False}
"""What a configuration may not ask for: layers and frames left out at random, and a cache for generating text."""

_AST, _WHISPER = "audio-spectrogram-transformer", "whisper"
_TOWERS = {"text": "text", "image": "vision"}
_OTHER_TOWER = {
    "text": ("vision_model", "visual_projection"),
    "image": ("text_model", "text_projection"),
}
_LOSS_ONLY = ("logit_scale", "logit_bias")


def load_config(folder: Path, what: str) -> Any:
    """Read the configuration of a checkpoint, an object of `transformers`.

    Raises:
        InputError: it cannot be read.
    """
    with described(what, folder):
        return transformers().AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def check_reads(folder: Path, kind: str, shape: tuple[int, ...], what: str) -> None:
    """Hold a checkpoint against the kind of a modality and the shape of its samples, without its weights.

    Raises:
        InputError: the model does not read such samples; says what it reads.
    """
    config = load_config(folder, what)
    with described(what, folder):
        model = transformers().MODEL_MAPPING[type(config)]
        model = model[0] if isinstance(model, tuple | list) else model
        name, main = model.__name__, model.main_input_name
    sees = main == "pixel_values" or hasattr(model, "get_image_features")
    reads = {
        "text": main == "input_ids",
        "image": sees,
        "video": sees,
        "sequence": main in ("input_values", "input_features"),
    }
    nouns = {"text": "text", "image": "pictures", "video": "videos", "sequence": "sound"}
    if not reads.get(kind, False):
        able = " and ".join(nouns[k] for k, can in reads.items() if can) or "nothing that is known here"
        raise InputError(f"{what}: {name} of {str(folder)!r} reads {able}, got a modality of kind {kind}")
    if kind in ("image", "video"):
        n_channels = 1 if len(shape) == 2 else shape[-1]
        if n_channels not in (1, 3):
            raise InputError(f"{what}: {name} reads pictures of 1 or 3 channels, got samples of shape {shape}")
    if kind == "sequence" and shape[-1] != 1:
        bins = getattr(config, "num_mel_bins", None)
        if config.model_type != _AST or bins != shape[-1]:
            own = f" or {bins} mel bins a frame" if config.model_type == _AST else ""
            raise InputError(
                f"{what}: {name} reads raw samples, a sequence (N, T, 1){own}, got frames of {shape[-1]} numbers; "
                "give the waveform as an array, or use temporal-cnn or resnet18 for log-mel frames"
            )


def load_reader(spec: BackboneSpec, folder: Path, kind: str, what: str, *, pretrained: bool = True) -> Reader:
    """Load a backbone with what makes one vector of a sample of its last layer, ready to be trained as the spec says.

    On torch's meta device nothing is read but the configuration.

    Args:
        spec: of the backbone.
        folder: of its checkpoint.
        kind: of the modality.
        what: the argument, for errors.
        pretrained: whether to load the weights of the checkpoint; if not, they are random.

    Raises:
        InputError: a checkpoint that cannot be read, lacks weights, or has not what the spec asks for.
    """
    on_meta = torch.get_default_device().type == "meta"
    config = load_config(folder, what)
    model, missing = _load_model(config, spec, folder, what, pretrained=pretrained and not on_meta)
    reader = _make_reader(model, config, spec, folder, kind, what)
    used = {id(parameter) for parameter in reader.parameters()}
    lacking = [name for name, parameter in missing.items() if id(parameter) in used]
    if lacking:
        raise InputError(
            f"{what}: {str(folder)!r} lacks weights of {type(model).__name__}, {lacking[0]} and {len(lacking) - 1} more"
        )
    reader.requires_grad_(spec.tune == "all")
    if spec.tune == "lora":
        _add_lora(reader, spec, folder, what)
    return reader


def _load_model(
    config: Any, spec: BackboneSpec, folder: Path, what: str, *, pretrained: bool
) -> tuple[Any, dict[str, nn.Parameter]]:
    """Give the model, and those of its parameters that the checkpoint does not have."""
    dtype = getattr(torch, spec.parameters["dtype"])
    for part in (config, getattr(config, "text_config", None), getattr(config, "vision_config", None)):
        for name, value in _SETTINGS.items():
            if hasattr(part, name):
                setattr(part, name, value)
    with described(what, folder):
        if not pretrained:
            return transformers().AutoModel.from_config(config, dtype=dtype, trust_remote_code=False).to(dtype), {}
        model, told = transformers().AutoModel.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    absent = set(told["missing_keys"]) | {name for name, *_ in told.get("mismatched_keys", ())}
    return model, {name: parameter for name, parameter in model.named_parameters() if name in absent}


def _make_reader(model: Any, config: Any, spec: BackboneSpec, folder: Path, kind: str, what: str) -> Reader:
    pool = spec.parameters["pool"]
    own = "text" if kind == "text" else "image"
    two_towers = hasattr(model, f"get_{own}_features") and hasattr(model, f"{_TOWERS[own]}_model")
    if two_towers:
        for name in (*_OTHER_TOWER[own], *_LOSS_ONLY):
            if hasattr(model, name):
                delattr(model, name)
    if getattr(config, "is_encoder_decoder", False):
        model = model.get_encoder()
    if isinstance(getattr(getattr(model, "pooler", None), "dense", None), nn.Module) and (
        "add_pooling_layer" in inspect.signature(type(model).__init__).parameters
    ):
        model.pooler = None  # trained for another task, if at all
    if kind == "text":
        decoder = is_decoder(config)
        if decoder and pool == "cls":
            raise InputError(
                f"{what}: pool must be mean or last for a decoder, whose first token sees no other, got cls"
            )
        return TextReader(model, pool or (None if two_towers else "last" if decoder else "mean"), pad_id(config))
    if pool == "last" or (kind == "sequence" and pool == "cls"):
        choices = "mean" if kind == "sequence" else "cls or mean"
        raise InputError(f"{what}: pool must be {choices} for a modality of kind {kind}, got {pool}")
    if kind in ("image", "video"):
        return PictureReader(model, pool, load_processor(folder, what))
    extractor = load_extractor(folder, what)
    if config.model_type == _AST:
        scale = (float(extractor.mean), float(extractor.std)) if extractor.do_normalize else (0.0, 0.5)
        return SpectrogramReader(model, pool, scale)
    if config.model_type == _WHISPER:
        return SpectrogramReader(model, pool, (0.0, 0.5))
    return WaveformReader(model, normalise=bool(getattr(extractor, "do_normalize", False)))


def load_extractor(folder: Path, what: str) -> Any:
    """Load what the checkpoint of a model of sound says of its inputs, an object of `transformers`.

    Raises:
        InputError: it cannot be read.
    """
    with described(what, folder):
        return transformers().AutoFeatureExtractor.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )


def load_processor(folder: Path, what: str) -> Any:
    """Load what the checkpoint of a model of pictures says of its inputs, an object of `transformers`.

    Raises:
        InputError: it cannot be read.
    """
    with described(what, folder):
        return transformers().AutoImageProcessor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def load_tokenizer(folder: Path, what: str) -> Any:
    """Load the tokenizer of a checkpoint, an object of `transformers`.

    Raises:
        InputError: it cannot be read.
    """
    with described(what, folder):
        return transformers().AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def _add_lora(reader: Reader, spec: BackboneSpec, folder: Path, what: str) -> None:
    with described(what, folder):
        from peft import LoraConfig, inject_adapter_in_model

        lora = LoraConfig(r=spec.parameters["rank"], lora_alpha=spec.parameters["alpha"], target_modules="all-linear")
        reader.model = inject_adapter_in_model(lora, reader.model)


def is_decoder(config: Any) -> bool:
    """Tell whether a model of text is a decoder, in which a token sees those before it only."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    kind = config.model_type
    causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return causal and not getattr(config, "is_encoder_decoder", False) and kind not in _BOTH_WAYS


_BOTH_WAYS = ("bert-generation", "xlnet")
"""Listed among the causal models, but with attention to both sides as they are loaded."""


def pad_id(config: Any) -> int:
    """Give the token that stands where there is none; any will do, it is masked."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    number = getattr(text, "pad_token_id", None)
    return number if isinstance(number, int) and number >= 0 else 0


def guess_width(config: Any, kind: str) -> int:
    """Say from the configuration how many features a model makes; what it really makes is seen when it is used."""
    tower = getattr(config, "text_config" if kind == "text" else "vision_config", None)
    for part, names in ((config, ("projection_dim",) if tower is not None else ()), (tower or config, _WIDTHS)):
        for name in names:
            value = getattr(part, name, None)
            if isinstance(value, int):
                return value
    sizes = getattr(config, "hidden_sizes", None)
    return int(sizes[-1]) if sizes else 1


_WIDTHS = ("hidden_size", "d_model", "dim")
