"""Training of the ladder's rungs: what to start from, the stage to run, and what is exported."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from vqzip.errors import VqzError
from vqzip.model import Model
from vqzip.quantizer import Quantizer
from vqzip.train import vq
from vqzip.train.data import batches
from vqzip.train.kmeans import kmeans
from vqzip.train.loop import PlanConfig, Progress, Training, is_first
from vqzip.train.precision import mix_precision
from vqzip.train.prior_stage import PriorStage, log_frequencies, start_at_frequencies
from vqzip.train.restore import restore
from vqzip.train.rungs import RUNGS, KmeansConfig, Rung
from vqzip.train.start import load_start, save_start
from vqzip.train.vq import PlainVq, coded, nearest_codes
from vqzip.vqvae import BOTTOM_STRIDE, Transform

if TYPE_CHECKING:
    from vqzip.train.command import Run

PIXEL_GAIN = 8.0
"""Code units to the range of a pixel, for k-means."""

SPREAD = 2.0
"""Root mean square of a VQ-VAE's codewords as exported, in code units: they are fixed point."""

NEAREST = 1e6
"""Distortion of a squared code unit, in nats: so much that bits do not count."""

COUNTED = 24
"""Batches whose codes are counted for static frequencies."""


def climb(run: Run, rung: Rung) -> Model:
    """Make a rung's model; resumable like all training."""
    path = run.out / "codebooks.pt"
    if not path.exists() and is_first():
        save_start(_start(run, rung), Progress(), path)
    if dist.is_initialized():
        dist.barrier()
    model, _ = load_start(path)
    if rung.kmeans is not None:
        return model
    stage = (
        PriorStage(model, one_rate=rung.one_rate) if rung.vq is None else PlainVq(model, rung.vq)
    )
    mix_precision(model, rung.mixed_precision)
    training = Training(stage, PlanConfig(run.minutes, rung.joint_decay), rung.joint_optim, run.out)
    model = run.train(stage, training, Progress())
    with torch.no_grad():
        if rung.vq is not None:
            _rescale(model)
            if is_first():
                run.say("frequencies: counting")
            _code(model, rung, batches(run.photos, rung.data, run.seed))
        if rung.one_rate:
            _level_out(model)
    return model


@torch.no_grad()
def _start(run: Run, rung: Rung) -> Model:
    data = batches(run.photos, rung.data, run.seed)
    model = Model(rung.model)
    model.top_weight.fill_(NEAREST)
    model.bottom_weight.fill_(NEAREST)
    if rung.kmeans is not None:
        look_at_pixels(model.transform, rung.kmeans.side)
        _learn_blocks(run, model, rung.kmeans, data)
        _code(model, rung, data)
    elif rung.vq is not None:
        _spread_evenly(model.transform)
        vq.start(model, data, rung.vq)
    else:
        assert rung.before is not None
        assert run.start is not None
        before = restore(run.start, RUNGS[rung.before]().model)
        if before.config.bottom_quantizer != rung.model.bottom_quantizer:
            raise VqzError(f"{run.start}: not a model of preset {rung.before}")
        model.transform.load_state_dict(before.transform.state_dict())
        model.top_quantizer.load_state_dict(before.top_quantizer.state_dict())
        model.bottom_quantizer.load_state_dict(before.bottom_quantizer.state_dict())
        _count(model, data)
        t, prior = model.transform, model.prior
        start_at_frequencies(model.top_quantizer, prior.top, t.top_gain)
        start_at_frequencies(model.bottom_quantizer, prior.bottom, t.bottom_gain)
    return model


def block_order(side: int) -> list[tuple[int, int]]:
    """The pixels (y, x) of an 8x8 block, in smaller blocks of `side`; single ones coarse to fine.

    Those on the grid of period 8 first, then those new on that of period 4, and so on.
    """
    if side > 1:
        corners = [(y, x) for y in range(0, 8, side) for x in range(0, 8, side)]
        return [(y + j, x + i) for y, x in corners for j in range(side) for i in range(side)]
    order: list[tuple[int, int]] = []
    for period in (8, 4, 2, 1):
        grid = [(y, x) for y in range(0, 8, period) for x in range(0, 8, period)]
        order += [place for place in grid if place not in order]
    return order


@torch.no_grad()
def look_at_pixels(transform: Transform, side: int) -> None:
    """Make a transform of 192 bottom latents the identity: its latents are pixels.

    Channels are in the order of `block_order`, three colours each, times PIXEL_GAIN.
    """
    for parameter in transform.parameters():
        parameter.zero_()
    overlap = BOTTOM_STRIDE // 2
    for place, (y, x) in enumerate(block_order(side)):
        for colour in range(3):
            channel = 3 * place + colour
            for lapped in (transform.analysis, transform.synthesis):
                lapped.weight[channel, colour, overlap + y, overlap + x] = 1
            for layer in (
                transform.bottom_merge,
                transform.bottom_project,
                transform.decoder_merge,
            ):
                layer.weight[channel, channel] = 1
    # In half precision, so that one undoes the other to the bit.
    gain = torch.tensor(PIXEL_GAIN).log().half().float()
    transform.bottom_gain.fill_(gain)
    transform.bottom_ungain.fill_(-gain)


@torch.no_grad()
def _spread_evenly(transform: Transform) -> None:
    """Deal the channels, which are in the order of frequency, to the groups in turn.

    Latents are as the orthonormal lapped transform gives them.
    """
    for gain in (
        transform.top_gain,
        transform.top_ungain,
        transform.bottom_gain,
        transform.bottom_ungain,
    ):
        gain.zero_()
    for project, back in (
        (transform.top_project, transform.top_embed),
        (transform.bottom_project, transform.decoder_merge),
    ):
        latents = project.out_channels
        dealt = torch.arange(latents).view(-1, min(latents, 4)).T.flatten()
        project.weight.copy_(project.weight[dealt])
        back.weight[:, :latents] = back.weight[:, dealt]


def _learn_blocks(run: Run, model: Model, config: KmeansConfig, data: Iterator[Tensor]) -> None:
    """Codewords of every level, fewest first; groups share theirs."""
    level = torch.zeros(run.recipe.data.batch)
    found: list[Tensor] = []
    while sum(map(len, found)) < config.blocks:
        t = model.transform
        features = t.features(next(data), level)
        latent = t.bottom_latent(features, torch.zeros_like(features), level)
        blocks = latent.movedim(1, 3).reshape(-1, 3 * config.side**2)
        found.append(blocks[torch.randperm(len(blocks))[: config.blocks // 100]])
    points = torch.cat(found)
    centres: Tensor | None = None
    for level_, size in enumerate(config.sizes):
        run.say(f"k-means: {size} codewords of {len(points)} blocks")
        centres = kmeans(points, size, centres)  # those of the level below, moved, and more
        for book in model.bottom_quantizer.at(level_):
            book.codewords.copy_(centres.expand_as(book.codewords))


def _count(model: Model, data: Iterator[Tensor]) -> None:
    """Set `count` of all codebooks to the uses of their codewords in some batches."""
    quantizers = (model.top_quantizer, model.bottom_quantizer)
    for quantizer in quantizers:
        for level in range(len(quantizer.config.groups)):
            for book in quantizer.at(level):
                book.count.zero_()
    t = model.transform
    mix_precision(model, False)  # as it will code
    for _ in range(COUNTED):
        image = next(data)
        for level in range(t.config.levels):
            at = torch.full((len(image),), float(level))
            features = t.features(image, at)
            top = _count_map(model.top_quantizer, t.top_latent(features, at), level)
            h = t.decode_top(top, at)
            _count_map(model.bottom_quantizer, t.bottom_latent(features, h, at), level)


def _count_map(quantizer: Quantizer, latent: Tensor, level: int) -> Tensor:
    b, c, h, w = latent.shape
    flat = latent.transpose(0, 1).reshape(c, -1)
    codes = nearest_codes(quantizer, flat, level)
    parts = torch.split(flat, list(quantizer.config.slices))
    for book, part, chosen in zip(quantizer.at(level), parts, codes, strict=True):
        book.count += book.statistics(part, chosen)[0]
    return quantizer.vectors(codes, level).reshape(c, b, h, w).transpose(0, 1)


def _code(model: Model, rung: Rung, data: Iterator[Tensor]) -> None:
    """Have codes coded at a fixed rate, or by their static frequencies.

    All labels are zero, so that the biases alone decide, whatever the context.
    """
    for parameter in model.prior.parameters():
        parameter.zero_()
    if rung.one_rate:
        _level_out(model)
    if rung.static:
        _count(model, data)
    for quantizer in (model.top_quantizer, model.bottom_quantizer):
        for level in range(len(quantizer.config.groups)):
            for book in quantizer.at(level):
                book.labels.zero_()
                book.bias.copy_(log_frequencies(book.count) if rung.static else 0 * book.count)


def _rescale(model: Model) -> None:
    """Bring codewords to the size that fixed point has the digits for."""
    t = model.transform
    maps = (
        (model.top_quantizer, t.top_gain, t.top_ungain),
        (model.bottom_quantizer, t.bottom_gain, t.bottom_ungain),
    )
    for quantizer, gain, ungain in maps:
        books = coded(quantizer)
        if not books:
            continue
        size = torch.cat([book.codewords.flatten() for book in books]).square().mean().sqrt()
        factor = SPREAD / size
        for book in books:
            book.codewords.mul_(factor)
            book.total.mul_(factor)
        gain.add_(factor.log())
        ungain.sub_(factor.log())


def _level_out(model: Model) -> None:
    """Give all levels what level 0 has."""
    t, prior = model.transform, model.prior
    tables = [t.top_gain, t.top_ungain, t.bottom_gain, t.bottom_ungain]
    tables += [t.encoder_scale, t.decoder_scale]
    for cnn in (prior.top, prior.bottom):
        tables += [cnn.level_embedding, cnn.log_scale]
    for table in tables:
        table.copy_(table[:1].expand_as(table).clone())
    for quantizer in (model.top_quantizer, model.bottom_quantizer):
        for level in range(1, len(quantizer.config.groups)):
            for book, first in zip(quantizer.at(level), quantizer.at(0), strict=True):
                book.load_state_dict(first.state_dict())
