import os
from pathlib import Path

import pytest

from vqzip.errors import VqzError
from vqzip.inputs import PICTURES, VQZ, Found, Inputs, find


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"")


def look(*names: str, suffixes: frozenset[str] = PICTURES, **options: object) -> Found:
    return find(Inputs(names, **options), suffixes)  # type: ignore[arg-type]


def paths(found: Found) -> list[str]:
    return [source.path for source in found.sources]


def problems(found: Found) -> list[str]:
    return [str(error) for error in found.unusable]


def test_named_files_are_taken_whatever_their_suffix() -> None:
    make("b.txt", "sub/a.png")
    found = look("b.txt", "sub/a.png", "b.txt", "-", "none", "")
    assert paths(found) == ["b.txt", "sub/a.png", "b.txt", "-"]
    assert [source.below for source in found.sources] == ["b.txt", "a.png", "b.txt", "-"]
    assert found.sources[0].status == os.stat("b.txt")
    assert found.sources[3].status is None
    assert problems(found) == [
        "none: cannot read: No such file or directory",
        ": cannot read: No such file or directory",
    ]


def test_folders_need_permission() -> None:
    make("photos/a.png")
    found = look("photos")
    assert (paths(found), problems(found)) == ([], ["photos: is a folder, use -r"])


def test_folders_are_searched_in_order() -> None:
    make("photos/b.JPG", "photos/z/a.png", "photos/a/a.webp", "photos/a.vqz", "photos/.h/x.gif")
    make("photos/notes.txt", "photos/._b.JPG", "photos/.DS_Store", "photos/z/README")
    found = look("photos/", "photos/z", recursive=True)
    assert [(source.path, source.below) for source in found.sources] == [
        ("photos/b.JPG", "b.JPG"),
        ("photos/.h/x.gif", ".h/x.gif"),
        ("photos/a/a.webp", "a/a.webp"),
        ("photos/z/a.png", "z/a.png"),
        ("photos/z/a.png", "a.png"),
    ]
    assert found.foreign == [
        *("photos/.DS_Store", "photos/._b.JPG", "photos/a.vqz", "photos/notes.txt"),
        *("photos/z/README", "photos/z/README"),
    ]
    assert paths(look("photos", recursive=True, suffixes=VQZ)) == ["photos/a.vqz"]


def test_links_in_folders() -> None:
    """Those to files are taken, those to folders are not: they may lead back."""
    make("elsewhere/a.png", "photos/sub/b.png")
    Path("photos/link.png").symlink_to("../elsewhere/a.png")
    Path("photos/gone.png").symlink_to("nowhere")
    Path("photos/self.png").symlink_to("self.png")
    Path("photos/folder").symlink_to("../elsewhere")
    Path("photos/sub/loop").symlink_to("..")
    found = look("photos", recursive=True)
    assert paths(found) == ["photos/link.png", "photos/sub/b.png"]
    assert found.foreign == ["photos/folder", "photos/sub/loop"]
    assert problems(found) == [
        "photos/gone.png: cannot read: No such file or directory",
        "photos/self.png: cannot read: Too many levels of symbolic links",
    ]


def test_named_link_to_a_folder_is_followed() -> None:
    make("photos/a.png")
    Path("link").symlink_to("photos")
    assert paths(look("link", recursive=True)) == ["link/a.png"]


def test_pipes_and_folders_with_a_suffix_are_foreign() -> None:
    make("photos/folder.png/a.png")
    os.mkfifo("photos/pipe.png")
    found = look("photos", recursive=True)
    assert (paths(found), found.foreign) == (["photos/folder.png/a.png"], ["photos/pipe.png"])


def test_folder_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may read anything, so the refusal is simulated.
    make("photos/a.png", "photos/closed/b.png")
    real = os.scandir

    def scandir(path: str) -> object:
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = look("photos", recursive=True)
    assert paths(found) == ["photos/a.png"]
    assert problems(found) == ["photos/closed: cannot read: Permission denied"]


NAMES = ["a b.png", " c", os.fsdecode(b"not utf-8 \xff.png"), "-n", "./-"]


@pytest.mark.parametrize(("null", "end"), [(False, "\n"), (True, "\0")])
def test_list_of_files(null: bool, end: str) -> None:
    names = [*NAMES, "new\nline.png"] if null else NAMES
    make("first", *names)
    listed = ["-" if name == "./-" else name for name in names]
    for text in (end.join(listed), end + end.join([*listed, "", ""])):
        Path("list").write_bytes(os.fsencode(text))
        assert paths(look("first", files_from="list", null=null)) == ["first", *names]


def test_list_that_cannot_be_read() -> None:
    with pytest.raises(VqzError) as caught:
        look(files_from="none")
    assert str(caught.value) == "none: cannot read: No such file or directory"
    Path("list").write_bytes(b"a\0b\0")
    with pytest.raises(VqzError) as caught:
        look(files_from="list")
    assert str(caught.value) == "list: has NUL characters, use -0 for names that end with them"
