"""The compiled inner loops of the prior, if there are any: `native.c` through ctypes.

They give what NumPy gives, to the bit, in less time; only what encoding looks through is rough.
`hatch_build.py` compiles them where there is a C compiler; where there is none, and with
VQZIP_NATIVE=0 in the environment, NumPy does all.  Calls leave the interpreter free, so that
threads work at the same time.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from ctypes import c_double, c_int64, c_void_p
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from vqzip.structures import (
    Adaptation,
    Array,
    Book,
    Choice,
    Linear,
    Network,
    Slice,
    address,
)
from vqzip.threads import count, share

LIBRARY = "_native.so"
"""The compiled file's name, beside this one."""

PANEL = 128
"""Bytes of a row of a panel."""

QUAD = 4
"""Bytes that are multiplied at once."""

SIGN = 0x80
"""What makes signed bytes unsigned."""

_ARGUMENTS = {"p": c_void_p, "n": c_int64, "d": c_double}
_FUNCTIONS = {
    "vqzip_layers": "pnnpnpppn",
    "vqzip_slice": "pppnpnnpnpppppn",
    "vqzip_walk": "ppnnpppnpndnnpnppnn",
    "vqzip_learn": "pppppn",
    "vqzip_update": "pp",
    "vqzip_look_up": "pnnnpnpnn",
    "vqzip_convolve": "ppnnnnppn",
    "vqzip_filter": "ppnnpn",
    "vqzip_parallel": "",
    "vqzip_bytes": "",
}


@lru_cache
def library() -> ctypes.CDLL | None:
    """The compiled functions, or None."""
    path = Path(__file__).parent / LIBRARY
    if os.environ.get("VQZIP_NATIVE") == "0" or not path.exists():
        return None
    try:
        found = ctypes.CDLL(str(path))
        for name, arguments in _FUNCTIONS.items():
            getattr(found, name).argtypes = [_ARGUMENTS[kind] for kind in arguments]
    except (AttributeError, OSError):  # of another system or another version
        return None
    return found


def products_of_bytes() -> bool:
    """Whether there are products of bytes, and they are faster than those of floats."""
    found = library()
    return found is not None and bool(found.vqzip_bytes())


def threads() -> int:
    """How many threads rows are shared out among at most."""
    return count()


def spread(work: Callable[[slice], None], rows: int) -> None:
    """Call `work` with slices that together are all `rows`.

    They are one where the compiled loops share it out among threads.
    """
    found = library()
    if found is not None and found.vqzip_parallel():
        work(slice(0, rows))
    else:
        share(work, rows)


def call(function: str, *arguments: Any) -> None:
    """Call a compiled function that may lack memory."""
    if getattr(library(), function)(*arguments):
        raise MemoryError


Table = tuple[int, int]
"""Where a table is, and its last entry."""


def table(numbers: Array) -> Table:
    """A table that is there for good."""
    return address(numbers), len(numbers) - 1


def padded(columns: int, itemsize: int = 8) -> int:
    """Columns of whole panels, of doubles or of numbers of so many bytes."""
    in_panel = PANEL // itemsize
    return -(-columns // in_panel) * in_panel


def panels(matrix: Array) -> Array:
    """A matrix (..., inputs, outputs) in panels of some outputs (..., panels, inputs, columns)."""
    outputs, columns = matrix.shape[-1], PANEL // matrix.itemsize
    whole = np.zeros((*matrix.shape[:-1], padded(outputs, matrix.itemsize)), matrix.dtype)
    whole[..., :outputs] = matrix
    by_panel = whole.reshape(*matrix.shape[:-1], whole.shape[-1] // columns, columns)
    return np.ascontiguousarray(np.moveaxis(by_panel, -2, -3))


buffer: Any = (ctypes.c_char * 0).from_buffer
"""A writable array's numbers as an argument; sooner made than their address."""


def linear(matrix: Array, scale: Array, offset: Array) -> Linear:
    """A matrix (inputs, outputs) in float32, and what its sums are scaled by and offset."""
    return Linear(panels(matrix), None, None, scale, offset, *matrix.shape)


def linear_of_bytes(matrix: Array, scale: Array, offset: Array, signed: bool) -> Linear:
    """The same of whole numbers up to 127, for inputs of bytes: faster, where that is so.

    Inputs that are `signed` are -128 to 127, others 0 to 255.
    """
    if not products_of_bytes():
        return linear(matrix, scale, offset)
    quads = -(-len(matrix) // QUAD)
    whole = np.zeros((quads * QUAD, matrix.shape[1]), np.int8)
    whole[: len(matrix)] = matrix
    # A weight in a panel of 32-bit numbers has the bytes of four inputs.
    by_four = np.ascontiguousarray(whole.reshape(quads, QUAD, -1).transpose(0, 2, 1))
    weights = panels(by_four.view(np.int32)[..., 0])
    first = np.zeros(len(weights) * weights.shape[2], np.int32)
    first[: matrix.shape[1]] = -SIGN * matrix.sum(0) if signed else 0
    return Linear(None, weights, first, scale, offset, *matrix.shape)


def book(phi: Array, squares: Array, shape: tuple[int, int, int]) -> Book:
    """Features (G, 4 * d + 1, K) and (G, 2 * d, K) of codebooks of this shape (G, K, d)."""
    groups = len(phi)
    rows = panels(phi[:, :-1]).reshape(groups, -1), panels(phi[:, -1:]).reshape(groups, -1)
    roughly = np.zeros((groups, phi.shape[1] - 1, padded(phi.shape[2], 4)), np.float32)
    roughly[:, :, : phi.shape[2]] = phi[:, :-1]
    return Book(np.concatenate(rows, axis=1), panels(squares), roughly, *shape)


def network(
    layers: tuple[Linear, list[Linear], list[Linear], Linear],
    inputs: Array,
    activations: list[Array],
    taps: tuple[Array, Array],
) -> Network:
    """Context, spatial, pointwise and last layers, and what `coding.Coding` holds for its cells."""
    context, spatial, pointwise, last = layers
    chained = (
        np.array([layer.pointer for layer in part], np.uintp) for part in (spatial, pointwise)
    )
    held = np.array([address(array) for array in activations], np.uintp)
    counts = len(spatial), len(inputs), *(len(part) for part in taps)
    made = Network(context, *chained, last, inputs, held, *taps, *counts)
    made.owned = layers, activations
    return made


def layers(net: Network, which: range, cells: Array, start: Array, f: Array, out: Array) -> None:
    """Some layers for cells (n,): residuals f (n, width) and, by the last, out (n, outputs).

    0 is the context, which begins at `start`, i + 1 is the residual layer i.
    """
    arrays = buffer(start), buffer(f), buffer(out)
    some = which.start, which.stop, buffer(cells), len(cells)
    call("vqzip_layers", net.pointer, *some, *arrays, threads())


def weigh(
    part: Slice,
    codebooks: Book,
    table: Table,
    hidden: Array,
    seen: Array,
    weights: Array,
    adapted: Adaptation | None = None,
    base: Array | None = None,
) -> None:
    """Set weights (n * G, K) by the exponential table, from hidden (n, outputs) and seen inputs.

    Where slices learn, `base` (n, channels, 2) is set to means and precisions without gains.
    """
    first = None if base is None else buffer(base)
    _slice(part, codebooks, table, hidden, seen, buffer(weights), None, None, adapted, first)


def find_sums(
    part: Slice,
    codebooks: Book,
    table: Table,
    hidden: Array,
    seen: Array,
    codes: Array,
    sums: Array,
    adapted: Adaptation | None = None,
) -> None:
    """Set sums (n * G, 3) of weights: of those before codes (n, G), theirs, and of all.

    `adapted` learns from these codes.
    """
    wanted = None, buffer(sums), buffer(codes), adapted, None
    _slice(part, codebooks, table, hidden, seen, *wanted)


def _slice(
    part: Slice,
    codebooks: Book,
    table: Table,
    hidden: Array,
    seen: Array,
    weights: Any,
    sums: Any,
    codes: Any,
    adapted: Adaptation | None,
    base: Any,
) -> None:
    rows = buffer(hidden), hidden.shape[1], buffer(seen), seen.shape[1], len(hidden)
    learned = None if adapted is None else adapted.pointer
    arguments = *rows, *table, weights, sums, codes, learned, base, threads()
    call("vqzip_slice", part.pointer, codebooks.pointer, *arguments)


def walk(
    net: Network,
    choices: list[Choice],
    channels: int,
    cells: Array,
    begun: Array,
    starts: Array,
    table: Table,
    rarest: float,
    block: tuple[int, int],
    memory: tuple[Array, Array, Array] | None = None,
) -> None:
    """Choose codes of a map with so many channels for steps of a run that start at these rows.

    Cells (n,) and begun (n, width) are those of the run; the last of `starts` is the last step's
    end.  What is learned changes what follows after every so many steps, `block[1]`, and
    `block[0]` steps came before.

    What is remembered, if anything is: gates and costs, as `coding.Memory` has them, and the places
    of the run (n,).
    """
    pointers = np.array([choice.pointer for choice in choices], np.uintp)
    run = buffer(cells), buffer(begun), buffer(starts), len(starts) - 1
    slices = buffer(pointers), len(choices), channels
    kept: tuple[Any, ...] = (None, 0, None, None, 0)
    if memory is not None:
        gates, costs, places = memory
        kept = buffer(gates), len(costs), buffer(places), buffer(costs), costs.shape[1]
    call("vqzip_walk", net.pointer, *slices, *run, *table, rarest, *block, *kept, threads())


def learn(adapted: Adaptation, codebooks: Book, base: Array, weights: Array, codes: Array) -> None:
    """Learn from codes (n, G) that had these weights (n * G, K), which are used up.

    Base (n, channels, 2) is what `weigh` sets.
    """
    arrays = buffer(base), buffer(weights), buffer(codes)
    call("vqzip_learn", adapted.pointer, codebooks.pointer, *arrays, len(codes))


def update(adapted: Adaptation, codebooks: Book) -> None:
    """Change what follows by what has been learned."""
    call("vqzip_update", adapted.pointer, codebooks.pointer)


def look_up(table: Array, codes: Array, seen: Array, start: int) -> None:
    """Set columns of seen (n, channels) from `start` on to rows of a table (G, K, d), all int8."""
    rows = buffer(codes), len(seen), buffer(seen), seen.shape[1], start
    call("vqzip_look_up", buffer(table), *table.shape, *rows)
