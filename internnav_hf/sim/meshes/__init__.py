"""Surfaces: furniture, rooms, and the mesh files of users."""
