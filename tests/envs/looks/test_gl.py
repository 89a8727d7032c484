"""The OpenGL renderer: TinyRenderer's pictures, the same bytes wherever and whenever they are drawn."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pybullet
import pytest
from cell_episodes import build
from PIL import Image

from shopfloor.core import InvalidInputError, MissingDependencyError, ShopfloorError
from shopfloor.envs.description import variations_of
from shopfloor.envs.experts.scripted import make_expert
from shopfloor.envs.looks.camera import Camera, Light
from shopfloor.envs.looks.drawing import CYLINDER_MESH, Drawing
from shopfloor.envs.looks.gl import meshes as gl_meshes
from shopfloor.envs.looks.gl import renderer as gl
from shopfloor.envs.physics.textures import texture_file

PANDA = CYLINDER_MESH.parent / "panda" / "panda.urdf"
SIZE = (96, 96)
ABOVE = Camera("above", eye=(1.4, 0.9, 0.9), target=(0.2, 0.0, 0.25))
SLANTED = Light((0.6, 0.5, 0.8), (0.9, 1.0, 0.95), 0.5, 0.4)
MOVED = (0.1, -0.5, 0.2, -2.1, 0.3, 1.8, 0.6)


@pytest.fixture(scope="module")
def renderer():
    """A renderer, or a skip that says why there is none."""
    pytest.importorskip("moderngl")
    try:
        return gl.GlRenderer()
    except MissingDependencyError as error:
        pytest.skip(str(error))


@pytest.fixture
def client(renderer):
    """A client with an arm, a table, and the kinds of shapes that cells are made of."""
    opened = furnish()
    yield opened
    renderer.forget(opened)
    pybullet.disconnect(opened)


def furnish() -> int:
    client = pybullet.connect(pybullet.DIRECT)
    shape, mesh = pybullet.createVisualShape, pybullet.GEOM_MESH
    body = pybullet.createMultiBody
    table = shape(
        pybullet.GEOM_BOX,
        halfExtents=[0.8, 0.8, 0.025],
        rgbaColor=[0.55, 0.57, 0.6, 1],
        physicsClientId=client,
    )
    body(0, -1, table, [0.4, 0.0, -0.025], physicsClientId=client)
    arm = pybullet.loadURDF(
        str(PANDA), [-0.1, 0.1, 0.0], [0, 0, 0.1, 0.995], useFixedBase=True, physicsClientId=client
    )
    for joint, angle in enumerate(MOVED):
        pybullet.resetJointState(arm, joint, angle, physicsClientId=client)
    ring = shape(
        mesh,
        fileName=str(CYLINDER_MESH),
        meshScale=[0.05, 0.05, 0.1],
        rgbaColor=[0.2, 0.7, 0.3, 1],
        physicsClientId=client,
    )
    body(0, -1, ring, [0.5, 0.3, 0.05], [0.1, 0.2, 0.3, 0.93], physicsClientId=client)
    pair = pybullet.createVisualShapeArray(
        shapeTypes=[pybullet.GEOM_BOX] * 2,
        halfExtents=[[0.02, 0.1, 0.03], [0.06, 0.02, 0.05]],
        visualFramePositions=[[0.0, 0.1, 0.0], [0.1, 0.0, 0.02]],
        visualFrameOrientations=[[0, 0, 0.38, 0.92], [0, 0, 0, 1]],
        rgbaColors=[[0.9, 0.3, 0.1, 1], [0.1, 0.3, 0.9, 1]],
        physicsClientId=client,
    )
    body(0, -1, pair, [0.35, -0.3, 0.06], [0.05, 0.0, 0.2, 0.97], physicsClientId=client)
    return client


def extrinsics(camera=ABOVE):
    return camera.extrinsics(np.zeros(3), np.eye(3))


def draw(renderer, client, camera=ABOVE, size=SIZE, light=SLANTED, **options):
    return renderer.draw(client, extrinsics(camera), camera.fov_deg, size, light, **options)


def digest(view):
    return hashlib.sha256(b"".join(part.tobytes() for part in view)).hexdigest()


def tiny(client, camera=ABOVE, size=SIZE, light=SLANTED):
    drawing = Drawing()
    drawing.client = client
    drawing.follow = lambda world: False
    return drawing.look(None, camera, extrinsics(camera), size, light)


def interior(ids):
    """Return where a pixel's eight neighbours have its id."""
    inside = np.zeros(ids.shape, bool)
    inside[1:-1, 1:-1] = True
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            inside &= np.roll(ids, (down, right), (0, 1)) == ids
    return inside


def assert_alike(mine, theirs):
    """Measured on all cells: 1 pixel of 16384 has another id, colours differ by 0.02 on average, depth by nothing."""
    same = mine.ids == theirs.ids
    assert same.mean() > 0.995
    seen = same & (theirs.ids >= 0)
    difference = np.abs(mine.rgb.astype(int) - theirs.rgb.astype(int))
    assert difference[seen].mean() < 0.3
    inside = seen & interior(theirs.ids)
    assert np.percentile(difference[inside], 99) <= 2
    assert (np.abs(mine.depth - theirs.depth)[same] < 0.001).mean() > 0.995


# -- Like TinyRenderer -----------------------------------------------------------------------------


@pytest.mark.parametrize("variation", ["nominal", "texture", "clutter"])
def test_cells_look_as_with_tiny(renderer, cell, variation):
    drawing, expert = Drawing(), make_expert(cell.cell_id)
    known = variations_of(cell.task)
    for seed in (600_001, 600_002):
        _, info = cell.reset(
            seed=seed, options={"variation": variation if variation in known else "nominal"}
        )
        expert.reset(seed, info["instruction"])
        for step in range(21):
            if step % 20 == 0:
                compare(renderer, cell, drawing)
            observation = {**cell.observe(()), "object_names": cell.object_names}
            cell.advance(expert.act(observation).actions[0])
    renderer.forget(drawing.client)
    drawing.close()


def compare(renderer, cell, drawing):
    for camera in cell.task.cameras:
        pose = cell.camera_track(camera.name)[1]
        theirs = drawing.look(cell.world, camera, pose, SIZE, cell._light)
        client = drawing.client
        renderer.refresh(client)
        for body in range(pybullet.getNumBodies(client)):
            name = cell.world.textures.get(body)
            renderer.set_texture(
                client,
                body,
                np.asarray(Image.open(texture_file(name)).convert("RGB")) if name else None,
            )
        near, far = camera.near_m, camera.far_m
        mine = renderer.draw(
            client, pose, camera.fov_deg, SIZE, cell._light, near_m=near, far_m=far
        )
        assert_alike(mine, theirs)
        assert len(np.unique(mine.ids)) > 2  # there was something to compare
        direct = renderer.draw(
            client,
            pose,
            camera.fov_deg,
            SIZE,
            cell._light,
            near_m=near,
            far_m=far,
            poses=cell.world.client,
        )
        assert (direct.ids == mine.ids).mean() > 0.999


@pytest.mark.parametrize("size", [(16, 16), (48, 96), (224, 128)])
def test_every_kind_of_shape_looks_as_with_tiny(renderer, client, size):
    theirs = tiny(client, size=size)
    assert len(np.unique(theirs.ids)) > 8
    assert_alike(draw(renderer, client, size=size), theirs)


def test_colours_follow_after_refresh_and_clear_bodies_vanish(renderer, client):
    draw(renderer, client)
    pybullet.changeVisualShape(2, -1, rgbaColor=[0.9, 0.1, 0.1, 1], physicsClientId=client)
    pybullet.changeVisualShape(3, -1, rgbaColor=[1, 1, 1, 0], physicsClientId=client)
    renderer.refresh(client)
    mine = draw(renderer, client)
    assert_alike(mine, tiny(client))
    assert (mine.ids == 2).sum() > 20
    assert not (mine.ids == 3).any()


def test_a_box_wears_its_texture_as_with_tiny(renderer, client, tmp_path):
    ramp = np.zeros((64, 32, 3), np.uint8)
    ramp[..., 0], ramp[..., 1], ramp[..., 2] = 8 * np.arange(32), 4 * np.arange(64)[:, None], 99
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    loaded = pybullet.loadTexture(str(tmp_path / "ramp.png"), physicsClientId=client)
    bare = draw(renderer, client)
    pybullet.changeVisualShape(0, -1, textureUniqueId=loaded, physicsClientId=client)
    renderer.set_texture(client, 0, ramp)
    for eye in ((0.9, 0.5, 0.8), (-0.9, -0.9, -0.6)):  # three faces each
        camera = Camera("round", eye=eye, target=(0.3, 0.0, 0.0), fov_deg=80.0)
        mine = draw(renderer, client, camera)
        assert_alike(mine, tiny(client, camera))
        assert len(np.unique(mine.rgb[mine.ids == 0], axis=0)) > 50
    renderer.set_texture(client, 0, None)
    assert digest(draw(renderer, client)) == digest(bare)


def test_nothing_is_seen_where_nothing_is(renderer):
    client = pybullet.connect(pybullet.DIRECT)
    view = draw(renderer, client, size=(16, 24), far_m=2.5)
    assert view.rgb.shape == (16, 24, 3)
    pybullet.disconnect(client)
    renderer.forget(client)
    assert (view.rgb == 255).all()
    assert (view.ids == -1).all()
    assert (view.depth == np.float32(2.5)).all()
    assert (view.rgb.dtype, view.depth.dtype, view.ids.dtype) == (np.uint8, np.float32, np.int32)


def test_depth_is_along_the_optical_axis_in_metres(renderer, client):
    down = Camera(
        "down", eye=(0.5, -0.6, 1.0), target=(0.5, -0.6, 0.0), up=(0.0, 1.0, 0.0), fov_deg=20.0
    )
    view = draw(renderer, client, down)
    np.testing.assert_allclose(view.depth, 1.0, atol=1e-5)


def test_spheres_and_capsules_are_as_large_as_they_are(renderer):
    client = pybullet.connect(pybullet.DIRECT)
    ball = pybullet.createVisualShape(pybullet.GEOM_SPHERE, radius=0.1, physicsClientId=client)
    pill = pybullet.createVisualShape(
        pybullet.GEOM_CAPSULE, radius=0.05, length=0.2, physicsClientId=client
    )
    rod = pybullet.createVisualShape(
        pybullet.GEOM_CYLINDER, radius=0.05, length=0.3, physicsClientId=client
    )
    for place, visual in ((-0.3, ball), (0.0, pill), (0.3, rod)):
        pybullet.createMultiBody(0, -1, visual, [place, 0, 0], physicsClientId=client)
    side = Camera("side", eye=(0.0, -20.0, 0.0), target=(0.0, 0.0, 0.0), fov_deg=2.4)
    view = draw(renderer, client, side, (256, 256), far_m=30.0)
    pybullet.disconnect(client)
    renderer.forget(client)
    per_m = 256 / (40.0 * np.tan(np.radians(1.2)))
    for body, (width, height) in enumerate(((0.2, 0.2), (0.1, 0.3), (0.1, 0.3))):
        rows, columns = np.nonzero(view.ids == body)
        assert abs(np.ptp(columns) + 1 - width * per_m) < 3, body
        assert abs(np.ptp(rows) + 1 - height * per_m) < 3, body
    for body in range(3):  # nearest to the eye on the axis: surfaces face outwards
        assert view.depth[view.ids == body].min() < 20.0 - 0.045


def test_shadows_darken_what_the_lamp_does_not_reach(renderer, client):
    lamp = Light((-0.6, 0.0, 0.8), ambient=0.5, diffuse=0.4)
    lit, shaded = (
        draw(renderer, client, light=lamp),
        draw(renderer, client, light=lamp, shadows=True),
    )
    np.testing.assert_array_equal(lit.ids, shaded.ids)
    np.testing.assert_array_equal(lit.depth, shaded.depth)
    assert (shaded.rgb <= lit.rgb).all()
    table = lit.ids == 0
    darker = (lit.rgb.astype(int) - shaded.rgb.astype(int))[table].max(1)
    assert 0.02 < (darker > 5).mean() < 0.4
    # The cylinder's shadow lies away from the lamp, not beside it.
    assert at_table(lit, shaded, 0.58, 0.3) > 5
    assert at_table(lit, shaded, 0.50, 0.42) == 0
    assert at_table(lit, shaded, 0.7, -0.7) == 0  # nor where nothing is


def at_table(lit, shaded, x, y):
    """Return how much darker a place on the table is in the second picture."""
    pose = extrinsics()
    point = ABOVE.intrinsics(SIZE) @ (pose[:3, :3].T @ (np.array([x, y, 0.0]) - pose[:3, 3]))
    column, row = (point[:2] / point[2]).astype(int)
    assert lit.ids[row, column] == 0
    return int(lit.rgb[row, column].astype(int).max() - shaded.rgb[row, column].astype(int).max())


# -- The same bytes --------------------------------------------------------------------------------


def test_same_state_same_bytes_whatever_was_drawn_between(renderer, client):
    first = {shadows: digest(draw(renderer, client, shadows=shadows)) for shadows in (False, True)}
    other = build("PickToTray")
    other.reset(seed=3)
    drawing = Drawing()
    for size in ((16, 16), (64, 48), SIZE):
        drawing.follow(other.world)
        draw(renderer, drawing.client, size=size, shadows=True)
    assert digest(draw(renderer, client, shadows=True)) == first[True] != first[False]
    assert digest(draw(renderer, client)) == first[False]
    assert digest(draw(gl.GlRenderer(), client)) == first[False]
    renderer.forget(client)
    renderer.forget(drawing.client)
    drawing.close()
    other.close()
    assert digest(draw(renderer, client)) == first[False]


def test_bodies_that_moved_and_were_rebuilt_are_seen_where_they_are(renderer, client):
    before = digest(draw(renderer, client))
    pybullet.resetBasePositionAndOrientation(2, [0.4, 0.2, 0.1], [0, 0, 0, 1], client)
    pybullet.resetJointState(1, 3, -1.5, physicsClientId=client)
    moved = draw(renderer, client)
    assert digest(moved) != before
    assert_alike(moved, tiny(client))
    pybullet.removeBody(3, physicsClientId=client)
    renderer.refresh(client)
    fewer = draw(renderer, client)
    assert not (fewer.ids == 3).any()
    assert_alike(fewer, tiny(client))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_draws_the_same_and_leaves_the_parent_alone(renderer, client):
    expected = digest(draw(renderer, client))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(30)  # ends a child that hangs
            os.write(write, digest(draw(renderer, client)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        assert answer.read() == expected
    os.waitpid(child, 0)
    assert digest(draw(renderer, client)) == expected


def test_another_thread_draws_the_same(renderer, client):
    expected = digest(draw(renderer, client))
    found = []
    thread = threading.Thread(target=lambda: found.append(digest(draw(renderer, client))))
    thread.start()
    thread.join()
    assert found == [expected]
    assert digest(draw(renderer, client)) == expected


def test_a_new_process_draws_the_same(renderer, client):
    code = (
        "import test_gl as t; print(t.digest(t.draw(t.gl.GlRenderer(), t.furnish(), shadows=True)))"
    )
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (here, here.parent)))}
    environment.pop("PYTHONSAFEPATH", None)
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert run.stdout.split()[-1] == digest(draw(renderer, client, shadows=True))


def test_many_sizes_and_clients_leave_nothing_behind(renderer, client):
    for edge in range(16, 48):
        draw(renderer, client, size=(edge, edge))
    assert len(renderer._device._framebuffers) <= 8
    renderer.forget(client)
    renderer.forget(client)
    assert client not in renderer._scenes


# -- Errors ----------------------------------------------------------------------------------------


def test_without_moderngl_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(gl, "_devices", {})
    monkeypatch.setitem(sys.modules, "moderngl", None)
    with pytest.raises(
        MissingDependencyError, match=r"pip install -e '\.\[gl\]'.*; or use renderer=\"tiny\""
    ):
        gl.GlRenderer()


def test_without_egl_the_message_names_the_system_libraries(monkeypatch):
    moderngl = pytest.importorskip("moderngl")

    def fail(**_):
        raise RuntimeError("libEGL.so not loaded")

    monkeypatch.setattr(gl, "_devices", {})
    monkeypatch.setattr(moderngl, "create_context", fail)
    with pytest.raises(ShopfloorError, match=r"libEGL\.so not loaded.*libegl1 libgl1-mesa-dri"):
        gl.GlRenderer()


def test_importing_the_module_needs_no_moderngl():
    code = "import sys; sys.modules['moderngl'] = None; import shopfloor.envs.looks.gl.renderer"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "picture",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)],
)
def test_textures_of_other_kinds_are_refused(renderer, picture):
    with pytest.raises(InvalidInputError, match="Texture of body 0"):
        renderer.set_texture(0, 0, picture)
    renderer.forget(0)


@pytest.mark.parametrize("text", ["", "v 0 0 0\nf 1 2 3\n", "v 0 0 x\n"])
def test_meshes_that_are_none_are_refused(tmp_path, text):
    (tmp_path / "bad.obj").write_text(text)
    with pytest.raises(InvalidInputError, match=r"bad\.obj.*renderer=\"tiny\""):
        gl_meshes.read_obj(tmp_path / "bad.obj")


def test_obj_faces_may_be_polygons_lack_normals_and_count_backwards(tmp_path):
    path = tmp_path / "square.obj"
    path.write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf -4 -3 -2 -1\n")
    mesh = gl_meshes.read_obj(path)
    assert mesh.vertices.shape == (4, 8)
    np.testing.assert_array_equal(mesh.vertices[:, 3:6], [[0, 0, 1]] * 4)
    assert mesh.triangles.shape == (2, 3)
    corners = mesh.vertices[mesh.triangles][:, :, :3]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    np.testing.assert_array_equal(across, [[0, 0, 1]] * 2)


def test_the_name_tells_renderer_and_version(renderer):
    assert "OpenGL" in renderer.renderer_name
