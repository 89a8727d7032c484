"""Strangers' HDF5 files: what is read of them, and everything that is refused before it is read."""

from __future__ import annotations

import os
import sys
import zlib
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

sys.path.insert(0, str(Path(__file__).parents[2] / "faults"))

import hostile

from shopfloor.datasets.convert.hdf5 import foreign_arrays, foreign_hdf5
from shopfloor.datasets.convert.hdf5.foreign_hdf5 import ForeignFile
from shopfloor.datasets.disk.errors import DamagedFileError, UnsafeFileError

ROWS = np.arange(4 * 9, dtype="f4").reshape(9, 4)


@pytest.fixture
def make(tmp_path):
    """Return a function that makes a file by another one, which gets it open."""

    def run(change=lambda file: None, **options):
        path = tmp_path / "foreign.h5"
        with h5py.File(path, "w", **options) as file:
            demo = file.create_group("data/demo_0")
            demo.attrs["num_samples"] = 9
            demo["actions"] = ROWS
            demo.create_group("obs")
            change(file)
        return path

    return run


def read(path, group="data/demo_0"):
    with ForeignFile(path) as file:
        return {name: array.read() for name, array in file.arrays(group).items()}


# --------------------------------------------------------------------------------------------------
# What is read
# --------------------------------------------------------------------------------------------------

STORED = {
    "contiguous": {},
    "chunked": {"chunks": (2, 3)},
    "one row a chunk": {"chunks": (1, 4)},
    "larger chunk": {"chunks": (20, 4), "maxshape": (None, 4)},
    "gzip": {"chunks": (2, 3), "compression": "gzip"},
    "gzip and checksums": {
        "chunks": (4, 4),
        "compression": "gzip",
        "shuffle": True,
        "fletcher32": True,
    },
    "lzf": {"chunks": (9, 4), "compression": "lzf"},
    "lzf and checksums": {
        "chunks": (4, 2),
        "compression": "lzf",
        "shuffle": True,
        "fletcher32": True,
    },
    "blosc": {"chunks": (4, 4), **hdf5plugin.Blosc()},
    "checksums": {"chunks": (4, 4), "fletcher32": True},
    "shuffle": {"chunks": (4, 4), "shuffle": True},
}


@pytest.mark.parametrize("options", STORED.values(), ids=STORED)
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_rows_however_they_are_stored(make, options, libver):
    path = make(lambda file: file.create_dataset("x/y", data=ROWS, **options), libver=libver)
    with ForeignFile(path) as file:
        array = file.arrays("x")["y"]
        assert (array.shape, array.dtype, array.rows, array.size_bytes) == (
            (9, 4),
            np.dtype("f4"),
            9,
            144,
        )
        for start, stop in [(0, 9), (3, 5), (8, 9), (4, 4), (0, 1)]:
            found = array.read(start, stop)
            assert found.dtype == np.dtype("f4")
            assert np.array_equal(found, ROWS[start:stop])
        assert np.array_equal(array.read(2), ROWS[2:])


def test_checksum_before_compression(make):
    def change(file):
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((4, 4))
        creation.set_fletcher32()
        creation.set_deflate(4)
        space = h5py.h5s.create_simple((9, 4))
        made = h5py.h5d.create(file["data"].id, b"x", h5py.h5t.IEEE_F32LE, space, creation)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, ROWS)

    assert np.array_equal(read(make(change), "data")["x"], ROWS)


@pytest.mark.parametrize(
    "code", ["<f2", ">f4", "<f8", ">f8", "u1", ">u2", "<u4", "u8", "i1", "<i2", ">i4", "<i8", "?"]
)
def test_numbers_of_every_kind(make, code):
    values = np.array([[0, 1], [1, 0], [1, 1]]).astype(code)
    found = read(make(lambda file: file.create_dataset("g/x", data=values)), "g")["x"]
    assert found.dtype == values.dtype.newbyteorder("=")
    assert np.array_equal(found, values)


@settings(max_examples=30)
@given(data=st.data())
def test_any_rows_of_any_array(make, data):
    shapes = arrays_of.array_shapes(min_dims=1, max_dims=4, max_side=9)
    values = data.draw(arrays_of.arrays(st.sampled_from(["u1", "<f4", ">i2", "<f8"]), shapes))
    chunks = tuple(data.draw(st.integers(1, side)) for side in values.shape)
    options = data.draw(st.fixed_dictionaries({
        "compression": st.sampled_from([None, "gzip", "lzf"]), "shuffle": st.booleans(), "fletcher32": st.booleans()
    }))  # fmt: skip
    path = make(lambda file: file.create_dataset("x/y", data=values, chunks=chunks, **options))
    start = data.draw(st.integers(0, len(values)))
    stop = data.draw(st.integers(start, len(values)))
    with ForeignFile(path) as file:
        array = file.arrays("x")["y"]
        assert (
            array.read(start, stop).tobytes()
            == values[start:stop].astype(values.dtype.newbyteorder("=")).tobytes()
        )
        assert array.read().tobytes() == values.astype(values.dtype.newbyteorder("=")).tobytes()


def test_texts_and_encoded_pictures_where_they_are_asked_for(make):
    pictures = [np.frombuffer(data, "u1") for data in (b"one", b"", b"three" * 1000)]

    def change(file):
        file["t/fixed"] = np.array([b"demo_0", b"demo_10"])
        file.create_dataset("t/variable", data=["dé", ""], dtype=h5py.string_dtype())
        made = file.create_dataset(
            "t/jpeg", (3,), h5py.vlen_dtype("u1"), chunks=(2,), compression="gzip"
        )
        for row, picture in enumerate(pictures):
            made[row] = picture

    with ForeignFile(make(change)) as file:
        found = file.arrays("t")
        assert [found[name].kind for name in ("fixed", "variable", "jpeg")] == [
            "texts",
            "texts",
            "encoded",
        ]
        assert found["fixed"].texts() == ["demo_0", "demo_10"]
        assert found["variable"].texts() == ["dé", ""]
        assert list(found["jpeg"].encoded()) == [picture.tobytes() for picture in pictures]
        assert list(found["jpeg"].encoded(1, 2)) == [b""]
        for name in ("fixed", "variable", "jpeg"):
            with pytest.raises(UnsafeFileError, match=f"t/{name} holds .*, expected numbers"):
                found[name].read()


def test_names_and_attributes(make):
    def change(file):
        data = file["data"]
        data.attrs["env_args"] = '{"é": 1}'
        data.attrs["fixed"] = np.bytes_(b"text")
        data.attrs["total"], data.attrs["half"], data.attrs["yes"] = np.int32(7), 0.5, True
        data.attrs["one"] = np.array([3])
        data.attrs["several"], data.attrs["texts"] = np.arange(3), ["a", "b"]
        data.attrs["nothing"] = h5py.Empty("f4")
        data.attrs["object"] = np.void(b"cos\nsystem\n(S'true'\ntR.")
        data.attrs["reference"] = data.ref
        data["demo_0/actions"].attrs["unit"] = "rad"

    with ForeignFile(make(change)) as file:
        assert (file.children(), file.children("data"), file.children("data/demo_0")) == (
            ["data"],
            ["demo_0"],
            ["actions", "obs"],
        )
        assert (
            file.children("data/nothing"),
            file.children("data/demo_0/actions/x"),
            dict(file.arrays("x")),
        ) == (
            [],
            [],
            {},
        )
        found = {
            name: file.attribute("data", name)
            for name in ("env_args", "fixed", "total", "half", "yes", "one")
        }
        assert found == {
            "env_args": '{"é": 1}',
            "fixed": "text",
            "total": 7,
            "half": 0.5,
            "yes": True,
            "one": 3,
        }
        assert type(found["yes"]) is bool
        for name in ("several", "texts", "nothing", "object", "reference", "missing"):
            assert file.attribute("data", name) is None
        assert file.attribute("data/missing", "total") is None
        assert file.attribute("data/demo_0/actions", "unit") == "rad"


def test_tracked_order_with_many_attributes(make):
    """They are stored apart from the header."""

    def change(file):
        group = file.create_group("traj_0", track_order=True)
        for number in range(20):
            group.attrs[f"a{number}"] = number

    with ForeignFile(make(change)) as file:
        assert file.attribute("traj_0", "a17") == 17


def test_memory_is_that_of_the_rows(make):
    rows = np.zeros((64, 1 << 18), "u1")
    path = make(
        lambda file: file.create_dataset("x/y", data=rows, compression="gzip", chunks=(1, 1 << 18))
    )
    with ForeignFile(path) as file:
        assert file.arrays("x")["y"].read(5, 7).nbytes == 2 << 18


# --------------------------------------------------------------------------------------------------
# What is refused
# --------------------------------------------------------------------------------------------------

# Of tests/faults/hostile.py: what is refused when everything below `data` is read (None: nothing,
# it is harmless here).
REFUSED = {
    "external_link": (UnsafeFileError, "obs/link is an external link"),
    "external_link_upwards": (UnsafeFileError, "obs/link is an external link"),
    "external_link_in_place_of_the_data": (UnsafeFileError, "data is a link"),
    "external_storage": (UnsafeFileError, "external storage"),
    "external_storage_upwards": (UnsafeFileError, "external storage"),
    "virtual": (UnsafeFileError, "virtual dataset"),
    "virtual_of_nothing": (UnsafeFileError, "virtual dataset"),
    "soft_loop": (UnsafeFileError, "data/a is a soft link"),
    "soft_link_to_itself": (UnsafeFileError, "obs/x is a soft link"),
    "hard_loop": (UnsafeFileError, "data/demo_0/again is data again"),
    "linked_twice": (UnsafeFileError, "linked more than once"),
    "deep": (UnsafeFileError, "nested deeper than 12"),
    "very_deep": (UnsafeFileError, "nested deeper than 12"),
    "named_type": (UnsafeFileError, "neither group nor array"),
    "other_filter": (UnsafeFileError, "needs HDF5 filter 307"),
    "unknown_filter": (UnsafeFileError, "needs HDF5 filter 31999"),
    "compound": (UnsafeFileError, "neither numbers nor texts"),
    "opaque": (UnsafeFileError, "neither numbers nor texts"),
    "references": (UnsafeFileError, "neither numbers nor texts"),
    "region_references": (UnsafeFileError, "neither numbers nor texts"),
    "enumeration": (UnsafeFileError, "neither numbers nor texts"),
    "no_shape": (UnsafeFileError, "has 0 axes"),
    "huge": (UnsafeFileError, "claims shape"),
    "quadrillion": (UnsafeFileError, "claims shape"),
    "many_axes": (UnsafeFileError, "has 12 axes"),
    "sparse": (DamagedFileError, "has 0 chunks, expected 9"),
    "bomb": (UnsafeFileError, "decompression bomb"),
    "short_blosc": (DamagedFileError, "of 8 bytes, expected 4096"),
    "long_blosc": (DamagedFileError, "of 1073741824 bytes, expected 4096"),
    "blosc_without_header": (DamagedFileError, "cannot read it"),
    "short_unfiltered_chunk": (DamagedFileError, "of 4 bytes, expected 4096"),
    "filter_mask": (DamagedFileError, "of 4 bytes, expected 4096"),
    "attribute_huge": (UnsafeFileError, "bytes of attributes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_files(make, tmp_path, name):
    error, match = REFUSED[name]
    path = make()
    with h5py.File(path, "r+") as file:
        getattr(hostile, name)(file, tmp_path)
    with pytest.raises(error, match=match) as caught:
        read(path, "data")
    assert str(path) in str(caught.value)
    assert str(caught.value).endswith(("came from.", "without links."))


def test_hostile_files_that_are_not_asked_for_change_nothing(make):
    """An array that is refused does not keep others from being read."""
    path = make(lambda file: file.create_dataset("data/demo_0/note", data=np.zeros(3, "V8")))
    with ForeignFile(path) as file:
        found = file.arrays("data/demo_0")
        assert found["note"].problem.startswith("holds neither numbers")
        assert np.array_equal(found["actions"].read(), ROWS)


def chunk(file, raw, size=4096, **options):
    made = file.create_dataset("data/x", (size,), "u1", chunks=(size,), **options)
    made.id.write_direct_chunk((0,), raw)


@pytest.mark.parametrize(
    ("raw", "options", "found"),
    [
        (zlib.compress(b"abcd"), {"compression": "gzip"}, "4 bytes"),
        (zlib.compress(bytes(5000)), {"compression": "gzip"}, "4097 bytes"),
        (zlib.compress(bytes(1 << 28)), {"compression": "gzip"}, "4097 bytes"),
        (zlib.compress(bytes(4096))[:12], {"compression": "gzip"}, "bytes, expected 4096"),
        (b"abcd", {"compression": "gzip"}, "incorrect header check"),
        (b"\x03abcd", {"compression": "lzf"}, "4 bytes"),
        (b"\x03abcd\xe0", {"compression": "lzf"}, "-1 bytes"),
        (b"\x00a\xe0\xff\x00" + b"\xe0\xff\x00" * 20, {"compression": "lzf"}, "5545 bytes"),
        (b"abcd", {}, "4 bytes"),
        (hostile.fletcher32(b"\3abc")[:2], {"fletcher32": True}, "-2 bytes"),
    ],
)
def test_chunks_of_another_size(make, raw, options, found):
    with pytest.raises(DamagedFileError, match=found):
        read(make(lambda file: chunk(file, raw, **options)), "data")


def test_a_chunk_is_unpacked_once_to_look_at_it(make, monkeypatch):
    seen = []
    path = make(
        lambda file: file.create_dataset("x/y", data=ROWS, chunks=(2, 4), compression="gzip")
    )
    real = foreign_arrays._unpacked_size
    monkeypatch.setattr(
        foreign_arrays, "_unpacked_size", lambda *about: seen.append(about) or real(*about)
    )
    with ForeignFile(path) as file:
        array = file.arrays("x")["y"]
        array.read(0, 3)
        assert len(seen) == 2
        array.read(2, 5)
        assert len(seen) == 3
        array.read()
        assert len(seen) == 5


def test_a_filter_behind_the_compression(make):
    def change(file):
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((4,))
        creation.set_deflate(4)
        creation.set_shuffle()
        h5py.h5d.create(
            file["data"].id, b"x", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((4,)), creation
        )

    with pytest.raises(UnsafeFileError, match="gzip, shuffle in an order"):
        read(make(change), "data")


def test_truth_values_that_are_neither(make):
    path = make(lambda file: file.create_dataset("data/x", data=np.array([True, False])))
    with h5py.File(path, "r+") as file:
        kind = file["data/x"].id.get_type()
        file["data/x"].id.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([1, 7], "u1"), mtype=kind)
    with pytest.raises(DamagedFileError, match="something else than true and false"):
        read(path, "data")


def test_text_that_is_not_utf8(make):
    path = make(lambda file: file.create_dataset("data/x", data=np.array([b"\xff"])))
    with ForeignFile(path) as file, pytest.raises(DamagedFileError, match="not UTF-8"):
        file.arrays("data")["x"].texts()


def test_a_name_that_is_not_utf8(make):
    with pytest.raises(DamagedFileError, match="can't decode"):
        read(make(lambda file: h5py.h5g.create(file["data"].id, b"\xff\xfe")), "data")


def test_an_array_without_storage(make):
    path = make(lambda file: file.create_dataset("data/x", (1 << 20,), "f8"))
    with pytest.raises(UnsafeFileError, match="claims 8388608 bytes but stores 0"):
        read(path, "data")


@pytest.mark.parametrize("what", ["attribute", "text", "encoded"])
def test_values_of_variable_length_that_are_too_long(make, monkeypatch, what):
    def change(file):
        file["data"].attrs["x"] = "a" * (1 << 17)
        file.create_dataset("data/text", data=["a" * (1 << 17)], dtype=h5py.string_dtype())
        file.create_dataset("data/encoded", (1,), h5py.vlen_dtype("u1"))[0] = np.zeros(
            1 << 17, "u1"
        )

    path = make(change)
    monkeypatch.setattr(foreign_hdf5, "MAX_TEXT_BYTES", 1 << 16)
    monkeypatch.setattr(foreign_arrays, "MAX_VALUE_BYTES", 1 << 16)
    with ForeignFile(path) as file:
        found = file.arrays("data")
        ask = {
            "attribute": lambda: file.attribute("data", "x"),
            "text": found["text"].texts,
            "encoded": lambda: list(found["encoded"].encoded()),
        }
        with pytest.raises(DamagedFileError, match="more than 65536"):
            ask[what]()


def test_texts_that_are_too_many(make, monkeypatch):
    path = make(
        lambda file: file.create_dataset("data/x", data=["abc"] * 9, dtype=h5py.string_dtype())
    )
    monkeypatch.setattr(foreign_arrays, "MAX_TEXTS_BYTES", 20)
    with (
        ForeignFile(path) as file,
        pytest.raises(UnsafeFileError, match="more than 20 bytes of text"),
    ):
        file.arrays("data")["x"].texts()


def test_too_many_objects(make, monkeypatch):
    path = make(lambda file: [file.create_group(f"data/{number}") for number in range(40)])
    monkeypatch.setattr(foreign_hdf5, "MAX_OBJECTS", 30)
    with pytest.raises(UnsafeFileError, match="more than 30 objects"):
        read(path, "data")


def test_a_large_chunk(make, monkeypatch):
    monkeypatch.setattr(foreign_arrays, "MAX_CHUNK_BYTES", 100)
    path = make(lambda file: file.create_dataset("data/x", data=np.zeros(101, "u1"), chunks=(101,)))
    with pytest.raises(UnsafeFileError, match="chunks of 101 bytes"):
        read(path, "data")


# --------------------------------------------------------------------------------------------------
# Files that are none
# --------------------------------------------------------------------------------------------------


def test_pipes_links_and_folders(make, tmp_path):
    path = make()
    os.mkfifo(tmp_path / "pipe.h5")
    (tmp_path / "link.h5").symlink_to(path)
    (tmp_path / "folder.h5").mkdir()
    for name, match in {
        "pipe": "not a regular file",
        "link": "symbolic link",
        "folder": "not a regular",
    }.items():
        with pytest.raises(UnsafeFileError, match=match):
            ForeignFile(tmp_path / f"{name}.h5")
    with pytest.raises(FileNotFoundError):
        ForeignFile(tmp_path / "missing.h5")


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98])
def test_files_cut_short(make, share):
    path = make(lambda file: file.create_dataset("data/x", data=np.zeros(5000)))
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(DamagedFileError, match=r"HDF5 cannot read it.*Get a whole copy"):
        read(path, "data")


def test_a_file_that_changes_while_it_is_read(make):
    path = make()

    def read_and_touch():
        with ForeignFile(path) as file:
            file.children()
            os.utime(path, (1, 1))

    with pytest.raises(DamagedFileError, match="changed while it was read"):
        read_and_touch()


def test_a_file_that_is_cut_short_while_it_is_read(make):
    path = make(lambda file: file.create_dataset("data/x", data=np.arange(5000)))

    def cut_and_read():
        with ForeignFile(path) as file:
            array = file.arrays("data")["x"]
            os.truncate(path, path.stat().st_size // 2)
            array.read()

    with pytest.raises(DamagedFileError, match="the file ends before what it points to"):
        cut_and_read()


def test_flipped_bytes_never_crash_or_grow(make):
    """Any byte of a small file set to 255: either all is read, or a typed error says what is wrong."""
    path = make(
        lambda file: file.create_dataset("data/x", data=ROWS, compression="gzip", chunks=(3, 4))
    )
    whole = path.read_bytes()
    for place in range(0, len(whole), 37):
        path.write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
        try:
            found = read(path, "data")
        except DamagedFileError:
            continue
        assert all(array.nbytes < 1 << 20 for array in found.values())
