"""Arms, hands and bases: the models of robots, and what they become in a world."""

from shopfloor.envs.robots.arm import Arm, Post, top_down
from shopfloor.envs.robots.hand import Cup, Fingers
from shopfloor.envs.robots.mobile import Base, Start, Team
from shopfloor.envs.robots.models import (
    AMR,
    MOBILE_PANDA,
    PANDA,
    PANDA_SUCTION,
    UR5E,
    UR5E_SUCTION,
    ArmModel,
    BaseModel,
)
from shopfloor.envs.robots.protocol import (
    ACTION_NAMES,
    FULL_SCALE_M,
    FULL_SCALE_RAD,
    TAIL_NAMES,
    TAIL_SIZE,
    Hand,
    Robot,
)
from shopfloor.envs.robots.table import robot_model

__all__ = [
    "ACTION_NAMES",
    "AMR",
    "FULL_SCALE_M",
    "FULL_SCALE_RAD",
    "MOBILE_PANDA",
    "PANDA",
    "PANDA_SUCTION",
    "TAIL_NAMES",
    "TAIL_SIZE",
    "UR5E",
    "UR5E_SUCTION",
    "Arm",
    "ArmModel",
    "Base",
    "BaseModel",
    "Cup",
    "Fingers",
    "Hand",
    "Post",
    "Robot",
    "Start",
    "Team",
    "robot_model",
    "top_down",
]
