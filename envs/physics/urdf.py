"""The kinematics of a serial arm, read from its URDF file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from shopfloor.core import InvalidInputError
from shopfloor.envs.physics.kinematics import Chain, Placement, rotation_matrix, yaw_matrix

Array = npt.NDArray[np.float64]

_Z = np.array([0.0, 0.0, 1.0])
# From the link at the tool to the tool frame: z then points against the direction of reach.
_TO_TOOL = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class UrdfLinks:
    """The links of an arm with joint axes in any directions; see `kinematics.Links`.

    Attributes:
        steps: shape (n + 1, 4, 4), from each joint's frame, whose z axis it turns about, to the
            next one's at angle 0; first from the base, last to the tool.
    """

    steps: Array

    def place(self, joints: list[float]) -> Placement:
        """Return where the tool is; see `kinematics.Links`."""
        pose = np.eye(4)
        frames = []
        turn = np.eye(4)
        for step, angle in zip(self.steps, joints, strict=False):
            turn[:3, :3] = yaw_matrix(angle)
            pose = pose @ step @ turn
            frames.append(pose)

        tool = pose @ self.steps[-1]
        axes = np.array(frames)[:, :3, 2]
        levers = tool[:3, 3] - np.array(frames)[:, :3, 3]
        columns = np.hstack([np.cross(axes, levers), axes])
        return tuple(tool[:3, 3].tolist()), tuple(tool[:3, :3].T.ravel()), columns.ravel().tolist()


@dataclass(frozen=True, eq=False)
class _Joint:
    """A joint of a URDF file.

    Attributes:
        name: as in the file.
        kind: "revolute", "fixed", ...
        parent: name of the link before it.
        origin: shape (4, 4), from the parent link's frame to its own.
        axis: shape (3,), unit vector, in its own frame.
        lower, upper: limits, rad.
        force_nm: effort limit.
    """

    name: str
    kind: str
    parent: str
    origin: Array
    axis: Array
    lower: float
    upper: float
    force_nm: float


def read_chain(
    path: Path, joints: Sequence[str], tool_link: str, home: Sequence[float]
) -> tuple[Chain, tuple[float, ...]]:
    """Return the chain of an arm from a URDF file, and its joints' effort limits, N m.

    Args:
        path: of the file.
        joints: names of the arm's joints, from the base to the hand: all that move before the tool.
        tool_link: name of the link at the tool; its z axis points where the hand reaches.
        home: rad, one for each joint; see `Chain`.

    Raises:
        InvalidInputError: the file is none, or has no such arm.
    """
    way = _way_to(tool_link, _joints_by_child(path), path)
    moving = [joint for joint in way if joint.kind != "fixed"]
    names = [joint.name for joint in moving]
    if names != list(joints):
        raise InvalidInputError(
            f"{path}: the joints from the base to {tool_link!r} are {', '.join(names)}; expected "
            f"{', '.join(joints)}."
        )

    for joint in moving:
        if joint.kind not in ("revolute", "continuous"):
            raise InvalidInputError(
                f"{path}: joint {joint.name!r} is {joint.kind}; expected revolute or continuous."
            )

    chain = Chain(
        UrdfLinks(_steps(way)),
        home=np.array(home, dtype=np.float64),
        lower=np.array([joint.lower for joint in moving]),
        upper=np.array([joint.upper for joint in moving]),
    )
    return chain, tuple(joint.force_nm for joint in moving)


def _joints_by_child(path: Path) -> dict[str, _Joint]:
    """Return all joints of a file by the name of the link after each."""
    try:
        elements = ElementTree.parse(path).getroot().findall("joint")
        return {_attribute(element, "child", "link"): _joint(element) for element in elements}
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise InvalidInputError(
            f"{path} cannot be read as a URDF file ({error}); expected links and joints as in "
            "http://wiki.ros.org/urdf/XML (a xacro file is turned into one by `xacro FILE`)."
        ) from error


def _joint(element: ElementTree.Element) -> _Joint:
    kind = element.get("type", "fixed")
    moves = kind != "fixed"
    axis = np.array(_numbers(_attribute(element, "axis", "xyz", "1 0 0")))
    length = float(np.linalg.norm(axis))
    if moves and not length:
        raise ValueError(f"joint {element.get('name')!r} has an axis of no length")

    endless = kind == "continuous"
    least, most = str(-2.0 * math.pi), str(2.0 * math.pi)

    return _Joint(
        name=element.get("name", ""),
        kind=kind,
        parent=_attribute(element, "parent", "link"),
        origin=_origin(element),
        axis=axis / length if moves else axis,
        lower=float(least if endless else _attribute(element, "limit", "lower", "0")),
        upper=float(most if endless else _attribute(element, "limit", "upper", "0")),
        force_nm=float(_attribute(element, "limit", "effort", None if moves else "0")),
    )


def _attribute(
    element: ElementTree.Element, tag: str, name: str, default: str | None = None
) -> str:
    """Return an attribute of an element's child; a missing one without a default is a ValueError."""
    child = element.find(tag)
    value = default if child is None else child.get(name, default)
    if value is None:
        raise ValueError(f"joint {element.get('name')!r} has no {tag} with {name}")
    return value


def _numbers(text: str) -> list[float]:
    values = [float(word) for word in text.split()]
    if len(values) != 3:
        raise ValueError(f"{text!r} is not three numbers")
    return values


def _origin(element: ElementTree.Element) -> Array:
    """Return the transform of a joint's origin, shape (4, 4)."""
    roll, pitch, yaw = _numbers(_attribute(element, "origin", "rpy", "0 0 0"))
    about_x = rotation_matrix(np.array([roll, 0.0, 0.0]))
    about_y = rotation_matrix(np.array([0.0, pitch, 0.0]))
    origin = np.eye(4)
    origin[:3, :3] = yaw_matrix(yaw) @ about_y @ about_x
    origin[:3, 3] = _numbers(_attribute(element, "origin", "xyz", "0 0 0"))
    return origin


def _way_to(link: str, joints: dict[str, _Joint], path: Path) -> list[_Joint]:
    """Return the joints from the file's first link to a link."""
    if link not in joints:
        raise InvalidInputError(
            f"{path}: there is no joint to a link {link!r}; those with one: {', '.join(joints)}."
        )

    way: list[_Joint] = []
    while link in joints:
        joint = joints[link]
        if joint in way:
            raise InvalidInputError(f"{path}: its links go round in a circle at {link!r}.")
        way.append(joint)
        link = joint.parent
    return way[::-1]


def _steps(way: Sequence[_Joint]) -> Array:
    """Return `UrdfLinks.steps` for the joints from the base to the tool."""
    steps = []
    step = np.eye(4)
    for joint in way:
        step = step @ joint.origin
        if joint.kind != "fixed":
            turn = _turn_to(joint.axis)
            steps.append(step @ turn)
            step = turn.T

    return np.array([*steps, step @ _TO_TOOL])


def _turn_to(axis: Array) -> Array:
    """Return a turn, shape (4, 4), of the z axis into the direction of a unit vector, shape (3,)."""
    across = np.cross(_Z, axis)
    sine = float(np.linalg.norm(across))
    if sine > 1e-9:
        vector = across / sine * math.atan2(sine, float(axis[2]))
    else:
        vector = np.array([0.0 if axis[2] > 0.0 else math.pi, 0.0, 0.0])

    turn = np.eye(4)
    turn[:3, :3] = rotation_matrix(vector)
    return turn
