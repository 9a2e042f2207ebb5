"""Triangle meshes: generated furniture and rooms, and users' mesh files."""
