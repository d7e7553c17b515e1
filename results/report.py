"""What a model's bits are spent on, what its prior gains, and how its codebooks are used.

    python results/report.py FOLDER [--model DIR] [--preset NAME] [--out DIR] [--pictures N]
        [--qualities 5,15,...]

Writes report.tsv, a row for each codebook, and report.md, tables for the model's card.  For
pictures that are one tile of the prior, of up to 1024 x 1024 pixels: the float prior has no tiles.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from vqzip.process import prepare

prepare()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from effort import numbers  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from plot import markdown  # noqa: E402
from torch import Tensor  # noqa: E402

from vqzip import api, codec, container  # noqa: E402
from vqzip.bench.crops import evenly  # noqa: E402
from vqzip.codec import CodecModel, Codes  # noqa: E402
from vqzip.entropy import Codes as CodeArray  # noqa: E402
from vqzip.image import Picture, load  # noqa: E402
from vqzip.layers import at_level  # noqa: E402
from vqzip.model import Model  # noqa: E402
from vqzip.prior import INPUT_LEVELS, INPUT_MAX, PixelCNN  # noqa: E402
from vqzip.quality import level_of_quality  # noqa: E402
from vqzip.quantizer import Quantizer, natural_features  # noqa: E402
from vqzip.rate import Rate  # noqa: E402
from vqzip.store import load_model, models_folder  # noqa: E402
from vqzip.train.presets import PRESETS  # noqa: E402
from vqzip.train.restore import restore  # noqa: E402

MAPS = ("top", "bottom")


@dataclass(frozen=True)
class Book:
    """A codebook in use: one group of one slice of a map, at the trained level of a quality."""

    quality: int
    map: str
    slice: int
    group: int
    used: NDArray[np.int64]
    """How often each codeword (K,) is."""

    @property
    def entropy(self) -> float:
        """Bits of a code if its frequencies are those counted."""
        share = self.used[self.used > 0] / self.used.sum()
        return float(-(share * np.log2(share)).sum())

    @property
    def dead(self) -> int:
        """Codewords that are never used."""
        return int((self.used == 0).sum())


@dataclass(frozen=True)
class Spent:
    """Bits at a quality, of all pictures together."""

    quality: int
    bpp: float  # mean over pictures
    files: float
    top: float
    bottom: float
    prior: float  # both maps' if frequencies do not learn from them
    real: float  # the same under the prior in floating point
    books: list[Book]

    def line(self) -> list[str]:
        """Of the first table."""
        coded = self.top + self.bottom
        uses = [(int(book.used.sum()), book) for book in self.books]
        static = sum(n * book.entropy for n, book in uses)
        fixed = sum(n * math.log2(len(book.used)) for n, book in uses)
        shares = (self.top / self.files, self.bottom / self.files, 1 - coded / self.files)
        more = (coded / static - 1, coded / fixed - 1)
        alone = (coded / self.prior - 1, self.prior / self.real - 1)
        return [
            str(self.quality),
            f"{self.bpp:.3f}",
            *(f"{100 * share:.1f} %" for share in shares),
            *(f"{100 * part:+.1f} %" for part in more),
            *(f"{100 * part:+.2f} %" for part in alone),
        ]


def measure(pictures: list[Picture], model: CodecModel, trained: Model, quality: int) -> Spent:
    """All pictures at a quality."""
    level = level_of_quality(quality)
    every, sizes, bpp, bits, prior, real = [], [], [], [], 0.0, 0.0
    for picture in pictures:
        height, width, _ = picture.pixels.shape
        data = api.compress_picture(picture, Rate(quality), model)
        codes = codec.unpack(model, container.unpack(data).code_stream, width, height, level)
        every.append(codes)
        sizes.append(8 * len(data))
        bpp.append(8 * len(data) / (width * height))
        bits.append(codec.cross_entropy(model, codes, level))
        prior += sum(codec.cross_entropy(codec.fixed(model), codes, level))
        real += float_bits(trained, codes, model.top.trained_level(level), level / model.top.steps)
    top, bottom = (sum(map_bits) for map_bits in zip(*bits, strict=True))
    books = list(use(model, every, quality))
    return Spent(quality, fmean(bpp), sum(sizes), top, bottom, prior, real, books)


def use(model: CodecModel, every: list[Codes], quality: int) -> Iterator[Book]:
    """The codebooks of a quality, as all pictures together use them."""
    for name, code_map in zip(MAPS, (model.top, model.bottom), strict=True):
        slices = zip(*(getattr(codes, name) for codes in every), strict=True)
        books = code_map.books(level_of_quality(quality))
        for i, (book, parts) in enumerate(zip(books, slices, strict=True)):
            for g, column in enumerate(np.concatenate(parts).T):
                yield Book(quality, name, i, g, np.bincount(column, minlength=book.size))


def unrounded(folder: Path, preset: str) -> Model:
    """The model in a folder with its prior in floating point, from the weights of the file.

    Inputs are clamped as in integers: the network was trained so, and knows no others.
    """

    def clamp(x: Tensor) -> Tensor:
        return x.clamp(-INPUT_MAX / INPUT_LEVELS, INPUT_MAX / INPUT_LEVELS)

    model = restore(folder, PRESETS[preset]().model).eval()
    model.prior.arithmetic.input = clamp  # type: ignore[method-assign]
    return model


def _float_map(
    quantizer: Quantizer,
    prior: PixelCNN,
    codes: list[CodeArray],
    shape: tuple[int, int],
    trained_level: int,
    at: tuple[Tensor, Tensor],
    condition: Tensor | None,
) -> tuple[Tensor, float]:
    """Code vectors (1, C, H, W) and the bits of a map; `at` is its gain and the level."""
    rows = [torch.from_numpy(part.T.astype(np.int64)) for part in codes]
    vectors = quantizer.vectors(rows, trained_level).reshape(1, -1, *shape)
    natural = prior(vectors, *at, condition)[0].flatten(2)
    return vectors, quantizer.bits(rows, trained_level, natural_features(natural)).item()


@torch.no_grad()
def float_bits(trained: Model, codes: Codes, trained_level: int, level: float) -> float:
    """Cross-entropy of codes under the prior in floating point."""
    t, prior, at = trained.transform, trained.prior, torch.tensor([level])
    gain, bottom_gain = (at_level(log_gain, at).exp() for log_gain in (t.top_gain, t.bottom_gain))
    quantizer, common = trained.top_quantizer, (codes.shape, trained_level, (gain, at))
    vectors, top = _float_map(quantizer, prior.top, codes.top, *common, None)
    quantizer = trained.bottom_quantizer
    common = codes.bottom_shape, trained_level, (bottom_gain, at)
    condition = prior.lift(vectors, gain)
    _, bottom = _float_map(quantizer, prior.bottom, codes.bottom, *common, condition)
    return top + bottom


def codebook_lines(books: list[Book]) -> Iterator[list[str]]:
    """The second table: a line for each map at each quality, K = 1 left out."""
    yield ["quality", "map", "never used", "mean perplexity of codewords, slice by slice"]
    several = [book for book in books if len(book.used) > 1]
    for quality, name in dict.fromkeys((book.quality, book.map) for book in several):
        here = [book for book in several if (book.quality, book.map) == (quality, name)]
        cells = []
        for i in dict.fromkeys(book.slice for book in here):
            part = [book for book in here if book.slice == i]
            cells.append(f"{fmean(2**b.entropy for b in part):.1f} of {len(part[0].used)}")
        codewords = sum(len(book.used) for book in here)
        dead = f"{sum(book.dead for book in here)} of {codewords}"
        yield [str(quality), name, dead, ", ".join(cells)]


TEXT = """\
Model `{fingerprint}`, {count} pictures, default effort. How many of the bits of files are the top
map's and the bottom map's; then how many more bits codes take with the prior than with static
frequencies, those that each codebook's codewords have in these pictures altogether; than with
log2 K bits each; and than with the prior alone, if frequencies did not learn from the codes; then
how many more that would be than with the same prior in floating point: the weights those of the
file, inputs, activations and sums not rounded.

{rates}

Perplexity is 2^entropy of how often a codebook's codewords are used in these pictures altogether,
the mean over a slice's codebooks of K codewords.

{books}
"""


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, default=models_folder() / "photo")
    parser.add_argument("--preset", default="photo", help="of vqzip train: the model's shape")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--pictures", type=int, help="so many, spread evenly; without it, all")
    parser.add_argument("--qualities", type=numbers, default=[5, 15, 25, 35, 50, 65, 80, 90, 100])
    arguments = parser.parse_args()
    names = [str(path) for path in sorted(arguments.folder.glob("*.png"))]
    pictures = [load(name) for name in evenly(names, arguments.pictures or len(names))]
    model = load_model(arguments.model)
    trained = unrounded(arguments.model, arguments.preset)
    spent = []
    for quality in arguments.qualities:
        spent.append(measure(pictures, model, trained, quality))
        print(*spent[-1].line(), file=sys.stderr)
    books = [book for part in spent for book in part.books]
    with (arguments.out / "report.tsv").open("w", encoding="utf-8") as file:
        file.write("quality\tmap\tslice\tgroup\tcodewords\tperplexity\tdead\n")
        for book in books:
            numbers_of = f"{len(book.used)}\t{2**book.entropy:.2f}\t{book.dead}"
            file.write(f"{book.quality}\t{book.map}\t{book.slice}\t{book.group}\t{numbers_of}\n")
    head = ["quality", "bpp", "top", "bottom", "rest", "than static", "than fixed", "than prior"]
    head.append("prior than float")
    text = TEXT.format(
        fingerprint=model.fingerprint.hex(),
        count=len(pictures),
        rates=markdown([head, *(part.line() for part in spent)]),
        books=markdown(list(codebook_lines(books))),
    )
    (arguments.out / "report.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
