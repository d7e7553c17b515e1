"""Training: all stages on a tiny model, resuming, and two processes."""

from __future__ import annotations

import csv
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import vqzip
from vqzip.model import Model
from vqzip.train.command import train
from vqzip.train.data import DataConfig, batches, find_photos, split
from vqzip.train.loop import PlanConfig, Progress, rate_fraction, stratified
from vqzip.train.optim import Muon, OptimConfig, orthogonalize
from vqzip.train.presets import PRESETS, Preset

MINUTES = 0.2


@pytest.fixture(scope="module")
def photos(photos: Path) -> Path:
    """The folder of pictures, and one of them broken."""
    (photos / "broken.jpg").write_bytes(b"not a picture")
    return photos


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a very short training."""
    out = tmp_path_factory.mktemp("trained")
    train(photos, out, minutes=MINUTES, preset="tiny", seed=0)
    return out


def test_trained_model_codes_pictures(trained: Path, photos: Path) -> None:
    data = vqzip.compress(photos / "00.png", 60, model=trained)
    image = vqzip.decompress(data, model=trained)
    assert image.size == (120, 90)
    original = np.asarray(Image.open(photos / "00.png").convert("RGB"), np.float64)
    error = np.square(np.asarray(image, np.float64) - original).mean()
    assert 10 * np.log10(255**2 / error) > 20


def test_training_leaves_the_smallest_numbers_as_they_were(trained: Path) -> None:
    assert (trained / "config.json").exists()
    assert float("5e-324") * 1.0 > 0  # computed, not by the compiler


def test_training_resumes_where_it_stopped(trained: Path, photos: Path) -> None:
    relaxed = (trained / "relaxed.pt").read_bytes()
    before = torch.load(trained / "joint.pt", weights_only=True)["progress"]
    assert before["step"] > 0
    spent = before["seconds"] + torch.load(trained / "codebooks.pt", weights_only=True)["seconds"]
    train(photos, trained, minutes=spent / 60 + 0.02, preset="tiny", seed=0)
    after = torch.load(trained / "joint.pt", weights_only=True)["progress"]
    assert after["step"] > before["step"]
    assert after["seconds"] > before["seconds"]
    assert (trained / "relaxed.pt").read_bytes() == relaxed


def test_two_processes_end_with_one_model(photos: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", "0", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    script = Path(__file__).with_name("distributed_training.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*command, os.fspath(script), os.fspath(photos), os.fspath(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_curve_has_rows_for_held_out_photos(photos: Path, tmp_path: Path) -> None:
    from vqzip.train.validate import Validation

    recipe = PRESETS["tiny"]()
    said: list[str] = []
    validation = Validation(find_photos(photos)[:3], recipe, tmp_path / "curve.tsv")
    model = Model(recipe.model).eval()
    validation.relaxed(model, Progress(seconds=1800, crops=12), said.append)
    with (tmp_path / "curve.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["quality"] for row in rows] == ["0.2", "0.5", "0.8"]
    assert {row["hours"] for row in rows} == {"0.500"}
    assert len(said) == 1


def test_held_out_photos_are_measured_whole(photos: Path, tmp_path: Path) -> None:
    from vqzip.train.validate import MULTIPLE, PHOTOS, Validation

    sizes: list[tuple[int, ...]] = []

    def measure(photo: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(tuple(photo.shape))
        return photo + 0.1 * (1 - 2 * photo), torch.tensor([0.25]) * (1 + level)

    many = [photo for photo in find_photos(photos) for _ in range(PHOTOS)][: 2 * PHOTOS]
    validation = Validation(many, PRESETS["tiny"](), tmp_path / "curve.tsv")
    assert len(validation.photos) == PHOTOS
    model = Model(PRESETS["tiny"]().model)
    validation._measure(model, measure, Progress(), "joint", lambda _: None)
    for photo, shape in zip(validation.photos, sizes[:PHOTOS], strict=True):
        with Image.open(photo) as image:
            width, height = (side // MULTIPLE * MULTIPLE for side in image.size)
        assert shape == (1, 3, height, width)
    with (tmp_path / "curve.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["bpp"] for row in rows] == ["0.3500", "0.5000", "0.6500"]


def test_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(vqzip.VqzError, match="no pictures to train on"):
        train(tmp_path, tmp_path / "out", minutes=1, preset="tiny", seed=0)
    assert not (tmp_path / "out").exists()


def test_unknown_preset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        vqzip.VqzError, match="unknown preset fast; there are photo, photo-more, photo-joint"
    ):
        train(tmp_path, tmp_path, minutes=1, preset="fast", seed=0)


def test_joint_stage_alone_needs_a_model(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(vqzip.VqzError, match="preset photo-joint goes on from a model"):
        train(photos, tmp_path / "out", minutes=1, preset="photo-joint", seed=0)
    assert not (tmp_path / "out").exists()


def test_only_broken_pictures_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    stream = batches([tmp_path / "a.png"], DataConfig(crop=64, batch=1), seed=0)
    assert next(stream, None) is None
    assert "skipped, unreadable (1)" in capfd.readouterr().err


def test_split_is_even_and_leaves_small_folders_whole() -> None:
    photos = [Path(f"{i:04}.jpg") for i in range(1000)]
    training, held = split(photos, 40)
    assert (len(training), len(held)) == (960, 40)
    assert held[:2] == [Path("0012.jpg"), Path("0037.jpg")]
    assert not set(training) & set(held)
    assert split(photos[:10], 40) == (photos[:10], [])


def test_rate_warms_up_stays_and_falls() -> None:
    plan, optim = PlanConfig(minutes=1, decay=0.5, floor=0.1), OptimConfig(warmup_steps=10)
    assert rate_fraction(plan, optim, 0, 0.0) == 0.1
    assert rate_fraction(plan, optim, 9, 0.3) == 1.0
    assert rate_fraction(plan, optim, 99, 0.75) == pytest.approx(0.55)
    assert rate_fraction(plan, optim, 99, 1.0) == pytest.approx(0.1)


def test_levels_of_a_batch_are_spread_evenly() -> None:
    levels = stratified(8)
    assert (levels * 8).floor().tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("share", [0.6, 0.0])
def test_training_goes_on_from_a_finished_model(
    trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    def preset() -> Preset:
        return dataclasses.replace(PRESETS["tiny"](), relaxed_share=share)

    monkeypatch.setitem(PRESETS, "again", preset)
    train(photos, tmp_path, minutes=0.02, preset="again", seed=0, start=trained)
    assert (tmp_path / "relaxed.pt").exists() == (share > 0)
    before = (trained / "curve.tsv").read_text().splitlines()
    after = (tmp_path / "curve.tsv").read_text().splitlines()
    assert after[: len(before)] == before
    last, now = (int(rows[-1].split("\t")[1]) for rows in (before, after))  # crops
    assert now > last
    image = vqzip.decompress(vqzip.compress(photos / "00.png", 60, tmp_path), tmp_path)
    assert image.size == (120, 90)


def test_orthogonalize_evens_singular_values() -> None:
    torch.manual_seed(0)
    for shape in ((32, 96), (96, 32)):
        values = torch.linalg.svdvals(orthogonalize(torch.randn(shape)))
        assert float(values.min()) > 0.6
        assert float(values.max()) < 1.3


def test_muon_step_has_the_size_of_adam() -> None:
    weight = torch.zeros(64, 32, 1, 1, requires_grad=True)
    torch.manual_seed(0)
    weight.grad = torch.randn_like(weight)
    Muon([weight], lr=0.01).step()
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.002, rel=0.2)
