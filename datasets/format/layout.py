"""Names, versions and limits of format 1, on which writer and reader agree (see docs/format.md)."""

from __future__ import annotations

import re

FORMAT_NAME = "shopfloor-episode"
FORMAT_VERSION = 1
DATASET_KIND = "shopfloor-dataset"
SCHEMA_VERSION = 1

DATASET_FILE = "dataset.json"
EPISODES, SHARDS, MANIFESTS, OVERLAYS = "episodes", "shards", "manifests", "overlays"
FOLDERS = (EPISODES, SHARDS, MANIFESTS, OVERLAYS)
DAMAGED = "damaged"  # where `repair` puts what it sets aside; no reader looks there
RUN_FILES = ("receipts.jsonl", "run.json")

EPISODE_NAME = re.compile(r"ep-(\d{8,12})-([0-9a-f]{16})\.h5")
MANIFEST_NAME = re.compile(r"manifest-(\d{1,12})\.json")
OVERLAY_NAME = re.compile(r"overlay-(\d{1,12})\.json")
DATA_FILE = re.compile(r"(episodes/ep-\d{8,12}-[0-9a-f]{16}|shards/shard-\d{1,12})\.h5")
GROUP_NAME = re.compile(r"demo_(0|[1-9]\d{0,11})")
SHARD_LAYOUTS = ("sealed", "train")
SHARD_EPISODES = 1000  # most episodes in a shard
MAX_SHARDS = 10**12  # as many as there are names
# What arrays may hold, as NumPy writes it: integers and floats of 1 to 8 bytes, little-endian.
ARRAY_DTYPES = ("|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8")
OBSERVATION_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")
PROVENANCE = ("site", "owner", "residency", "licence", "purposes")
UNSPECIFIED = "unspecified"
# How arrays of an episode file are packed.
CODECS = ("blosc", "gzip", "none")

# Limits a reader holds a file to before it reads anything from it.
MAX_ATTRIBUTE_BYTES = 60_000  # HDF5's own limit for an attribute in an object header is 64 KiB
MAX_ATTRIBUTES = 64
MAX_OBJECTS = 100_000
MAX_DEPTH = 8
MAX_RANK = 8
MAX_CHUNK_BYTES = 1 << 26
MAX_ARRAY_BYTES = 1 << 34
MAX_STEPS = 10_000_000
MAX_INDEX = 10**12  # twelve digits in a file's name
# An episode may claim more than this only if at least one byte in MAX_EXPANSION of it is stored: no
# bombs.
MAX_UNPROVEN_BYTES = 1 << 28
MAX_EXPANSION = 100


def episode_file(index: int, episode_id: str) -> str:
    """Return an episode's file name inside the dataset folder."""
    return f"{EPISODES}/ep-{index:08d}-{episode_id[:16]}.h5"


def shard_file(number: int) -> str:
    """Return a shard's file name inside the dataset folder."""
    return f"{SHARDS}/shard-{number:08d}.h5"
