"""A data file, opened with suspicion: everything in it is looked at, and refused by name, before any of it is read."""

from __future__ import annotations

import contextlib
import errno
import math
import struct
import sys
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # registers the Blosc filter with HDF5
import numpy as np
import numpy.typing as npt

from shopfloor.datasets.disk.errors import DamagedFileError, UnsafeFileError
from shopfloor.datasets.disk.files import (
    HDF5_SIGNATURE,
    NOT_DAMAGE,
    TRAILER_BYTES,
    FileState,
    check_trailer,
    hash_file,
    read_error,
)
from shopfloor.datasets.format import layout
from shopfloor.datasets.format.shard_index import (
    INDEX,
    Descriptor,
    Entry,
    PlainArray,
    ShardIndex,
    index_line,
)

KEPT_OPEN = (
    256  # handles of a file that is walked through: those of a whole shard would take 500 MB
)
_FILTERS = {
    h5py.h5z.FILTER_DEFLATE: "gzip",
    h5py.h5z.FILTER_SHUFFLE: "shuffle",
    h5py.h5z.FILTER_FLETCHER32: "fletcher32",
    hdf5plugin.Blosc.filter_id: "blosc",
}
# What h5py, and unpacking a chunk, raise on bytes that are not what they claim to be.
_HDF5_ERRORS = (
    OSError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
)


@contextlib.contextmanager
def hdf5_errors(path: Path) -> Iterator[None]:
    """Turn whatever HDF5 raises about `path` into DamagedFileError; DiskError where the process is at fault."""
    try:
        yield
    except MemoryError as error:
        raise read_error(path, OSError(errno.ENOMEM, "not enough memory")) from error
    except FileNotFoundError:
        raise
    except _HDF5_ERRORS as error:
        if isinstance(error, OSError) and error.errno in NOT_DAMAGE:
            raise read_error(path, error) from error

        text = " ".join(str(error).split())
        if "memory allocation failed" in text or "unable to allocate" in text:
            raise read_error(path, OSError(errno.ENOMEM, "not enough memory")) from error

        raise DamagedFileError(
            path, f"HDF5 cannot read it ({type(error).__name__}: {text[:200]})"
        ) from error


class Array:
    """One array of a file, checked but not read.

    Attributes:
        shape: its shape.
        dtype: its dtype, native byte order.
        contiguous: whether it is stored in one piece, as in train shards, without chunks and
            checksums.
    """

    def __init__(
        self,
        file: h5py.h5f.FileID,
        name: str,
        handle: h5py.h5d.DatasetID,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> None:
        """Keep a handle and what was found out about it.

        Args:
            file: HDF5's handle of the file.
            name: path inside the file.
            handle: HDF5's handle of the array.
            shape: its shape.
            dtype: its dtype.
        """
        self.shape, self.dtype = shape, dtype
        self.contiguous = handle.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS
        self._file, self._name = file, name
        self._open: tuple[h5py.h5d.DatasetID, h5py.h5s.SpaceID] | None = handle, handle.get_space()
        self._origin = (0,) * (len(shape) - 1)

    @property
    def id(self) -> h5py.h5d.DatasetID:
        """HDF5's handle of it."""
        return self._open[0] if self._open else h5py.h5d.open(self._file, self._name.encode())

    def release(self) -> None:
        """Let go of the handle, which takes 20 kB; each use opens the array again."""
        self._open = None

    def read(self) -> npt.NDArray[Any]:
        """Read all of it."""
        out = np.empty(self.shape, self.dtype)
        self.read_into(out, 0)
        return out

    def read_into(self, out: npt.NDArray[Any], start: int) -> None:
        """Read rows from `start` on into `out`, a C-contiguous array of this dtype; its length says how many."""
        if not out.size:
            return
        handle, space = self._open or (self.id, None)
        space = space or handle.get_space()
        space.select_hyperslab((start, *self._origin), out.shape)
        handle.read(h5py.h5s.create_simple(out.shape), space, out)


@dataclass(frozen=True)
class Verified:
    """What was found when a file's trailer was checked.

    Attributes:
        sha256: of the whole file, in hexadecimal.
        state: the file's state then.
    """

    sha256: str
    state: FileState


class Container:
    """An open data file whose trailer holds and whose whole structure passed the checks.

    Attributes:
        path: the file.
        arrays: path inside the file -> array, in a file that was walked through.
    """

    def __init__(
        self,
        path: Path,
        file: h5py.h5f.FileID,
        *,
        checked: bool = False,
        data_bytes: int | None = None,
    ) -> None:
        """Walk through an open file, unless it was `checked` before. Use `Container.open` or `Container.of_bytes`.

        Args:
            path: the file.
            file: HDF5's handle of it.
            checked: whether its structure was looked at before.
            data_bytes: length of a file on disk without its trailer: a train shard is then read by
                its index.
        """
        self.path = path
        self.arrays: dict[str, Array] = {}
        self._groups: dict[str, dict[str, Array]] = {}  # the same below data, by episode
        self._attributes: dict[str, dict[str, int | str]] = {}
        self._file, self._checked = file, checked
        self._descriptor = Descriptor(path)

        # Of what is looked up now and then, the last one: episodes are read one after the other.
        self._entry: tuple[str, Entry | None] = "", None
        self._last: tuple[str, dict[str, int | str]] = "", {}
        self._seen: set[int] = set()

        try:
            with hdf5_errors(path):
                self._attributes[""] = self._read_attributes(h5py.h5g.open(file, b"/"), "")
                self._index = None if data_bytes is None else self._open_index(data_bytes)
                if self._index is not None or checked:
                    return

                self._walk(h5py.h5g.open(file, b"/"), "", 0)
                self.check_chunks(inflate=False)
                self._check_index()
        except BaseException:
            self.close()
            raise

    # -- what is inside ----------------------------------------------------------------------------

    def find(self, name: str) -> Array | PlainArray | None:
        """Return the array at a path inside the file, None if there is none."""
        if self._index is not None:
            group, _, inside = name.removeprefix("data/").partition("/")
            entry = self._indexed(group)
            return entry.arrays.get(inside) if entry else None
        if not self._checked:
            return self.arrays.get(name)

        with hdf5_errors(self.path):
            try:
                item = h5py.h5d.open(self._file, name.encode())
            except KeyError:
                return None
            return self._check_array(item, name)

    def attributes(self, name: str) -> Mapping[str, int | str]:
        """Return the attributes of the group at a path inside the file ("" is the root); empty if there is none."""
        if name in self._attributes or not (self._checked or self._index is not None):
            return self._attributes.get(name, {})
        if self._index is not None and name != "data":
            entry = self._indexed(name.removeprefix("data/"))
            return entry.attributes if entry else {}

        if self._last[0] != name:
            with hdf5_errors(self.path):
                group = self._group(name)
                self._last = name, self._read_attributes(group, name) if group else {}
        return self._last[1]

    def children(self, name: str) -> list[str]:
        """Return the names in the group at a path inside the file, sorted; none if there is no such group."""
        if self._checked and self._index is None:
            with hdf5_errors(self.path):
                group = self._group(name)
                return sorted(link.decode() for link in group) if group else []
        return sorted({path.split("/")[0] for path in self.inside(name)})

    def inside(self, name: str) -> dict[str, Array | PlainArray]:
        """Return what is in an episode of a file that was opened for the first time.

        Args:
            name: "data/demo_<k>", or a group below it.

        Returns:
            Path from there -> array.
        """
        group, _, below = f"{name}/".removeprefix("data/").partition("/")
        if self._index is None:
            arrays: Mapping[str, Array | PlainArray] = self._groups.get(group, {})
        else:
            entry = self._indexed(group)
            arrays = entry.arrays if entry else {}

        return {
            path[len(below) :]: array for path, array in arrays.items() if path.startswith(below)
        }

    def groups(self) -> list[str]:
        """Return the names of the episodes in a file that was opened for the first time, in order of their numbers."""
        if self._index is not None:
            return [f"demo_{number}" for number in range(len(self._index))]
        names = list(self._groups)
        strange = [name for name in names if not layout.GROUP_NAME.fullmatch(name)]
        if strange:
            raise DamagedFileError(
                self.path, f"it holds data/{strange[0]:.80}, which is no episode"
            )
        return sorted(names, key=lambda name: int(name.removeprefix("demo_")))

    def _group(self, name: str) -> h5py.h5g.GroupID | None:
        there = self._file.links.exists(name.encode())
        return h5py.h5g.open(self._file, name.encode()) if there else None

    def _indexed(self, group: str) -> Entry | None:
        if self._entry[0] != group and self._index is not None:
            with hdf5_errors(self.path):
                self._entry = group, self._index.entry(group)
        return self._entry[1]

    def _open_index(self, data_bytes: int) -> ShardIndex | None:
        if self._attributes[""].get("layout") != "train" or sys.byteorder != "little":
            return None

        try:
            array = self._check_array(h5py.h5d.open(self._file, INDEX.encode()), INDEX)
        except KeyError:
            raise DamagedFileError(self.path, "it has no index, as a train shard must") from None

        offset = array.id.get_offset() if array.contiguous else None
        if (
            offset is None
            or array.dtype != np.uint8
            or len(array.shape) != 1
            or offset + array.shape[0] > data_bytes
        ):
            raise self._refuse(INDEX, f"is no text of {array.shape} bytes at {offset}")

        self._descriptor.number = self._file.get_vfd_handle()
        return ShardIndex(
            self._descriptor,
            PlainArray(self._descriptor, array.shape, array.dtype, offset),
            data_bytes,
        )

    def _check_index(self) -> None:
        """Refuse a train shard whose index says anything else than its groups and arrays do."""
        if self._attributes[""].get("layout") != "train":
            return

        text = self.arrays.pop(INDEX, None)
        lines = []
        for group in self.groups():
            name = f"data/{group}"
            arrays = {
                path: array for path, array in self.inside(name).items() if isinstance(array, Array)
            }

            places = {
                path: (one.dtype, one.shape, one.id.get_offset() or 0)
                for path, one in arrays.items()
            }
            lines.append(index_line(self._attributes[name], places))

        if text is None or text.read().tobytes() != b"".join(lines):
            raise DamagedFileError(self.path, "its index does not say what is in it")

    # -- opening and closing -----------------------------------------------------------------------

    @classmethod
    def open(
        cls, path: Path, verified: Verified | None = None, *, whole: bool = False
    ) -> tuple[Container, Verified]:
        """Open a file to read parts of it.

        Args:
            path: the file.
            verified: what was found when the file was last checked; while that holds it is not
                checked again.
            whole: walk through a train shard, too, and compare its index with that.

        Returns:
            The container, and what was found.

        Raises:
            DamagedFileError: what is wrong with the file; UnsafeFileError: what is refused in it.
            FileNotFoundError: there is no such file.
        """
        checked = verified or Verified(*hash_file(path))
        with hdf5_errors(path):
            file = h5py.h5f.open(bytes(path), h5py.h5f.ACC_RDONLY, fapl=_access())

        if FileState.of(file.get_vfd_handle()) != checked.state:
            file.close()
            if verified is None:
                raise UnsafeFileError(path, "it was exchanged while it was opened")
            return cls.open(path, whole=whole)  # changed since it was checked: check it again

        data_bytes = None if whole else checked.state.bytes - TRAILER_BYTES
        return cls(path, file, checked=verified is not None, data_bytes=data_bytes), checked

    @classmethod
    def of_bytes(cls, path: Path, data: bytes) -> Container:
        """Open a whole file's bytes, so that what was checked is what is read; raises as `open`."""
        check_trailer(path, data)
        if not data.startswith(HDF5_SIGNATURE):
            raise DamagedFileError(path, "it is not an HDF5 file")
        with hdf5_errors(path):
            return cls(path, h5py.h5f.open_file_image(data[:-TRAILER_BYTES]))

    def close(self) -> None:
        """Close the file."""
        self.arrays, self._groups = {}, {}
        self._descriptor.number = -1
        if self._file.valid:
            self._file.close()

    def check_chunks(self, *, inflate: bool) -> None:
        """Refuse chunks that unpack to another size than they claim: HDF5 would hand out whatever lay in memory.

        Args:
            inflate: also unpack gzip chunks to see (Blosc chunks say it in their header).

        Raises:
            UnsafeFileError: a chunk of another size, or one that is not there; an episode that
                claims to be hundreds of times larger than what is stored of it.
        """
        claimed: Counter[str] = Counter()
        stored: Counter[str] = Counter()
        with hdf5_errors(self.path):
            for name, array in self.arrays.items():
                group = "/".join(name.split("/")[:2])
                claimed[group] += math.prod(array.shape) * array.dtype.itemsize
                stored[group] += self._check_chunks(name, array, inflate)

        for group, size in claimed.items():
            if size > layout.MAX_UNPROVEN_BYTES and size > layout.MAX_EXPANSION * stored[group]:
                raise self._refuse(
                    group, f"claims {size} bytes but stores {stored[group]} (a decompression bomb)"
                )

    def _check_chunks(self, name: str, array: Array, inflate: bool) -> int:
        """Check one array's chunks; returns how many bytes are stored."""
        handle = array.id
        if array.contiguous:
            return int(handle.get_storage_size())

        creation = handle.get_create_plist()
        filters = [creation.get_filter(number)[0] for number in range(creation.get_nfilters())]
        chunk = creation.get_chunk()
        size = math.prod(chunk) * handle.dtype.itemsize
        expected = math.prod(
            -(-side // step) for side, step in zip(array.shape, chunk, strict=True)
        )
        stored: list[h5py.h5d.StoreInfo] = []
        handle.chunk_iter(stored.append)

        if len(stored) != expected or len({info.chunk_offset for info in stored}) != expected:
            raise self._refuse(name, f"has {len(stored)} chunks, expected {expected}")

        for info in stored:
            packed = [
                number for place, number in enumerate(filters) if not info.filter_mask >> place & 1
            ]

            if hdf5plugin.Blosc.filter_id in packed:
                unpacked = struct.unpack("<I", handle.read_direct_chunk(info.chunk_offset)[1][4:8])[
                    0
                ]
            elif h5py.h5z.FILTER_DEFLATE not in packed:
                unpacked = info.size - 4 * (h5py.h5z.FILTER_FLETCHER32 in packed)
            elif inflate:
                raw = handle.read_direct_chunk(info.chunk_offset)[1]
                unpacked = len(zlib.decompressobj().decompress(raw, size + 1))
            else:
                continue

            if unpacked != size:
                raise self._refuse(
                    name, f"has a chunk at {info.chunk_offset} of {unpacked} bytes, expected {size}"
                )

        return sum(info.size for info in stored)

    # -- the walk ----------------------------------------------------------------------------------

    def _refuse(self, name: str, problem: str) -> UnsafeFileError:
        return UnsafeFileError(self.path, f"{name or '/'} {problem}")

    def _walk(self, group: h5py.h5g.GroupID, name: str, depth: int) -> None:
        if depth > layout.MAX_DEPTH:
            raise self._refuse(name, f"is nested deeper than {layout.MAX_DEPTH} groups")

        self._visit(group, name)
        self._attributes[name] = self._read_attributes(group, name)
        if group.get_num_objs() > layout.MAX_OBJECTS:
            raise self._refuse(name, f"holds more than {layout.MAX_OBJECTS} objects")

        links = group.links
        for link in list(group):
            child = f"{name}/{link.decode('utf-8')}" if name else link.decode("utf-8")
            kind = links.get_info(link).type
            if kind != h5py.h5l.TYPE_HARD:
                words = {
                    h5py.h5l.TYPE_SOFT: "a soft link",
                    h5py.h5l.TYPE_EXTERNAL: "an external link",
                }
                raise self._refuse(child, f"is {words.get(kind, 'a link of unknown kind')}")

            item = h5py.h5o.open(group, link)
            if isinstance(item, h5py.h5g.GroupID):
                self._walk(item, child, depth + 1)
            elif isinstance(item, h5py.h5d.DatasetID):
                self._visit(item, child)
                self.arrays[child] = array = self._check_array(item, child)
                if len(self.arrays) > KEPT_OPEN:
                    array.release()

                if child.startswith("data/"):
                    episode, _, path = child.removeprefix("data/").partition("/")
                    self._groups.setdefault(episode, {})[path] = self.arrays[child]

                if h5py.h5a.get_num_attrs(item):
                    raise self._refuse(child, "is an array with attributes")
            else:
                raise self._refuse(child, "is neither group nor array")

    def _visit(self, item: h5py.h5g.GroupID | h5py.h5d.DatasetID, name: str) -> None:
        info = h5py.h5o.get_info(item)
        if info.addr in self._seen:
            raise self._refuse(name, "is linked more than once (a loop)")
        self._refuse_large_attributes(info, name)
        self._seen.add(info.addr)
        if len(self._seen) > layout.MAX_OBJECTS:
            raise self._refuse(name, f"is one of more than {layout.MAX_OBJECTS} objects")

    def _refuse_large_attributes(self, info: h5py.h5o.ObjInfo, name: str) -> None:
        if info.meta_size.attr.heap_size or info.meta_size.attr.index_size:
            # HDF5 would load all of them, of any size, to tell the first one's.
            raise self._refuse(
                name, "keeps its attributes apart from its header, as large ones are"
            )

    def _check_array(self, item: h5py.h5d.DatasetID, name: str) -> Array:
        creation = item.get_create_plist()
        if creation.get_layout() == h5py.h5d.VIRTUAL:
            raise self._refuse(name, "is a virtual dataset (it would read other files)")
        if creation.get_external_count():
            raise self._refuse(name, "has external storage (it would read other files)")

        contiguous = creation.get_layout() == h5py.h5d.CONTIGUOUS
        if contiguous and self.attributes("").get("layout") != "train":
            raise self._refuse(name, "is not stored in chunks, so it has no checksum")

        if not contiguous:
            if creation.get_layout() != h5py.h5d.CHUNKED:
                raise self._refuse(name, "is not stored in chunks, so it has no checksum")
            self._check_filters(creation, name)

        kind = item.get_type()
        if kind.get_class() not in (h5py.h5t.INTEGER, h5py.h5t.FLOAT) or kind.get_size() not in (
            1,
            2,
            4,
            8,
        ):
            raise self._refuse(name, "holds neither integers nor floats")

        shape = tuple(item.shape)
        if not 1 <= len(shape) <= layout.MAX_RANK:
            raise self._refuse(name, f"has {len(shape)} axes, expected 1 to {layout.MAX_RANK}")
        if math.prod(shape) * kind.get_size() > layout.MAX_ARRAY_BYTES:
            raise self._refuse(
                name, f"claims shape {shape}, more than {layout.MAX_ARRAY_BYTES} bytes"
            )
        if contiguous:
            if item.get_storage_size() != math.prod(shape) * kind.get_size():
                raise self._refuse(name, f"stores {item.get_storage_size()} bytes of shape {shape}")
            return Array(self._file, name, item, shape, np.dtype(kind.dtype).newbyteorder("="))

        chunk_bytes = math.prod(creation.get_chunk()) * kind.get_size()
        if chunk_bytes > layout.MAX_CHUNK_BYTES:
            raise self._refuse(
                name, f"has chunks of {chunk_bytes} bytes, more than {layout.MAX_CHUNK_BYTES}"
            )

        return Array(self._file, name, item, shape, np.dtype(kind.dtype).newbyteorder("="))

    def _check_filters(self, creation: h5py.h5p.PropDCID, name: str) -> None:
        filters = [creation.get_filter(number)[0] for number in range(creation.get_nfilters())]
        for number in filters:
            if number not in _FILTERS:
                raise self._refuse(
                    name, f"needs HDF5 filter {number}; allowed are {', '.join(_FILTERS.values())}"
                )
        if h5py.h5z.FILTER_FLETCHER32 not in filters:
            raise self._refuse(name, "has no checksum (fletcher32)")

    def _read_attributes(self, group: h5py.h5g.GroupID, name: str) -> dict[str, int | str]:
        self._refuse_large_attributes(h5py.h5o.get_info(group), name)
        count = h5py.h5a.get_num_attrs(group)
        if count > layout.MAX_ATTRIBUTES:
            raise self._refuse(name, f"has {count} attributes, more than {layout.MAX_ATTRIBUTES}")
        values: dict[str, int | str] = {}
        for index in range(count):
            attribute = h5py.h5a.open(group, index=index)
            values[attribute.name.decode("utf-8")] = self._attribute(attribute, name)
        return values

    def _attribute(self, attribute: h5py.h5a.AttrID, name: str) -> int | str:
        label = f"{name or '/'} attribute {attribute.name.decode('utf-8', 'replace')!r}"
        kind = attribute.get_type()
        if attribute.get_storage_size() > 1 << 16 or kind.get_size() > 1 << 16:
            raise self._refuse(label, "is larger than 64 KiB")
        if attribute.shape != ():
            raise self._refuse(label, "is not a single value")
        if kind.get_class() == h5py.h5t.INTEGER and kind.get_size() <= 8:
            out = np.empty((), kind.dtype)
            attribute.read(out, mtype=kind)
            return int(out)

        if kind.get_class() == h5py.h5t.STRING and not kind.is_variable_str():
            out = np.empty((), kind.dtype)
            attribute.read(out, mtype=kind)
            return bytes(out.item()).decode("utf-8")

        raise self._refuse(
            label, "is neither an integer nor fixed-length text (objects are never read)"
        )


def _access() -> h5py.h5p.PropFAID:
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    # Locks where the file system has them; published files never change, so none are needed.
    if hasattr(access, "set_file_locking"):
        access.set_file_locking(True, True)  # use them, ignore when disabled
    # Windows read rows all over the place, each of its own chunk: keeping chunks would cost memory
    # for nothing.
    access.set_cache(0, 1, 0, 0.75)
    return access


def attribute(values: Mapping[str, int | str], name: str, kind: type, path: Path) -> Any:  # noqa: ANN401  # of `kind`
    """Return an attribute that must be there, of type `kind` (int or str), else raise DamagedFileError."""
    value = values.get(name)
    if not isinstance(value, kind):
        raise DamagedFileError(path, f"its attribute {name!r} is missing or not {kind.__name__}")
    return value
