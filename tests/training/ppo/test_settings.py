import pytest

from internnav_hf.camera import CameraSpec
from internnav_hf.models.ddppo.config import DDPPOConfig
from internnav_hf.training.ppo.settings import PPOArguments, SceneArguments, cores_per_process


def test_frames_become_optimisation_steps():
    settings = PPOArguments(num_frames=10_000, num_environments=4, rollout_steps=128)
    assert settings.optimisation_steps(1) == 20 * 4
    assert settings.optimisation_steps(2) == 10 * 4


def test_each_minibatch_has_an_environment():
    with pytest.raises(ValueError, match="num_minibatches: found 3, expected at most .* 2"):
        PPOArguments(num_environments=2, num_minibatches=3)
    with pytest.raises(ValueError, match="discount: found 2, expected 0 to 1"):
        PPOArguments(discount=2)


def test_the_task_of_a_model():
    config = DDPPOConfig(image_height=96, image_width=128, min_depth_m=0.5, max_depth_m=5.0)
    task = SceneArguments(scenes=3, allow_sliding=False, density="hard").task(config, seed=0)
    assert (task.camera.height, task.camera.width, task.camera.height_m) == (96, 128, 0.88)
    assert task.depth_range_m == (0.5, 5.0)
    assert len(set(task.sources)) == 3
    assert not task.rules.allow_sliding
    assert task.config.objects_per_m2 == 0.42
    own = SceneArguments(num_rooms=[1, 1]).task(config, seed=0).config
    assert (own.num_rooms, own.num_objects) == ((1, 1), (5, 8))
    cloned = DDPPOConfig(
        image_height=96,
        image_width=128,
        turn_angle_deg=15.0,
        camera=CameraSpec(width=64, height=64, height_m=0.5, hfov_deg=90).to_dict(),
    )
    task = SceneArguments(pitch=10).task(cloned, seed=0)
    camera = CameraSpec(width=64, height=64, height_m=0.5, hfov_deg=90, pitch_deg=10)
    assert (task.camera, task.rules.turn_angle_deg) == (camera, 15)
    assert task.view_size == (96, 128)  # the data's view, in the model's size


def test_meshes_are_there_and_instead_of_generated_scenes(tmp_path):
    mesh = tmp_path / "a.glb"
    with pytest.raises(ValueError, match="--meshes .*a.glb: there is no such file"):
        SceneArguments(meshes=[str(mesh)])
    mesh.touch()
    assert SceneArguments(meshes=[str(mesh)]).task(DDPPOConfig(), 0).sources == (str(mesh),)
    with pytest.raises(ValueError, match="--density: found hard, expected none: with --meshes"):
        SceneArguments(meshes=[str(mesh)], density="hard")


def test_processes_share_cores(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    alone = cores_per_process()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert cores_per_process() == max(1, alone // 2)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"action_space": "continuous"}, "action_space: found 'continuous'"),
        ({"has_value_head": False}, "has_value_head: found False"),
    ],
)
def test_a_model_that_acts_otherwise_is_refused(fields, name):
    with pytest.raises(ValueError, match=name):
        SceneArguments().task(DDPPOConfig(**fields), seed=0)
