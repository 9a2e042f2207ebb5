"""Files of a processor: they are checked before transformers opens them."""

from pathlib import Path
from typing import Any

from internnav_hf.weights.weight_files import check_file, read_json

_SETTINGS = (
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "config.json",
)
_TABLES = ("tokenizer.json", "vocab.json", "merges.txt", "chat_template.jinja")
_LARGEST_TABLE = 100 << 20  # bytes; Qwen's have 11 million
_BROKEN = (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, RuntimeError)


class ChecksFiles:
    """To be listed before `ProcessorMixin`: missing or broken files are one ValueError."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """transformers' method, with its files checked before."""
        path = pretrained_model_name_or_path
        check_processor_files(path, kwargs.get("subfolder") or "")
        parent: Any = super()
        try:
            return parent.from_pretrained(path, *args, **kwargs)
        except Exception as error:
            # tokenizers raises plain Exception, not a subclass
            if type(error) is not Exception and not isinstance(error, _BROKEN):
                raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise ValueError(
                f"{path} has no processor, or a broken one ({reason}). Copy tokenizer and image "
                "processor from its base model, by save_pretrained."
            ) from error


def check_processor_files(path: str | Path, subfolder: str = "") -> None:
    """Raise ValueError for a file in the folder `path` that no processor can be read from."""
    folder = Path(path, subfolder)
    if not folder.is_dir():
        return
    for name in _SETTINGS:
        if (folder / name).is_symlink() or (folder / name).exists():
            read_json(folder / name, "settings")
    for name in _TABLES:
        file = folder / name
        if file.is_symlink() or file.exists():
            size = check_file(file, "a part of a tokenizer").stat().st_size
            if size > _LARGEST_TABLE:
                raise ValueError(f"{file}: found {size} bytes, expected fewer.")
