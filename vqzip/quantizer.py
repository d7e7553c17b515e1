"""Product vector quantizer: latents to codes, with codebooks learned by moving averages.

The channels of a map are cut into the prior's slices.  At each trained level a slice has one group
size d and one codebook size K: large-variance channels stand alone on a grid over their whole
range, small-variance ones share a codeword in groups of up to 16.  A slice of C channels is then
C / d codes for each position.

The prior's distribution over a codebook is log-linear in functions of the codewords,

    log p(k) = b_k + F . phi(c_k) - log Z,   phi(c) = (c, -c^2, |c|, min(|c|, 1)) for each channel,

with F from the network: a discretized Gaussian with adjustable tails, the same for any grouping of
the channels.  phi is of the codeword's *label*, the lattice point it started at (its own place,
once re-seeded): codewords move to the means of their cells without disturbing the prior.  A squared
error w (z - c_k)^2 has the same form with F = (2 w z, w, 0, 0), so that the entropy-constrained
choice of a codeword (Chou, Lookabaugh & Gray 1989),

    argmin_k  w |z - c_k|^2 - log p(k),

is two matrix products.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

FEATURES = 4
"""Numbers of phi(c), and of F, for a channel."""

SMALLEST_SCALE = 0.08
"""Standard deviations below this, in code units, count as this."""


@dataclass(frozen=True)
class QuantizerConfig:
    """Group size and codebook size (d, K) of every slice at every level: `groups[level][slice]`.

    K = 1 is a slice that is not coded: its vectors are its only codeword.
    """

    slices: tuple[int, ...]
    groups: tuple[tuple[tuple[int, int], ...], ...]
    decay: float = 0.995
    dead_count: float = 1e-4
    """A codeword used less often (in a moving average of uses a step) may be re-seeded if d > 1.

    Far less than what a codeword that is rare and good has: it comes to this when 800 steps in a
    row have no use for it.
    """
    overload: float = 1.5
    """Re-seeding serves latents with a channel this far, in code units, from their codeword."""


RAREST = 2.0**-24
"""Probability that the coder gives to the least likely codeword: its counts start at one."""


def codeword_features(codewords: Tensor) -> Tensor:
    """Give phi of codewords (G, K, d), shape (G, K, FEATURES * d)."""
    size = codewords.abs()
    phi = torch.stack([codewords, -codewords.square(), size, size.clamp_max(1.0)], -1)
    return phi.flatten(2)


def precision(log_scale: Tensor) -> Tensor:
    """Weight of -c^2 in the log-probability of a channel with this log standard deviation, nats.

    Such that p(1) / p(0) of the discretized Gaussian equals that of a Gaussian of mean zero
    integrated over unit cells, which is what the relaxed stage has learned; at large scales both
    approach 1 / (2 sigma^2).
    """
    scale = log_scale.exp().clamp_min(SMALLEST_SCALE)
    wide = 0.5 / (scale.square() + 1 / 12)
    a = (0.5 / math.sqrt(2)) / scale.clamp_max(3.0)
    one = 0.5 * (torch.special.erfcx(a) - torch.exp(-8 * a.square()) * torch.special.erfcx(3 * a))
    narrow = torch.log(torch.erf(a)) - torch.log(one) + a.square()
    return torch.where(scale < 3.0, narrow, wide)


def natural_features(natural: Tensor) -> Tensor:
    """F of the prior's output (C, FEATURES, N), same shape; logits are in nats."""
    mean, log_scale, tail, zero = natural.unbind(1)
    weight = precision(log_scale)
    return torch.stack([2 * weight * mean, weight, tail, zero], 1)


def error_features(latent: Tensor, weight: Tensor) -> Tensor:
    """F of `-weight |z - c|^2` up to a constant, (C, FEATURES, N).

    Latent (C, N); weight (C, N), or (C, 1) for the same at all positions.
    """
    w = weight.expand_as(latent)
    nothing = torch.zeros_like(latent)
    return torch.stack([2 * w * latent, w, nothing, nothing], 1)


class Codebook(nn.Module):
    """The G codebooks of K codewords of dimension d of one slice at one level.

    Learned by exponential moving averages (van den Oord et al. 2017, appendix A.1): `count` and
    `total` track N and m, a codeword is m / N.
    """

    codewords: Tensor
    labels: Tensor
    count: Tensor
    total: Tensor

    def __init__(self, groups: int, size: int, dim: int) -> None:
        super().__init__()
        self.groups, self.size, self.dim = groups, size, dim
        self.bias = nn.Parameter(torch.zeros(groups, size))
        self.register_buffer("codewords", torch.zeros(groups, size, dim))
        self.register_buffer("labels", torch.zeros(groups, size, dim))
        self.register_buffer("count", torch.ones(groups, size))
        self.register_buffer("total", torch.zeros(groups, size, dim))

    def _group(self, features: Tensor) -> Tensor:
        """(C, FEATURES, N) to (G, N, d * FEATURES)."""
        n = features.shape[-1]
        grouped = features.reshape(self.groups, self.dim * FEATURES, n)
        return grouped.transpose(1, 2)

    def place(self, points: Tensor) -> None:
        """Put the codewords at points (G, K, d), which become their labels."""
        self.codewords.copy_(points)
        self.labels.copy_(points)

    def logits(self, features: Tensor) -> Tensor:
        """Unnormalized log-probabilities (G, N, K), nats, for F of the slice's channels."""
        phi = codeword_features(self.labels)
        return torch.baddbmm(self.bias[:, None], self._group(features), phi.transpose(1, 2))

    def likely(self, features: Tensor) -> Tensor:
        """Logits (G, N, K) below the largest, none rarer than the coder's rarest."""
        logits = self.logits(features)
        return (logits - logits.amax(2, keepdim=True)).clamp_min(math.log(RAREST))

    def closeness(self, error: Tensor) -> Tensor:
        """Minus the squared error (G, N, K) up to a constant; `error` from `error_features`."""
        phi = codeword_features(self.codewords)
        return torch.bmm(self._group(error), phi.transpose(1, 2))

    def usage(self) -> Tensor:
        """Relative frequency of each codeword (G, K)."""
        return self.count / self.count.sum(1, keepdim=True)

    def perplexity(self) -> Tensor:
        """2 to the entropy of the usage, (G,): how many codewords are in use."""
        p = self.usage()
        return torch.exp(-(p * p.clamp_min(1e-12).log()).sum(1))

    def state(self) -> list[Tensor]:
        """All that `update` and `reseed` change."""
        return [self.codewords, self.labels, self.count, self.total, self.bias.data]

    def vectors(self, codes: Tensor) -> Tensor:
        """Codes (G, N) to vectors (C, N)."""
        index = codes[:, :, None].expand(-1, -1, self.dim)
        found = self.codewords.gather(1, index)
        return found.transpose(1, 2).reshape(self.groups * self.dim, -1)

    @torch.no_grad()
    def statistics(self, latent: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Uses (G, K) and sums (G, K, d) of the latents (C, N) that chose each codeword."""
        points = latent.reshape(self.groups, self.dim, -1).transpose(1, 2)
        uses = torch.zeros_like(self.count).scatter_add_(1, codes, torch.ones_like(points[..., 0]))
        index = codes[:, :, None].expand(-1, -1, self.dim)
        sums = torch.zeros_like(self.total).scatter_add_(1, index, points)
        return uses, sums

    @torch.no_grad()
    def update(self, uses: Tensor, sums: Tensor, decay: float, dead: float) -> None:
        """One step of the moving averages; codewords in use move to their mean."""
        self.count.lerp_(uses, 1 - decay)
        self.total.lerp_(sums, 1 - decay)
        alive = self.count > dead
        mean = self.total / self.count.clamp_min(1e-6)[..., None]
        self.codewords.copy_(torch.where(alive[..., None], mean, self.codewords))

    @torch.no_grad()
    def reseed(self, latent: Tensor, codes: Tensor, dead: float, overload: float) -> int:
        """Give the least used codeword of each group, if dead, to the worst overloaded latent.

        Its moving averages are reset, too.  Only overload counts, a channel more than `overload`
        from its codeword: with entropy coding a codeword may be rare and good, and new ones in
        between the others would only make the cells finer and the codes dearer.  Grids (d = 1)
        keep their codewords: their outermost ones are meant to be rare.  Returns how many
        codewords were moved.
        """
        if self.dim == 1 or self.size == 1:
            return 0
        error = (latent - self.vectors(codes)).abs()
        error = error.reshape(self.groups, self.dim, -1).amax(1)
        farthest, worst = error.max(1)
        points = latent.reshape(self.groups, self.dim, -1)
        moved = 0
        for g in range(self.groups):
            least = int(self.count[g].argmin())
            if farthest[g] > overload and self.count[g, least] < dead:
                point = points[g, :, worst[g]]
                self.codewords[g, least] = point
                self.labels[g, least] = point
                self.count[g, least] = 2 * dead
                self.total[g, least] = point * 2 * dead
                self.bias[g, least] = self.bias[g].min()
                moved += 1
        return moved


class Quantizer(nn.Module):
    """All codebooks of one map: `codebooks[level][slice]`.

    Works on one map at a time: latents (C, N) with N positions, codes a list with one (G, N)
    tensor for each slice.
    """

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self.config = config
        self.codebooks = nn.ModuleList(
            nn.ModuleList(
                Codebook(size // dim, count, dim)
                for size, (dim, count) in zip(config.slices, level, strict=True)
            )
            for level in config.groups
        )

    def at(self, level: int) -> list[Codebook]:
        """The codebooks of one level, in slice order."""
        return cast(list[Codebook], list(cast(nn.ModuleList, self.codebooks[level])))

    def _parts(self, features: Tensor) -> tuple[Tensor, ...]:
        return torch.split(features, list(self.config.slices))

    @torch.no_grad()
    def nearest(self, error: Tensor, level: int) -> list[Tensor]:
        """Codes of least squared error, from `error_features` (C, FEATURES, N)."""
        parts = self._parts(error)
        return [
            book.closeness(part).argmax(2) for book, part in zip(self.at(level), parts, strict=True)
        ]

    @torch.no_grad()
    def assign(self, error: Tensor, level: int, prior: Tensor) -> list[Tensor]:
        """Codes of least squared error plus nats.

        error (C, FEATURES, N) from `error_features` with weights in nats, prior (C, FEATURES, N)
        from `natural_features`.
        """
        parts = zip(self.at(level), self._parts(error), self._parts(prior), strict=True)
        return [(book.closeness(e) + book.likely(p)).argmax(2) for book, e, p in parts]

    def vectors(self, codes: list[Tensor], level: int) -> Tensor:
        """Codes to vectors (C, N)."""
        books = self.at(level)
        return torch.cat([book.vectors(c) for book, c in zip(books, codes, strict=True)])

    def bits(self, codes: list[Tensor], level: int, prior: Tensor) -> Tensor:
        """Bits of all codes under the prior's features (C, FEATURES, N), a scalar."""
        total = prior.new_zeros(())
        rarest = prior.new_tensor(math.log(RAREST))
        for book, c, part in zip(self.at(level), codes, self._parts(prior), strict=True):
            if book.size == 1:
                continue
            # Not by logsumexp, whose exponentials of far codewords take ten times as long.
            chosen = book.logits(part).log_softmax(2).gather(2, c[:, :, None])[:, :, 0]
            total = total - torch.logaddexp(chosen, rarest).sum()
        return total / math.log(2)
