"""What DAgger drives through."""

from tests.tiny.scene_set import make_env, scene_set, simulated_data

__all__ = ["make_env", "scene_set", "simulated_data"]
