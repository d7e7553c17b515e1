"""Where a stage starts, kept in a file: a model with codebooks, and what it took to get there."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from vqzip.model import Model, ModelConfig
from vqzip.train.loop import Progress, save_atomically


def save_start(model: Model, spent: Progress, path: Path) -> None:
    """Write a model with its configuration, and the time and crops it took."""
    state = {
        "config": dataclasses.asdict(model.config),
        "model": model.state_dict(),
        "seconds": spent.seconds,
        "crops": spent.crops,
    }
    save_atomically(state, path)


def load_start(path: Path) -> tuple[Model, Progress]:
    """What `save_start` wrote."""
    state = torch.load(path, weights_only=True)
    model = Model(ModelConfig.from_dict(state["config"]))
    model.load_state_dict(state["model"])
    return model, Progress(seconds=state["seconds"], crops=state["crops"])
