"""Compress all pictures below a folder or a bucket's prefix, on all machines of a Ray cluster.

    pip install 'vqzip[ray]'
    python examples/ray_bulk.py photos compressed --quality 50
    python examples/ray_bulk.py s3://bucket/photos s3://bucket/compressed --max-bytes 50000

A picture a/b.jpg becomes a/b.jpg.vqz, and rows.parquet in the target has a row for each picture:
status (done, skipped or failed), error, bytes before and after, size in pixels and level.  A broken
picture is a row and no more.  Run it again to go on where it stopped: what is there is skipped.

Each worker is an actor with one CPU that holds the model.  Without a cluster (RAY_ADDRESS), the
machine at hand is one.  Where workers are other machines, source and target must be the same there.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

# Ray reports home otherwise.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
from pyarrow import fs

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".avif")
SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "status": pa.string(),
        "error": pa.string(),
        "bytes_in": pa.int64(),
        "bytes_out": pa.int64(),
        "width": pa.int64(),
        "height": pa.int64(),
        "level": pa.int64(),
    }
)


def locate(uri: str) -> tuple[fs.FileSystem, str]:
    """File system and path of a folder, or of a URI such as s3://bucket/prefix."""
    if "://" in uri:
        filesystem, path = fs.FileSystem.from_uri(uri)
        return filesystem, path.rstrip("/")
    return fs.LocalFileSystem(), os.path.abspath(uri)


def pictures(source: str) -> list[str]:
    """Paths of all pictures below `source`, relative to it and in order."""
    filesystem, root = locate(source)
    found = filesystem.get_file_info(fs.FileSelector(root, recursive=True))
    paths = (file.path for file in found if file.type == fs.FileType.File)
    return sorted(path[len(root) + 1 :] for path in paths if path.lower().endswith(SUFFIXES))


class Compressor:
    """What an actor holds: the model, and where things are."""

    def __init__(self, source: str, target: str, rate: dict[str, Any], model: str | None) -> None:
        import torch

        from vqzip.store import load_model

        torch.set_num_threads(1)
        self.source, self.source_root = locate(source)
        self.target, self.target_root = locate(target)
        self.rate = rate
        self.model = load_model(model)

    def __call__(self, batch: dict[str, Any]) -> pa.Table:
        """A batch of paths to their rows."""
        return pa.Table.from_pylist([self.row(path) for path in batch["path"]], SCHEMA)

    def row(self, path: str) -> dict[str, Any]:
        """Compress one picture; whatever is wrong with it ends up in its row."""
        try:
            return {"path": path, **self.compress(path)}
        except Exception as error:  # noqa: BLE001 - one picture must not end a job of millions
            return {"path": path, "status": "failed", "error": str(error) or repr(error)}

    def compress(self, path: str) -> dict[str, Any]:
        """Read, compress and write one picture."""
        import vqzip
        from vqzip import files

        target = f"{self.target_root}/{path}.vqz"
        if self.target.get_file_info(target).type == fs.FileType.File:
            return {"status": "skipped"}
        with self.source.open_input_file(f"{self.source_root}/{path}") as file:
            bytes_in = file.size()
            data = vqzip.compress(file, model=self.model, **self.rate)
        if isinstance(self.target, fs.LocalFileSystem):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            files.write(target, data)
        else:  # of object stores, an object is either complete or not there
            with self.target.open_output_stream(target) as stream:
                stream.write(data)
        about = vqzip.info(data)
        return {
            "status": "done",
            "bytes_in": bytes_in,
            "bytes_out": about.bytes,
            "width": about.width,
            "height": about.height,
            "level": about.level,
        }


def compress_all(
    source: str, target: str, rate: dict[str, Any], model: str | None = None, workers: int = 2
) -> Counter[str]:
    """Compress everything and write the rows; returns how many pictures had which status.

    Args:
        source: Folder or URI.
        target: Folder or URI; made if need be.
        rate: `quality`, `target_bpp`, `max_bytes` or `target_psnr`, as for `vqzip.compress`.
        model: A model's folder, or None for the one that comes with vqzip.
        workers: Actors, each with one CPU.
    """
    paths = pictures(source)
    filesystem, root = locate(target)
    filesystem.create_dir(root, recursive=True)
    counts: Counter[str] = Counter()
    with (
        filesystem.open_output_stream(f"{root}/rows.parquet") as stream,
        pq.ParquetWriter(stream, SCHEMA) as writer,
    ):
        if paths:
            # Small blocks for no worker to idle at the end, but not more than Ray handles well.
            blocks = min(len(paths), max(4 * workers, min(len(paths) // 16, 10_000)))
            rows = ray.data.from_items(
                [{"path": path} for path in paths], override_num_blocks=blocks
            ).map_batches(
                Compressor,
                fn_constructor_args=(source, target, rate, model),
                compute=ray.data.ActorPoolStrategy(size=workers),
                num_cpus=1,
            )
            tables: Iterable[Any] = rows.iter_batches(batch_size=None, batch_format="pyarrow")
            for table in tables:
                writer.write_table(table.cast(SCHEMA))
                counts.update(table["status"].to_pylist())
    return counts


def main() -> int:
    """Compress, and say how many."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("source")
    parser.add_argument("target")
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument("--quality", type=int)
    rate.add_argument("--target-bpp", type=float)
    rate.add_argument("--max-bytes", type=int)
    rate.add_argument("--target-psnr", type=float)
    parser.add_argument("--model", help="folder of a model")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = vars(parser.parse_args())
    rates = ("quality", "target_bpp", "max_bytes", "target_psnr")
    chosen = {name: options.pop(name) for name in rates}

    cluster = "RAY_ADDRESS" in os.environ
    ray.init(
        num_cpus=None if cluster else options["workers"],
        include_dashboard=None if cluster else False,
        logging_level=logging.WARNING,
    )
    counts = compress_all(**options, rate=chosen)
    print(", ".join(f"{counts[status]} {status}" for status in ("done", "skipped", "failed")))
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
