"""What compiled loops remember of a walk, and what codes cost later by that."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_foresight import Analyse, fewer_bits, photo

from vqzip import aim, choice, codec, encoding, native, store
from vqzip.backward import Backward
from vqzip.codec import CodecModel
from vqzip.coding import Coding, Memory
from vqzip.entropy import Codes
from vqzip.foresight import Foresight, _slope
from vqzip.integer import ACTIVATION_LEVELS, ACTIVATION_SHIFT
from vqzip.latents import Latents, Search
from vqzip.layout import Layout

pytestmark = pytest.mark.skipif(
    native.library() is None, reason="there are no compiled loops to remember anything"
)

LEVEL = 56
SHARE = aim.FORESIGHT


@pytest.fixture(scope="module")
def shipped() -> CodecModel:
    return store.load_model()


@pytest.fixture(scope="module")
def latents(shipped: CodecModel) -> Latents:
    return encoding.begin(shipped, photo(), LEVEL).bottom


def remembered(latents: Latents) -> tuple[list[Codes], Memory]:
    memory = Memory.of(latents.code_map.prior, *latents.points.shape)
    return choice._walk(latents, Search(), None, None, False, memory), memory


def passed(latents: Latents, codes: list[Codes]) -> tuple[Coding, NDArray[np.float64]]:
    """A map all codes of which are known, and its hidden activations, in plain order."""
    code_map = latents.code_map
    layout = Layout(*latents.shape, code_map.tile)
    coding = Coding(code_map.prior, layout, latents.level, latents.condition)
    cells, places, _ = layout.order
    coding.put(
        cells, code_map.prior.inputs(code_map.vectors(codes, latents.level), latents.level)[places]
    )
    hidden = coding.hidden(cells, coding.start(places))
    plain = np.empty_like(hidden)
    plain[places] = hidden
    return coding, plain


def test_activations_are_remembered(latents: Latents) -> None:
    codes, memory = remembered(latents)
    coding, hidden = passed(latents, codes)
    prior, layers = latents.code_map.prior, len(coding.activations)
    cells, places, _ = coding.layout.order
    for i, activations in enumerate(coding.activations):
        np.testing.assert_array_equal(memory.gates[i][places], activations[cells])
        taps = coding.layout.taps(1, inclusive=True)
        near = activations.take(cells[:, None] + taps, axis=0, mode="wrap")
        amid = prior.spatial[i].activations(near.reshape(len(cells), -1))
        np.testing.assert_array_equal(memory.gates[layers + i][places], amid)
    np.testing.assert_array_equal(prior.to_slices(memory.gates[-1]), hidden)


def test_costs_are_slopes_of_bits_by_hidden_activations(latents: Latents) -> None:
    codes, memory = remembered(latents)
    _, hidden = passed(latents, codes)
    code_map, (height, width) = latents.code_map, latents.shape
    prior, ahead = code_map.prior, Foresight(code_map, LEVEL)
    seen = prior.inputs(code_map.vectors(codes, LEVEL), LEVEL).astype(np.float64)
    for i, book in enumerate(code_map.books(LEVEL)):
        if book.size == 1:
            continue
        share, before = prior.shares[i], prior.starts[i]
        u = hidden[:, share] / 2**ACTIVATION_SHIFT
        if before:
            weights, scale, offset = prior.previous[i].parts()
            known = seen[:, :before] @ weights[:before]
            u += (known * scale + offset) / 2**ACTIVATION_SHIFT
        plane = torch.tensor(np.round(u).T.reshape(1, -1, height, width), dtype=torch.float32)
        plane.requires_grad_()
        features = ahead._slice(i, plane.clamp(0, ACTIVATION_LEVELS))
        slope = _slope(book, features.detach(), codes[i].reshape(height, width, -1))
        (wanted,) = torch.autograd.grad(features, plane, slope)
        rows = wanted[0].flatten(1).T.numpy()
        found = memory.costs[:, share]
        assert np.corrcoef(np.ravel(found), np.ravel(rows))[0, 1] > 0.98
        assert np.vdot(found, rows) / np.vdot(found, found) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("in_bytes", "alike"), [(True, 0.85), (False, 0.9)])
def test_costs_of_code_vectors_are_nearly_those_of_foresight(
    monkeypatch: pytest.MonkeyPatch, latents: Latents, in_bytes: bool, alike: float
) -> None:
    if in_bytes and not native.products_of_bytes():
        pytest.skip("bytes are no faster here")
    monkeypatch.setattr(native, "products_of_bytes", lambda: in_bytes)
    codes, memory = remembered(latents)
    code_map, vectors = latents.code_map, latents.vectors(codes)
    channels = vectors.shape[1]
    found = Backward(code_map.prior, LEVEL, channels).costs(
        vectors, memory, latents.shape, code_map.tile
    )
    wanted = Foresight(code_map, LEVEL).costs(codes, latents.shape, latents.condition)[:, :channels]
    assert found.shape == wanted.shape
    for c in range(channels):
        assert np.corrcoef(found[:, c], wanted[:, c])[0, 1] > alike
    assert np.vdot(found, wanted) / np.vdot(wanted, wanted) == pytest.approx(1, abs=0.1)


def test_tiles_are_gone_back_through_apart(latents: Latents) -> None:
    codes, memory = remembered(latents)
    (height, width), vectors, prior = latents.shape, latents.vectors(codes), latents.code_map.prior
    backward = Backward(prior, LEVEL, vectors.shape[1])
    whole = backward.costs(vectors, memory, latents.shape, 8).reshape(height, width, -1)
    rows = slice(8 * width, 16 * width)
    part = Memory(np.ascontiguousarray(memory.gates[:, rows]), memory.costs[rows])
    alone = backward.costs(vectors[rows], part, (8, width), 8).reshape(8, width, -1)
    np.testing.assert_array_equal(whole[8:16], alone)


def test_there_is_no_room_for_what_loops_do_not_remember(
    monkeypatch: pytest.MonkeyPatch, latents: Latents
) -> None:
    """Layers of several widths, none at all, no channels that are coded, and large maps."""
    assert aim.room_for(latents) is not None
    prior = latents.code_map.prior
    narrow = SimpleNamespace(matrix=prior.spatial[0].matrix[:, :-4])
    for spatial in ([], [*prior.spatial[1:], narrow]):
        other = copy(prior)
        other.spatial = spatial  # type: ignore[assignment]
        assert (
            aim.room_for(replace(latents, code_map=replace(latents.code_map, prior=other))) is None
        )
    assert aim.room_for(replace(latents, points=latents.points[:, :0])) is None
    monkeypatch.setattr(aim, "REMEMBERED", len(latents.points) - 1)
    assert aim.room_for(latents) is None


def test_a_photo_is_smaller_for_it_at_the_same_quality(
    monkeypatch: pytest.MonkeyPatch, shipped: CodecModel
) -> None:
    def analyse(share: float) -> Analyse:
        def with_share(pixels: NDArray[np.uint8], level: int) -> codec.Codes:
            monkeypatch.setattr(aim, "FORESIGHT", share)
            return encoding.analyse(shipped, pixels, level)

        return with_share

    (less,) = fewer_bits(shipped, analyse(0), analyse(SHARE))
    assert less < -0.005
