"""Scenes that planners learn in: the layouts of iPlanner and ViPlanner, and recorded walks."""
