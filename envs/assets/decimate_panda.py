"""Make the small Panda that shopfloor ships from the Apache-2.0 meshes in `pybullet_data`.

Run `python envs/assets/decimate_panda.py` in an environment with pybullet: it rewrites
`envs/assets/panda/` and `envs/assets/cylinder.obj`. Triangles are merged by quadric vertex
clustering (Lindstrom 2000), one small OBJ per link and colour; the arm keeps no collision shapes,
the hand and fingers get boxes.

PyBullet's renderer normalises a mesh's normals in place each time it draws, in float32, where most
vectors settle late or never: equal states would give pictures that differ in the last digit. All
normals written here are exactly of unit length in that arithmetic, see `exact_normal`.
"""

from __future__ import annotations

import itertools
import math
import re
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pybullet_data

SOURCE = Path(pybullet_data.getDataPath()) / "franka_panda"
TARGET = Path(__file__).parent / "panda"
CYLINDER = Path(__file__).parent / "cylinder.obj"
CYLINDER_SIDES = 20
DECIMALS = 8  # of normals
COLOURS = {"white": "0.93 0.94 0.95 1", "dark": "0.22 0.23 0.25 1"}
GRID_M = {"hand": 0.015, "finger": 0.007, "link0": 0.024, "link7": 0.016, "link6": 0.025}
DEFAULT_GRID_M = 0.030
DARK_BELOW = 0.6

# Boxes (origin xyz, size xyz; m) that stand for the hand and one finger in collisions, measured on
# the source meshes.
HAND_BOXES = (("0 0 0.02", "0.06 0.2 0.09"),)
FINGER_BOXES = (("0 0.0072 0.045", "0.0176 0.0144 0.0178"), ("0 0.0175 0.018", "0.020 0.015 0.036"))

Points = npt.NDArray[np.float64]
Faces = npt.NDArray[np.int64]


def read_obj(path: Path) -> tuple[Points, dict[str, Faces]]:
    """Read an OBJ file and its materials.

    Returns:
        Vertices, shape (V, 3), and triangles per colour, shape (F, 3).
    """
    dark: dict[str, bool] = {}
    material_file = path.with_suffix(".mtl")
    name = ""

    for line in material_file.read_text().splitlines() if material_file.exists() else ():
        if line.startswith("newmtl"):
            name = line.split()[1]
        elif line.startswith("Kd"):
            dark[name] = max(float(word) for word in line.split()[1:4]) < DARK_BELOW

    vertices: list[list[float]] = []
    faces: dict[str, list[list[int]]] = {"white": [], "dark": []}
    colour = "white"

    for line in path.read_text().splitlines():
        if line.startswith("v "):
            vertices.append([float(word) for word in line.split()[1:4]])
        elif line.startswith("usemtl"):
            colour = "dark" if dark.get(line.split()[1], False) else "white"
        elif line.startswith("f "):
            faces[colour].append([int(word.split("/")[0]) - 1 for word in line.split()[1:4]])

    return np.array(vertices), {key: np.array(rows).reshape(-1, 3) for key, rows in faces.items()}


def cluster(points: Points, faces: Faces, grid: float) -> tuple[Points, Faces]:
    """Merge all vertices of a grid cell into the point nearest to its triangles' planes.

    Args:
        points: shape (V, 3), m.
        faces: shape (F, 3), indices into `points`.
        grid: edge of a cell, m.

    Returns:
        The new points, shape (K, 3), and faces, shape (G, 3), without degenerate or repeated ones.
    """
    used = np.unique(faces)
    _, cell = np.unique(
        np.floor(points[used] / grid + 0.5).astype(int), axis=0, return_inverse=True
    )
    label = np.full(len(points), -1)
    label[used] = cell.ravel()
    count = int(cell.max()) + 1
    corners = points[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    offset = -np.einsum("fi,fi->f", normal, corners[:, 0])
    quadric, linear = np.zeros((count, 3, 3)), np.zeros((count, 3))

    for corner in range(3):
        np.add.at(quadric, label[faces[:, corner]], normal[:, :, None] * normal[:, None, :])
        np.add.at(linear, label[faces[:, corner]], normal * offset[:, None])

    mean = np.zeros((count, 3))
    np.add.at(mean, label[used], points[used])
    mean /= np.bincount(label[used], minlength=count)[:, None]
    weight = 0.02 * np.trace(quadric, axis1=1, axis2=2)[:, None, None] + 1e-18
    solved = np.linalg.solve(
        quadric + weight * np.eye(3), (weight[:, 0] * mean - linear)[..., None]
    )[..., 0]
    solved = np.clip(solved, mean - 0.6 * grid, mean + 0.6 * grid)
    merged = label[faces]

    merged = merged[
        (merged[:, 0] != merged[:, 1])
        & (merged[:, 1] != merged[:, 2])
        & (merged[:, 2] != merged[:, 0])
    ]

    _, first = np.unique(np.sort(merged, axis=1), axis=0, return_index=True)
    return solved, merged[np.sort(first)]


def exact_normal(normal: Points) -> Points:
    """Return a vector of DECIMALS decimals near a unit vector, shape (3,).

    Normalising leaves it as it is in float32 arithmetic: its squared length is 1 or the next float
    above, in whatever order it is summed, so that 1 / sqrt of it is 1.
    """
    large = int(np.argmax(np.abs(normal)))
    small = [axis for axis in range(3) if axis != large]
    steps = 2e-6 * np.arange(-12, 13)
    offsets = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    offsets = offsets[np.argsort((offsets**2).sum(axis=1), kind="stable")]
    candidates = np.zeros((len(offsets), 3))
    candidates[:, small] = normal[small] + offsets
    # The middle of what rounds to 1 or the next float.
    rest = 1.0 + 6e-8 - (candidates[:, small] ** 2).sum(axis=1)
    candidates[:, large] = np.copysign(np.minimum(np.sqrt(rest), 1.0), normal[large])
    candidates = np.round(candidates, DECIMALS)

    x, y, z = (candidates.astype(np.float32) ** 2).T
    one = np.float32(1.0)
    above = np.nextafter(one, np.float32(2.0))
    exact = np.ones(len(candidates), np.bool_)
    for total in (x + y + z, y + z + x, z + x + y):
        exact &= (total == one) | (total == above)

    if not exact.any():
        raise ValueError(
            f"Near {normal} there is no normal that float32 arithmetic leaves as it is."
        )
    return np.asarray(candidates[np.argmax(exact)] + 0.0)


def write_cylinder(path: Path) -> None:
    """Write an upright cylinder of radius 1 and height 1 with sharp rims.

    The renderer rounds its own.
    """
    turns = 2.0 * np.pi * np.arange(CYLINDER_SIDES + 1) / CYLINDER_SIDES
    corners = [(math.cos(turn), math.sin(turn)) for turn in turns]
    up, down = np.array((0.0, 0.0, 1.0)), np.array((0.0, 0.0, -1.0))

    points: list[tuple[float, float, float]] = []
    normals: list[Points] = []
    for a, b in itertools.pairwise(corners):
        low_a, high_a = (*a, -0.5), (*a, 0.5)
        low_b, high_b = (*b, -0.5), (*b, 0.5)
        side_a = exact_normal(np.array((*a, 0.0)))
        side_b = exact_normal(np.array((*b, 0.0)))
        points += [low_a, low_b, high_b, low_a, high_b, high_a]
        normals += [side_a, side_b, side_b, side_a, side_b, side_a]
        points += [(0.0, 0.0, 0.5), high_a, high_b, (0.0, 0.0, -0.5), low_b, low_a]
        normals += [up, up, up, down, down, down]

    lines = [f"v {x:.9f} {y:.9f} {z:.1f}" for x, y, z in points]
    lines += [f"vn {x:.{DECIMALS}f} {y:.{DECIMALS}f} {z:.{DECIMALS}f}" for x, y, z in normals]
    for index in range(1, len(points), 3):
        lines.append(f"f {index}//{index} {index + 1}//{index + 1} {index + 2}//{index + 2}")

    path.write_text(
        "# Made by shopfloor's decimate_panda.py: radius 1, height 1\n" + "\n".join(lines) + "\n"
    )


def write_obj(path: Path, points: Points, faces: Faces) -> None:
    """Write triangles with one normal per corner.

    It is averaged over neighbours that bend by less than about 40 degrees.
    """
    corners = points[faces]
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    unit = area / np.maximum(np.linalg.norm(area, axis=1, keepdims=True), 1e-12)
    around: dict[int, list[int]] = {}
    for index, face in enumerate(faces):
        for vertex in face:
            around.setdefault(int(vertex), []).append(index)

    lines = [f"v {x:.4f} {y:.4f} {z:.4f}" for x, y, z in points]
    rows: list[str] = []
    for index, face in enumerate(faces):
        words: list[str] = []
        for vertex in face:
            near = [other for other in around[int(vertex)] if unit[other] @ unit[index] > 0.77]
            normal = area[near].sum(axis=0)
            normal = exact_normal(normal / max(float(np.linalg.norm(normal)), 1e-12))
            lines.append("vn " + " ".join(f"{value:.{DECIMALS}f}" for value in normal))
            words.append(f"{vertex + 1}//{3 * index + len(words) + 1}")

        rows.append("f " + " ".join(words))

    path.write_text(
        "# Decimated by shopfloor from franka_panda, Apache-2.0, see LICENSE.txt\n"
        + "\n".join(lines + rows)
        + "\n"
    )


def boxes(rows: tuple[tuple[str, str], ...], flip: bool) -> str:
    """Return collision elements for boxes; `flip` mirrors them in y, for the right finger."""
    text = ""
    for origin, size in rows:
        x, y, z = origin.split()
        text += (
            f'    <collision>\n      <origin rpy="0 0 0" xyz="{x} {"-" + y if flip else y} {z}"/>\n'
            f'      <geometry>\n        <box size="{size}"/>\n      </geometry>\n    </collision>\n'
        )
    return text


def main() -> None:
    """Write the meshes, the URDF and the licence."""
    write_cylinder(CYLINDER)
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir(parents=True)
    shutil.copy(SOURCE / "LICENSE.txt", TARGET / "LICENSE.txt")
    parts: dict[str, list[str]] = {}

    for name in (
        "link0",
        "link1",
        "link2",
        "link3",
        "link4",
        "link5",
        "link6",
        "link7",
        "hand",
        "finger",
    ):
        source = SOURCE / "meshes" / "visual" / f"{name}.obj"
        points, colours = read_obj(
            source if source.exists() else SOURCE / "meshes" / "collision" / f"{name}.obj"
        )

        for colour, faces in colours.items():
            if len(faces):
                small, triangles = cluster(points, faces, GRID_M.get(name, DEFAULT_GRID_M))
                if len(triangles) >= 6:
                    write_obj(TARGET / f"{name}_{colour}.obj", small, triangles)
                    parts.setdefault(name, []).append(colour)

    text = (SOURCE / "panda.urdf").read_text()
    text = re.sub(r"\s*<collision>.*?</collision>", "", text, flags=re.S)
    text = re.sub(r"\s*<contact>.*?</contact>", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.S)

    def rewrite(match: re.Match[str]) -> str:
        name = Path(match["mesh"]).stem
        origin = match["origin"] or ""
        visuals = ""
        for colour in parts[name]:
            shape = f'{origin}<geometry><mesh filename="{name}_{colour}.obj"/></geometry>'
            look = f'<material name="{colour}"><color rgba="{COLOURS[colour]}"/></material>'
            visuals += f"\n    <visual>\n      {shape}\n      {look}\n    </visual>"
        return visuals

    text = re.sub(
        r'\s*<visual>\s*(?P<origin><origin[^>]*/>)?\s*<geometry>\s*<mesh filename="package://(?P<mesh>[^"]*)"/>.*?</visual>',
        rewrite,
        text,
        flags=re.S,
    )

    for link, rows, flip in (
        ("panda_hand", HAND_BOXES, False),
        ("panda_leftfinger", FINGER_BOXES, False),
        ("panda_rightfinger", FINGER_BOXES, True),
    ):
        start = text.index("\n  </link>", text.index(f'<link name="{link}">'))
        text = text[:start] + "\n" + boxes(rows, flip).rstrip("\n") + text[start:]

    note = "<!-- Made by decimate_panda.py from franka_panda of pybullet_data, Apache-2.0, see LICENSE.txt -->\n"
    text = text.replace("<robot", note + "<robot", 1)
    lines = []
    for line in text.splitlines():
        if line.strip():
            lines.append(line.rstrip().replace("\t", "  "))
    (TARGET / "panda.urdf").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
