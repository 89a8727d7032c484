"""Rendered datasets: the very files that would have been written live, whatever the number of workers."""

import dataclasses

import numpy as np
import pytest

from shopfloor.collectors.collect import collect
from shopfloor.collectors.recorded.render import render_dataset
from shopfloor.core import InvalidInputError, UnknownNameError
from shopfloor.datasets.disk.errors import DamagedFileError
from shopfloor.datasets.listing.overlays import write_overlay
from shopfloor.datasets.listing.verify import verify
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.tools.edit import delete, relabel
from shopfloor.datasets.tools.merge import merge
from shopfloor.datasets.writer import EpisodeWriter

CELLS = ("PickToTray", "Kitting", "ConveyorSort")
SIZE = (24, 32)
LIVE = {"cameras": ("front", "wrist"), "image_size": SIZE}
KINDS = {
    "demonstrations": {"policy": "expert", "noise": 0.2},
    "expert labels": {
        "policy": "random",
        "teacher": "expert",
        "intervene": "label",
        "noise": 0.1,
    },
    "expert intervenes": {"policy": "random", "teacher": "expert", "intervene": "expert"},
    "displaced": {"policy": "expert", "variation": "displaced"},
    "mid task": {"policy": "expert", "variation": "mid_task"},
}


def files(folder):
    """Return name -> bytes of all but the account of the run."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("run.json", "receipts.jsonl")
    }


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A short dataset of poses of each cell, and the same collected with cameras."""
    root = tmp_path_factory.mktemp("parts")
    for cell in CELLS:
        collect(cell=cell, policy="expert", episodes=2, noise=0.2, out=root / cell)
        collect(
            cell=cell, policy="expert", episodes=2, noise=0.2, out=root / f"{cell}-live", **LIVE
        )
    return root


@pytest.mark.parametrize("cell", CELLS)
def test_the_files_are_those_of_a_live_recording(parts, cell, tmp_path):
    steps = []
    done = render_dataset(
        parts / cell,
        tmp_path / "r",
        LIVE["cameras"],
        SIZE,
        progress=lambda *counts: steps.append(counts),
    )
    live = files(parts / f"{cell}-live")
    assert files(tmp_path / "r") == live
    assert len(live) == 4
    assert done.pictures == 2 * (sum(record.steps for record in Dataset(parts / cell).records) + 2)
    assert done.bytes == sum(len(data) for name, data in live.items() if name.endswith(".h5"))
    assert steps[-1] == (2, 2)
    assert not list(tmp_path.glob(".*"))


def test_two_workers_write_the_same_and_other_pictures_are_replaced(parts, tmp_path, pool):
    options = {"cameras": ("wrist",), "size": (16, 20), "codec": "gzip"}
    render_dataset(parts / "Kitting", tmp_path / "one", **options)
    render_dataset(parts / "Kitting", tmp_path / "two", executor=pool, **options)
    render_dataset(parts / "Kitting-live", tmp_path / "again", **options)
    assert files(tmp_path / "one") == files(tmp_path / "two") == files(tmp_path / "again")
    assert sorted(Dataset(tmp_path / "one").read(0).observations) == ["objects", "state", "wrist"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cell", CELLS)
def test_every_kind_of_episode_renders_as_live(tmp_path, cell, kind):
    options = {"cell": cell, "episodes": 3, **KINDS[kind]}
    collect(**options, out=tmp_path / "poses")
    collect(**options, out=tmp_path / "live", **LIVE)
    render_dataset(tmp_path / "poses", tmp_path / "r", LIVE["cameras"], SIZE, workers=2)
    assert files(tmp_path / "r") == files(tmp_path / "live")


def test_overlays_come_along_and_variations_stay_together(parts, tmp_path):
    displaced = {"cell": "Kitting", "policy": "expert", "variation": "displaced", "episodes": 1}
    collect(**displaced, seed=2, out=tmp_path / "displaced")
    merge([parts / "Kitting", tmp_path / "displaced"], tmp_path / "all")
    relabel(tmp_path / "all", where="seed == 0", instruction="otherwise")
    (gone,) = [
        record.episode_id for record in Dataset(tmp_path / "all").records if record.seed == 1
    ]
    delete(tmp_path / "all", ids=[gone])
    view = write_overlay(tmp_path / "view.json", [{"op": "restore", "episode_id": gone}])
    render_dataset(tmp_path / "all", tmp_path / "with", ("front",), SIZE, overlays=[view])
    assert len(Dataset(tmp_path / "with")) == 3
    render_dataset(tmp_path / "all", tmp_path / "r", ("front",), SIZE)
    found = Dataset(tmp_path / "r")
    instructions = {
        (record.variation, record.seed): found.read(at).instruction
        for at, record in enumerate(found.records)
    }
    assert set(instructions) == {("displaced", 2), ("nominal", 0)}
    assert [text == "otherwise" for _, text in sorted(instructions.items())] == [False, True]
    assert verify(tmp_path / "r") == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cameras": ("frunt",)}, "Did you mean 'front'"),
        ({"cameras": ("state",)}, "Unknown camera 'state'"),
        ({"cameras": ()}, "No camera is named"),
        ({"cameras": ("front", "front")}, "name one twice"),
        ({"size": (4, 96)}, "expected \\(height, width\\) of 8 to 4096"),
        ({"codec": "zip"}, "Unknown codec"),
        ({"where": "seed > 5"}, "selects none of the 2"),
    ],
)
def test_what_cannot_be_asked_for(parts, tmp_path, options, message):
    with pytest.raises((InvalidInputError, UnknownNameError), match=message):
        render_dataset(parts / "PickToTray", tmp_path / "r", **options)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def write(parts, tmp_path):
    """Write the first episode of a dataset with changes."""

    def write(**changes):
        source = Dataset(parts / "PickToTray")
        writer = EpisodeWriter(tmp_path / "d", source.description)
        writer.write(dataclasses.replace(source.read(0), **changes), 0)
        return writer.path

    return write


def test_states_that_do_not_show_what_was_observed_are_refused(parts, tmp_path, write):
    states = Dataset(parts / "PickToTray").read(0).sim_states.copy()
    states[3] = states[7]
    with pytest.raises(InvalidInputError, match="state 3 does not give the"):
        render_dataset(write(sim_states=states), tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_without_states_nothing_is_rendered(parts, tmp_path, write):
    steps = Dataset(parts / "PickToTray").records[0].steps
    with pytest.raises(InvalidInputError, match="has no simulator states"):
        render_dataset(write(sim_states=np.zeros((steps + 1, 0))), tmp_path / "r")


def test_episodes_that_would_become_one_are_refused(parts, tmp_path):
    source, live = Dataset(parts / "PickToTray"), Dataset(parts / "PickToTray-live")
    writer = EpisodeWriter(tmp_path / "d", source.description)
    writer.write(source.read(0), 0)
    episode = live.read(0)
    numbers = {key: episode.observations[key] for key in ("state", "objects")}
    writer.write(dataclasses.replace(episode, observations=numbers, cameras={}), 1)
    with pytest.raises(InvalidInputError, match="differ only in the pictures"):
        render_dataset(writer.path, tmp_path / "r")
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_a_damaged_dataset_and_a_taken_name_are_left_alone(parts, tmp_path, write):
    path = write()
    (tmp_path / "taken").mkdir()
    with pytest.raises(InvalidInputError, match="exists"):
        render_dataset(path, tmp_path / "taken")
    with pytest.raises(InvalidInputError, match="would lie in the source"):
        render_dataset(path, path / "inside")
    (file,) = (path / "episodes").iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DamagedFileError):
        render_dataset(path, tmp_path / "r")
    assert not (tmp_path / "r").exists()
