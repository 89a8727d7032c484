"""Bad input through the command line: a clear error, the promised exit code, and nothing changed on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from shopfloor.datasets.disk import files
from shopfloor.datasets.disk.files import with_trailer
from shopfloor.datasets.writer import EpisodeWriter, write_manifest
from shopfloor.launch import cli

_spec = importlib.util.spec_from_file_location(
    "made", Path(__file__).parents[2] / "datasets" / "conftest.py"
)
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)

READ = {
    "info": "data info {d}",
    "verify": "data verify {d}",
    "verify deep": "data verify {d} --deep",
    "replay": "data replay {d}",
}
COPY = {
    "merge": "data merge {d} {other} --out {tmp}/out",
    "compact out": "data compact {d} --layout train --out {tmp}/out",
    "split": "data split {d} --out {tmp}/out",
    "filter": "data filter {d} --where 'steps>0' --out {tmp}/out",
    "export": "data export {d} --to lerobot --out {tmp}/out",
    "render": "data render {d} --out {tmp}/out",
    "train": "train --data {d} --out {tmp}/out",
}
VIEW = {"view": "data filter {d} --where 'steps>0' --view {tmp}/out.json"}
EDIT = {
    "repair": "data repair {d}",
    "delete": "data delete {d} --where 'steps>0'",
    "undo": "data delete {d} --where 'steps>0' --undo",
    "purge": "data purge {d}",
    "compact": "data compact {d}",
    "relabel": "data relabel {d} --where 'steps>0' --outcome success",
}
VERBS = {**READ, **COPY, **VIEW, **EDIT}


@pytest.fixture
def data(tmp_path, made_once):
    """Three episodes and a manifest, and another dataset beside it."""
    shutil.copytree(made_once, tmp_path, dirs_exist_ok=True)
    return tmp_path / "data"


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    for name, seeds in (("data", (0, 1, 2)), ("other", (7,))):
        writer = EpisodeWriter(root / name, made.DESCRIPTION)
        for seed in seeds:
            writer.write(episode(seed), seed)
        write_manifest(writer.path)
    return root


def episode(seed, **changes):
    """Return an episode whose cell can be made: its pictures are of a size that cells allow."""
    one = made._episode(seed, 3)
    options = {"robot": "panda", "cameras": ["front"], "image_size": [16, 16]}
    return dataclasses.replace(
        one, spec=dataclasses.replace(one.spec, cell_options=options), **changes
    )


def content(folder):
    """Return name -> hash of everything in a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else ""
        for path in sorted(folder.rglob("*"))
    }


def run(line, data, capsys):
    """Run a line that must change nothing; return its exit code and all it said."""
    tmp = data.parent
    before = content(tmp)
    code = cli.main(shlex.split(line.format(d=data, other=tmp / "other", tmp=tmp)))
    out, err = capsys.readouterr()
    assert content(tmp) == before
    assert "Traceback" not in out + err
    return code, out + err


def nowhere(data):
    shutil.rmtree(data)
    return "is not a folder"


def foreign(data):
    shutil.rmtree(data)
    data.mkdir()
    (data / "notes.txt").write_text("mine")
    return "is not a dataset"


def a_file(data):
    shutil.rmtree(data)
    data.write_text("mine")
    return "is not a folder"


def newer(data):
    path = data / "dataset.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "format_version": 2}))
    return "says format version 2; this release reads version 1"


def garbled(data):
    (data / "dataset.json").write_text('{"kind": "shopfloor-dataset", "for')
    return "dataset.json is damaged"


@pytest.mark.parametrize(
    "defect", [nowhere, foreign, a_file, newer, garbled], ids=lambda call: call.__name__
)
@pytest.mark.parametrize("verb", VERBS)
def test_a_folder_that_cannot_be_used(data, capsys, verb, defect):
    message = defect(data)
    code, said = run(VERBS[verb], data, capsys)
    # What is wrong inside a dataset is what `verify` is for; a folder that is none is bad input to
    # it, too.
    finding = verb.startswith("verify") and defect in (newer, garbled)
    assert code == (1 if finding else 1 if verb == "train" and defect is garbled else 2)
    assert message in said or (finding and str(data / "dataset.json") in said)


# `repair` lists what is there, nothing; `merge` may have one empty source of several.
@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("repair", "merge")])
def test_an_empty_dataset(data, capsys, verb):
    shutil.rmtree(data)
    EpisodeWriter(data, made.DESCRIPTION)
    code, said = run(VERBS[verb], data, capsys)
    nothing_to_do = verb in (
        "info",
        "verify",
        "verify deep",
        "delete",
        "undo",
        "purge",
        "relabel",
        "compact",
    )
    assert code == (0 if nothing_to_do else 2), said
    assert said


def truncated(data):
    victim = sorted((data / "episodes").iterdir())[1]
    victim.write_bytes(victim.read_bytes()[:1000])
    return victim.name


def missing(data):
    victim = sorted((data / "episodes").iterdir())[1]
    victim.unlink()
    return victim.name


@pytest.mark.parametrize("defect", [truncated, missing], ids=lambda call: call.__name__)
@pytest.mark.parametrize(
    "verb", ["verify", "verify deep", "merge", "split", "filter", "export", "render", "compact"]
)
def test_a_half_copied_dataset(data, capsys, verb, defect):
    name = defect(data)
    code, said = run(VERBS[verb], data, capsys)
    assert code == (1 if verb.startswith("verify") else 2)
    assert name in said


@pytest.mark.parametrize("verb", [verb for verb in (*COPY, *VIEW, *EDIT) if verb != "train"])
def test_a_read_only_disk(data, capsys, monkeypatch, verb):
    monkeypatch.setattr(files.os, "access", lambda path, mode, **_: not mode & files.os.W_OK)
    code, said = run(VERBS[verb], data, capsys)
    assert code == 2
    assert "cannot be written" in said or "read-only" in said


MERGE = VERBS["merge"]


def rewritten(data, name, description, *episodes):
    """Write another dataset in place of one."""
    shutil.rmtree(data.parent / name)
    writer = EpisodeWriter(data.parent / name, description)
    for index, one in enumerate(episodes):
        writer.write(one, index)


def mixed_cameras(data):
    features = {"state": made.DESCRIPTION["features"]["state"]}
    one = episode(7)
    kept = {key: rows for key, rows in one.observations.items() if key != "front"}
    one = dataclasses.replace(one, observations=kept, cameras={})
    rewritten(data, "other", {**made.DESCRIPTION, "features": features}, one)
    return "feature 'front': shape differs: [16, 12, 3] in"


def mixed_actions(data):
    rewritten(data, "other", {**made.DESCRIPTION, "action_convention": "joints_v1"}, episode(7))
    return 'action_convention differs: "ee_delta_base_v1" in'


def mixed_units(data):
    features = json.loads(json.dumps(made.DESCRIPTION["features"]))
    features["state"]["units"] = ["deg"] * 9
    rewritten(data, "other", {**made.DESCRIPTION, "features": features}, episode(7))
    return "feature 'state': units differs"


def one_id_for_two(data):
    one = episode(0)
    rewritten(data, "other", made.DESCRIPTION, dataclasses.replace(one, actions=one.actions + 1))
    return "One id must mean one episode"


@pytest.mark.parametrize(
    "defect",
    [mixed_cameras, mixed_actions, mixed_units, one_id_for_two],
    ids=lambda call: call.__name__,
)
def test_what_cannot_be_merged(data, capsys, defect):
    message = defect(data)
    code, said = run(MERGE, data, capsys)
    assert code == 2
    assert message in said


LINES = {
    "data export {d} --to lerobot --out {tmp}/out --keys stat": "'stat'",
    "data export {d} --to lerobt --out {tmp}/out": "Did you mean 'lerobot'",
    "data export {d} --to lerobot --out {tmp}/out --valid 2": "2",
    "data export {d} --to lerobot --out {d}/out": "would lie in the source",
    "data import {d} --from lerobot --out {d}/out": "would lie in the source",
    "data export {d} --to lerobot --out {tmp}/other": "exists",
    "data import {tmp}/nowhere --from lerobot --out {tmp}/out": "does not exist",
    "data import {d} --from lerobot --out {tmp}/out": "info.json",
    "data import {d} --from hdf6 --out {tmp}/out": "Unknown format",
    "data filter {d} --where stepz>0 --view {tmp}/v": "Did you mean 'steps'",
    "data filter {d} --where 'steps >' --view {tmp}/v": "steps >",
    "data filter {d} --where 'steps>99' --view {tmp}/v": "selects none of the 3 episodes",
    "data filter {d} --where 'steps>0' --view {tmp}/other": "exists",
    "data filter {d} --where 'steps>0' --view {tmp}/no/v": "no folder",
    "data filter {d} --where 'steps>0' --out {tmp}/o --overlay {tmp}/no": "There is no overlay",
    "data filter {d} --where '__import__(1)' --view {tmp}/v": "__import__(1)",
    "data delete {d}": "Nothing says which episodes",
    "data delete {d} --ids zzzzzzzzz": "has no episode 'zzzzzzzzz'",
    "data delete {d} --undo --reason x --ids zzzzzzzzz": "leave it away with --undo",
    "data relabel {d} --where 'seed==0'": "nothing to relabel",
    "data relabel {d} --where 'seed==0' --outcome failure": "needs a reason",
    "data relabel {d} --where 'seed==0' --outcome failure --reason drop": "Did you mean 'dropped'",
    "data relabel {d} --where 'seed==0' --outcome sucess": "sucess",
    "data split {d} --out {tmp}/o --shares a=0.5 b=0.6": "add up to 1.1",
    "data split {d} --out {tmp}/o --shares a=x": "expected PART=SHARE",
    "data split {d} --out {tmp}/o --shares a=0.5 a=0.5": "twice",
    "data split {d} --out {tmp}/o --shares ../a=1": "cannot be called",
    "data split {d} --out {tmp}/o --by variation": "would be empty",
    "data compact {d} --layout flat": "flat",
    "data compact {d} --shard-mb 0": "--shard-mb is 0",
    "data compact {d} --out {d}/o": "would lie in the source",
    "data merge {d} --out {tmp}/o": "two or more",
    "data merge {d} {d} --out {tmp}/o": "given twice",
    "data replay {d} --sample 0": "at least 1",
    "data replay {d} --workers 0": "at least 1",
    "data render {d} --out {tmp}/o --cameras top": "Unknown camera 'top'",
    "data render {d} --out {tmp}/o --where 'seed==99'": "selects none",
    "data verify {d} --deep --sample -1": "sample is -1",
    "train --data {d} --out {tmp}/o --overlay {tmp}/no": "There is no overlay",
}


@pytest.mark.parametrize("line", LINES)
def test_what_cannot_be_asked_for(data, capsys, line):
    code, said = run(line, data, capsys)
    assert code == 2, said
    assert LINES[line] in said


@pytest.mark.parametrize("verb", ["verify", "merge", "export"])
def test_a_file_that_needs_a_codec_which_is_not_ours(data, capsys, verb):
    victim = sorted((data / "episodes").iterdir())[1]
    copy = data.parent / "copy.h5"
    copy.write_bytes(victim.read_bytes()[: -files.TRAILER_BYTES])
    with h5py.File(copy, "a") as file:
        del file["data/demo_0/rewards"]
        zeros = np.zeros(3, "f4")
        file["data/demo_0"].create_dataset(
            "rewards", data=zeros, chunks=(3,), fletcher32=True, compression="lzf"
        )
    victim.write_bytes(with_trailer(copy.read_bytes()))
    copy.unlink()
    write_manifest(data)
    code, said = run(VERBS[verb], data, capsys)
    assert code == (1 if verb == "verify" else 2)
    assert "needs HDF5 filter 32000; allowed are" in said
    assert victim.name in said


def test_the_package_of_a_codec_is_missing(data):
    code = (
        "import sys\nsys.modules['hdf5plugin'] = None\n"
        "from shopfloor.launch.cli import main\nsys.exit(main(sys.argv[1:]))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, "data", "verify", str(data)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 2
    assert "'hdf5plugin' is not installed" in answer.stderr
    assert "Traceback" not in answer.stderr
