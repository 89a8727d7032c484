"""Parquet's footer, read on our own: the same as pyarrow says, and no surprise from any bytes."""

from __future__ import annotations

import contextlib
import os
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopfloor.datasets.convert.lerobot.parquet_footer import read_footer


def footer_of(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        return read_footer(fd)
    finally:
        os.close(fd)


def test_it_says_what_pyarrow_says(tmp_path):
    table = pa.table(
        {
            "a.b": pa.array(np.arange(1000)),
            "list": pa.FixedSizeListArray.from_arrays(np.zeros(3000, "f4"), 3),
            "text": pa.array(["some text"] * 1000),
            "picture": pa.array([{"bytes": b"x" * 50, "path": None}] * 1000),
            "nested": pa.array([[[1.0, 2.0], [3.0]]] * 1000),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=300)
    found = footer_of(tmp_path / "t.parquet")
    metadata = pq.read_metadata(tmp_path / "t.parquet")
    assert [group.rows for group in found] == [300, 300, 300, 100]
    for number, group in enumerate(found):
        for index, leaf in enumerate(group.leaves):
            column = metadata.row_group(number).column(index)
            assert (leaf.values, leaf.bytes) == (column.num_values, column.total_uncompressed_size)
            assert leaf.text == (column.physical_type == "BYTE_ARRAY")
            assert column.path_in_schema.startswith(leaf.column)


def parquet(footer: bytes) -> bytes:
    return b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "magic"),
        (b"PAR1", "magic"),
        (struct.pack("<I", 1 << 31) + b"PAR1", "claims"),
        (parquet(b""), "not one of parquet"),
        (parquet(b"\x1c" * 100), "nested too deep"),
        (parquet(b"\x49\xfc\xff\xff\xff\xff\x7f\x00"), "claims"),
        (parquet(b"\x46" + b"\x80" * 30), "endless"),
        (parquet(b"\x1d\x00"), "unknown type"),
    ],
)
def test_other_bytes_are_refused(tmp_path, data, message):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        footer_of(tmp_path / "x")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_footer_or_an_error(tmp_path_factory, footer):
    path = tmp_path_factory.mktemp("footer") / "x"
    path.write_bytes(parquet(footer))
    with contextlib.suppress(ValueError):
        footer_of(path)
