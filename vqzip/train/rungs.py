"""Presets of the ladder from k-means on pixels to VQ-VAE-2 with a PixelCNN.

All rungs are models of the one file format: they differ from `photo` in how transform and codewords
come about, and in what the prior says of the codes, which may be nothing (fixed rate), their static
frequencies, or a PixelCNN's.  docs/ladder.md compares them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from vqzip.model import ModelConfig
from vqzip.prior import PixelCNNConfig, PriorConfig
from vqzip.quantizer import QuantizerConfig
from vqzip.train.data import DataConfig
from vqzip.train.optim import OptimConfig
from vqzip.train.presets import Preset
from vqzip.train.vq import VqConfig
from vqzip.vqvae import TransformConfig

Groups = tuple[tuple[int, int], ...]

NOT_CODED: Groups = ((1, 1),)  # of a top map that single-level models have none of
CODES: Groups = ((16, 512),) * 4  # four codes of nine bits for each position
SLICES = (16,) * 4


@dataclass(frozen=True)
class KmeansConfig:
    """Codewords of blocks of pixels."""

    side: int = 4
    """Of a block, in pixels."""
    sizes: tuple[int, ...] = (4, 16, 64, 256, 1024)
    """Codewords at each level."""
    blocks: int = 120_000
    """Blocks that they are the k-means of."""


@dataclass(frozen=True)
class Rung(Preset):
    """A model of the ladder; `kmeans` and `vq` say how its transform and codewords are made."""

    kmeans: KmeansConfig | None = None
    vq: VqConfig | None = None
    """With neither, those of the model that is gone on from stay, and get a PixelCNN prior."""
    before: str | None = None
    """The preset of that model."""
    static: bool = False
    """Codes are coded by their static frequencies; without a PixelCNN, at a fixed rate if not."""
    data: DataConfig = field(
        default_factory=lambda: DataConfig(crop=128, batch=16, crops_per_photo=12)
    )
    joint_optim: OptimConfig = field(default_factory=lambda: OptimConfig(average_decay=0.998))
    joint_decay: float = 0.5

    @property
    def needs_start(self) -> bool:
        """Whether there has to be a model to go on from."""
        return self.before is not None

    @property
    def one_rate(self) -> bool:
        """Whether all levels are alike."""
        return (
            self.model.bottom_quantizer is not None
            and len(set(self.model.bottom_quantizer.groups)) == 1
        )


def _shape(transform: TransformConfig, top: list[Groups], bottom: list[Groups]) -> ModelConfig:
    """A model whose prior is there for the file to be whole; it says nothing."""

    def slices(groups: list[Groups], channels: int) -> tuple[int, ...]:
        return tuple(channels // len(groups[0]) for _ in groups[0])

    return _with_slices(
        transform,
        QuantizerConfig(slices(top, transform.top_latents), tuple(top)),
        QuantizerConfig(slices(bottom, transform.bottom_latents), tuple(bottom)),
    )


def _with_slices(
    transform: TransformConfig, top: QuantizerConfig, bottom: QuantizerConfig
) -> ModelConfig:
    def prior(quantizer: QuantizerConfig, condition: int) -> PixelCNNConfig:
        channels = sum(quantizer.slices)
        return PixelCNNConfig(
            channels, quantizer.slices, 1, 0, 1, condition, levels=transform.levels
        )

    priors = PriorConfig(prior(top, 0), prior(bottom, 1), 1)
    return ModelConfig(transform, priors, top, bottom, adaptive=False)


def _kmeans(kmeans: KmeansConfig, slices: tuple[int, ...]) -> Rung:
    dim = 3 * kmeans.side**2
    levels = len(kmeans.sizes)
    transform = TransformConfig(
        top_width=1,
        top_latents=1,
        bottom_latents=192,
        encoder_blocks=0,
        top_blocks=0,
        bottom_blocks=0,
        decoder_blocks=0,
        pyramid_channels=1,
        levels=levels,
    )
    groups = tuple(((dim, size),) * len(slices) for size in kmeans.sizes)
    top, bottom = QuantizerConfig((1,), (NOT_CODED,) * levels), QuantizerConfig(slices, groups)
    return Rung(model=_with_slices(transform, top, bottom), kmeans=kmeans, static=True)


def blocks() -> Rung:
    """k-means of blocks of 4x4 pixels, four to a position of the bottom map."""
    return _kmeans(KmeansConfig(), (48,) * 4)


def colours() -> Rung:
    """k-means of colours; a position's 64 pixels in slices from coarse to fine."""
    return _kmeans(KmeansConfig(side=1, sizes=(4, 8, 16, 32, 64)), (3, 9, 36, 144))


def _vqvae(vq: VqConfig, *, top: bool, static: bool) -> Rung:
    transform = TransformConfig(
        top_width=64 if top else 1,
        top_latents=64 if top else 1,
        encoder_blocks=1,
        top_blocks=1 if top else 0,
        bottom_blocks=0,
        decoder_blocks=1,
        pyramid_channels=5 if top else 1,
        refine_width=24,
        levels=2,
    )
    model = _shape(transform, [CODES if top else NOT_CODED] * 2, [CODES] * 2)
    # At the rates that two levels learn well at, the codebooks of one fall behind its latents.
    rates = (8e-4, 1.5e-3) if top else (3e-4, 5e-4)
    optim = OptimConfig(*rates, average_decay=0.998)
    return Rung(model=model, vq=vq, static=static, joint_optim=optim)


def one_level() -> Rung:
    """A VQ-VAE of one level, its codebooks moving averages."""
    return _vqvae(VqConfig(), top=False, static=True)


def by_gradient() -> Rung:
    """The same with codewords that learn by gradient."""
    return _vqvae(VqConfig(by_gradient=True), top=False, static=True)


def plain(*, kmeans_start: bool, revive: bool) -> Rung:
    """`vqvae-ema` without a good start for its codewords, or care for those that go unused."""
    return _vqvae(VqConfig(kmeans_start=kmeans_start, revive=revive), top=False, static=True)


def two_levels() -> Rung:
    """VQ-VAE-2's two levels, its codes at nine bits each.

    So small a beta is not enough for one level: PSNR falls by 1 dB and more after 120 steps.
    """
    return _vqvae(VqConfig(beta=(0.18, 0.045)), top=True, static=False)


def _with_pixelcnn(rung: Rung, name: str, top: tuple[int, int], bottom: tuple[int, int]) -> Rung:
    """A rung with a PixelCNN; widths and numbers of layers of both maps."""
    prior = rung.model.prior
    condition = 48 if top[0] > 1 else 1
    model = dataclasses.replace(
        rung.model,
        prior=PriorConfig(
            dataclasses.replace(
                prior.top, width=top[0], layers=top[1], slice_width=min(top[0], 48)
            ),
            dataclasses.replace(
                prior.bottom, width=bottom[0], layers=bottom[1], slice_width=64, condition=condition
            ),
            lift_width=condition,
        ),
    )
    return dataclasses.replace(rung, model=model, before=name, kmeans=None, vq=None, static=False)


def blocks_prior() -> Rung:
    """The codes of `kmeans` with a PixelCNN prior."""
    return _with_pixelcnn(blocks(), "kmeans", (1, 0), (64, 2))


def two_levels_prior() -> Rung:
    """The codes of `vqvae2` with a PixelCNN prior."""
    return _with_pixelcnn(two_levels(), "vqvae2", (64, 2), (96, 3))


RUNGS = {
    "kmeans-colours": colours,
    "kmeans": blocks,
    "kmeans-prior": blocks_prior,
    "vqvae-loss": by_gradient,
    "vqvae-ema": one_level,
    "vqvae-ema-plain": lambda: plain(kmeans_start=False, revive=False),
    "vqvae-ema-kmeans": lambda: plain(kmeans_start=True, revive=False),
    "vqvae-ema-revive": lambda: plain(kmeans_start=False, revive=True),
    "vqvae2": two_levels,
    "vqvae2-prior": two_levels_prior,
}
