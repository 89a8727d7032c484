"""TFRecord's checksums and framing, and protobuf's wire format, against their specifications."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import tfrecord_reader as reader

from shopfloor.core import InvalidInputError, MissingDependencyError
from shopfloor.datasets.convert.rlds import tfrecord

pytestmark = pytest.mark.core

# RFC 3720, appendix B.4, and the check value of the CRC catalogue.
VECTORS = [
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
    (b"123456789", 0xE3069283),
]


@pytest.mark.parametrize(("data", "crc"), VECTORS)
def test_checksums_are_those_of_the_standard(data, crc):
    assert reader.crc32c(data) == crc
    assert reader.unmask(tfrecord.masked_crc32c(data)) == crc


def test_records_are_framed():
    bodies = [b"", b"x", bytes(range(256)) * 3]
    data = b"".join(tfrecord.record(body) for body in bodies)
    assert list(reader.records(data)) == bodies
    assert len(data) == sum(len(body) + tfrecord.RECORD_OVERHEAD_BYTES for body in bodies)


def test_an_example_comes_back():
    features = {
        "ints": np.array([[0, 1, 127], [128, -1, 2**63 - 1], [-(2**63), 300, 1 << 35]]),
        "uint64": np.array([2**64 - 1], "u8"),
        "bytes": np.arange(300, dtype="u4"),
        "bools": np.array([True, False, True]),
        "floats": np.array([[1.5, -0.0], [np.inf, np.nan]], "f4"),
        "texts": ["grün".encode(), b"", b"\0\xff"],
        "none": np.zeros(0, "f4"),
    }
    found = reader.parse_example(tfrecord.example(features))
    assert list(found) == sorted(features)
    assert found["texts"] == features["texts"]
    assert found["floats"].tobytes() == features["floats"].tobytes()
    for name in ("ints", "uint64", "bytes", "bools"):
        assert np.array_equal(
            found[name].astype(features[name].dtype).reshape(features[name].shape), features[name]
        )
    assert len(found["none"]) == 0


def test_many_integers_are_written_in_blocks():
    numbers = np.arange(-70_000, 70_000)
    assert np.array_equal(reader.parse_example(tfrecord.example({"n": numbers}))["n"], numbers)


def test_equal_features_give_equal_bytes():
    one = {"b": np.arange(3), "a": [b"x"]}
    assert tfrecord.example(one) == tfrecord.example(dict(reversed(one.items())))


def test_what_an_example_cannot_hold_is_refused(monkeypatch):
    with pytest.raises(InvalidInputError, match="float64"):
        tfrecord.example({"x": np.zeros(3)})
    monkeypatch.setattr(tfrecord, "MAX_EXAMPLE_BYTES", 10)
    with pytest.raises(InvalidInputError, match="readers accept 10"):
        tfrecord.example({"x": [bytes(20)]})


def test_without_the_package_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    with pytest.raises(MissingDependencyError, match=r"pip install -e '\.\[export\]'"):
        tfrecord.record(b"x")
