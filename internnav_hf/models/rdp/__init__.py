"""RDP, the recurrent diffusion policy."""
