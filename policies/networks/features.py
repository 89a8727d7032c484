"""Object-centric features: what the tool, the named part and its goal look like to each other.

The largest effect measured in the feasibility study behind this project: raw poses 0-1 %, offsets
of the *named* part at a fine saturating scale 71-100 % at 10-25 demonstrations.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

STATE_WIDTH = 22  # joints 7 and what follows them
# What ends an arm's state: tool position 3, tool quaternion 4, finger opening 1, target offset 6,
# last gripper 1.
TAIL_WIDTH = 15
OBJECT_WIDTH = 12  # position 3, quaternion 4, size 3, present 1, is_goal 1
# A yaw is given as the cosine and sine of its multiples: parts have 1-, 2- or 4-fold symmetry.
HARMONICS = (1, 2, 4)
ANGLE_WIDTH = 2 * len(HARMONICS)
COARSE_SCALE = 8.0  # 1/m: half a metre becomes 4
# 1/m: these saturate at about 25 mm and 6 mm, so that millimetres stay visible.
FINE_SCALES = (40.0, 160.0)


@dataclass
class Tool:
    """The tool's state, float32.

    Attributes:
        position: shape (B, 3), m, robot base frame.
        rotation: shape (B, 3, 3), the tool's axes in the base frame.
        rest: shape (B, 8), the opening 1, the target offset 6 and the last gripper command 1.
    """

    position: torch.Tensor
    rotation: torch.Tensor
    rest: torch.Tensor


@dataclass
class Slots:
    """Objects as the policy sees them, measured or predicted.

    Attributes:
        position: shape (B, N, 3), m, robot base frame.
        angle: shape (B, N, 6), cosine and sine of 1, 2 and 4 times the yaw relative to the tool.
        size: shape (B, N, 3), m.
        spread: shape (B, N), log of the position's expected error in units of 10 mm; 0 where
            measured.
        present: shape (B, N), bool.
        is_goal: shape (B, N), bool.
    """

    position: torch.Tensor
    angle: torch.Tensor
    size: torch.Tensor
    spread: torch.Tensor
    present: torch.Tensor
    is_goal: torch.Tensor


def rotation_matrix(quaternion: torch.Tensor) -> torch.Tensor:
    """Turn unit quaternions xyzw, shape (..., 4), into rotation matrices, shape (..., 3, 3)."""
    x, y, z, w = quaternion.unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _heading(rotation: torch.Tensor) -> torch.Tensor:
    """Cosine and sine of the yaw of the x axis, shape (..., 2)."""
    return torch.nn.functional.normalize(rotation[..., :2, 0], dim=-1, eps=1e-6)


def _difference(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Cosine and sine of angle a minus angle b, given as (..., 2) pairs."""
    cosine = a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1]
    sine = a[..., 1] * b[..., 0] - a[..., 0] * b[..., 1]
    return torch.stack([cosine, sine], -1)


def _multiples(pair: torch.Tensor) -> torch.Tensor:
    """Cosine and sine of 1, 2 and 4 times an angle, shape (..., 6)."""
    angle = torch.atan2(pair[..., 1], pair[..., 0])[..., None] * torch.tensor(
        HARMONICS, dtype=pair.dtype
    )
    return torch.stack([angle.cos(), angle.sin()], -1).flatten(-2)


def read_tool(state: torch.Tensor) -> Tool:
    """Split a state observation of one arm, shape (B, joints + 15)."""
    tail = state[:, -TAIL_WIDTH:]
    return Tool(tail[:, :3], rotation_matrix(tail[:, 3:7]), tail[:, 7:])


def measured_slots(objects: torch.Tensor, tool: Tool) -> Slots:
    """Read the `objects` observation, shape (B, N, 12)."""
    present = objects[..., 10] > 0.5
    quaternion = torch.where(
        present[..., None], objects[..., 3:7], objects.new_tensor([0.0, 0.0, 0.0, 1.0])
    )
    heading = _difference(_heading(rotation_matrix(quaternion)), _heading(tool.rotation)[:, None])
    position = objects[..., :3]

    return Slots(
        position,
        _multiples(heading),
        objects[..., 7:10],
        torch.zeros_like(position[..., 0]),
        present,
        objects[..., 11] > 0.5,
    )


def _scaled(offset: torch.Tensor) -> torch.Tensor:
    return torch.cat(
        [offset * COARSE_SCALE, *(torch.tanh(offset * scale) for scale in FINE_SCALES)], -1
    )


def _relative_angle(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Harmonics of angle a minus angle b, given as harmonics, shape (B, 6)."""
    shape = (*a.shape[:-1], len(HARMONICS), 2)
    return _difference(a.reshape(shape), b.reshape(shape)).flatten(-2)


def task_features(tool: Tool, slots: Slots, part: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
    """Describe the named part and its goal relative to the tool and to each other.

    Args:
        tool: the tool.
        slots: the objects.
        part: shape (B, N), weights of the named part, sum 1.
        goal: shape (B, N), weights of its goal, sum 1.

    Returns:
        Shape (B, FEATURE_WIDTH), float32, about unit scale.
    """

    def pick(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return (weights[..., None] * values).sum(1)

    part_position, goal_position = pick(part, slots.position), pick(goal, slots.position)
    part_angle, goal_angle = pick(part, slots.angle), pick(goal, slots.angle)
    spread = torch.stack([(part * slots.spread).sum(1), (goal * slots.spread).sum(1)], -1)
    opening, offset, gripper = tool.rest[:, :1], tool.rest[:, 1:7], tool.rest[:, 7:]

    return torch.cat(
        [
            _scaled(part_position - tool.position),
            _scaled(goal_position - part_position),
            _scaled(goal_position - tool.position),
            torch.stack([part_position[:, 2], goal_position[:, 2], tool.position[:, 2]], -1)
            * COARSE_SCALE,
            part_angle,
            goal_angle,
            _relative_angle(goal_angle, part_angle),
            pick(part, slots.size) * 20.0,
            pick(goal, slots.size) * 5.0,
            opening * 25.0,
            offset[:, :3] * 30.0,
            offset[:, 3:] * 5.0,
            gripper,
            spread,
        ],
        -1,
    )


FEATURE_WIDTH = 9 * 3 + 3 + 3 * ANGLE_WIDTH + 3 + 3 + 1 + 6 + 1 + 2
