"""The vln_pe layout: LeRobot folders of walks on a physical robot."""
