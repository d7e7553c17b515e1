import profiles
import pytest
from PIL import Image, ImageCms

from vqzip.colour import Colours, to_eight_bit, to_srgb
from vqzip.errors import VqzError

ORANGE, GREENISH = (200, 100, 40), (100, 200, 40)


def one(mode: str, value: object) -> Image.Image:
    return Image.new(mode, (1, 1), value)  # type: ignore[arg-type]


def brought(image: Image.Image, profile: bytes | None = None, *, strip: bool = False) -> Colours:
    return to_eight_bit(image, profile, strip=strip)


def pixel(image: Image.Image | None) -> object:
    assert image is not None
    return image.getpixel((0, 0))


@pytest.mark.parametrize(
    ("mode", "value", "result", "alpha"),
    [
        ("1", 1, 255, None),
        ("L", 7, 7, None),
        ("LA", (7, 9), 7, 9),
        ("La", (4, 128), 7, 128),  # premultiplied, Pillow rounds down
        ("RGB", ORANGE, ORANGE, None),
        ("RGBA", (*ORANGE, 0), ORANGE, 0),
        ("RGBA", (*ORANGE, 255), ORANGE, None),
        ("RGBa", (100, 50, 20, 128), (199, 99, 39), 128),
        ("RGBX", (*ORANGE, 3), ORANGE, None),
    ],
)
def test_modes_that_lose_nothing(mode: str, value: object, result: object, alpha: object) -> None:
    colours = brought(one(mode, value))
    assert colours.image.mode == ("RGB" if isinstance(result, tuple) else "L")
    assert pixel(colours.image) == result
    assert (colours.alpha and pixel(colours.alpha)) == alpha
    assert (colours.profile, colours.losses) == (None, ())


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB", "HSV"])
def test_other_colour_spaces(mode: str) -> None:
    if mode == "LAB":
        image = ImageCms.profileToProfile(
            one("RGB", ORANGE),
            ImageCms.createProfile("sRGB"),
            ImageCms.createProfile("LAB"),
            outputMode="LAB",
        )
        assert image is not None
    else:
        image = one("RGB", ORANGE).convert(mode)
    colours = brought(image)
    found = pixel(colours.image)
    assert isinstance(found, tuple)
    assert all(abs(a - b) <= 5 for a, b in zip(found, ORANGE, strict=True))
    assert colours.losses == (f"{mode} converted to RGB",)


def test_palettes() -> None:
    image = one("RGB", ORANGE).convert("P")
    assert pixel(brought(image).image) == pixel(image.convert("RGB"))
    assert brought(image).alpha is None
    image.info["transparency"] = image.getpixel((0, 0))
    colours = brought(image)
    assert pixel(colours.alpha) == 0
    assert colours.losses == ("palette converted to RGB",)
    with_alpha = one("RGBA", (*ORANGE, 77)).convert("PA")
    assert pixel(brought(with_alpha).alpha) == 77


@pytest.mark.parametrize(
    ("mode", "key"), [("L", 7), ("RGB", ORANGE), ("1", 0), ("I;16", 7), ("I", 7)]
)
def test_transparent_colour(mode: str, key: object) -> None:
    image = Image.new(mode, (2, 1), key)  # type: ignore[arg-type]
    image.putpixel((1, 0), (1, 2, 3) if mode == "RGB" else 255)
    assert brought(image).alpha is None
    image.info["transparency"] = key
    alpha = brought(image).alpha
    assert alpha is not None
    assert (alpha.getpixel((0, 0)), alpha.getpixel((1, 0))) == (0, 255)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_16_bit_is_rounded(mode: str) -> None:
    values = [0, 128, 129, 257, 65535 - 129, 65535 - 128, 65535]
    image = Image.new(mode, (len(values), 1))
    for x, value in enumerate(values):
        image.putpixel((x, 0), value)
    colours = brought(image)
    assert list(colours.image.tobytes()) == [0, 0, 1, 1, 254, 255, 255]
    assert colours.losses == ("16-bit depth reduced to 8 bit",)


@pytest.mark.parametrize(
    ("mode", "values", "result", "loss"),
    [
        ("F", (0.0, 0.5, 1.0), (0, 128, 255), "floating-point pixels from 0 to 1"),
        ("F", (0.25, 0.25, 0.25), (64, 64, 64), "floating-point pixels from 0 to 1"),
        ("F", (0.0, 7.4, 200.0), (0, 7, 200), "floating-point pixels from 0 to 255"),
        ("F", (0.0, 257.0, 514.0), (0, 1, 2), "floating-point pixels from 0 to 65535"),
        ("F", (-1.0, 0.0, 1.0), (0, 128, 255), "floating-point pixels from -1 to 1"),
        ("F", (0.0, 1e30, 2e30), (0, 128, 255), "floating-point pixels from 0 to 2e+30"),
        ("F", (-5.0, -5.0, -5.0), (0, 0, 0), "floating-point pixels from -5 to -5"),
        ("I", (-1, 1, 2), (0, 170, 255), "32-bit pixels from -1 to 2"),
        ("I", (0, 35000, 70000), (0, 128, 255), "32-bit pixels from 0 to 70000"),
    ],
)
def test_numbers_are_scaled(
    mode: str, values: tuple[float, ...], result: tuple[int, ...], loss: str
) -> None:
    image = Image.new(mode, (3, 1))
    for x, value in enumerate(values):
        image.putpixel((x, 0), value)
    colours = brought(image)
    assert tuple(colours.image.tobytes()) == result
    assert colours.losses == (f"{loss} scaled to 8 bit",)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(VqzError, match=r"^some pixels are not finite numbers$"):
        brought(one("F", value))


def test_srgb_profiles_are_all_the_same() -> None:
    made_now = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert made_now != profiles.SRGB  # it has a date
    for profile in (made_now, profiles.SRGB):
        assert brought(one("RGB", ORANGE), profile).profile == profiles.SRGB
        stripped = brought(one("RGB", ORANGE), profile, strip=True)
        assert (stripped.profile, stripped.losses) == (None, ())
        gray = brought(one("L", 7), profile)
        assert (gray.profile, gray.losses) == (None, ())


def test_other_profiles_stay_and_colours_with_them() -> None:
    colours = brought(one("RGB", ORANGE), profiles.red_is_green())
    assert (pixel(colours.image), colours.losses) == (ORANGE, ())
    assert colours.profile == profiles.red_is_green()
    colours = brought(one("L", 0), profiles.inverse_gray())
    assert (pixel(colours.image), colours.losses) == (0, ())
    assert colours.profile == profiles.inverse_gray()


def test_strip_converts_to_srgb() -> None:
    colours = brought(one("RGBA", (*ORANGE, 9)), profiles.red_is_green(), strip=True)
    assert (pixel(colours.image), pixel(colours.alpha)) == (GREENISH, 9)
    assert (colours.profile, colours.losses) == (None, ("colours converted to sRGB",))
    colours = brought(one("L", 0), profiles.inverse_gray(), strip=True)
    assert (colours.image.mode, pixel(colours.image)) == ("L", 255)


def test_strip_keeps_a_profile_that_cannot_be_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ImportError("no LittleCMS")

    monkeypatch.setattr(ImageCms, "profileToProfile", fail)
    colours = brought(one("RGB", ORANGE), profiles.red_is_green(), strip=True)
    assert (pixel(colours.image), colours.profile) == (ORANGE, profiles.red_is_green())
    assert colours.losses == ("ICC profile kept, as its colours cannot be converted to sRGB",)


def test_cmyk_with_a_profile() -> None:
    ink = one("CMYK", (255, 128, 0, 0))
    assert pixel(brought(ink).image) != (255, 255, 255)
    for strip, profile in ((False, profiles.SRGB), (True, None)):
        colours = brought(ink, profiles.black_only_cmyk(), strip=strip)
        assert (pixel(colours.image), colours.profile) == ((255, 255, 255), profile)
        assert colours.losses == ("CMYK converted to sRGB",)
    black = brought(one("CMYK", (0, 0, 0, 255)), profiles.black_only_cmyk())
    assert pixel(black.image) == (0, 0, 0)


@pytest.mark.parametrize(
    ("mode", "profile", "losses"),
    [
        ("RGB", b"profile", ["broken ICC profile dropped"]),
        ("RGB", profiles.inverse_gray(), ["ICC profile for GRAY pixels dropped"]),
        ("L", profiles.red_is_green(), ["ICC profile for RGB pixels dropped"]),
        ("CMYK", profiles.red_is_green(), ["CMYK converted to RGB", "ICC profile dropped"]),
        (
            "CMYK",
            profiles.black_only_cmyk()[:200],
            ["CMYK converted to RGB", "ICC profile dropped"],
        ),
    ],
)
def test_profiles_of_no_use(mode: str, profile: bytes, losses: list[str]) -> None:
    for strip in (False, True):
        colours = brought(Image.new(mode, (1, 1)), profile, strip=strip)
        assert colours.profile is None
        assert list(colours.losses) == losses


def test_to_srgb_keeps_mode_and_alpha() -> None:
    swap, invert = profiles.red_is_green(), profiles.inverse_gray()
    assert pixel(to_srgb(one("RGB", ORANGE), swap)) == GREENISH
    assert pixel(to_srgb(one("RGBA", (*ORANGE, 5)), swap)) == (*GREENISH, 5)
    assert pixel(to_srgb(one("LA", (255, 5)), invert)) == (0, 5)
    assert to_srgb(one("RGB", ORANGE), b"profile") is None
    assert to_srgb(one("RGBA", ORANGE), invert) is None
