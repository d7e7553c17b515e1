import numpy as np
import pytest
import reference_alpha
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from vqzip import alpha
from vqzip.alpha import decode, encode, fill_hidden
from vqzip.errors import VqzError

Plane = NDArray[np.uint8]


def round_trip(plane: Plane) -> Plane:
    height, width = plane.shape
    return decode(encode(plane), width, height)


@st.composite
def planes(draw: st.DrawFn) -> Plane:
    """Of few values or many, with a margin of one value, as masks are."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    values = draw(st.lists(st.integers(0, 255), min_size=1, max_size=256))
    pixels = draw(st.lists(st.sampled_from(values), min_size=81, max_size=81))
    plane = np.array(pixels[: height * width], np.uint8).reshape(height, width)
    return np.pad(plane, draw(st.integers(0, 3)), constant_values=values[0])


@given(planes())
@settings(max_examples=60)
def test_every_plane_comes_back(plane: Plane) -> None:
    result = round_trip(plane)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, plane)


@given(planes(), st.integers(1, 5))
@settings(max_examples=25)
def test_reference_agrees(plane: Plane, side: int) -> None:
    height, width = plane.shape
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alpha, "TILE", side)
        payload = encode(plane)
        np.testing.assert_array_equal(decode(payload, width, height), plane)
    assert reference_alpha.decode(payload, width, height, side) == plane.tolist()


def test_all_values_and_all_differences() -> None:
    plane = np.random.default_rng(0).integers(0, 256, (90, 90), dtype=np.uint8)
    payload = encode(plane)
    np.testing.assert_array_equal(decode(payload, 90, 90), plane)
    assert reference_alpha.decode(payload, 90, 90, 1024) == plane.tolist()


@pytest.mark.parametrize("shape", [(1, 1), (1, 2100), (2100, 1), (3, 1025), (1025, 2)])
def test_more_than_one_tile(shape: tuple[int, int]) -> None:
    plane = np.random.default_rng(0).integers(0, 4, shape, dtype=np.uint8) * 85
    np.testing.assert_array_equal(round_trip(plane), plane)


GOLDEN = "a8a4de38e1c9a484"


def test_golden_payload() -> None:
    plane = np.array([[0, 0, 255, 255], [0, 128, 255, 255], [64, 200, 255, 0]], np.uint8)
    payload = encode(plane)
    assert payload.hex() == GOLDEN
    np.testing.assert_array_equal(decode(bytes.fromhex(GOLDEN), 4, 3), plane)


def disc(steepness: float) -> Plane:
    """White on black, 160 pixels wide; at its edge alpha falls by `steepness` a pixel."""
    y, x = np.mgrid[:200, :300]
    plane: Plane = np.clip(128 + steepness * (80 - np.hypot(y - 100, x - 150)), 0, 255).astype(
        np.uint8
    )
    return plane


@pytest.mark.parametrize(
    ("plane", "size"),
    [
        (np.full((200, 300), 255, np.uint8), 4),
        (np.full((200, 300), 100, np.uint8), 12),
        (disc(10000), 176),
        (disc(64), 1332),
        (disc(16), 2608),
    ],
    ids=["opaque", "flat", "mask", "smooth edge", "soft edge"],
)
def test_usual_planes_take_few_bytes(plane: Plane, size: int) -> None:
    assert len(encode(plane)) == size


@given(st.binary(max_size=40), st.integers(1, 6), st.integers(1, 6))
@settings(max_examples=60)
def test_any_payload_is_a_plane_or_refused(payload: bytes, width: int, height: int) -> None:
    if len(payload) % 4:
        with pytest.raises(
            VqzError, match=r"^corrupt alpha: its length is not a multiple of four$"
        ):
            decode(payload, width, height)
        return
    try:
        plane = decode(payload, width, height)
    except VqzError:
        return
    assert plane.shape == (height, width)


def test_visible_colours_stay() -> None:
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (31, 46, 3), dtype=np.uint8)
    plane = rng.choice(np.array([0, 1, 128, 255], np.uint8), (31, 46))
    filled = np.asarray(fill_hidden(Image.fromarray(colour), Image.fromarray(plane)))
    np.testing.assert_array_equal(filled[plane > 0], colour[plane > 0])
    assert (filled[plane == 0] != colour[plane == 0]).any()


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_hidden_colours_become_those_around(mode: str) -> None:
    plane = disc(10000)
    colour = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    colour[plane > 0] = (200, 100, 40)
    image = Image.fromarray(colour).convert(mode)
    filled = fill_hidden(image, Image.fromarray(plane))
    assert filled.mode == mode
    [(_, shown)] = Image.new("RGB", (1, 1), (200, 100, 40)).convert(mode).getcolors() or []
    # Within what rounding of means adds up to.
    difference = np.asarray(filled, np.int16) - np.array(shown)
    assert np.abs(difference).max() <= 5


def test_hidden_colours_pass_smoothly_from_one_side_to_the_other() -> None:
    gray = np.full((1, 64), 99, np.uint8)
    gray[0, 0], gray[0, -1] = 0, 200
    plane = np.zeros((1, 64), np.uint8)
    plane[0, [0, -1]] = 255
    filled = np.asarray(fill_hidden(Image.fromarray(gray), Image.fromarray(plane)), np.int16)
    assert (filled[0, 0], filled[0, -1]) == (0, 200)
    steps = np.diff(filled[0])
    assert steps.min() >= 0
    assert steps.max() < 20


def test_nothing_to_see_is_one_colour() -> None:
    noise = Image.effect_noise((37, 5), 80).convert("RGB")
    filled = fill_hidden(noise, Image.new("L", noise.size, 0))
    assert filled.getcolors() is not None
    assert len(filled.getcolors() or []) == 1
    one = fill_hidden(Image.new("RGB", (1, 1), (1, 2, 3)), Image.new("L", (1, 1), 0))
    assert one.getpixel((0, 0)) == (1, 2, 3)


def test_opaque_pictures_are_left_alone() -> None:
    noise = Image.effect_noise((6, 5), 80)
    assert fill_hidden(noise, Image.new("L", noise.size, 1)) is noise
