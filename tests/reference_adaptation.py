"""What a slice learns from its codes, spelled out in integers: `adaptive` of FORMAT.md.

It shares no code with `vqzip/adaptation.py`.
"""

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from functools import cache

import numpy as np
from reference_prior import Ints, round_shift

EVERY = 4


@cache
def table() -> list[int]:
    """2^12 log2(1 + i / 1024), rounded, for i from 0 to 1023."""
    with localcontext() as context:
        context.prec = 30
        exact = ((1 + Decimal(i) / 1024).ln() / Decimal(2).ln() * 4096 for i in range(1024))
        return [int(x.to_integral_value(ROUND_HALF_EVEN)) for x in exact]


def lg(x: int) -> int:
    """2^12 log2 of an integer from 1 on, by its first eleven bits."""
    n = x.bit_length() - 1
    return 4096 * n + table()[(x << 10 >> n) - 1024]


def natural(features: Ints) -> tuple[int, int]:
    """Mean and precision of a channel with features (4,)."""
    product, precision = int(features[0]), int(features[1])
    return (product // (2 * precision), precision) if precision else (0, 0)


class Group:
    """One group of codewords with labels (K, d), which d channels have."""

    def __init__(self, labels: Ints) -> None:
        size, channels = labels.shape
        self.labels = labels.tolist()
        self.seen, self.expected = [0] * size, [0] * size
        self.gains = [[4096, 4096] for _ in range(channels)]
        self.slopes = [[0, 0] for _ in range(channels)]
        self.squares = [[0, 0] for _ in range(channels)]
        self.more = np.zeros(size, np.int64)

    def with_gains(self, features: Ints) -> Ints:
        """Features (d, 4) as logits have them."""
        found: Ints = features.copy()
        for c, (gain, precision_gain) in enumerate(self.gains):
            mean, precision = natural(features[c])
            mean = min(max(round_shift(mean * gain, 12), -(2**15)), 2**15)
            precision = min(precision * precision_gain >> 12, 2**21)
            found[c, :2] = 2 * precision * mean, precision
        return found

    def learn(self, features: Ints, weights: Sequence[int], code: int) -> None:
        """Count a code that had such weights, given features (d, 4) without gains."""
        ratio = (2**24 - len(weights)) / sum(weights)
        told = [int(weight * ratio) for weight in weights]
        self.expected = [a + b for a, b in zip(self.expected, told, strict=True)]
        self.seen[code] += 1
        for c, feature in enumerate(features):
            mean, precision = natural(feature)
            mine = [label[c] for label in self.labels]
            own, whole = mine[code], sum(told)
            off = whole * own - sum(t * x for t, x in zip(told, mine, strict=True))
            powers = sum(t * (x * x >> 4) for t, x in zip(told, mine, strict=True))
            square = powers - whole * (own * own >> 4)
            spread = square + 32 * mean * round_shift(off, 8)
            slopes = (
                round_shift(round_shift(2 * mean * precision, 8) * round_shift(off, 20), 16),
                round_shift(precision * round_shift(spread, 16), 24),
            )
            for i in range(2):
                slope = min(max(slopes[i], -(2**14)), 2**14)
                self.slopes[c][i] += slope
                self.squares[c][i] += slope * slope

    def update(self) -> None:
        """Change what follows."""
        counts = zip(self.seen, self.expected, strict=True)
        more = [lg((seen + 5) << 24) - lg(told + (5 << 24)) for seen, told in counts]
        self.more = np.array(more, np.int64)
        for gains, slopes, squares in zip(self.gains, self.slopes, self.squares, strict=True):
            for i in range(2):
                quotient = slopes[i] * 3 * 2**19 / (squares[i] + 2**23)  # of IEEE doubles
                step = int(np.floor(quotient + 0.5))
                gains[i] = min(max(gains[i] + min(max(step, -410), 410), 2**11), 2**13)
                slopes[i] = 0
