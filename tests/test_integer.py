from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import reference_prior
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_model import TOP_SLICES, picture
from torch import Tensor

from vqzip import codec, encoding
from vqzip.codec import CodecModel, Codes
from vqzip.codemap import CodeMap
from vqzip.coder import frequencies
from vqzip.coding import Coding
from vqzip.entropy import CodebookTable
from vqzip.entropy import Codes as CodeArray
from vqzip.errors import VqzError
from vqzip.integer import (
    Bytes,
    Doubles,
    IntegerPixelCNN,
    Linear,
    Tensors,
    activate,
    shift_right,
)
from vqzip.layers import at_level
from vqzip.layout import REACH, Ints, Layout
from vqzip.model import Model
from vqzip.prior import PixelCNN
from vqzip.quantizer import Quantizer, natural_features

pytest_plugins = ["tiny_fixtures"]

SIZES = st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 9))


# Arithmetic.


@pytest.mark.parametrize(
    ("x", "bits", "expected"),
    [(7, 3, 1), (4, 3, 1), (3, 3, 0), (-4, 3, 0), (-5, 3, -1), (-12, 3, -1), (2**52 - 8, 4, 2**48)],
)
def test_shift_right_rounds_half_up(x: int, bits: int, expected: int) -> None:
    assert shift_right(np.array([float(x)]), bits) == [expected]


@given(st.lists(st.integers(-(2**52) + 1, 2**52 - 1), min_size=1), st.integers(1, 30))
def test_shift_right_is_exact(xs: list[int], bits: int) -> None:
    expected = reference_prior.shift(np.array(xs, np.int64), bits)
    np.testing.assert_array_equal(shift_right(np.array(xs, np.float64), bits), expected)


def test_activations_are_clamped_fixed_point() -> None:
    fixed = np.array([-1e9, -17, -16, 0, 15, 16, 1280, 240 * 32, 240 * 32 + 16, 1e9])
    assert activate(fixed).tolist() == [0, 0, 0, 0, 0, 1, 40, 240, 240, 240]
    assert activate(fixed).dtype == np.uint8


def layer(weight: NDArray[np.int8], multiplier: int = 1, bias: int = 0) -> Tensors:
    outputs = len(weight)
    return {
        "it.weight": weight,
        "it.multiplier": np.full(outputs, multiplier, np.int32),
        "it.bias": np.full(outputs, bias, np.int64),
    }


def row(total: int) -> NDArray[np.int8]:
    """One output whose weights have this sum of sizes."""
    weights = np.full((1, -(-total // 127)), -127, np.int8)
    weights[0, 0] += weights.shape[1] * 127 - total
    return weights


def test_linear_is_exact_up_to_its_bound() -> None:
    weight = row(2**14 - 1)
    x = np.full((1, weight.shape[1]), 1024.0, np.float32)
    found = Linear(layer(weight, multiplier=2**22), "it", 1024)(x)
    assert found.tolist() == [[-(2**14 - 1) * 1024]]


def test_linear_refuses_accumulators_that_float32_cannot_hold() -> None:
    with pytest.raises(VqzError) as caught:
        Linear(layer(row(2**14)), "it", 1024)
    assert str(caught.value) == "model: it is not exact: accumulators reach 16777216"


@pytest.mark.parametrize("sign", [1, -1])
def test_linear_refuses_products_that_float64_cannot_hold(sign: int) -> None:
    weight, multiplier = row(2**13), sign * 2**28
    Linear(layer(weight, multiplier, sign * (2**51 - 1)), "it", 1024)
    with pytest.raises(VqzError) as caught:
        Linear(layer(weight, multiplier, sign * 2**51), "it", 1024)
    assert str(caught.value) == f"model: it is not exact: products reach {2**52}"


@given(st.integers(0, 2**32))
@settings(deadline=None)
def test_linear_agrees_with_the_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.integers(-127, 128, (5, 40)).astype(np.int8)
    tensors: Tensors = {
        "it.weight": weight,
        "it.multiplier": rng.integers(0, 2**24, 5).astype(np.int32),
        "it.bias": rng.integers(-(2**40), 2**40, 5),
    }
    x = rng.integers(0, 241, (3, 40))
    expected = [reference_prior.Layer(tensors, "it")(one) for one in x]
    linear = Linear(tensors, "it", 240)
    np.testing.assert_array_equal(linear(x.astype(np.uint8)), expected)
    active = [reference_prior.activate(one) for one in expected]
    np.testing.assert_array_equal(linear.activations(x.astype(np.uint8)), active)


# The layout of a map.


@given(SIZES)
def test_order_visits_every_position_once(size: tuple[int, int, int]) -> None:
    layout = Layout(*size)
    cells, places, starts = layout.order
    assert sorted(places) == list(range(size[0] * size[1]))
    assert len(set(cells)) == len(cells)
    assert cells.min() >= 0
    assert cells.max() < layout.cells
    assert starts[0] == 0
    assert starts[-1] == len(cells)
    assert (np.diff(starts) > 0).all()


@given(SIZES)
def test_order_is_by_wavefront_step_then_tile_then_row(size: tuple[int, int, int]) -> None:
    _, width, tile = size
    _, places, starts = Layout(*size).order
    keys = []
    for place in places:
        y, x = divmod(int(place), width)
        step = x % tile + 2 * (y % tile)
        keys.append((step, y // tile, x // tile, y))
    assert keys == sorted(keys)
    ends = [end for end in range(1, len(keys)) if keys[end][0] != keys[end - 1][0]]
    assert starts.tolist() == [0, *ends, len(keys)]


@given(SIZES, st.sampled_from([(1, True), (2, False), (1, False), (2, True)]))
def test_taps_are_the_earlier_positions_of_the_tile(
    size: tuple[int, int, int], kernel: tuple[int, bool]
) -> None:
    """Every tap is the neighbour it is meant to be, of an earlier step, or margin."""
    (height, width, tile), (radius, inclusive) = size, kernel
    layout = Layout(*size)
    cells, places, starts = layout.order
    place_of = dict(zip(cells.tolist(), places.tolist(), strict=True))
    steps = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    step_of = dict(zip(cells.tolist(), steps.tolist(), strict=True))
    offsets = [(-up, across) for up in range(radius, 0, -1) for across in range(-radius, up + 1)]
    offsets += [(0, across) for across in range(-radius, int(inclusive))]
    taps = layout.taps(radius, inclusive)
    assert len(taps) == len(offsets)
    for cell, place in place_of.items():
        y, x = divmod(place, width)
        for tap, (down, right) in zip(taps.tolist(), offsets, strict=True):
            ny, nx = y + down, x + right
            same_tile = (ny // tile, nx // tile) == (y // tile, x // tile)
            assert 0 <= cell + tap < layout.cells
            if same_tile and ny < height and nx < width:
                assert place_of[cell + tap] == ny * width + nx
                assert step_of[cell + tap] < step_of[cell] or (down, right) == (0, 0)
            else:
                assert cell + tap not in place_of


@given(SIZES, st.integers(1, 6), st.integers(1, 30))
def test_cells_of_a_window_hold_all_that_a_run_of_steps_looks_at(
    size: tuple[int, int, int], window: int, most: int
) -> None:
    """Runs are opened and put as in coding; what is in sight is as with cells for all steps."""
    whole, layout = Layout(*size), Layout(*size, window)
    assert layout.held <= window + REACH
    taps = layout.taps(2, inclusive=True)
    held, everything = (np.zeros(each.cells, np.int64) for each in (layout, whole))
    cells, places, starts = layout.order
    of_whole, _, _ = whole.order
    runs = list(layout.runs(most))
    assert [0, *(end for _, end in runs)] == [*(begin for begin, _ in runs), len(starts) - 1]
    for begin, end in runs:
        held.reshape(layout.held, -1)[layout.reused(begin, end)] = 0
        run = slice(starts[begin], starts[end])
        held[cells[run]] = everything[of_whole[run]] = places[run] + 1
        seen = held.take(cells[run, None] + taps, mode="wrap")
        expected = everything[of_whole[run, None] + whole.taps(2, inclusive=True)]
        np.testing.assert_array_equal(seen, expected)


# The network.


def put(coding: Coding, cells: Ints, vectors: Ints) -> NDArray[np.int8]:
    """Make code vectors (n, channels) known; returns them as the network sees them."""
    seen = coding.prior.inputs(vectors, coding.level)
    coding.put(cells, seen)
    return seen


def put_all(coding: Coding, vectors: Ints) -> None:
    """Make all code vectors (positions, channels) of a map known."""
    cells, places, _ = coding.layout.order
    put(coding, cells, vectors[places])


def all_at_once(coding: Coding) -> tuple[Doubles, list[Doubles]]:
    """What all slices share and each slice's features, by position of the plain map."""
    cells, places, _ = coding.layout.order
    back = np.argsort(places)
    hidden, seen = coding.hidden(cells, coding.start(places)), coding.inputs[cells]
    count = len(coding.prior.slices)
    return hidden[back], [coding.slices[i].features(hidden, seen)[back] for i in range(count)]


def random_vectors(prior: IntegerPixelCNN, positions: int, seed: int) -> Ints:
    """Code vectors (positions, channels) about as large as the prior expects them."""
    rng = np.random.default_rng(seed)
    return rng.integers(-200, 201, (positions, prior.channels))


def random_condition(model: CodecModel, positions: int, seed: int) -> Bytes:
    assert model.bottom.prior.condition is not None
    inputs = model.bottom.prior.condition.matrix.shape[0]
    rng = np.random.default_rng(seed)
    return rng.integers(0, 241, (positions, inputs)).astype(np.uint8)


SHAPE, SMALL_TILE = (5, 7), 4  # four tiles, three of them cut short


@pytest.fixture(params=["top", "bottom"])
def code_map(request: pytest.FixtureRequest, model: CodecModel) -> CodeMap:
    found: CodeMap = getattr(model, request.param)
    return found


def new_coding(model: CodecModel, code_map: CodeMap, level: int = 40) -> Coding:
    positions = SHAPE[0] * SHAPE[1]
    condition = random_condition(model, positions, 5) if code_map is model.bottom else None
    return Coding(code_map.prior, Layout(*SHAPE, SMALL_TILE), level, condition)


def test_steps_give_what_the_whole_map_gives(model: CodecModel, code_map: CodeMap) -> None:
    prior = code_map.prior
    vectors = random_vectors(prior, SHAPE[0] * SHAPE[1], seed=1)
    whole = new_coding(model, code_map)
    put_all(whole, vectors)
    hidden, features = all_at_once(whole)
    assert len(np.unique(hidden)) > 10

    stepwise = new_coding(model, code_map)
    cells, places, starts = stepwise.layout.order
    for begin, end in pairwise(starts):
        here, there = cells[begin:end], places[begin:end]
        found = stepwise.hidden(here, stepwise.start(there))
        np.testing.assert_array_equal(found, hidden[there])
        seen = put(stepwise, here, vectors[there])
        for i in range(len(prior.slices)):
            before = np.zeros_like(seen)
            before[:, : prior.starts[i]] = seen[:, : prior.starts[i]]
            np.testing.assert_array_equal(
                stepwise.slices[i].features(found, before), features[i][there], strict=True
            )


def test_channels_that_are_zero_everywhere_need_not_be_looked_at(
    model: CodecModel, code_map: CodeMap
) -> None:
    prior, level = code_map.prior, 40
    kept = int(prior.starts[-2])
    vectors = random_vectors(prior, SHAPE[0] * SHAPE[1], seed=1)
    vectors[:, kept:] = 0
    whole = new_coding(model, code_map, level)
    fewer = Coding(prior, whole.layout, level, whole.condition, coded=kept)
    for coding in (whole, fewer):
        put_all(coding, vectors)
    assert fewer.inputs.shape[1] == kept < whole.inputs.shape[1]
    (first, of_slices), (second, of_fewer) = all_at_once(whole), all_at_once(fewer)
    np.testing.assert_array_equal(second, first)
    np.testing.assert_array_equal(of_fewer[-1], of_slices[-1])


def test_coded_channels_end_where_all_that_follow_are_zero(model: CodecModel) -> None:
    last = model.bottom.prior.slices[-1]
    nothing = np.zeros((1, 1, last), np.int16)
    empty = CodebookTable(nothing, nothing, np.zeros((1, 1), np.int32))
    something = CodebookTable(nothing + 1, nothing, np.zeros((1, 1), np.int32))
    whole, without = model.bottom.prior.channels, int(model.bottom.prior.starts[-2])
    for book, channels in ((empty, without), (something, whole)):
        tables = [[*books[:-1], book] for books in model.bottom.tables]
        assert replace(model.bottom, tables=tables).coded(40) == channels


def may_know(y: int, x: int, py: int, px: int) -> bool:
    """Whether the prior of a position (y, x) may depend on the codes of another, (py, px)."""
    same_tile = (y // SMALL_TILE, x // SMALL_TILE) == (py // SMALL_TILE, px // SMALL_TILE)
    earlier = py < y or (py == y and px < x)
    return same_tile and earlier and px - x <= y - py


def consequences(
    model: CodecModel, code_map: CodeMap, seed: int
) -> Iterator[tuple[int, int, NDArray[np.bool_], list[NDArray[np.bool_]]]]:
    """For each position and slice: where what slices share and each slice's features change.

    That is, when the codewords of that slice at that position do.
    """
    prior = code_map.prior
    vectors = random_vectors(prior, SHAPE[0] * SHAPE[1], seed)
    coding = new_coding(model, code_map)
    put_all(coding, vectors)
    hidden, features = all_at_once(coding)
    for place, i in product(range(len(vectors)), range(len(prior.slices))):
        other = vectors.copy()
        other[place, prior.starts[i] : prior.starts[i + 1]] += 300
        coding = new_coding(model, code_map)
        put_all(coding, other)
        new_hidden, new_features = all_at_once(coding)
        pairs = zip(new_features, features, strict=True)
        yield place, i, (new_hidden != hidden).any(1), [(a != b).any((1, 2)) for a, b in pairs]


def test_a_code_is_known_to_all_later_positions_of_its_tile_and_no_others(
    model: CodecModel, code_map: CodeMap
) -> None:
    reached = set()
    for seed in range(4):
        for place, _, moved, moved_slices in consequences(model, code_map, seed):
            py, px = divmod(place, SHAPE[1])
            for p in set(range(len(moved))) - {place}:
                y, x = divmod(p, SHAPE[1])
                if not may_know(y, x, py, px):
                    assert not moved[p]
                    assert not any(now[p] for now in moved_slices)
                elif moved[p]:
                    reached.add((y - py, x - px))
    side = range(SMALL_TILE)
    pairs = product(side, side, side, side)
    assert reached == {(y - py, x - px) for y, x, py, px in pairs if may_know(y, x, py, px)}


def test_within_a_position_a_slice_knows_all_slices_before_it_and_no_others(
    model: CodecModel, code_map: CodeMap
) -> None:
    count, known = len(code_map.prior.slices), set()
    for place, i, moved, moved_slices in consequences(model, code_map, seed=0):
        assert not moved[place]
        known |= {(i, j) for j in range(count) if moved_slices[j][place]}
    assert known == {(i, j) for j in range(count) for i in range(j)}


def test_the_condition_reaches_its_own_position(model: CodecModel) -> None:
    vectors = random_vectors(model.bottom.prior, SHAPE[0] * SHAPE[1], seed=3)
    coding = new_coding(model, model.bottom)
    put_all(coding, vectors)
    hidden, _ = all_at_once(coding)
    assert coding.condition is not None
    coding.condition[10] = 240 - coding.condition[10]
    changed, _ = all_at_once(coding)
    assert (changed[10] != hidden[10]).any()
    assert (changed[:10] == hidden[:10]).all()


def test_levels_differ(model: CodecModel, code_map: CodeMap) -> None:
    vectors = random_vectors(code_map.prior, SHAPE[0] * SHAPE[1], seed=4)
    found = []
    for level in (0, 40, 41, 128):
        coding = new_coding(model, code_map, level)
        put_all(coding, vectors)
        found.append(all_at_once(coding)[1][0])
    for a, b in pairwise(found):
        assert (a != b).any()


# The reference.


def assert_features_agree(
    prior: IntegerPixelCNN, tensors: Tensors, name: str, coding: Coding
) -> None:
    """With those of the reference, on random code vectors."""
    vectors = random_vectors(prior, SHAPE[0] * SHAPE[1], seed=coding.level)
    put_all(coding, vectors)
    hidden, features = all_at_once(coding)
    condition = None
    if coding.condition is not None:
        condition = coding.condition.reshape(*SHAPE, -1).astype(np.int64)
    reference = reference_prior.Map(
        tensors, name, prior.slices, SHAPE, SMALL_TILE, coding.level, condition
    )
    for p in range(len(vectors)):  # raster order is one in which nothing comes too early
        y, x = divmod(p, SHAPE[1])
        expected = reference.hidden(y, x)
        shares = np.concatenate([to_slice(expected) for to_slice in reference.to_slice])
        np.testing.assert_array_equal(hidden[p], shares)
        for i, channels in enumerate(reference.channels):
            np.testing.assert_array_equal(features[i][p], reference.features(y, x, expected, i))
            reference.put(y, x, i, vectors[p, channels])


@pytest.mark.parametrize("level", [0, 40, 128])
def test_features_agree_with_the_reference(
    model: CodecModel, tensors: Tensors, code_map: CodeMap, level: int
) -> None:
    coding, name = new_coding(model, code_map, level), "top" if code_map is model.top else "bottom"
    assert_features_agree(code_map.prior, tensors, name, coding)


def test_features_agree_with_the_reference_at_the_limits(tensors: Tensors) -> None:
    """Where means, scales and tails are clamped."""
    wild = dict(tensors)
    for i in range(len(TOP_SLICES)):
        name = f"top.head.{i}.multiplier"
        wild[name] = np.minimum(tensors[name].astype(np.int64) * 200, 2**31 - 1).astype(np.int32)
    entries = np.arange(len(tensors["top.precision"]), dtype=np.int32)
    wild["top.precision"] = 2**21 - 3000 * entries
    prior = IntegerPixelCNN(wild, "top", TOP_SLICES)
    coding = Coding(prior, Layout(*SHAPE, SMALL_TILE), 128, None)
    assert_features_agree(prior, wild, "top", coding)
    features = np.concatenate(all_at_once(coding)[1], axis=1)
    assert features[..., 1].min() == wild["top.precision"][-1]
    assert features[..., 1].max() == wild["top.precision"][0]
    assert (np.abs(features[..., 0]) == 2**16 * features[..., 1]).any()
    assert features[..., 2:].min() == -(2**28)
    assert features[..., 2:].max() == 2**28


@pytest.mark.parametrize("level", [0, 40, 128])
def test_counts_agree_with_the_reference(
    model: CodecModel, tensors: Tensors, code_map: CodeMap, level: int
) -> None:
    vectors = random_vectors(code_map.prior, SHAPE[0] * SHAPE[1], seed=level)
    coding = new_coding(model, code_map, level)
    put_all(coding, vectors)
    _, features = all_at_once(coding)
    name = "top" if code_map is model.top else "bottom"
    for i, book in enumerate(code_map.books(level)):
        if book.size == 1:
            continue
        key = f"{name}.codebook.{code_map.trained_level(level)}.{i}"
        found = frequencies(book.weights(features[i])).reshape(-1, book.groups, book.size)
        labels = tensors[f"{key}.labels"].astype(np.int64)
        bias = tensors[f"{key}.bias"].astype(np.int64)
        for p in range(0, len(vectors), 5):
            grouped = features[i][p].astype(np.int64).reshape(book.groups, -1, 4)
            for g in range(book.groups):
                likely = reference_prior.weights(labels[g], bias[g], grouped[g])
                expected = reference_prior.counts(likely)
                assert (found[p, g] - 1).tolist() == expected


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (4, 3)])
def test_lift_agrees_with_the_reference(
    model: CodecModel, tensors: Tensors, shape: tuple[int, int]
) -> None:
    inputs = np.random.default_rng(0).integers(-127, 128, (*shape, sum(TOP_SLICES)))
    lifted = model.lift(inputs.astype(np.int8), slice(None))
    assert lifted.shape[:2] == (2 * shape[0], 2 * shape[1])
    np.testing.assert_array_equal(lifted, reference_prior.lift(tensors, inputs))


@pytest.mark.parametrize("rows", [slice(0, 1), slice(2, 5), slice(4, 9), slice(6, None)])
def test_lift_of_some_rows_is_that_part_of_the_whole(model: CodecModel, rows: slice) -> None:
    inputs = np.random.default_rng(1).integers(-127, 128, (9, 4, sum(TOP_SLICES)))
    whole = model.lift(inputs.astype(np.int8), slice(None))
    start, stop, _ = rows.indices(9)
    found = model.lift(inputs.astype(np.int8), rows)
    np.testing.assert_array_equal(found, whole[2 * start : 2 * stop])


@pytest.mark.parametrize("value", [-1, 2**21 + 1])
def test_precisions_that_might_not_be_exact_are_refused(tensors: Tensors, value: int) -> None:
    table = tensors["top.precision"].copy()
    table[7] = value
    with pytest.raises(VqzError) as caught:
        IntegerPixelCNN(tensors | {"top.precision": table}, "top", TOP_SLICES)
    assert str(caught.value) == "model: top.precision is out of range"


# What was trained.


@pytest.fixture
def qat(trained: Model) -> Iterator[Model]:
    """The model that was exported, in the arithmetic that prepares it for integers."""
    trained.prior.arithmetic.integer = True
    yield trained
    trained.prior.arithmetic.integer = False


def as_map(rows: NDArray[np.generic]) -> Tensor:
    """(H * W, C) of the map of this file's shape to (1, C, H, W)."""
    return torch.from_numpy(rows.astype(np.float32).T.reshape(1, -1, *SHAPE))


@torch.no_grad()
@pytest.mark.parametrize("level", [0, 37, 128])
def test_features_are_those_of_the_trained_prior(
    model: CodecModel, qat: Model, code_map: CodeMap, level: int
) -> None:
    prior, at = code_map.prior, torch.tensor([level / 16])
    vectors = random_vectors(prior, SHAPE[0] * SHAPE[1], seed=level)
    coding = Coding(prior, Layout(*SHAPE, 99), level, None)
    t, condition = qat.transform, None
    cnn, log_gain = qat.prior.top, t.top_gain
    if code_map is model.bottom:
        cnn, log_gain = qat.prior.bottom, t.bottom_gain
        coding.condition = random_condition(model, len(vectors), seed=level)
        condition = as_map(coding.condition / 40)
    put_all(coding, vectors)
    _, features = all_at_once(coding)
    natural = cnn(as_map(vectors / 64), at_level(log_gain, at).exp(), at, condition)
    expected = natural_features(natural[0].flatten(2)).permute(2, 0, 1).double().numpy() / np.log(2)
    found = np.concatenate(features, axis=1) * np.array([64, 64**2, 64, 64]) / 2**28
    error = np.abs(found - expected)
    assert (error.mean((0, 1)) < 0.01 * np.abs(expected).mean((0, 1)))[1:].all()
    mean, expected_mean = (f[..., 0] / f[..., 1] / 2 for f in (found, expected))
    error = np.abs(mean - expected_mean)  # means are rounded to sixty-fourths
    assert error.mean() < 1 / 200 + 0.01 * np.abs(expected_mean).mean()


@torch.no_grad()
def test_the_condition_is_that_of_the_trained_prior(model: CodecModel, qat: Model) -> None:
    level, prior = 37, model.top.prior
    vectors = random_vectors(prior, SHAPE[0] * SHAPE[1], seed=1)
    inputs = reference_prior.inputs_of(vectors, prior.inverse_unit[level].astype(np.int64))
    found = model.lift(inputs.reshape(*SHAPE, -1).astype(np.int8), slice(None))
    gain = at_level(qat.transform.top_gain, torch.tensor([level / 16])).exp()
    expected = 40 * qat.prior.lift(as_map(vectors / 64), gain)[0].permute(1, 2, 0).numpy()
    assert found.max() > 40
    assert np.abs(found - expected).max() < 1.01


def map_bits(
    quantizer: Quantizer,
    prior: PixelCNN,
    codes: list[CodeArray],
    shape: tuple[int, int],
    trained_level: int,
    gain: Tensor,
    level: Tensor,
    condition: Tensor | None,
) -> tuple[Tensor, float]:
    """Code vectors (1, C, H, W) and the codes' cross-entropy in bits."""
    rows = [torch.from_numpy(c.T.astype(np.int64)) for c in codes]
    vectors = quantizer.vectors(rows, trained_level).reshape(1, -1, *shape)
    natural = prior(vectors, gain, level, condition)[0].flatten(2)
    return vectors, quantizer.bits(rows, trained_level, natural_features(natural)).item()


@torch.no_grad()
def trained_bits(trained: Model, codes: Codes, trained_level: int, fraction: float) -> float:
    """Cross-entropy of the codes under the prior in floating point."""
    t, prior, level = trained.transform, trained.prior, torch.tensor([fraction])
    gain = at_level(t.top_gain, level).exp()
    vectors, top = map_bits(
        trained.top_quantizer, prior.top, codes.top, codes.shape, trained_level, gain, level, None
    )
    condition = prior.lift(vectors, gain)
    gain = at_level(t.bottom_gain, level).exp()
    shape = 2 * codes.shape[0], 2 * codes.shape[1]
    _, bottom = map_bits(
        trained.bottom_quantizer,
        prior.bottom,
        codes.bottom,
        shape,
        trained_level,
        gain,
        level,
        condition,
    )
    return top + bottom


@pytest.mark.parametrize("level", [0, 37, 88, 128])
def test_the_bits_are_those_of_the_trained_prior(model: CodecModel, qat: Model, level: int) -> None:
    top, bottom = (replace(m, tile=99) for m in (model.top, model.bottom))
    whole = codec.fixed(replace(model, top=top, bottom=bottom))
    codes = encoding.analyse(whole, picture(150, 100, seed=2), level)
    bits = sum(codec.cross_entropy(whole, codes, level))
    found = trained_bits(qat, codes, model.top.trained_level(level), level / 16)
    assert bits == pytest.approx(found, rel=0.01)
