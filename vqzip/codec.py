"""The codec: pixels to a code stream and back.  The only place that joins the parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vqzip import codemap
from vqzip.codemap import CodeMap
from vqzip.entropy import Decoder, Encoder
from vqzip.integer import CODEWORD_ONE, Floats, Ints, Lift
from vqzip.vqvae import TOP_STRIDE, Transform

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class CodecModel:
    """A model that is ready to code."""

    fingerprint: bytes
    transform: Transform
    top: CodeMap
    bottom: CodeMap
    lift: Lift


@dataclass(frozen=True)
class Codes:
    """Both code maps of a picture; shapes in positions."""

    shape: tuple[int, int]  # of the top map; the bottom map has twice as many rows and columns
    top: list[Ints]
    bottom: list[Ints]


def _map_shape(width: int, height: int) -> tuple[int, int]:
    return -(-height // TOP_STRIDE), -(-width // TOP_STRIDE)


def _level(model: CodecModel, level: int) -> Tensor:
    return torch.tensor([level / model.top.steps])


def _rows(latent: Tensor) -> Floats:
    """(1, C, H, W) to (H * W, C)."""
    rows: Floats = latent[0].flatten(1).T.contiguous().numpy()
    return rows


def _vectors(code_map: CodeMap, codes: list[Ints], shape: tuple[int, int], level: int) -> Tensor:
    """Codes to code vectors (1, C, H, W), float."""
    rows = code_map.vectors(codes, level) / CODEWORD_ONE
    return torch.from_numpy(rows.astype(np.float32).T.reshape(1, -1, *shape))


def _condition(model: CodecModel, codes: list[Ints], shape: tuple[int, int], level: int) -> Floats:
    """Top codes to the condition of the bottom prior (positions of the bottom map, channels)."""
    inputs = model.top.prior.inputs(model.top.vectors(codes, level), level)
    lifted = model.lift(inputs.reshape(*shape, -1), slice(None))
    return lifted.reshape(-1, lifted.shape[-1])


@torch.inference_mode()
def analyse(model: CodecModel, pixels: Pixels, level: int) -> Codes:
    """Pixels (H, W, 3) to codes."""
    height, width, _ = pixels.shape
    shape = _map_shape(width, height)
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    fill = (0, shape[1] * TOP_STRIDE - width, 0, shape[0] * TOP_STRIDE - height)
    image = F.pad(image, fill, mode="replicate")
    t, at = model.transform, _level(model, level)
    features = t.features(image, at)
    top = codemap.choose(model.top, _rows(t.top_latent(features, at)), shape, level, None)
    h = t.decode_top(_vectors(model.top, top, shape, level), at)
    latent = _rows(t.bottom_latent(features, h, at))
    condition = _condition(model, top, shape, level)
    double = (2 * shape[0], 2 * shape[1])
    bottom = codemap.choose(model.bottom, latent, double, level, condition)
    return Codes(shape, top, bottom)


@torch.inference_mode()
def synthesise(model: CodecModel, codes: Codes, width: int, height: int, level: int) -> Pixels:
    """Codes to pixels (height, width, 3)."""
    t, at = model.transform, _level(model, level)
    double = (2 * codes.shape[0], 2 * codes.shape[1])
    h = t.decode_top(_vectors(model.top, codes.top, codes.shape, level), at)
    image = t.decode(_vectors(model.bottom, codes.bottom, double, level), h, at)
    image = image[0, :, :height, :width].clamp(0, 1).mul(255).round().to(torch.uint8)
    pixels: Pixels = image.permute(1, 2, 0).contiguous().numpy()
    return pixels


def pack(model: CodecModel, codes: Codes, level: int) -> tuple[bytes, float]:
    """Codes to a code stream, and their cross-entropy under the prior in bits."""
    encoder = Encoder()
    condition = _condition(model, codes.top, codes.shape, level)
    double = (2 * codes.shape[0], 2 * codes.shape[1])
    bits = codemap.encode(model.top, codes.top, codes.shape, level, None, encoder)
    bits += codemap.encode(model.bottom, codes.bottom, double, level, condition, encoder)
    return encoder.finish(), bits


def unpack(model: CodecModel, stream: bytes, width: int, height: int, level: int) -> Codes:
    """A code stream to codes.

    Raises VqzError when the stream cannot be one.
    """
    shape = _map_shape(width, height)
    decoder = Decoder(stream)
    top = codemap.decode(model.top, shape, level, None, decoder)
    condition = _condition(model, top, shape, level)
    double = (2 * shape[0], 2 * shape[1])
    bottom = codemap.decode(model.bottom, double, level, condition, decoder)
    return Codes(shape, top, bottom)


def encode(model: CodecModel, pixels: Pixels, level: int) -> bytes:
    """Pixels (H, W, 3) to a code stream at a position of the quality scale."""
    return pack(model, analyse(model, pixels, level), level)[0]


def decode(model: CodecModel, stream: bytes, width: int, height: int, level: int) -> Pixels:
    """A code stream to pixels (height, width, 3)."""
    return synthesise(model, unpack(model, stream, width, height, level), width, height, level)
