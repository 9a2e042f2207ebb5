"""Key names of the released NextDiT, in whole InternVLA-N1 checkpoints without `model.`."""

from collections.abc import Mapping

from torch import Tensor

from internnav_hf.models.common.dino import released_dino_keys
from internnav_hf.models.nextdit.config import NextDiTConfig
from internnav_hf.weights.renaming import below, renamed, under, without

# Released names -> ours, in this order.
_NAMES = (
    (r"^traj_dit\.model\.time_caption_embed\.caption_embedder\.", "denoiser.condition_embedder."),
    (r"^traj_dit\.model\.time_caption_embed\.", "denoiser."),
    (r"^traj_dit\.model\.caption_projection\.", "denoiser.condition_projection."),
    (r"^traj_dit\.model\.norm_out\.linear_1\.", "denoiser.output_modulation."),
    (r"^traj_dit\.model\.norm_out\.linear_2\.", "denoiser.output."),
    (r"^traj_dit\.model\.", "denoiser."),
    (r"\.norm1\.linear\.", ".modulation."),
    (r"\.norm1\.norm\.", ".attention_norm."),
    (r"\.norm1_context\.", ".condition_norm."),
    (r"^(denoiser\.layers\.\d+)\.norm2\.", r"\1.attention_output_norm."),
    (r"\.ffn_norm1\.", ".feed_forward_norm."),
    (r"\.ffn_norm2\.", ".feed_forward_output_norm."),
    (r"\.attn2\.to_out\.0\.", ".attention_output."),
    (r"\.attn1\.", ".self_attention."),
    (r"\.attn2\.", ".cross_attention."),
    (r"\.to_q\.", ".to_queries."),
    (r"\.to_k\.", ".to_keys."),
    (r"\.to_v\.", ".to_values."),
    (r"\.norm_q\.", ".query_norm."),
    (r"\.norm_k\.", ".key_norm."),
    (r"^cond_projector\.", "plan_projector."),
    (r"^memory_encoder\.memory_pos$", "memory.encoder.positions"),
    (r"^memory_encoder\.", "memory.encoder."),
    (r"^rgb_resampler\.query_tokens$", "memory.resampler.queries"),
    (r"^rgb_resampler\.query_pos$", "memory.resampler.positions"),
    (r"^rgb_resampler\.", "memory.resampler."),
)
# Unused weights that no loss reaches. DINOv2's mask token is another one.
_UNUSED = ("traj_dit.model.patch_embedder.proj.", "rgb_resampler.visual_proj.")
_VISION = "rgb_model."


def released_keys(state_dict: Mapping[str, Tensor], config: NextDiTConfig) -> dict[str, Tensor]:
    """Rename the weights of a released expert."""
    converted = renamed(without(state_dict, (_VISION, *_UNUSED)), _NAMES)
    return converted | under("vision.", released_dino_keys(below(state_dict, _VISION)))
