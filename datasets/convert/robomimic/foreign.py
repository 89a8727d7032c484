"""A foreign robomimic file as our episodes: which array becomes what, and what has no place here."""

from __future__ import annotations

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
from shopfloor.datasets.convert.options import ImportOptions
from shopfloor.datasets.convert.rows import exact_float32
from shopfloor.datasets.disk.errors import NotADatasetError
from shopfloor.datasets.disk.strict_json import parse_json
from shopfloor.datasets.format import layout
from shopfloor.datasets.listing.identity import MAX_HZ

Arrays = Mapping[str, ForeignArray]
_READ = ("actions", "rewards", "dones", "states", "obs", "next_obs")
_ATTRIBUTES = ("num_samples", "ep_meta")
_SPARE_DEPTH = 64
_REPEATED = (
    "the last observation before an action stands for the one after it: the source has no next_obs"
)


def demos(file: ForeignFile) -> list[tuple[int, str]]:
    """Return number and name of a file's episodes, in order; raises NotADatasetError without any."""
    found = []
    for name in file.children("data"):
        if layout.GROUP_NAME.fullmatch(name):
            found.append((int(name.removeprefix("demo_")), name))

    if not found:
        raise NotADatasetError(
            f"{file.path} is not a robomimic file: it has no group data/demo_<number>."
        )
    return sorted(found)


def mask_lines(file: ForeignFile) -> list[str]:
    """Return what an import leaves out of robomimic's masks, in lines for people."""
    lines = []
    for name in file.children("mask"):
        lines.append(f"mask/{name}: a dataset has no masks; divide it with split")
    return lines


def json_object(text: str) -> dict[str, Any]:
    """Return the JSON object in a text; empty for anything else, and for one that is nested too deep."""
    try:
        value = parse_json("[" * _SPARE_DEPTH + text + "]" * _SPARE_DEPTH)
    except ValueError:
        return {}
    for _ in range(_SPARE_DEPTH):
        value = value[0] if isinstance(value, list) and len(value) == 1 else None
    return value if isinstance(value, dict) else {}


class RobomimicDemos:
    """A robomimic file that is being read, one episode after the other."""

    def __init__(self, file: ForeignFile, options: ImportOptions) -> None:
        """Look at its first episode; raises NotADatasetError if it has none."""
        self._file, self._options = file, options
        self._demos = demos(file)
        self._env_args = self._json("data", "env_args")
        name = self._env_args.get("env_name")

        self._cell = (
            options.cell
            or f"robomimic/{name if isinstance(name, str) and name else file.path.stem}"
        )

        self._first = file.arrays(f"data/{self._demos[0][1]}")
        self._left_out: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def describe(self) -> dict[str, Any]:
        """Return the description that `dataset.json` gets."""
        kwargs = self._env_args.get("env_kwargs")
        hz = kwargs.get("control_freq") if isinstance(kwargs, dict) else None
        known = isinstance(hz, int | float) and not isinstance(hz, bool) and 0 < hz <= MAX_HZ
        keys = self._keys(self._first)

        features = {}
        sources = {}
        for path, key in keys.items():
            array = self._first[path]
            features[key] = feature(array.shape[1:], array.dtype)
            sources[key] = path

        rewards = "rewards" in self._first
        return {
            "cell": self._cell,
            "control_hz": hz if known else CONTROL_HZ,
            "action_convention": self._options.action_convention or layout.UNSPECIFIED,
            "features": features,
            "env_args": self._env_args,
            "source": {"format": "robomimic", "features": sources},
            "control_hz_from": "control_freq" if known else "assumed: the source does not say",
            "outcomes": "from rewards: a success where one is above 0"
            if rewards
            else "assumed to be successes: the source has no rewards",
        }

    def episodes(self) -> Iterator[Episode]:
        """Yield the episodes.

        Raises:
            DamagedFileError, UnsafeFileError: what is wrong with one; InvalidInputError: it would
                be rounded.
        """
        for number, name in self._demos:
            group = f"data/{name}"
            arrays = self._file.arrays(group)
            if not self._need(group, arrays, "actions").rows:
                self._left_out[group] = "it has no steps"
                continue

            yield self._episode(group, number, arrays)
            for attribute in self._file.attribute_names(group):
                if attribute not in _ATTRIBUTES:
                    self._counts[f"attribute {attribute}"] += 1

    def left_out(self) -> tuple[str, ...]:
        """Return what had no place, and why; whole once all episodes were read."""
        found = left_out_lines(self._left_out, self._counts)
        found += mask_lines(self._file)

        for name in self._file.children():
            if name not in ("data", "mask"):
                found.append(f"{name}: no episode")
        for name in self._file.children("data"):
            if not layout.GROUP_NAME.fullmatch(name):
                found.append(f"data/{name}: no episode")

        return tuple(found)

    def _episode(self, group: str, number: int, arrays: Arrays) -> Episode:
        actions = self._need(group, arrays, "actions")
        T = actions.rows
        self._check_lengths(group, arrays, T)

        for name in arrays:
            top = name.partition("/")[0]
            if top not in _READ:
                self._counts[top] += 1

        where = f"{self._file.path}: {group}"
        executed = exact_float32(actions.read(), f"{where}/actions", self._options.cast)
        if executed.ndim != 2:
            raise InvalidInputError(
                f"{where}/actions has shape {actions.shape}; expected (steps, numbers)."
            )

        rewards = np.zeros(T, np.float32)
        if "rewards" in arrays:
            rewards = exact_float32(
                arrays["rewards"].read().reshape(-1), f"{where}/rewards", self._options.cast
            )

        success = bool((rewards > 0).any()) if "rewards" in arrays else True
        observations = {}
        for path, key in self._keys(arrays).items():
            observations[key] = self._observation(group, arrays, path)

        return bare_episode(
            EpisodeSpec(self._cell, number, "import:robomimic", purpose="train"),
            self._instruction(group),
            observations,
            executed,
            rewards,
            success=success,
            terminated=success,
            sim_states=self._states(arrays),
        )

    def _check_lengths(self, group: str, arrays: Arrays, T: int) -> None:
        stated = self._file.attribute(group, "num_samples")
        if stated not in (None, T):
            raise self._file.damaged(
                f"{group}/actions", f"has {T} rows, but num_samples is {stated}"
            )

        for name, array in arrays.items():
            if (
                name.partition("/")[0] in _READ
                and not array.problem
                and array.kind == "numbers"
                and array.rows != T
            ):
                raise self._file.damaged(f"{group}/{name}", f"has {array.rows} rows, expected {T}")

    def _need(self, group: str, arrays: Arrays, name: str) -> ForeignArray:
        array = arrays.get(name)
        if array is None:
            raise self._file.damaged(group, f"has no array {name}")
        return array

    def _keys(self, arrays: Arrays) -> dict[str, str]:
        """Return path -> our observation key, and note what can have none."""
        keys: dict[str, str] = {}
        for path, array in arrays.items():
            if not path.startswith("obs/"):
                continue

            why, key = no_place(array), observation_key(path.removeprefix("obs/"), keys.values())
            if why or key is None:
                self._left_out[path] = why or "no observation key can be made of its name"
            else:
                keys[path] = key

        return keys

    def _observation(self, group: str, arrays: Arrays, path: str) -> npt.NDArray[Any]:
        body = plain(arrays[path].read())
        following = arrays.get(f"next_{path}")
        if following is None or no_place(following):
            self._left_out["final observation"] = _REPEATED
            return np.concatenate([body, body[-1:]])
        last = plain(following.read(following.rows - 1))
        if last.dtype != body.dtype or last.shape[1:] != body.shape[1:]:
            found = f"has rows {last.shape[1:]} of {last.dtype}"
            found += f", but {path} has {body.shape[1:]} of {body.dtype}"
            raise self._file.damaged(f"{group}/next_{path}", found)
        return np.concatenate([body, last])

    def _states(self, arrays: Arrays) -> npt.NDArray[np.float64] | None:
        array = arrays.get("states")
        if array is None:
            return None
        if no_place(array) or len(array.shape) != 2:
            self._left_out["states"] = (
                no_place(array) or f"has shape {array.shape}, expected (steps, numbers)"
            )
            return None
        rows = array.read().astype(np.float64)
        return np.concatenate([rows, rows[-1:]])

    def _instruction(self, group: str) -> str:
        """Return an episode's text: robocasa keeps it with the episode, LIBERO with the file."""
        for text in (
            self._json(group, "ep_meta").get("lang"),
            self._json("data", "problem_info").get("language_instruction"),
            self._options.instruction,
        ):
            if isinstance(text, str) and text:
                return text
        return ""

    def _json(self, group: str, name: str) -> dict[str, Any]:
        text = self._file.attribute(group, name)
        return json_object(text) if isinstance(text, str) else {}
