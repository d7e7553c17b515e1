"""Run by torchrun in test_train.py: train, then save each process's own weights."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist

from vqzip.train import command
from vqzip.train.loop import Training


def main(photos: Path, out: Path) -> None:
    """Train on `photos` into `out`; the joint stage's weights of process N go to rankN.pt."""
    save = Training.averaged_model

    def averaged_model(training: Training) -> object:
        state = training.stage.model.state_dict()
        if training.stage.name == "joint":
            torch.save(state, out / f"rank{dist.get_rank()}.pt")
        return save(training)

    Training.averaged_model = averaged_model  # type: ignore[assignment,method-assign]
    command.train(photos, out, minutes=0.1, preset="tiny", seed=0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
