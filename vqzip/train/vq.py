"""The plain VQ-VAE stage: mean squared error, nearest codes, straight-through gradients.

As van den Oord et al. (2017) and Razavi et al. (2019) have it, with nothing said of bits:

    |x - D(z_q)|^2 + |sg(z_e) - z_q|^2 + beta |z_e - sg(z_q)|^2

(squared errors of all of a picture, per value of a pixel) for codewords that learn by gradient;
where they are moving averages of their latents, the middle term is left out.  There is one rate, so
all that a model has for each level is learned for level 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vqzip.model import Model
from vqzip.quantizer import Codebook, Quantizer
from vqzip.train.joint import at_once
from vqzip.train.kmeans import kmeans
from vqzip.train.loop import Stage


@dataclass(frozen=True)
class VqConfig:
    """How codewords learn."""

    by_gradient: bool = False
    """Codewords are parameters; moving averages otherwise."""
    beta: tuple[float, float] = (1.0, 1.0)
    """Of the top and the bottom map.  The straight-through gradient drives latents away from their
    codewords, until they are 1 / beta times as far off as an orthonormal transform has them."""
    variance: float = 0.06
    """Of pixels in photos: the loss is divided by it, to be below one."""
    decay: float = 0.99
    kmeans_start: bool = True
    """Start at the k-means of the untrained encoder's latents; at random otherwise."""
    revive: bool = True
    """Give codewords that are hardly used a latent of the batch as their new place."""
    dead_count: float = 0.5
    """A codeword used less often (in a moving average of uses a step) is hardly used."""
    start_batches: int = 6


@dataclass
class Quantized:
    """One map after quantization; latents and vectors are (C, N), N all positions of a batch."""

    latent: Tensor
    nearest: Tensor
    codes: list[Tensor]  # (G, N) of each slice
    through: Tensor  # (B, C, H, W) the nearest vectors, straight-through


@dataclass
class Result:
    """A batch after both maps' quantization."""

    image: Tensor
    top: Quantized
    bottom: Quantized


def coded(quantizer: Quantizer) -> list[Codebook]:
    """The codebooks of level 0 that have a choice to offer."""
    return [book for book in quantizer.at(0) if book.size > 1]


def nearest_codes(quantizer: Quantizer, latent: Tensor, level: int = 0) -> list[Tensor]:
    """Codes (G, N) of each slice, the nearest to the latents (C, N)."""
    parts = torch.split(latent.detach(), list(quantizer.config.slices))
    found = []
    for book, part in zip(quantizer.at(level), parts, strict=True):
        points = part.reshape(book.groups, book.dim, -1).transpose(1, 2)
        lengths = book.codewords.detach().square().sum(2)[:, None]
        words = book.codewords.detach().transpose(1, 2)
        found.append(torch.baddbmm(lengths, points, words, alpha=-2).argmin(2))
    return found


def quantize(quantizer: Quantizer, latent: Tensor) -> Quantized:
    """Latents (B, C, H, W) to their nearest code vectors, gradients straight through."""
    b, c, h, w = latent.shape
    flat = latent.transpose(0, 1).reshape(c, -1)
    codes = nearest_codes(quantizer, flat)
    vectors = quantizer.vectors(codes, 0)
    through = flat + (vectors - flat).detach() if coded(quantizer) else vectors
    return Quantized(flat, vectors, codes, through.reshape(c, b, h, w).transpose(0, 1))


def pass_through(model: Model, image: Tensor) -> Result:
    """Images (B, 3, H, W) through encoder, quantizers and decoder."""
    t, level = model.transform, torch.zeros(len(image))
    features = t.features(image, level)
    top = quantize(model.top_quantizer, t.top_latent(features, level))
    h = t.decode_top(top.through, level)
    bottom = quantize(model.bottom_quantizer, t.bottom_latent(features, h, level))
    return Result(t.decode(bottom.through, h, level), top, bottom)


def reconstruct(model: Model, image: Tensor, *, static: bool) -> tuple[Tensor, Tensor]:
    """Decoded images and their bits per pixel (B,), on average.

    By the frequencies of the moving averages if `static`, else at a fixed rate.
    """
    result, bits = pass_through(model, image), torch.zeros(())
    for quantizer, found in (
        (model.top_quantizer, result.top),
        (model.bottom_quantizer, result.bottom),
    ):
        for book, codes in zip(quantizer.at(0), found.codes, strict=True):
            usage = book.usage() if static else torch.full_like(book.count, 1 / book.size)
            bits = bits - usage.clamp_min(1e-6).log2().gather(1, codes).sum()
    pixels = image.shape[0] * image.shape[-1] * image.shape[-2]
    return result.image, (bits / pixels).expand(len(image))


class PlainVq(Stage):
    """The stage as the training loop runs it."""

    name = "vq"
    sparse = True

    def __init__(self, model: Model, config: VqConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.maps = (model.top_quantizer, model.bottom_quantizer)
        model.prior.requires_grad_(False)
        for quantizer in self.maps:
            quantizer.requires_grad_(False)
            if config.by_gradient:
                for book in coded(quantizer):
                    words = book.codewords
                    del book.codewords  # a buffer, from here on a parameter of that name
                    book.codewords = nn.Parameter(words)

    def forward(self, image: Tensor, level: Tensor) -> tuple[Tensor, dict[str, float]]:  # noqa: ARG002
        """Loss and metrics of a batch (B, 3, H, W); there is one level only."""
        result, config = pass_through(self.model, image), self.config
        mse = (result.image - image).square().mean((1, 2, 3))
        error, values = mse.mean(), image.numel()
        every = zip(self.maps, (result.top, result.bottom), config.beta, strict=True)
        for quantizer, found, beta in every:
            if not coded(quantizer):
                continue
            apart = (found.latent - found.nearest.detach()).square().sum()
            error = error + beta * apart / values
            if config.by_gradient:
                error = error + (found.latent.detach() - found.nearest).square().sum() / values
            if self.training:
                self._move(quantizer, found)
        loss = error / config.variance
        books = [book for quantizer in self.maps for book in coded(quantizer)]
        used = torch.cat([book.perplexity() for book in books])
        return loss, {
            "loss": float(loss.detach()),
            "psnr": float(-10 * mse.detach().log10().mean()),
            "perplexity": float(used.mean()),
            "least": float(used.min()),
        }

    @torch.no_grad()
    def _move(self, quantizer: Quantizer, found: Quantized) -> None:
        """Moving averages of one map's codebooks, sums shared among processes, and revival."""
        config = self.config
        parts = torch.split(found.latent.detach(), list(quantizer.config.slices))
        every = zip(quantizer.at(0), parts, found.codes, strict=True)
        moves = [(book, part, codes) for book, part, codes in every if book.size > 1]
        sums = [book.statistics(part, codes) for book, part, codes in moves]
        at_once([tensor for pair in sums for tensor in pair], dist.all_reduce)
        for (book, part, _), (uses, total) in zip(moves, sums, strict=True):
            if config.by_gradient:
                book.count.lerp_(uses, 1 - config.decay)
            else:
                book.update(uses, total, config.decay, dead=0.0)
            if config.revive:
                revive(book, part, config.dead_count)
        if config.revive:  # at the first process's places
            seeded = [x for book, *_ in moves for x in book.state()]
            at_once([x.data for x in seeded], lambda flat: dist.broadcast(flat, 0))


def revive(book: Codebook, latent: Tensor, dead: float) -> int:
    """Put codewords whose count is below `dead` on random latents (C, N); returns how many."""
    points = latent.reshape(book.groups, book.dim, -1)
    groups, words = torch.nonzero(book.count < dead, as_tuple=True)
    places = points[groups, :, torch.randint(points.shape[2], (len(groups),))]
    book.codewords.data[groups, words] = places
    book.count[groups, words] = 2 * dead
    book.total[groups, words] = places * 2 * dead
    return len(groups)


@torch.no_grad()
def start(model: Model, batches: Iterator[Tensor], config: VqConfig) -> None:
    """Give an untrained model its first codewords; the bottom map's given the top map's."""
    images = torch.cat([next(batches) for _ in range(config.start_batches)])
    t, level = model.transform, torch.zeros(len(images))
    features = t.features(images, level)
    latent = t.top_latent(features, level)
    _place(model.top_quantizer, latent, config)
    h = t.decode_top(quantize(model.top_quantizer, latent).through, level)
    _place(model.bottom_quantizer, t.bottom_latent(features, h, level), config)


def _place(quantizer: Quantizer, latent: Tensor, config: VqConfig) -> None:
    parts = torch.split(latent.transpose(0, 1).flatten(1), list(quantizer.config.slices))
    for book, part in zip(quantizer.at(0), parts, strict=True):
        points = part.reshape(book.groups, book.dim, -1).transpose(1, 2)
        if book.size == 1:
            continue
        if config.kmeans_start:
            book.codewords.copy_(torch.stack([kmeans(group, book.size) for group in points]))
        else:
            book.codewords.uniform_(-1 / book.size, 1 / book.size)
        book.count.fill_(points.shape[1] / book.size / config.start_batches)
        book.total.copy_(book.codewords * book.count[..., None])
