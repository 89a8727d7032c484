"""TFRecord files and tf.train.Example messages read by their specification, sharing nothing with the writer."""

from __future__ import annotations

import struct

import numpy as np

POLYNOMIAL = 0x82F63B78  # CRC-32C, bits reversed


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (POLYNOMIAL if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def unmask(masked: int) -> int:
    rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF


def records(data: bytes, check_data: bool = True):
    """Yield the records of a file's bytes; the checksum of `data` is slow in plain Python."""
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        (length_crc,) = struct.unpack_from("<I", data, at + 8)
        assert unmask(length_crc) == crc32c(data[at : at + 8])
        body = data[at + 12 : at + 12 + length]
        (body_crc,) = struct.unpack_from("<I", data, at + 12 + length)
        if check_data:
            assert unmask(body_crc) == crc32c(body)
        yield body
        at += 16 + length
    assert at == len(data)


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at


def fields(data: bytes):
    """Yield (number, bytes) of a message whose fields are all length-delimited."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        assert tag & 7 == 2, tag
        size, at = varint(data, at)
        yield tag >> 3, data[at : at + size]
        at += size


def parse_example(data: bytes) -> dict[str, list[bytes] | np.ndarray]:
    """Return an Example's features: lists of bytes, float32 or int64 arrays."""
    ((number, features),) = fields(data)
    assert number == 1
    found = {}
    for number, entry in fields(features):
        assert number == 1
        (key_number, key), (value_number, value) = fields(entry)
        assert (key_number, value_number) == (1, 2)
        ((kind, values),) = fields(value)
        assert key.decode() not in found
        found[key.decode()] = parse_list(kind, values)
    return found


def parse_list(kind: int, data: bytes) -> list[bytes] | np.ndarray:
    values = list(fields(data))
    assert all(number == 1 for number, _ in values)
    if kind == 1:
        return [value for _, value in values]
    packed = b"".join(value for _, value in values)
    if kind == 2:
        return np.frombuffer(packed, "<f4")
    numbers, at = [], 0
    while at < len(packed):
        value, at = varint(packed, at)
        numbers.append(value - (1 << 64) if value >> 63 else value)
    return np.array(numbers, "i8")
