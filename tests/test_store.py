import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from vqzip import store
from vqzip.codec import CodecModel
from vqzip.errors import VqzError
from vqzip.integer import Tensors

pytest_plugins = ["tiny_fixtures"]


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to be damaged."""
    return Path(shutil.copytree(exported, tmp_path / "model"))


@pytest.fixture(scope="session")
def config(exported: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((exported / "config.json").read_text())
    return loaded


def refusal(folder: Path) -> str:
    """The message of the VqzError that loading raises, which names the folder, on one line."""
    with pytest.raises(VqzError) as caught:
        store.load_model(folder)
    message = str(caught.value)
    assert message.isprintable()
    start = f"{folder}: "
    assert message.startswith(start)
    return message.removeprefix(start)


# What is saved is what is loaded.


def test_a_saved_model_loads(exported: Path, model: CodecModel, config: dict[str, Any]) -> None:
    assert model.fingerprint.hex() == config["fingerprint"]
    assert len(model.fingerprint) == 8
    assert (model.top.tile, model.bottom.tile) == (4, 8)
    assert sorted(p.name for p in exported.iterdir()) == ["config.json", "model.safetensors"]


def test_loading_twice_gives_the_same_fingerprint(folder: Path, model: CodecModel) -> None:
    assert store.load_model(folder).fingerprint == model.fingerprint
    assert store.load_model(str(folder)).fingerprint == model.fingerprint


def test_saving_again_gives_the_same_files(
    exported: Path, tensors: Tensors, config: dict[str, Any], tmp_path: Path
) -> None:
    name = store.save(tensors, config, tmp_path / "some" / "where")
    assert name.hex() == config["fingerprint"]
    for path in exported.iterdir():
        assert (tmp_path / "some" / "where" / path.name).read_bytes() == path.read_bytes()


def test_the_transform_is_loaded_for_inference(model: CodecModel, tensors: Tensors) -> None:
    assert not model.transform.training
    state = model.transform.state_dict()
    assert {f"transform.{name}" for name in state} == {
        name for name in tensors if name.startswith("transform.")
    }
    for name, value in state.items():
        last = torch.channels_last if value.ndim == 4 else torch.contiguous_format
        assert value.is_contiguous(memory_format=last)
        assert not value.requires_grad
        stored = tensors[f"transform.{name}"]
        assert stored.dtype == np.float16
        np.testing.assert_array_equal(value.numpy(), stored.astype(np.float32))


# The fingerprint.


SMALL: Tensors = {"a": np.arange(6, dtype=np.int16).reshape(2, 3), "b": np.zeros(2, np.float16)}
CONFIG = {"steps": 16, "top": {"slices": [1, 2]}}


def test_fingerprint_is_pinned() -> None:
    assert store.fingerprint(SMALL, CONFIG).hex() == "666317269c392595"


def test_fingerprint_does_not_depend_on_order_layout_or_itself() -> None:
    name = store.fingerprint(SMALL, CONFIG)
    assert store.fingerprint(dict(reversed(SMALL.items())), CONFIG) == name
    assert store.fingerprint(SMALL, dict(reversed(CONFIG.items()))) == name
    assert store.fingerprint(SMALL, CONFIG | {"fingerprint": "00"}) == name
    other = {"a": np.asfortranarray(SMALL["a"]), "b": SMALL["b"].astype(">f2")}
    assert store.fingerprint(other, CONFIG) == name


@pytest.mark.parametrize(
    "other",
    [
        SMALL | {"c": np.zeros(0, np.int8)},
        {"a": SMALL["a"]},
        {"a": SMALL["a"], "B": SMALL["b"]},
        SMALL | {"a": SMALL["a"].reshape(3, 2)},
        SMALL | {"a": SMALL["a"].astype(np.uint16)},
        SMALL | {"a": SMALL["a"].astype(np.int32)},
        SMALL | {"b": np.array([0, 1], np.float16)},
        {"a": SMALL["b"], "b": SMALL["a"]},
    ],
)
def test_fingerprint_depends_on_names_shapes_types_and_values(other: Tensors) -> None:
    assert store.fingerprint(other, CONFIG) != store.fingerprint(SMALL, CONFIG)


def test_fingerprint_depends_on_every_tensor(tensors: Tensors, config: dict[str, Any]) -> None:
    names = {store.fingerprint(tensors, config)}
    for key, value in tensors.items():
        raw = bytearray(value.tobytes())
        raw[-1] ^= 1
        changed = np.frombuffer(bytes(raw), value.dtype).reshape(value.shape)
        names.add(store.fingerprint(tensors | {key: changed}, config))
    assert len(names) == len(tensors) + 1


def leaves(config: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to the numbers in a configuration."""
    if isinstance(config, dict):
        return [leaf for key in config for leaf in leaves(config[key], (*path, key))]
    if isinstance(config, list):
        return [leaf for i, value in enumerate(config) for leaf in leaves(value, (*path, i))]
    return [path]


def changed(config: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A copy of the configuration with one value replaced."""
    copied = copy.deepcopy(config)
    inner: Any = copied
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copied


def test_fingerprint_depends_on_every_number_of_the_config(config: dict[str, Any]) -> None:
    numbers = [path for path in leaves(config) if path != ("fingerprint",)]
    assert ("transform", "levels") in numbers
    names = {store.fingerprint(SMALL, config)}
    names |= {store.fingerprint(SMALL, changed(config, path, 12345)) for path in numbers}
    assert len(names) == len(numbers) + 1


# Damage.


def test_missing_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere").startswith("not a model: [Errno 2] No such file")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert refusal(folder).startswith("not a model: ")


def test_a_file_is_not_a_model(folder: Path) -> None:
    assert refusal(folder / "config.json").startswith("not a model: ")


@pytest.mark.parametrize("place", [8, 100, -1, -5000])
def test_a_damaged_byte_of_the_weights_is_noticed(folder: Path, place: int) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    message = refusal(folder)
    assert message.startswith(("not a model: ", "damaged model: its fingerprint is "))


@pytest.mark.parametrize("length", [0, 7, 8, 1000, -1])
def test_cut_weights_are_noticed(folder: Path, length: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    assert refusal(folder).startswith("not a model: ")


def test_weights_of_another_model_are_noticed(
    folder: Path, tensors: Tensors, config: dict[str, Any]
) -> None:
    other = tensors | {"top.unit": tensors["top.unit"] + np.int32(1)}
    save_file(dict(other), folder / "model.safetensors")
    name = store.fingerprint(other, config).hex()
    assert refusal(folder) == f"damaged model: its fingerprint is {name}"


@pytest.mark.parametrize("kind", ["BF16", "F8_E4M3"])
def test_tensors_of_a_type_that_numpy_lacks_are_refused(folder: Path, kind: str) -> None:
    path = folder / "model.safetensors"
    header = json.dumps({"x": {"dtype": kind, "shape": [0], "data_offsets": [0, 0]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert refusal(folder).startswith("not a model: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a model: Expecting value"),
        ("{", "not a model: Expecting property name"),
        ("[]", "not a model: config.json is no object"),
        ("3", "not a model: config.json is no object"),
        ("{}", "damaged model: its fingerprint is "),
        ("\udcff", "not a model: 'utf-8' codec can't decode"),
        pytest.param("[" * 100_000, "not a model: "),
    ],
)
def test_broken_config(folder: Path, text: str, message: str) -> None:
    (folder / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    assert refusal(folder).startswith(message)


def test_edited_config_is_noticed(folder: Path, config: dict[str, Any]) -> None:
    text = json.dumps(changed(config, ("tile",), 16))
    (folder / "config.json").write_text(text)
    assert refusal(folder).startswith("damaged model: its fingerprint is ")


# Models whose fingerprint is right and that are none all the same.


WRONG: list[object] = [None, [], {}, "8", -1, 1.5]
ENTRIES = [
    ("steps",),
    ("tile",),
    ("top",),
    ("bottom",),
    ("transform",),
    ("top", "slices"),
    ("transform", "top_width"),
    ("transform", "top_latents"),
    ("transform", "bottom_latents"),
    ("transform", "levels"),
    ("transform", "encoder_blocks"),
]
UNCHECKED = [("tile",), ("top", "slices")]


@pytest.mark.parametrize("path", [e for e in ENTRIES if e not in UNCHECKED], ids=".".join)
def test_hostile_config(
    folder: Path, tensors: Tensors, config: dict[str, Any], path: tuple[str, ...]
) -> None:
    for value in WRONG:
        store.save(tensors, changed(config, path, value), folder)
        assert refusal(folder).startswith("not a model of this version: ")


@pytest.mark.parametrize("tile", [0, 1, -8, 8.0, True])
def test_hostile_tile(folder: Path, tensors: Tensors, config: dict[str, Any], tile: object) -> None:
    store.save(tensors, changed(config, ("tile",), tile), folder)
    assert refusal(folder).startswith("not a model of this version: ")


@pytest.mark.parametrize("slices", [[], [8], [0, 4, 4], [-1, 5, 4], [1, 3], [1.0, 3, 4]])
def test_hostile_slices(
    folder: Path, tensors: Tensors, config: dict[str, Any], slices: list[object]
) -> None:
    store.save(tensors, changed(config, ("top", "slices"), slices), folder)
    assert refusal(folder).startswith("not a model of this version: ")


@pytest.mark.parametrize("path", ENTRIES, ids=".".join)
def test_missing_entry_of_the_config(
    folder: Path, tensors: Tensors, config: dict[str, Any], path: tuple[str, ...]
) -> None:
    copied = copy.deepcopy(config)
    inner = copied
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    store.save(tensors, copied, folder)
    assert refusal(folder).startswith("not a model of this version: ")


def test_unknown_entry_of_the_transform(
    folder: Path, tensors: Tensors, config: dict[str, Any]
) -> None:
    store.save(tensors, changed(config, ("transform", "depth"), 3), folder)
    message = refusal(folder)
    assert message.startswith("not a model of this version: ")
    assert "'depth'" in message


@pytest.mark.parametrize(
    "key",
    [
        "top.context.weight",
        "bottom.condition.bias",
        "lift.1.multiplier",
        "top.unit",
        "bottom.precision",
        "top.weight",
        "bottom.codebook.8.3.codewords",
        "top.codebook.0.0.bias",
        "transform.analysis.weight",
        "transform.bottom_ungain",
    ],
)
def test_missing_tensor(folder: Path, tensors: Tensors, config: dict[str, Any], key: str) -> None:
    store.save({k: v for k, v in tensors.items() if k != key}, config, folder)
    message = refusal(folder)
    assert message.startswith("not a model of this version: ")
    assert key.removeprefix("transform.").partition(".")[2] in message


def test_a_layer_that_is_not_exact_is_refused(
    folder: Path, tensors: Tensors, config: dict[str, Any]
) -> None:
    huge = np.full_like(tensors["lift.0.bias"], 2**52)
    store.save(tensors | {"lift.0.bias": huge}, config, folder)
    with pytest.raises(VqzError, match=r"^model: lift\.0 is not exact: products reach \d+$"):
        store.load_model(folder)


def test_levels_that_do_not_span_the_scale_are_refused(
    folder: Path, tensors: Tensors, config: dict[str, Any]
) -> None:
    store.save(tensors, changed(config, ("steps",), 8), folder)
    assert refusal(folder) == "not a model of this version: its levels do not span 0 to 128"


# Shipped models.


@pytest.fixture
def shipped(
    exported: Path,
    tensors: Tensors,
    config: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder of models: `photo` is the tiny one, `other` a variant."""
    models = tmp_path / "models"
    shutil.copytree(exported, models / "photo")
    store.save(tensors, changed(config, ("tile",), 4), models / "other")
    monkeypatch.setattr(store, "models_folder", lambda: models)
    return models


def test_find_model(shipped: Path, model: CodecModel) -> None:
    assert store.find_model(model.fingerprint) == shipped / "photo"
    other = bytes.fromhex(
        json.loads((shipped / "other" / "config.json").read_text())["fingerprint"]
    )
    assert other != model.fingerprint
    assert store.find_model(other) == shipped / "other"
    assert store.find_model(b"unknown!") is None
    assert store.installed() == [(shipped / "other", other), (shipped / "photo", model.fingerprint)]


def test_the_default_model_is_loaded_without_a_path(shipped: Path, model: CodecModel) -> None:
    assert store.load_model().fingerprint == model.fingerprint


def test_no_models_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "models_folder", lambda: tmp_path / "nowhere")
    assert store.installed() == []
    assert store.find_model(b"unknown!") is None


@pytest.mark.parametrize("text", ["{}", '{"fingerprint": 5}', '{"fingerprint": "xy"}'])
def test_a_broken_shipped_model_is_a_vqz_error(shipped: Path, text: str) -> None:
    (shipped / "other" / "config.json").write_text(text)
    with pytest.raises(VqzError) as caught:
        store.find_model(b"unknown!")
    assert str(caught.value).startswith(f"{shipped / 'other'}: not a model: ")


def test_find_model_needs_neither_torch_nor_numpy(exported: Path) -> None:
    script = (
        "import sys; from vqzip import store; from pathlib import Path\n"
        "store.models_folder = lambda: Path(sys.argv[1])\n"
        "assert store.find_model(bytes(8)) is None\n"
        "assert store.installed() != []\n"
        "assert not {'torch', 'numpy', 'safetensors', 'PIL'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script, exported.parent], check=True)
