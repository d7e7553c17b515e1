"""Files that nobody would make: mutated containers, streams and models, with right checksums.

What atheris found (see fuzz/README.md) is replayed here, too.
"""

from __future__ import annotations

import copy
import json
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file

import vqzip
from vqzip import container, store
from vqzip.codec import CodecModel
from vqzip.container import Chunk, Container
from vqzip.errors import VqzError
from vqzip.integer import Tensors

HERE = Path(__file__).parent
MODEL = HERE / "golden" / "model"
CORPUS = HERE / "fuzz" / "corpus"
GOLDEN = sorted((HERE / "golden").glob("*.vqz"))


@pytest.fixture(scope="module")
def model() -> CodecModel:
    return store.load_model(MODEL)


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    loaded: Tensors = load_file(MODEL / "model.safetensors")
    return loaded


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((MODEL / "config.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one mutated model after the other is written."""
    return tmp_path_factory.mktemp("mutated")


def outcome(data: bytes, model: CodecModel) -> str:
    """What decompression ends with: the picture's size, or the message of a VqzError."""
    try:
        image = vqzip.decompress(data, model)
    except VqzError as error:
        assert str(error).isprintable()  # noqa: PT017
        return str(error)
    about = vqzip.info(data)
    assert image.size == (about.width, about.height)
    assert image.mode == ("L" if about.grayscale else "RGB") + "A" * about.alpha
    return f"{about.width} x {about.height}"


# Files.

KNOWN = {
    "bomb-below-the-check": "corrupt code stream: it ends before its codes do",
    "bomb-over-the-limit": "picture of 2147483647 x 2147483647 pixels is over the limit of "
    "268435456",
    "bomb-square": "corrupt code stream: too short for 16384 x 16384 pixels",
    "bomb-tall": "corrupt code stream: too short for 1 x 268435456 pixels",
    "dot-q50": "1 x 1",
    "gray-q50": "17 x 33",
    "no-stream": "corrupt code stream: it ends before its codes do",
    "odd-stream": "corrupt code stream: its length is not a multiple of four",
    "ones": "corrupt code stream: Tried to decode from compressed data that is invalid "
    "for the employed entropy model.",
    "other-model": "needs model 6e6f74206f757273, but the model given is 85b0bf6260ef45b9",
    "photo-q100": "115 x 70",
    "photo-q20": "115 x 70",
    "truncated": "truncated file",
    "unknown-ancillary": "17 x 33",
    "unknown-critical": "made by a newer version of vqzip (chunk 'Q')",
    "unknown-flag": "made by a newer version of vqzip (flags 0x02)",
    "version-2": "unsupported file version 2, this vqzip reads version 1",
    "wrong-checksum": "corrupt file (wrong checksum)",
    "zeros": "corrupt code stream: it goes on after the last code",
}


def test_the_corpus_is_known() -> None:
    assert sorted(KNOWN) == sorted(path.stem for path in CORPUS.iterdir())


@pytest.mark.parametrize("name", KNOWN)
def test_corpus(name: str, model: CodecModel) -> None:
    assert outcome((CORPUS / f"{name}.vqz").read_bytes(), model) == KNOWN[name]


@pytest.mark.parametrize("name", [name for name in KNOWN if name.startswith("bomb")])
def test_bombs_take_no_memory(name: str, model: CodecModel) -> None:
    data = (CORPUS / f"{name}.vqz").read_bytes()
    tracemalloc.start()
    try:
        outcome(data, model)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < (20e6 if name == "bomb-below-the-check" else 1e5)


edits = st.lists(
    st.tuples(st.integers(0, 2**16), st.integers(0, 4), st.binary(max_size=6)),
    min_size=1,
    max_size=4,
)


def edited(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """With a few bytes replaced, at each of some places."""
    for place, removed, put in edits:
        at = place % (len(data) + 1)
        data = data[:at] + put + data[at + removed :]
    return data


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(GOLDEN), edits)
def test_edited_files_with_a_right_checksum(
    model: CodecModel, path: Path, edits: list[tuple[int, int, bytes]]
) -> None:
    body = edited(path.read_bytes()[:-4], edits)
    outcome(body + zlib.crc32(body).to_bytes(4, "little"), model)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(GOLDEN), edits)
def test_edited_code_streams(
    model: CodecModel, path: Path, edits: list[tuple[int, int, bytes]]
) -> None:
    file = container.unpack(path.read_bytes())
    stream = edited(file.code_stream, edits)
    outcome(Container(file.header, (Chunk("C", stream),)).pack(), model)


sides = st.integers(1, 70) | st.sampled_from([2**12, 2**14, 2**28, 2**31 - 1])


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(GOLDEN), sides, sides, st.booleans(), st.integers(0, 128))
def test_streams_of_other_pictures(
    model: CodecModel, path: Path, width: int, height: int, grayscale: bool, level: int
) -> None:
    file = container.unpack(path.read_bytes())
    header = replace(file.header, width=width, height=height, grayscale=grayscale, level=level)
    outcome(replace(file, header=header).pack(), model)


# Models.  Their fingerprints are right: that is easy for anybody to do.


def use(folder: Path) -> str:
    """Load a model, decode and encode with it: it works, or a VqzError says why not."""
    try:
        model = store.load_model(folder)
    except VqzError as error:
        message = str(error)
        assert message.startswith((f"{folder}: ", "model: "))
        assert message.isprintable()
        return message
    with np.errstate(all="ignore"):  # of the encoder, which works with floats
        for level in (0, 77, 128):
            header = container.Header(40, 24, False, model.fingerprint, level)
            for stream in (bytes(2000), bytes(range(256)) * 4):
                outcome(Container(header, (Chunk("C", stream),)).pack(), model)
        data = vqzip.compress(Image.effect_noise((20, 18), 60), 50, model)
    assert outcome(data, model) == "20 x 18"
    return "works"


def test_the_model_itself_works() -> None:
    assert use(MODEL) == "works"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
numbers = st.sampled_from([-1, 0, 1, 2, 3, 5, 16, 64, 128, 1024, 10**9, 10**30])


def places(config: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to everything in a configuration."""
    if isinstance(config, dict):
        inner = list(config.items())
    elif isinstance(config, list):
        inner = list(enumerate(config))
    else:
        return [path]
    return [path, *(place for key, value in inner for place in places(value, (*path, key)))]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_mutated_configurations(
    tensors: Tensors, config: dict[str, Any], folder: Path, data: st.DataObject
) -> None:
    changed = copy.deepcopy(config)
    for _ in range(data.draw(st.integers(1, 2))):
        *path, last = data.draw(st.sampled_from(places(changed)[1:]))
        inner: Any = changed
        for key in path:
            inner = inner[key]
        inner[last] = data.draw(json_values | numbers)
    store.save(tensors, changed, folder)
    use(folder)


Array = NDArray[np.generic]
SHAPES: dict[str, Callable[[Array], Array]] = {
    "transposed": lambda t: t.T,
    "shorter": lambda t: t[:-1],
    "narrower": lambda t: t[..., :-1],
    "twice": lambda t: np.concatenate([t, t]),
    "one": lambda t: t[:1],
    "one column": lambda t: t[..., :1],
    "none": lambda t: t[:0],
    "flat": lambda t: t.reshape(-1),
    "deeper": lambda t: t[None],
    "a number": lambda t: np.array(t.flat[0] if t.size else 0, t.dtype),
}
TYPES = ["int8", "uint8", "int16", "int32", "int64", "uint64", "float16", "float32", "float64", "?"]


def extreme(like: Array, pick: int) -> Array:
    """A tensor of the same type and shape, full of numbers that nobody expects."""
    dtype: np.dtype[Any] = like.dtype
    if dtype.kind == "i":
        info = np.iinfo(dtype)
        values: list[float] = [info.min, -1, 0, 1, info.max]
    else:
        values = [-65504.0, 0.0, 6e-8, 65504.0, np.inf, -np.inf, np.nan]
    if pick < len(values):
        return np.full_like(like, values[pick])
    return np.random.default_rng(pick).choice(np.array(values, dtype), like.shape)


def mutated(tensor: Array, how: str, pick: int) -> Array:
    """A tensor in one way or another not what it was."""
    if how == "shape":
        tensor = SHAPES[sorted(SHAPES)[pick % len(SHAPES)]](tensor)
    elif how == "type":
        tensor = tensor.astype(TYPES[pick % len(TYPES)])
    elif how == "values" and tensor.dtype.kind in "if" and tensor.size:
        tensor = extreme(tensor, pick)
    return np.ascontiguousarray(tensor)


picks = st.integers(0, 20) | st.integers(0, 2**32)
kinds = st.sampled_from(["shape", "type", "values", "values", "name", "missing"])


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(picks, kinds, picks), min_size=1, max_size=2))
def test_mutated_tensors(
    tensors: Tensors, config: dict[str, Any], folder: Path, changes: list[tuple[int, str, int]]
) -> None:
    changed = dict(tensors)
    for which, how, pick in changes:
        name = sorted(changed)[which % len(changed)]
        tensor = changed.pop(name)
        if how != "missing":
            other = sorted(tensors)[pick % len(tensors)]
            with np.errstate(all="ignore"):
                changed[other if how == "name" else name] = mutated(tensor, how, pick)
    store.save(changed, config, folder)
    use(folder)


@settings(deadline=None, max_examples=60)
@given(edits)
def test_edited_weights_are_noticed(folder: Path, edits: list[tuple[int, int, bytes]]) -> None:
    """Among the first bytes, those of the description of tensors in JSON."""
    weights = (MODEL / "model.safetensors").read_bytes()
    changed = edited(weights[:2000], edits) + weights[2000:]
    (folder / "model.safetensors").write_bytes(changed)
    (folder / "config.json").write_bytes((MODEL / "config.json").read_bytes())
    if changed != weights:
        assert use(folder).startswith((f"{folder}: not a model: ", f"{folder}: damaged model: "))


@settings(deadline=None, max_examples=60)
@given(edits)
def test_edited_configurations_are_noticed(
    folder: Path, edits: list[tuple[int, int, bytes]]
) -> None:
    text = (MODEL / "config.json").read_bytes()
    (folder / "model.safetensors").write_bytes((MODEL / "model.safetensors").read_bytes())
    (folder / "config.json").write_bytes(edited(text, edits))
    use(folder)
