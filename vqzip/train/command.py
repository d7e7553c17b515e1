"""`vqzip train`: the three stages one after the other, resumable, on one process or many."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import click
import torch
import torch.distributed as dist

from vqzip import store
from vqzip.errors import VqzError
from vqzip.model import Model, ModelConfig
from vqzip.train import codebooks, relaxed
from vqzip.train.data import batches, find_photos, split
from vqzip.train.export import export
from vqzip.train.joint import Joint
from vqzip.train.loop import PlanConfig, Progress, Training, is_first, save_atomically
from vqzip.train.presets import PRESETS, Preset
from vqzip.train.relaxed import Relaxed
from vqzip.train.validate import Validation


def _say(line: str) -> None:
    click.echo(line, err=True)


def train(folder: Path, out: Path, *, minutes: float, preset: str, seed: int) -> None:
    """Train a model on the photos below `folder` and write it to `out`.

    Checkpoints are kept in `out`, too: the same call resumes, and a larger `minutes` goes on with
    the joint stage.  Under `torchrun` the processes share the work.  Raises VqzError when there is
    nothing to train on.
    """
    if preset not in PRESETS:
        raise VqzError(f"unknown preset {preset}; there are {', '.join(PRESETS)}")
    recipe = PRESETS[preset]()
    photos, held_out = split(find_photos(folder), recipe.data.holdout)
    if not photos:
        raise VqzError("no pictures to train on", os.fspath(folder))
    out.mkdir(parents=True, exist_ok=True)
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("gloo")
    rank = dist.get_rank() if dist.is_initialized() else 0
    torch.manual_seed(seed + rank)
    torch.set_flush_denormal(True)  # far codewords' probabilities: a joint step takes 18 % less
    say = _say if is_first() else (lambda _: None)
    say(f"{len(photos)} photos to train on, {len(held_out)} held out")

    validation = Validation(held_out, recipe, out / "curve.tsv")
    model = _relaxed(photos, out, minutes * recipe.relaxed_share, recipe, seed, say, validation)
    model = _joint(model, photos, out, minutes, recipe, seed, say, validation)
    if is_first():
        name = store.save(*export(model), out)
        say(f"model {name.hex()} is in {out}")
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def _stream_seed(seed: int, step: int) -> int:
    """A new stream of crops after every resumption, and in every process."""
    rank = dist.get_rank() if dist.is_initialized() else 0
    return hash((seed, step, rank))


def _relaxed(
    photos: list[Path],
    out: Path,
    minutes: float,
    recipe: Preset,
    seed: int,
    say: Callable[[str], None],
    validation: Validation,
) -> Model:
    model = Model(recipe.model)
    if not (out / "relaxed.pt").exists():
        relaxed.calibrate(model, next(batches(photos, recipe.data, seed)))
        if dist.is_initialized():
            for tensor in model.state_dict().values():
                dist.broadcast(tensor, 0)
    plan = PlanConfig(minutes, recipe.decay, recipe.relaxed_floor)
    training = Training(Relaxed(model, recipe.relaxed), plan, recipe.relaxed_optim, out)
    if (out / "codebooks.pt").exists():
        return training.averaged_model()  # the next stage has begun
    stream = batches(photos, recipe.data, _stream_seed(seed, training.progress.step))

    def milestone(averaged: Model, progress: Progress) -> None:
        validation.relaxed(averaged, progress, say)

    return training.run(stream, say, milestone)


def _joint(
    model: Model,
    photos: list[Path],
    out: Path,
    minutes: float,
    recipe: Preset,
    seed: int,
    say: Callable[[str], None],
    validation: Validation,
) -> Model:
    start = out / "codebooks.pt"
    if not start.exists() and is_first():
        say("codebooks: fitting")
        codebooks.build(model, batches(photos, recipe.data, seed), recipe.codebooks)
        config = dataclasses.asdict(model.config)
        save_atomically({"config": config, "model": model.state_dict()}, start)
    if dist.is_initialized():
        dist.barrier()
    state = torch.load(start, weights_only=True)
    model = Model(ModelConfig.from_dict(state["config"]))
    model.load_state_dict(state["model"])
    spent = torch.load(out / "relaxed.pt", weights_only=True)["progress"]
    plan = PlanConfig(minutes - spent["seconds"] / 60, recipe.joint_decay)
    training = Training(Joint(model, recipe.joint), plan, recipe.joint_optim, out)
    stream = batches(photos, recipe.data, _stream_seed(seed, training.progress.step))

    def milestone(averaged: Model, progress: Progress) -> None:
        hours = (spent["seconds"] + progress.seconds) / 3600
        validation.joint(averaged, hours, spent["crops"] + progress.crops, say)

    return training.run(stream, say, milestone)
