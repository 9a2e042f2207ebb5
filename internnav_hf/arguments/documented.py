"""Names of options and fields in InternNav's documentation and scripts, and their names here."""

from internnav_hf.models.common.config import DOCUMENTED_FIELDS

_FIELD = "a field of the file that --model_config names"

# Documented names -> options, in the order of preference if recipes differ.
_NAMES = {
    "batch_size train_batch_size": "per_device_train_batch_size",
    "eval_batch_size": "per_device_eval_batch_size",
    "epochs num_epochs": "num_train_epochs",
    "lr": "learning_rate",
    "num_workers workers": "dataloader_num_workers",
    "dataset_navdp root_dir lerobot_features_dir preload data_path": "data_root",
    "vln_dataset_use dataset_use": "datasets groups scans",
    "finetune": "train_rgb_encoder model_config",
    "image_size memory_size predict_size temporal_depth heads token_dim": "model_config",
    "dropout pixel_channel": "model_config",
    "model_name": "model vlm",
    "model_name_or_path pretrained_model_name_or_path": "vlm system2 model init_from",
    "ckpt_to_load": "init_from model",
    "load_from_ckpt": "resume_from_checkpoint",
    "mm_projector_lr": "merger_learning_rate",
    "vision_tower_lr": "vision_tower_learning_rate",
    "tune_mm_vision": "tune_vision_tower",
    "tune_mm_mlp": "tune_merger",
    "tune_mm_llm": "tune_language_model",
    "n_latent_query": "num_queries",
    "num_history": "num_frames",
    "warmup_ratio": "warmup_steps",
    "evaluation_strategy": "eval_strategy",
    "no_cuda": "use_cpu",
    "logging_dir": "output_dir",
    "exp_name": "name",
    "gpus num_gpus nproc_per_node": "",
}
DOCUMENTED = {name: tuple(_NAMES[names].split()) for names in _NAMES for name in names.split()}
_REMARKS = {
    "warmup_ratio": "; below 1 it is the share of all steps",
    "preload": "; the index is made once and kept by itself",
    "logging_dir": "; logs are below it",
}


def hint_of(name: str, known: set[str]) -> str | None:
    """Return what to write instead of the documented `name` if the options `known` exist; None if
    it is not documented.
    """
    if name not in DOCUMENTED:
        return None
    if not DOCUMENTED[name]:
        return "processes are the launcher's: accelerate launch --num_processes N"
    target = next((option for option in DOCUMENTED[name] if option in known), None)
    if target is None:
        return None
    if target == "model_config":
        return f"it is {DOCUMENTED_FIELDS.get(name, name)!r}, {_FIELD}"
    return f"did you mean {target!r}?{_REMARKS.get(name, '')}"
