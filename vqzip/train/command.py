"""`vqzip train`: all stages of a preset, resumable, on one process or many."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import torch
import torch.distributed as dist

from vqzip import store
from vqzip.errors import VqzError
from vqzip.model import Model
from vqzip.train import codebooks, ladder, relaxed
from vqzip.train.calibrate import calibrate
from vqzip.train.data import batches, find_photos, split
from vqzip.train.export import export
from vqzip.train.file_codes import FileEncoder
from vqzip.train.filters import learn_filters
from vqzip.train.grow import grow
from vqzip.train.joint import Joint
from vqzip.train.loop import PlanConfig, Progress, Stage, Training, is_first, process
from vqzip.train.precision import mix_precision
from vqzip.train.presets import PRESETS, Preset
from vqzip.train.relaxed import Relaxed
from vqzip.train.restore import restore
from vqzip.train.rungs import RUNGS, Rung
from vqzip.train.settle import settle
from vqzip.train.start import load_start, save_start
from vqzip.train.thin import count_uses, thin
from vqzip.train.validate import Validation


@dataclass
class Run:
    """What all stages of one training share."""

    recipe: Preset
    photos: list[Path]
    out: Path
    minutes: float
    seed: int
    start: Path | None
    """A finished model to go on from."""
    validation: Validation

    def say(self, line: str) -> None:
        """Tell how it goes, once however many processes there are."""
        if is_first():
            click.echo(line, err=True)

    def train(self, stage: Stage, training: Training, before: Progress) -> Model:
        """One stage to its end; `before` is what earlier stages took."""
        measure = self.validation.of(stage.name)

        def milestone(averaged: Model, progress: Progress) -> None:
            seconds = before.seconds + progress.seconds
            crops = before.crops + progress.crops
            measure(averaged, Progress(seconds=seconds, crops=crops), self.say)

        # A new stream of crops after every resumption, and in every process.
        rank, processes = process()
        seed = hash((self.seed, training.progress.step, rank))
        data = dataclasses.replace(self.recipe.data, batch=self.recipe.data.batch // processes)
        return training.run(batches(self.photos, data, seed), self.say, milestone)


def train(
    folder: Path, out: Path, *, minutes: float, preset: str, seed: int, start: Path | None = None
) -> None:
    """Train a model on the photos below `folder` and write it to `out`.

    Checkpoints are kept in `out`, too: the same call resumes, and a larger `minutes` goes on with
    the joint stage.  `start` is a model to go on from; presets without a relaxed stage need one.
    Under `torchrun` the processes share the work.  Raises VqzError when there is nothing to train
    on or from.
    """
    presets = PRESETS | RUNGS
    if preset not in presets:
        raise VqzError(f"unknown preset {preset}; there are {', '.join(presets)}")
    recipe = presets[preset]()
    if start is None and recipe.needs_start:
        raise VqzError(f"preset {preset} goes on from a model; none is named by --from")
    photos, held_out = split(find_photos(folder), recipe.data.holdout)
    if not photos:
        raise VqzError("no pictures to train on", os.fspath(folder))
    out.mkdir(parents=True, exist_ok=True)
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("gloo")
    rank, processes = process()
    if recipe.data.batch % processes:
        raise VqzError(f"{processes} processes cannot share batches of {recipe.data.batch}")
    torch.manual_seed(seed + rank)
    before = None if start is None else start / "curve.tsv"
    validation = Validation(held_out, recipe, out / "curve.tsv", before)
    run = Run(recipe, photos, out, minutes, seed, start, validation)
    run.say(f"{len(photos)} photos to train on, {len(held_out)} held out")

    with _denormals_flushed():
        model = ladder.climb(run, recipe) if isinstance(recipe, Rung) else _three_stages(run)
    name = _finish(run, model)
    run.say(f"model {name.hex()} is in {out}")
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def _finish(run: Run, model: Model) -> bytes:
    """Write the model, and again with what its own files tell; returns its fingerprint."""
    tensors, config = export(model)
    if is_first():
        store.save(tensors, config, run.out)
    if dist.is_initialized():
        dist.barrier()
    codec_model = store.load_model(run.out)
    if isinstance(run.recipe, Rung):
        return codec_model.fingerprint
    found = calibrate(codec_model, run.photos, run.recipe.calibrate, run.say)
    for which, weight in zip(("top", "bottom"), found, strict=True):
        tensors[f"{which}.weight"] = weight
    if not is_first():
        return codec_model.fingerprint
    better = store.assemble(tensors, config)
    tensors |= learn_filters(better, run.photos, run.recipe.filters, run.say)
    return store.save(tensors, config, run.out)


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Without the smallest numbers, the probabilities of far codewords, a step takes 18 % less.

    All of the process is without them, hence not for longer than needed.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _three_stages(run: Run) -> Model:
    if run.recipe.relaxed_share:
        _relaxed(run)
    return _joint(run)


def _relaxed(run: Run) -> None:
    recipe, start = run.recipe, run.out / "codebooks.pt"
    if start.exists():
        return  # the next stage has begun
    model = Model(recipe.model)
    if run.start is not None:
        trained = restore(run.start, recipe.model)
        model.transform.load_state_dict(trained.transform.state_dict())
        model.prior.load_state_dict(trained.prior.state_dict())
    elif not (run.out / "relaxed.pt").exists():
        relaxed.calibrate(model, next(batches(run.photos, recipe.data, run.seed)))
        if dist.is_initialized():
            for tensor in model.state_dict().values():
                dist.broadcast(tensor, 0)
    plan = PlanConfig(run.minutes * recipe.relaxed_share, recipe.decay, recipe.relaxed_floor)
    stage = Relaxed(model, recipe.relaxed)
    mix_precision(model, recipe.mixed_precision)
    training = Training(stage, plan, recipe.relaxed_optim, run.out)
    model = run.train(stage, training, Progress())
    if is_first():
        run.say("codebooks: fitting")
        codebooks.build(model, batches(run.photos, recipe.data, run.seed), recipe.codebooks)
        save_start(model, training.progress, start)


def _joint(run: Run) -> Model:
    recipe, start = run.recipe, run.out / "codebooks.pt"
    if run.start is not None and not start.exists() and is_first():
        model = restore(run.start, recipe.model)
        codebooks.widen(model)
        if model.config.transform.bottom_latents < recipe.model.transform.bottom_latents:
            run.say("new latents: their codebooks")
            crops = batches(run.photos, recipe.data, run.seed)
            model = grow(model, recipe.model, crops, recipe.codebooks)
        save_start(model, Progress(), start)
    if dist.is_initialized():
        dist.barrier()
    model, spent = load_start(start)
    plan = PlanConfig(run.minutes - spent.seconds / 60, recipe.joint_decay)
    stage = Joint(model, recipe.joint)
    mix_precision(model, recipe.mixed_precision)
    training = Training(stage, plan, recipe.joint_optim, run.out)
    model = run.train(stage, training, spent)
    if is_first():
        run.say("codebooks: leaving out what is hardly used")
        crops = batches(run.photos, recipe.data, run.seed)
        images = [next(crops) for _ in range(recipe.thin.batches)]
        encode = FileEncoder(model) if recipe.joint.file_codes else None
        if encode is None:
            settle(model, images[: recipe.joint.settle_batches], recipe.joint)
        count_uses(model, images, encode)
        codebooks.prune(model, recipe.codebooks)
        thin(model, recipe.thin)
    return model
