"""Codes of training crops as files will have them.

`quantize.py` chooses all codes of a crop at once, in the context of a guess.  The encoder chooses
one after the other, each in the context of those before: there are fewer of the dear ones, and a
prior that has learned from such codes tells them better.  Here a snapshot of the model, in
integers, encodes the crops: what is trained is only what comes after the codes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vqzip import encoding
from vqzip.codec import CodecModel
from vqzip.entropy import Codes
from vqzip.model import Model
from vqzip.quality import LEVELS
from vqzip.store import assemble
from vqzip.train.export import export

SampleCodes = list[Tensor]
"""Of a sample, for each slice (G, positions)."""


class FileEncoder:
    """Encodes crops with a snapshot of a model, which is renewed now and then."""

    def __init__(self, model: Model, every: int | None = None) -> None:
        """A new snapshot of `model` is taken after so many batches; None for never."""
        self._model, self._every, self._batches = model, every, 0
        self._snapshot: CodecModel | None = None

    def levels(self, level: Tensor) -> Tensor:
        """Levels (B,) as files can have them, off the middle between two trained ones."""
        steps = self._taken().bottom.steps
        return (level * steps).round() / steps + 1e-4

    def levels_of_qualities(self, level: Tensor) -> Tensor:
        """Levels (B,) from anywhere in their range, as many of each that qualities stand for."""
        steps, used = self._taken().bottom.steps, torch.tensor(LEVELS)
        at = level * steps / used[-1] * (len(used) - 1)
        return self.levels(used[at.round().long()] / steps)

    def __call__(self, image: Tensor, level: Tensor) -> tuple[list[SampleCodes], list[SampleCodes]]:
        """Codes of images (B, 3, H, W) at such levels (B,), of the top and of the bottom map."""
        if self._every is not None and self._batches % self._every == 0:
            self._snapshot = None
        self._batches += 1
        model = self._taken()
        pixels = (image * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        chosen = [
            encoding.analyse(model, crop, round(float(at) * model.bottom.steps))
            for crop, at in zip(pixels, level, strict=True)
        ]
        return [_tensors(c.top) for c in chosen], [_tensors(c.bottom) for c in chosen]

    def _taken(self) -> CodecModel:
        if self._snapshot is None:
            self._snapshot = assemble(*export(self._model))
        return self._snapshot


def _tensors(codes: list[Codes]) -> SampleCodes:
    return [torch.from_numpy(c.astype("int64").T.copy()) for c in codes]
