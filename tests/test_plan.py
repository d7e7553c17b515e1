import os
from pathlib import Path

import pytest

from vqzip.inputs import PICTURES, Inputs, find
from vqzip.jobs import Job
from vqzip.plan import Outputs, Plan, make_plan


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"12345")


def plan(*names: str, suffix: str = ".vqz", **outputs: object) -> Plan:
    found = find(Inputs(names, recursive=True), PICTURES)
    return make_plan(found, Outputs(**outputs), suffix)  # type: ignore[arg-type]


def targets(plan: Plan) -> list[str | None]:
    assert (plan.refused, plan.failed) == ([], [])
    return [job.target for job in plan.jobs]


def refusals(plan: Plan) -> list[str | None]:
    return [row.error for row in plan.refused]


def test_beside_the_input() -> None:
    names = ["a.png", "sub/b.JPG", ".png", "c.d.png", "plain", "sub.x/plain"]
    make(*names)
    beside = ["a.vqz", "sub/b.vqz", ".png.vqz", "c.d.vqz", "plain.vqz", "sub.x/plain.vqz"]
    assert targets(plan(*names)) == beside
    appended = [f"{name}.vqz" for name in names]
    assert targets(plan(*names, keep_suffix=True)) == appended
    assert plan("a.png").jobs == [Job("a.png", "a.vqz", 5)]


def test_standard_streams_and_one_output() -> None:
    make("a.png")
    assert targets(plan("-")) == ["-"]
    assert targets(plan("-", output="b.vqz")) == ["b.vqz"]
    assert targets(plan("a.png", output="b")) == ["b"]


def test_suffix_that_was_kept_is_not_doubled() -> None:
    make("a.png.vqz", "b.JPG.vqz", "c.PNG.vqz")
    names = ["a.png.vqz", "b.JPG.vqz", "c.PNG.vqz"]
    assert targets(plan(*names, suffix=".png")) == ["a.png", "b.JPG.png", "c.PNG"]


def test_folder_gets_the_shape_of_the_one_searched() -> None:
    make("photos/a.png", "photos/x/y/b.png", "other/c.png", "d/e/f.png")
    found = plan("photos", "other", "d/e/f.png", folder="out")
    assert targets(found) == ["out/a.vqz", "out/x/y/b.vqz", "out/c.vqz", "out/f.vqz"]
    assert not Path("out").exists()


def test_two_inputs_with_one_output() -> None:
    make("a.png", "a.jpg", "sub/a.gif", "b.png")
    refused = plan("a.png", "a.jpg", "b.png")
    assert refusals(refused) == ["a.vqz: would be the output of both a.png and a.jpg"]
    assert [(row.input, row.output) for row in refused.refused] == [("a.jpg", "a.vqz")]
    assert targets(plan("a.png", "a.jpg", keep_suffix=True)) == ["a.png.vqz", "a.jpg.vqz"]
    assert refusals(plan("sub/a.gif", "a.png", folder="out", force=True)) == [
        "out/a.vqz: would be the output of both sub/a.gif and a.png"
    ]


def test_one_output_by_two_paths() -> None:
    make("real/a.png", "b/a.jpg")
    Path("link").symlink_to("real")
    Path("b/a.vqz").symlink_to("../real/a.vqz")
    assert refusals(plan("real/a.png", "b/a.jpg", force=True)) == [
        "b/a.vqz: would be the output of both real/a.png and b/a.jpg"
    ]
    assert targets(plan("real/a.png", "link/a.png")) == ["real/a.vqz"]


def test_input_that_is_named_twice_is_done_once() -> None:
    make("photos/a.png")
    assert targets(plan("photos", "photos/a.png", "./photos/a.png")) == ["photos/a.vqz"]


def test_existing_outputs() -> None:
    make("a.png", "a.vqz", "b.png")
    Path("c.vqz").mkdir()
    make("c.png")
    assert refusals(plan("a.png", "b.png", "c.png")) == [
        "a.vqz: already exists, use -f to overwrite it",
        "c.vqz: is a folder",
    ]
    assert targets(plan("a.png", "b.png", force=True)) == ["a.vqz", "b.vqz"]
    skipping = plan("a.png", "b.png", "c.png", skip_existing=True)
    assert [(row.input, row.output, row.status) for row in skipping.skipped] == [
        ("a.png", "a.vqz", "skipped")
    ]
    assert refusals(skipping) == ["c.vqz: is a folder"]


def test_output_that_is_another_input() -> None:
    make("a.png", "a.vqz")
    for names in (["a.png", "a.vqz"], ["a.vqz", "a.png"]):
        refused = plan(*names, force=True, keep_suffix=False)
        assert "a.vqz: is both input and output" in refusals(refused)


@pytest.mark.parametrize("folder", ["out", "out/below"])
def test_folder_that_is_a_file(folder: str) -> None:
    make("a.png", "out")
    assert refusals(plan("a.png", folder=folder)) == [
        f"{folder}/a.vqz: cannot write: its folder does not exist"
    ]


def test_unusable_inputs_do_not_stop_the_others() -> None:
    make("a.png")
    partial = plan("none\n.png", "a.png")
    assert [(row.input, row.status, row.error) for row in partial.failed] == [
        ("none\n.png", "failed", "none\\n.png: cannot read: No such file or directory")
    ]
    assert [job.source for job in partial.jobs] == ["a.png"]
    assert partial.refused == []


def test_terminal_is_no_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda descriptor: descriptor == 1)
    message = "-: binary data is not written to a terminal, use -o or -f"
    assert refusals(plan("-")) == [message]
    assert targets(plan("-", force=True)) == ["-"]


def test_nothing_is_written() -> None:
    make("a.png", "a.vqz")
    found = find(Inputs(("a.vqz", "a.vqz")), PICTURES)
    assert make_plan(found, None).jobs == [Job("a.vqz", None, 5), Job("a.vqz", None, 5)]
