"""Chunk A spelled out, pixel by pixel, as FORMAT.md describes it."""

from collections.abc import Iterator

from reference_stream import RangeDecoder

NEAR = {"W": (0, -1), "N": (-1, 0), "NW": (-1, -1), "NE": (-1, 1)}
FAR = {"WW": (0, -2), "NN": (-2, 0), "NWW": (-1, -2), "NNW": (-2, -1), "NNE": (-2, 1)}
FAR["NNEE"] = (-2, 2)


class Learner:
    def __init__(self, symbols: int, groups: int, contexts: int) -> None:
        self.contexts = contexts
        self.group = [[1] * symbols for _ in range(groups)]
        self.seen = [[0] * symbols for _ in range(groups * contexts)]

    def counts(self, context: int) -> list[int]:
        group, seen = self.group[context // self.contexts], self.seen[context]
        total = sum(group)
        w = [256 * s + 512 * g // total + 1 for s, g in zip(seen, group, strict=True)]
        free = 2**24 - len(w)
        counts = [x * free // sum(w) for x in w]
        counts[w.index(max(w))] += free - sum(counts)
        return counts

    def get(self, decoder: RangeDecoder, contexts: list[int]) -> list[int]:
        """Symbols that are coded at once."""
        symbols = [decoder.get(self.counts(context)) for context in contexts]
        for context, symbol in zip(contexts, symbols, strict=True):
            self.group[context // self.contexts][symbol] += 1
            self.seen[context][symbol] += 1
        return symbols


def values(decoder: RangeDecoder) -> list[int]:
    learner, flag, found = Learner(2, 1, 2), 0, [0]
    for value in range(1, 255):
        [flag] = learner.get(decoder, [flag])
        if flag:
            found.append(value)
    return [*found, 255]


def digit(difference: int) -> int:
    return sum(end < difference for end in (-21, -7, -3, -1, 0, 2, 6, 20))


def sign(difference: int) -> int:
    return 1 + (difference > 0) - (difference < 0)


def kind(rank: int, top: int) -> int:
    return 0 if rank == 0 else 1 if rank == top else 2


def kind_context(near: dict[str, int], top: int) -> int:
    context = 0
    for name in NEAR:
        context = 3 * context + kind(near[name], top)
    for name in FAR:
        context = 2 * context + (near[name] > top // 2)
    return context


def bucket_context(near: dict[str, int]) -> int:
    w, n, nw, ne = (near[name] for name in NEAR)
    context = 0
    for slope in (ne - n, n - nw, nw - w):
        context = 9 * context + digit(slope)
    for slope in (near["WW"] - w, near["NN"] - n):
        context = 3 * context + sign(slope)
    return context


def guess(near: dict[str, int]) -> int:
    w, n, nw, _ = (near[name] for name in NEAR)
    return min(max(w + n - nw, min(w, n)), max(w, n))


def difference(decoder: RangeDecoder, bucket: int) -> int:
    b = bucket if bucket <= 8 else bucket - 8
    size = b if b < 2 else 2 ** (b - 2) + 1
    if b > 2:
        n = 2 ** (b - 2)
        size += decoder.get([(2**24 - 64) // n] * n + [0] * (64 - n))
    return size if bucket <= 8 else -size


def steps(rows: int, columns: int, tiles: int) -> Iterator[list[tuple[int, int, int]]]:
    """Tile, y and x of the pixels of each step."""
    for t in range(columns + 2 * rows):
        inside = [(y, t - 2 * y) for y in range(rows) if 0 <= t - 2 * y < columns]
        yield [(tile, y, x) for tile in range(tiles) for y, x in inside]


def decode(payload: bytes, width: int, height: int, side: int) -> list[list[int]]:
    """Rows of alpha; `side` is the largest of a tile."""
    decoder = RangeDecoder(payload)
    value_of = values(decoder)
    top = len(value_of) - 1
    down, across = -(-height // side), -(-width // side)
    rows, columns = -(-height // down), -(-width // across)
    ranks: dict[tuple[int, int, int], int] = {}
    kinds, buckets = Learner(3, 81, 64), Learner(17, 1, 9**3 * 3**2)
    for pixels in steps(rows, columns, down * across):
        around = [
            {name: ranks.get((i, y + dy, x + dx), 0) for name, (dy, dx) in (NEAR | FAR).items()}
            for i, y, x in pixels
        ]
        found = kinds.get(decoder, [kind_context(near, top) for near in around])
        between = [i for i, k in enumerate(found) if k == 2]
        wide = buckets.get(decoder, [bucket_context(around[i]) for i in between])
        ranks |= {pixel: k * top for pixel, k in zip(pixels, found, strict=True)}
        for i, bucket in zip(between, wide, strict=True):
            ranks[pixels[i]] = (guess(around[i]) + difference(decoder, bucket)) % (top + 1)

    def rank(y: int, x: int) -> int:
        return ranks[y // rows * across + x // columns, y % rows, x % columns]

    return [[value_of[rank(y, x)] for x in range(width)] for y in range(height)]
