"""The vln_n1 layout: LeRobot folders of smooth paths with intrinsics and extrinsics."""
