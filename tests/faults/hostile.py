"""Makes every hostile file that a dataset may hold, under trailers and digests that hold, so that inner checks refuse.

Each function of `IN_AN_EPISODE` changes an episode's HDF5 file with plain h5py; each of
`IN_A_FOLDER` a dataset folder.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

from shopfloor.core import canonical_json, sha256_hex
from shopfloor.datasets.disk.files import with_trailer

GOOD = {"chunks": (1,), "fletcher32": True}
X = "data/demo_0/obs/x"


def episode_file(path: Path, index: int = 0) -> Path:
    """Return the file of an episode."""
    return next((path / "episodes").glob(f"ep-{index:08d}-*.h5"))


def tamper(path: Path, change, folder: Path) -> None:
    """Change a committed file with plain h5py and close it with a trailer that holds."""
    scratch = folder / "scratch.h5"
    scratch.write_bytes(path.read_bytes()[:-40])
    with h5py.File(scratch, "r+") as file:
        change(file, folder)
    path.write_bytes(with_trailer(scratch.read_bytes()))


# --------------------------------------------------------------------------------------------------
# Ways out of the file
# --------------------------------------------------------------------------------------------------


def external_link(file, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = 1
    file["data/demo_0/obs/link"] = h5py.ExternalLink(str(folder / "other.h5"), "/x")


def external_link_upwards(file, folder):
    file["data/demo_0/obs/link"] = h5py.ExternalLink("../../other.h5", "/x")


def external_link_in_place_of_the_data(file, folder):
    del file["data"]
    file["data"] = h5py.ExternalLink(str(folder / "other.h5"), "/data")


def external_storage(file, folder):
    (folder / "secret").write_bytes(b"secret42")
    file.create_dataset(X, (8,), "u1", external=[(str(folder / "secret"), 0, 8)])


def external_storage_upwards(file, folder):
    file.create_dataset(X, (8,), "u1", external=[("../../../../../../etc/passwd", 0, 8)])


def virtual(file, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = np.arange(4)
    layout = h5py.VirtualLayout((4,), "i8")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", (4,))
    file.create_virtual_dataset(X, layout)


def virtual_of_nothing(file, folder):
    layout = h5py.VirtualLayout((4,), "i8")
    layout[:] = h5py.VirtualSource("../missing.h5", "x", (4,))
    file.create_virtual_dataset(X, layout, fillvalue=-1)


def soft_loop(file, folder):
    file["data/a"], file["data/b"] = h5py.SoftLink("/data/b"), h5py.SoftLink("/data/a")


def soft_link_to_itself(file, folder):
    file["data/demo_0/obs/x"] = h5py.SoftLink(".")


# --------------------------------------------------------------------------------------------------
# Shapes of the tree
# --------------------------------------------------------------------------------------------------


def hard_loop(file, folder):
    file["data/demo_0/again"] = file["data"]


def linked_twice(file, folder):
    file["data/demo_0/obs/again"] = file["data/demo_0/actions"]


def deep(file, folder):
    file.create_group("data/" + "/".join("a" * 20))


def very_deep(file, folder):
    file.create_group("data/" + "/".join("a" * 3000))


def crowded(file, folder):
    group = file.create_group("data/many")
    for number in range(100_001):
        h5py.h5g.create(group.id, f"{number}".encode())


def name_upwards(file, folder):
    _named(file, b"..")


def name_with_spaces(file, folder):
    _named(file, b"a b")


def name_hidden(file, folder):
    _named(file, b".hidden")


def name_long(file, folder):
    _named(file, b"a" * 201)


def name_not_utf8(file, folder):
    _named(file, b"\xff\xfe")


def _named(file, name):
    for where, rows in (
        ("data/demo_0/obs", file["data/demo_0"].attrs["num_samples"]),
        ("data/demo_0/final/obs", 1),
    ):
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((int(rows),))
        creation.set_fletcher32()
        space = h5py.h5s.create_simple((int(rows),))
        made = h5py.h5d.create(file[where].id, name, h5py.h5t.STD_U8LE, space, creation)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.zeros(int(rows), "u1"))


def named_type(file, folder):
    file["data/type"] = np.dtype("f8")


# --------------------------------------------------------------------------------------------------
# Arrays
# --------------------------------------------------------------------------------------------------


def other_filter(file, folder):
    file.create_dataset(X, data=np.zeros(9, "u1"), **GOOD, **hdf5plugin.BZip2())


def unknown_filter(file, folder):
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk((1,))
    creation.set_filter(31999, h5py.h5z.FLAG_OPTIONAL, ())
    creation.set_fletcher32()
    h5py.h5d.create(
        file["data/demo_0/obs"].id,
        b"x",
        h5py.h5t.NATIVE_UINT8,
        h5py.h5s.create_simple((4,)),
        creation,
    )


def lzf(file, folder):
    file.create_dataset(X, data=np.zeros(9, "u1"), **GOOD, compression="lzf")


def no_checksum(file, folder):
    file.create_dataset(X, data=np.zeros(9, "u1"), chunks=(1,))


def contiguous(file, folder):
    file[X] = np.zeros(9)


def compact_storage(file, folder):
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.COMPACT)
    h5py.h5d.create(
        file["data/demo_0/obs"].id, b"x", h5py.h5t.STD_U8LE, h5py.h5s.create_simple((4,)), creation
    )


def texts(file, folder):
    file.create_dataset(X, data=np.array([b"a"] * 9), **GOOD)


def variable_texts(file, folder):
    file.create_dataset(X, (9,), h5py.string_dtype(), chunks=(1,))


def variable_lengths(file, folder):
    file.create_dataset(X, (9,), h5py.vlen_dtype("u1"), chunks=(1,))


def compound(file, folder):
    file.create_dataset(X, data=np.zeros(9, [("a", "u1"), ("b", "f4")]), **GOOD)


def opaque(file, folder):
    file.create_dataset(X, data=np.zeros(9, "V8"), **GOOD)


def references(file, folder):
    file.create_dataset(X, (9,), h5py.ref_dtype, **GOOD)


def region_references(file, folder):
    file.create_dataset(X, (9,), h5py.regionref_dtype, **GOOD)


def enumeration(file, folder):
    file.create_dataset(X, (9,), h5py.enum_dtype({"a": 1}), **GOOD)


def no_shape(file, folder):
    file[X] = h5py.Empty("f4")


def huge(file, folder):
    file.create_dataset(X, (1 << 40, 1 << 20), "u1", chunks=(1, 1), fletcher32=True)


def quadrillion(file, folder):
    file.create_dataset(X, (10**15,), "u1", chunks=(1 << 20,), fletcher32=True)


def huge_chunk(file, folder):
    file.create_dataset(X, (1 << 27,), "u1", chunks=(1 << 27,), fletcher32=True)


def many_axes(file, folder):
    file.create_dataset(X, (1,) * 12, "u1", chunks=(1,) * 12, fletcher32=True)


def sparse(file, folder):
    file.create_dataset(X, (9,), "u1", **GOOD)


def bomb(file, folder):
    """A gigabyte of zeros in one megabyte: each chunk as any other."""
    size, row = 1 << 30, 1 << 24
    data = file.create_dataset(
        X, (size // row, row), "u1", chunks=(1, row), compression="gzip", fletcher32=True
    )
    packed = zlib.compress(b"\0" * row, 9)
    for number in range(len(data)):
        data.id.write_direct_chunk((number, 0), packed + fletcher32(packed))


def bomb_in_parts(file, folder):
    """The same in a hundred arrays, each small enough."""
    row = 1 << 24
    packed = zlib.compress(b"\0" * row, 9)
    packed += fletcher32(packed)
    for number in range(100):
        data = file.create_dataset(
            f"{X}{number}", (1, row), "u1", chunks=(1, row), compression="gzip", fletcher32=True
        )
        data.id.write_direct_chunk((0, 0), packed)


def short_blosc(file, folder):
    _blosc_of(file, 8)


def long_blosc(file, folder):
    _blosc_of(file, 1 << 30)


def _blosc_of(file, size):
    options = dict(hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=0))
    data = file.create_dataset(X, (4096,), "u1", chunks=(4096,), fletcher32=True, **options)
    data[:] = 1
    raw = bytearray(data.id.read_direct_chunk((0,))[1])
    raw[4:8] = size.to_bytes(4, "little")
    data.id.write_direct_chunk((0,), bytes(raw))


def blosc_without_header(file, folder):
    options = dict(hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=0))
    data = file.create_dataset(X, (4096,), "u1", chunks=(4096,), fletcher32=True, **options)
    data.id.write_direct_chunk((0,), b"\2\1" + fletcher32(b"\2\1"))


def short_unfiltered_chunk(file, folder):
    data = file.create_dataset(X, (4096,), "u1", chunks=(4096,), fletcher32=True)
    data.id.write_direct_chunk((0,), b"abcd" + fletcher32(b"abcd"))


def filter_mask(file, folder):
    """A chunk that says its filters were left out, of the size of a packed one."""
    data = file.create_dataset(
        X, (4096,), "u1", chunks=(4096,), compression="gzip", fletcher32=True
    )
    data.id.write_direct_chunk((0,), b"abcd", filter_mask=3)


# --------------------------------------------------------------------------------------------------
# Attributes
# --------------------------------------------------------------------------------------------------


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


def attribute_huge(file, folder):
    """100 MB, as HDF5 allows where attributes are stored apart."""
    path = file.filename
    file.close()
    with h5py.File(path, "r+", libver="latest") as again:
        group = again.create_group("data/notes")
        for number in range(9):
            group.attrs[f"a{number}"] = number
        group.attrs["note"] = np.zeros(100_000_000, "u1")


def instruction_as_number(file, folder):
    del file["data/demo_0"].attrs["instruction"]
    file["data/demo_0"].attrs["instruction"] = 1


def steps_negative(file, folder):
    file["data/demo_0"].attrs.modify("num_samples", np.int64(-1))


def steps_huge(file, folder):
    file["data/demo_0"].attrs.modify("num_samples", np.int64(1 << 62))


def spec_nested(file, folder):
    _text(file, "spec", "[" * 50_000)


def spec_upwards(file, folder):
    spec = json.loads(file["data/demo_0"].attrs["spec"]) | {"cell": "../../../etc/passwd"}
    _text(file, "spec", canonical_json(spec))


def stages_of_nonsense(file, folder):
    _text(file, "stages", '[[1e9, {"a": 1}, 3]]')


def _text(file, name, text):
    attributes = file["data/demo_0"].attrs
    del attributes[name]
    attributes[name] = np.bytes_(text.encode())


def fletcher32(data: bytes) -> bytes:
    """The checksum HDF5 puts behind a chunk: sums of big-endian 16-bit words, modulo 65535."""
    words = np.frombuffer(data + b"\0" * (len(data) % 2), ">u2").astype(np.uint64)
    one = two = 0
    for word in words.tolist():
        one = (one + word) % 65535
        two = (two + one) % 65535
    return (two << 16 | one).to_bytes(4, "little")


# What each is refused for.
IN_AN_EPISODE = {
    external_link: "obs/link is an external link",
    external_link_upwards: "obs/link is an external link",
    external_link_in_place_of_the_data: "data is an external link",
    external_storage: "external storage",
    external_storage_upwards: "external storage",
    virtual: "virtual dataset",
    virtual_of_nothing: "virtual dataset",
    soft_loop: "is a soft link",
    soft_link_to_itself: "is a soft link",
    hard_loop: "linked more than once",
    linked_twice: "linked more than once",
    deep: "nested deeper than 8",
    very_deep: "nested deeper than 8",
    crowded: "more than 100000 objects",
    name_upwards: "has the name '..'",
    name_with_spaces: "has the name 'a b'",
    name_hidden: "has the name '.hidden'",
    name_long: "has the name 'aaaa",
    name_not_utf8: "can't decode",
    named_type: "neither group nor array",
    other_filter: "needs HDF5 filter 307",
    unknown_filter: "needs HDF5 filter 31999",
    lzf: "needs HDF5 filter 32000",
    no_checksum: "has no checksum",
    contiguous: "not stored in chunks",
    compact_storage: "not stored in chunks",
    texts: "neither integers nor floats",
    variable_texts: "has no checksum",
    variable_lengths: "has no checksum",
    compound: "neither integers nor floats",
    opaque: "neither integers nor floats",
    references: "neither integers nor floats",
    region_references: "neither integers nor floats",
    enumeration: "neither integers nor floats",
    no_shape: "not stored in chunks",
    huge: "claims shape",
    quadrillion: "claims shape",
    huge_chunk: "chunks of 134217728 bytes",
    many_axes: "has 12 axes",
    sparse: "has 0 chunks, expected 9",
    bomb: "claims 10737",
    bomb_in_parts: "claims 16777",
    short_blosc: "of 8 bytes, expected 4096",
    long_blosc: "of 1073741824 bytes, expected 4096",
    blosc_without_header: "cannot read it",
    short_unfiltered_chunk: "of 4 bytes, expected 4096",
    filter_mask: "of 4 bytes, expected 4096",
    attribute_text: "'note' is neither",
    attribute_pickle: "'note' is neither",
    attribute_reference: "'note' is neither",
    attribute_array: "'note' is not a single value",
    attribute_float: "'note' is neither",
    attribute_of_array: "is an array with attributes",
    attributes_many: "attributes, more than 64",
    attribute_huge: "keeps its attributes apart",
    instruction_as_number: "'instruction' is missing or not str",
    steps_negative: "expected -1 rows",
    steps_huge: "expected 4611686018427387904 rows",
    spec_nested: "nested too deep",
    spec_upwards: "do not belong together",
    stages_of_nonsense: "object_names or stages cannot be used",
}


# --------------------------------------------------------------------------------------------------
# Around the files
# --------------------------------------------------------------------------------------------------


def fifo(root):
    episode_file(root).unlink()
    os.mkfifo(root / f"episodes/ep-00000000-{'0' * 16}.h5")


def folder_as_file(root):
    path = episode_file(root)
    path.unlink()
    path.mkdir()


def link_as_file(root):
    path = episode_file(root)
    path.rename(root.parent / "real.h5")
    path.symlink_to(root.parent / "real.h5")


def link_to_a_device(root):
    path = episode_file(root)
    path.unlink()
    path.symlink_to("/dev/zero")


def not_a_file_at_all(root):
    """A socket: making a real device needs privileges."""
    path = episode_file(root)
    path.unlink()
    os.mknod(path, 0o600 | 0o140000)


def sparse_giant(root):
    """Terabytes without a block on the disk."""
    path = episode_file(root)
    os.truncate(path, 1 << 40)


def identity_fifo(root):
    (root / "dataset.json").unlink()
    os.mkfifo(root / "dataset.json")


def identity_sparse(root):
    os.truncate(root / "dataset.json", 1 << 34)


def folder_that_leads_out(root):
    (root / "episodes").rename(root.parent / "outside")
    (root / "episodes").symlink_to(root.parent / "outside")


IN_A_FOLDER = {
    fifo: "it is not a regular file",
    folder_as_file: "it is not a regular file",
    link_as_file: "it is a symbolic link",
    link_to_a_device: "it is a symbolic link",
    not_a_file_at_all: "it cannot be read",
    sparse_giant: "more than the limit",
    identity_fifo: "it is not a regular file",
    identity_sparse: "more than the limit",
    folder_that_leads_out: "it is not a folder of its own",
}


# --------------------------------------------------------------------------------------------------
# JSON
# --------------------------------------------------------------------------------------------------

# What takes the place of a value, and what it is refused for.
IN_JSON = {
    "NaN": "NaN is not a number",
    "Infinity": "Infinity is not a number",
    "1e400": "is out of range",
    "1" * 5000: "not valid JSON",
    "[" * 100_000: "nested too deep",
    '{"a":' * 100_000: "nested too deep",
    '{"a": 1, "a": 2}': "'a' appears twice",
    "{" + ", ".join(f'"{n}": 0' for n in range(100_000)) + ', "99999": 0}': "'99999' appears twice",
}
RECORD_NAMES = (
    "/etc/passwd",
    "../ep-00000000-0123456789abcdef.h5",
    "episodes/../../x.h5",
    "episodes/ep-00000000-0123456789abcdef.h5\0",
    "episodes\\ep-00000000-0123456789abcdef.h5",
    f"episodes/{'a' * 250}.h5",
)


def manifest_of(path: Path, entries: list[dict], **head: object) -> None:
    """Write a manifest whose digest holds."""
    path.parent.mkdir(exist_ok=True)
    head = {"format_version": 1, "content_sha256": sha256_hex(canonical_json(entries)), **head}
    path.write_text(json.dumps({**head, "episodes": entries}))
