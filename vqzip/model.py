"""A model: transform, quantizers and prior together, and their configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from vqzip.prior import PixelCNNConfig, Prior, PriorConfig
from vqzip.quantizer import Quantizer, QuantizerConfig
from vqzip.vqvae import Transform, TransformConfig


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides the shape of a model.

    The quantizers are None until the codebook stage of training has chosen their shape.
    """

    transform: TransformConfig = field(default_factory=TransformConfig)
    prior: PriorConfig = field(default_factory=PriorConfig)
    top_quantizer: QuantizerConfig | None = None
    bottom_quantizer: QuantizerConfig | None = None
    adaptive: bool = True
    """Whether frequencies learn from a file's own codes, once the model codes (`adaptation.py`)."""

    def with_latents(self, slices: tuple[int, ...], fine: int) -> ModelConfig:
        """The same with the bottom map's latents in these slices, the last so many fine."""
        bottom = replace(self.prior.bottom, channels=sum(slices), slices=slices)
        return replace(
            self,
            transform=replace(self.transform, bottom_latents=sum(slices), fine_latents=fine),
            prior=replace(self.prior, bottom=bottom),
        )

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> ModelConfig:
        """The inverse of `dataclasses.asdict`."""

        def quantizer(part: Mapping[str, Any] | None) -> QuantizerConfig | None:
            return None if part is None else QuantizerConfig(**part)

        prior = data["prior"]
        return ModelConfig(
            transform=TransformConfig(**data["transform"]),
            prior=PriorConfig(
                top=PixelCNNConfig(**prior["top"]),
                bottom=PixelCNNConfig(**prior["bottom"]),
                lift_width=prior["lift_width"],
            ),
            top_quantizer=quantizer(data["top_quantizer"]),
            bottom_quantizer=quantizer(data["bottom_quantizer"]),
            adaptive=data.get("adaptive", True),
        )


class Model(nn.Module):
    """VQ-VAE-2 with a PixelCNN prior.

    `top_weight` and `bottom_weight` (levels, channels): the distortion of a code unit, in nats;
    the encoder's alone, decoding does not need them.
    """

    adam_only = (
        "transform.analysis",
        "transform.synthesis",
        "prior.top.heads",
        "prior.bottom.heads",
    )
    """Weights that are no hidden layer's, which Muon is not meant for."""

    top_weight: Tensor
    bottom_weight: Tensor
    top_quantizer: Quantizer
    bottom_quantizer: Quantizer

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.transform = Transform(config.transform)
        self.prior = Prior(config.prior)
        t = config.transform
        self.register_buffer("top_weight", torch.ones(t.levels, t.top_latents))
        self.register_buffer("bottom_weight", torch.ones(t.levels, t.bottom_latents))
        if config.top_quantizer is not None:
            self.top_quantizer = Quantizer(config.top_quantizer)
        if config.bottom_quantizer is not None:
            self.bottom_quantizer = Quantizer(config.bottom_quantizer)

    def set_top(self, quantizer: Quantizer, weights: Tensor) -> None:
        """Adopt the top map's codebooks and distortion weights."""
        self.top_quantizer = quantizer
        self.top_weight.copy_(weights)
        self.config = replace(self.config, top_quantizer=quantizer.config)

    def set_bottom(self, quantizer: Quantizer, weights: Tensor) -> None:
        """Adopt the bottom map's codebooks and distortion weights."""
        self.bottom_quantizer = quantizer
        self.bottom_weight.copy_(weights)
        self.config = replace(self.config, bottom_quantizer=quantizer.config)
