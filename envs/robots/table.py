"""Robots by name: ours, and those that other packages announce in the entry-point group `shopfloor.robots`.

An entry point's name is the robot's and its value `module:MODEL`, where MODEL is an `ArmModel` or a
`BaseModel`, whose `cells` are those that offer it.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from shopfloor.core import InvalidInputError, MissingDependencyError, UnknownNameError
from shopfloor.envs.robots.models import AMR, ARMS, MOBILE_PANDA, ArmModel, BaseModel, RobotModel

GROUP = "shopfloor.robots"


def robot_model(name: str) -> RobotModel:
    """Return a kind of robot: one of ours, or one of an installed package.

    Args:
        name: such as "panda", or a name of the entry-point group.

    Raises:
        UnknownNameError: no such robot.
        MissingDependencyError: another package announces it and cannot be loaded.
        InvalidInputError: what the package announces is no robot, or lacks its URDF file.
    """
    ours: dict[str, RobotModel] = {**ARMS, MOBILE_PANDA.name: MOBILE_PANDA, AMR.name: AMR}
    if name in ours:
        return ours[name]

    others = _announced()
    if name not in others:
        raise UnknownNameError("robot", name, {*ours, *others})

    point = others[name]
    try:
        model = point.load()
    except (ImportError, AttributeError) as error:
        raise MissingDependencyError(
            f"Robot {name!r} is announced by an installed package as {point.value}, which cannot "
            f"be loaded ({error}). Install what it needs, or remove that package."
        ) from error

    return _checked(name, model)


def installed_robots() -> list[str]:
    """Return the names of the robots that other packages announce, sorted."""
    return sorted(_announced())


def is_for(model: RobotModel, cell_id: str) -> bool:
    """Return whether a robot of another package names a cell, by its full id or bare name."""
    bare = cell_id.rsplit("/", 1)[-1]
    return not {cell_id, bare, bare.rpartition("-v")[0]}.isdisjoint(model.cells)


def _announced() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _checked(name: str, model: object) -> RobotModel:
    """Return what a package announces as a robot, once it is one."""
    if not isinstance(model, ArmModel | BaseModel):
        raise InvalidInputError(
            f"Robot {name!r} is announced by an installed package as a {type(model).__name__}; "
            "expected an ArmModel or a BaseModel."
        )

    if model.name != name:
        raise InvalidInputError(
            f"Robot {name!r} is announced by an installed package under that name, and its model "
            f"has the name {model.name!r}; expected one name."
        )

    if not model.urdf.is_file():
        raise InvalidInputError(
            f"Robot {name!r}: its URDF file {model.urdf} is not there; its package has to list the "
            "file as package data."
        )
    return model
