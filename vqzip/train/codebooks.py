"""Stage 2: from a relaxed model to codebooks, one product quantizer for each map.

Starts where scalar rounding stands: singles on the integer grid, groups on the lattice points that
photos use most, as large as a codebook can serve without overload.  So the joint stage begins with
the relaxed stage's rate and distortion.  Codewords at the means of their cells, as plain k-means
would put them here, were measured to be far worse: their cells have no dead zone, and zeros become
ones.  The joint stage's moving averages are k-means on the cells of the entropy-constrained choice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vqzip.model import Model
from vqzip.quantizer import Codebook, Quantizer, QuantizerConfig, error_features


@dataclass(frozen=True)
class CodebookConfig:
    """How group sizes and codebook sizes are chosen, and codebooks first fitted."""

    largest: int = 192
    """Codewords of a group at most."""
    overload: float = 0.004
    """Squared error that a group's codebook may add to that of rounding, as a share of it."""
    dims: tuple[int, ...] = (16, 8, 4, 2)
    """Group sizes tried, first fit wins; singles otherwise."""
    headroom: float = 1.25
    """Range of a grid as a multiple of the largest latent seen."""
    caution: float = 1.5
    """Factor on measured distortion weights: errors of choice are less random than the probe's."""
    batches: int = 8


def frequent_points(points: Tensor, limit: int) -> Tensor:
    """The `limit` most frequent rows of points (N, d)."""
    unique, counts = torch.unique(points, dim=0, return_counts=True)
    frequent: Tensor = unique[counts.argsort(descending=True)[:limit]]
    return frequent


def _error(book: Codebook, latent: Tensor) -> float:
    codes = book.closeness(error_features(latent, torch.ones(len(latent)))).argmax(2)
    return float((latent - book.vectors(codes)).square().mean())


def _grid(latent: Tensor, config: CodebookConfig) -> Codebook:
    reach = int(torch.ceil(latent.abs().max() * config.headroom)) + 1
    book = Codebook(len(latent), 2 * reach + 1, 1)
    points = torch.arange(-reach, reach + 1, dtype=torch.float32)
    book.place(points[None, :, None].expand_as(book.codewords))
    return book


def fit(latent: Tensor, config: CodebookConfig) -> Codebook:
    """Codebook of a slice from its latents (C, N), on lattice points."""
    points = latent.round()
    if not points.any():
        return Codebook(1, 1, len(latent))  # never used: one codeword at zero, nothing to code
    allowed = float((latent - points).square().mean()) * (1 + config.overload)
    for dim in config.dims:
        if len(latent) % dim:
            continue
        grouped = points.reshape(-1, dim, latent.shape[1]).transpose(1, 2)
        found = [frequent_points(group, config.largest) for group in grouped]
        book = Codebook(len(found), max(2, *(len(words) for words in found)), dim)
        start = torch.empty_like(book.codewords)
        for g, words in enumerate(found):
            start[g] = float(words.abs().max()) + 1  # spare ones, for re-seeding to move
            start[g, : len(words)] = words
        book.place(start)
        if _error(book, latent) <= allowed:
            return book
    return _grid(latent, config)


def fit_quantizer(
    latents: list[Tensor], weights: Tensor, slices: tuple[int, ...], config: CodebookConfig
) -> Quantizer:
    """Quantizer from the latents (C, N) of every level; weights (levels, C) in nats."""
    books = [[fit(part, config) for part in torch.split(z, list(slices))] for z in latents]
    groups = tuple(tuple((book.dim, book.size) for book in level) for level in books)
    quantizer = Quantizer(QuantizerConfig(slices=slices, groups=groups))
    for level, fitted in enumerate(books):
        for book, start in zip(quantizer.at(level), fitted, strict=True):
            book.load_state_dict(start.state_dict())
        error = error_features(latents[level], weights[level])
        parts = torch.split(latents[level], list(slices))
        codes = quantizer.nearest(error, level)
        for book, part, chosen in zip(quantizer.at(level), parts, codes, strict=True):
            uses, _ = book.statistics(part, chosen)
            share = 1000.0 / part.shape[1]  # as after steps with a thousand positions
            book.count.copy_(uses * share)
            book.total.copy_(book.codewords * book.count[..., None])
    return quantizer


@torch.no_grad()
def sensitivity(model: Model, image: Tensor, level: int, top: bool, delta: float = 0.5) -> Tensor:
    """Distortion of a code unit in each channel, nats of `lambda * 255^2 * MSE` per unit^2, (C,).

    Measured: one channel at a time is moved by `delta` up or down at random everywhere.
    """
    t = model.transform
    levels = torch.full((len(image),), float(level))
    features = t.features(image, levels)
    top_vectors = t.top_latent(features, levels).round()
    h = t.decode_top(top_vectors, levels)
    bottom = t.bottom_latent(features, h, levels).round()

    def reconstruct(top_vectors: Tensor, bottom: Tensor) -> Tensor:
        return t.decode(bottom, t.decode_top(top_vectors, levels) if top else h, levels)

    clean = reconstruct(top_vectors, bottom)
    moved = top_vectors if top else bottom
    stride = image.shape[-1] // moved.shape[-1]
    scale = float(t.config.lagrangian(levels[:1])) * 255**2 * stride**2 / delta**2
    result = torch.zeros(moved.shape[1])
    for channel in range(moved.shape[1]):
        noise = torch.zeros_like(moved)
        noise[:, channel] = delta * (torch.randint(0, 2, noise[:, channel].shape) * 2 - 1)
        changed = reconstruct(
            *((top_vectors + noise, bottom) if top else (top_vectors, bottom + noise))
        )
        result[channel] = (changed - clean).square().mean() * scale
    return result * torch.log(torch.tensor(2.0))


def _all_sensitivities(model: Model, image: Tensor, top: bool) -> Tensor:
    """Sensitivities (levels, C), measured at the ends and the middle, interpolated between."""
    last = model.config.transform.levels - 1
    measured = sorted({0, last // 2, last})
    rows = [sensitivity(model, image, level, top).clamp_min(1e-6).log() for level in measured]
    weights = torch.empty(last + 1, len(rows[0]))
    for low, high, a, b in zip(measured, measured[1:], rows, rows[1:], strict=False):
        for level in range(low, high + 1):
            weights[level] = torch.lerp(a, b, (level - low) / (high - low)).exp()
    return weights


@torch.no_grad()
def build(model: Model, batches: Iterator[Tensor], config: CodebookConfig) -> None:
    """Give `model` its quantizers and distortion weights, top first: the bottom depends on it."""
    t = model.transform
    images = [next(batches) for _ in range(config.batches)]
    for is_top in (True, False):
        weights = _all_sensitivities(model, images[0][:2], is_top) * config.caution
        latents = []
        for level in range(t.config.levels):
            parts = []
            for image in images:
                levels = torch.full((len(image),), float(level))
                features = t.features(image, levels)
                latent = t.top_latent(features, levels)
                if not is_top:
                    vectors = model.quantize_nearest(model.top_quantizer, latent, level)
                    latent = t.bottom_latent(features, t.decode_top(vectors, levels), levels)
                parts.append(latent.transpose(0, 1).flatten(1))
            latents.append(torch.cat(parts, 1))
        slices = (model.prior.top if is_top else model.prior.bottom).config.slices
        quantizer = fit_quantizer(latents, weights, slices, config)
        if is_top:
            model.set_top(quantizer, weights)
        else:
            model.set_bottom(quantizer, weights)
