"""Completion in the shells, as README says to set it up."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SET_UP = dict(re.findall(r"^- (bash|zsh|fish)\b.*: `(.*)`$", README, re.MULTILINE))

# What there is at a prompt, but not in a script.
BEFORE = {"bash": "", "zsh": "compdef() { }", "fish": ""}
# Asks as the shell would, for the command line "vqzip test --max-p".
ASK = {
    "bash": "COMP_WORDS=(vqzip test --max-p); COMP_CWORD=2; _vqzip_completion vqzip;"
    ' echo "${COMPREPLY[@]}"',
    "zsh": "_describe() { echo ${(P)3} }; words=(vqzip test --max-p); CURRENT=3; _vqzip_completion",
    "fish": "complete --do-complete 'vqzip test --max-p'",
}


@pytest.fixture(autouse=True)
def _vqzip_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "vqzip"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m vqzip "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)


def complete(words: str) -> list[str]:
    """What a shell is told about the last of `words`: lines of type and value."""
    count = len(words.split(" ")) - 1
    environment = {"_VQZIP_COMPLETE": "bash_complete", "COMP_WORDS": words}
    program = (
        "import sys; from vqzip.cli import main\n"
        "try: main()\n"
        "finally:\n"
        "    heavy = {'torch', 'numpy', 'PIL'} & set(sys.modules)\n"
        "    if heavy: print('imported', heavy)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | environment | {"COMP_CWORD": str(count)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("vqzip de", ["plain,decompress"]),
        ("vqzip compress --skip", ["plain,--skip-existing"]),
        ("vqzip compress pho", ["file,pho"]),
        ("vqzip compress a.png -o b", ["file,b"]),
        ("vqzip compress --files-from li", ["file,li"]),
        ("vqzip compress -d ou", ["dir,ou"]),
        ("vqzip decompress a.vqz b", ["file,b"]),
        ("vqzip decompress --model m", ["dir,m"]),
        ("vqzip test -r co", ["file,co"]),
        ("vqzip info --j", ["plain,--json"]),
        ("vqzip models --j", ["plain,--json"]),
        ("vqzip train pho", ["dir,pho"]),
        ("vqzip sample -o sa", ["dir,sa"]),
        ("vqzip complete pho", ["file,pho"]),
    ],
)
def test_completions_come_without_heavy_imports(words: str, expected: list[str]) -> None:
    assert complete(words) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_set_up_works(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = "\n".join([BEFORE[shell], SET_UP[shell], ASK[shell]])
    done = subprocess.run([shell, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert re.match(r"--max-pixels\b", done.stdout)
