"""Learns the filters of a model (`vqzip/train/filters.py`) anew, as `vqzip train` does at its end.

python results/filters.py MODEL PHOTOS OUT
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vqzip import store
from vqzip.train.data import find_photos, split
from vqzip.train.filters import FilterConfig, learn_filters
from vqzip.train.presets import PRESETS


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("model", "photos", "out"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args()
    tensors, config = store.load_tensors(args.model)
    tensors = {name: t for name, t in tensors.items() if not name.startswith("wiener.")}
    del config["fingerprint"]
    taken, _ = split(find_photos(args.photos), PRESETS["photo"]().data.holdout)
    found = learn_filters(store.assemble(tensors, config), taken, FilterConfig(), print)
    print(store.save(tensors | found, config, args.out).hex())


if __name__ == "__main__":
    main()
