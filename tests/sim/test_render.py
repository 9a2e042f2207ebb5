import numpy as np

from internnav_hf.camera import CameraSpec
from internnav_hf.geometry import camera_pose, lift
from internnav_hf.sim.render import BACKGROUND, Renderer, top_down
from tests.sim.boxes import hall

CAMERA = CameraSpec(width=64, height=48)


def test_depth_is_the_distance_along_the_axis_and_not_along_the_ray():
    view = Renderer(hall()).render(camera_pose(1, 3, 0, 1.25, 0), CAMERA)
    assert np.allclose(view.depth[24, 12:52], 5.0, atol=1e-4)  # a wall square to the view


def test_depth_lifts_to_the_floor():
    pose = camera_pose(3, 3, 0.7, 1.25, np.radians(30))
    view = Renderer(hall()).render(pose, CAMERA)
    columns, rows = np.meshgrid(np.arange(20, 44), np.arange(30, 48))
    uv = np.stack([columns.ravel(), rows.ravel()], axis=1)
    points = lift(uv + 0.5, view.depth[uv[:, 1], uv[:, 0]], pose, CAMERA.intrinsics)
    assert np.allclose(points[:, 2], 0, atol=1e-4)


def test_the_nearer_of_two_boxes_hides_the_other():
    near, far = ((2, 3, 0.75), (0.4, 1.6, 1.5)), ((4, 3, 0.5), (0.4, 0.4, 1.0))
    renderer = Renderer(hall(near, far))
    ahead = renderer.render(camera_pose(0.5, 3, 0, 1.25, 0), CAMERA)
    assert set(np.unique(ahead.instances)) == {0, 1}
    from_behind = renderer.render(camera_pose(5.5, 3, np.pi, 1.25, 0), CAMERA)
    assert set(np.unique(from_behind.instances)) == {0, 1, 2}


def test_where_nothing_is_there_is_no_depth():
    view = Renderer(hall()).render(camera_pose(3, 3, 0, 1.25, -1.2), CAMERA)
    sky = view.depth == 0
    assert sky.any()
    assert (view.rgb[sky] == BACKGROUND).all()


def test_one_pose_gives_one_picture(scene):
    pose = camera_pose(*scene.objects[0].position, 0.3, 1.25, 0.5)
    views = [Renderer(scene).render(pose, CAMERA) for _ in range(2)]
    assert np.array_equal(views[0].rgb, views[1].rgb)
    assert views[0].rgb.shape == (48, 64, 3)
    assert views[0].rgb.dtype == np.uint8
    assert views[0].depth.dtype == np.float32


def test_furniture_on_the_plan_is_where_it_stands(scene):
    plan, T_pixel_world = top_down(scene)
    for thing in scene.objects:
        if thing.kind not in ("box", "cabinet", "barrel", "table"):
            continue
        column, row = (T_pixel_world @ [*thing.position, 1]).astype(int)
        face = scene.face_colors[scene.face_instance == thing.instance_id][0].astype(float)
        seen = plan[row, column].astype(float)
        assert np.dot(seen, face) / np.linalg.norm(seen) / np.linalg.norm(face) > 0.99
