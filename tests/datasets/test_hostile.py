"""Files made to harm: refused by name, before anything of them is read. Every one has a trailer that holds."""

from __future__ import annotations

import json
import os
import zlib

import h5py
import hdf5plugin
import numpy as np
import pytest

from shopfloor.core import canonical_json, sha256_hex
from shopfloor.datasets.container import Container
from shopfloor.datasets.errors import DamagedFileError, UnsafeFileError
from shopfloor.datasets.files import with_trailer
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.store import EpisodeWriter, write_manifest
from shopfloor.datasets.verify import verify

GOOD = {"chunks": (1,), "fletcher32": True}


def external_link(file, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = 1
    file["data/demo_0/obs/link"] = h5py.ExternalLink(str(folder / "other.h5"), "/x")


def external_storage(file, folder):
    (folder / "secret").write_bytes(b"secret42")
    file.create_dataset("data/demo_0/obs/x", (8,), "u1", external=[(str(folder / "secret"), 0, 8)])


def virtual(file, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = np.arange(4)
    layout = h5py.VirtualLayout((4,), "i8")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", (4,))
    file.create_virtual_dataset("data/demo_0/obs/x", layout)


def soft_loop(file, folder):
    file["data/a"], file["data/b"] = h5py.SoftLink("/data/b"), h5py.SoftLink("/data/a")


def hard_loop(file, folder):
    file["data/demo_0/again"] = file["data"]


def linked_twice(file, folder):
    file["data/demo_0/obs/again"] = file["data/demo_0/actions"]


def deep(file, folder):
    file.create_group("data/" + "/".join("a" * 20))


def other_filter(file, folder):
    file.create_dataset("data/demo_0/obs/x", data=np.zeros(9, "u1"), **GOOD, **hdf5plugin.BZip2())


def lzf(file, folder):
    file.create_dataset("data/demo_0/obs/x", data=np.zeros(9, "u1"), **GOOD, compression="lzf")


def no_checksum(file, folder):
    file.create_dataset("data/demo_0/obs/x", data=np.zeros(9, "u1"), chunks=(1,))


def contiguous(file, folder):
    file["data/demo_0/obs/x"] = np.zeros(9)


def texts(file, folder):
    file.create_dataset("data/demo_0/obs/x", data=np.array([b"a"] * 9), **GOOD)


def compound(file, folder):
    file.create_dataset("data/demo_0/obs/x", data=np.zeros(9, [("a", "u1"), ("b", "f4")]), **GOOD)


def opaque(file, folder):
    file.create_dataset("data/demo_0/obs/x", data=np.zeros(9, "V8"), **GOOD)


def references(file, folder):
    file.create_dataset("data/demo_0/obs/x", (9,), h5py.ref_dtype, **GOOD)


def huge(file, folder):
    file.create_dataset("data/demo_0/obs/x", (1 << 40, 1 << 20), "u1", chunks=(1, 1), fletcher32=True)


def huge_chunk(file, folder):
    file.create_dataset("data/demo_0/obs/x", (1 << 27,), "u1", chunks=(1 << 27,), fletcher32=True)


def many_axes(file, folder):
    file.create_dataset("data/demo_0/obs/x", (1,) * 12, "u1", chunks=(1,) * 12, fletcher32=True)


def attribute_text(file, folder):
    file["data/demo_0"].attrs["note"] = "variable length"


def attribute_pickle(file, folder):
    file["data/demo_0"].attrs["note"] = np.void(b"cos\nsystem\n(S'true'\ntR.")


def attribute_reference(file, folder):
    file["data/demo_0"].attrs["note"] = file["data"].ref


def attribute_array(file, folder):
    file["data/demo_0"].attrs["note"] = np.zeros(100)


def attribute_float(file, folder):
    file["data/demo_0"].attrs["note"] = 1.5


def attribute_of_array(file, folder):
    file["data/demo_0/actions"].attrs["note"] = 1


def attributes_many(file, folder):
    for number in range(100):
        file["data/demo_0"].attrs[f"a{number}"] = number


def named_type(file, folder):
    file["data/type"] = np.dtype("f8")


def sparse(file, folder):
    file.create_dataset("data/demo_0/obs/x", (9,), "u1", **GOOD)


def short_blosc(file, folder):
    options = dict(hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=0))
    data = file.create_dataset("data/demo_0/obs/x", (4096,), "u1", chunks=(4096,), fletcher32=True, **options)
    data[:] = 1
    raw = bytearray(data.id.read_direct_chunk((0,))[1])
    raw[4:8] = (8).to_bytes(4, "little")
    data.id.write_direct_chunk((0,), bytes(raw))


CASES = {
    external_link: "obs/link is an external link",
    external_storage: "external storage",
    virtual: "virtual dataset",
    soft_loop: "is a soft link",
    hard_loop: "linked more than once",
    linked_twice: "linked more than once",
    deep: "nested deeper than 8",
    other_filter: "needs HDF5 filter 307",
    lzf: "needs HDF5 filter 32000",
    no_checksum: "has no checksum",
    contiguous: "not stored in chunks",
    texts: "neither integers nor floats",
    compound: "neither integers nor floats",
    opaque: "neither integers nor floats",
    references: "neither integers nor floats",
    huge: "claims shape",
    huge_chunk: "chunks of 134217728 bytes",
    many_axes: "has 12 axes",
    attribute_text: "'note' is neither",
    attribute_pickle: "'note' is neither",
    attribute_reference: "'note' is neither",
    attribute_array: "'note' is not a single value",
    attribute_float: "'note' is neither",
    attribute_of_array: "is an array with attributes",
    attributes_many: "attributes, more than 64",
    named_type: "neither group nor array",
    sparse: "has 0 chunks, expected 9",
    short_blosc: "of 8 bytes, expected 4096",
}


def episode_file(path, index=0):
    return next((path / "episodes").glob(f"ep-{index:08d}-*.h5"))


def tamper(path, change, folder):
    """Change a committed file with plain h5py and close it with a trailer that holds."""
    image = path.read_bytes()[:-40]
    scratch = folder / "scratch.h5"
    scratch.write_bytes(image)
    with h5py.File(scratch, "r+") as file:
        change(file, folder)
    path.write_bytes(with_trailer(scratch.read_bytes()))


@pytest.mark.parametrize("change", CASES, ids=lambda change: change.__name__)
def test_refused_by_name(dataset, tmp_path, change):
    path = episode_file(dataset)
    tamper(path, change, tmp_path)
    opened = Dataset(dataset)
    assert [record.index for record in opened.records] == [1, 2]
    (damage,) = opened.damage
    assert damage.file == str(path)
    assert CASES[change] in damage.problem
    assert damage.advice
    with pytest.raises(UnsafeFileError):
        Container.of_bytes(path, path.read_bytes())


def test_refused_as_well_when_a_manifest_vouches_for_it(dataset, tmp_path):
    path = episode_file(dataset)
    tamper(path, virtual, tmp_path)
    honest = Dataset(dataset)
    assert len(honest) == 2
    write_manifest(dataset)
    record = {**honest.records[0].to_json(), "file": f"episodes/{path.name}", "bytes": path.stat().st_size, "index": 0}
    record["episode_id"] = "0" * 64
    entries = [record]
    (dataset / "manifests/manifest-00000009.json").write_text(
        json.dumps({"format_version": 1, "content_sha256": sha256_hex(canonical_json(entries)), "episodes": entries})
    )
    opened = Dataset(dataset)
    position = next(number for number, item in enumerate(opened.records) if item.index == 0)
    for read in (opened.read, lambda index: opened.read_arrays(index, ["state"])):
        with pytest.raises(UnsafeFileError, match="virtual"):
            read(position)


def test_a_short_deflate_chunk_is_found_by_verify(tmp_path, make_episode, description):
    writer = EpisodeWriter(tmp_path / "d", description, "gzip")
    path = writer.write(make_episode(0), 0).path

    def change(file, folder):
        data = file["data/demo_0/obs/front"]
        raw = zlib.compress(b"short")
        data.id.write_direct_chunk((0, 0, 0, 0), raw + fletcher32(raw))

    tamper(path, change, tmp_path)
    (damage,) = Dataset(writer.path).verify()
    assert "has a chunk at (0, 0, 0, 0) of 5 bytes, expected 6912" in damage.problem


def fletcher32(data: bytes) -> bytes:
    """The checksum HDF5 puts behind a chunk: sums of big-endian 16-bit words, modulo 65535."""
    words = np.frombuffer(data + b"\0" * (len(data) % 2), ">u2")
    one = two = 0
    for word in words.tolist():
        one = (one + word) % 65535
        two = (two + one) % 65535
    return (two << 16 | one).to_bytes(4, "little")


def test_pipes_devices_links_and_folders_are_not_opened(dataset):
    path = episode_file(dataset)
    data = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    assert "not a regular file" in Dataset(dataset).damage[0].problem
    path.unlink()
    path.mkdir()
    assert "not a regular file" in Dataset(dataset).damage[0].problem
    path.rmdir()
    (dataset.parent / "real.h5").write_bytes(data)
    path.symlink_to(dataset.parent / "real.h5")
    assert "symbolic link" in Dataset(dataset).damage[0].problem
    assert [damage.file for damage in Dataset(dataset).verify()] == [str(path)]


def test_a_folder_that_leads_out_of_the_dataset_is_refused(dataset):
    outside = dataset.parent / "outside"
    (dataset / "episodes").rename(outside)
    (dataset / "episodes").symlink_to(outside)
    with pytest.raises(UnsafeFileError, match="not a folder of its own"):
        Dataset(dataset)
    (damage,) = verify(dataset)
    assert damage.file == str(dataset / "episodes")


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../ep-00000000-0123456789abcdef.h5",
        "episodes/../../x.h5",
        "episodes/ep-00000000-0123456789abcdef.h5\0",
        "episodes\\ep-00000000-0123456789abcdef.h5",
    ],
)
def test_a_manifest_cannot_name_files_elsewhere(dataset, name):
    record = {**Dataset(dataset).records[0].to_json(), "file": name}
    path = dataset / "manifests/manifest-00000001.json"
    path.parent.mkdir()
    path.write_text(
        json.dumps({"format_version": 1, "content_sha256": sha256_hex(canonical_json([record])), "episodes": [record]})
    )
    opened = Dataset(dataset)  # a lower manifest, or the files themselves, rule
    assert len(opened) == 3
    assert [damage.file for damage in opened.damage] == [str(path)]


def test_json_larger_than_its_limit(dataset, monkeypatch):
    monkeypatch.setattr("shopfloor.datasets.identity.MAX_IDENTITY_BYTES", 10)
    with pytest.raises(UnsafeFileError, match="more than the limit of 10"):
        Dataset(dataset)


def test_json_that_is_a_pipe_does_not_hang(dataset):
    (dataset / "dataset.json").unlink()
    os.mkfifo(dataset / "dataset.json")
    with pytest.raises(DamagedFileError, match="not a regular file"):
        Dataset(dataset)


def test_a_plugin_of_somebody_else_is_not_loaded(dataset, tmp_path, monkeypatch):
    """HDF5 looks for unknown filters in this folder when data is read; the reader never gets that far."""
    monkeypatch.setenv("HDF5_PLUGIN_PATH", str(tmp_path / "plugins"))
    path = episode_file(dataset)

    def unknown(file, folder):
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((1,))
        creation.set_filter(31999, h5py.h5z.FLAG_OPTIONAL, ())
        creation.set_fletcher32()
        space = h5py.h5s.create_simple((4,))
        h5py.h5d.create(file["data/demo_0/obs"].id, b"x", h5py.h5t.NATIVE_UINT8, space, creation)

    tamper(path, unknown, tmp_path)
    assert "needs HDF5 filter 31999" in Dataset(dataset).damage[0].problem
