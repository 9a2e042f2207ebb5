"""The vln_ce layout: LeRobot folders of walks in continuous environments."""
