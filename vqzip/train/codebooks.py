"""Stage 2: from a relaxed model to codebooks, one product quantizer for each map.

Starts where scalar rounding stands: singles on the integer grid, groups on the lattice points that
photos use most, as large as a codebook can serve without overload.  So the joint stage begins with
the relaxed stage's rate and distortion.  Codewords at the means of their cells, as plain k-means
would put them here, were measured to be far worse: their cells have no dead zone, and zeros become
ones.  The joint stage's moving averages are k-means on the cells of the entropy-constrained choice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vqzip.model import Model
from vqzip.quantizer import Codebook, Quantizer, QuantizerConfig, error_features
from vqzip.train.sensitivity import sensitivity


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
    rarest: float = 5e-3
    """A slice whose codes are more rarely than this other than their most frequent is not coded.

    Up to here held-out photos lose nothing by it, and every slice takes time.
    """


def frequent_points(points: Tensor, limit: int) -> Tensor:
    """The `limit` most frequent rows of points (N, d)."""
    unique, counts = torch.unique(points, dim=0, return_counts=True)
    frequent: Tensor = unique[counts.argsort(descending=True)[:limit]]
    return frequent


def on_lattice(points: Tensor, limit: int) -> Codebook:
    """Codebooks of the most frequent of lattice points (G, N, d), `limit` each at most."""
    found = [frequent_points(group, limit) for group in points]
    book = Codebook(len(found), max(2, *(len(words) for words in found)), points.shape[2])
    start = torch.empty_like(book.codewords)
    for g, words in enumerate(found):
        start[g] = float(words.abs().max()) + 1  # spare ones, for re-seeding to move
        start[g, : len(words)] = words
    book.place(start)
    return book


def _error(book: Codebook, latent: Tensor) -> float:
    codes = book.closeness(error_features(latent, torch.ones(1))).argmax(2)
    return float((latent - book.vectors(codes)).square().mean())


def extremes(size: int = 64) -> Tensor:
    """Chessboards (N, 3, size, size) of black, white and full colours.

    Photos never reach as far; a grid that ends where photos do would break such pictures.
    """
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    boards = [
        ((y + shift) // side + (x + shift) // side) % 2 for side in (8, 16, 32) for shift in (0, 4)
    ]
    colours = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]])[:, :, None, None]
    images = [torch.where(board == 1, colours, 1 - colours) for board in boards]
    return torch.cat(images).float()


def _grid(latent: Tensor, farthest: Tensor, config: CodebookConfig) -> Codebook:
    seen = latent.abs().max() * config.headroom
    reach = int(torch.ceil(torch.maximum(seen, farthest.max()))) + 1
    book = Codebook(len(latent), 2 * reach + 1, 1)
    points = torch.arange(-reach, reach + 1, dtype=torch.float32)
    book.place(points[None, :, None].expand_as(book.codewords))
    return book


def fit(latent: Tensor, farthest: Tensor, config: CodebookConfig) -> Codebook:
    """Codebook of a slice from its latents (C, N), on lattice points.

    A grid reaches to `farthest` (C,), too.
    """
    points = latent.round()
    if not points.any():
        return Codebook(1, 1, len(latent))  # never used: one codeword at zero, nothing to code
    allowed = float((latent - points).square().mean()) * (1 + config.overload)
    for dim in config.dims:
        if len(latent) % dim:
            continue
        grouped = points.reshape(-1, dim, latent.shape[1]).transpose(1, 2)
        book = on_lattice(grouped, config.largest)
        if _error(book, latent) <= allowed:
            return book
    return _grid(latent, farthest, config)


def assemble(books: Sequence[Sequence[Codebook]], slices: tuple[int, ...]) -> Quantizer:
    """The quantizer that has these codebooks, those of each level in the order of slices."""
    groups = tuple(tuple((book.dim, book.size) for book in level) for level in books)
    quantizer = Quantizer(QuantizerConfig(slices=slices, groups=groups))
    for level, fitted in enumerate(books):
        for book, start in zip(quantizer.at(level), fitted, strict=True):
            book.load_state_dict(start.state_dict())
    return quantizer


def fit_quantizer(
    latents: Sequence[Tensor],
    farthest: Tensor,
    weights: Tensor,
    slices: tuple[int, ...],
    config: CodebookConfig,
) -> Quantizer:
    """Quantizer from the latents (C, N) of every level.

    Farthest latents (levels, C) in code units, weights (levels, C) in nats.
    """
    sizes = list(slices)
    books = [
        [
            fit(*pair, config)
            for pair in zip(torch.split(z, sizes), torch.split(far, sizes), strict=True)
        ]
        for z, far in zip(latents, farthest, strict=True)
    ]
    quantizer = assemble(books, slices)
    for level in range(len(books)):
        error = error_features(latents[level], weights[level, :, None])
        parts = torch.split(latents[level], list(slices))
        codes = quantizer.nearest(error, level)
        for book, part, chosen in zip(quantizer.at(level), parts, codes, strict=True):
            uses, _ = book.statistics(part, chosen)
            share = 1000.0 / part.shape[1]  # as after steps with a thousand positions
            book.count.copy_(uses * share)
            book.total.copy_(book.codewords * book.count[..., None])
    return quantizer


@torch.no_grad()
def latents_of(model: Model, image: Tensor, level: int) -> tuple[Tensor, Tensor]:
    """Both latents of images, the bottom one given the rounded top one."""
    t, levels = model.transform, torch.full((len(image),), float(level))
    features = t.features(image, levels)
    top = t.top_latent(features, levels)
    return top, t.bottom_latent(features, t.decode_top(top.round(), levels), levels)


def farthest_of(model: Model, level: int) -> tuple[Tensor, Tensor]:
    """Largest sizes (C,) of both maps' latents of `extremes`."""
    top, bottom = latents_of(model, extremes(), level)
    return top.abs().amax((0, 2, 3)), bottom.abs().amax((0, 2, 3))


def channels_first(parts: Sequence[Tensor]) -> Tensor:
    """Maps (B, C, H, W) to (C, N)."""
    return torch.cat([part.transpose(0, 1).flatten(1) for part in parts], 1)


def build(model: Model, batches: Iterator[Tensor], config: CodebookConfig) -> None:
    """Give `model` its quantizers and distortion weights."""
    images = [next(batches) for _ in range(config.batches)]
    latents: list[tuple[Tensor, Tensor]] = []
    weights: list[tuple[Tensor, Tensor]] = []
    farthest: list[tuple[Tensor, Tensor]] = []
    for level in range(model.transform.config.levels):
        pairs = [latents_of(model, image, level) for image in images]
        tops, bottoms = zip(*pairs, strict=True)
        latents.append((channels_first(tops), channels_first(bottoms)))
        farthest.append(farthest_of(model, level))
        levels = torch.full((len(images[0]),), float(level))
        top, bottom = sensitivity(model, tops[0].round(), bottoms[0].round(), levels)
        weights.append((config.caution * top.mean(0), config.caution * bottom.mean(0)))
    top_latents, bottom_latents = zip(*latents, strict=True)
    top_farthest, bottom_farthest = (torch.stack(rows) for rows in zip(*farthest, strict=True))
    top_weights, bottom_weights = (torch.stack(rows) for rows in zip(*weights, strict=True))
    slices = model.prior.top.config.slices
    top_quantizer = fit_quantizer(top_latents, top_farthest, top_weights, slices, config)
    model.set_top(top_quantizer, top_weights)
    slices = model.prior.bottom.config.slices
    bottom_quantizer = fit_quantizer(
        bottom_latents, bottom_farthest, bottom_weights, slices, config
    )
    model.set_bottom(bottom_quantizer, bottom_weights)


def _widened(book: Codebook, farthest: float) -> Codebook:
    """A grid that goes on at both ends, in steps of one, until it reaches `farthest`."""
    missing = math.ceil(farthest - float(book.codewords.abs().amax(1).min()))
    if book.dim > 1 or book.size == 1 or missing <= 0:
        return book
    wide = Codebook(book.groups, book.size + 2 * missing, 1)
    steps = torch.arange(1, missing + 1, dtype=torch.float32)[None, :, None]
    for points in ("codewords", "labels"):
        old: Tensor = getattr(book, points)
        first, last = old.amin(1, keepdim=True), old.amax(1, keepdim=True)
        getattr(wide, points).copy_(torch.cat([first - steps, old, last + steps], 1))
    wide.bias.copy_(F.pad(book.bias, (missing, missing), value=float(book.bias.min())))
    wide.count.copy_(F.pad(book.count, (missing, missing), value=float(book.count.min())))
    wide.total.copy_(wide.codewords * wide.count[..., None])
    return wide


@torch.no_grad()
def widen(model: Model) -> None:
    """Let the grids of a model reach as far as `extremes` do, where they end before."""
    farthest = [farthest_of(model, level) for level in range(model.transform.config.levels)]
    top, bottom = zip(*farthest, strict=True)
    model.set_top(_wide(model.top_quantizer, top), model.top_weight.clone())
    model.set_bottom(_wide(model.bottom_quantizer, bottom), model.bottom_weight.clone())


def _wide(quantizer: Quantizer, farthest: Sequence[Tensor]) -> Quantizer:
    """A quantizer with grids that reach the farthest latents (C,) of each level."""
    slices = quantizer.config.slices
    books = [
        [
            _widened(book, float(part.max()))
            for book, part in zip(quantizer.at(level), torch.split(far, list(slices)), strict=True)
        ]
        for level, far in enumerate(farthest)
    ]
    return assemble(books, slices)


def _pruned(book: Codebook, config: CodebookConfig) -> Codebook:
    """One codeword in place of codebooks whose most frequent ones are practically alone."""
    share, most = book.usage().max(1)
    if book.size == 1 or float(share.mean()) < 1 - config.rarest:
        return book
    single = Codebook(1, 1, book.groups * book.dim)
    single.place(book.codewords[torch.arange(book.groups), most].view_as(single.codewords))
    return single


@torch.no_grad()
def prune(model: Model, config: CodebookConfig) -> None:
    """Let the slices that a level practically never uses be uncoded there, which saves time."""

    def pruned(quantizer: Quantizer) -> Quantizer:
        levels = range(len(quantizer.config.groups))
        books = [[_pruned(book, config) for book in quantizer.at(level)] for level in levels]
        return assemble(books, quantizer.config.slices)

    model.set_top(pruned(model.top_quantizer), model.top_weight.clone())
    model.set_bottom(pruned(model.bottom_quantizer), model.bottom_weight.clone())
