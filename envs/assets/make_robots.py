"""Make the robots that shopfloor models itself; the files always come out the same.

Run `python envs/assets/make_robots.py`. It writes a six-axis arm with the kinematics of a UR5e, a
suction gripper for it and for the Panda, and two mobile robots, one of which carries the Panda.
Kinematics, masses and limits of the UR5e are Universal Robots' published figures ("DH parameters
for calculations of kinematics and dynamics"; its data sheet); all shapes are our own. The Panda's
arm and hand are taken from `panda/panda.urdf` as `decimate_panda.py` wrote it: run that first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from shopfloor.envs.assets import carts
from shopfloor.envs.assets import urdf_text as urdf
from shopfloor.envs.assets.solids import Profile, Solid, lathe, obj_text
from shopfloor.envs.assets.urdf_text import Vector

TARGET = Path(__file__).parent
_QUARTER = 0.5 * math.pi

# Standard Denavit-Hartenberg rows (a m, d m, alpha rad): turn by the joint's angle and move by d
# along z, then move by a along the new x axis and turn by alpha about it.
UR5E_DH = (
    (0.0, 0.1625, _QUARTER),
    (-0.425, 0.0, 0.0),
    (-0.3922, 0.0, 0.0),
    (0.0, 0.1333, _QUARTER),
    (0.0, 0.0997, -_QUARTER),
    (0.0, 0.0996, 0.0),
)


def _modified(rows: Sequence[Vector]) -> tuple[Vector, ...]:
    """Return modified rows of the chain that the standard ones describe."""
    found: list[Vector] = []
    a, alpha = 0.0, 0.0
    for next_a, d, next_alpha in rows:
        found.append((a, d, alpha))
        a, alpha = next_a, next_alpha
    return tuple(found)


# The same chain as modified rows: move by a along x and turn by alpha about it, then move by d
# along z and turn by the joint's angle. Frames of the URDF's links are these.
UR5E_MODIFIED_DH = _modified(UR5E_DH)
UR5E_JOINTS = tuple(f"ur5e_joint{index}" for index in range(1, 7))
UR5E_LOWER = (-math.tau, -math.tau, -math.pi, -math.tau, -math.tau, -math.tau)
UR5E_UPPER = (math.tau, math.tau, math.pi, math.tau, math.tau, math.tau)
UR5E_EFFORT_NM = (150.0, 150.0, 150.0, 28.0, 28.0, 28.0)
UR5E_SPEED_RAD_S = math.pi
# Mass (kg) and centre of mass (m) in the standard frames; the arm weighs 20.6 kg, of which the base
# takes the rest.
UR5E_BASE_MASS_KG = 2.9
UR5E_MASSES = (
    (3.761, (0.0, -0.02561, 0.00193)),
    (8.058, (0.2125, 0.0, 0.11336)),
    (2.846, (0.15, 0.0, 0.0265)),
    (1.37, (0.0, -0.0018, 0.01634)),
    (1.3, (0.0, 0.0018, 0.01634)),
    (0.365, (0.0, 0.0, -0.001159)),
)
# The first frame is turned by half a turn about z, so that the arm at joint angles 0 reaches along
# +x of its base.
UR5E_BASE_YAW = math.pi
# From the last joint's frame, which lies in the flange, along its z axis to the tool, as long as on
# the Panda; the hand is turned about that axis by -90 degrees: the tool's x axis is minus y of the
# flange.
COUPLING_M = 0.107
HAND_REACH_M = 0.105
TOOL_OFFSET_M = COUPLING_M + HAND_REACH_M
UR5E_FLANGE_TURN = -_QUARTER
# Tool down at (0.49, 0.0, 0.2) m, its x axis along +x of the base, elbow up.
UR5E_HOME = (-0.275513, -1.601401, 1.795636, -1.765032, -_QUARTER, -0.275513)

_UR5E_SIZES: tuple[Vector, ...] = (  # of boxes about as large as the links, for inertias
    (0.12, 0.14, 0.14),
    (0.50, 0.11, 0.11),
    (0.45, 0.09, 0.10),
    (0.09, 0.11, 0.12),
    (0.09, 0.11, 0.09),
    (0.08, 0.08, 0.05),
)
_Parts = dict[str, list[Solid]]


def _lid(radius: float, low: float, high: float) -> Profile:
    """Return the profile of the slightly domed lid at the end of a joint, typical of the arm."""
    rise = high - low
    return [
        (radius, low),
        (0.96 * radius, low + 0.65 * rise),
        (0.74 * radius, low + 0.93 * rise),
        (0.38 * radius, high),
        (0.0, high),
    ]


def _ring(radius: float, low: float, high: float) -> Profile:
    return [(radius, low), (radius, high)]


def ur5e_parts() -> list[_Parts]:
    """Return base, six links and the coupling to the hand, by colour, each in its own frame."""
    return [*_trunk_parts(), _bend_parts(-0.068, "-y"), _bend_parts(-0.048, "y"), *_flange_parts()]


def _trunk_parts() -> list[_Parts]:
    """Return the base, the shoulder, the upper arm and the forearm.

    A dark ring marks where the next link turns.
    """
    elbow, wrist = (UR5E_DH[1][0], 0.0, 0.0), (UR5E_DH[2][0], 0.0, 0.0)
    base: _Parts = {
        "dark": [
            lathe([(0.076, 0.0), (0.076, 0.010), (0.062, 0.013)]),
            lathe(_ring(0.057, 0.072, 0.086)),
        ],
        "grey": [lathe([(0.066, 0.012), (0.060, 0.030), (0.060, 0.078), (0.056, 0.080)])],
    }

    shoulder: _Parts = {
        "grey": [
            lathe([(0.056, -0.081), (0.060, -0.078), (0.060, 0.0)]),
            lathe([(0.060, -0.050), (0.060, 0.068), (0.056, 0.071)], "-y"),
        ],
        "dark": [lathe(_ring(0.057, 0.066, 0.080), "-y")],
        "cap": [lathe(_lid(0.059, 0.048, 0.070), "y")],
    }

    upper_arm: _Parts = {
        "grey": [
            lathe([(0.056, 0.074), (0.060, 0.077), (0.060, 0.178)]),
            lathe(
                [
                    (0.053, 0.040),
                    (0.053, 0.070),
                    (0.047, 0.085),
                    (0.047, 0.335),
                    (0.051, 0.350),
                    (0.051, 0.385),
                ],
                "-x",
                (0.0, 0.0, 0.133),
            ),
            lathe([(0.050, 0.074), (0.054, 0.077), (0.054, 0.178)], at=elbow),
        ],
        "dark": [lathe(_ring(0.051, 0.060, 0.076), at=elbow)],
        "cap": [lathe(_lid(0.059, 0.176, 0.199)), lathe(_lid(0.053, 0.176, 0.199), at=elbow)],
    }

    forearm: _Parts = {
        "grey": [
            lathe([(0.054, -0.042), (0.054, 0.062), (0.050, 0.065)]),
            lathe(
                [
                    (0.047, 0.036),
                    (0.047, 0.060),
                    (0.039, 0.075),
                    (0.039, 0.32),
                    (0.042, 0.335),
                    (0.042, 0.37),
                ],
                "-x",
                (0.0, 0.0, 0.010),
            ),
            lathe([(0.044, -0.034), (0.044, 0.056), (0.040, 0.059)], at=wrist),
        ],
        "dark": [lathe(_ring(0.041, 0.054, 0.070), at=wrist)],
        "cap": [
            lathe(_lid(0.053, 0.040, 0.062), "-z"),
            lathe(_lid(0.043, 0.032, 0.050), "-z", wrist),
        ],
    }

    return [base, shoulder, upper_arm, forearm]


def _bend_parts(low: float, side: str) -> _Parts:
    """Return the first or second link of the wrist.

    Args:
        low: where it begins on its axis, m.
        side: the axis of the next joint.
    """
    return {
        "grey": [
            lathe([(0.040, low), (0.044, low + 0.003), (0.044, 0.038)]),
            lathe(_ring(0.044, 0.0, 0.046), side),
        ],
        "dark": [lathe(_ring(0.041, 0.044, 0.056), side)],
        "cap": [lathe(_lid(0.043, 0.036, 0.055))],
    }


def _flange_parts() -> list[_Parts]:
    """Return the last link and the coupling, whose frame is at its far end."""
    flange: _Parts = {
        "grey": [lathe([(0.040, -0.048), (0.043, -0.045), (0.043, -0.016), (0.034, -0.008)])],
        "dark": [lathe([(0.0315, -0.010), (0.0315, 0.0), (0.0, 0.0)])],
    }

    coupling: _Parts = {
        "dark": [lathe([(0.0, -0.107), (0.038, -0.107), (0.038, -0.086), (0.030, -0.082)])],
        "grey": [
            lathe([(0.031, -0.084), (0.031, -0.042), (0.040, -0.026), (0.040, 0.0), (0.0, 0.0)])
        ],
    }

    return [flange, coupling]


def gripper_parts() -> _Parts:
    """Return the suction gripper without its cup, in the frame of the flange it is screwed to."""
    return {
        "grey": [
            lathe(
                [
                    (0.0, 0.0),
                    (0.032, 0.0),
                    (0.032, 0.009),
                    (0.024, 0.012),
                    (0.024, 0.050),
                    (0.017, 0.056),
                    (0.0, 0.056),
                ]
            )
        ],
        "cap": [lathe([(0.006, 0.018), (0.006, 0.034), (0.0, 0.034)], "-x", (0.0, 0.0, 0.032), 10)],
        "dark": [lathe(_ring(0.010, 0.054, 0.078), sides=12)],
    }


def cup_parts() -> _Parts:
    """Return the bellows cup, in a frame in the middle of its lower face."""
    bellows = [
        (0.0, -0.032),
        (0.012, -0.030),
        (0.018, -0.025),
        (0.013, -0.020),
        (0.020, -0.014),
        (0.015, -0.009),
    ]

    return {
        "dark": [
            lathe([*bellows, (0.022, -0.0015), (0.022, 0.0), (0.019, 0.0), (0.0, -0.005)], sides=20)
        ]
    }


def _standard_to_link(centre: Vector, a: float, alpha: float) -> Vector:
    """Bring a point from a link's standard frame into its modified one."""
    x, y, z = centre
    c, s = math.cos(alpha), math.sin(alpha)
    return (x + a, c * y - s * z, s * y + c * z)


def _meshes(folder: str, name: str, parts: _Parts) -> tuple[str, dict[str, str]]:
    """Return visual elements for these parts, and their files by path.

    The elements are for a URDF in a folder beside `folder`.
    """
    elements = ""
    files = {}
    for colour, solids in parts.items():
        if solids:
            path = f"{folder}/{name}_{colour}.obj"
            elements += urdf.mesh(f"../{path}", colour)
            files[path] = obj_text(solids)

    return elements, files


def ur5e_arm() -> tuple[str, dict[str, str]]:
    """Return the arm up to its coupling as URDF text, and its meshes by path."""
    parts = ur5e_parts()
    looks, files = _meshes("ur5e", "base", parts[0])
    text = urdf.link(
        "ur5e_base", urdf.inertial(UR5E_BASE_MASS_KG, (0.0, 0.0, 0.04), (0.14, 0.14, 0.08)), looks
    )
    parent = "ur5e_base"

    for index, (a, d, alpha) in enumerate(UR5E_MODIFIED_DH):
        name = f"ur5e_link{index + 1}"
        place = (a, -d * math.sin(alpha), d * math.cos(alpha))
        turn = (alpha, 0.0, UR5E_BASE_YAW if index == 0 else 0.0)
        bounds = (UR5E_LOWER[index], UR5E_UPPER[index], UR5E_EFFORT_NM[index], UR5E_SPEED_RAD_S)
        frame = (urdf.origin(place, turn), urdf.axis((0.0, 0.0, 1.0)), urdf.limit(*bounds))
        text += urdf.joint(UR5E_JOINTS[index], "revolute", parent, name, *frame)
        mass, centre = UR5E_MASSES[index]
        after_a, _, after_alpha = UR5E_DH[index]
        weight = urdf.inertial(
            mass, _standard_to_link(centre, after_a, after_alpha), _UR5E_SIZES[index]
        )
        looks, made = _meshes("ur5e", f"link{index + 1}", parts[index + 1])
        text, files, parent = text + urdf.link(name, weight, looks), files | made, name

    looks, made = _meshes("ur5e", "coupling", parts[7])
    mount = urdf.origin((0.0, 0.0, COUPLING_M), (0.0, 0.0, UR5E_FLANGE_TURN))
    text += urdf.joint("ur5e_coupling_joint", "fixed", parent, "ur5e_coupling", mount)
    text += urdf.link(
        "ur5e_coupling", urdf.inertial(0.2, (0.0, 0.0, -0.06), (0.07, 0.07, 0.1)), looks
    )

    return text, files | made


def suction(parent: str, turn: float) -> tuple[str, dict[str, str]]:
    """Return the suction gripper on a flange as URDF text, and its meshes by path.

    Args:
        parent: the flange's link.
        turn: angle about the flange's axis, rad.
    """
    looks, files = _meshes("suction", "gripper", gripper_parts())
    cup_looks, made = _meshes("suction", "cup", cup_parts())
    # Boxes, not cylinders: what they touch is computed anew in each step, from nothing that must be
    # remembered.
    body = (0.046, 0.046, 0.075)
    # Its face is as large as a disc of radius 22 mm.
    cup = (0.039, 0.039, 0.030)

    text = urdf.joint(
        "suction_joint", "fixed", parent, "suction_gripper", urdf.origin(rpy=(0.0, 0.0, turn))
    )

    text += urdf.link(
        "suction_gripper",
        urdf.inertial(0.36, (0.0, 0.0, 0.035), body),
        looks,
        urdf.collision_box((0.0, 0.0, 0.5 * body[2]), body),
    )

    mouth = urdf.origin((0.0, 0.0, HAND_REACH_M))
    text += urdf.joint("suction_cup_joint", "fixed", "suction_gripper", "suction_cup", mouth)
    text += urdf.link(
        "suction_cup",
        urdf.inertial(0.04, (0.0, 0.0, -0.015), cup),
        cup_looks,
        urdf.collision_box((0.0, 0.0, -0.5 * cup[2]), cup),
    )

    return text, files | made


def panda_text(hand: bool, arm: bool = True, folder: str = "../panda/") -> str:
    """Return links and joints of the shipped Panda.

    Args:
        hand: whether its hand, fingers and grasp target are among them.
        arm: whether links 0 to 8 are.
        folder: where its meshes are, seen from the new file.
    """
    text = (TARGET / "panda" / "panda.urdf").read_text(encoding="utf-8")
    begin = text.index("\n", text.index("<robot ")) + 1
    middle, end = text.index('  <joint name="panda_hand_joint"'), text.index("</robot>")
    kept = (text[begin:middle] if arm else "") + (text[middle:end] if hand else "")

    return kept.replace('filename="', f'filename="{folder}')


def arms() -> dict[str, str]:
    """Return the URDFs of the arms that stand on their own, and their meshes, by path."""
    arm, files = ur5e_arm()
    hand = panda_text(hand=True, arm=False)
    hand = hand.replace('<parent link="panda_link8"/>', '<parent link="ur5e_coupling"/>', 1)
    hand = hand.replace(' <origin rpy="0 0 -0.785398163397" xyz="0 0 0"/>', f" {urdf.origin()}", 1)
    figures = (
        "Kinematics and masses are Universal Robots' published figures, the arm's shapes our own"
    )
    note = f"{figures}; hand and fingers: franka_panda, Apache-2.0, see ../panda/LICENSE.txt"
    files["ur5e/ur5e.urdf"] = urdf.robot("ur5e", note, arm, hand)
    cup, made = suction("ur5e_coupling", 0.0)
    files["ur5e/ur5e_suction.urdf"] = urdf.robot("ur5e_suction", figures, arm, cup)
    cup, _ = suction("panda_link8", -0.25 * math.pi)  # turned as the Panda's own hand is
    note = "Arm: panda.urdf, Apache-2.0, see LICENSE.txt; the gripper's shapes are our own"
    files["panda/panda_suction.urdf"] = urdf.robot(
        "panda_suction", note, panda_text(hand=False, folder=""), cup
    )

    return files | made


def mobile() -> dict[str, str]:
    """Return the URDFs of the mobile robots, and their meshes, by path."""
    looks, files = _meshes("mobile", "amr", carts.amr_parts())
    body = carts.chassis(carts.AMR_SIZE, carts.AMR_MASS_KG, looks)
    files["mobile/amr.urdf"] = urdf.robot("amr", "All shapes are our own", carts.drive(), body)
    looks, made = _meshes("mobile", "carrier", carts.carrier_parts())

    tote = ""
    for centre, size in carts.tote_boxes():
        tote += urdf.visual_box(centre, size, "tote") + urdf.collision_box(centre, size)

    body = carts.chassis(carts.CARRIER_SIZE, carts.CARRIER_MASS_KG, looks, tote)
    mount = urdf.joint(
        "panda_mount", "fixed", "chassis", "panda_link0", urdf.origin(carts.ARM_ON_CARRIER)
    )
    note = "Arm and hand: panda.urdf, Apache-2.0, see ../panda/LICENSE.txt; the cart's shapes are our own"
    text = urdf.robot("mobile_panda", note, carts.drive(), body, mount, panda_text(hand=True))

    return files | made | {"mobile/mobile_panda.urdf": text}


def main() -> None:
    """Write the files."""
    for path, text in (arms() | mobile()).items():
        (TARGET / path).parent.mkdir(exist_ok=True)
        (TARGET / path).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
