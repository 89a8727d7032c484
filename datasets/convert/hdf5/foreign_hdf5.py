"""Foreign HDF5 files, read with suspicion: links, sizes and chunks are checked before data is read.

Only what is asked for is looked at, so a file of any number of episodes costs the memory of one:

Example:
    with ForeignFile(path) as file:
        for name in file.children("data"):
            steps = file.attribute(f"data/{name}", "num_samples")
            arrays = file.arrays(f"data/{name}")
            actions = arrays["actions"].read()
            picture = arrays["obs/agentview"].read(10, 20)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from shopfloor.datasets.convert.hdf5.foreign_arrays import ForeignArray
from shopfloor.datasets.convert.hdf5.foreign_bytes import ForeignBytes
from shopfloor.datasets.disk.errors import DamagedFileError
from shopfloor.datasets.disk.files import FileState, open_regular

MAX_OBJECTS = 500_000  # looked at in a file: an episode of a rich dataset has about 50
MAX_FOREIGN_BYTES = 1 << 44
MAX_DEPTH = 12
MAX_ATTRIBUTES = 1000
MAX_TEXT_BYTES = 1 << 22  # of an attribute: scenes of simulators are described in some 100 kB
MAX_ATTRIBUTES_BYTES = 1 << 24  # of those that are stored apart, which are all read to find one
_LINKS = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "an external link"}
Value = int | float | str | bool


class ForeignFile:
    """A foreign HDF5 file, open; use it as a context manager.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        """Open a regular file.

        Args:
            path: the file.

        Raises:
            DamagedFileError: it is no HDF5 file, or cut short; UnsafeFileError: it is no regular
                file.
            FileNotFoundError: there is no such file.
        """
        self.path = path
        self._seen: dict[int, str] = {}
        self._open = contextlib.ExitStack()
        self._fd = self._open.enter_context(open_regular(path, MAX_FOREIGN_BYTES))
        self._state = FileState.of(self._fd)
        self._source = ForeignBytes(path, self._fd, self._state.bytes)

        try:
            with self._source.errors():
                self._file = self._source.open()
        except BaseException:
            self._open.close()
            raise

    def __enter__(self) -> ForeignFile:
        """Return it."""
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Close it; raises DamagedFileError if it changed while it was read without another error."""
        changed = FileState.of(self._fd) != self._state
        if self._file.valid:
            self._file.close()
        self._open.close()
        if changed and kind is None:
            raise DamagedFileError(
                self.path, "it changed while it was read", "Import it when nobody writes to it."
            )

    # -- what is there -----------------------------------------------------------------------------

    def children(self, name: str = "") -> list[str]:
        """Return the names in the group at a path inside the file ("" is the root), in HDF5's order.

        Returns:
            The names; none if there is no group of that path.

        Raises:
            UnsafeFileError: one of them, or a part of the path, is a link to elsewhere.
        """
        with self._source.errors(name):
            group = self._find(name)
            return (
                [link for link, _ in self._links(group, name)]
                if isinstance(group, h5py.h5g.GroupID)
                else []
            )

    def arrays(self, name: str) -> Mapping[str, ForeignArray]:
        """Look at everything below a group, without reading any of it.

        Args:
            name: path of the group inside the file.

        Returns:
            Path below the group -> array, sorted. An array that is not read, such as one of
            objects, is among them and says why (`problem`).

        Raises:
            UnsafeFileError: something there leads elsewhere, is linked twice, or is one of too
                many.
        """
        found: dict[str, ForeignArray] = {}
        with self._source.errors(name):
            group = self._find(name)
            if isinstance(group, h5py.h5g.GroupID):
                self._walk(group, name, found, name.count("/") + 1)

        start = len(name) + 1 if name else 0
        return {path[start:]: found[path] for path in sorted(found)}

    def attribute(self, name: str, attribute: str) -> Value | None:
        """Return an attribute of the group or array at a path inside the file.

        Returns:
            An integer, float, truth value or text; None if there is none, or nothing of these
            kinds.
        """
        with self._source.errors(name):
            item = self._find(name)
            if item is None or not h5py.h5a.exists(item, attribute.encode()):
                return None
            return self._attribute(item, name, attribute)

    def attribute_names(self, name: str) -> list[str]:
        """Return the names of the attributes of a group or array, of the first 1000."""
        with self._source.errors(name):
            item = self._find(name)
            count = 0 if item is None else min(h5py.h5a.get_num_attrs(item), MAX_ATTRIBUTES)
            return sorted(
                h5py.h5a.open(item, index=index).name.decode("utf-8") for index in range(count)
            )

    def damaged(self, name: str, problem: str) -> DamagedFileError:
        """Return an error about an object that is not what the file says."""
        return self._source.damaged(name, problem)

    # -- the walk ----------------------------------------------------------------------------------

    def _find(self, name: str) -> h5py.h5g.GroupID | h5py.h5d.DatasetID | None:
        item, path = h5py.h5g.open(self._file, b"/"), ""
        self._visit(item, "")
        for part in name.split("/") if name else ():
            path = f"{path}/{part}" if path else part
            if not isinstance(item, h5py.h5g.GroupID) or not item.links.exists(part.encode()):
                return None
            item = self._child(item, part, path)
        return item

    def _links(self, group: h5py.h5g.GroupID, name: str) -> Iterator[tuple[str, str]]:
        if group.get_num_objs() > MAX_OBJECTS:
            raise self._source.unsafe(name, f"holds more than {MAX_OBJECTS} objects")

        links = group.links
        for link in list(group):
            text = link.decode("utf-8")
            path = f"{name}/{text}" if name else text
            kind = links.get_info(link).type

            if kind != h5py.h5l.TYPE_HARD:
                raise self._source.unsafe(
                    path,
                    f"is {_LINKS.get(kind, 'a link of unknown kind')}, which could lead elsewhere",
                )

            yield text, path

    def _child(
        self, group: h5py.h5g.GroupID, link: str, path: str
    ) -> h5py.h5g.GroupID | h5py.h5d.DatasetID:
        if group.links.get_info(link.encode()).type != h5py.h5l.TYPE_HARD:
            raise self._source.unsafe(path, "is a link, which could lead elsewhere")
        item = h5py.h5o.open(group, link.encode())
        if not isinstance(item, h5py.h5g.GroupID | h5py.h5d.DatasetID):
            raise self._source.unsafe(path, "is neither group nor array")
        self._visit(item, path)
        return item

    def _walk(
        self, group: h5py.h5g.GroupID, name: str, found: dict[str, ForeignArray], depth: int
    ) -> None:
        if depth > MAX_DEPTH:
            raise self._source.unsafe(name, f"is nested deeper than {MAX_DEPTH} groups")
        for link, path in self._links(group, name):
            item = self._child(group, link, path)
            if isinstance(item, h5py.h5g.GroupID):
                self._walk(item, path, found, depth + 1)
            else:
                found[path] = ForeignArray(self._source, item, path)

    def _visit(self, item: h5py.h5g.GroupID | h5py.h5d.DatasetID, name: str) -> None:
        info = h5py.h5o.get_info(item)
        known = self._seen.setdefault(info.addr, name)
        if known != name:
            raise self._source.unsafe(
                name, f"is {known or '/'} again: linked more than once (a loop)"
            )
        if len(self._seen) > MAX_OBJECTS:
            raise self._source.unsafe(name, f"is one of more than {MAX_OBJECTS} objects")

        if info.meta_size.attr.heap_size > MAX_ATTRIBUTES_BYTES:
            raise self._source.unsafe(
                name, f"has {info.meta_size.attr.heap_size} bytes of attributes"
            )

    def _attribute(
        self, item: h5py.h5g.GroupID | h5py.h5d.DatasetID, name: str, attribute: str
    ) -> Value | None:
        found = h5py.h5a.open(item, attribute.encode())
        kind = found.get_type()
        if found.shape not in ((), (1,)) or kind.get_size() > MAX_TEXT_BYTES:
            return None

        number = (
            kind.get_class() in (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM)
            and kind.get_size() <= 8
        )

        if not number and kind.get_class() != h5py.h5t.STRING:
            return None

        # Text of variable length lies elsewhere in the file: its size is known only when HDF5 asks
        # for it.
        with self._source.at_most(MAX_TEXT_BYTES):
            value = np.asarray(h5py.AttributeManager(_wrap(item))[attribute]).reshape(-1)[0]
        if isinstance(value, bytes):
            return value.decode("utf-8")
        if isinstance(value, str):
            value.encode("utf-8")  # h5py hands out other bytes as half characters
            return value

        plain: Value = value.item()
        return plain


def _wrap(item: h5py.h5g.GroupID | h5py.h5d.DatasetID) -> Any:  # noqa: ANN401  # h5py has no types
    return h5py.Group(item) if isinstance(item, h5py.h5g.GroupID) else h5py.Dataset(item)
