"""A data file, opened with suspicion: its whole structure is checked before any of it is read."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from shopfloor.datasets.disk.errors import DamagedFileError, UnsafeFileError
from shopfloor.datasets.disk.files import (
    HDF5_SIGNATURE,
    TRAILER_BYTES,
    FileState,
    check_trailer,
    hash_file,
)
from shopfloor.datasets.format import layout
from shopfloor.datasets.format.hdf5_objects import (
    Array,
    check_array,
    check_chunks,
    hdf5_errors,
    read_attributes,
    refusal,
    refuse_large_attributes,
)
from shopfloor.datasets.format.shard_index import (
    INDEX,
    Descriptor,
    Entry,
    PlainArray,
    ShardIndex,
    index_line,
)

# Handles of a file that is walked through; those of a whole shard would take 500 MB.
KEPT_OPEN = 256


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
        """Walk through an open file, unless it was `checked` before; use `open` or `of_bytes`.

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
                self._attributes[""] = read_attributes(self.path, h5py.h5g.open(file, b"/"), "")
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
            return self._checked_array(item, name)

    def attributes(self, name: str) -> Mapping[str, int | str]:
        """Return the attributes of the group at a path in the file, "" for the root; empty without it."""
        if name in self._attributes or not (self._checked or self._index is not None):
            return self._attributes.get(name, {})
        if self._index is not None and name != "data":
            entry = self._indexed(name.removeprefix("data/"))
            return entry.attributes if entry else {}

        if self._last[0] != name:
            with hdf5_errors(self.path):
                group = self._group(name)
                self._last = name, read_attributes(self.path, group, name) if group else {}
        return self._last[1]

    def children(self, name: str) -> list[str]:
        """Return the names in the group at a path in the file, sorted; none without such a group."""
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

        found = {}
        for path, array in arrays.items():
            if path.startswith(below):
                found[path.removeprefix(below)] = array
        return found

    def groups(self) -> list[str]:
        """Return the names of the episodes of a file that was not checked before, by number."""
        if self._index is not None:
            return [f"demo_{number}" for number in range(len(self._index))]

        for name in self._groups:
            if not layout.GROUP_NAME.fullmatch(name):
                raise DamagedFileError(self.path, f"it holds data/{name:.80}, which is no episode")
        return sorted(self._groups, key=lambda name: int(name.removeprefix("demo_")))

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
            array = self._checked_array(h5py.h5d.open(self._file, INDEX.encode()), INDEX)
        except KeyError:
            raise DamagedFileError(self.path, "it has no index, as a train shard must") from None

        offset = array.id.get_offset() if array.contiguous else None
        if (
            offset is None
            or array.dtype != np.uint8
            or len(array.shape) != 1
            or offset + array.shape[0] > data_bytes
        ):
            raise refusal(self.path, INDEX, f"is no text of {array.shape} bytes at {offset}")

        self._descriptor.number = self._file.get_vfd_handle()
        return ShardIndex(
            self._descriptor,
            PlainArray(self._descriptor, array.shape, array.dtype, offset),
            data_bytes,
        )

    def _check_index(self) -> None:
        """Refuse a train shard whose index differs from its groups and arrays."""
        if self._attributes[""].get("layout") != "train":
            return

        text = self.arrays.pop(INDEX, None)
        lines = []
        for group in self.groups():
            name = f"data/{group}"
            places = {}
            for path, array in self.inside(name).items():
                if isinstance(array, Array):
                    places[path] = (array.dtype, array.shape, array.id.get_offset() or 0)
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
        """Refuse chunks that unpack to another size than they claim.

        HDF5 would hand out whatever lay in memory.

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
                claimed[group] += array.nbytes
                stored[group] += check_chunks(self.path, name, array, inflate=inflate)

        for group, size in claimed.items():
            if size > layout.MAX_UNPROVEN_BYTES and size > layout.MAX_EXPANSION * stored[group]:
                raise refusal(
                    self.path,
                    group,
                    f"claims {size} bytes but stores {stored[group]} (a decompression bomb)",
                )

    # -- the walk ----------------------------------------------------------------------------------

    def _walk(self, group: h5py.h5g.GroupID, name: str, depth: int) -> None:
        if depth > layout.MAX_DEPTH:
            raise refusal(self.path, name, f"is nested deeper than {layout.MAX_DEPTH} groups")

        self._visit(group, name)
        self._attributes[name] = read_attributes(self.path, group, name)
        if group.get_num_objs() > layout.MAX_OBJECTS:
            raise refusal(self.path, name, f"holds more than {layout.MAX_OBJECTS} objects")

        links = group.links
        for link in list(group):
            child = f"{name}/{link.decode('utf-8')}" if name else link.decode("utf-8")
            kind = links.get_info(link).type
            if kind != h5py.h5l.TYPE_HARD:
                words = {
                    h5py.h5l.TYPE_SOFT: "a soft link",
                    h5py.h5l.TYPE_EXTERNAL: "an external link",
                }
                raise refusal(self.path, child, f"is {words.get(kind, 'a link of unknown kind')}")

            item = h5py.h5o.open(group, link)
            if isinstance(item, h5py.h5g.GroupID):
                self._walk(item, child, depth + 1)
            elif isinstance(item, h5py.h5d.DatasetID):
                self._visit(item, child)
                self.arrays[child] = array = self._checked_array(item, child)
                if len(self.arrays) > KEPT_OPEN:
                    array.release()

                if child.startswith("data/"):
                    episode, _, path = child.removeprefix("data/").partition("/")
                    self._groups.setdefault(episode, {})[path] = self.arrays[child]

                if h5py.h5a.get_num_attrs(item):
                    raise refusal(self.path, child, "is an array with attributes")
            else:
                raise refusal(self.path, child, "is neither group nor array")

    def _checked_array(self, item: h5py.h5d.DatasetID, name: str) -> Array:
        bare = self._attributes[""].get("layout") == "train"
        return check_array(self.path, self._file, item, name, bare=bare)

    def _visit(self, item: h5py.h5g.GroupID | h5py.h5d.DatasetID, name: str) -> None:
        info = h5py.h5o.get_info(item)
        if info.addr in self._seen:
            raise refusal(self.path, name, "is linked more than once (a loop)")
        refuse_large_attributes(self.path, info, name)
        self._seen.add(info.addr)
        if len(self._seen) > layout.MAX_OBJECTS:
            raise refusal(self.path, name, f"is one of more than {layout.MAX_OBJECTS} objects")


def _access() -> h5py.h5p.PropFAID:
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    # Locks where the file system has them; published files never change, so none are needed.
    if hasattr(access, "set_file_locking"):
        access.set_file_locking(True, True)  # use them, ignore when disabled
    # Windows read rows all over the place, each of its own chunk: keeping chunks would cost memory
    # for nothing.
    access.set_cache(0, 1, 0, 0.75)
    return access
