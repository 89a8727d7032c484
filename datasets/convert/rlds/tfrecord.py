"""TFRecord files and `tf.train.Example` messages, written without TensorFlow.

A TFRecord file is a row of records: 8 bytes little-endian length, the length's masked CRC-32C, the
data, the data's masked CRC-32C. The data of a record is here a protobuf message `Example`, whose
wire format needs four functions.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from shopfloor.core import InvalidInputError, MissingDependencyError, install_command

# A tf.train.Feature: texts or pictures as bytes, float32 numbers, or integers (bool as 0 and 1).
Feature: TypeAlias = Sequence[bytes] | npt.NDArray[Any]

# What readers of protobuf refuse: a message of 2 GiB and more.
MAX_EXAMPLE_BYTES = (1 << 31) - 1
RECORD_OVERHEAD_BYTES = 16
_MASK_DELTA = 0xA282EAD8
_VARINT_BLOCK = 1 << 16
_LENGTH_DELIMITED = 2
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3


def masked_crc32c(data: bytes) -> int:
    """Return TFRecord's checksum: CRC-32C, rotated right by 15 bits, plus a constant, modulo 2**32."""
    try:
        import google_crc32c
    except ImportError:
        raise MissingDependencyError(
            "Writing TFRecord files needs the package google-crc32c. Install it with "
            f"{install_command('export')}."
        ) from None
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def record(data: bytes) -> bytes:
    """Return one record of a TFRecord file, `RECORD_OVERHEAD_BYTES` longer than `data`."""
    length = struct.pack("<Q", len(data))
    parts = (
        length,
        struct.pack("<I", masked_crc32c(length)),
        data,
        struct.pack("<I", masked_crc32c(data)),
    )
    return b"".join(parts)


def example(features: Mapping[str, Feature]) -> bytes:
    """Return the wire bytes of a `tf.train.Example`; equal features give equal bytes, whatever their order.

    Args:
        features: name -> values, arrays flattened in C order.

    Raises:
        InvalidInputError: the message would be larger than readers accept.
    """
    entries = []
    for name in sorted(features):
        entry = _field(1, name.encode()) + _field(2, _feature(features[name]))
        entries.append(_field(1, entry))

    data = _field(1, b"".join(entries))
    if len(data) > MAX_EXAMPLE_BYTES:
        raise InvalidInputError(
            f"An episode takes {len(data)} bytes as one tf.train.Example; readers accept "
            f"{MAX_EXAMPLE_BYTES}. Leave such long episodes out, or export fewer observation keys."
        )

    return data


def _field(number: int, data: bytes) -> bytes:
    """Return a length-delimited field."""
    return b"".join((_varint(number << 3 | _LENGTH_DELIMITED), _varint(len(data)), data))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _feature(values: Feature) -> bytes:
    if not isinstance(values, np.ndarray):
        return _field(_BYTES_LIST, b"".join(_field(1, value) for value in values))

    flat = np.ascontiguousarray(values).reshape(-1)
    if flat.dtype == np.float32:
        return _field(
            _FLOAT_LIST, _field(1, flat.astype("<f4", copy=False).tobytes()) if flat.size else b""
        )
    if flat.dtype.kind not in "biu":
        raise InvalidInputError(
            f"A tf.train.Example holds float32, integers and bytes, not {flat.dtype}."
        )

    return _field(_INT64_LIST, _field(1, _varints(flat)) if flat.size else b"")


def _varints(values: npt.NDArray[Any]) -> bytes:
    """Return int64 numbers as protobuf varints: seven bits a byte, low ones first, the top bit for more."""
    shifts = np.arange(0, 70, 7, dtype=np.uint64)
    blocks = []
    for start in range(0, len(values), _VARINT_BLOCK):
        # uint64 bits beyond int64's range stay as they are: TensorFlow Datasets reads them back as
        # uint64.
        bits = values[start : start + _VARINT_BLOCK].astype(
            np.int64 if values.dtype.kind != "u" else np.uint64
        )
        left = bits.view(np.uint64)[:, None] >> shifts
        more = np.zeros(left.shape, bool)
        more[:, :-1] = left[:, 1:] != 0
        used = np.ones(left.shape, bool)
        used[:, 1:] = more[:, :-1]

        blocks.append(
            ((left & 0x7F) | (more.astype(np.uint64) << np.uint64(7)))
            .astype(np.uint8)[used]
            .tobytes()
        )

    return b"".join(blocks)
