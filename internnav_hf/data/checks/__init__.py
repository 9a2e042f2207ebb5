"""Checks that every format shares: actions, poses, depth, cameras, images."""
