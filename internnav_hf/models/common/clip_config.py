"""Sizes of the CLIP towers of RDP and of CMA over CLIP: those of Long-CLIP-B.

Apart from `clip.py` so that configurations import no modelling code.
"""

# The ids serve only CLIP's pooled output, which no policy uses, but must lie in the vocabulary.
_UNREAD_IDS = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
LONG_CLIP_TEXT = {"max_position_embeddings": 248} | _UNREAD_IDS
LONG_CLIP_VISION = {"patch_size": 16}
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
GRID = 2  # side of the grid of averaged patches, which follow the class token
NUM_IMAGE_TOKENS = 1 + GRID**2
