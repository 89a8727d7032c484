"""An episode read from its file, the inverse of `encode`, and its record for manifests."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.core import (
    ACTOR_EXPERT,
    Episode,
    EpisodeSpec,
    InvalidInputError,
    UnknownNameError,
)
from shopfloor.datasets.disk.errors import DamagedFileError, FormatVersionError, UnsafeFileError
from shopfloor.datasets.disk.strict_json import parse_json
from shopfloor.datasets.format import fields, layout
from shopfloor.datasets.format.container import Container
from shopfloor.datasets.format.digest import episode_digest
from shopfloor.datasets.format.hdf5_objects import Array, attribute, hdf5_errors
from shopfloor.datasets.format.record import EpisodeRecord
from shopfloor.datasets.format.shard_index import PlainArray

# Arrays of up to this many bytes are unpacked whole once a file is open: random windows then cost a
# copy.
SMALL_ARRAY_BYTES = 1 << 16


# --------------------------------------------------------------------------------------------------
# Whole episodes
# --------------------------------------------------------------------------------------------------


class StepArray:
    """One per-step array of an open episode: rows 0 to T-1, and row T where the format keeps one.

    Attributes:
        rows: how many rows it has: T+1 for observations and `sim_states`, else T.
        row_shape: shape of a row.
        dtype: its dtype, as in `Episode`.
    """

    def __init__(
        self, container: Container, field: fields.Field, body: Array | PlainArray, prefix: str
    ) -> None:
        """Join the array's two parts; the last row's is looked up when that row is read.

        Args:
            container: the open file.
            field: what the array is.
            body: the first part.
            prefix: path of the episode's group, with a slash at its end.
        """
        self._container, self._body = container, body
        self._final = prefix + field.final if field.final else None
        self._steps = body.shape[0]
        self.rows = self._steps + (self._final is not None)
        self.row_shape = body.shape[1:]
        self.dtype = np.dtype(np.bool_) if field.dtype == np.bool_ else body.dtype
        self._small = body.nbytes <= SMALL_ARRAY_BYTES
        self._whole: npt.NDArray[Any] | None = None

    def read_into(self, out: npt.NDArray[Any], start: int) -> None:
        """Read rows from `start` on into `out`, C-contiguous and of this dtype, until it is full."""
        if self._small:
            if self._whole is None:
                self._whole = np.empty((self.rows, *self.row_shape), self.dtype)
                self._read_into(self._whole, 0)
            out[...] = self._whole[start : start + len(out)]
        else:
            self._read_into(out, start)

    def _read_into(self, out: npt.NDArray[Any], start: int) -> None:
        stop = start + len(out)
        if out.dtype == np.bool_:
            out = out.view(np.uint8)

        with hdf5_errors(self._container.path):
            inside = max(min(stop, self._steps) - start, 0)
            self._body.read_into(out[:inside], start)
            if self._final is not None and stop > self._steps:
                final = self._container.find(self._final)
                if final is None:
                    raise DamagedFileError(self._container.path, f"it has no array {self._final}")
                final.read_into(out[inside:], 0)


class EpisodeFile:
    """One episode's group in an open container, with its arrays under the names that `Episode` has.

    Attributes:
        path: the file.
        steps: executed actions T.
    """

    def __init__(
        self, container: Container, group: str = "demo_0", steps: int | None = None
    ) -> None:
        """Check the format version, and that the group's arrays fit together.

        Args:
            container: the open file.
            group: name of the episode's group.
            steps: executed actions T of an episode that was checked before; nothing is checked then.
        """
        self.path = container.path
        self._container = container
        self._named: dict[str, StepArray] = {}
        self._prefix = f"data/{group}/"

        if steps is not None:
            self.steps = steps
            return

        root = container.attributes("")
        if root.get("format") != layout.FORMAT_NAME:
            raise DamagedFileError(
                self.path,
                f"it is HDF5, but not an episode of ours (no format {layout.FORMAT_NAME!r})",
            )

        version = attribute(root, "format_version", int, self.path)
        if version != layout.FORMAT_VERSION:
            raise FormatVersionError(
                f"{self.path} has format version {version}; this release reads version "
                f"{layout.FORMAT_VERSION}. Install a newer shopfloor."
            )

        self.steps = attribute(self._facts, "num_samples", int, self.path)
        for name in (*self.observation_keys, *self.camera_names):
            if not layout.OBSERVATION_KEY.fullmatch(name):
                raise UnsafeFileError(
                    self.path, f"an observation or camera has the name {name!r:.90}"
                )

        self._check_shapes()

    @functools.cached_property
    def observation_keys(self) -> list[str]:
        """Names of the recorded observations, sorted."""
        return self._container.children(f"{self._prefix}obs")

    @functools.cached_property
    def camera_names(self) -> list[str]:
        """Names of the recorded camera tracks, sorted."""
        return self._container.children(f"{self._prefix}cameras")

    def _check_shapes(self) -> None:
        held = [field for field in fields.FIELDS if not field.optional or self.has(field.name)]
        held += [fields.observation_field(key) for key in self.observation_keys]
        for field in held:
            body = self._check_shape(field, field.path)
            if field.final:
                final = self._check_shape(field, field.final, last=True)
                self._check_equal(field.path, field.final, body, final)

        # Whatever has actions in its rows has actions of one size and dtype.
        actions, *others = [field for field in held if field.row and field.row[-1] == fields.ACTION]
        for field in others:
            self._check_equal(
                actions.path, field.path, self._find(actions.path), self._find(field.path), axes=1
            )

        for name in self.camera_names:
            for field, path in fields.track_paths(name):
                self._check_shape(field, path)

    def _check_shape(
        self, field: fields.Field, path: str, last: bool = False
    ) -> Array | PlainArray:
        """Return an array that has as many rows, and axes, as its field, and its dtype."""
        array, dtype = self._find(path), field.stored_dtype
        shape = field.shape(self.steps, 0)
        rows = shape[0]
        if field.final:
            rows = 1 if last else self.steps

        axes = len(array.shape) if field.row is None else len(shape)
        if array.shape[0] != rows or len(array.shape) != axes or dtype not in (None, array.dtype):
            found = f"shape {array.shape} and dtype {array.dtype}"
            wanted = f"{rows} rows" + (f" of {dtype}" if dtype else "")
            raise DamagedFileError(
                self.path, f"{self._prefix}{path} has {found}, expected {wanted}"
            )

        return array

    def _check_equal(
        self,
        first: str,
        second: str,
        one: Array | PlainArray,
        other: Array | PlainArray,
        axes: int | None = None,
    ) -> None:
        """Refuse two arrays whose rows differ in dtype or in their last `axes` sides, all by default."""
        last = slice(1, None) if axes is None else slice(-axes, None)
        if one.shape[last] != other.shape[last] or one.dtype != other.dtype:
            raise DamagedFileError(
                self.path, f"{self._prefix}{first} and {second} have rows of different kinds"
            )

    @property
    def _facts(self) -> Mapping[str, int | str]:
        return self._container.attributes(self._prefix[:-1])

    def fact(self, name: str) -> str:
        """Return a text attribute of the episode."""
        value: str = attribute(self._facts, name, str, self.path)
        return value

    def json_fact(self, name: str) -> Any:  # noqa: ANN401  # JSON
        """Return an attribute that holds JSON."""
        try:
            return parse_json(self.fact(name))
        except ValueError as error:
            raise DamagedFileError(
                self.path, f"its attribute {name!r} is not valid JSON ({error})"
            ) from None

    @property
    def spec(self) -> EpisodeSpec:
        """What was run."""
        try:
            return EpisodeSpec.from_json(self.json_fact("spec"))
        except (
            InvalidInputError,
            UnknownNameError,
            TypeError,
            ValueError,
            AttributeError,
        ) as error:
            raise DamagedFileError(self.path, f"its spec cannot be used ({error})") from None

    @property
    def terminated(self) -> bool:
        """Whether success or an unrecoverable failure, not time, ended the episode."""
        return bool(attribute(self._facts, "terminated", int, self.path))

    def array(self, name: str) -> StepArray:
        """Return a per-step array by the name it has in `Episode`; raises UnknownNameError."""
        found = self._named.get(name)
        if found is None:
            field = fields.array_field(name)
            body = self._container.find(self._prefix + field.path)
            if body is None:
                raise UnknownNameError(f"array of {self.path.name}", name, self._names())
            found = StepArray(self._container, field, body, self._prefix)
            self._named[name] = found
        return found

    def _names(self) -> list[str]:
        return [*self.observation_keys, *filter(self.has, fields.field_names())]

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """Read rows `start` to `stop` (all by default) of an array named as in `Episode`."""
        array = self.array(name)
        stop = array.rows if stop is None else stop
        if not 0 <= start <= stop <= array.rows:
            raise InvalidInputError(
                f"Rows {start} to {stop} of {name!r} in {self.path}: it has {array.rows}."
            )

        with hdf5_errors(self.path):
            out = np.empty((stop - start, *array.row_shape), array.dtype)
        array.read_into(out, start)
        return out

    def has(self, name: str) -> bool:
        """Whether the episode holds an array of this name."""
        return self._container.find(self._prefix + fields.array_field(name).path) is not None

    def episode(self) -> Episode:
        """Read everything."""
        facts = {
            "spec": self.spec.to_json(),
            "terminated": self.terminated,
            **{name: self.fact(name) for name in ("instruction", "outcome", "reason")},
            **{name: self.json_fact(name) for name in ("stages", "object_names")},
        }

        arrays = {}
        for field in fields.FIELDS:
            absent = field.optional and not self.has(field.name)
            if field.derive is None and not absent:
                arrays[field.name] = self.read(field.name)

        observations = {key: self.read(key) for key in self.observation_keys}
        cameras = fields.join_tracks(self.camera_names, self._read_whole)

        try:
            return fields.join_episode(facts, arrays, observations, cameras)
        except (TypeError, ValueError) as error:
            raise DamagedFileError(
                self.path, f"its object_names or stages cannot be used ({error})"
            ) from None

    def proven_episode(self) -> Episode:
        """Read everything, and compare it with the digest that a shard keeps of it."""
        episode = self.episode()
        if self._facts.get("digest") not in (None, episode_digest(episode)):
            name = self._prefix[:-1]
            raise DamagedFileError(
                self.path, f"{name} is not the episode that was put in (another digest)"
            )
        return episode

    def _read_whole(self, path: str) -> npt.NDArray[Any]:
        with hdf5_errors(self.path):
            return self._find(path).read()

    def _find(self, path: str) -> Array | PlainArray:
        array = self._container.find(self._prefix + path)
        if array is None:
            raise DamagedFileError(self.path, f"it has no array {self._prefix}{path}")
        return array

    def record(self, file: str, group: str, sha256: str, size: int) -> EpisodeRecord:
        """Return the record of the episode; `file` is its name inside the dataset folder."""
        spec = self.spec
        name = layout.EPISODE_NAME.fullmatch(Path(file).name)
        if spec.episode_id != self.fact("episode_id") or (name and name[2] != spec.episode_id[:16]):
            raise DamagedFileError(
                self.path, "its name, its episode_id and its spec do not belong together"
            )

        return EpisodeRecord(
            file=file,
            group=group,
            sha256=sha256,
            bytes=size,
            episode_id=spec.episode_id,
            index=int(name[1]) if name else self._facts_index(),
            cell=spec.cell,
            seed=spec.seed,
            variation=spec.variation,
            intervention=spec.intervention,
            policy_digest=spec.policy_digest,
            purpose=spec.purpose,
            instruction=self.fact("instruction"),
            steps=self.steps,
            outcome=self.fact("outcome"),
            reason=self.fact("reason"),
            terminated=self.terminated,
            expert_steps=int((self.read("actor") == ACTOR_EXPERT).sum()),
            label_steps=int(self.read("label_valid").sum()),
        )

    def _facts_index(self) -> int:
        index = int(attribute(self._facts, "index", int, self.path))
        if (
            not 0 <= index < layout.MAX_INDEX
        ):  # it becomes part of a file's name when the episode leaves the shard
            raise DamagedFileError(
                self.path, f"{self._prefix[:-1]} has the index {index}, expected 0 or more"
            )
        return index


def read_record(root: Path, file: str, group: str = "demo_0") -> EpisodeRecord:
    """Check an episode's file by its own trailer and return its record.

    Args:
        root: the dataset folder.
        file: file name inside it.
        group: group inside `data`.

    Returns:
        The record.

    Raises:
        DamagedFileError, UnsafeFileError, FormatVersionError: why the file is not admitted.
        FileNotFoundError: there is no such file.
    """
    container, found = Container.open(root / file)
    try:
        return EpisodeFile(container, group).record(file, group, found.sha256, found.state.bytes)
    finally:
        container.close()


def read_records(root: Path, file: str) -> list[EpisodeRecord]:
    """Check a data file by its own trailer and return the records of all its episodes.

    Raises as `read_record`.
    """
    if not file.startswith(layout.SHARDS):
        return [read_record(root, file)]

    records = []
    container, found = Container.open(root / file)
    try:
        for group in container.groups():
            held = EpisodeFile(container, group)
            records.append(held.record(file, group, found.sha256, found.state.bytes))
    finally:
        container.close()

    return records
