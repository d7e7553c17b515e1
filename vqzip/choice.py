"""Which codes the encoder takes: those of least distortion plus bits.

Entropy-constrained vector quantization (Chou, Lookabaugh & Gray 1989) with the prior's own
frequencies.  Decoders know nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from vqzip.codemap import CodeMap, Known, filled
from vqzip.coding import Coding
from vqzip.entropy import CodebookTable, Codes, error_terms
from vqzip.guess import centre, guess
from vqzip.integer import CODEWORD_ONE, Bytes, Floats
from vqzip.layout import Ints
from vqzip.threads import share


@dataclass(frozen=True)
class Search:
    """How codes are chosen."""

    sweeps: int = 1
    """How often, each time in the context of the choice before; 0 for the nearest codes."""
    fidelity: float = 1.0
    """Above 1, more bits than the level would take are spent on codes that are closer."""


def choose(
    code_map: CodeMap,
    latent: Floats,
    shape: tuple[int, int],
    level: int,
    condition: Bytes | None,
    emphasis: Floats,
    search: Search,
) -> list[Codes]:
    """Codes of latents (positions, channels) by distortion plus bits.

    By the frequencies that the prior gives in the context of the codes before, the first time in
    that of a guess.  `emphasis` (positions, 1) is how much distortion counts.
    """
    books = code_map.books(level)
    weight = code_map.distortion_weight(level) * np.float32(search.fidelity)
    parts = [slice(*ends) for ends in pairwise(code_map.prior.starts)]
    if search.sweeps == 0:
        # Emphasis, the same for all channels, does not change which one is nearest.
        weights = np.broadcast_to(weight, latent.shape)
        pairs = zip(books, parts, strict=True)
        errors = ((b, error_terms(latent[:, part], weights[:, part])) for b, part in pairs)
        return [book.best(error, None) for book, error in errors]
    coding = code_map.coding(shape, level, condition)

    seen = latent[:, : code_map.coded(level)]  # by the prior; other channels are zero
    middle = centre(torch.from_numpy(seen).T).T.numpy()

    def guessed(places: Ints) -> NDArray[np.int8]:
        vectors = guess(seen[places], middle)
        return code_map.prior.inputs(np.rint(vectors * CODEWORD_ONE), level)

    codes: list[Codes] = []
    for sweep in range(search.sweeps):
        known: Known = guessed
        if sweep > 0:
            coding = code_map.coding(shape, level, condition)
            known = code_map.seen(codes, level)
        codes = [np.zeros((len(latent), book.groups), np.uint16) for book in books]
        for cells, places, _ in filled(coding, known):
            _choose_given(coding, cells, places, latent, weight * emphasis[places], books, codes)
    return codes


def _choose_given(
    coding: Coding,
    cells: Ints,
    places: Ints,
    latent: Floats,
    weight: Floats,
    books: list[CodebookTable],
    codes: list[Codes],
) -> None:
    """Set the codes of some positions by error and bits, in the context that `coding` holds.

    `weight` (positions that are chosen for, channels) is the distortion of a squared code unit.
    """
    hidden, starts = coding.hidden(cells, coding.start(places)), coding.prior.starts

    def choose_rows(rows: slice) -> None:
        points, seen = latent[places[rows]], coding.inputs[cells[rows]]
        for i, book in enumerate(books):
            if book.size > 1:
                part = slice(*starts[i : i + 2])
                error = error_terms(points[:, part], weight[rows, part])
                chosen = coding.slices[i].choose(book, hidden[rows], seen, error)
                codes[i][places[rows]] = chosen

    share(choose_rows, len(cells))
