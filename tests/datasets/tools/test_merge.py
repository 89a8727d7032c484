from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest

from shopfloor.core import InvalidInputError
from shopfloor.datasets.disk.errors import DamagedFileError, FormatVersionError, NotADatasetError
from shopfloor.datasets.format.digest import episode_digest
from shopfloor.datasets.listing.verify import verify
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.tools.compact import compact
from shopfloor.datasets.tools.edit import delete, relabel
from shopfloor.datasets.tools.merge import merge
from shopfloor.datasets.writer import EpisodeWriter, Provenance, write_manifest


def contents(root):
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def write(tmp_path, description, make_episode):
    """Write a dataset of the episodes of some seeds."""

    def write(name, *seeds, **options):
        changes = options.pop("description", {})
        writer = EpisodeWriter(tmp_path / name, {**description, **changes}, **options)
        for seed in seeds:
            episode = make_episode(seed, 2)
            spec = dataclasses.replace(episode.spec, cell=writer.identity.raw["cells"][0])
            writer.write(dataclasses.replace(episode, spec=spec), seed)
        return writer.path

    return write


def pairs(path):
    dataset = Dataset(path)
    return {
        (record.episode_id, episode_digest(dataset.read(i)))
        for i, record in enumerate(dataset.records)
    }


def test_a_merge_holds_all_and_proves_it(write, tmp_path):
    one, two = write("one", 0, 1), write("two", 2, 5, 9)
    before = contents(tmp_path)
    done = merge([one, str(two)], tmp_path / "all")
    assert (done.episodes, done.duplicates, done.overlays) == (5, 0, 0)
    assert pairs(done.path) == pairs(one) | pairs(two)
    lines = "".join(f"{name} {digest}\n" for name, digest in sorted(pairs(done.path)))
    assert done.proof == hashlib.sha256(lines.encode()).hexdigest()
    assert done.to_json()["proof"] == done.proof
    assert verify(done.path) == []
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before
    assert {after[name] for name in after if name.startswith("all/episodes")} == {
        before[name] for name in before if "/episodes/" in name
    }
    assert Dataset(done.path).info()["manifest"] == {"number": 1, "loose_files": 0}


def test_equal_episodes_are_kept_once(write, tmp_path):
    """Equal in content: their files were written with different codecs."""
    one, two = write("one", 0, 1, 2), write("two", 1, 2, 3, codec="gzip")
    done = merge([one, two], tmp_path / "all")
    assert (done.episodes, done.duplicates) == (4, 2)
    assert len(list((done.path / "episodes").iterdir())) == 4
    assert pairs(done.path) == pairs(one) | pairs(two)


def test_one_id_for_two_episodes_is_refused(write, tmp_path, make_episode, description):
    one = write("one", 0, 1)
    writer = EpisodeWriter(tmp_path / "two", description)
    other = dataclasses.replace(make_episode(1, 2), instruction="Something else.")
    writer.write(other, 7)
    with pytest.raises(
        InvalidInputError, match=f"Episode {other.spec.episode_id} is in {one} and in {writer.path}"
    ):
        merge([one, writer.path], tmp_path / "all")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


@pytest.mark.parametrize("layout", ["sealed", "train"])
def test_shards(write, tmp_path, layout):
    one, two, three = write("one", 0, 1, 2), write("two", 2, 3, 4), write("three", 0, 5)
    expected = pairs(one) | pairs(two) | pairs(three)
    compact(one, layout=layout)
    compact(two)
    done = merge([one, two, three], tmp_path / "all")
    assert (done.episodes, done.duplicates) == (6, 2)
    assert pairs(done.path) == expected
    assert verify(done.path) == []
    assert len(list((done.path / "shards").iterdir())) == 1
    assert len(list((done.path / "episodes").iterdir())) == 3
    (whole,) = (one / "shards").iterdir()
    assert next((done.path / "shards").iterdir()).read_bytes() == whole.read_bytes()


def test_overlays_are_carried_in_the_order_of_the_sources(write, tmp_path):
    one, two = write("one", 0, 1), write("two", 1, 2)
    relabel(one, "True", instruction="First.")
    relabel(two, "seed == 1", instruction="Second.")
    delete(two, "seed == 2")
    for order, said in (((one, two), "Second."), ((two, one), "First.")):
        done = merge(order, tmp_path / said)
        assert (done.episodes, done.overlays) == (3, 3)
        opened = Dataset(done.path)
        assert {record.seed: record.instruction for record in opened.records} == {
            0: "First.",
            1: said,
        }
        assert len(opened.episode_ids()) == 3
        assert [path.name for path in sorted((done.path / "overlays").iterdir())] == [
            f"overlay-{number:08d}.json" for number in (1, 2, 3)
        ]


def test_provenance_that_differs_says_mixed_and_files_keep_theirs(write, tmp_path):
    one = write("one", 0, provenance=Provenance(site="Ulm", licence="MIT"))
    two = write("two", 1, provenance=Provenance(site="Gent", licence="MIT"))
    three = write("three", 2, provenance=Provenance(site="Ulm", licence="MIT"))
    first = merge([one, two], tmp_path / "first").path
    path = merge([first, three], tmp_path / "second").path
    raw = json.loads((path / "dataset.json").read_text())
    assert (raw["site"], raw["licence"], raw["owner"]) == (
        "mixed: Ulm | Gent",
        "MIT",
        "unspecified",
    )
    opened = Dataset(path)
    assert [opened.open_episode(index).fact("site") for index in range(3)] == ["Ulm", "Gent", "Ulm"]


def test_several_cells(write, tmp_path, description):
    one = write("one", 0)
    two = write("two", 0, description={"cell": "shopfloor/Kitting-v0", "note": "another"})
    path = merge([one, two], tmp_path / "all").path
    raw = json.loads((path / "dataset.json").read_text())
    assert raw["cells"] == ["shopfloor/PickToTray-v0", "shopfloor/Kitting-v0"]
    assert raw["descriptions"]["shopfloor/Kitting-v0"]["note"] == "another"
    assert sorted(raw["descriptions"]) == sorted(raw["cells"])
    assert len(Dataset(path)) == 2


FEATURES = {
    "state": {
        "shape": [9],
        "dtype": "float32",
        "names": [f"q{n}" for n in range(9)],
        "units": ["rad"] * 9,
    }
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action_convention": "joint_v1"}, '"ee_delta_base_v1" in .*one, "joint_v1" in .*two'),
        ({"control_hz": 10}, "control_hz differs: 20 in .*, 10 in"),
        (
            {"features": FEATURES},
            r"feature 'front': shape differs: \[16, 12, 3\] in .*, nothing in",
        ),
        ({"state": {"units": ["deg"] * 9}}, "feature 'state': units differs: .*rad.*deg"),
        ({"state": {"shape": [10]}}, r"feature 'state': shape differs: \[9\] in .*, \[10\] in"),
        ({"state": {"dtype": "float64"}}, "feature 'state': dtype differs"),
        ({"state": {"names": [f"r{n}" for n in range(9)]}}, "feature 'state': names differs"),
        ({"env_args": {"env_name": "x"}}, "shopfloor/PickToTray-v0: env_args differs"),
    ],
)
def test_what_does_not_mean_the_same_is_refused_with_the_difference(
    write, tmp_path, description, changes, message
):
    if "state" in changes:
        features = description["features"]
        changes = {"features": {**features, "state": {**features["state"], **changes["state"]}}}
    one, two = write("one", 0), write("two", description=changes)
    for order in ([one, two], [two, one]):
        with pytest.raises(InvalidInputError, match="cannot be merged") as error:
            merge(order, tmp_path / "all")
        assert order[0] == two or error.match(message)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_long_difference_is_shown_where_it_is(write, tmp_path, description):
    names = [f"a_long_name_{n}" for n in range(40)]
    features = {"state": {**FEATURES["state"], "names": names}}
    other = {"state": {**FEATURES["state"], "names": [*names[:-1], "odd"]}}
    one = write("one", description={"features": features})
    two = write("two", description={"features": other})
    with pytest.raises(InvalidInputError, match=r"a_long_name_39.*odd"):
        merge([one, two], tmp_path / "all")


def test_a_key_that_only_one_description_has_is_kept(write, tmp_path):
    one, two = write("one", 0), write("two", 1, description={"robot": "panda"})
    for order in ([one, two], [two, one]):
        path = merge(order, tmp_path / f"from-{order[0].name}").path
        assert Dataset(path).description["robot"] == "panda"


def test_places_that_cannot_be(write, tmp_path):
    one, two = write("one", 0), write("two", 1)
    (tmp_path / "link").symlink_to(two)
    for paths, out, message in [
        ([one], "all", "two or more"),
        ([one, one], "all", "given twice"),
        ([two, tmp_path / "link"], "all", "given twice"),
        ([one, two], "one/all", "would lie in the source"),
        ([one, two], "link/all", "would lie in the source"),
        ([one, two], "two", "would lie in the source|exists"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            merge(paths, tmp_path / out)
    with pytest.raises(NotADatasetError):
        merge([one, tmp_path], tmp_path / "all")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "one", "two"]


def test_an_empty_source_adds_nothing(write, tmp_path):
    one, two = write("one", 0), write("two")
    done = merge([two, one], tmp_path / "all")
    assert pairs(done.path) == pairs(one)


def test_a_newer_version_stops_it(write, tmp_path):
    one, two = write("one", 0), write("two", 1)
    path = two / "dataset.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(FormatVersionError):
        merge([one, two], tmp_path / "all")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


@pytest.mark.parametrize("manifest", [True, False])
def test_damage_is_not_hidden(write, tmp_path, manifest):
    one, two = write("one", 0), write("two", 1, 2)
    if manifest:
        write_manifest(two)
    path = two / Dataset(two).records[1].file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedFileError, match=str(path)):
        merge([one, two], tmp_path / "all")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_copy_that_differs_from_its_source_is_not_kept(write, tmp_path, monkeypatch):
    """The closing proof compares what lies on disk in the end."""
    from shopfloor.datasets.tools import merge as module

    one, two = write("one", 0, 1), write("two", 2)
    real = module.copy_records

    def forgetful(root, chosen, target, numbers):
        real(root, chosen[:1], target, numbers)

    monkeypatch.setattr(module, "copy_records", forgetful)
    with pytest.raises(
        DamagedFileError, match="1 episodes in it are not what they are in the source"
    ):
        merge([one, two], tmp_path / "all")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
