"""Bytes that changed by themselves, anywhere, and files cut short: noticed, or without effect; never anyone else's."""

from __future__ import annotations

import itertools
import json
import logging
import random
import shutil

import pytest
from fault_episodes import DESCRIPTION, ROOT, children, load, make_episode

from shopfloor.core import ShopfloorError
from shopfloor.datasets.format.digest import episode_digest
from shopfloor.datasets.listing.overlays import append_overlay
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.tools.compact import compact
from shopfloor.datasets.writer import EpisodeWriter, write_manifest

IDENTITY_KEYS = json.loads((ROOT / "docs/schemas/dataset.schema.json").read_text())["required"]
KEYS = ("state", "front", "actions", "label_valid", "label_chunks", "sim_states")
QUICK, SOME, MANY = 16, 80, 250
SHARE_OF_CUTS = 5  # one in so many cuts the file instead


def loose(root, codec):
    writer = EpisodeWriter(root, DESCRIPTION, codec)
    for index, steps in enumerate((6, 3, 2)):
        writer.write(make_episode(index, steps, image=4), index)
    return writer.path


def finished(root, codec="blosc"):
    """A dataset with all that a dataset may have."""
    loose(root, codec)
    ids = [make_episode(index).spec.episode_id for index in range(3)]
    append_overlay(
        root,
        [
            {"op": "relabel", "episode_id": ids[1], "instruction": "Tidy up."},
            {"op": "weight", "episode_id": ids[0], "weight": 2.5},
            {"op": "tombstone", "episode_id": "5" * 64, "reason": "a person is in the picture"},
        ],
    )
    write_manifest(root)
    return root


def bundled(root, layout, *, listed=True):
    """The same in one shard."""
    compact(finished(root), layout=layout)
    if not listed:
        shutil.rmtree(root / "manifests")
    return root


# What is damaged: how the dataset is made, and which of its files.
KINDS = {
    "loose, blosc": (lambda root: finished(root), "episodes/ep-00000000-*.h5"),
    "loose, gzip": (lambda root: finished(root, "gzip"), "episodes/ep-00000000-*.h5"),
    "loose, none, no manifest": (lambda root: loose(root, "none"), "episodes/ep-00000000-*.h5"),
    "sealed shard": (lambda root: bundled(root, "sealed"), "shards/shard-00000000.h5"),
    "train shard": (lambda root: bundled(root, "train"), "shards/shard-00000000.h5"),
    "train shard, no manifest": (
        lambda root: bundled(root, "train", listed=False),
        "shards/shard-00000000.h5",
    ),
    "manifest": (finished, "manifests/manifest-00000001.json"),
    "overlay": (finished, "overlays/overlay-00000001.json"),
    "identity": (finished, "dataset.json"),
}
# Where every episode can be read all the same, and where those of other files can.
ALL_ARE_READ, OTHERS_ARE_READ = ("manifest",), ("loose",)


def content(root):
    """Read everything there is in every way; returns (what was read, errors)."""
    read, errors = {}, []
    try:
        dataset = Dataset(root)
        errors += [damage.problem for damage in dataset.damage]
        raw = dataset.identity.raw
        read["identity"] = repr([raw.get(key) for key in IDENTITY_KEYS])
        for position, record in enumerate(dataset.records):
            try:
                episode = dataset.read(position)
                rows = dataset.read_arrays(position, KEYS)
                values = {name: array.tobytes().hex() for name, array in sorted(rows.items())}
                read[str(record.index)] = (
                    f"{record.to_json()} {record.weight} {episode_digest(episode)} {values}"
                )
            except ShopfloorError as error:
                errors.append(str(error))
        dataset.close()
    except ShopfloorError as error:
        errors.append(str(error))
    return read, errors


def places(data, path, count, dice):
    """Choose bytes to flip: of JSON anywhere, of HDF5 in equal parts header, structures, arrays and trailer."""
    if path.suffix == ".json":
        return [dice.randrange(len(data)) for _ in range(count)]
    spans = load("benchmarks/changes.py", "benchmark_changes").structures(data)
    arrays = [(one[1], two[0]) for one, two in itertools.pairwise(spans)]
    regions = [[(0, 96)], spans, arrays, [(len(data) - 40, len(data))]]
    found = []
    for number in range(count):
        region = regions[number % 4]
        start, stop = dice.choices(region, [stop - start for start, stop in region])[0]
        found.append(dice.randrange(start, stop))
    return found


def damages(path, count, dice):
    """Yield damaged versions of a file."""
    whole = path.read_bytes()
    for number, place in enumerate(places(whole, path, count, dice)):
        if number % SHARE_OF_CUTS:
            yield (
                whole[:place] + bytes([whole[place] ^ 1 << dice.randrange(8)]) + whole[place + 1 :]
            )
        else:
            yield whole[:place]
    yield from (b"", whole + b"\0", whole[:-1], whole[:-40], b"\0" * len(whole))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "count",
    [
        QUICK,
        pytest.param(SOME, marks=pytest.mark.slow),
        pytest.param(MANY, marks=pytest.mark.long),
    ],
)
def test_no_damage_is_silent(tmp_path, kind, count):
    make, name = KINDS[kind]
    root = make(tmp_path / "data")
    (path,) = root.glob(name)
    before, errors = content(root)
    assert not errors
    assert len(before) == 4
    damaged = list(damages(path, count, random.Random(kind)))

    def try_one(case):
        logging.disable(logging.CRITICAL)
        path.write_bytes(damaged[case])
        read, errors = content(root)
        changed = sorted(name for name in read if read[name] != before[name])
        return {
            "errors": errors,
            "changed": changed,
            "missing": sorted(before.keys() - read.keys()),
        }

    noticed = 0
    for outcome in children.outcomes(try_one, range(len(damaged))):
        assert outcome.how == "returned", (outcome, damaged[outcome.case])
        found = outcome.value
        assert found["changed"] == [], found
        assert found["errors"] or not found["missing"], found
        if kind in ALL_ARE_READ:
            assert found["missing"] == []
        if kind.startswith(OTHERS_ARE_READ):
            assert found["missing"] in ([], ["0"])
            assert found["errors"]
        noticed += bool(found["errors"])
    assert noticed > len(damaged) // 2


def test_every_file_is_in_the_list(tmp_path):
    """A kind of file that a dataset has and this test does not know would go untested."""
    root = finished(tmp_path / "data")
    known = {path for _, name in KINDS.values() for path in root.glob(name)}
    others = {
        path.parent.name for path in root.rglob("*.*") if path.is_file() and path not in known
    }
    assert others == {"episodes"}  # the other episodes
