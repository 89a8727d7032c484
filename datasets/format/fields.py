"""The fields of an episode as one table, over which all loop that write, read, check, hash or export.

A new field is a row of `FIELDS`, an attribute of `shopfloor.core.Episode` with a default, and the
lines of whoever records it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from shopfloor.core import CameraTrack, Episode, EpisodeSpec

Rows: TypeAlias = npt.NDArray[Any]

# What a row is for: one of T steps, one of T+1 observations, or the whole episode.
STEP, OBSERVATION, EPISODE = "step", "observation", "episode"
# Stands for the size of an action among the sides of a row.
ACTION = "A"


@dataclass(frozen=True)
class Field:
    """One array of an episode.

    Attributes:
        name: its name on `Episode` (the key of an observation; in `CameraTrack` that of a camera's).
        path: where it lies inside `data/demo_<k>`.
        dtype: its dtype on `Episode`; None for any that the format can hold. Tools differ in how
            they read HDF5's bool, so it is stored as uint8.
        row: sides of a row, `ACTION` for the size of an action and None for any; None in place of
            all of them for rows of any shape.
        per: what a row is for; for an array per episode, `row` is the shape of the whole.
        final: where row T of an array per observation lies, because robomimic wants T rows; "" where
            all lie together.
        optional: whether an episode may lack it (it is None then).
        blank: its every number in an episode of a tool that does not record it.
        derive: makes the array from the others, where `Episode` does not hold it.
    """

    name: str
    path: str
    dtype: np.dtype[Any] | None = None
    row: tuple[int | str | None, ...] | None = None
    per: str = STEP
    final: str = ""
    optional: bool = False
    blank: int = 0
    derive: Callable[[Episode], Rows] | None = None

    @property
    def stored_dtype(self) -> np.dtype[Any] | None:
        """Its dtype in a file."""
        return np.dtype(np.uint8) if self.dtype == np.bool_ else self.dtype

    def shape(self, steps: int, action_size: int) -> tuple[int | None, ...]:
        """Return the shape it has in an episode of so many steps, None for sides of any length."""
        sides = tuple(action_size if side == ACTION else side for side in self.row or ())
        rows = {STEP: (steps,), OBSERVATION: (steps + 1,), EPISODE: ()}[self.per]
        return (*rows, *sides)  # type: ignore[arg-type]  # no side is text now

    def stored(self, rows: Rows) -> Rows:
        """Return its rows as they are stored."""
        return rows.view(np.uint8) if self.dtype == np.bool_ else rows

    def loaded(self, rows: Rows) -> Rows:
        """Return stored rows as `Episode` holds them."""
        return rows != 0 if self.dtype == np.bool_ else rows


def _dones(episode: Episode) -> Rows:
    dones = np.zeros(episode.steps, np.int64)
    dones[-1:] = 1
    return dones


_F4 = np.dtype(np.float32)
_F8 = np.dtype(np.float64)
_U1 = np.dtype(np.uint8)
_I8 = np.dtype(np.int64)
_BOOL = np.dtype(np.bool_)

# In the order in which they are written.
FIELDS: tuple[Field, ...] = (
    Field("actions", "actions", _F4, (ACTION,)),
    Field("rewards", "rewards", _F4, ()),
    Field("dones", "dones", _I8, (), derive=_dones),
    Field("sim_states", "states", _F8, (None,), OBSERVATION, final="final/states"),
    Field("actor", "actor", _U1, ()),
    Field("decisions", "decisions", _BOOL, (), blank=1),
    Field("label_actions", "labels/actions", _F4, (ACTION,)),
    Field("label_valid", "labels/valid", _BOOL, ()),
    Field("label_chunks", "labels/chunks", _F4, (None, ACTION), optional=True),
)
TRACK: tuple[Field, ...] = (
    Field("intrinsics", "intrinsics", _F8, (3, 3), EPISODE),
    Field("extrinsics", "extrinsics", _F8, (4, 4), OBSERVATION),
)


def field_names() -> tuple[str, ...]:
    """Return the names that no observation may have."""
    return tuple(field.name for field in FIELDS)


def array_field(name: str) -> Field:
    """Return the field of this name; any other name is an observation's key."""
    for field in FIELDS:
        if field.name == name:
            return field
    return observation_field(name)


def observation_field(key: str) -> Field:
    """Return the field that an observation is."""
    return Field(key, f"obs/{key}", per=OBSERVATION, final=f"final/obs/{key}")


def track_paths(camera: str) -> Iterator[tuple[Field, str]]:
    """Yield the fields of a camera's track, each with its path inside `data/demo_<k>`."""
    for field in TRACK:
        yield field, f"cameras/{camera}/{field.path}"


# --------------------------------------------------------------------------------------------------
# Episodes apart and together
# --------------------------------------------------------------------------------------------------


def own_arrays(episode: Episode) -> dict[str, Rows]:
    """Return the table's arrays that an episode holds, by name; none that is derived."""
    held: dict[str, Rows] = {}
    for field in FIELDS:
        rows = None if field.derive else getattr(episode, field.name)
        if rows is not None:
            held[field.name] = rows
    return held


def blank_arrays(steps: int, action_size: int) -> dict[str, Rows]:
    """Return the arrays of an episode of which nothing is known, by name, without optional ones."""
    blanks = {}
    for field in FIELDS:
        if field.derive is None and not field.optional:
            shape = tuple(side or 0 for side in field.shape(steps, action_size))
            blanks[field.name] = np.full(shape, field.blank, field.dtype)
    return blanks


def episode_facts(episode: Episode) -> dict[str, Any]:
    """Return what describes an episode beside its arrays, as JSON data."""
    return {
        "spec": episode.spec.to_json(),
        "instruction": episode.instruction,
        "outcome": episode.outcome,
        "reason": episode.reason,
        "terminated": bool(episode.terminated),
        "stages": [[int(step), stage] for step, stage in episode.stages],
        "object_names": list(episode.object_names),
    }


def join_episode(
    facts: Mapping[str, Any],
    arrays: Mapping[str, Rows],
    observations: Mapping[str, Rows],
    cameras: Mapping[str, CameraTrack] | None = None,
) -> Episode:
    """Return the episode of some facts and arrays: the inverse of `episode_facts` and `own_arrays`.

    Args:
        facts: what `episode_facts` returns.
        arrays: what `own_arrays` returns.
        observations: key -> T+1 rows.
        cameras: name -> where the camera was.

    Raises:
        KeyError, TypeError, ValueError, InvalidInputError: a fact is missing or of another kind.
    """
    return Episode(
        spec=EpisodeSpec.from_json(facts["spec"]),
        instruction=str(facts["instruction"]),
        outcome=str(facts["outcome"]),
        reason=str(facts["reason"]),
        terminated=bool(facts["terminated"]),
        stages=tuple((int(step), str(stage)) for step, stage in facts["stages"]),
        object_names=tuple(str(name) for name in facts["object_names"]),
        observations=observations,
        cameras=cameras or {},
        **arrays,
    )


def join_tracks(names: Iterable[str], read: Callable[[str], Rows]) -> dict[str, CameraTrack]:
    """Return the tracks of some cameras.

    Args:
        names: the cameras.
        read: returns an array, given its path inside `data/demo_<k>`.
    """
    tracks = {}
    for name in names:
        arrays = {field.name: read(path) for field, path in track_paths(name)}
        tracks[name] = CameraTrack(**arrays)
    return tracks
