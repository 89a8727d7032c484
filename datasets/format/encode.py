"""An episode as the bytes of its file: an HDF5 image in robomimic's layout, and the trailer."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import numpy.typing as npt

from shopfloor.core import (
    ACTION_CONVENTION,
    Episode,
    InfrastructureError,
    InvalidInputError,
    UnknownNameError,
    canonical_json,
)
from shopfloor.datasets.disk.files import with_trailer
from shopfloor.datasets.format import fields, layout

# One row a chunk from this size on (pictures): a random window then decodes only its own frames.
# Four rows a chunk measured 1.1 times the time to read a window (16 rows of gzip: 2.4 times) for up
# to a third less size.
ROW_CHUNK_BYTES = 4096
# Smaller rows share chunks of up to this size: one chunk holds most episodes' states and actions
# whole.
BLOCK_CHUNK_BYTES = 1 << 16
# The memory image grows by this much; larger steps copy less.
IMAGE_INCREMENT = 1 << 22
_IMAGES = itertools.count()
_GZIP_LEVEL = 4
SPARE_BYTES = 1 << 25
_STORED_DTYPES = {np.dtype(code) for code in layout.ARRAY_DTYPES}


@dataclass(frozen=True)
class Provenance:
    """Where data is from and what may be done with it; written into `dataset.json` and every file.

    Attributes:
        site: the plant or laboratory.
        owner: who decides about the data.
        residency: where it has to stay.
        licence: SPDX id or "LicenseRef-...".
        purposes: what it may be used for.
    """

    site: str = layout.UNSPECIFIED
    owner: str = layout.UNSPECIFIED
    residency: str = layout.UNSPECIFIED
    licence: str = layout.UNSPECIFIED
    purposes: str = layout.UNSPECIFIED


def encode_episode(
    episode: Episode,
    codec: str = "blosc",
    env_args: Mapping[str, Any] | None = None,
    provenance: Provenance | None = None,
    action_convention: str = ACTION_CONVENTION,
) -> bytes:
    """Return the whole bytes of an episode's file; equal arguments give equal bytes.

    Args:
        episode: the episode; its arrays must have the shapes and dtypes that `Episode` states.
        codec: "blosc" (fast; other tools must `import hdf5plugin`), "gzip" (opens anywhere) or
            "none".
        env_args: robomimic's description of the environment; made from the spec when not given.
        provenance: site, owner, residency, licence, purposes.
        action_convention: id of the meaning of the actions.

    Returns:
        HDF5 image and trailer.

    Raises:
        InvalidInputError: an array or a text that the format cannot hold exactly.
        InfrastructureError: not enough memory.
    """
    if codec not in layout.CODECS:
        raise UnknownNameError("codec", codec, layout.CODECS)

    check_episode(episode)
    size = sum(array.nbytes for array in _arrays(episode).values())
    env_args = env_args or {
        "env_name": episode.spec.cell,
        "type": 2,
        "env_kwargs": dict(episode.spec.cell_options),
    }

    about: dict[str, str | int] = {
        "total": episode.steps,
        "env_args": canonical_json(env_args),
        "action_convention": action_convention,
    }

    try:
        # HDF5 takes the process with it when its image cannot grow: the room for image and copies
        # must be there before.
        room_for(3 * size + SPARE_BYTES)
        image = _image(episode, codec, about, provenance or Provenance())
        # A reader refuses what unpacks to hundreds of times its size (an hour of a covered camera);
        # half is a safe margin.
        if size > layout.MAX_UNPROVEN_BYTES and size > layout.MAX_EXPANSION // 2 * len(image):
            image = _image(episode, "none", about, provenance or Provenance())

        return with_trailer(image)
    except MemoryError as error:
        raise InfrastructureError(
            f"Not enough memory to save an episode of {episode.steps} steps ({size / 1e6:.0f} MB; "
            "saving it takes three times that). Free some memory or use fewer workers, then run "
            "the same command again."
        ) from error


def room_for(size: int) -> None:
    """Raise MemoryError unless there is room for this many bytes."""
    np.empty(size, np.uint8)


def create_image() -> h5py.h5f.FileID:
    """Return an empty HDF5 file in memory; what is written into it alone decides its bytes."""
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_EARLIEST, h5py.h5f.LIBVER_LATEST)
    access.set_fapl_core(IMAGE_INCREMENT, False)  # no file behind it
    # HDF5 tells open images apart by their names; none is in the bytes.
    return h5py.h5f.create(b"image-%d" % next(_IMAGES), h5py.h5f.ACC_TRUNC, fapl=access)


def _image(
    episode: Episode, codec: str, about: Mapping[str, str | int], provenance: Provenance
) -> bytes:
    """Return the HDF5 file of an episode."""
    file = create_image()
    try:
        _write_tree(file, episode, codec, about, provenance)
        h5py.h5f.flush(file)
        image: bytes = file.get_file_image()
    finally:
        file.close()
    return image


# --------------------------------------------------------------------------------------------------
# Checks: the format is lossless, so what it cannot hold is refused
# --------------------------------------------------------------------------------------------------


def check_episode(episode: Episode) -> None:
    """Raise InvalidInputError unless every array has the shape and dtype that `Episode` states."""
    T, A = _check_actions(episode)
    for name, rows in fields.own_arrays(episode).items():
        field = fields.array_field(name)
        _check_array(name, rows, field.shape(T, A), field.dtype)

    for name, track in episode.cameras.items():
        _check_key("camera", name)
        for field in fields.TRACK:
            label, rows = f"cameras[{name!r}].{field.name}", getattr(track, field.name)
            _check_array(label, rows, field.shape(T, A), field.dtype)

    for name, array in episode.observations.items():
        _check_key("observation", name)
        dtype = array.dtype.newbyteorder("<")
        if (
            dtype not in _STORED_DTYPES
            or array.ndim < 1
            or len(array) != T + 1
            or array.ndim > layout.MAX_RANK
        ):
            raise InvalidInputError(
                f"Observation {name!r} has shape {array.shape} and dtype {array.dtype}; expected "
                f"{T + 1} rows (T + 1) of integers or floats."
            )

    if episode.outcome not in ("success", "failure"):
        raise InvalidInputError(
            f"Outcome is {episode.outcome!r}; only 'success' and 'failure' give an episode."
        )


def _check_actions(episode: Episode) -> tuple[int, int]:
    actions = episode.actions
    _check_array("actions", actions, (None, None), np.float32)
    if len(actions) > layout.MAX_STEPS:
        raise InvalidInputError(
            f"The episode has {len(actions)} steps; the limit is {layout.MAX_STEPS}."
        )
    return actions.shape[0], actions.shape[1]


def _check_array(
    name: str,
    array: npt.NDArray[Any],
    shape: tuple[int | None, ...],
    dtype: Any,  # noqa: ANN401  # whatever numpy takes for one
) -> None:
    fits = array.ndim == len(shape) and all(
        want in (None, have) for want, have in zip(shape, array.shape, strict=False)
    )
    if not fits or array.dtype.newbyteorder("=") != np.dtype(dtype):
        words = "x".join("n" if size is None else str(size) for size in shape)
        raise InvalidInputError(
            f"Episode array {name} has shape {array.shape} and dtype {array.dtype}; expected "
            f"{words} of {np.dtype(dtype).name}."
        )


def _check_key(kind: str, name: str) -> None:
    taken = fields.field_names()
    if not layout.OBSERVATION_KEY.fullmatch(name) or name in taken:
        raise InvalidInputError(
            f"The {kind} name {name!r} cannot be stored; use up to 64 letters, digits, '_', '.' or "
            f"'-', and none of {', '.join(taken)}."
        )


# --------------------------------------------------------------------------------------------------
# HDF5
# --------------------------------------------------------------------------------------------------


def _write_tree(
    file: h5py.h5f.FileID,
    episode: Episode,
    codec: str,
    about: Mapping[str, str | int],
    provenance: Provenance,
) -> None:
    write_attributes(file, {"format": layout.FORMAT_NAME, "format_version": layout.FORMAT_VERSION})
    data = h5py.h5g.create(file, b"data")
    write_attributes(data, about)
    demo = h5py.h5g.create(data, b"demo_0")
    write_attributes(demo, {**_facts(episode), **asdict(provenance)})
    for path, array in _arrays(episode).items():
        write_array(demo, path, array, codec)


def _facts(episode: Episode) -> dict[str, str | int]:
    spec = episode.spec
    facts = {name: _attribute(value) for name, value in fields.episode_facts(episode).items()}
    return {
        "num_samples": episode.steps,
        "episode_id": spec.episode_id,
        "spec": facts.pop("spec"),
        "variation": spec.variation,
        **facts,
    }


def _attribute(value: Any) -> str | int:  # noqa: ANN401  # JSON
    if isinstance(value, str):
        return value
    return int(value) if isinstance(value, bool) else canonical_json(value)


def _arrays(episode: Episode) -> dict[str, npt.NDArray[Any]]:
    """Return path -> array, in the order in which they are written."""
    T = episode.steps
    arrays: dict[str, npt.NDArray[Any]] = {}
    endings: dict[str, npt.NDArray[Any]] = {}

    for field in fields.FIELDS:
        rows = field.derive(episode) if field.derive else getattr(episode, field.name)
        if rows is None:
            continue

        arrays[field.path] = stored = field.stored(rows)
        if field.final:
            arrays[field.path], endings[field.final] = stored[:T], stored[T:]

    for key, rows in sorted(episode.observations.items()):
        field = fields.observation_field(key)
        arrays[field.path], arrays[field.final] = rows[:T], rows[T:]

    arrays |= endings

    for name, track in sorted(episode.cameras.items()):
        arrays |= {path: getattr(track, one.name) for one, path in fields.track_paths(name)}
    return arrays


def write_attributes(where: Any, values: Mapping[str, str | int]) -> None:  # noqa: ANN401  # a file or group id
    """Write integers as int64 and texts as fixed-length UTF-8, as the reader takes no others."""
    for name, value in values.items():
        if isinstance(value, str):
            data = value.encode("utf-8")
            if len(data) > layout.MAX_ATTRIBUTE_BYTES or 0 in data:
                raise InvalidInputError(
                    f"The episode's {name} has {len(data)} "
                    f"bytes{' and a NUL' if 0 in data else ''}; expected text of at most "
                    f"{layout.MAX_ATTRIBUTE_BYTES} bytes without NUL."
                )

            kind = h5py.h5t.C_S1.copy()
            kind.set_size(max(len(data), 1))
            kind.set_strpad(h5py.h5t.STR_NULLPAD)
            kind.set_cset(h5py.h5t.CSET_UTF8)
            array = np.array(data, dtype=f"S{max(len(data), 1)}")
        else:
            kind = h5py.h5t.STD_I64LE
            array = np.array(value, dtype="<i8")

        attribute = h5py.h5a.create(where, name.encode(), kind, h5py.h5s.create(h5py.h5s.SCALAR))
        attribute.write(array, mtype=kind)


def _chunk_shape(array: npt.NDArray[Any]) -> tuple[int, ...]:
    row_shape = tuple(max(size, 1) for size in array.shape[1:])
    row_bytes = int(np.prod(row_shape, dtype=np.int64)) * array.itemsize
    rows = 1 if row_bytes >= ROW_CHUNK_BYTES else BLOCK_CHUNK_BYTES // row_bytes
    return (min(rows, max(len(array), 1)), *row_shape)


def write_array(
    where: h5py.h5g.GroupID | h5py.h5f.FileID, path: str, array: npt.NDArray[Any], codec: str | None
) -> h5py.h5d.DatasetID:
    """Write an array at a path inside a group: in chunks with checksums, or contiguous and bare if `codec` is None."""
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_obj_track_times(False)
    most: tuple[int, ...] = array.shape

    if codec is not None:
        _set_chunks(creation, array, codec)
        # Sides of length 0 (an episode without steps) may not be smaller than their chunk unless
        # they could grow.
        most = tuple(max(size, 1) for size in array.shape)

    dataset = h5py.h5d.create(
        where,
        path.encode(),
        h5py.h5t.py_create(array.dtype),
        h5py.h5s.create_simple(array.shape, most),
        creation,
        _links(),
    )

    if array.size:
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, array)
    return dataset


def copy_array(array: h5py.h5d.DatasetID, where: h5py.h5g.GroupID, path: str) -> None:
    """Copy an array of another file to a path inside a group, chunk for chunk as it is stored."""
    h5py.h5o.copy(array, b".", where, path.encode(), lcpl=_links())


def _links() -> h5py.h5p.PropLCID:
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    return links


def _set_chunks(creation: h5py.h5p.PropDCID, array: npt.NDArray[Any], codec: str) -> None:
    creation.set_chunk(_chunk_shape(array))
    # A last chunk may reach past the data: its rest must be zeros, not whatever lay in memory.
    creation.set_fill_time(h5py.h5d.FILL_TIME_ALLOC)

    if codec == "gzip":
        if array.itemsize > 1:
            creation.set_shuffle()
        creation.set_deflate(_GZIP_LEVEL)
    elif codec == "blosc":
        filter_id, options = _blosc(array.itemsize)
        creation.set_filter(filter_id, h5py.h5z.FLAG_OPTIONAL, options)

    creation.set_fletcher32()


def _blosc(itemsize: int) -> tuple[int, tuple[int, ...]]:
    # Measured on pictures of our renderer (two cameras, 128 px, 200 steps; CPU ms to write, us to
    # read a window of two frames each, bytes a step): Blosc-LZ4 level 5: 15, 50, 7,600; Blosc-Zstd
    # 1: 34, 130, 4,600; gzip 4: 74, 140, 4,200; LZ4-HC: 67, 60, 5,200; uncompressed with checksums:
    # 47, 63, 98,600; bit shuffling doubles LZ4's figures. Byte shuffling helps floats and does
    # nothing for uint8.
    shuffle = hdf5plugin.Blosc.SHUFFLE if itemsize > 1 else hdf5plugin.Blosc.NOSHUFFLE
    options = hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=shuffle)
    return options.filter_id, tuple(options.filter_options)
