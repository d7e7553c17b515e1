"""The VQ-VAE-2 transform: pixels to latents and back, at any of the model's rates.

Two levels (Razavi, van den Oord & Vinyals 2019): a top latent at stride 16, and a bottom latent at
stride 8 that is conditional on the decoded top.  Latents come out in *code units*: a per-level,
per-channel gain has been applied, so that the quantizer's cells are about one unit wide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqzip.lapped import lapped_kernels
from vqzip.layers import (
    Blocks,
    Graded,
    Modulation,
    Overlapping,
    at_level,
    near_zero,
    started_small,
    train_last,
)

BOTTOM_STRIDE = 8
TOP_STRIDE = 16
REFINE_STRIDE = 4
BOTTOM_ENCODER = (
    "top_embed",
    "top_decoder",
    "top_up",
    "bottom_merge",
    "bottom_encoder",
    "bottom_project",
)
"""Parts of a transform that make the bottom latent of features and of the top map."""
_BASIS = 3 * BOTTOM_STRIDE**2  # channels of the lapped transform


@dataclass(frozen=True)
class TransformConfig:
    """Shape of the transform and the range of rates it is trained for."""

    top_width: int = 192
    top_latents: int = 64
    bottom_latents: int = 64
    encoder_blocks: int = 2
    top_blocks: int = 2
    bottom_blocks: int = 1
    decoder_blocks: int = 4
    pyramid_channels: int = 5
    """Low-frequency channels whose means the top map starts with."""
    fine_latents: int = 0
    """Latents of the bottom map, the last ones, with channels of the lapped transform of their own.

    They bypass the encoder and the decoder, and are part of the bottom map in all else.
    """
    refine_width: int = 0
    """Width of the decoder's last layers, at stride 4; none if zero."""
    modulated: bool = False
    """Whether the decoder's blocks, and its layers at stride 4, know the level."""
    graded: bool = False
    """Whether the decoder's weights, those after both maps meet, depend on the level."""
    levels: int = 9
    lowest_lambda: float = 0.0005

    def lagrangian(self, level: Tensor) -> Tensor:
        """Weight of the distortion, lambda in `lambda * 255^2 * MSE + bits per pixel`.

        It doubles with every level; levels between two whole ones are valid, too.
        """
        return self.lowest_lambda * torch.exp2(level)

    def worth(self, level: Tensor) -> Tensor:
        """Bits for a squared error of 1 in a pixel, colours summed up."""
        # Distortion is in 8-bit values, and the mean over colours.
        return self.lagrangian(level) * (255**2 / 3)


class Refine(nn.Module):
    """What the decoder adds to the lapped synthesis: two 3x3 layers at stride 4.

    They see the image that the synthesis gives and features finer than its blocks, so that they can
    smooth over the period of the blocks where an edge does not forbid it.  Starts as nothing.
    """

    def __init__(self, inputs: int, width: int, levels: int, graded: int) -> None:
        """`levels` are those that it is modulated for, if any, `graded` those of its weights."""
        super().__init__()
        pixels = 3 * REFINE_STRIDE**2
        ratio = BOTTOM_STRIDE // REFINE_STRIDE
        self.ratio = ratio
        self.finer = Graded(inputs, width * ratio**2, 1, graded)
        self.mix = Graded(pixels + width, width, 3, graded)
        self.modulation = Modulation(levels, width)
        self.residual = Graded(width, pixels, 3, graded)
        with torch.no_grad():
            nn.init.zeros_(self.residual.weight)
            assert self.residual.bias is not None
            nn.init.zeros_(self.residual.bias)

    def forward(self, features: Tensor, image: Tensor, level: Tensor) -> Tensor:
        """Features (B, inputs, H/8, W/8) and an image (B, 3, H, W) to a better one, at levels."""
        fine = F.pixel_shuffle(self.finer(features, level), self.ratio)
        packed = F.pixel_unshuffle(image, REFINE_STRIDE)
        y = self.modulation(self.mix(torch.cat([packed, fine], 1), level), level)
        residual: Tensor = self.residual(F.silu(y), level)
        return image + F.pixel_shuffle(residual, REFINE_STRIDE)


class Transform(nn.Module):
    """Encoder and decoder networks of both levels.

    `level` is a tensor (batch,) in [0, levels - 1] throughout; images are (batch, 3, H, W) in
    [0, 1] with H and W multiples of `TOP_STRIDE`.
    """

    def __init__(self, config: TransformConfig) -> None:
        super().__init__()
        self.config = config
        width, top = _BASIS, config.top_width
        kernels = torch.tensor(lapped_kernels(BOTTOM_STRIDE), dtype=torch.float32)
        fine = slice(config.bottom_latents - config.fine_latents, config.bottom_latents)

        analysed = width + config.fine_latents
        modulated = config.levels if config.modulated else 0
        graded = config.levels if config.graded else 0
        self.analysis = nn.Conv2d(3, analysed, 2 * BOTTOM_STRIDE, BOTTOM_STRIDE)
        self.encoder = Blocks(width, config.encoder_blocks)
        self.top_down = near_zero(width, top, 2)
        self.top_encoder = Blocks(top, config.top_blocks)
        self.top_project = near_zero(top, config.top_latents)

        self.top_embed = near_zero(config.top_latents, top)
        self.top_decoder = Blocks(top, config.top_blocks)
        self.top_up = near_zero(top, 4 * width)

        self.bottom_merge = near_zero(2 * width, width)
        self.bottom_encoder = Blocks(width, config.bottom_blocks)
        self.bottom_project = near_zero(width, config.bottom_latents)

        merged = Graded(config.bottom_latents + width, width, 1, graded)
        self.decoder_merge = started_small(merged)
        self.decoder = Blocks(width, config.decoder_blocks, modulated, graded)
        self.synthesis = Overlapping(analysed, 3, BOTTOM_STRIDE, graded)
        refined = config.refine_width
        self.refine = Refine(width, refined, modulated, graded) if refined else None
        with torch.no_grad():
            for lapped in (self.analysis, self.synthesis):
                lapped.weight.copy_(torch.cat([kernels, kernels[fine]]))
                assert lapped.bias is not None
                nn.init.zeros_(lapped.bias)
        self._start_as_pyramid()

        levels = torch.arange(config.levels, dtype=torch.float32)
        # Half of the gain at which a unit quantization step is optimal at high rate,
        # 1/12 * 2 ln 2 / 3 = 0.0385 for three colours; half was measured better at these rates.
        gain = 0.5 * torch.log(config.lagrangian(levels) * 255**2 * 0.0385) - math.log(2.0)
        self.top_gain = nn.Parameter(gain[:, None].repeat(1, config.top_latents))
        self.top_ungain = nn.Parameter(-gain[:, None].repeat(1, config.top_latents))
        self.bottom_gain = nn.Parameter(gain[:, None].repeat(1, config.bottom_latents))
        self.bottom_ungain = nn.Parameter(-gain[:, None].repeat(1, config.bottom_latents))
        self.encoder_scale = nn.Parameter(torch.zeros(config.levels, width))
        self.decoder_scale = nn.Parameter(torch.zeros(config.levels, width))

    @torch.no_grad()
    def _start_as_pyramid(self) -> None:
        """Make the untrained network a two-level pyramid of the lapped transform.

        The top map starts with the 2x2 means of the lowest frequencies, the bottom map with what
        they leave over.  Started at random, the top map is pruned by the rate loss within a few
        hundred steps, and the second level is dead weight.
        """
        latents, lowest = self.config.bottom_latents, self.config.pyramid_channels
        for i in range(_BASIS):
            self.bottom_merge.weight[i, i] += 1
        for i in range(latents - self.config.fine_latents):
            self.bottom_project.weight[i, i] += 1
            self.decoder_merge.weight[i, i] += 1
        for i in range(lowest):
            self.top_down.weight[i, i] += 0.5  # all four taps: the orthonormal Haar mean
            self.top_project.weight[i, i] += 1
            self.top_embed.weight[i, i] += 1
            self.top_up.weight[4 * i : 4 * i + 4, i] += 0.5  # its adjoint, for pixel_shuffle
            self.bottom_merge.weight[i, _BASIS + i] -= 1
            self.decoder_merge.weight[i, latents + i] += 1

    def freeze_encoder(self, bottom: bool = True, fine: bool = False) -> None:
        """Keep all that codes depend on as it is, or all but what makes the bottom latent of it.

        That has what decodes the top map in it.  The decoder remains to be trained, and with `fine`
        what makes the fine latents alone.  The gains stay in any case: the shapes of the codebooks
        are made for their scale.
        """
        self.requires_grad_(False)
        trained: list[nn.Module | None] = [self.decoder_merge, self.decoder, self.synthesis]
        trained.append(self.refine)
        if not bottom:
            trained += map(self.get_submodule, BOTTOM_ENCODER)
        for part in trained:
            if part is not None:
                part.requires_grad_(True)
        self.bottom_ungain.requires_grad_(True)
        self.decoder_scale.requires_grad_(True)
        if fine and self.config.fine_latents:
            train_last(self.analysis, self.config.fine_latents)
            if bottom:
                train_last(self.bottom_project, self.config.fine_latents)

    def features(self, image: Tensor, level: Tensor) -> Tensor:
        """Image (B, 3, H, W) to encoder features (B, 192 + fine_latents, H/8, W/8)."""
        overlap = BOTTOM_STRIDE // 2
        padded = F.pad(image - 0.5, (overlap,) * 4, mode="replicate")
        coarse, fine = self._split(self.analysis(padded))
        features: Tensor = self.encoder(coarse, level) * (1 + at_level(self.encoder_scale, level))
        return torch.cat([features, fine], 1)

    def _split(self, features: Tensor) -> tuple[Tensor, ...]:
        """What goes through the encoder, and what fine latents see as it is."""
        return torch.split(features, [_BASIS, self.config.fine_latents], 1)

    def top_latent(self, features: Tensor, level: Tensor) -> Tensor:
        """Features to the top latent (B, top_latents, H/16, W/16) in code units."""
        coarse, _ = self._split(features)
        latent: Tensor = self.top_project(self.top_encoder(self.top_down(coarse), level))
        return latent * at_level(self.top_gain, level).exp()

    def decode_top(self, vectors: Tensor, level: Tensor) -> Tensor:
        """Top code vectors to what the bottom level knows of them, h (B, 192, H/8, W/8)."""
        x = vectors * at_level(self.top_ungain, level).exp()
        x = self.top_decoder(self.top_embed(x), level)
        h: Tensor = F.pixel_shuffle(self.top_up(x), 2)
        return h

    def bottom_latent(self, features: Tensor, h: Tensor, level: Tensor) -> Tensor:
        """Features and h to the bottom latent (B, bottom_latents, H/8, W/8) in code units."""
        coarse, fine = self._split(features)
        x = self.bottom_encoder(self.bottom_merge(torch.cat([coarse, h], 1)), level)
        latent: Tensor = self.bottom_project(x)
        latent = latent + F.pad(fine, (0, 0, 0, 0, latent.shape[1] - fine.shape[1], 0))
        return latent * at_level(self.bottom_gain, level).exp()

    def decode(self, vectors: Tensor, h: Tensor, level: Tensor) -> Tensor:
        """Bottom code vectors and h to the image (B, 3, H, W), not clamped to [0, 1]."""
        scaled = vectors * at_level(self.bottom_ungain, level).exp()
        x = self.decoder_merge(torch.cat([scaled, h], 1), level)
        x = self.decoder(x * (1 + at_level(self.decoder_scale, level)), level)
        fine = scaled[:, scaled.shape[1] - self.config.fine_latents :]
        margin = BOTTOM_STRIDE + BOTTOM_STRIDE // 2
        spread = F.pad(torch.cat([x, fine], 1), (1, 1, 1, 1), mode="replicate")
        image: Tensor = self.synthesis(spread, level)
        image = image[:, :, margin:-margin, margin:-margin]
        if self.refine is not None:
            image = self.refine(x, image, level)
        return image + 0.5
