"""The compiled loops give what NumPy gives, to the bit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_model import picture

from vqzip import codec, codemap, encoding, native
from vqzip.codec import CodecModel
from vqzip.codemap import CodeMap
from vqzip.coder import SUMS, sums_of
from vqzip.coding import Coding
from vqzip.entropy import CodebookTable, error_terms
from vqzip.integer import Doubles
from vqzip.slices import Choice

pytest_plugins = ["tiny_fixtures"]

compiled = pytest.mark.skipif(native.library() is None, reason="there are no compiled loops")


def test_there_are_compiled_loops_where_there_is_a_compiler() -> None:
    """An editable installation has made them."""
    if shutil.which("cc") is None:
        pytest.skip("there is no compiler")
    assert native.library() is not None


@pytest.mark.parametrize("content", [None, b"", b"no library"])
def test_without_a_library_that_loads_there_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "broken.so"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setattr(native, "LIBRARY", str(file))
    assert native.library.__wrapped__() is None


@pytest.mark.parametrize(("wanted", "found"), [("0", False), ("1", True), (None, True)])
@compiled
def test_the_environment_turns_it_off(
    monkeypatch: pytest.MonkeyPatch, wanted: str | None, found: bool
) -> None:
    monkeypatch.delenv("VQZIP_NATIVE", raising=False)
    if wanted is not None:
        monkeypatch.setenv("VQZIP_NATIVE", wanted)
    assert (native.library.__wrapped__() is not None) == found


@given(st.integers(1, 4), st.integers(0, 5), st.integers(1, 70), st.sampled_from("fd"))
def test_panels_are_the_columns_of_a_matrix(
    matrices: int, inputs: int, outputs: int, kind: str
) -> None:
    matrix = np.arange(matrices * inputs * outputs, dtype=kind).reshape(matrices, inputs, outputs)
    found = native.panels(matrix)
    columns = 128 // matrix.itemsize
    assert found.shape == (matrices, -(-outputs // columns), inputs, columns)
    width = found.shape[1] * columns
    side_by_side = found.transpose(0, 2, 1, 3).reshape(matrices, inputs, width)
    np.testing.assert_array_equal(side_by_side[..., :outputs], matrix)
    assert not side_by_side[..., outputs:].any()


def each_way(monkeypatch: pytest.MonkeyPatch, make: Callable[[], Coding]) -> list[Coding]:
    """A coding that uses the compiled loops, one with layers of floats in them, and one without."""
    fast = make()
    with monkeypatch.context() as patch:
        patch.setattr(native, "linear_of_bytes", lambda *layer: native.linear(*layer[:3]))
        floats = make()
    with monkeypatch.context() as patch:
        patch.setattr(native, "library", lambda: None)
        return [fast, floats, make()]


@pytest.fixture(params=["top", "bottom"])
def code_map(request: pytest.FixtureRequest, model: CodecModel) -> CodeMap:
    found: CodeMap = getattr(model, request.param)
    return found


@pytest.fixture
def codings(monkeypatch: pytest.MonkeyPatch, model: CodecModel, code_map: CodeMap) -> list[Coding]:
    """Compiled and not, a map of 9 x 14 whose codes are known to all."""
    rng, shape = np.random.default_rng(0), (9, 14)
    condition = None
    if code_map is model.bottom:
        assert code_map.prior.condition is not None
        width = code_map.prior.condition.matrix.shape[0]
        condition = rng.integers(0, 241, (9 * 14, width)).astype(np.uint8)
    plain = replace(code_map, adaptive=False)
    found = each_way(monkeypatch, lambda: plain.coding(shape, 100, condition))
    vectors = rng.integers(-200, 201, (9 * 14, code_map.coded(100)))
    for coding in found:
        cells, places, _ = coding.layout.order
        coding.put(cells, code_map.prior.inputs(vectors[places], 100))
    return found


@pytest.fixture(params=[1, 3])
def _threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "count", lambda: request.param)


@compiled
@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("one_step", [False, True])
def test_layers_are_the_same(codings: list[Coding], one_step: bool) -> None:
    found = []
    for coding in codings:
        cells, places, starts = coding.layout.order
        steps = [slice(0, len(cells))]
        if one_step:
            steps = [slice(*ends) for ends in pairwise(starts)]
        parts = [coding.hidden(cells[s], coding.start(places[s]), one_step) for s in steps]
        found.append(np.concatenate(parts))
    assert len(np.unique(found[0])) > 100
    for k in range(2):
        np.testing.assert_array_equal(found[k], found[2])
        for mine, other in zip(codings[k].activations, codings[2].activations, strict=True):
            np.testing.assert_array_equal(mine, other)


def hidden_and_seen(coding: Coding) -> tuple[Doubles, NDArray[np.int8]]:
    cells, places, _ = coding.layout.order
    return coding.hidden(cells, coding.start(places)), coding.inputs[cells]


@compiled
@pytest.mark.usefixtures("_threads")
def test_weights_are_the_same(codings: list[Coding], code_map: CodeMap) -> None:
    hidden, seen = hidden_and_seen(codings[2])
    for i, book in enumerate(code_map.books(100)):
        found = [np.empty((len(hidden) * book.groups, book.size)) for _ in codings]
        for coding, weights in zip(codings, found, strict=True):
            coding.slices[i].weigh(book, hidden, seen, weights)
        for k in range(2):
            np.testing.assert_array_equal(found[k], found[2])


def choices_of(code_map: CodeMap, level: int, count: int, wanted: bool) -> list[Choice]:
    """Slices of a run of so many positions, with latents of chance."""
    rng = np.random.default_rng(1)
    found = []
    for book, table in zip(code_map.books(level), code_map.inputs(level), strict=True):
        shape = count, book.groups * book.dim
        points = rng.normal(0, 3, shape).astype(np.float32)
        error = error_terms(points, rng.random(shape, np.float32) * 4)
        codes = np.zeros((count, book.groups), np.int32)
        sums = np.zeros((count, book.groups, SUMS)) if wanted else None
        found.append(Choice(book, table, error, codes, sums))
    return found


@compiled
@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("wanted", [False, True])
def test_choices_are_the_same(codings: list[Coding], code_map: CodeMap, wanted: bool) -> None:
    """Of all steps of a map, in two parts, each in the context of those before."""
    made, looks = [], []
    for coding in codings:
        cells, places, starts = coding.layout.order
        coding.inputs[:] = 0
        choices = choices_of(code_map, 100, len(cells), wanted)
        begun, middle = coding.start(places), len(starts) // 2
        for some in (starts[: middle + 1], starts[middle:]):
            coding.choose(choices, cells, begun, some)
        made.append(choices)
        looks.append(coding.inputs[cells])
    for k in range(2):
        np.testing.assert_array_equal(looks[k], looks[2])
    in_place = [codemap.in_place(c.codes.astype(np.uint16), places) for c in made[2]]
    known = code_map.seen(in_place, 100)(places)
    np.testing.assert_array_equal(looks[2], known[:, : looks[2].shape[1]])
    hidden = codings[2].hidden(cells, codings[2].start(places))
    for i, expected in enumerate(made[2]):
        same = [choices[i] for choices in made]
        assert expected.book.size == 1 or len(np.unique(expected.codes)) > 1
        for choice in same[:2]:
            np.testing.assert_array_equal(choice.codes, expected.codes)
        if wanted and expected.book.size > 1:
            for coding, choice in zip(codings, same, strict=True):
                assert choice.sums is not None
                sums = np.empty((expected.codes.size, SUMS))
                layers = coding.slices[i]
                layers.find_sums(choice.book, hidden, looks[2], choice.codes, sums)
                np.testing.assert_array_equal(choice.sums.reshape(-1, SUMS), sums)
                weights = np.empty((len(sums), choice.book.size))
                layers.weigh(choice.book, hidden, looks[2], weights)
                np.testing.assert_array_equal(sums, sums_of(choice.codes.reshape(-1), weights))


@compiled
@settings(deadline=None)
@given(st.integers(1, 70), st.integers(1, 140), st.booleans(), st.integers(0, 2**32))
def test_layers_of_bytes_have_all_weights(
    inputs: int, outputs: int, signed: bool, seed: int
) -> None:
    """In an order that is the machine's: four inputs of an output side by side."""
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-127, 128, (inputs, outputs)).astype(np.float32)
    layer = native.linear_of_bytes(matrix, np.ones(outputs), np.zeros(outputs), signed)
    assert (layer.inputs, layer.outputs) == (inputs, outputs)
    floats, quads, first = layer.kept[:3]
    if quads is None:  # nothing is faster with bytes here
        assert isinstance(floats, np.ndarray)
        np.testing.assert_array_equal(floats, native.panels(matrix))
        return
    assert isinstance(quads, np.ndarray)
    assert isinstance(first, np.ndarray)
    panels = quads.view(np.int8).reshape(*quads.shape, 4)  # (panels, inputs / 4, 32, 4)
    whole = panels.transpose(1, 3, 0, 2).reshape(4 * quads.shape[1], -1)
    np.testing.assert_array_equal(whole[:inputs, :outputs], matrix)
    assert not whole[inputs:].any()
    assert not whole[:, outputs:].any()
    np.testing.assert_array_equal(first[:outputs], -128 * signed * matrix.sum(0))


@compiled
def test_of_codewords_that_are_as_good_the_first_is_chosen(
    codings: list[Coding], code_map: CodeMap
) -> None:
    for coding in codings:
        cells, places, starts = coding.layout.order
        choices = choices_of(code_map, 100, len(cells), wanted=False)
        channels = code_map.prior.slices[0]
        same = np.ones((channels, 40, 1), np.int16)
        book = CodebookTable(same, same, np.zeros((channels, 40), np.int32))
        nothing = error_terms(*np.zeros((2, len(cells), channels), np.float32))
        codes = np.ones((len(cells), channels), np.int32)
        choices[0] = Choice(book, same.astype(np.int8), nothing, codes, None)
        coding.choose(choices, cells, coding.start(places), starts)
        assert not codes.any()


@compiled
@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 20), st.integers(0, 2**32))
def test_looking_up_is_the_same(groups: int, dim: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = rng.integers(-127, 128, (groups, 6, dim)).astype(np.int8)
    codes = rng.integers(0, 6, (count, groups)).astype(np.int32)
    seen = np.zeros((count, groups * dim + 5), np.int8)
    native.look_up(table, codes, seen, 3)
    expected = table[np.arange(groups), codes].reshape(count, groups * dim)
    np.testing.assert_array_equal(seen[:, 3:-2], expected)
    assert not seen[:, :3].any()
    assert not seen[:, -2:].any()


@compiled
@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("level", [0, 50, 128])
def test_files_are_the_same(monkeypatch: pytest.MonkeyPatch, model: CodecModel, level: int) -> None:
    pixels = picture(150, 100, seed=1)
    fast = encoding.encode(model, pixels, level)
    decoded = codec.decode(model, fast, 150, 100, level)
    monkeypatch.setattr(native, "library", lambda: None)
    assert encoding.encode(model, pixels, level) == fast
    np.testing.assert_array_equal(codec.decode(model, fast, 150, 100, level), decoded)


@compiled
def test_no_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def vqzip_look_up(self, *_: object) -> int:
            return 1

    monkeypatch.setattr(native, "library", Full)
    with pytest.raises(MemoryError):
        native.look_up(np.zeros((1, 1, 1), np.int8), np.zeros(1, np.int32), np.zeros((1, 1)), 0)
