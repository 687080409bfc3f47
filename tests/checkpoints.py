"""Tiny checkpoints of `transformers` built from configurations, random but for the seed, and what they read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

WORDS = ["a", "red", "blue", "small", "cat", "dog", "runs", "sleeps", "under", "the", "tree", "in", "summer", "rain"]
SIZE, BINS, FRAMES, VOCABULARY = 24, 8, 32, 120


def texts(n: int, labels: np.ndarray | None = None) -> list[str]:
    """Texts of 1 to 12 words; the first says the class, if there is one."""
    rng = np.random.default_rng(0)
    drawn = [" ".join(rng.choice(WORDS, size=1 + i % 12)) for i in range(n)]
    return (
        drawn if labels is None else [f"{WORDS[3 + label]} {text}" for text, label in zip(drawn, labels, strict=True)]
    )


def save_tokenizer(folder: Path, *, padding_side: str = "right") -> None:
    """Train byte-pairs on the spot, which comes out the same every time."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["[UNK]", "[PAD]", "[EOS]"], show_progress=False
    )
    tokenizer.train_from_iterator(texts(200), trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        eos_token="[EOS]",
        model_max_length=48,
        padding_side=padding_side,
    ).save_pretrained(folder)


def _small(**more: Any) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        **more,
    }


def bert(folder: Path) -> None:
    from transformers import BertConfig, BertModel

    save_tokenizer(folder)
    config = BertConfig(**_small(vocab_size=VOCABULARY + 300, max_position_embeddings=64, pad_token_id=1))
    BertModel(config).save_pretrained(folder)


def qwen2(folder: Path) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    save_tokenizer(folder)
    config = Qwen2Config(
        **_small(vocab_size=VOCABULARY + 300, max_position_embeddings=64, num_key_value_heads=2, pad_token_id=1)
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)


def vit(folder: Path) -> None:
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    ViTModel(ViTConfig(**_small(image_size=SIZE, patch_size=8))).save_pretrained(folder)
    ViTImageProcessor(size={"height": SIZE, "width": SIZE}).save_pretrained(folder)


def clip(folder: Path) -> None:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    save_tokenizer(folder)
    text = _small(vocab_size=VOCABULARY + 300, max_position_embeddings=64, projection_dim=16, eos_token_id=2)
    vision = _small(image_size=SIZE, patch_size=8, projection_dim=16)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}).save_pretrained(folder)


def wav2vec2(folder: Path, *, norm: str = "layer") -> None:
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    config = Wav2Vec2Config(
        **_small(
            vocab_size=32,
            conv_dim=(16, 16),
            conv_stride=(5, 4),
            conv_kernel=(10, 8),
            num_feat_extract_layers=2,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
            feat_extract_norm=norm,
            do_stable_layer_norm=norm == "layer",
        )
    )
    Wav2Vec2Model(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=norm == "layer").save_pretrained(folder)


def ast(folder: Path) -> None:
    from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

    config = ASTConfig(**_small(num_mel_bins=BINS, max_length=FRAMES, patch_size=4, time_stride=4, frequency_stride=4))
    ASTModel(config).save_pretrained(folder)
    ASTFeatureExtractor(num_mel_bins=BINS, max_length=FRAMES).save_pretrained(folder)


BUILDERS: dict[str, Callable[[Path], None]] = {
    "bert": bert,
    "qwen2": qwen2,
    "vit": vit,
    "clip": clip,
    "wav2vec2": wav2vec2,
    "ast": ast,
}


def build(name: str, folder: Path) -> Path:
    """Build one of them, with the weights of a seed, scaled so that what is random differs from sample to sample."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BUILDERS[name](folder)
    logging.set_verbosity_warning()
    logging.enable_progress_bar()
    return folder


def copy(folder: Path, target: Path) -> Path:
    """Copy a checkpoint, to be spoiled."""
    return Path(shutil.copytree(folder, target))


def change(folder: Path) -> None:
    """Change one weight."""
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
