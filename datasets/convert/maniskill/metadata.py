"""The .json beside ManiSkill's trajectories: the list of episodes, checked before it is believed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shopfloor.core import InvalidInputError, canonical_json
from shopfloor.datasets.disk.errors import DamagedFileError, NotADatasetError, UnsafeFileError
from shopfloor.datasets.disk.json_file import load_json

MAX_JSON_BYTES = 1 << 28
MAX_EPISODES = 1_000_000
MAX_TEXT = 200  # of an environment's id and a control mode
MAX_SOURCE_BYTES = 1 << 20  # of what is kept of it in `dataset.json`
MAX_RESET_BYTES = 50_000  # of an episode's `reset_kwargs`, which become part of its spec
MAX_SEED = (1 << 63) - 1
DEFAULT_HZ = 20  # `control_freq` of ManiSkill's SimConfig, where a recording has no other
_SOURCE = ("env_info", "commit_info", "source_type", "source_desc")
_ADVICE = "Get both files again, as one recording wrote them."


@dataclass(frozen=True)
class Listed:
    """An episode as the .json lists it.

    Attributes:
        number: its arrays are in "traj_<number>".
        seed: the seed it was reset with; its number where none is recorded.
        steps: number of actions in it, None where it is not recorded.
        flags: "success" and "fail", as far as they are recorded.
        reset_kwargs: the other arguments it was reset with.
    """

    number: int
    seed: int
    steps: int | None
    flags: Mapping[str, bool]
    reset_kwargs: Mapping[str, Any]


class Recording:
    """A pair of files, the .json read and checked.

    Attributes:
        file: the .json.
        arrays_file: the .h5.
        env_id: id of the environment, "" where it is not recorded.
        control_mode: the control mode of all its actions, "" where it is not recorded.
        control_hz: steps per second of simulated time.
        robot: `robot_uids`, "" where it is not recorded.
        episodes: the episodes in the order of the .json.
        source: the recording's own description.
    """

    def __init__(self, path: Path) -> None:
        """Find and read the .json.

        Args:
            path: the .h5, the .json, or a folder with one pair.

        Raises:
            NotADatasetError: it is none of them, or its other half is not there; InvalidInputError:
                there are several.
            DamagedFileError: what is wrong with the .json; UnsafeFileError: what is refused in it.
        """
        self.file, self.arrays_file = find_pair(path)
        raw = load_json(self.file, MAX_JSON_BYTES)
        info = self._object(raw, "env_info")
        kwargs = self._object(info, "env_kwargs")
        self.env_id = self._text(info, "env_id")
        self.robot = kwargs["robot_uids"] if isinstance(kwargs.get("robot_uids"), str) else ""
        hz = self._object(kwargs, "sim_config").get("control_freq", DEFAULT_HZ)
        if isinstance(hz, bool) or not isinstance(hz, int | float) or not 0 < hz <= 1_000_000:
            raise self.damaged(f"its control_freq is {hz!r:.40}, expected a number above 0")

        self.control_hz = hz
        listed = raw.get("episodes")
        if not isinstance(listed, list) or len(listed) > MAX_EPISODES:
            raise self.damaged(f"its episodes are not a list of at most {MAX_EPISODES}")
        if not listed:
            raise InvalidInputError(f"{self.file} lists no episode to import.")

        self.episodes = tuple(self._listed(listed))
        self.control_mode = self._one_mode(listed)
        self.source = {name: raw[name] for name in _SOURCE if name in raw}
        size = len(canonical_json(self.source))
        if size > MAX_SOURCE_BYTES:
            raise UnsafeFileError(self.file, f"its {' and '.join(self.source)} take {size} bytes")

    def damaged(self, problem: str) -> DamagedFileError:
        """Return an error about the .json."""
        return DamagedFileError(self.file, problem, _ADVICE)

    def _object(self, raw: Mapping[str, Any], name: str) -> dict[str, Any]:
        value = raw.get(name)
        if not isinstance(value, dict | None):
            raise self.damaged(f"its {name} is a {type(value).__name__}, expected an object")
        return value or {}

    def _text(self, raw: Mapping[str, Any], name: str) -> str:
        value = raw.get(name) or ""
        if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
            raise self.damaged(f"its {name} is {value!r:.60}, expected a short text")
        return value

    def _listed(self, listed: list[Any]) -> Iterator[Listed]:
        seen = set()
        for place, episode in enumerate(listed):
            if not isinstance(episode, dict):
                raise self.damaged(f"entry {place} of its episodes is not an object")

            number = self._whole(episode, "episode_id", place)
            if number is None or number in seen:
                raise self.damaged(
                    f"entry {place} of its episodes has episode_id {number}, expected a number of "
                    "its own"
                )

            seen.add(number)
            kwargs = self._object(episode, "reset_kwargs")
            size = len(canonical_json(kwargs))
            if size > MAX_RESET_BYTES:
                problem = f"entry {place} of its episodes has reset_kwargs of {size} bytes, more than {MAX_RESET_BYTES}"
                raise UnsafeFileError(self.file, problem)

            seed = self._whole(episode, "episode_seed", place)
            flags = {}
            for name in ("success", "fail"):
                if isinstance(episode.get(name), bool):
                    flags[name] = episode[name]

            steps = self._whole(episode, "elapsed_steps", place)
            yield Listed(number, number if seed is None else seed, steps, flags, kwargs)

    def _whole(self, episode: Mapping[str, Any], name: str, place: int) -> int | None:
        value = episode.get(name)
        if value is not None and (type(value) is not int or not 0 <= value <= MAX_SEED):
            raise self.damaged(
                f"entry {place} of its episodes has {name} {value!r:.40}, expected a whole number"
            )
        return value

    def _one_mode(self, listed: list[Any]) -> str:
        modes = sorted({self._text(episode, "control_mode") for episode in listed})
        if len(modes) > 1:
            raise InvalidInputError(
                f"{self.file} has episodes of the control modes {', '.join(map(repr, modes))}, "
                "whose actions do not mean the same. Bring them to one mode with ManiSkill's "
                "replay tool first."
            )
        return modes[0]


def find_pair(path: Path) -> tuple[Path, Path]:
    """Return the .json and the .h5 that belong together.

    Args:
        path: one of them, or a folder with one pair.

    Raises:
        NotADatasetError: there is no pair; InvalidInputError: there are several.
    """
    if path.is_dir():
        halves = sorted(entry for entry in path.glob("*.h5") if _other(entry, ".json").exists())
        if len(halves) > 1:
            names = ", ".join(half.name for half in halves[:5])
            raise InvalidInputError(
                f"{path} holds several recordings ({names}); name one .h5 file."
            )
        if not halves:
            raise NotADatasetError(
                f"{path} holds no ManiSkill recording; expected an .h5 file with a .json of the "
                "same name beside it."
            )

        path = halves[0]
    elif path.suffix not in (".h5", ".json"):
        raise NotADatasetError(
            f"{path} is no ManiSkill recording; expected an .h5 file, its .json, or their folder."
        )

    pair = _other(path, ".json"), _other(path, ".h5")
    for half in pair:
        if not half.exists():
            raise NotADatasetError(
                f"{path} is half a ManiSkill recording: {half.name} is not beside it."
            )

    return pair


def _other(path: Path, suffix: str) -> Path:
    # `with_suffix` would cut names such as trajectory.rgb.physx_cpu.
    return path.parent / f"{path.stem}{suffix}"
