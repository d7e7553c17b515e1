"""The mean of the model that a stage started from and of checkpoints on its way.

    python results/mean.py RUN CHECKPOINT... OUT

RUN is the folder of the training, in which codebooks.pt is what the stage started from.
Checkpoints are copies of RUN/joint.pt, kept while it was written over, the last one last.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from vqzip.model import Model
from vqzip.store import save
from vqzip.train.export import export
from vqzip.train.loop import averaged
from vqzip.train.mean import make_mean
from vqzip.train.optim import OptimConfig
from vqzip.train.start import load_start


def at_checkpoint(run: Path, checkpoint: Path) -> Model:
    """The averaged model that a checkpoint of a run has."""
    average = averaged(load_start(run / "codebooks.pt")[0], OptimConfig().average_decay)
    average.load_state_dict(torch.load(checkpoint, weights_only=True)["average"])
    model = average.module
    assert isinstance(model, Model)
    return model


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    *before, model = (at_checkpoint(args.run, checkpoint) for checkpoint in args.checkpoints)
    make_mean(model, [load_start(args.run / "codebooks.pt")[0], *before])
    print(save(*export(model), args.out).hex())


if __name__ == "__main__":
    main()
