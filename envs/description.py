"""What a work cell may be asked for, and what it says of itself: options, observation space, feature table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

import gymnasium
import numpy as np
import numpy.typing as npt

from shopfloor.core import ACTION_CONVENTION, CONTROL_HZ, UnknownNameError
from shopfloor.envs import robot as panda
from shopfloor.envs.camera import check_size
from shopfloor.envs.task import Task
from shopfloor.envs.variation import VARIATIONS

OBJECT_COLUMNS = 12
OBJECT_NAMES = ("x", "y", "z", "qx", "qy", "qz", "qw", "size_x", "size_y", "size_z", "present", "is_goal")
OBJECT_UNITS = ("m",) * 3 + ("1",) * 4 + ("m",) * 3 + ("1",) * 2
ObservationSpace = gymnasium.Space[dict[str, npt.NDArray[Any]]]


@dataclass(frozen=True)
class CellOptions:
    """What `gymnasium.make` may be given.

    Attributes:
        robot: "panda".
        cameras: names of the views in observations.
        image_size: height and width of their pictures, pixels.
        privileged: whether observations hold "objects", the poses of all parts and goals.
        variation: how episodes depart from the nominal one, such as "displaced".
        render_mode: "rgb_array" or None.
    """

    robot: str = "panda"
    cameras: tuple[str, ...] = ("front", "wrist")
    image_size: tuple[int, int] = (96, 96)
    privileged: bool = False
    variation: str = "nominal"
    render_mode: str | None = None

    def __post_init__(self) -> None:
        """Refuse what no cell can do."""
        if self.robot != "panda":
            raise UnknownNameError("robot", str(self.robot), ["panda"])
        if self.variation not in VARIATIONS:
            raise UnknownNameError("variation", str(self.variation), VARIATIONS)
        if self.render_mode not in (None, "rgb_array"):
            raise UnknownNameError("render mode", str(self.render_mode), ["rgb_array"])
        object.__setattr__(self, "image_size", check_size(self.image_size))
        object.__setattr__(self, "cameras", tuple(self.cameras or ()))


def cell_options(options: Mapping[str, Any]) -> CellOptions:
    """Check options as given to `gymnasium.make`; unknown names are refused with the nearest known one."""
    known = [field.name for field in fields(CellOptions)]
    for name in options:
        if name not in known:
            raise UnknownNameError("cell option", name, known)
    return CellOptions(**options)


def vocabulary(task: Task) -> dict[str, Any]:
    """Return the class names of parts and of goals, and to which goal each part goes."""
    parts = {item.name: item.belongs_to for item in task.items if not item.is_goal}
    goals = list(dict.fromkeys(item.name for item in task.items if item.is_goal))
    only = goals[0] if len(goals) == 1 else ""
    goal_of = {part: goal or only for part, goal in parts.items()}
    return {"parts": list(parts), "goals": goals, "goal_of": goal_of}


def observation_space(task: Task, options: CellOptions) -> ObservationSpace:
    """Return the space of a cell's observations."""
    spaces: dict[str, gymnasium.Space[Any]] = {
        "state": gymnasium.spaces.Box(-np.inf, np.inf, (panda.STATE_SIZE,), np.float32)
    }
    if options.privileged:
        shape = (len(task.items), OBJECT_COLUMNS)
        spaces["objects"] = gymnasium.spaces.Box(-np.inf, np.inf, shape, np.float32)
    for name in options.cameras:
        spaces[name] = gymnasium.spaces.Box(0, 255, (*options.image_size, 3), np.uint8)
    return cast(ObservationSpace, gymnasium.spaces.Dict(spaces))


def describe(cell_id: str, task: Task, options: CellOptions) -> dict[str, Any]:
    """Return plain JSON data on what a cell takes and gives."""
    height, width = options.image_size
    slots = len(task.items)
    features: dict[str, Any] = {
        "state": _feature([panda.STATE_SIZE], "float32", panda.STATE_NAMES, panda.STATE_UNITS),
        "objects": _feature([slots, OBJECT_COLUMNS], "float32", OBJECT_NAMES, OBJECT_UNITS),
    }
    for camera in task.cameras:
        features[camera.name] = _feature([height, width, 3], "uint8", ("height", "width", "rgb"), ("px", "px", "1"))
    frozen = [panda.ACTION_NAMES[axis] for axis in task.frozen_axes]
    return {
        "cell": cell_id,
        "robot": options.robot,
        "control_hz": CONTROL_HZ,
        "action_convention": ACTION_CONVENTION,
        "action_names": list(panda.ACTION_NAMES),
        "action_full_scale": {"position_m": panda.FULL_SCALE_M, "rotation_rad": panda.FULL_SCALE_RAD},
        "frozen_actions": frozen,
        "workspace_m": task.workspace.tolist(),
        "max_episode_steps": task.max_episode_steps,
        "features": features,
        "object_slots": slots,
        "instruction_templates": {name: list(texts) for name, texts in task.instructions.items()},
        "vocabulary": vocabulary(task),
        "cameras": {
            camera.name: {
                "fov_deg": camera.fov_deg,
                "eye": camera.eye,
                "target": camera.target,
                "on_tool": camera.on_tool,
            }
            for camera in task.cameras
        },
        "env_args": {
            "env_name": cell_id,
            "type": 2,
            "env_kwargs": {"robot": options.robot, "image_size": [height, width]},
        },
    }


def _feature(shape: list[int], dtype: str, names: Sequence[str], units: Sequence[str]) -> dict[str, Any]:
    return {"shape": shape, "dtype": dtype, "names": list(names), "units": list(units)}
