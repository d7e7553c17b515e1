"""The rungs of the ladder: k-means, plain VQ-VAEs, and priors for codes that stay."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import vqzip
from vqzip import codec, encoding, store
from vqzip.model import Model
from vqzip.quantizer import Codebook, Quantizer, QuantizerConfig
from vqzip.train import ladder, rungs
from vqzip.train.command import train
from vqzip.train.data import DataConfig
from vqzip.train.export import export
from vqzip.train.kmeans import kmeans, lloyd, nearest, seeds
from vqzip.train.prior_stage import bits, code, start_at_frequencies
from vqzip.train.rungs import RUNGS, KmeansConfig, Rung
from vqzip.train.vq import PlainVq, VqConfig, pass_through, quantize, revive
from vqzip.vqvae import Transform

SMALL = DataConfig(crop=64, batch=2, crops_per_photo=2, pool=4, holdout=4)
CORNERS = torch.tensor([[0.0, 0], [8, 0], [0, 8], [8, 8]])


def small(rung: Rung, **changes: object) -> Rung:
    """A rung with codebooks of eight codewords that trains on a few small crops."""
    model = rung.model
    quantizers = {}
    for name in ("top_quantizer", "bottom_quantizer"):
        config = getattr(model, name)
        groups = tuple(tuple((d, min(k, 8)) for d, k in level) for level in config.groups)
        quantizers[name] = dataclasses.replace(config, groups=groups)
    model = dataclasses.replace(model, **quantizers)
    return dataclasses.replace(rung, model=model, data=SMALL, **changes)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def few_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "COUNTED", 2)


def test_nearest_centre() -> None:
    points = torch.tensor([[1.0, 1], [7, 2], [3, 9], [5, 5]])
    assert nearest(points, CORNERS).tolist() == [0, 1, 2, 3]


def test_seeds_are_spread() -> None:
    torch.manual_seed(0)
    points = CORNERS.repeat_interleave(100, 0)
    assert sorted(seeds(points, 4).tolist()) == sorted(CORNERS.tolist())
    first = torch.tensor([[8.0, 8], [0, 0]])
    found = seeds(points, 4, first)
    assert torch.equal(found[:2], first)
    assert sorted(found.tolist()) == sorted(CORNERS.tolist())


def test_more_seeds_than_points() -> None:
    torch.manual_seed(0)
    assert len(seeds(CORNERS, 6)) == 6


def test_lloyd_moves_centres_to_means() -> None:
    points = torch.tensor([[0.0], [2], [10], [20]])
    centres = torch.tensor([[1.0], [11], [99]])
    assert lloyd(points, centres).tolist() == [[1], [15], [99]]


def test_kmeans_finds_clusters() -> None:
    torch.manual_seed(0)
    offsets = torch.tensor([[-1.0, 0], [1, 0], [0, 1], [0, -1]])
    points = (CORNERS[:, None] + offsets).reshape(-1, 2)
    assert sorted(kmeans(points, 4).tolist()) == sorted(CORNERS.tolist())


def test_single_pixels_go_from_coarse_to_fine() -> None:
    order = ladder.block_order(1)
    assert len(set(order)) == 64
    assert order[:4] == [(0, 0), (0, 4), (4, 0), (4, 4)]
    assert all(y % 2 == x % 2 == 0 for y, x in order[:16])


@pytest.mark.parametrize("side", [1, 4])
def test_latents_are_pixels(side: int) -> None:
    torch.manual_seed(0)
    t = Transform(rungs.blocks().model.transform)
    ladder.look_at_pixels(t, side)
    image, level = torch.rand(2, 3, 32, 48), torch.zeros(2)
    features = t.features(image, level)
    h = t.decode_top(t.top_latent(features, level), level)
    assert not h.any()
    latent = t.bottom_latent(features, h, level)
    torch.testing.assert_close(t.decode(latent, h, level), image)
    y, x = ladder.block_order(side)[5]
    pixel = image[:, :, y::8, x::8]
    torch.testing.assert_close(latent[:, 15:18], (pixel - 0.5) * 8, rtol=1e-3, atol=1e-4)


def _book(words: Tensor) -> Quantizer:
    """One codebook (K, d) for a slice of d channels."""
    quantizer = Quantizer(QuantizerConfig((words.shape[1],), (((words.shape[1], len(words)),),)))
    quantizer.at(0)[0].place(words[None])
    return quantizer


def test_gradient_goes_straight_through() -> None:
    quantizer = _book(CORNERS)
    latent = torch.tensor([[1.0, 7, 3], [1, 2, 9]])[None, :, :, None].requires_grad_()
    found = quantize(quantizer, latent)
    assert found.codes[0].tolist() == [[0, 1, 2]]
    assert found.through[0, :, :, 0].tolist() == [[0, 8, 0], [0, 0, 8]]
    (found.through * torch.tensor([2.0, -3])[:, None, None]).sum().backward()  # type: ignore[no-untyped-call]
    assert latent.grad is not None
    assert latent.grad[0, :, :, 0].tolist() == [[2, 2, 2], [-3, -3, -3]]


def test_codewords_learn_by_gradient_or_by_averages() -> None:
    """In a step a codeword that is used once goes to or towards the latent that used it."""
    for by_gradient in (True, False):
        torch.manual_seed(0)
        rung = small(rungs.one_level())
        model = Model(rung.model)
        for book in model.bottom_quantizer.at(0):
            book.codewords.normal_()
            book.count.fill_(1)
            book.total.copy_(book.codewords)
        before = model.bottom_quantizer.at(0)[0].codewords.clone()
        config = VqConfig(by_gradient=by_gradient, revive=False)
        stage = PlainVq(model, config).train()
        image = torch.rand(1, 3, 16, 16)
        with torch.no_grad():
            found = pass_through(model, image).bottom
        loss, _ = stage(image, torch.zeros(1))
        loss.backward()
        book = model.bottom_quantizer.at(0)[0]
        uses, sums = book.statistics(found.latent[:16], found.codes[0])
        if by_gradient:
            assert isinstance(book.codewords, nn.Parameter)
            slope = 2 * (uses[..., None] * before - sums) / image.numel() / config.variance
            torch.testing.assert_close(book.codewords.grad, slope)
            assert torch.equal(book.codewords, before)
        else:
            assert not isinstance(book.codewords, nn.Parameter)
            count = 0.99 + 0.01 * uses
            expected = (0.99 * before + 0.01 * sums) / count[..., None]
            torch.testing.assert_close(book.codewords, expected)


def test_unused_codewords_are_revived() -> None:
    book = Codebook(1, 4, 2)
    book.place(CORNERS[None])
    book.count.copy_(torch.tensor([[5.0, 0.1, 3, 0.5]]))
    assert revive(book, torch.tensor([[6.0, 6, 6], [7, 7, 7]]), 0.5) == 1
    assert book.codewords[0].tolist() == [[0, 0], [6, 7], [0, 8], [8, 8]]
    assert book.count[0].tolist() == pytest.approx([5, 1, 3, 0.5])
    assert book.total[0, 1].tolist() == [6, 7]


def test_fixed_rate_is_nine_bits_a_code(tmp_path: Path) -> None:
    torch.manual_seed(0)
    rung = rungs.two_levels()
    model = Model(rung.model)
    for quantizer in (model.top_quantizer, model.bottom_quantizer):
        for book in quantizer.at(0):
            book.codewords.normal_()
    with torch.no_grad():
        ladder._code(model, rung, iter([]))
    store.save(*export(model), tmp_path)
    loaded = store.load_model(tmp_path)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (64, 48, 3), np.uint8)
    codes = encoding.analyse(loaded, pixels, 0)
    assert codec.cross_entropy(loaded, codes, 0) == pytest.approx((12 * 36, 48 * 36), rel=1e-5)
    stream = codec.pack(loaded, codes, 0)
    assert len(stream) == 4 * -(-60 * 36 // 32)
    assert codec.unpack(loaded, stream, 48, 64, 0).bottom[3].tolist() == codes.bottom[3].tolist()


def test_prior_starts_at_static_frequencies() -> None:
    torch.manual_seed(0)
    rung = small(rungs.two_levels_prior())
    model = Model(rung.model)
    t, prior = model.transform, model.prior
    frequencies = torch.tensor([100.0, 50, 20, 10, 5, 5, 5, 5])
    for quantizer, cnn, gain in (
        (model.top_quantizer, prior.top, t.top_gain),
        (model.bottom_quantizer, prior.bottom, t.bottom_gain),
    ):
        for book in quantizer.at(0):
            book.codewords.normal_()
            book.count.copy_(frequencies.expand_as(book.count))
        start_at_frequencies(quantizer, cnn, gain)
    image, level = torch.rand(1, 3, 32, 32), torch.zeros(1)
    with torch.no_grad():
        _, found = bits(model, code(model, image, level), level)
        codes = pass_through(model, image).bottom.codes
    shares = (frequencies + 0.5) / (frequencies + 0.5).sum()
    expected = -sum(float(shares.log2()[c].sum()) for c in codes)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_kmeans_model(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = KmeansConfig(sizes=(4, 16, 64), blocks=1000)
    rung = dataclasses.replace(rungs._kmeans(config, (48,) * 4), data=SMALL)
    monkeypatch.setitem(RUNGS, "kmeans", lambda: rung)
    train(photos, tmp_path, minutes=1, preset="kmeans", seed=0)
    errors, sizes = [], []
    original = np.asarray(Image.open(photos / "00.png"), np.float64)
    for quality in (1, 50, 100):
        data = vqzip.compress(photos / "00.png", quality, model=tmp_path)
        image = np.asarray(vqzip.decompress(data, model=tmp_path), np.float64)
        errors.append(np.square(image - original).mean())
        sizes.append(len(data))
    assert errors == sorted(errors, reverse=True)
    assert sizes == sorted(sizes)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) <= 64 * 16  # of 64 blocks of 16 pixels


@pytest.mark.parametrize("name", ["vqvae-loss", "vqvae2"])
def test_training_a_network_and_its_prior(
    name: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung = small(RUNGS[name](), vq=VqConfig(name == "vqvae-loss", start_batches=1))
    monkeypatch.setitem(RUNGS, name, lambda: rung)
    out = tmp_path / "out"
    train(photos, out, minutes=0.01, preset=name, seed=0)
    first = torch.load(out / "vq.pt", weights_only=True)["progress"]
    assert first["step"] > 0
    train(photos, out, minutes=first["seconds"] / 60 + 0.01, preset=name, seed=0)
    assert torch.load(out / "vq.pt", weights_only=True)["progress"]["step"] > first["step"]
    loaded = store.load_model(out)
    pixels = np.asarray(Image.open(photos / "00.png"))
    stream = encoding.encode(loaded, pixels, 64)
    assert encoding.encode(loaded, pixels, 0) == stream
    decoded = codec.decode(loaded, stream, 120, 90, 64)
    assert np.square(decoded.astype(np.float64) - pixels).mean() < pixels.var() / 2
    if name != "vqvae2":
        return

    prior = small(rungs.two_levels_prior())
    monkeypatch.setitem(RUNGS, "vqvae2-prior", lambda: prior)
    train(photos, tmp_path / "prior", minutes=0.01, preset="vqvae2-prior", seed=0, start=out)
    better = store.load_model(tmp_path / "prior")
    codes, again = (encoding.analyse(model, pixels, 64) for model in (loaded, better))
    for one, other in zip(codes.top + codes.bottom, again.top + again.bottom, strict=True):
        assert one.tolist() == other.tolist()
    stream = codec.pack(better, again, 64)
    assert codec.decode(better, stream, 120, 90, 64).tolist() == decoded.tolist()


def test_prior_needs_the_model_before(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(vqzip.VqzError, match="preset vqvae2-prior goes on from a model"):
        train(photos, tmp_path, minutes=1, preset="vqvae2-prior", seed=0)
    photo = store.models_folder() / store.DEFAULT
    with pytest.raises(vqzip.VqzError, match="photo: not a model of "):
        train(photos, tmp_path, minutes=1, preset="vqvae2-prior", seed=0, start=photo)
