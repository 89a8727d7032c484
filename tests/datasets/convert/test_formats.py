"""The two calls that write and read other tools' formats."""

from __future__ import annotations

import pytest

from shopfloor.core import InvalidInputError, UnknownNameError
from shopfloor.datasets.convert.formats import FORMATS, export, import_dataset
from shopfloor.datasets.convert.options import ExportOptions, ImportOptions
from shopfloor.datasets.disk.errors import DamagedFileError
from shopfloor.datasets.format.digest import episode_digest
from shopfloor.datasets.listing.overlays import append_overlay
from shopfloor.datasets.reader import Dataset

pytestmark = pytest.mark.core


def test_there_and_back(dataset, tmp_path):
    options = ExportOptions(pictures="png")
    written = export(dataset, "lerobot", tmp_path / "out", options)
    read = import_dataset(
        tmp_path / "out", "lerobot", tmp_path / "back", ImportOptions(codec="gzip")
    )
    assert (written.episodes, written.steps) == (read.episodes, read.steps) == (3, 18)
    assert written.to_json()["bytes"] == sum(
        path.stat().st_size for path in (tmp_path / "out").rglob("*.*")
    )
    assert read.to_json() == {"episodes": 3, "steps": 18, "left_out": []}
    for index in range(3):
        digests = {
            episode_digest(Dataset(path).read(index)) for path in (dataset, tmp_path / "back")
        }
        assert len(digests) == 1


@pytest.mark.parametrize("to", [name for name, form in FORMATS.items() if form.exports])
def test_overlays_hold_for_exports(dataset, tmp_path, to):
    gone = Dataset(dataset).records[1].episode_id
    append_overlay(dataset, [{"op": "tombstone", "episode_id": gone}])
    assert export(dataset, to, tmp_path / "out").episodes == 2


@pytest.mark.parametrize("to", [name for name, form in FORMATS.items() if form.exports])
def test_a_damaged_episode_stops_an_export(dataset, tmp_path, to):
    file = sorted((dataset / "episodes").iterdir())[1]
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DamagedFileError, match=file.name):
        export(dataset, to, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", [name for name, form in FORMATS.items() if form.exports])
def test_nothing_is_replaced(dataset, tmp_path, to):
    (tmp_path / "out").mkdir()
    with pytest.raises(InvalidInputError, match="exists"):
        export(dataset, to, tmp_path / "out")


def test_unknown_names(dataset, tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'lerobot'"):
        export(dataset, "lerobt", tmp_path / "out")
    with pytest.raises(UnknownNameError, match="can be read"):
        import_dataset(dataset, "rlds", tmp_path / "out")
    with pytest.raises(UnknownNameError, match="codec"):
        ImportOptions(codec="zip")


def test_a_source_that_is_not_there(tmp_path):
    with pytest.raises(InvalidInputError, match="does not exist"):
        import_dataset(tmp_path / "nothing", "lerobot", tmp_path / "out")


def test_a_package_can_bring_a_format(dataset, tmp_path, monkeypatch):
    (tmp_path / "acme_format.py").write_text(
        "from shopfloor.datasets.convert.formats import Exported\n"
        "def export(dataset, out, options):\n"
        "    out.write_text(str(len(dataset)))\n"
        "    return Exported(len(dataset), 0, 1, 1)\n"
    )
    info = tmp_path / "acme-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
    points = "acme = acme_format\nlerobot = acme_format\nbroken = acme_nowhere\n"
    (info / "entry_points.txt").write_text(f"[shopfloor.formats]\n{points}")
    monkeypatch.syspath_prepend(tmp_path)
    assert export(dataset, "acme", tmp_path / "out").episodes == 3
    assert (tmp_path / "out").read_text() == "3"
    with pytest.raises(
        UnknownNameError, match=r"format that can be read 'acme'.*Known: acme, broken, lerobot"
    ):
        import_dataset(dataset, "acme", tmp_path / "back")
    assert (
        export(dataset, "lerobot", tmp_path / "own", ExportOptions(pictures="png")).files > 1
    )  # ours cannot be replaced
    with pytest.raises(InvalidInputError, match=r"format 'broken' cannot be loaded.*acme_nowhere"):
        export(dataset, "broken", tmp_path / "x")
