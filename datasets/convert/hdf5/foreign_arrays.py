"""An array of a foreign HDF5 file: its claims, and chunk by chunk its content, are checked before it is read."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import h5py
import hdf5plugin  # registers the Blosc filter with HDF5
import numpy as np
import numpy.typing as npt

from shopfloor.datasets.convert.hdf5.foreign_bytes import MAX_PIECE_BYTES, ForeignBytes
from shopfloor.datasets.format import layout
from shopfloor.datasets.format.hdf5_objects import applied_filters, chunk_count, filters_of

MAX_CHUNK_BYTES = MAX_PIECE_BYTES
MAX_UNPROVEN_BYTES = 1 << 29  # an array may claim more only if a hundredth of it is stored
MAX_ITEM_BYTES = 1 << 16  # of a text of fixed length
MAX_TEXTS_BYTES = 1 << 26  # of all texts of an array
MAX_VALUE_BYTES = 1 << 26  # of one text or encoded picture
# Size of what stands in an array for a value of variable length, which lies elsewhere in the file.
_REFERENCE_BYTES = 16
_BLOCK_BYTES = 1 << 25  # read at once where an array lies in one piece
_LZF = h5py.h5z.FILTER_LZF
_BLOSC = hdf5plugin.Blosc.filter_id
_DEFLATE, _SHUFFLE, _FLETCHER32 = (
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_FLETCHER32,
)
_COMPRESSORS = (_DEFLATE, _LZF, _BLOSC)
_NAMES = {
    _DEFLATE: "gzip",
    _SHUFFLE: "shuffle",
    _FLETCHER32: "fletcher32",
    _LZF: "lzf",
    _BLOSC: "blosc",
}


class ForeignArray:
    """An array that was looked at but not read.

    Attributes:
        name: its path inside the file.
        shape: its shape; () for a single value.
        dtype: of what `read` gives: numbers or bool in native byte order; None for anything else.
        kind: "numbers", "texts", "encoded" (bytes of variable length, such as JPEG) or "".
        problem: why it is not read, "" if it is.
    """

    def __init__(self, source: ForeignBytes, item: h5py.h5d.DatasetID, name: str) -> None:
        """Look at an array; raises UnsafeFileError if it would read other files."""
        self.name, self._source, self._id = name, source, item
        creation = item.get_create_plist()
        if creation.get_layout() == h5py.h5d.VIRTUAL:
            raise source.unsafe(name, "is a virtual dataset (it would read other files)")
        if creation.get_external_count():
            raise source.unsafe(name, "has external storage (it would read other files)")

        self._kind = item.get_type()
        variable = self._kind.get_class() == h5py.h5t.VLEN or _is_variable_text(self._kind)
        self._item_bytes: int = _REFERENCE_BYTES if variable else self._kind.get_size()
        self.kind, self.dtype = _kind_of(self._kind)
        self.shape = tuple(item.shape or ())
        self._layout = creation.get_layout()
        self._chunks: dict[int, list[h5py.h5d.StoreInfo]] | None = None  # first row -> chunks
        self._checked: set[int] = set()

        self._filters = filters_of(creation)
        self.problem = self._problem(item, creation)

    @property
    def rows(self) -> int:
        """Its length; 0 for a single value."""
        return self.shape[0] if self.shape else 0

    @property
    def size_bytes(self) -> int:
        """What reading all of it would take, as it claims."""
        return int(math.prod(self.shape)) * self._item_bytes

    def read(self, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """Read rows `start` to `stop` of an array of numbers or truth values.

        Args:
            start: the first row.
            stop: the row after the last one, the array's end by default.

        Returns:
            Shape (stop - start, ...), in the array's `dtype`.

        Raises:
            UnsafeFileError: it holds something else, or something that is never read.
            DamagedFileError: what is wrong with it.
        """
        self._require("numbers")
        stop = self._stop(start, stop)
        with self._source.errors(self.name):
            # A truth value is read as the byte it is: NumPy would trust what HDF5 makes of one that
            # is neither.
            truth = self.dtype == np.bool_
            out = np.zeros((stop - start, *self.shape[1:]), np.uint8 if truth else self.dtype)
            if out.size:
                self._check(start, stop)
                self._read_into(out, start)

            if truth:
                if out.size and out.max() > 1:
                    raise self._source.damaged(
                        self.name, "holds something else than true and false"
                    )
                return out.view(np.bool_)

        return out

    def texts(self) -> list[str]:
        """Read all of a one-dimensional array of texts, of fixed or variable length; raises as `read`."""
        self._require("texts")
        values, size = [], 0
        for value in self._values():
            try:
                values.append(value.decode("utf-8"))
            except UnicodeDecodeError:
                raise self._source.damaged(self.name, "holds text that is not UTF-8") from None

            size += len(value)
            if size > MAX_TEXTS_BYTES:
                raise self._source.unsafe(
                    self.name, f"holds more than {MAX_TEXTS_BYTES} bytes of text"
                )

        return values

    def encoded(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Read rows of a one-dimensional array of bytes of variable length, one at a time; raises as `read`."""
        self._require("encoded")
        yield from self._values(start, stop)

    # -- checks ------------------------------------------------------------------------------------

    def _require(self, kind: str) -> None:
        if self.problem:
            raise self._source.unsafe(self.name, self.problem)
        if self.kind != kind:
            raise self._source.unsafe(self.name, f"holds {self.kind}, expected {kind}")

    def _stop(self, start: int, stop: int | None) -> int:
        stop = self.rows if stop is None else stop
        if not 0 <= start <= stop <= self.rows:
            raise self._source.damaged(
                self.name, f"has {self.rows} rows, expected rows {start} to {stop}"
            )
        return stop

    def _problem(self, item: h5py.h5d.DatasetID, creation: h5py.h5p.PropDCID) -> str:
        """Return why the array is not read, "" if it is."""
        if not self.kind:
            return (
                "holds neither numbers nor texts (objects, references and records are never read)"
            )
        if not 1 <= len(self.shape) <= layout.MAX_RANK:
            return f"has {len(self.shape)} axes, expected 1 to {layout.MAX_RANK}"
        if self.kind != "numbers" and len(self.shape) != 1:
            return f"has {len(self.shape)} axes of {self.kind}, expected 1"

        if self.size_bytes > layout.MAX_ARRAY_BYTES:
            return f"claims shape {self.shape}, more than {layout.MAX_ARRAY_BYTES} bytes"
        if self._layout == h5py.h5d.CHUNKED:
            chunk = math.prod(creation.get_chunk()) * self._item_bytes
            if chunk > MAX_CHUNK_BYTES:
                return f"has chunks of {chunk} bytes, more than {MAX_CHUNK_BYTES}"
            return _filter_problem(self._filters)
        if self._filters:
            return "has filters but no chunks"

        if item.get_storage_size() != self.size_bytes:
            return f"claims {self.size_bytes} bytes but stores {item.get_storage_size()}"
        return ""

    def _check(self, start: int, stop: int) -> None:
        """Look at the chunks that hold some rows; each is unpacked to see its size the first time only.

        Raises:
            DamagedFileError: a chunk is not there, or of another size than it claims: HDF5 would
                hand out whatever lay in memory. UnsafeFileError: an array that claims to be
                hundreds of times larger than what is stored.
        """
        if self._layout != h5py.h5d.CHUNKED:
            return

        chunk = self._id.get_create_plist().get_chunk()
        if self._chunks is None:
            self._chunks = self._list_chunks(chunk)
        size = math.prod(chunk) * self._item_bytes
        reached = range(start // chunk[0] * chunk[0], stop, chunk[0])
        new = set(reached) - self._checked

        for first in new:
            for info in self._chunks[first]:
                self._check_chunk(info, size)
        self._checked |= new

    def _list_chunks(self, chunk: tuple[int, ...]) -> dict[int, list[h5py.h5d.StoreInfo]]:
        found: list[h5py.h5d.StoreInfo] = []
        self._id.chunk_iter(found.append)
        expected = chunk_count(self.shape, chunk)

        if len(found) != expected or len({info.chunk_offset for info in found}) != expected:
            raise self._source.damaged(
                self.name, f"has {len(found)} chunks, expected {expected}: it was not all written"
            )

        stored = sum(info.size for info in found)
        if self.size_bytes > MAX_UNPROVEN_BYTES and self.size_bytes > layout.MAX_EXPANSION * stored:
            raise self._source.unsafe(
                self.name,
                f"claims {self.size_bytes} bytes but stores {stored} (a decompression bomb)",
            )

        chunks: dict[int, list[h5py.h5d.StoreInfo]] = {}
        for info in found:
            chunks.setdefault(info.chunk_offset[0], []).append(info)
        return chunks

    def _check_chunk(self, info: h5py.h5d.StoreInfo, size: int) -> None:
        used = applied_filters(self._filters, info.filter_mask)
        packer = next((number for number in used if number in _COMPRESSORS), None)
        # A checksum is 4 bytes more: inside of what was packed, or behind it.
        inside = 4 * (packer is not None and _FLETCHER32 in used[: used.index(packer)])
        outside = 4 * (_FLETCHER32 in used) - inside

        if packer is None:
            unpacked = info.size - outside
        elif info.size > 2 * MAX_CHUNK_BYTES:
            unpacked = -1
        else:
            raw = self._id.read_direct_chunk(info.chunk_offset)[1]
            unpacked = _unpacked_size(packer, raw[: len(raw) - outside], size + inside) - inside

        if unpacked != size:
            where = f"has a chunk at {info.chunk_offset} of {unpacked} bytes, expected {size}"
            raise self._source.damaged(self.name, where)

    # -- reading -----------------------------------------------------------------------------------

    def _read_into(self, out: npt.NDArray[Any], start: int) -> None:
        block = len(out)
        if self._layout != h5py.h5d.CHUNKED:
            block = max(_BLOCK_BYTES // max(out[0].nbytes, 1), 1)
        kind = self._kind if self.dtype == np.bool_ else None

        for first in range(0, len(out), block):
            part = out[first : first + block]
            self._id.read(
                h5py.h5s.create_simple(part.shape),
                self._select(start + first, len(part)),
                part,
                mtype=kind,
            )

    def _select(self, start: int, count: int) -> h5py.h5s.SpaceID:
        space = self._id.get_space()
        space.select_hyperslab((start, *(0,) * (len(self.shape) - 1)), (count, *self.shape[1:]))
        return space

    def _values(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Read rows of texts or bytes one at a time: each says its size only when it is read."""
        stop = self._stop(start, stop)
        variable = self.kind == "encoded" or _is_variable_text(self._kind)
        dtype = self._kind.dtype if variable else np.dtype(f"S{self._item_bytes}")

        with self._source.errors(self.name):
            if stop > start:
                self._check(start, stop)

        for row in range(start, stop):
            cell = np.zeros(1, dtype)
            with self._source.errors(self.name), self._source.at_most(MAX_VALUE_BYTES):
                self._id.read(h5py.h5s.create_simple((1,)), self._select(row, 1), cell)
            yield bytes(cell[0])


def _kind_of(kind: h5py.h5t.TypeID) -> tuple[str, np.dtype[Any] | None]:
    """Return what an array of a type holds, and the dtype it is read as; "" for what is never read."""
    group = kind.get_class()
    try:
        if group in (h5py.h5t.INTEGER, h5py.h5t.FLOAT) and kind.get_size() in (1, 2, 4, 8):
            dtype = np.dtype(kind.dtype).newbyteorder("=")
            return ("numbers", dtype) if dtype.kind in "iuf" else ("", None)
        if group == h5py.h5t.ENUM and kind.get_size() == 1 and kind.dtype == np.bool_:
            return "numbers", np.dtype(np.bool_)
        if group == h5py.h5t.STRING and (
            _is_variable_text(kind) or kind.get_size() <= MAX_ITEM_BYTES
        ):
            return "texts", None

        if group == h5py.h5t.VLEN and h5py.check_vlen_dtype(kind.dtype) == np.uint8:
            return "encoded", None
    except (TypeError, ValueError):  # a number that NumPy has no name for
        pass

    return "", None


def _is_variable_text(kind: h5py.h5t.TypeID) -> bool:
    return bool(kind.get_class() == h5py.h5t.STRING and kind.is_variable_str())


def _filter_problem(filters: list[int]) -> str:
    for number in filters:
        if number not in _NAMES:
            return f"needs HDF5 filter {number}; allowed are {', '.join(_NAMES.values())}"

    packed = behind = False
    for number in filters:
        behind |= packed and number != _FLETCHER32
        packed |= number in _COMPRESSORS

    if len(set(filters)) != len(filters) or behind:
        names = ", ".join(map(_NAMES.__getitem__, filters))
        return f"has the filters {names} in an order that no writer uses"
    return ""


def _unpacked_size(packer: int, raw: bytes, size: int) -> int:
    """Return how many bytes a chunk unpacks to; some other number where it is broken or larger than `size`."""
    if packer == _DEFLATE:
        inflate = zlib.decompressobj()
        return len(inflate.decompress(raw, size + 1)) if size else -1
    if packer == _BLOSC:
        return int(struct.unpack("<I", raw[4:8])[0])
    return _lzf_size(raw)


def _lzf_size(raw: bytes) -> int:
    """Return how many bytes LZF data unpacks to, by its control bytes alone (runs, and references to what was)."""
    place = size = 0
    end = len(raw)
    while place < end:
        control = raw[place]
        if control < 32:
            place += control + 2
            size += control + 1
        elif control < 224:
            place += 2
            size += (control >> 5) + 2
        else:
            size += raw[place + 1] + 9 if place + 1 < end else 0
            place += 3

    return size if place == end else -1
