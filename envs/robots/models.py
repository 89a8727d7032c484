"""Kinds of robots: what an arm or a base is made of, and those that come with shopfloor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import shopfloor
from shopfloor.core import InvalidInputError
from shopfloor.envs.physics import kinematics
from shopfloor.envs.physics.kinematics import Chain
from shopfloor.envs.physics.urdf import read_chain
from shopfloor.envs.physics.world import World
from shopfloor.envs.robots.hand import CUP_LINK, Cup, Fingers
from shopfloor.envs.robots.protocol import Hand

_ASSETS = Path(shopfloor.__file__).parent / "envs" / "assets"


@dataclass(frozen=True, eq=False)
class ArmModel:
    """A kind of arm with its hand.

    Attributes:
        name: as in `gymnasium.make(..., robot=name)`.
        urdf: its file.
        chain: its kinematics.
        joints: names of the arm's joints.
        forces_nm: their effort limits.
        tool_link: name of the link between the fingertips or in the mouth of the cup. Its z axis
            points where the hand reaches, and fingers close along its y axis.
        reach_m: radius about the base within which a tool that points down keeps clear of the
            straight arm, for z up to 0.35 m.
        hand: makes the hand for the arm's world.
        base_link: name of the link that is the arm's base frame, where the arm rides on something
            else.
        cells: of an arm of another package, the cells that offer it: full ids or bare names.
    """

    name: str
    urdf: Path
    chain: Chain
    joints: tuple[str, ...]
    forces_nm: tuple[float, ...]
    tool_link: str
    reach_m: float
    hand: Callable[[World], Hand] = Fingers
    base_link: str = ""
    cells: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse parts of different arms."""
        count = len(self.joints)
        if (len(self.forces_nm), len(self.chain.home)) != (count, count):
            raise InvalidInputError(
                f"Robot {self.name!r} has {count} joints, {len(self.forces_nm)} forces and a chain "
                f"of {len(self.chain.home)}; expected as many of each."
            )

    @classmethod
    def from_urdf(
        cls,
        name: str,
        urdf: Path,
        joints: Sequence[str],
        tool_link: str,
        home: Sequence[float],
        *,
        reach_m: float,
        hand: Callable[[World], Hand] = Fingers,
        cells: Sequence[str] = (),
    ) -> ArmModel:
        """Return the model of an arm whose kinematics, limits and forces its URDF states.

        Args:
            name: as in `gymnasium.make(..., robot=name)`.
            urdf: its file.
            joints: names of the arm's joints, from the base to the hand.
            tool_link: see `ArmModel`.
            home: rad, one for each joint, a posture in which the tool points down at the middle of
                the table, about 0.5 m before the base and 0.2 m high. Other postures are sought
                from it.
            reach_m: see `ArmModel`.
            hand: see `ArmModel`.
            cells: see `ArmModel`.

        Raises:
            InvalidInputError: the file has no such arm.
        """
        chain, forces_nm = read_chain(urdf, joints, tool_link, home)
        return cls(
            name,
            urdf,
            chain,
            tuple(joints),
            forces_nm,
            tool_link,
            reach_m,
            hand,
            cells=tuple(cells),
        )


@dataclass(frozen=True, eq=False)
class BaseModel:
    """A kind of mobile base.

    Attributes:
        name: as in `gymnasium.make(..., robot=name)`.
        urdf: its file; the link `chassis` hangs on the joints `base_x`, `base_y` and `base_yaw`.
        cells: of a base of another package, the cells that offer it: full ids or bare names.
    """

    name: str
    urdf: Path
    cells: tuple[str, ...] = ()


RobotModel = ArmModel | BaseModel

_PANDA_JOINTS = tuple(f"panda_joint{index}" for index in range(1, 8))
_PANDA_FORCES = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)  # of the URDF
PANDA = ArmModel(
    "panda",
    _ASSETS / "panda" / "panda.urdf",
    kinematics.PANDA,
    _PANDA_JOINTS,
    _PANDA_FORCES,
    "panda_grasptarget",
    reach_m=0.74,
)
PANDA_SUCTION = ArmModel(
    "panda_suction",
    _ASSETS / "panda" / "panda_suction.urdf",
    kinematics.PANDA,
    _PANDA_JOINTS,
    _PANDA_FORCES,
    CUP_LINK,
    reach_m=0.74,
    hand=Cup,
)

# Its work is from straight ahead to the tote, 144 degrees to the left: a posture in the middle
# suits both ends.
_ON_DECK = replace(
    kinematics.PANDA, home=kinematics.PANDA.home + np.array([1.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
)
MOBILE_PANDA = ArmModel(
    "mobile_panda",
    _ASSETS / "mobile" / "mobile_panda.urdf",
    _ON_DECK,
    _PANDA_JOINTS,
    _PANDA_FORCES,
    "panda_grasptarget",
    # For z up to 0.49 m.
    reach_m=0.69,
    base_link="panda_link0",
)

_UR5E_JOINTS = tuple(f"ur5e_joint{index}" for index in range(1, 7))
_UR5E_FORCES = (150.0, 150.0, 150.0, 28.0, 28.0, 28.0)  # of the datasheet
UR5E = ArmModel(
    "ur5e",
    _ASSETS / "ur5e" / "ur5e.urdf",
    kinematics.UR5E,
    _UR5E_JOINTS,
    _UR5E_FORCES,
    "panda_grasptarget",
    reach_m=0.70,
)
UR5E_SUCTION = ArmModel(
    "ur5e_suction",
    _ASSETS / "ur5e" / "ur5e_suction.urdf",
    kinematics.UR5E,
    _UR5E_JOINTS,
    _UR5E_FORCES,
    CUP_LINK,
    reach_m=0.70,
    hand=Cup,
)
ARMS = {model.name: model for model in (PANDA, PANDA_SUCTION, UR5E, UR5E_SUCTION)}

AMR = BaseModel("amr", _ASSETS / "mobile" / "amr.urdf")
# What carries the Panda of `MOBILE_PANDA`; one file describes both.
CART = BaseModel("mobile_panda", MOBILE_PANDA.urdf)
