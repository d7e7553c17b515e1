"""Stage 3: the VQ-VAE proper, everything trained together on hard codes.

Codes are chosen as the encoder chooses them, by distortion plus the prior's bits, and gradients
pass the choice as `quantize.py` says; codebooks follow by moving averages, the latents are drawn to
them by the commitment loss; the prior learns on the codes' true cross-entropy, in the arithmetic
that the integer network will have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from vqzip.layers import at_level
from vqzip.masking import coarser, error_weight
from vqzip.model import Model
from vqzip.quantizer import Codebook, Quantizer
from vqzip.train.curvature import curvature, hold_spread
from vqzip.train.file_codes import FileEncoder
from vqzip.train.loop import Stage
from vqzip.train.loss import LossConfig, rate_distortion_loss
from vqzip.train.quantize import Quantized, quantize
from vqzip.train.sensitivity import emphasis, sensitivity, structure_share
from vqzip.vqvae import BOTTOM_ENCODER


@dataclass(frozen=True)
class JointConfig:
    """Weights of the joint loss."""

    loss: LossConfig = field(default_factory=LossConfig)
    commitment: float = 1.0
    """Weight of the distortion between latents and code vectors, beta in the VQ-VAE loss."""
    caution: float = 1.5
    """Factor on distortion weights: errors of choice are less random than small ones."""
    structure: float = 1500.0
    """Weight of 1 - MS-SSIM beside 255^2 * MSE in the choice of the bottom map's codes.

    Far more than in `loss`: held-out photos gain by it in both of them, as what is coarse and
    right lets the prior know what is fine.
    """
    anchor: int = 28
    """Channels whose weights keep their geometric mean by that."""
    probe_steps: int = 16
    """Steps from one measurement of the distortion weights to the next."""
    probe_rate: float = 0.03
    """How far the weights move towards what is measured."""
    settle_batches: int = 8
    """Batches of crops that the weights are measured with at the end."""
    train_encoder: bool = True
    """Whether the bottom map's encoder is trained; if not, only what comes after the codes is.

    What gives the top map stays as it is.  Whatever the top map leaves, the bottom map makes up
    for, so that distortion has no say in it, and its commitment alone makes it vanish.
    """
    file_codes: bool = False
    """Whether codes are those that a file would have (`file_codes.py`); the weights that they are
    chosen by stay as they are, and are not those of the commitment (`curvature.py`)."""
    snapshot_steps: int = 100
    """Steps that a snapshot of the model encodes for."""
    new_ends: bool = False
    """Whether what weights have more at the ends of the levels' range (`vqzip/layers.py`) learns at
    the full rate, and all else is slow: for models whose other weights are settled."""
    train_fine: bool = False
    """Whether what makes the fine latents alone is trained: for models that they are new to.

    They come to grow, by a quarter in 4,500 steps, and leave their codewords' labels behind: the
    prior takes codewords for far from zero that are not, and one vector gets many names.
    """


@dataclass
class Result:
    """A batch after both maps' quantization."""

    image: Tensor
    top: Quantized
    bottom: Quantized
    latents: tuple[Tensor, Tensor]


def pass_through(
    model: Model, image: Tensor, level: Tensor, encode: FileEncoder | None = None
) -> Result:
    """Images (B, 3, H, W) through encoder, quantizers, priors and decoder.

    Codes are those of files if there is something to encode them, else chosen in the model.
    """
    top_codes, bottom_codes = (None, None) if encode is None else encode(image, level)
    t, prior = model.transform, model.prior
    seen = error_weight(image)
    features = t.features(image, level)

    top_latent = t.top_latent(features, level)
    gain = at_level(t.top_gain, level).exp().detach()
    weight = at_level(model.top_weight.log(), level).exp() * coarser(seen)
    quantizer = model.top_quantizer
    top = quantize(top_latent, weight, quantizer, prior.top, gain, level, None, top_codes)
    condition = prior.lift(top.vectors.detach(), gain)
    h = t.decode_top(top.vectors, level)

    latent = t.bottom_latent(features, h, level)
    gain = at_level(t.bottom_gain, level).exp().detach()
    weight = at_level(model.bottom_weight.log(), level).exp() * seen
    bottom = quantize(
        latent,
        weight,
        model.bottom_quantizer,
        prior.bottom,
        gain,
        level,
        condition,
        bottom_codes,
    )
    return Result(t.decode(bottom.vectors, h, level), top, bottom, (top_latent, latent))


def reconstruct(
    model: Model, image: Tensor, level: Tensor, encode: FileEncoder | None = None
) -> tuple[Tensor, Tensor]:
    """Decoded images and their bits per pixel (B,)."""
    result = pass_through(model, image, level if encode is None else encode.levels(level), encode)
    pixels = image.shape[-1] * image.shape[-2]
    return result.image, (result.top.bits + result.bottom.bits) / pixels


def loss_of(
    model: Model, result: Result, image: Tensor, level: Tensor, config: JointConfig
) -> tuple[Tensor, dict[str, float]]:
    """Loss and metrics of a batch."""
    top, bottom = result.top, result.bottom
    pixels = image.shape[-1] * image.shape[-2]
    out = {"image": result.image, "top": top.bits / pixels, "bottom": bottom.bits / pixels}
    true = rate_distortion_loss(model, out, image, level, config.loss)
    lam = model.transform.config.lagrangian(level)
    balance = (config.loss.reference_lambda / lam) ** config.loss.level_balance
    extra = config.commitment / config.caution * bottom.commitment
    loss = true + (extra / pixels * balance).mean()
    mse = (result.image.detach() - image).square().mean((1, 2, 3))
    used = [
        book.perplexity().mean()
        for book in model.bottom_quantizer.modules()
        if isinstance(book, Codebook) and book.size > 1
    ]
    return loss, {
        "loss": float(true.detach()),
        "bpp": float((out["top"] + out["bottom"]).mean().detach()),
        "top": float(out["top"].mean().detach()),
        "psnr": float(-10 * mse.log10().mean()),
        "perplexity": float(torch.stack(used).mean()),
    }


class Joint(Stage):
    """The stage as the training loop runs it."""

    name = "joint"
    sparse = True
    # Latents that bits hold at zero have next to no gradient, and the optimizers make all
    # gradients equal: the codes would come to drift.
    slow = tuple(f"transform.{part}" for part in BOTTOM_ENCODER)

    def __init__(self, model: Model, config: JointConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        if config.new_ends:
            self.slow = tuple(name for name, _ in model.named_parameters() if ".ends." not in name)
        model.prior.arithmetic.integer = True
        model.transform.freeze_encoder(not config.train_encoder, config.train_fine)

        self.steps = 0
        self.encode = FileEncoder(model, config.snapshot_steps) if config.file_codes else None

    def forward(self, image: Tensor, level: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Loss and metrics of a batch (B, 3, H, W) at levels (B,)."""
        if self.encode is not None:
            level = self.encode.levels_of_qualities(level)
        result = pass_through(self.model, image, level, self.encode)
        if self.model.training:
            if self.encode is not None and self.config.train_encoder:
                draw_to_codes(self.model, result, image, level, self.config)
            move_codebooks(self.model, result, level)
            if self.encode is None and self.steps % self.config.probe_steps == 0:
                follow_sensitivity(self.model, result, image, level, self.config)
            self.steps += 1
        return loss_of(self.model, result, image, level, self.config)


def draw_to_codes(
    model: Model, result: Result, image: Tensor, level: Tensor, config: JointConfig
) -> None:
    """Make the commitment of the bottom map what `curvature.py` says, and keep its spread."""
    latent, vectors = result.latents[1], result.bottom.vectors
    hold_spread(latent)
    lam = model.transform.config.lagrangian(level)
    found = curvature(vectors, result.image, image, lam, config.loss)
    off = latent - vectors.detach()
    # Measured, it has no caution in it, which the loss takes out again.
    result.bottom.commitment = config.caution * (found * off.square()).sum((1, 2, 3))


@dataclass
class Move:
    """What a batch says of one codebook."""

    book: Codebook
    uses: Tensor  # (G, K)
    sums: Tensor  # (G, K, d)
    seen: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # latents and their codes


def at_once(tensors: list[Tensor], collective: Callable[[Tensor], object]) -> None:
    """A collective operation on many small tensors as one; nothing in a single process."""
    if not dist.is_initialized():
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    collective(flat)
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


@torch.no_grad()
def follow_sensitivity(
    model: Model, result: Result, image: Tensor, level: Tensor, config: JointConfig
) -> None:
    """Move the distortion weights of the levels in a batch towards what the decoder has now.

    With weights that stay behind, the encoder learns to make its latents larger and larger.
    """
    vectors = result.top.vectors, result.bottom.vectors
    top, bottom = sensitivity(model, *vectors, level)
    if config.structure:
        share = structure_share(model, *vectors, level, image).mean(0)
        bottom = bottom * emphasis(share, config.structure, config.anchor)
    nearest = level.round().long()
    for weight, measured in zip(
        (model.top_weight, model.bottom_weight), (top, bottom), strict=True
    ):
        sums, counts = torch.zeros_like(weight), torch.zeros(len(weight), 1)
        sums.index_add_(0, nearest, measured)
        counts.index_add_(0, nearest, torch.ones(len(level), 1))
        at_once([sums, counts], dist.all_reduce)
        target = torch.where(counts > 0, config.caution * sums / counts.clamp_min(1), weight)
        weight.lerp_(target, config.probe_rate)


def move_codebooks(model: Model, result: Result, level: Tensor) -> None:
    """Moving averages and re-seeding of both maps' codebooks from a batch."""
    _move(model.top_quantizer, result.latents[0], result.top.codes, level)
    _move(model.bottom_quantizer, result.latents[1], result.bottom.codes, level)


@torch.no_grad()
def _move(
    quantizer: Quantizer,
    latent: Tensor,
    codes: list[list[Tensor]],
    level: Tensor,
) -> None:
    """Of one map; sums are shared among processes."""
    config = quantizer.config
    slices = list(config.slices)
    nearest = [int(x) for x in level.round()]
    moves: list[Move] = []
    for at in range(len(config.groups)):
        samples = [i for i, x in enumerate(nearest) if x == at]
        parts = [torch.split(latent[i].flatten(1), slices) for i in samples]
        for s, book in enumerate(quantizer.at(at)):
            if book.size == 1:
                continue
            move = Move(book, torch.zeros_like(book.count), torch.zeros_like(book.total))
            move.seen = [(part[s], codes[i][s]) for part, i in zip(parts, samples, strict=True)]
            for part, chosen in move.seen:
                uses, sums = book.statistics(part, chosen)
                move.uses += uses
                move.sums += sums
            moves.append(move)
    at_once([move.uses for move in moves] + [move.sums for move in moves], dist.all_reduce)
    for move in moves:
        if move.uses.any():
            move.book.update(move.uses, move.sums, config.decay, config.dead_count)
            for part, chosen in move.seen:
                move.book.reseed(part, chosen, config.dead_count, config.overload)
    # The first process's seeds are everyone's.
    seeded = [move.book for move in moves if move.book.dim > 1]
    at_once([x for book in seeded for x in book.state()], lambda flat: dist.broadcast(flat, 0))
