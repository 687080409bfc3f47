"""What makes one vector of a sample: a model of `transformers` and what is done with its last layer.

A reader gets a batch as the data set's preparation left it, padded behind each length or to a size of its own, and
promises what every encoder does: what it makes of a sample depends neither on the other samples nor on the padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from equilib_torch.network.backbones.pooling import POOLS, mean_pool
from equilib_torch.network.inputs import average_frames, within


class Reader(nn.Module):
    """A model, and how to read samples with it: (B, ...) and lengths (B,) -> (B, d) float32.

    Attributes:
        model: of `transformers`, whole or the part that is used.
    """

    model: Any

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the model computes with."""
        dtypes: list[torch.dtype] = [p.dtype for p in self.model.parameters() if p.is_floating_point()]
        return dtypes[0]

    def example(self, shape: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Give a batch of one sample of this shape, and its length, to see what the model makes of it."""
        return torch.zeros(1, *shape), None


class TextReader(Reader):
    """Reads token numbers (B, T, 1), padded on the right, where neither absolute nor relative positions change.

    Args:
        model: of text, or of text and pictures.
        pool: one of `POOLS`; None: the model's own text features.
        pad_id: the token that stands behind a text's length.
    """

    def __init__(self, model: nn.Module, pool: str | None, pad_id: int) -> None:
        super().__init__(model)
        self.pool, self.pad_id = pool, pad_id

    def example(self, shape: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Give a text of one token, or of as many as all have."""
        return torch.zeros(1, *shape, dtype=torch.int64), torch.tensor([shape[0]])

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute features of each sample."""
        ids = x[..., 0].long()
        mask = torch.ones_like(ids)
        if lengths is not None:
            longest = int(lengths.max())  # what no sample of this batch has need not be computed
            ids, mask = ids[:, :longest], within(lengths, longest)[..., 0].long()
        ids = ids.masked_fill(mask == 0, self.pad_id)
        if self.pool is None:
            features: Tensor = _tensor(self.model.get_text_features(input_ids=ids, attention_mask=mask))
            return features.float()
        model = getattr(self.model, "text_model", self.model)
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
        return POOLS[self.pool](hidden.float(), mask)


class PictureReader(Reader):
    """Reads pictures of the processor's size, (B, H, W, 3) uint8, and of videos (B, T, H, W, 3) the mean of the frames.

    Args:
        model: of pictures, or of pictures and text.
        pool: cls or mean of the tokens; None: the model's own image features, or its pooled output, or the first token.
        processor: of the checkpoint; its rescaling and normalisation are done here.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, model: nn.Module, pool: str | None, processor: Any) -> None:
        super().__init__(model)
        self.pool = pool
        normalises = bool(getattr(processor, "do_normalize", False))
        mean = np.asarray(processor.image_mean if normalises else 0.0, np.float32)
        deviation = np.asarray(processor.image_std if normalises else 1.0, np.float32)
        rescale = float(processor.rescale_factor) if getattr(processor, "do_rescale", False) else 1.0
        self.register_buffer("mean", torch.tensor(mean / rescale).broadcast_to(3).clone(), persistent=False)
        self.register_buffer("scale", torch.tensor(rescale / deviation).broadcast_to(3).clone(), persistent=False)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute features of each sample."""
        return average_frames(self._read, x, lengths) if x.ndim == 5 else self._read(x)

    def _read(self, x: Tensor) -> Tensor:
        pixels = ((x.float() - self.mean) * self.scale).movedim(-1, 1).to(self.dtype)
        if self.pool is None and hasattr(self.model, "get_image_features"):
            features: Tensor = _tensor(self.model.get_image_features(pixel_values=pixels))
            return features.float()
        output = getattr(self.model, "vision_model", self.model)(pixel_values=pixels)
        hidden: Tensor = output.last_hidden_state.float()
        pooled = getattr(output, "pooler_output", None)
        if self.pool is None and pooled is not None:
            return cast(Tensor, pooled).float().flatten(1)
        if hidden.ndim == 4:  # (B, C, H, W) of a convolutional network
            return hidden.mean((2, 3))
        return hidden.mean(1) if self.pool == "mean" else hidden[:, 0]


class SpectrogramReader(Reader):
    """Reads spectrograms (B, T, F), cut or padded to the length that the model has.

    Args:
        model: an audio spectrogram transformer, or Whisper's encoder.
        pool: mean of all tokens; None: the model's own pooled output, else the mean of the frames within the length.
        scale: mean and standard deviation of the spectrograms that the model was trained on, (0, 0.5) where they are
            normalised already.
    """

    def __init__(self, model: nn.Module, pool: str | None, scale: tuple[float, float]) -> None:
        super().__init__(model)
        self.pool, self.scale = pool, scale
        self.is_whisper = self.model.main_input_name == "input_features"

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute features of each sample."""
        mean, deviation = self.scale
        x = ((x.float() - mean) / (2 * deviation)).to(self.dtype)
        if lengths is not None:
            x = x * within(lengths, x.shape[1])
        if self.is_whisper:
            hidden = self.model(input_features=x.transpose(1, 2)).last_hidden_state.float()
            frames = hidden.shape[1]
            inside = torch.ones(len(x), frames) if lengths is None else within((lengths + 1) // 2, frames)[..., 0]
            return mean_pool(hidden, inside.to(hidden.device))
        n_frames = self.model.config.max_length
        x = nn.functional.pad(x[:, :n_frames], (0, 0, 0, max(0, n_frames - x.shape[1])))
        output = self.model(input_values=x)
        features: Tensor = output.last_hidden_state.mean(1) if self.pool == "mean" else output.pooler_output
        return features.float()


class WaveformReader(Reader):
    """Reads raw samples (B, T, 1) at the rate that the model was trained with; the feature is the mean of the frames.

    Clips that give no frame are lengthened with silence. A model that normalises over time (`feat_extract_norm` of
    "group", as the first wav2vec2) would see the padding, so that it gets clips of one length at a time.

    Args:
        model: wav2vec2 or one of its kin.
        normalise: whether every clip is brought to mean 0 and standard deviation 1.
    """

    def __init__(self, model: nn.Module, *, normalise: bool) -> None:
        super().__init__(model)
        self.normalise = normalise
        config = self.model.config
        self.over_time = getattr(config, "feat_extract_norm", "group") == "group"
        self.shortest = 1
        for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
            self.shortest = (self.shortest - 1) * stride + kernel

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute features of each sample."""
        n_samples = x.shape[1]
        x = x[..., 0].float() if x.is_floating_point() else x[..., 0].float() / torch.iinfo(x.dtype).max
        lengths = torch.full((len(x),), n_samples, device=x.device) if lengths is None else lengths
        inside = within(lengths, n_samples)[..., 0]
        if self.normalise:
            mean = (x * inside).sum(1, keepdim=True) / lengths[:, None]
            deviation = (((x - mean).square() * inside).sum(1, keepdim=True) / lengths[:, None] + 1e-7).sqrt()
            x = (x - mean) / deviation
        x = nn.functional.pad(x * inside, (0, max(0, self.shortest - n_samples)))
        lengths = lengths.clamp(min=self.shortest)
        if not self.over_time:
            return self._read(x[:, : int(lengths.max())], lengths)
        parts = [torch.nonzero(lengths == length)[:, 0] for length in torch.unique(lengths)]
        features = torch.cat([self._read(x[rows, : int(lengths[rows[0]])], None) for rows in parts])
        return features[torch.cat(parts).argsort()]

    def _read(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        if lengths is None:
            hidden: Tensor = self.model(x.to(self.dtype)).last_hidden_state
            return hidden.float().mean(1)
        mask = within(lengths, x.shape[1])[..., 0].long()
        hidden = self.model(x.to(self.dtype), attention_mask=mask).last_hidden_state
        frames = self.model._get_feature_vector_attention_mask(hidden.shape[1], mask)
        return mean_pool(hidden.float(), frames)


def _tensor(output: Any) -> Tensor:
    """Features as a tensor: some versions of `transformers` give an output object that holds them."""
    return output if isinstance(output, Tensor) else output.pooler_output
