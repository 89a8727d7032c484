"""A depth map or ids that a cell describes go the whole way: rollout, store, windows, tools, other formats."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from fake_cell import FakeCell, FakePolicy
from test_rollout import spec_for

from shopfloor.collectors.jobs import build_cell
from shopfloor.collectors.recorded.render import with_pictures
from shopfloor.collectors.rollout import EpisodeFaultError, rollout
from shopfloor.core import EpisodeSpec, InfrastructureError, UnknownNameError
from shopfloor.datasets.convert import formats
from shopfloor.datasets.format.digest import episode_digest
from shopfloor.datasets.format.kinds import kind_of, recorded_keys
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.tools.compact import compact
from shopfloor.datasets.tools.merge import merge
from shopfloor.datasets.windows.windows import Windows
from shopfloor.datasets.writer import EpisodeWriter

pytestmark = pytest.mark.core
SIDES = ["height", "width"]
MAPS = {
    "range": {"shape": [3, 4], "dtype": "float32", "names": SIDES, "units": ["m", "m"]},
    "mask": {"shape": [3, 4], "dtype": "int32", "names": [], "units": [], "kind": "ids"},
}


class MappedCell(FakeCell):
    """A fake cell with a depth map and ids at every step."""

    blind = -1

    def describe(self):
        description = super().describe()
        return {**description, "features": {**description["features"], **MAPS}}

    def observe(self, cameras=None):
        steps = self.steps
        away = np.arange(12.0, dtype=np.float64).reshape(3, 4) + steps
        maps = {"range": away, "mask": np.full((3, 4), steps * 2**24)}
        return {**super().observe(cameras), **({} if steps == self.blind else maps)}


def mapped(seed=3):
    policy = FakePolicy()
    cell = MappedCell(privileged=True, cameras=())
    return rollout(cell, policy, spec_for(policy, seed=seed), record_cameras=["front"])


def write(path: Path, *seeds: int) -> Path:
    writer = EpisodeWriter(path, MappedCell(privileged=True, cameras=()).describe())
    for seed in seeds:
        writer.write(mapped(seed), seed)
    return writer.path


@pytest.mark.parametrize(
    ("feature", "kind"),
    [
        ({"shape": [9], "dtype": "float32"}, "vector"),
        ({"shape": [2, 12], "dtype": "float32", "names": ["x"] * 12}, "vector"),
        ({"shape": [8, 8, 3], "dtype": "uint8"}, "picture"),
        (MAPS["range"], "depth"),
        ({**MAPS["range"], "dtype": "int32"}, "ids"),
        (MAPS["mask"], "ids"),
        ({**MAPS["range"], "kind": "vector"}, "vector"),
        ({}, "vector"),
    ],
)
def test_a_feature_has_a_kind(feature, kind):
    assert kind_of(feature) == kind


def test_an_unknown_kind_is_refused():
    with pytest.raises(UnknownNameError, match="depth"):
        kind_of({"kind": "dept"})


def test_maps_of_a_camera_are_recorded_with_it():
    features = {
        "state": {"shape": [2], "dtype": "float32"},
        "front": {"shape": [8, 8, 3], "dtype": "uint8"},
        "a": {**MAPS["range"], "camera": "front"},
        "b": {**MAPS["range"], "camera": "wrist"},
        "c": MAPS["mask"],
    }
    assert recorded_keys(features, ["front"]) == ("state", "front", "a", "c")
    assert recorded_keys(features, []) == ("state", "c")


def test_a_rollout_records_maps_in_the_described_dtype():
    observations = mapped().observations

    assert set(observations) == {"state", "objects", "front", "range", "mask"}
    assert observations["range"].dtype == np.float32
    assert observations["mask"].dtype == np.int32
    assert observations["range"][1, 0].tolist() == [1, 2, 3, 4]


def test_nothing_may_be_there_but_depth_is_a_number():
    policy, cell = FakePolicy(), MappedCell(privileged=True, cameras=())
    seen = cell.observe

    def observe(value, cameras):
        return {**seen(cameras), "range": np.full((3, 4), value)}

    cell.observe = lambda cameras=None: observe(np.inf, cameras)
    assert np.isinf(rollout(cell, policy, spec_for(policy)).observations["range"]).all()

    cell.observe = lambda cameras=None: observe(np.nan, cameras)
    with pytest.raises(EpisodeFaultError, match="range has non-finite numbers"):
        rollout(cell, policy, spec_for(policy))


def test_a_map_that_comes_and_goes_is_refused():
    policy, cell = FakePolicy(), MappedCell(privileged=True, cameras=())
    cell.blind = 1

    with pytest.raises(InfrastructureError, match="range was observed"):
        rollout(cell, policy, spec_for(policy))


def test_a_map_is_no_camera():
    policy, cell = FakePolicy(), MappedCell(privileged=True, cameras=())

    with pytest.raises(UnknownNameError, match="'range'"):
        rollout(cell, policy, spec_for(policy), record_cameras=["range"])


def test_maps_go_through_the_store_its_tools_and_windows(tmp_path):
    merge([write(tmp_path / "a", 0), write(tmp_path / "b", 1)], tmp_path / "both")
    compact(tmp_path / "both", layout="train")

    dataset = Dataset(tmp_path / "both")
    assert [episode_digest(dataset.read(seed)) for seed in range(2)] == [
        episode_digest(mapped(seed)) for seed in range(2)
    ]
    assert dataset.identity.raw["cameras"] == ["front", "wrist"]
    assert dataset.identity.raw["features"]["mask"]["kind"] == "ids"
    for cache in (False, True):
        batch = Windows(dataset, ["range", "mask"], 2, cache=cache).sample([1])
        assert batch["range"][0].tobytes() == mapped(0).observations["range"][:2].tobytes()
        assert batch["mask"].dtype == np.int32


@pytest.mark.parametrize(
    ("name", "out"),
    [("robomimic", "out.hdf5"), ("minari", "some/out-v0"), ("lerobot", "out")],
)
def test_maps_come_back_from_other_formats(tmp_path, name, out):
    options = formats.ExportOptions(pictures="png" if name == "lerobot" else None)
    formats.export(write(tmp_path / "data", 0), name, tmp_path / out, options)
    formats.import_dataset(tmp_path / out, name, tmp_path / "back")

    assert episode_digest(Dataset(tmp_path / "back").read(0)) == episode_digest(mapped(0))


def test_other_formats_hold_maps(tmp_path):
    data = write(tmp_path / "data", 0)
    for name in ("numpy", "webdataset", "rlds"):
        formats.export(data, name, tmp_path / name)

    rows = np.load(tmp_path / "numpy/obs.range.npy")
    assert rows.tobytes() == mapped(0).observations["range"].tobytes()
    found = next((tmp_path / "rlds").rglob("features.json"))
    assert json.dumps(json.loads(found.read_text())).count('"mask"') == 1


def test_a_work_cell_records_the_maps_it_is_asked_for():
    options = {"cameras": ["front"], "image_size": [24, 32]}
    options |= {"modalities": ["rgb", "depth", "segmentation"]}
    cell = build_cell("shopfloor/PickToTray-v0", options, "nominal")
    policy = FakePolicy(cells=(), answer=lambda count, seen: None)  # a bad reply ends the episode
    spec = EpisodeSpec(cell.cell_id, 3, policy.info.digest, options)

    live = rollout(cell, policy, spec, record_cameras=["front"])
    cell.close()

    assert live.observations["front_depth"].dtype == np.float32
    assert live.observations["front_segmentation"].shape == (1, 24, 32)
    assert "wrist_depth" not in live.observations
    plain = dataclasses.replace(live, observations={"state": live.observations["state"]})
    drawn = with_pictures(plain, ["front"], [24, 32])
    for key in ("front", "front_depth", "front_segmentation"):
        assert drawn.observations[key].tobytes() == live.observations[key].tobytes()
