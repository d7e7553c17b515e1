"""A tiny model, untrained but valid, and pictures and codes for it."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vqzip.codemap import CodeMap
from vqzip.entropy import Codes
from vqzip.model import Model, ModelConfig
from vqzip.prior import PixelCNNConfig, PriorConfig
from vqzip.quantizer import Codebook, QuantizerConfig
from vqzip.train.relaxed import calibrate
from vqzip.vqvae import TransformConfig

torch.set_num_threads(1)  # more would only wait for each other on tensors of this size


def _grid(reach: int) -> tuple[int, int]:
    return 1, 2 * reach + 1


TOP_SLICES, BOTTOM_SLICES = (1, 3, 4), (1, 3, 4, 4)

# From the lowest level to the highest, as training would choose them: grids for what varies much,
# groups of 4 and of 2 for what varies little, one codeword for what is never used.
TOP_GROUPS = (
    (_grid(7), _grid(5), (4, 7)),
    (_grid(10), _grid(8), (4, 12)),
    (_grid(13), _grid(11), (4, 16)),
    (_grid(18), _grid(15), (2, 16)),
    (_grid(25), _grid(20), (2, 32)),
    (_grid(35), _grid(28), _grid(14)),
    (_grid(49), _grid(39), _grid(20)),
    (_grid(68), _grid(55), _grid(35)),
    (_grid(96), _grid(77), _grid(50)),
)
BOTTOM_GROUPS = (
    ((1, 1), _grid(3), (4, 3), (4, 1)),
    (_grid(3), _grid(4), (4, 4), (4, 1)),
    (_grid(4), _grid(5), (4, 6), (1, 1)),
    (_grid(4), _grid(6), (4, 8), (4, 1)),
    (_grid(5), _grid(7), (4, 15), (4, 2)),
    (_grid(7), _grid(10), (2, 12), (4, 3)),
    (_grid(9), _grid(13), (2, 32), (4, 8)),
    (_grid(13), _grid(18), _grid(8), (4, 16)),
    (_grid(17), _grid(25), _grid(12), _grid(6)),
)

CONFIG = ModelConfig(
    TransformConfig(
        top_width=24,
        top_latents=sum(TOP_SLICES),
        bottom_latents=sum(BOTTOM_SLICES),
        encoder_blocks=1,
        top_blocks=1,
        bottom_blocks=1,
        decoder_blocks=1,
        levels=len(TOP_GROUPS),
    ),
    PriorConfig(
        top=PixelCNNConfig(sum(TOP_SLICES), TOP_SLICES, width=16, layers=2, slice_width=8),
        bottom=PixelCNNConfig(
            sum(BOTTOM_SLICES), BOTTOM_SLICES, width=16, layers=2, slice_width=8, condition=8
        ),
        lift_width=8,
    ),
    QuantizerConfig(TOP_SLICES, TOP_GROUPS),
    QuantizerConfig(BOTTOM_SLICES, BOTTOM_GROUPS),
)


def pictures(count: int, side: int, seed: int) -> Tensor:
    """Pictures (count, 3, side, side) in [0, 1], with a spectrum somewhat like that of photos."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(count, 3, side, side)
    for octave in range(1, 7):
        detail = torch.randn(count, 3, 2**octave, 2**octave, generator=generator)
        total += F.interpolate(detail, size=(side, side), mode="bilinear") * 0.65**octave
    return torch.sigmoid(1.5 * total)


def picture(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """One picture (height, width, 3)."""
    image = pictures(1, max(width, height), seed)[0, :, :height, :width]
    pixels: NDArray[np.uint8] = (image * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    return pixels


def random_codes(code_map: CodeMap, positions: int, level: int, seed: int = 0) -> list[Codes]:
    """Codes of a map, all equally likely, whatever the prior thinks of them."""
    rng = np.random.default_rng(seed)
    books = code_map.books(level)
    return [rng.integers(0, b.size, (positions, b.groups)).astype(np.uint16) for b in books]


@torch.no_grad()
def _fill(book: Codebook) -> None:
    """Codewords where latents are: all along a line, or the origin and points around it."""
    points = torch.zeros_like(book.codewords)
    if book.dim == 1:
        reach = book.size // 2
        points.copy_(torch.arange(-reach, reach + 1.0)[:, None])
    else:
        points[:, 1:].normal_(0, 1.5)
    book.place(points)
    book.codewords.add_(torch.randn_like(points), alpha=0.1)
    book.bias.normal_(0, 0.5)


@torch.no_grad()
def build() -> Model:
    """The model as training would hold it, its prior far from uniform and dependent on context."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Model(CONFIG).eval()
        calibrate(model, pictures(4, 64, seed=1))
        for cnn in (model.prior.top, model.prior.bottom):
            cnn.level_embedding.normal_(0, 0.3)
            for head in cnn.heads:
                assert isinstance(head, nn.Conv2d)
                assert head.bias is not None
                head.weight.mul_(10)
                head.bias.normal_(0, 0.2)
        for quantizer in (model.top_quantizer, model.bottom_quantizer):
            for level in range(CONFIG.transform.levels):
                for book in quantizer.at(level):
                    _fill(book)
        for weight in (model.top_weight, model.bottom_weight):
            weight.uniform_(1, 3)
    return model
