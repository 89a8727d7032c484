"""Objects of an HDF5 file that nobody vouches for: arrays and attributes, checked before they are read."""

from __future__ import annotations

import contextlib
import errno
import math
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # registers the Blosc filter with HDF5
import numpy as np
import numpy.typing as npt

from shopfloor.datasets.disk.errors import NOT_DAMAGE, DamagedFileError, UnsafeFileError, read_error
from shopfloor.datasets.format import layout

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
    """Turn what HDF5 raises about `path` into DamagedFileError, or DiskError if the process is at fault."""
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


def refusal(path: Path, name: str, problem: str) -> UnsafeFileError:
    """Return the error for an object of a file, named by its path inside it, "" for the root."""
    return UnsafeFileError(path, f"{name or '/'} {problem}")


# --------------------------------------------------------------------------------------------------
# Arrays
# --------------------------------------------------------------------------------------------------


class Array:
    """One array of a file, checked but not read.

    Attributes:
        shape: its shape.
        dtype: its dtype, native byte order.
        nbytes: its size, unpacked, bytes.
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
            name: path of the array inside the file.
            handle: HDF5's handle of the array.
            shape: shape of the array.
            dtype: dtype of the array, native byte order.
        """
        self.shape, self.dtype = shape, dtype
        self.nbytes = math.prod(shape) * dtype.itemsize
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
        """Read rows from `start` on into `out`, C-contiguous and of this dtype, until it is full."""
        if not out.size:
            return
        handle, space = self._open or (self.id, None)
        space = space or handle.get_space()
        space.select_hyperslab((start, *self._origin), out.shape)
        handle.read(h5py.h5s.create_simple(out.shape), space, out)


def check_array(
    path: Path, file: h5py.h5f.FileID, item: h5py.h5d.DatasetID, name: str, *, bare: bool
) -> Array:
    """Refuse an array that is stored elsewhere, by unknown filters, or that claims too much.

    Args:
        path: the file.
        file: HDF5's handle of the file.
        item: HDF5's handle of the array.
        name: path of the array inside the file.
        bare: whether it may lie in one piece, without chunks and checksums, as in train shards.

    Returns:
        The array, nothing of which was read.

    Raises:
        UnsafeFileError: what is refused.
    """
    creation = item.get_create_plist()
    if creation.get_layout() == h5py.h5d.VIRTUAL:
        raise refusal(path, name, "is a virtual dataset (it would read other files)")
    if creation.get_external_count():
        raise refusal(path, name, "has external storage (it would read other files)")

    contiguous = creation.get_layout() == h5py.h5d.CONTIGUOUS
    if contiguous and not bare:
        raise refusal(path, name, "is not stored in chunks, so it has no checksum")

    if not contiguous:
        if creation.get_layout() != h5py.h5d.CHUNKED:
            raise refusal(path, name, "is not stored in chunks, so it has no checksum")
        _check_filters(path, creation, name)

    kind = item.get_type()
    numbers = kind.get_class() in (h5py.h5t.INTEGER, h5py.h5t.FLOAT)
    if not numbers or kind.get_size() not in (1, 2, 4, 8):
        raise refusal(path, name, "holds neither integers nor floats")

    shape = tuple(item.shape)
    if not 1 <= len(shape) <= layout.MAX_RANK:
        raise refusal(path, name, f"has {len(shape)} axes, expected 1 to {layout.MAX_RANK}")
    if math.prod(shape) * kind.get_size() > layout.MAX_ARRAY_BYTES:
        raise refusal(path, name, f"claims shape {shape}, more than {layout.MAX_ARRAY_BYTES} bytes")
    if contiguous:
        if item.get_storage_size() != math.prod(shape) * kind.get_size():
            raise refusal(path, name, f"stores {item.get_storage_size()} bytes of shape {shape}")
        return Array(file, name, item, shape, np.dtype(kind.dtype).newbyteorder("="))

    chunk_bytes = math.prod(creation.get_chunk()) * kind.get_size()
    if chunk_bytes > layout.MAX_CHUNK_BYTES:
        raise refusal(
            path, name, f"has chunks of {chunk_bytes} bytes, more than {layout.MAX_CHUNK_BYTES}"
        )

    return Array(file, name, item, shape, np.dtype(kind.dtype).newbyteorder("="))


def filters_of(creation: h5py.h5p.PropDCID) -> list[int]:
    """Return the numbers of an array's filters, in the order in which they pack a chunk."""
    return [creation.get_filter(number)[0] for number in range(creation.get_nfilters())]


def applied_filters(filters: Sequence[int], mask: int) -> list[int]:
    """Return those of an array's filters that a chunk was packed with; `mask` marks the others."""
    return [number for place, number in enumerate(filters) if not mask >> place & 1]


def chunk_count(shape: Sequence[int], chunk: Sequence[int]) -> int:
    """Return how many chunks an array of some shape has."""
    return math.prod(-(-side // step) for side, step in zip(shape, chunk, strict=True))


def _check_filters(path: Path, creation: h5py.h5p.PropDCID, name: str) -> None:
    filters = filters_of(creation)
    for number in filters:
        if number not in _FILTERS:
            raise refusal(
                path,
                name,
                f"needs HDF5 filter {number}; allowed are {', '.join(_FILTERS.values())}",
            )
    if h5py.h5z.FILTER_FLETCHER32 not in filters:
        raise refusal(path, name, "has no checksum (fletcher32)")


def check_chunks(path: Path, name: str, array: Array, *, inflate: bool) -> int:
    """Refuse chunks of an array that unpack to another size than they claim.

    Args:
        path: the file.
        name: path of the array inside the file.
        array: the array.
        inflate: whether gzip chunks are unpacked to see; Blosc chunks tell it in their header.

    Returns:
        How many bytes are stored of the array.

    Raises:
        UnsafeFileError: a chunk has another size, or is not there.
    """
    handle = array.id
    if array.contiguous:
        return int(handle.get_storage_size())

    creation = handle.get_create_plist()
    filters = filters_of(creation)
    chunk = creation.get_chunk()
    size = math.prod(chunk) * handle.dtype.itemsize
    expected = chunk_count(array.shape, chunk)
    stored: list[h5py.h5d.StoreInfo] = []
    handle.chunk_iter(stored.append)

    if len(stored) != expected or len({info.chunk_offset for info in stored}) != expected:
        raise refusal(path, name, f"has {len(stored)} chunks, expected {expected}")

    for info in stored:
        packed = applied_filters(filters, info.filter_mask)
        if hdf5plugin.Blosc.filter_id in packed:
            unpacked = struct.unpack("<I", handle.read_direct_chunk(info.chunk_offset)[1][4:8])[0]
        elif h5py.h5z.FILTER_DEFLATE not in packed:
            unpacked = info.size - 4 * (h5py.h5z.FILTER_FLETCHER32 in packed)
        elif inflate:
            raw = handle.read_direct_chunk(info.chunk_offset)[1]
            unpacked = len(zlib.decompressobj().decompress(raw, size + 1))
        else:
            continue

        if unpacked != size:
            raise refusal(
                path,
                name,
                f"has a chunk at {info.chunk_offset} of {unpacked} bytes, expected {size}",
            )

    return sum(info.size for info in stored)


# --------------------------------------------------------------------------------------------------
# Attributes
# --------------------------------------------------------------------------------------------------


def read_attributes(path: Path, group: h5py.h5g.GroupID, name: str) -> dict[str, int | str]:
    """Return a group's attributes; raises UnsafeFileError unless they are few, small and plain.

    Args:
        path: the file.
        group: HDF5's handle of the group.
        name: path of the group inside the file, "" for the root.
    """
    refuse_large_attributes(path, h5py.h5o.get_info(group), name)
    count = h5py.h5a.get_num_attrs(group)
    if count > layout.MAX_ATTRIBUTES:
        raise refusal(path, name, f"has {count} attributes, more than {layout.MAX_ATTRIBUTES}")
    values: dict[str, int | str] = {}
    for index in range(count):
        handle = h5py.h5a.open(group, index=index)
        values[handle.name.decode("utf-8")] = _read_attribute(path, handle, name)
    return values


def _read_attribute(path: Path, attribute: h5py.h5a.AttrID, name: str) -> int | str:
    label = f"{name or '/'} attribute {attribute.name.decode('utf-8', 'replace')!r}"
    kind = attribute.get_type()
    if attribute.get_storage_size() > 1 << 16 or kind.get_size() > 1 << 16:
        raise refusal(path, label, "is larger than 64 KiB")
    if attribute.shape != ():
        raise refusal(path, label, "is not a single value")
    if kind.get_class() == h5py.h5t.INTEGER and kind.get_size() <= 8:
        out = np.empty((), kind.dtype)
        attribute.read(out, mtype=kind)
        return int(out)

    if kind.get_class() == h5py.h5t.STRING and not kind.is_variable_str():
        out = np.empty((), kind.dtype)
        attribute.read(out, mtype=kind)
        return bytes(out.item()).decode("utf-8")

    raise refusal(
        path, label, "is neither an integer nor fixed-length text (objects are never read)"
    )


def refuse_large_attributes(path: Path, info: h5py.h5o.ObjInfo, name: str) -> None:
    """Raise UnsafeFileError if an object's attributes are kept apart from its header."""
    if info.meta_size.attr.heap_size or info.meta_size.attr.index_size:
        # HDF5 would load all of them, of any size, to tell the first one's.
        raise refusal(path, name, "keeps its attributes apart from its header, as large ones are")


def attribute(values: Mapping[str, int | str], name: str, kind: type, path: Path) -> Any:  # noqa: ANN401  # of `kind`
    """Return an attribute of type `kind` (int or str); raises DamagedFileError if it is not there."""
    value = values.get(name)
    if not isinstance(value, kind):
        raise DamagedFileError(path, f"its attribute {name!r} is missing or not {kind.__name__}")
    return value
