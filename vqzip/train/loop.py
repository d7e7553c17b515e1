"""The training loop that all stages share: schedule, averaging, progress, checkpoints."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from vqzip.errors import VqzError
from vqzip.model import Model
from vqzip.train.optim import OptimConfig, Optimizer


@dataclass(frozen=True)
class PlanConfig:
    """How long a stage runs and when its learning rate falls."""

    minutes: float
    decay: float = 0.5
    """Share of the time, at its end, over which the rate falls linearly to `floor`."""
    floor: float = 0.02
    checkpoint_seconds: float = 240.0
    report_seconds: float = 60.0
    milestone_seconds: float = 1800.0
    """How often the averaged model is measured on held-out photos, the end apart."""


@dataclass
class Progress:
    """Where a stage stands; saved with its checkpoint."""

    step: int = 0
    seconds: float = 0.0
    crops: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    count: int = 0

    def add(self, metrics: dict[str, float]) -> None:
        """Accumulate one step's metrics for the next report."""
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1

    def means(self) -> dict[str, float]:
        """Means since the last call."""
        means = {name: total / max(self.count, 1) for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        return means


def rate_fraction(plan: PlanConfig, optim: OptimConfig, step: int, progress: float) -> float:
    """Learning rate as a fraction of its plateau: warm-up, plateau, linear decay."""
    warm = min(1.0, (step + 1) / optim.warmup_steps)
    return warm * min(1.0, (1.0 - progress) / plan.decay * (1 - plan.floor) + plan.floor)


def stratified(count: int) -> Tensor:
    """This process's share (count,) of random numbers in [0, 1), one in each part of that range.

    Even levels in a batch lessen the gradient's noise, and give every process the same work.
    """
    rank, processes = process()
    return (torch.arange(count) * processes + rank + torch.rand(count)) / (count * processes)


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of `model`, quick at first so that it forgets the start."""

    def average(
        old: tuple[Tensor, ...] | list[Tensor],
        new: tuple[Tensor, ...] | list[Tensor],
        count: Tensor | int,
    ) -> None:
        torch._foreach_lerp_(old, new, 1 - min(decay, float(count) / (float(count) + 10)))

    return AveragedModel(model, multi_avg_fn=average)


def save_atomically(state: dict[str, Any], path: Path) -> None:
    """torch.save that leaves either the old or the new file."""
    temporary = path.with_suffix(".partial")
    torch.save(state, temporary)
    os.replace(temporary, path)


def process() -> tuple[int, int]:
    """This process's number, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def is_first() -> bool:
    """Whether this process is the one that reports and saves."""
    return process()[0] == 0


class Stage(nn.Module):
    """What a stage trains, and its loss as a module's forward pass, for DDP to wrap."""

    name: str
    model: Model
    slow: tuple[str, ...] = ()
    """How names of parameters start that learn at a share of the others' rate."""
    sparse = False
    """Whether a batch may leave some parameters unused, as codebooks of levels it has not."""

    def forward(self, image: Tensor, level: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Loss (a scalar) and metrics of a batch (B, 3, H, W) at levels (B,)."""
        raise NotImplementedError


class Training:
    """One stage's run: resumes from its checkpoint, trains until its time is used, saves."""

    def __init__(self, stage: Stage, plan: PlanConfig, optim: OptimConfig, folder: Path) -> None:
        self.stage, self.plan, self.optim = stage, plan, optim
        self.checkpoint = folder / f"{stage.name}.pt"
        self.optimizer = Optimizer(stage.model, optim, stage.model.adam_only, stage.slow)
        self.average = averaged(stage.model, optim.average_decay)
        self.progress = Progress()
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, weights_only=True)
            stage.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.progress = Progress(**state["progress"])

    def save(self) -> None:
        """Write the checkpoint."""
        progress = self.progress
        state = {
            "model": self.stage.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": {
                "step": progress.step,
                "seconds": progress.seconds,
                "crops": progress.crops,
            },
        }
        save_atomically(state, self.checkpoint)

    def run(
        self,
        batches: Iterator[Tensor],
        say: Callable[[str], None],
        milestone: Callable[[Model, Progress], None],
    ) -> Model:
        """Train for the time that is left; returns the averaged model.

        `milestone` gets the averaged model now and then and at the end, in the first process.
        """
        progress, plan, stage = self.progress, self.plan, self.stage
        step = (
            DistributedDataParallel(stage, find_unused_parameters=stage.sparse)
            if _many()
            else stage
        )
        top_level = stage.model.config.transform.levels - 1
        total = plan.minutes * 60
        saved = reported = measured = progress.seconds
        stage.train()
        clock = time.monotonic()
        while progress.seconds < total:
            batch = next(batches, None)
            if batch is None:
                raise VqzError("none of the pictures can be read")
            loss, metrics = step(batch, stratified(len(batch)) * top_level)
            loss.backward()
            fraction = rate_fraction(plan, self.optim, progress.step, progress.seconds / total)
            metrics["gradient"] = self.optimizer.step(fraction)
            self.average.update_parameters(stage.model)
            progress.add(metrics)
            progress.step += 1
            progress.crops += len(batch) * process()[1]
            now = time.monotonic()
            progress.seconds = _agree(progress.seconds + now - clock)
            clock = now
            if progress.seconds - reported >= plan.report_seconds and is_first():
                reported = progress.seconds
                shown = "  ".join(f"{key} {x:.4f}" for key, x in progress.means().items())
                left = (total - progress.seconds) / 60
                say(f"{stage.name}  step {progress.step}  {shown}  {left:.0f} min left")
            if progress.seconds - saved >= plan.checkpoint_seconds and is_first():
                saved = progress.seconds
                self.save()
            if progress.seconds - measured >= plan.milestone_seconds and is_first():
                measured = progress.seconds
                milestone(self.averaged_model(), progress)
                clock = time.monotonic()  # measuring is not training
        if is_first():
            self.save()
            milestone(self.averaged_model(), progress)
        return self.averaged_model()

    def averaged_model(self) -> Model:
        """The averaged weights, which are what ships."""
        model = self.average.module
        assert isinstance(model, Model)
        return model.eval()


def _many() -> bool:
    return process()[1] > 1


def _agree(seconds: float) -> float:
    """The first process's clock, so that all processes stop at the same step."""
    if not _many():
        return seconds
    shared = torch.tensor(seconds, dtype=torch.float64)
    dist.broadcast(shared, 0)
    return float(shared)
