"""What DAgger drives through."""

from tests.tiny.course import course, make_env, simulated_data

__all__ = ["course", "make_env", "simulated_data"]
