"""Frequencies learn from codes as the reference does, and a stream gets shorter by it."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest
import reference_adaptation
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_adaptation import Group
from tiny_model import picture

from vqzip import codec, codemap, encoding, native
from vqzip.adaptation import LOGARITHMS, Adaptation, logarithm, natural
from vqzip.codec import CodecModel
from vqzip.codemap import CodeMap
from vqzip.coder import Counter
from vqzip.entropy import CodebookTable, Codes
from vqzip.integer import MAX_PRECISION, MEAN_MAX, Doubles
from vqzip.latents import Search
from vqzip.sampling import Sampler, sample

pytest_plugins = ["tiny_fixtures"]

compiled = pytest.mark.skipif(native.library() is None, reason="there are no compiled loops")


def test_the_table_of_logarithms_is_pinned() -> None:
    assert LOGARITHMS.tolist() == reference_adaptation.table()
    assert zlib.crc32(LOGARITHMS.astype("<u4").tobytes()) == 0x61A7CEE2


@given(st.integers(1, 2**53))
def test_logarithms_are_those_of_the_reference(x: int) -> None:
    assert logarithm(np.array([float(x)])).tolist() == [reference_adaptation.lg(x)]


def random_codes(
    seed: int, groups: int, size: int, dim: int, count: int
) -> tuple[CodebookTable, Doubles, Doubles, np.ndarray[tuple[int, ...], np.dtype[np.int32]]]:
    """A codebook, and of some positions features, weights and codes."""
    rng = np.random.default_rng(seed)
    most = 20_000 // dim  # as logits have to be exact
    labels = rng.integers(-most, most + 1, (groups, size, dim))
    book = CodebookTable(labels, labels, rng.integers(-9000, 9001, (groups, size)))
    precision = rng.integers(0, MAX_PRECISION + 1, (count, groups * dim)) >> rng.integers(0, 21)
    mean = rng.integers(-MEAN_MAX, MEAN_MAX + 1, precision.shape) >> rng.integers(0, 15)
    features = np.zeros((*precision.shape, 4))
    features[..., 0], features[..., 1] = 2 * mean * precision, precision
    weights = rng.integers(0, 2**28 + 1, (count * groups, size)) >> rng.integers(0, 29)
    weights[:, 0] = 2**28
    codes = rng.integers(0, size, (count, groups)).astype(np.int32)
    return book, features, weights.astype(np.float64), codes


@pytest.mark.parametrize("loops", [False, pytest.param(True, marks=compiled)])
@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(2, 20), st.integers(1, 3))
def test_it_learns_as_the_reference(
    loops: bool, seed: int, groups: int, size: int, dim: int
) -> None:
    book, features, weights, codes = random_codes(seed, groups, size, dim, count=7)
    learner = Adaptation(book)
    if loops:
        learner.native()
    reference = [Group(labels.T.astype(np.int64)) for labels in book.labels]
    whole = weights.astype(np.int64).reshape(len(codes), groups, size).tolist()
    for _ in range(3):
        learner.learn(natural(features), weights.copy(), codes)
        learner.update()
        for g, group in enumerate(reference):
            mine = slice(g * dim, (g + 1) * dim)
            for n in range(len(codes)):
                known = features[n, mine].astype(np.int64)
                group.learn(known, whole[n][g], int(codes[n, g]))
            group.update()
            assert learner.gains[mine].tolist() == group.gains
            expected = book.phi[g, -1] + group.more / 16
            assert learner.starts()[g].tolist() == expected.tolist()
            known = features[0, mine].astype(np.int64)
            adapted = learner.adapted(features)[0, mine]
            assert adapted.tolist() == group.with_gains(known).tolist()


def bits(code_map: CodeMap, codes: list[Codes], shape: tuple[int, int]) -> float:
    counter = Counter()
    codemap.encode(code_map, codes, shape, 100, None, counter)
    return counter.bits


def test_a_code_that_comes_again_and_again_takes_less_and_less(model: CodecModel) -> None:
    """Of a map that is all one code."""
    shape = 24, 24
    plain = replace(model.top, adaptive=False, tile=32)
    codes = [
        np.full((shape[0] * shape[1], book.groups), book.size // 2, np.uint16)
        for book in plain.books(100)
    ]
    before, after = (bits(m, codes, shape) for m in (plain, replace(plain, adaptive=True)))
    assert after < before / 2


def test_what_is_drawn_does_not_learn_from_itself(model: CodecModel) -> None:
    plain = codec.fixed(model)
    assert model.bottom.adaptive
    drawn, expected = (sample(m, 70, 50, 60, Sampler(3)) for m in (model, plain))
    for mine, other in zip(drawn.codes.bottom, expected.codes.bottom, strict=True):
        np.testing.assert_array_equal(mine, other)
    packed = drawn.pack()
    stream = codec.pack(model, drawn.codes, 60)
    found = codec.unpack(model, stream, 70, 50, 60)
    for mine, other in zip(found.bottom, expected.codes.bottom, strict=True):
        np.testing.assert_array_equal(mine, other)
    assert stream in packed


@pytest.mark.parametrize("effort", [0, 1, 2])
def test_files_decode_whether_frequencies_learn_or_not(model: CodecModel, effort: int) -> None:
    pixels = picture(90, 70, seed=2)
    search = Search.at_effort(effort)
    plain = codec.fixed(model)
    streams = []
    for one in (model, plain):
        codes = encoding.analyse(one, pixels, 90, search)
        streams.append(encoding.encode(one, pixels, 90, search))
        found = codec.unpack(one, streams[-1], 90, 70, 90)
        for mine, other in zip(codes.bottom, found.bottom, strict=True):
            np.testing.assert_array_equal(mine, other)
        assert codec.pack(one, codes, 90) == streams[-1]
    assert streams[0] != streams[1]
