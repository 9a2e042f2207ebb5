"""The embedded simulator: rooms, ray-cast RGB-D, navigable space, episodes, a gymnasium
environment.

Heavy libraries (trimesh, embreex, scikit-image, gymnasium) load with the module that uses them.
"""
