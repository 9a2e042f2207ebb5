"""System2: a Qwen-VL model with a pixel-goal head."""
