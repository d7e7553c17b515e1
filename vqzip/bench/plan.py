"""What is to be measured, and what of it can be measured here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vqzip.bench.codecs import Codec, all_codecs
from vqzip.bench.metrics import METRICS, Metric
from vqzip.bench.rows import Row, RowFile
from vqzip.bench.run import Task
from vqzip.errors import VqzError, printable
from vqzip.train.data import find_photos


@dataclass(frozen=True)
class Plan:
    """Every picture through every codec at every setting.

    Attributes:
        pictures: Files, by their names in rows.
        codecs: Those that work here, by name, with the settings to measure.
        versions: Of those codecs.
        metrics: Those that work here.
        anchor: Name of the codec that the others are compared with.
        model: Folder of vqz's model, None for the one it comes with.
        left_out: What does not work here, and why.
    """

    pictures: dict[str, Path]
    codecs: dict[str, Codec]
    metrics: list[Metric]
    anchor: str
    model: str | None
    versions: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> dict[str, str]:
        """What people call the codecs."""
        return {name: codec.label for name, codec in self.codecs.items()}

    def tasks(self, table: RowFile) -> list[Task]:
        """What is not in the table yet, picture by picture."""
        names = tuple(metric.name for metric in self.metrics)
        return [
            Task(path, picture, codec.name, setting, names, self.model)
            for picture, path in self.pictures.items()
            for codec in self.codecs.values()
            for setting in codec.settings
            if not self._is_complete(table.rows.get(self._key(picture, codec, setting)))
        ]

    def rows(self, table: RowFile) -> list[Row]:
        """The rows of the table that belong to this plan."""
        keys = {
            self._key(picture, codec, setting)
            for picture in self.pictures
            for codec in self.codecs.values()
            for setting in codec.settings
        }
        return [row for key, row in table.rows.items() if key in keys]

    def _key(self, picture: str, codec: Codec, setting: float) -> tuple[str, str, str, float]:
        return picture, codec.name, self.versions[codec.name], setting

    def _is_complete(self, row: Row | None) -> bool:
        """Whether there is a row, and with all metrics that could be measured now."""
        return row is not None and all(
            getattr(row, metric.name) is not None
            for metric in self.metrics
            if metric.fits(row.width, row.height)
        )


def make(
    folder: Path,
    output: Path,
    names: str,
    qualities: Iterable[str] = (),
    anchor: str | None = None,
    model: str | None = None,
) -> Plan:
    """Plan what the command line asks for.

    Args:
        folder: Pictures are looked for below it, but not below `output`.
        output: Where the results will be.
        names: Codecs, with commas between them.
        qualities: "codec=setting,setting"; a list without a codec is vqz's.
        anchor: One of them; None for JPEG, or for the first if JPEG is not among them.
        model: Folder of vqz's model.

    Raises:
        VqzError: There are no pictures or codecs, or something has been asked for that isn't.
    """
    codecs = choose(names.split(","), settings_of(qualities), model)
    if anchor is None:
        anchor = "jpeg" if "jpeg" in codecs else next(iter(codecs))
    if anchor not in codecs:
        raise VqzError(f"{anchor} is not among the codecs {', '.join(codecs)}", "--anchor")
    plan = Plan(find_pictures(folder, output), codecs, list(METRICS.values()), anchor, model)
    for codec in list(codecs.values()):
        try:
            plan.versions[codec.name] = codec.version()
        except VqzError as error:
            if codec.name in ("vqz", anchor):  # without them there is little to see
                raise
            plan.left_out[codec.label] = error.message
            del codecs[codec.name]
    for metric in list(plan.metrics):
        try:
            metric.check()
        except VqzError as error:
            plan.left_out[metric.label] = error.message
            plan.metrics.remove(metric)
    if not codecs:
        raise VqzError("none of the codecs can be used here")
    return plan


def find_pictures(folder: Path, output: Path) -> dict[str, Path]:
    """Picture files below a folder by their names in rows, sorted; none below `output`.

    Raises VqzError if there are none.
    """
    if not folder.is_dir():
        raise VqzError("is not a folder", os.fspath(folder))
    results = output.resolve()
    photos = [path for path in find_photos(folder) if results not in path.resolve().parents]
    if not photos:
        raise VqzError("no pictures in this folder", os.fspath(folder))
    return {printable(path.relative_to(folder).as_posix()): path for path in photos}


def settings_of(qualities: Iterable[str]) -> dict[str, tuple[float, ...]]:
    """Settings by codec of lists such as "jpeg=50,90"."""
    settings = {}
    for text in qualities:
        codec, _, values = text.rpartition("=")
        try:
            settings[codec or "vqz"] = tuple(dict.fromkeys(map(float, values.split(","))))
        except ValueError:
            raise VqzError(f"{text!r} is not like vqz=20,40,60", "--qualities") from None
    return settings


def choose(
    names: Iterable[str], settings: Mapping[str, tuple[float, ...]], model: str | None
) -> dict[str, Codec]:
    """The codecs of these names with these settings, where there are any for them."""
    known = all_codecs(model)
    for name in (*names, *settings):
        if name not in known:
            raise VqzError(f"unknown codec {name!r}; there are {', '.join(known)}")
    chosen = {name: known[name] for name in names}
    for name, values in settings.items():
        if name not in chosen:
            raise VqzError(f"{name} is not among the codecs {', '.join(chosen)}", "--qualities")
        chosen[name] = replace(known[name], settings=values)
        low, high = chosen[name].limits
        for value in values:
            if not low <= value <= high or (chosen[name].whole and value % 1):
                kind = "whole number" if chosen[name].whole else "number"
                wanted = f"a {kind} from {low:g} to {high:g}"
                raise VqzError(f"{value:g} is no setting of {name}: {wanted}", "--qualities")
    return chosen
