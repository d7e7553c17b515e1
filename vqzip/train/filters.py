"""The kernels of the filters that pictures end with, and what their coefficients take.

Of photos that the model has decoded, the filter of least squared error is known (`wiener.py`).  The
kernels are the principal components of these filters, in what they do to pictures; the tables of
frequencies are those of the coefficients that are chosen with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vqzip import codec, encoding
from vqzip.codec import CodecModel
from vqzip.container import MAX_LEVEL
from vqzip.integer import Doubles, Tensors
from vqzip.latents import Search
from vqzip.least_squares import Statistics
from vqzip.train.calibrate import middles
from vqzip.wiener import FilterBank

PLAIN = Search(filters=False)

SMALLEST = 1e-9
"""Of what terms do to pictures, as a share of the largest."""


@dataclass(frozen=True)
class FilterConfig:
    """What filters are made of and learned from; no pictures leave a model without them."""

    pictures: int = 960
    """Middles of photos, each at a level of its own."""
    side: int = 768
    """Of those, at most."""
    kernels: int = 256
    largest: int = 47
    """Coefficient."""
    worth: float = 80.0
    """Bits that a kernel with a coefficient of one is worth in a typical picture, if it helps."""
    pixels: int = 400_000
    """Of a typical picture."""
    ridge: float = 1e-4
    """Share of the squares of terms that is added to those of a picture, so that what tells nothing
    of it is left alone."""
    enough: float = 10_000.0
    """Bits: filters that are worth far more than that do not count far more."""
    rounds: int = 3
    """How often frequencies are counted, each time with what coefficients took before."""
    spare: float = 0.005
    """Share of the frequencies that is for all coefficients alike."""
    report: int = 80
    """Pictures from one report to the next."""


@dataclass(frozen=True)
class Sample:
    """What the filter of a picture is found from, at a position of the quality scale."""

    found: Statistics
    level: int
    worth: float
    """Bits for a squared error of 1 in each pixel of a typical picture."""


def samples(
    model: CodecModel, photos: list[Path], config: FilterConfig, say: Callable[[str], None]
) -> list[Sample]:
    """Photos, encoded and decoded without filters."""
    count, taken = min(config.pictures, len(photos)), []
    for i, pixels in enumerate(middles(photos, config.pictures, config.side)):
        # All levels come about as often, whatever the order of photos.
        level = round(i * MAX_LEVEL * (5**0.5 - 1) / 2) % (MAX_LEVEL + 1)
        codes = encoding.analyse(model, pixels, level, PLAIN)
        every = encoding.decoded_windows(model, pixels, codes, level)
        found = Statistics.joined([seen.statistics for seen in every])
        taken.append(Sample(found, level, codec.worth(model, level) * config.pixels))
        if (i + 1) % config.report == 0:
            say(f"filters: {i + 1} of {count} photos")
    return taken


def best_filter(sample: Sample, mean: Doubles, ridge: float) -> Doubles:
    """The filter (TERMS, 3) of least squared error, drawn to none by a share of mean squares."""
    held = ridge * (mean + np.diag(np.diag(mean)))
    return np.asarray(np.linalg.solve(sample.found.products + held, sample.found.wanted))


def learn_kernels(taken: list[Sample], config: FilterConfig) -> Doubles:
    """Kernels (K, 3, TERMS), the most important ones first.

    They are orthogonal in what they do to the mean picture, and change its pixels by one.
    """
    mean = np.mean([sample.found.products for sample in taken], 0)
    values, vectors = np.linalg.eigh(mean)
    root = np.sqrt(np.maximum(values, values.max() * SMALLEST))
    whiten, color = (vectors * root) @ vectors.T, (vectors / root) @ vectors.T
    rows = []
    for sample in taken:
        best = best_filter(sample, mean, config.ridge)
        saved = sample.worth * float((best * sample.found.wanted).sum())
        scale = np.sqrt(sample.worth / (1 + max(saved, 0) / config.enough))
        rows.append(scale * (whiten @ best).T.ravel())
    _, _, components = np.linalg.svd(np.array(rows), full_matrices=False)
    kernels = components[: config.kernels].reshape(-1, 3, len(mean))
    return np.asarray(kernels @ color)


def count_coefficients(bank: FilterBank, taken: list[Sample], spare: float) -> FilterBank:
    """The bank with the frequencies of what is chosen with it: geometric on both sides of zero."""
    found = [bank.fit(sample.found, sample.level, sample.worth) for sample in taken]
    none = np.zeros(len(bank.kernels), np.int32)
    chosen = np.abs([none if filter_ is None else filter_ for filter_ in found])
    used = (chosen > 0).sum(0)
    zero = (len(chosen) - used + 1) / (len(chosen) + 2)
    ratio = 1 - 1 / np.maximum(chosen.sum(0) / np.maximum(used, 1), 1 + spare)
    size = np.abs(np.arange(-bank.largest, bank.largest + 1))
    one_side = (1 - ratio[:, None]) * ratio[:, None] ** np.maximum(size - 1, 0) / 2
    share = np.where(size == 0, zero[:, None], (1 - zero[:, None]) * one_side)
    return replace(bank, weights=as_weights(share, spare))


def as_weights(share: Doubles, spare: float) -> Doubles:
    """Frequencies (K, S) as weights for the coder, whole numbers up to 2^28."""
    even = spare / share.shape[1]
    mixed = (1 - spare) * share / share.sum(1, keepdims=True) + even
    return np.asarray(np.maximum(np.round(mixed / mixed.max(1, keepdims=True) * 2.0**28), 1.0))


def learn_bank(taken: list[Sample], model: CodecModel, config: FilterConfig) -> FilterBank:
    """The filters of a model."""
    kernels = learn_kernels(taken, config).astype(np.float16).astype(np.float32)
    typical = [codec.worth(model, level) * config.pixels for level in range(MAX_LEVEL + 1)]
    steps = np.sqrt(config.worth / np.array(typical)).astype(np.float32)
    values = np.ones((len(kernels), 2 * config.largest + 1))
    bank = FilterBank(kernels, steps, as_weights(values, 1.0))
    for _ in range(config.rounds):
        bank = count_coefficients(bank, taken, config.spare)
    return bank


def learn_filters(
    model: CodecModel, photos: list[Path], config: FilterConfig, say: Callable[[str], None]
) -> Tensors:
    """The tensors of a model's filters, none if there are no pictures to learn them from."""
    taken = samples(model, photos, config, say)
    if not taken:
        return {}
    bank = learn_bank(taken, model, config)
    return {
        "wiener.kernels": bank.kernels.astype(np.float16),
        "wiener.steps": bank.steps,
        "wiener.weights": bank.weights.astype(np.int32),
    }
