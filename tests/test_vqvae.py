import pytest
import torch
import torch.nn.functional as F
from tiny_model import pictures
from torch import Tensor

from vqzip.layers import Ends, Graded, Modulation, Overlapping, at_level
from vqzip.vqvae import Transform, TransformConfig


@pytest.fixture(scope="module")
def transform() -> Transform:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Transform(TransformConfig()).eval().requires_grad_(requires_grad=False)


def latents(t: Transform, image: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Top latent, h, and bottom latent of an image whose latents are not quantized."""
    features = t.features(image, level)
    top = t.top_latent(features, level)
    h = t.decode_top(top, level)
    return top, h, t.bottom_latent(features, h, level)


def reconstruct(t: Transform, image: Tensor, level: Tensor) -> Tensor:
    _, h, bottom = latents(t, image, level)
    return t.decode(bottom, h, level)


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * (a - b).square().mean().log10())


TABLE = torch.tensor([[0.0, 10], [1, 20], [5, 40]])


@pytest.mark.parametrize(
    ("level", "row"),
    [(0.0, [0.0, 10]), (1.0, [1.0, 20]), (2.0, [5.0, 40]), (0.25, [0.25, 12.5]), (1.5, [3.0, 30])],
)
def test_at_level_interpolates_between_rows(level: float, row: list[float]) -> None:
    assert torch.equal(
        at_level(TABLE, torch.tensor([level])), torch.tensor(row)[None, :, None, None]
    )


def test_at_level_takes_a_level_for_each_sample() -> None:
    found = at_level(TABLE, torch.tensor([2.0, 0.5]))
    assert torch.equal(found[:, :, 0, 0], torch.tensor([[5.0, 40], [0.5, 15]]))


def test_lagrangian_doubles_with_every_level() -> None:
    config = TransformConfig(lowest_lambda=0.0005)
    found = config.lagrangian(torch.tensor([0.0, 1, 3, 0.5]))
    torch.testing.assert_close(found, torch.tensor([0.0005, 0.001, 0.004, 0.0005 * 2**0.5]))


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 48), (64, 32)])
def test_shapes(transform: Transform, height: int, width: int) -> None:
    image, level = torch.rand(2, 3, height, width), torch.tensor([0.0, 4.5])
    features = transform.features(image, level)
    top, h, bottom = latents(transform, image, level)
    assert features.shape == h.shape == (2, 192, height // 8, width // 8)
    assert top.shape == (2, 64, height // 16, width // 16)
    assert bottom.shape == (2, 64, height // 8, width // 8)
    assert transform.decode(bottom, h, level).shape == image.shape


def test_analysis_and_synthesis_start_as_each_others_inverse(transform: Transform) -> None:
    image = pictures(1, 64, seed=3)
    there = transform.analysis(F.pad(image, (4, 4, 4, 4)))
    back = transform.synthesis(there, torch.zeros(1))[:, :, 4:-4, 4:-4]
    inside = (..., slice(4, -4), slice(4, -4))  # the outermost blocks have no neighbours
    torch.testing.assert_close(back[inside], image[inside], rtol=0, atol=1e-5)


def test_untrained_transform_reconstructs(transform: Transform) -> None:
    image = pictures(2, 64, seed=3)
    assert psnr(reconstruct(transform, image, torch.tensor([0.0, 8])), image) > 30


def test_reconstruction_from_unquantized_latents_is_the_same_at_all_levels(
    transform: Transform,
) -> None:
    image = pictures(1, 48, seed=4).expand(4, -1, -1, -1)
    out = reconstruct(transform, image, torch.tensor([0.0, 2.5, 7.25, 8]))
    torch.testing.assert_close(out[1:], out[:1].expand(3, -1, -1, -1), rtol=0, atol=1e-4)


def test_latents_double_in_size_with_every_second_level(transform: Transform) -> None:
    image = pictures(1, 32, seed=5).expand(3, -1, -1, -1)
    for latent in latents(transform, image, torch.tensor([3.0, 5, 4]))[::2]:
        torch.testing.assert_close(latent[1], 2 * latent[0], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(latent[2], 2**0.5 * latent[0], rtol=1e-3, atol=1e-4)


def test_both_maps_carry_the_picture(transform: Transform) -> None:
    image, level = pictures(1, 64, seed=6), torch.tensor([4.0])
    _, h, bottom = latents(transform, image, level)
    whole = psnr(transform.decode(bottom, h, level), image)
    top_alone = psnr(transform.decode(torch.zeros_like(bottom), h, level), image)
    bottom_alone = psnr(transform.decode(bottom, torch.zeros_like(h), level), image)
    assert bottom_alone < 20 < top_alone < whole - 5


def test_flat_pictures_excite_mean_colours_alone(transform: Transform) -> None:
    analysed = transform.analysis(torch.tensor([0.9, 0.2, 0.4])[:, None, None].expand(1, 3, 32, 48))
    colours = [0, 3, 4]
    rest = [i for i in range(192) if i not in colours]
    assert analysed[:, rest].abs().max() < 1e-5
    assert analysed[:, colours].abs().amax((2, 3)).min() > 0.01


def test_edges_are_padded_by_replication(transform: Transform) -> None:
    """The features of a picture do not change where it is continued by its own edge."""
    image, level = pictures(1, 32, seed=7), torch.tensor([4.0])
    more = F.pad(image, (0, 16, 0, 16), mode="replicate")
    plain = Transform(TransformConfig(encoder_blocks=0)).eval()
    with torch.no_grad():
        features = plain.features(image, level)
        continued = plain.features(more, level)[:, :, :4, :4]
    torch.testing.assert_close(continued, features, rtol=0, atol=1e-5)


def test_the_synthesis_is_a_transposed_convolution() -> None:
    torch.manual_seed(0)
    overlapping = Overlapping(3, 2, 4).double()
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    expected = F.conv_transpose2d(x, overlapping.weight, overlapping.bias, stride=4)
    torch.testing.assert_close(overlapping(x, torch.zeros(2)), expected)


def test_with_a_frozen_encoder_only_the_decoder_changes() -> None:
    t = Transform(TransformConfig(encoder_blocks=1, decoder_blocks=1))
    image, level = pictures(1, 32, seed=8), torch.tensor([4.5])
    with torch.no_grad():
        before = latents(t, image, level)
        decoded = t.decode(before[2], before[1], level)
    t.freeze_encoder()
    trained = [parameter for parameter in t.parameters() if parameter.requires_grad]
    loss = t.decode(before[2], before[1], level).square().sum()
    assert all(slope.any() for slope in torch.autograd.grad(loss, trained))
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(0.01)
        for a, b in zip(latents(t, image, level), before, strict=True):
            assert torch.equal(a, b)
        assert not torch.equal(t.decode(before[2], before[1], level), decoded)


def test_the_bottom_latent_learns_and_what_decodes_the_top_map_but_not_the_top_latent() -> None:
    t = Transform(TransformConfig(encoder_blocks=1, top_blocks=1, decoder_blocks=1))
    t.freeze_encoder(bottom=False)
    trained = {name.partition(".")[0] for name, p in t.named_parameters() if p.requires_grad}
    assert {"top_embed", "top_decoder", "top_up", "bottom_merge", "bottom_project"} <= trained
    fixed = {"analysis", "encoder", "encoder_scale", "top_down", "top_encoder", "top_project"}
    assert not (fixed | {"top_gain", "bottom_gain"}) & trained


def test_modulation_is_of_the_level_alone() -> None:
    modulation = Modulation(levels=3, channels=2)
    x = torch.ones(2, 2, 1, 1) * torch.tensor([10.0, 1000])[None, :, None, None]
    assert torch.equal(modulation(x, torch.tensor([0.0, 2])), x), "it starts as nothing"
    with torch.no_grad():
        modulation.scale[:] = torch.tensor([[0.0, 1], [1, 2], [3, 5]])
        modulation.offset[:] = torch.tensor([[4.0, 0], [8, 0], [16, 7]])
    found = modulation(x, torch.tensor([0.5, 2]))[:, :, 0, 0]
    assert found.tolist() == [[10 * 1.5 + 6, 1000 * 2.5], [10 * 4 + 16, 1000 * 6 + 7]]
    assert list(Modulation(levels=0, channels=2).parameters()) == []


def test_all_that_is_modulated_has_a_say() -> None:
    config = TransformConfig(decoder_blocks=1, refine_width=8, modulated=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        t = Transform(config)
        image, level = pictures(1, 32, seed=3), torch.tensor([3.5])
        assert t.refine is not None
        torch.nn.init.normal_(t.refine.residual.weight, std=0.1)
        energy = reconstruct(t, image, level).square().sum()
    tables = {name: x for name, x in t.named_parameters() if "modulation" in name}
    assert list(tables) == [
        f"{part}.modulation.{table}"
        for part in ("decoder.0", "refine")
        for table in ("scale", "offset")
    ]
    for slope in torch.autograd.grad(energy, list(tables.values())):
        assert slope.abs().sum(1).bool().tolist() == [x in (3, 4) for x in range(9)]


def test_graded_weights_go_from_the_middle_to_the_ends() -> None:
    weight = torch.tensor([1.0, 2])
    ends = Ends(weight, levels=5)
    assert torch.equal(ends.at(weight, torch.tensor(0.0)), weight), "it starts as nothing"
    with torch.no_grad():
        ends.low[:] = torch.tensor([10.0, 20])
        ends.high[:] = torch.tensor([100.0, 400])
    found = [ends.at(weight, torch.tensor(level)).tolist() for level in (0.0, 1.5, 2, 3, 4)]
    assert found == [[11, 22], [3.5, 7], [1, 2], [51, 202], [101, 402]]
    assert list(Ends(weight, levels=0).parameters()) == []


def test_samples_of_different_levels_are_as_each_alone() -> None:
    layers = Graded(3, 4, 3, levels=9), Overlapping(3, 2, 4, levels=9)
    x, level = torch.randn(3, 3, 6, 5), torch.tensor([0.5, 4, 7])
    for layer in layers:
        for end in layer.ends.parameters():
            torch.nn.init.normal_(end)
        alone = [layer(x[i : i + 1], level[i : i + 1]) for i in range(3)]
        torch.testing.assert_close(layer(x, level), torch.cat(alone))
        together = layer(x, level[:1].expand(3))
        torch.testing.assert_close(together[:1], alone[0])
        assert not torch.allclose(together[1], alone[1])


def test_all_that_is_graded_has_a_say() -> None:
    config = TransformConfig(decoder_blocks=1, refine_width=8, graded=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        t = Transform(config)
        assert t.refine is not None
        torch.nn.init.normal_(t.refine.residual.weight, std=0.1)
    image = pictures(1, 32, seed=3)
    parts = [
        *("decoder_merge", "synthesis"),
        *(f"decoder.0.{layer}" for layer in ("reduce", "mix", "expand")),
        *(f"refine.{layer}" for layer in ("finer", "mix", "residual")),
    ]
    ends = {name: x for name, x in t.named_parameters() if ".ends." in name}
    assert set(ends) == {f"{part}.ends.{end}" for part in parts for end in ("low", "high")}
    for at, said in ((3.0, "low"), (6.0, "high")):
        energy = reconstruct(t, image, torch.tensor([at])).square().sum()
        slopes = torch.autograd.grad(energy, list(ends.values()), allow_unused=True)
        for name, slope in zip(ends, slopes, strict=True):
            assert (slope is not None and bool(slope.any())) == name.endswith(said), (name, at)
