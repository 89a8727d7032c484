"""The text of URDF files: links with meshes and boxes, joints between them."""

from __future__ import annotations

from collections.abc import Sequence

Vector = tuple[float, float, float]

ORIGIN: Vector = (0.0, 0.0, 0.0)
COLOURS = {
    "grey": "0.80 0.81 0.83 1",
    "white": "0.93 0.94 0.95 1",
    "dark": "0.22 0.23 0.25 1",
    "cap": "0.42 0.58 0.70 1",
    "tote": "0.20 0.38 0.66 1",
    "light": "0.25 0.80 0.85 1",
    "orange": "0.93 0.50 0.12 1",
    "red": "0.80 0.14 0.12 1",
}


def numbers(values: Sequence[float]) -> str:
    """Return numbers as URDF writes them, without trailing zeros."""
    return " ".join(f"{round(value, 12) + 0.0:.12g}" for value in values)


def origin(xyz: Vector = ORIGIN, rpy: Vector = ORIGIN) -> str:
    """Return where something lies in its parent: m, and rad about fixed x, y, z."""
    return f'<origin rpy="{numbers(rpy)}" xyz="{numbers(xyz)}"/>'


def inertial(mass_kg: float, centre: Vector, size: Vector) -> str:
    """Return mass and inertia of a solid box of that mass and size about its centre."""
    x, y, z = (mass_kg * edge * edge / 12.0 for edge in size)
    return (
        f'    <inertial>\n      {origin(centre)}\n      <mass value="{numbers([mass_kg])}"/>\n'
        f'      <inertia ixx="{y + z:.6g}" ixy="0" ixz="0" iyy="{x + z:.6g}" iyz="0" izz="{x + y:.6g}"/>\n'
        "    </inertial>\n"
    )


def mesh(file: str, colour: str) -> str:
    """Return a visual element for a mesh in the link's frame."""
    return _visual(ORIGIN, f'<mesh filename="{file}"/>', colour)


def visual_box(centre: Vector, size: Vector, colour: str) -> str:
    """Return a visual element for a box."""
    return _visual(centre, f'<box size="{numbers(size)}"/>', colour)


def _visual(centre: Vector, shape: str, colour: str) -> str:
    return (
        f"    <visual>\n      {origin(centre)}\n      <geometry>{shape}</geometry>\n"
        f'      <material name="{colour}"><color rgba="{COLOURS[colour]}"/></material>\n    </visual>\n'
    )


def collision_box(centre: Vector, size: Vector) -> str:
    """Return a collision element for a box."""
    return (
        f"    <collision>\n      {origin(centre)}\n"
        f'      <geometry>\n        <box size="{numbers(size)}"/>\n      </geometry>\n    </collision>\n'
    )


def link(name: str, *elements: str) -> str:
    """Return a link made of such elements."""
    return f'  <link name="{name}">\n{"".join(elements)}  </link>\n'


def joint(name: str, kind: str, parent: str, child: str, *elements: str) -> str:
    """Return a joint; `elements` are its origin, axis and limits."""
    rows = "".join(f"    {element}\n" for element in elements)
    return (
        f'  <joint name="{name}" type="{kind}">\n    <parent link="{parent}"/>\n    <child link="{child}"/>\n'
        f"{rows}  </joint>\n"
    )


def axis(direction: Vector) -> str:
    """Return a joint's axis."""
    return f'<axis xyz="{numbers(direction)}"/>'


def limit(lower: float, upper: float, effort: float, velocity: float) -> str:
    """Return a joint's limits (m, N, m/s or rad, N m, rad/s)."""
    return (
        f'<limit effort="{numbers([effort])}" lower="{numbers([lower])}" upper="{numbers([upper])}" '
        f'velocity="{numbers([velocity])}"/>'
    )


def robot(name: str, note: str, *parts: str) -> str:
    """Return a whole file."""
    body = "".join(parts)
    return f'<?xml version="1.0" ?>\n<!-- Made by make_robots.py. {note} -->\n<robot name="{name}">\n{body}</robot>\n'
