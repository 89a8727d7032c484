"""A foreign Minari dataset as our episodes: which array becomes what, and what has no place here."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.core import CONTROL_HZ, Episode, EpisodeSpec, InvalidInputError
from shopfloor.datasets.convert.hdf5.foreign_arrays import ForeignArray
from shopfloor.datasets.convert.hdf5.foreign_hdf5 import ForeignFile
from shopfloor.datasets.convert.hdf5.foreign_rows import (
    bare_episode,
    feature,
    left_out_lines,
    no_place,
    observation_key,
    plain,
)
from shopfloor.datasets.convert.minari.info import MinariInfo
from shopfloor.datasets.convert.minari.spaces import SpaceLeaf
from shopfloor.datasets.convert.options import ImportOptions
from shopfloor.datasets.convert.png import decode_picture
from shopfloor.datasets.convert.rows import exact_float32
from shopfloor.datasets.format import layout
from shopfloor.datasets.format.encode import Provenance
from shopfloor.datasets.listing.identity import identity_json

Arrays = Mapping[str, ForeignArray]
_READ = ("observations", "actions", "rewards", "terminations", "truncations", "infos")
_SUCCESS = ("infos/success", "infos/is_success")
_INSTRUCTION = "infos/instruction"


class MinariEpisodes:
    """A Minari dataset that is being read, one episode after the other.

    A plain vector becomes the observation `state`, plain pictures `image`, and observations in
    dictionaries and tuples get their names, joined by dots. A text that does not change becomes the
    instruction. Actions are concatenated in the order of their names; choices (Discrete) are
    numbers. An episode is a success if `success` (or `is_success`) in `infos` holds anywhere;
    without either, episodes are taken for successes and `dataset.json` records that.
    """

    def __init__(self, info: MinariInfo, file: ForeignFile, options: ImportOptions) -> None:
        """Look at the first episode; raises InvalidInputError if there are no actions to learn from."""
        self._info, self._options = info, options
        self._left_out: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._cell = options.cell or f"minari/{info.name}"
        self._first = file.arrays("episode_0")

        if not info.actions or any(leaf.kind == "Text" for leaf in info.actions):
            raise InvalidInputError(
                f"{info.file} has actions that are texts, or none; an episode needs numbers."
            )
        self._keys = self._plan()

    def _plan(self) -> dict[str, tuple[str, SpaceLeaf]]:
        """Return our observation key -> path of its array, and its space."""
        keys: dict[str, tuple[str, SpaceLeaf]] = {}
        for leaf in self._info.observations:
            path = f"observations/{leaf.path}" if leaf.path else "observations"
            if leaf.kind == "Text":
                continue

            key = observation_key(leaf.path or ("image" if len(leaf.shape) == 3 else "state"), keys)
            if key is None:
                self._left_out[path] = "no observation key can be made of its name"
            else:
                keys[key] = path, leaf

        return keys

    @property
    def identity(self) -> dict[str, Any]:
        """The `dataset.json` of the new dataset."""
        return identity_json(self._describe(), Provenance())

    def _describe(self) -> dict[str, Any]:
        features = {}
        for key, (path, leaf) in self._keys.items():
            array = self._first.get(path)
            coded = array is not None and _is_encoded(array, leaf)
            features[key] = feature(
                leaf.shape, np.dtype(np.uint8) if coded or array is None else array.dtype
            )

        success = not self._first.keys().isdisjoint(_SUCCESS)
        action_names = []
        for leaf in self._info.actions:
            action_names += _numbered(leaf)

        return {
            "cell": self._cell,
            "control_hz": CONTROL_HZ,
            "action_convention": self._options.action_convention or layout.UNSPECIFIED,
            "action_names": action_names,
            "features": features,
            "source": {
                "format": "minari",
                "dataset_id": self._info.name,
                "environment": _environment(self._info.env_spec),
                "features": {key: path for key, (path, _) in self._keys.items()},
                "actions": [leaf.kind for leaf in self._info.actions],
            },
            "control_hz_from": "assumed: the source does not say",
            "outcomes": "from infos"
            if success
            else "assumed to be successes: the source does not say",
        }

    def episodes(self, file: ForeignFile) -> Iterator[Episode]:
        """Yield the episodes.

        Raises:
            DamagedFileError, UnsafeFileError: what is wrong with one; InvalidInputError: it would
                be rounded.
        """
        for number in range(self._info.episodes):
            group = f"episode_{number}"
            arrays = file.arrays(group)
            for name in arrays:
                if name.partition("/")[0] not in _READ or (
                    name.startswith("infos/") and name not in (*_SUCCESS, _INSTRUCTION)
                ):
                    self._counts[name] += 1

            yield _Episode(file, group, arrays, self._info).read(
                self._spec(file, group, number), self._keys, self
            )

    def left_out(self) -> tuple[str, ...]:
        """Return what had no place, and why; whole once all episodes were read."""
        return tuple(left_out_lines(self._left_out, self._counts))

    def note(self, name: str, why: str) -> None:
        """Remember that something had no place."""
        self._left_out[name] = why

    @property
    def options(self) -> ImportOptions:
        """What the source does not record."""
        return self._options

    def _spec(self, file: ForeignFile, group: str, number: int) -> EpisodeSpec:
        seed = file.attribute(group, "seed")
        known = isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0
        # Several episodes may begin from one seed: the number keeps their specs apart.
        return EpisodeSpec(
            self._cell, int(seed) if known and seed is not None else number, "import:minari", {"episode": number},
            purpose="train",
        )  # fmt: skip


class _Episode:
    """An episode that is being read."""

    def __init__(self, file: ForeignFile, group: str, arrays: Arrays, info: MinariInfo) -> None:
        self._file, self._group, self._arrays, self._info = file, group, arrays, info
        self._steps = self._need("rewards").rows

    def read(
        self, spec: EpisodeSpec, keys: Mapping[str, tuple[str, SpaceLeaf]], source: MinariEpisodes
    ) -> Episode:
        """Read all of it."""
        cast, where = source.options.cast, f"{self._file.path}: {self._group}"
        parts = [self._action(leaf, cast) for leaf in self._info.actions]
        successes = [self._rows(name).any() for name in _SUCCESS if self._readable(name)]

        return bare_episode(
            spec,
            self._instruction(source),
            {key: self._observation(path, leaf) for key, (path, leaf) in keys.items()},
            np.concatenate(parts, axis=1),
            exact_float32(self._column("rewards"), f"{where}/rewards", cast),
            success=any(successes) if successes else True,
            terminated=bool(self._column("terminations")[-1:].any()),
        )

    def _need(self, name: str) -> ForeignArray:
        array = self._arrays.get(name)
        if array is None:
            raise self._file.damaged(self._group, f"has no array {name}")
        return array

    def _readable(self, name: str) -> bool:
        array = self._arrays.get(name)
        return array is not None and not no_place(array)

    def _rows(self, name: str) -> npt.NDArray[Any]:
        return self._need(name).read()

    def _column(self, name: str) -> npt.NDArray[Any]:
        array = self._need(name)
        if array.shape not in ((self._steps,), (self._steps, 1)):
            raise self._file.damaged(
                f"{self._group}/{name}", f"has shape {array.shape}, expected ({self._steps},)"
            )
        return array.read().reshape(-1)

    def _checked(self, name: str, rows: int, leaf: SpaceLeaf) -> ForeignArray:
        array = self._need(name)
        if array.rows != rows:
            raise self._file.damaged(
                f"{self._group}/{name}", f"has {array.rows} rows, expected {rows}"
            )
        if (
            not _is_encoded(array, leaf)
            and array.kind == "numbers"
            and array.shape[1:] != leaf.shape
        ):
            found = f"has rows {array.shape[1:]}, but metadata.json says {leaf.shape}"
            raise self._file.damaged(f"{self._group}/{name}", found)

        return array

    def _action(self, leaf: SpaceLeaf, cast: bool) -> npt.NDArray[np.float32]:
        name = f"actions/{leaf.path}" if leaf.path else "actions"
        rows = self._checked(name, self._steps, leaf).read()
        return exact_float32(
            rows.reshape(self._steps, leaf.numbers),
            f"{self._file.path}: {self._group}/{name}",
            cast,
        )

    def _observation(self, path: str, leaf: SpaceLeaf) -> npt.NDArray[Any]:
        array = self._checked(path, self._steps + 1, leaf)
        if not _is_encoded(array, leaf):
            return plain(array.read())

        height, width = leaf.shape[:2]
        if array.rows * height * width * 3 > layout.MAX_ARRAY_BYTES:
            raise self._file.damaged(
                f"{self._group}/{path}", f"claims {array.rows} pictures of {height}x{width}"
            )

        pictures = np.zeros((array.rows, height, width, 3), np.uint8)
        for row, data in enumerate(
            array.encoded() if array.kind == "encoded" else map(bytes, array.read())
        ):
            try:
                pictures[row] = decode_picture(data, height, width)
            except ValueError as error:  # says which one
                raise self._file.damaged(
                    f"{self._group}/{path}", f"row {row}: the picture {error}"
                ) from None

        return (
            pictures
            if leaf.shape[2:] == (3,)
            else pictures[..., 0].reshape(array.rows, *leaf.shape)
        )

    def _instruction(self, source: MinariEpisodes) -> str:
        """Return the first text that is the same in all rows."""
        names = []
        for leaf in self._info.observations:
            if leaf.kind == "Text":
                names.append(f"observations/{leaf.path}".rstrip("/"))
        if _INSTRUCTION in self._arrays:
            names.append(_INSTRUCTION)

        chosen = ""
        for name in names:
            array = self._need(name)
            texts = set() if array.problem or array.kind != "texts" else set(array.texts())
            if len(texts) != 1:
                source.note(
                    name, "it is a text that changes in an episode; an instruction does not"
                )
            elif chosen:
                source.note(name, "an episode has one instruction")
            else:
                (chosen,) = texts

        return chosen or source.options.instruction or ""


def _is_encoded(array: ForeignArray, leaf: SpaceLeaf) -> bool:
    """Whether an array holds pictures as JPEG: bytes of any length, or of one that is not a picture's shape."""
    picture = (
        len(leaf.shape) in (2, 3) and leaf.shape[2:] in ((), (1,), (3,)) and leaf.dtype == "uint8"
    )
    flat = array.dtype == np.uint8 and len(array.shape) == 2 and array.shape[1:] != leaf.shape
    return picture and (array.kind == "encoded" or flat)


def _numbered(leaf: SpaceLeaf) -> list[str]:
    return [f"{leaf.path or 'action'}.{number}" for number in range(leaf.numbers)]


def _environment(text: str) -> str:
    try:
        value = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return ""
    found = value.get("id") if isinstance(value, dict) else ""
    return found if isinstance(found, str) else ""
