"""A model whose prior of the top map sees its coarse channels in more of the steps of a byte.

What the network sees of a channel has 24 steps to its standard deviation, as it was when training
began, and a byte reaches 5.3 of them.  The farthest mean of a top position, however, came to be 0.6
of what was one, hence 29 steps from black to white.  A channel's scale is nobody's business: it is
divided here, and so are the weights that take the channel in, which gives it as many more steps.
How weights are rounded changes with them, so the model is to be trained on.

    python results/inputs.py MODEL OUT
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from vqzip.prior import FEATURES, Prior
from vqzip.store import save
from vqzip.train.export import export
from vqzip.train.presets import PRESETS
from vqzip.train.restore import restore

FINER = (8.0, 2.0, 2.0, 2.0)  # by how much, the top map's channels in turn


@torch.no_grad()
def refine(prior: Prior, finer: tuple[float, ...]) -> None:
    """Divide the scale of the top map's first channels; what the network gives stays as it is."""
    top, by = prior.top, torch.ones(prior.top.config.channels)
    by[: len(finer)] = torch.tensor(finer)
    top.scale /= by
    for layer in (top.context, top.from_previous, prior.lift_in):
        layer.weight /= by[:, None, None]
    parts = torch.split(by, list(top.config.slices))
    for head, part in zip(top.head_layers(), parts, strict=True):
        assert head.bias is not None
        head.weight[::FEATURES] *= part[:, None, None, None]  # means
        head.bias[::FEATURES] *= part


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    model = restore(args.model, PRESETS["photo"]().model).eval()
    refine(model.prior, FINER)
    print(save(*export(model), args.out).hex())
    shutil.copy(args.model / "curve.tsv", args.out)


if __name__ == "__main__":
    main()
