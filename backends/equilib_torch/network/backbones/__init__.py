"""Backbones: any checkpoint of `transformers`, frozen, fine-tuned or with LoRA, as the encoder of a modality.

`transformers` and `peft` are imported when they are needed; nothing is downloaded unless a model of the hub is named.
"""

from __future__ import annotations
