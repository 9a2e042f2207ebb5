"""NextDiT, the action expert of DualVLN."""
