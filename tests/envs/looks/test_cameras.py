"""Views: where cameras stand decides whether camera policies learn (67 points of success in the study)."""

from __future__ import annotations

import numpy as np
import pybullet
from cell_episodes import arms, build, each_arm

from shopfloor.core import seed_stream
from shopfloor.envs.conditions import draw_light
from shopfloor.envs.experts.scripted import make_expert
from shopfloor.envs.physics.kinematics import matrix
from shopfloor.envs.robots.hand import Cup
from shopfloor.envs.robots.mobile import Base
from shopfloor.envs.variation import VARIATIONS

SIZE = 96
LEAST_PX = {"shopfloor/ShelfPick-v0": 3}  # its view shows the whole way to the rack


def bodies_seen(cell, camera):
    ids = cell.segment(camera)
    return np.where(ids >= 0, ids & ((1 << 24) - 1), -1)


def links_seen(cell, camera):
    ids = cell.segment(camera)
    robot = (ids >= 0) & ((ids & ((1 << 24) - 1)) == arms(cell)[0].body)
    return np.where(robot, (ids >> 24) - 1, -2)


def work_area(cell):
    """Return the bodies that make up the work area: those of the task, and robots that drive."""
    bodies = [
        body for body, there in zip(cell.task.bodies, cell.task.present, strict=True) if there
    ]
    members = getattr(cell.robot, "members", (cell.robot,))
    return bodies + [member.body for member in members if isinstance(member, Base)]


def expert_until(cell, seed, wanted):
    """Step the expert until `wanted(cell)`; returns whether it came to that."""
    expert = make_expert(cell.cell_id)
    _, info = cell.reset(seed=seed)
    expert.reset(seed, info["instruction"])
    for _ in range(cell.max_episode_steps):
        if wanted(cell):
            return True
        observation = {**cell.observe(()), "object_names": cell.object_names}
        _, terminated, truncated, _ = cell.advance(expert.act(observation).actions[0])
        if terminated or truncated:
            return False
    return False


def distance_to_part(cell):
    """From the first arm's tool to the part's middle, or to the middle line of a long one, m."""
    pose = cell.world.poses[cell.world.bodies.index(cell.task.named_body)]
    half = 0.5 * np.array(cell.task.items[cell.task.bodies.index(cell.task.named_body)].size)
    line = np.where(half > 3 * half.min(), half, 0.0)
    off = matrix(pose[3:]).T @ (arms(cell)[0].frame()[0] - pose[:3])
    return float(np.linalg.norm(off - np.clip(off, -line, line)))


def test_wrist_view_shows_both_fingertips_and_the_part_at_the_grasp_point(arm_cell):
    cell = arm_cell
    if isinstance(arms(cell)[0].hand, Cup):  # a cup hides what it holds
        return
    for seed in range(600_010, 600_016):
        assert expert_until(cell, seed, lambda c: distance_to_part(c) < 0.02)
        links = links_seen(cell, "wrist")
        assert all((links == finger).sum() > 60 for finger in arms(cell)[0].hand.joints), seed
        part = bodies_seen(cell, "wrist") == cell.task.named_body
        assert part.sum() > 350, seed
        _rows, columns = np.nonzero(part)
        assert abs(columns.mean() - SIZE / 2) < SIZE / 6
        left, right = (
            np.nonzero(links == finger)[1].mean() for finger in arms(cell)[0].hand.joints
        )
        assert min(left, right) < columns.mean() < max(left, right)


def test_wrist_view_still_shows_the_part_from_above(arm_cell):
    cell = arm_cell
    for seed in range(600_010, 600_016):
        assert expert_until(cell, seed, lambda c: distance_to_part(c) < 0.09)
        assert (bodies_seen(cell, "wrist") == cell.task.named_body).sum() > 60, seed


def test_front_view_is_filled_by_the_work_area(cell):
    seen = np.zeros((SIZE, SIZE), dtype=bool)
    for seed in range(60):
        cell.reset(seed=seed)
        bodies = bodies_seen(cell, "front")
        assert (bodies == -1).mean() < 0.02  # the table fills the background
        seen |= np.isin(bodies, work_area(cell))
    rows, columns = np.nonzero(seen)
    assert np.ptp(columns) > 0.70 * SIZE
    assert np.ptp(rows) > 0.40 * SIZE
    assert min(rows.min(), SIZE - 1 - rows.max()) > 2  # and nothing of it is cut off


def test_front_view_shows_the_named_part_at_the_start(cell):
    for seed in range(30):
        cell.reset(seed=seed)
        seen = (bodies_seen(cell, "front") == cell.task.named_body).sum()
        assert seen >= LEAST_PX.get(cell.cell_id, 12), seed


def test_tracks_project_bodies_where_they_are_drawn(arm_cell):
    cell = arm_cell
    cell.reset(seed=3)
    for _ in range(3):
        cell.advance(each_arm(cell, [0.3, 0.2, -0.5, 0, 0, 0.5, -1]))
    intrinsics, pose = cell.camera_track("front")
    assert intrinsics.shape == (3, 3)
    assert pose.shape == (4, 4)
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(pose[:3, :3]) > 0.99
    bodies = bodies_seen(cell, "front")
    checked = 0
    for body, item, there in zip(cell.task.bodies, cell.task.items, cell.task.present, strict=True):
        rows, columns = np.nonzero(bodies == body)
        # The middle of a rack is not that of its picture.
        if (
            not there
            or item.is_goal
            or item.name == "rack"
            or len(rows) < LEAST_PX.get(cell.cell_id, 15)
        ):
            continue
        position, _ = pybullet.getBasePositionAndOrientation(
            body, physicsClientId=cell.world.client
        )
        point = intrinsics @ (pose[:3, :3].T @ (np.array(position) - pose[:3, 3]))
        assert abs(point[0] / point[2] - columns.mean() - 0.5) < 3
        assert abs(point[1] / point[2] - rows.mean() - 0.5) < 3
        checked += 1
    assert checked >= 1
    _, before = cell.camera_track("wrist")
    cell.advance(each_arm(cell, [0, 0, 1.0, 0, 0, 0, -1]))
    _, after = cell.camera_track("wrist")
    assert after[2, 3] > before[2, 3] + 0.005  # it rides on the tool


def test_any_camera_may_be_asked_for_at_any_size():
    for size in ((16, 16), (48, 96), (128, 128)):
        cell = build("PickToTray", image_size=size)
        cell.reset(seed=1)
        for name, picture in cell.observe(["wrist", "front"]).items():
            if name in ("wrist", "front"):
                assert picture.shape == (*size, 3)
                assert picture.dtype == np.uint8
                assert picture.std() > 5
        cell.close()


def test_light_and_colours_change_with_the_seed_but_mildly(cell):
    means = []
    for seed in range(20):
        cell.reset(seed=seed)
        means.append(cell.observe(["front"])["front"].mean(axis=(0, 1)))
    means = np.array(means)
    assert 2 < means.std(axis=0).mean() < 30
    assert means.min() > 60
    assert means.max() < 220


def test_lights_are_stored_whole():
    rng = seed_stream(1, "cell")
    for _ in range(50):
        light = draw_light(VARIATIONS["nominal"], rng, None)
        assert type(light).from_row(light.to_row()) == light
        assert 0.3 < light.ambient + light.diffuse < 1.3
        assert all(0.9 <= channel <= 1.0 for channel in light.colour)
