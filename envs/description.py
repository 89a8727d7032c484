"""What a cell may be asked for, and what it says of itself: options, spaces, feature table."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

import gymnasium
import numpy as np
import numpy.typing as npt

from shopfloor.core import CONTROL_HZ, ShopfloorError, UnknownNameError, listed
from shopfloor.envs.looks.camera import check_size
from shopfloor.envs.robots.protocol import Robot
from shopfloor.envs.robots.table import installed_robots, is_for, robot_model
from shopfloor.envs.task import Task
from shopfloor.envs.variation import SUITES, VARIATIONS, Variation, parse_variation

OBJECT_COLUMNS = 12
OBJECT_NAMES = (
    "x",
    "y",
    "z",
    "qx",
    "qy",
    "qz",
    "qw",
    "size_x",
    "size_y",
    "size_z",
    "present",
    "is_goal",
)
OBJECT_UNITS = ("m", "m", "m", "1", "1", "1", "1", "m", "m", "m", "1", "1")
RENDERERS = ("tiny", "gl")
MODALITIES = ("rgb", "depth", "segmentation")

logger = logging.getLogger(__name__)

ObservationSpace = gymnasium.Space[dict[str, npt.NDArray[Any]]]


@dataclass(frozen=True)
class CellOptions:
    """What `gymnasium.make` may be given.

    Attributes:
        robot: one of the cell's robots, such as "panda" or "ur5e", or one of another package that
            names the cell; None for the usual one.
        cameras: names of the views in observations.
        image_size: height and width of their pictures, pixels.
        modalities: what observations hold of each view: "rgb" under the camera's name (uint8),
            "depth" under "<camera>_depth" (float32, m), "segmentation" under
            "<camera>_segmentation" (int32, see `View.ids`).
        privileged: whether observations hold "objects", the poses of all parts and goals.
        variation: how episodes depart from the nominal one: a name such as "hard", JSON text, or a
            `Variation`.
        renderer: "tiny", PyBullet's own, or "gl", on OpenGL (extra `gl`), ten times as fast.
        shadows: whether the lamp casts shadows in pictures.
        render_mode: "rgb_array" or None.
    """

    robot: str | None = None
    cameras: tuple[str, ...] = ("front", "wrist")
    image_size: tuple[int, int] = (96, 96)
    modalities: tuple[str, ...] = ("rgb",)
    privileged: bool = False
    variation: str | Mapping[str, Any] | Variation = "nominal"
    renderer: str = "tiny"
    shadows: bool = False
    render_mode: str | None = None

    def __post_init__(self) -> None:
        """Refuse what no cell can do."""
        parse_variation(self.variation)
        if self.renderer not in RENDERERS:
            raise UnknownNameError("renderer", str(self.renderer), RENDERERS)

        object.__setattr__(self, "modalities", listed(self.modalities))
        for name in self.modalities:
            if name not in MODALITIES:
                raise UnknownNameError("modality", str(name), MODALITIES)

        if self.render_mode not in (None, "rgb_array"):
            raise UnknownNameError("render mode", str(self.render_mode), ["rgb_array"])

        object.__setattr__(self, "image_size", check_size(self.image_size))
        object.__setattr__(self, "cameras", listed(self.cameras))


def cell_options(options: Mapping[str, Any]) -> CellOptions:
    """Check options as given to `gymnasium.make`.

    Raises:
        UnknownNameError: an unknown option; the message has the nearest known one.
    """
    known = [field.name for field in fields(CellOptions)]
    for name in options:
        if name not in known:
            raise UnknownNameError("cell option", name, known)
    return CellOptions(**options)


def robots_of(cell_id: str, task: Task) -> tuple[str, ...]:
    """Return the names of the robots that can do a cell's job, the usual one first.

    Those of other packages come last; one that cannot be loaded is reported and left out.
    """
    others = []
    for name in installed_robots():
        try:
            if not _obstacle(cell_id, task, name):
                others.append(name)
        except ShopfloorError as error:
            logger.warning("%s It is left out.", error)

    return (*task.robots, *others)


def check_robot(cell_id: str, task: Task, name: str | None) -> str:
    """Return the name of the robot that a cell is made with, the usual one for None.

    Raises:
        UnknownNameError: it cannot do the cell's job.
        MissingDependencyError, InvalidInputError: another package announces it, and it is broken.
    """
    if name is None:
        return task.robots[0]

    if name in task.robots:
        return name

    installed = name in installed_robots()
    obstacle = _obstacle(cell_id, task, name) if installed else ""
    if installed and not obstacle:
        return name
    raise UnknownNameError(f"robot of {cell_id}", str(name), robots_of(cell_id, task), obstacle)


def _obstacle(cell_id: str, task: Task, name: str) -> str:
    """Return why a robot of another package cannot do a cell's job, or "" where it can."""
    model = robot_model(name)
    if not is_for(model, cell_id):
        return "Its package has to name the cell in the robot's `cells`."
    if not task.takes(model):
        kind = type(model).__name__
        return f"The cell cannot make its robot from a {kind} of another package."
    return ""


def variations_of(task: Task) -> tuple[str, ...]:
    """Return the names of the variations that a cell has."""
    return tuple(name for name, variation in VARIATIONS.items() if not _lacking(task, variation))


def check_variation(
    cell_id: str, task: Task, value: str | Mapping[str, Any] | Variation
) -> Variation:
    """Return the variation, or say what of it a cell does not have."""
    variation = parse_variation(value)
    lacking = _lacking(task, variation)
    if lacking:
        raise UnknownNameError(
            f"variation of {cell_id}",
            value if isinstance(value, str) else lacking,
            variations_of(task),
        )
    return variation


def _lacking(task: Task, variation: Variation) -> str:
    """Return the first part of a variation that a cell does not have, or "" where it has all."""
    has = {
        "displaced": task.displaces,
        "mid_task": task.teleports,
        "clutter": task.post is not None,
        "objects": task.part_scales != (1.0, 1.0),
        "instruction": bool(task.unseen_instructions),
    }

    wanted = {
        "displaced": variation.displace_m is not None,
        "mid_task": variation.mid_task,
        **{name: name in variation.suites for name in SUITES},
    }

    if variation.level not in task.levels:
        return variation.level
    return next((name for name, on in wanted.items() if on and not has.get(name, True)), "")


def vocabulary(task: Task) -> dict[str, Any]:
    """Return the class names of parts and of goals, and to which goal each part goes."""
    parts = {item.name: item.belongs_to for item in task.items if not item.is_goal}
    goals = list(dict.fromkeys(item.name for item in task.items if item.is_goal))
    only = goals[0] if len(goals) == 1 else ""
    goal_of = {part: goal or only for part, goal in parts.items()}
    return {"parts": list(parts), "goals": goals, "goal_of": goal_of}


def observation_space(task: Task, robot: Robot, options: CellOptions) -> ObservationSpace:
    """Return the space of a cell's observations."""
    spaces: dict[str, gymnasium.Space[Any]] = {
        "state": gymnasium.spaces.Box(-np.inf, np.inf, (len(robot.state_names),), np.float32)
    }
    if options.privileged:
        shape = (len(task.items), OBJECT_COLUMNS)
        spaces["objects"] = gymnasium.spaces.Box(-np.inf, np.inf, shape, np.float32)

    size = options.image_size
    for name in options.cameras:
        if "rgb" in options.modalities:
            spaces[name] = gymnasium.spaces.Box(0, 255, (*size, 3), np.uint8)
        if "depth" in options.modalities:
            spaces[f"{name}_depth"] = gymnasium.spaces.Box(0.0, np.inf, size, np.float32)
        if "segmentation" in options.modalities:
            spaces[f"{name}_segmentation"] = gymnasium.spaces.Box(-1, 2**31 - 1, size, np.int32)

    return cast(ObservationSpace, gymnasium.spaces.Dict(spaces))


def describe(cell_id: str, task: Task, robot: Robot, options: CellOptions) -> dict[str, Any]:
    """Return plain JSON data on what a cell takes and gives."""
    height, width = options.image_size
    slots = len(task.items)
    features: dict[str, Any] = {
        "state": _feature(
            [len(robot.state_names)], "float32", robot.state_names, robot.state_units
        ),
        "objects": _feature([slots, OBJECT_COLUMNS], "float32", OBJECT_NAMES, OBJECT_UNITS),
    }

    cameras: dict[str, dict[str, Any]] = {}
    for camera in task.cameras:
        features[camera.name] = _feature(
            [height, width, 3], "uint8", ("height", "width", "rgb"), ("px", "px", "1")
        )
        features |= _maps(camera.name, options)
        cameras[camera.name] = {
            "fov_deg": camera.fov_deg,
            "eye": camera.eye,
            "target": camera.target,
            "on_tool": camera.on_tool,
        }

    looks: dict[str, Any] = {"renderer": options.renderer} if options.renderer != "tiny" else {}
    looks |= {"shadows": True} if options.shadows else {}
    return {
        "cell": cell_id,
        "robot": options.robot,
        "control_hz": CONTROL_HZ,
        "action_convention": robot.convention,
        "action_names": list(robot.action_names),
        **robot.describe(),
        "max_episode_steps": task.max_episode_steps,
        "features": features,
        "object_slots": slots,
        "instruction_templates": {name: list(texts) for name, texts in task.instructions.items()},
        "vocabulary": vocabulary(task),
        "cameras": cameras,
        **looks,
        "env_args": {
            "env_name": cell_id,
            "type": 2,
            "env_kwargs": {"robot": options.robot, "image_size": [height, width], **looks},
        },
    }


def _maps(camera: str, options: CellOptions) -> dict[str, Any]:
    """Return the features of a camera's depth and segmentation, as far as options ask for them."""
    made = {"depth": ("depth", "float32", "m"), "segmentation": ("ids", "int32", "1")}
    maps = {}
    for modality in options.modalities:
        if modality in made:
            kind, dtype, unit = made[modality]
            feature = _feature([*options.image_size], dtype, ("height", "width"), (unit, unit))
            maps[f"{camera}_{modality}"] = {**feature, "kind": kind, "camera": camera}
    return maps


def _feature(
    shape: list[int], dtype: str, names: Sequence[str], units: Sequence[str]
) -> dict[str, Any]:
    return {"shape": shape, "dtype": dtype, "names": list(names), "units": list(units)}
