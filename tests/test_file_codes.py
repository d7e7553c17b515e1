"""Training on codes as files have them."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import tiny_model
import torch

from vqzip import codec, encoding
from vqzip.codec import CodecModel
from vqzip.model import Model
from vqzip.quality import LEVELS
from vqzip.store import assemble
from vqzip.train.export import export
from vqzip.train.file_codes import FileEncoder
from vqzip.train.joint import Joint, JointConfig, pass_through, reconstruct

LEVEL = torch.tensor([2.3, 6.5])


@pytest.fixture
def trained() -> Model:
    return tiny_model.build()


@pytest.fixture
def files(trained: Model) -> CodecModel:
    return assemble(*export(trained))


def test_codes_are_those_of_the_encoder(trained: Model, files: CodecModel) -> None:
    image = tiny_model.pictures(2, 64, seed=3)
    encode = FileEncoder(trained)
    top, bottom = encode(image, encode.levels(LEVEL))
    pixels = (image * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    for i, level in enumerate((37, 104)):
        codes = encoding.analyse(files, pixels[i], level)
        for found, expected in ((top[i], codes.top), (bottom[i], codes.bottom)):
            assert len(found) == len(expected)
            for mine, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(mine.T.numpy(), other)


def test_levels_are_those_of_files_and_round_as_theirs(trained: Model, files: CodecModel) -> None:
    steps = files.bottom.steps
    found = FileEncoder(trained).levels(torch.arange(8 * steps + 1) / steps + 0.4 / steps)
    for k, level in enumerate(found.tolist()):
        assert round(level * steps) == k
        assert round(level) == files.bottom.trained_level(k)


def test_what_is_trained_is_what_qualities_use(trained: Model, files: CodecModel) -> None:
    steps = files.bottom.steps
    found = FileEncoder(trained).levels_of_qualities(torch.linspace(0, 8, 1001))
    positions = (found * steps).round().int().tolist()
    assert sorted(set(positions)) == LEVELS
    assert positions == sorted(positions)
    assert positions[0] == 0
    assert positions[-1] == 128
    assert max(map(positions.count, LEVELS)) - min(map(positions.count, LEVELS[1:-1])) <= 1
    for k, level in zip(positions, found.tolist(), strict=True):
        assert round(level) == files.bottom.trained_level(k)


def test_bits_are_those_of_the_stream(trained: Model, files: CodecModel) -> None:
    """Where frequencies do not learn, as the trained prior's do not."""
    image = tiny_model.pictures(1, 64, seed=3)
    level = torch.tensor([6.0])
    trained.config = replace(trained.config, adaptive=False)
    files = codec.fixed(files)
    with torch.no_grad():
        trained.prior.arithmetic.integer = True
        decoded, bpp = reconstruct(trained, image, level, FileEncoder(trained))
    pixels = (image[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    codes = encoding.analyse(files, pixels, 96)
    bits = sum(codec.cross_entropy(files, codes, 96))
    assert float(bpp) * 64 * 64 == pytest.approx(bits, rel=0.02)
    shown = codec.synthesise(files, codes, 64, 64, 96)
    difference = 255 * decoded[0].clamp(0, 1).permute(1, 2, 0).numpy() - shown
    assert np.abs(difference).max() < 4


def test_a_snapshot_is_kept_for_some_batches(trained: Model) -> None:
    image, level = tiny_model.pictures(1, 64, seed=3), torch.tensor([6.0])
    encode = FileEncoder(trained, every=2)
    first = encode(image, level)
    with torch.no_grad():
        trained.bottom_weight.mul_(1e-3)
    second, third = encode(image, level), encode(image, level)

    def used(codes: tuple[list[list[torch.Tensor]], ...]) -> list[int]:
        return [len(np.unique(c.numpy())) for c in codes[1][0]]

    assert used(first) == used(second)
    assert sum(used(third)) < sum(used(second))


def test_only_what_comes_after_the_codes_is_trained(trained: Model) -> None:
    image = tiny_model.pictures(2, 64, seed=3)
    before = copy.deepcopy(trained.state_dict())
    stage = Joint(trained, JointConfig(train_encoder=False, file_codes=True)).train()
    loss, _ = stage(image, LEVEL)
    loss.backward()
    moved = {name.split(".")[0] for name, p in trained.named_parameters() if p.grad is not None}
    assert moved == {"transform", "prior", "bottom_quantizer", "top_quantizer"}
    assert trained.transform.bottom_project.weight.grad is None
    after = trained.state_dict()
    for weight in ("top_weight", "bottom_weight"):
        assert torch.equal(after[weight], before[weight])
    book = "bottom_quantizer.codebooks.7.0.codewords"
    assert not torch.equal(after[book], before[book])


def test_without_it_codes_are_chosen_in_the_model(trained: Model) -> None:
    image, level = tiny_model.pictures(1, 64, seed=3), torch.tensor([6.0])
    with torch.no_grad():
        own, files = (
            pass_through(trained, image, level, encode).bottom.codes[0]
            for encode in (None, FileEncoder(trained))
        )
    same = [float((a == b).float().mean()) for a, b in zip(own, files, strict=True)]
    assert 0.5 < min(same) < 1
