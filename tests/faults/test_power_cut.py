"""The power fails at a random moment of a dataset's life, and the disk forgets what it was not told to keep."""

from __future__ import annotations

import random
import shutil

import pytest
from fault_disk import Disk
from fault_model import Model, folder_bytes, make_folder_of
from fault_operations import IDS, OPERATIONS, check, commit

from shopfloor.core import ShopfloorError
from shopfloor.datasets.listing.overlays import append_overlay
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.tools.compact import compact
from shopfloor.datasets.tools.edit import delete
from shopfloor.datasets.tools.purge import purge
from shopfloor.datasets.writer import write_manifest

QUICK_STATES, STATES, MANY_STATES = 40, 150, 600


def live(root, disk):
    """One dataset's life; what is reported at each point must be readable from then on."""
    for index in range(2):
        commit(root, index)
        disk.report(("there", index))
    write_manifest(root / "data")
    commit(root, 2)
    disk.report(("there", 2))
    disk.report(("leaving", 0))
    delete(root / "data", ids=[IDS[0]])
    disk.report(("gone", 0))
    write_manifest(root / "data")
    purge(root / "data")
    commit(root, 3)
    disk.report(("there", 3))
    append_overlay(root / "data", [{"op": "weight", "episode_id": IDS[3], "weight": 2.0}])
    disk.report(("heavy", 3))
    compact(root / "data")
    commit(root, 4)
    disk.report(("there", 4))
    compact(root / "data", layout="train")


def expect(reported):
    """Return which episodes must be there, and which may be."""
    told = {(what, index) for what, index in reported}
    gone = {index for what, index in told if what == "gone"}
    leaving = {index for what, index in told if what == "leaving"}
    return {index for what, index in told if what == "there"} - leaving, set(range(6)) - gone


def broken(folder, reported, whole):
    """Return what of the promise does not hold for the dataset in a folder."""
    must, may = expect(reported)
    try:
        dataset = Dataset(folder / "data")
    except ShopfloorError as error:
        return str(error) if must else ""
    found = {IDS.index(record.episode_id) for record in dataset.records}
    for path in (folder / "data").rglob("*.*"):
        name = path.relative_to(folder).as_posix()
        if path.suffix in (".h5", ".json") and name in whole and path.read_bytes() != whole[name]:
            return f"{name} is torn"
    if dataset.damage:
        return dataset.damage[0].problem
    if not must <= found <= may:
        return f"{found} instead of {must} to {may}"
    heavy = ("heavy", 3) in reported and next(
        r for r in dataset.records if r.episode_id == IDS[3]
    ).weight != 2.0
    return "an overlay is gone" if heavy else ""


def cut_power(model, states, folder):
    """Cut the power at random moments; returns what was broken, once a cut, "" for nothing."""
    dice, found = random.Random(11), []
    whole = model.state(len(model.log))
    for number in range(states):
        end = dice.randint(0, len(model.log))
        place = folder / f"{number}"
        make_folder_of(model.state(end, dice), place)
        found.append(broken(place, model.reported(end), whole))
        shutil.rmtree(place)
    return found


@pytest.fixture
def life(tmp_path):
    root = tmp_path / "life"
    root.mkdir()
    before = folder_bytes(root)
    with Disk(root) as disk:
        live(root, disk)
    assert Model(before, disk.log).state(len(disk.log)) == folder_bytes(root)
    return before, disk.log


@pytest.mark.parametrize(
    "states",
    [
        QUICK_STATES,
        pytest.param(STATES, marks=pytest.mark.slow),
        pytest.param(MANY_STATES, marks=pytest.mark.long),
    ],
)
def test_what_was_reported_survives(tmp_path, life, states):
    found = cut_power(Model(*life), states, tmp_path)
    assert [problem for problem in found if problem] == []


def resume_and_cut_power(folder, states):
    """Kill a life at every call in turn, live it again to the end, then cut the power, `states` times in all."""
    root = folder / "count"
    root.mkdir()
    with Disk(root) as disk:
        live(root, disk)
    for at in range(disk.calls):
        root = folder / f"killed-{at}"
        root.mkdir()
        with Disk(root, at, "kill") as first:
            live(root, first)
        with Disk(root) as second:
            live_on(root, second)
        log = [*first.log, *_renumbered(second.log, 1000)]
        yield from cut_power(Model({}, log), -(-states // disk.calls), folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "states", [QUICK_STATES, pytest.param(MANY_STATES, marks=pytest.mark.long)]
)
def test_what_was_reported_survives_when_a_killed_run_was_resumed_before(tmp_path, states):
    found = list(resume_and_cut_power(tmp_path, states))
    assert len(found) >= states
    assert [problem for problem in found if problem] == []


@pytest.mark.slow
def test_the_model_finds_a_resumed_run_that_trusts_what_it_sees(tmp_path, monkeypatch):
    """A name that a killed run left may be in memory only; a run that does not sync it again loses it."""
    for module in ("disk.files", "writer"):
        monkeypatch.setattr(f"shopfloor.datasets.{module}.settle", lambda *_: None)
    assert any(resume_and_cut_power(tmp_path, STATES))


def live_on(root, disk):
    """The same life, where parts of it were lived already."""
    for index in range(2):
        commit(root, index)
        disk.report(("there", index))
    write_manifest(root / "data")
    commit(root, 2, 3)
    disk.report(("there", 2))
    disk.report(("there", 3))
    compact(root / "data")


def _renumbered(log, first):
    """Give the files of a second log numbers of their own."""
    return [tuple(first + part if isinstance(part, int) and place == _file(entry) else part
                  for place, part in enumerate(entry)) for entry in log]  # fmt: skip


def _file(entry):
    return {"create": 2, "write": 1, "fsync": 1}.get(entry[0], -1)


@pytest.mark.parametrize("forgotten", ["files", "folders"])
def test_the_model_finds_a_writer_that_does_not_sync(tmp_path, life, forgotten):
    """A test that cannot fail is a defect: without the fsyncs of files, or of folders, episodes are lost."""
    before, log = life
    kind = int if forgotten == "files" else str
    without = [entry for entry in log if not (entry[0] == "fsync" and isinstance(entry[1], kind))]
    assert (
        len([problem for problem in cut_power(Model(before, without), 40, tmp_path) if problem])
        > 10
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name, operation in OPERATIONS.items() if operation.at_once]
)
def test_a_copy_appears_whole_or_not_at_all(tmp_path, name):
    operation, root, dice = OPERATIONS[name], tmp_path / "copy", random.Random(5)
    root.mkdir()
    operation.prepare(root)
    before = folder_bytes(root)
    with Disk(root) as disk:
        operation.run(root)
        disk.report(name)
    model = Model(before, disk.log)
    for number in range(100):
        end = dice.randint(0, len(disk.log))
        place = tmp_path / f"{number}"
        make_folder_of(model.state(end, dice), place)
        check(operation, place, finished=bool(model.reported(end)))
        shutil.rmtree(place)
