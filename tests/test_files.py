import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vqzip import files
from vqzip.errors import VqzError


def failing(number: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def write_error(path: Path, *, force: bool = False) -> str:
    with pytest.raises(VqzError) as caught:
        files.write(str(path), b"new", force=force)
    return str(caught.value)


def test_write_and_read(tmp_path: Path) -> None:
    path = tmp_path / "out"
    files.write(str(path), b"data")
    assert files.read(str(path)) == b"data"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_mode_is_that_of_a_normal_new_file(tmp_path: Path, umask: int, mode: int) -> None:
    previous = os.umask(umask)
    try:
        files.write(str(tmp_path / "out"), b"data")
    finally:
        os.umask(previous)
    assert (tmp_path / "out").stat().st_mode & 0o777 == mode


def test_existing_file_needs_force(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    message = f"{path}: already exists, use -f to overwrite it"
    assert write_error(path) == message
    with pytest.raises(VqzError) as caught:
        files.check_target(str(path))
    assert str(caught.value) == message
    assert path.read_bytes() == b"old"
    files.check_target(str(path), force=True)
    files.write(str(path), b"new", force=True)
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("hard_links", [True, False])
def test_file_that_appears_meanwhile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    path = tmp_path / "out"
    monkeypatch.setattr(os, "fsync", lambda _: path.write_bytes(b"theirs"))
    if not hard_links:
        monkeypatch.setattr(os, "link", failing(errno.EPERM))
    assert write_error(path) == f"{path}: already exists, use -f to overwrite it"
    assert path.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["out"]


def test_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    files.write(str(tmp_path / "out"), b"data")
    assert (tmp_path / "out").read_bytes() == b"data"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_disk_full_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, force: bool
) -> None:
    path = tmp_path / "out"
    if force:
        path.write_bytes(b"old")
    monkeypatch.setattr(os, call, failing(errno.ENOSPC))
    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    assert write_error(path, force=force) == f"{path}: cannot write: No space left on device"
    assert os.listdir(tmp_path) == (["out"] if force else [])
    if force:
        assert path.read_bytes() == b"old"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, MemoryError])
def test_interruption_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interruption: type[BaseException]
) -> None:
    def interrupt(_: int) -> None:
        assert len(os.listdir(tmp_path)) == 1
        raise interruption

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(interruption):
        files.write(str(tmp_path / "out"), b"data")
    assert os.listdir(tmp_path) == []


KILL = """
import os, signal, sys
from vqzip import files

path, force, call = sys.argv[1], sys.argv[2] == "force", sys.argv[3]
setattr(os, call, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
files.write(path, b"new" * 1000, force=force, like=os.stat(__file__))
"""


@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize("call", ["open", "chmod", "utime", "fsync", "replace", "link", "unlink"])
def test_kill_at_any_moment_leaves_the_old_or_the_new_file(
    tmp_path: Path, call: str, force: bool
) -> None:
    old, new = b"old" if force else None, b"new" * 1000
    script, path = tmp_path / "kill.py", tmp_path / "folder" / "out"
    script.write_text(KILL)
    path.parent.mkdir()
    if old is not None:
        path.write_bytes(old)
    command = [sys.executable, str(script), str(path), "force" if force else "", call]
    killed = subprocess.run(command, check=False).returncode == -signal.SIGKILL
    renamed = call == "unlink"  # done after everything else
    assert killed == (call != ("link" if force else "replace"))
    left = path.read_bytes() if path.exists() else None
    assert left == (new if renamed or not killed else old)
    # What else is left is in nobody's way.
    files.write(str(path), new, force=path.exists())
    assert path.read_bytes() == new


def test_output_is_like_its_source(tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(b"data")
    source.chmod(0o4640)
    os.utime(source, ns=(10**18 + 1, 10**18 + 2))
    files.write(str(target), b"new", like=source.stat())
    status = target.stat()
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert (status.st_atime_ns, status.st_mtime_ns) == (10**18 + 1, 10**18 + 2)


def test_private_source_is_private_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "in"
    source.write_bytes(b"data")
    modes = []

    def chmod(path: Path, _: int) -> None:
        modes.append(stat.S_IMODE(path.stat().st_mode))
        raise PermissionError  # as on a file system without permissions

    monkeypatch.setattr(os, "chmod", chmod)
    files.write(str(tmp_path / "out"), b"new", like=source.stat())
    assert modes == [0o600]


def test_folders_are_made_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "out"
    files.check_target(str(path), make_folder=True)
    assert not path.parent.exists()
    files.write(str(path), b"data", make_folder=True)
    assert path.read_bytes() == b"data"
    with pytest.raises(VqzError) as caught:
        files.check_target(str(path / "c" / "d"), make_folder=True)
    assert str(caught.value) == f"{path / 'c' / 'd'}: cannot write: its folder does not exist"


def test_remove_what_is_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"data")
    known = path.stat()
    path.write_bytes(b"other data")
    with pytest.raises(VqzError) as caught:
        files.remove(str(path), known)
    assert str(caught.value) == f"{path}: changed meanwhile, it is not removed"
    assert path.read_bytes() == b"other data"
    files.remove(str(path), path.stat())
    assert not path.exists()
    with pytest.raises(VqzError) as caught:
        files.remove(str(path), known)
    assert str(caught.value) == f"{path}: cannot remove: No such file or directory"


def test_removing_a_link_keeps_the_file(tmp_path: Path) -> None:
    path, link = tmp_path / "in", tmp_path / "link"
    path.write_bytes(b"data")
    link.symlink_to(path)
    files.remove(str(link), link.stat())
    assert os.listdir(tmp_path) == ["in"]


def test_status_of_regular_files_only(tmp_path: Path) -> None:
    path, link = tmp_path / "in", tmp_path / "link"
    path.write_bytes(b"data")
    link.symlink_to(path)
    assert files.regular_status(str(link)) == path.stat()
    assert files.regular_status(os.devnull) is None
    assert files.regular_status("-") is None
    with pytest.raises(VqzError, match=r"none: cannot read: No such file or directory$"):
        files.regular_status(str(tmp_path / "none"))


def test_folder_as_target(tmp_path: Path) -> None:
    assert write_error(tmp_path, force=True) == f"{tmp_path}: is a folder"


def test_missing_folder(tmp_path: Path) -> None:
    path = tmp_path / "none" / "out"
    assert write_error(path) == f"{path}: cannot write: its folder does not exist"
    (tmp_path / "none").write_bytes(b"a file")
    assert write_error(path) == f"{path}: cannot write: its folder does not exist"


def test_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may write anywhere, so the refusal is simulated.
    monkeypatch.setattr("builtins.open", failing(errno.EACCES))
    path = tmp_path / "out"
    assert write_error(path) == f"{path}: cannot write: Permission denied"


def test_symbolic_link_stays_a_link(tmp_path: Path) -> None:
    real = tmp_path / "folder" / "real"
    real.parent.mkdir()
    real.write_bytes(b"old")
    link = tmp_path / "link"
    link.symlink_to(real)
    assert write_error(link) == f"{link}: already exists, use -f to overwrite it"
    files.write(str(link), b"new", force=True)
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert os.listdir(real.parent) == ["real"]


def test_dangling_link_exists(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    assert write_error(link) == f"{link}: already exists, use -f to overwrite it"
    files.write(str(link), b"new", force=True)
    assert (tmp_path / "nowhere").read_bytes() == b"new"


def test_device_is_written_to_and_stays_a_device() -> None:
    files.write(os.devnull, b"data")
    assert Path(os.devnull).is_char_device()
    assert write_error(Path("/dev/full")) == "/dev/full: cannot write: No space left on device"


def test_read_limit(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"12345")
    assert files.read(str(path), limit=5) == b"12345"
    with pytest.raises(VqzError) as caught:
        files.read(str(path), limit=4)
    assert str(caught.value) == f"{path}: larger than 4 bytes"
    with pytest.raises(VqzError, match=r"^/dev/zero: larger than 4 bytes$"):
        files.read("/dev/zero", limit=4)


def test_read_errors(tmp_path: Path) -> None:
    for path, reason in [
        (tmp_path, "Is a directory"),
        (tmp_path / "none", "No such file or directory"),
    ]:
        with pytest.raises(VqzError) as caught:
            files.read(str(path))
        assert str(caught.value) == f"{path}: cannot read: {reason}"


COPY = "from vqzip import files; files.write('-', files.read('-'))"


def test_standard_streams() -> None:
    data = bytes(range(256)) * 5000
    done = subprocess.run([sys.executable, "-c", COPY], input=data, capture_output=True, check=True)
    assert done.stdout == data
    assert done.stderr == b""


@pytest.mark.parametrize("size", [1, 10**6])
def test_standard_output_that_fails(size: int) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", COPY],
            input=bytes(size),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    last = done.stderr.decode().strip().splitlines()[-1]
    assert last == "vqzip.errors.VqzError: -: cannot write: No space left on device"
    assert b"Exception ignored" not in done.stderr
    assert done.returncode == 1


def test_terminal_gets_no_binary_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda descriptor: descriptor == 1)
    with pytest.raises(VqzError, match="binary data is not written to a terminal"):
        files.write("-", b"data")
    files.check_target("-", force=True)
