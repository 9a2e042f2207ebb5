"""Proximal policy optimisation of DD-PPO in the embedded simulator."""
