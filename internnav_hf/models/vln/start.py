"""Initial weights of Seq2Seq, CMA and RDP: pretrained encoders of depth, images and words.

A model is built without any of them. The same files serve all three.
"""

import gzip
import json
import logging
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel, ResNetModel
from transformers.utils import CONFIG_NAME

from internnav_hf.models.common.clip import load_clip
from internnav_hf.models.common.depth_resnet import DepthResNet
from internnav_hf.models.common.rgb_resnet import RGBResNet, torchvision_resnet_keys
from internnav_hf.models.ddppo.released import visual_encoder_weights
from internnav_hf.weights.checkpoints import published_type
from internnav_hf.weights.inert_pickle import read_tensors
from internnav_hf.weights.loading import check_is_checkpoint, fill, load_published
from internnav_hf.weights.renaming import under
from internnav_hf.weights.weight_files import TENSOR_FILES, check_file

logger = logging.getLogger(__name__)

RANDOM = "random"
_LONGEST_NUMBER = 40  # characters in JSON
_ENCODERS = ("depth_encoder", "rgb_encoder", "text_encoder")
_WORDS = "instruction_encoder.word_embeddings."
_FILES = (*TENSOR_FILES, ".gz")
_COUNTER = "num_batches_tracked"  # old files do not have it


def start_vln(
    model: PreTrainedModel,
    depth_encoder: str | None = None,
    rgb_encoder: str | None = None,
    text_encoder: str | None = None,
    word_embeddings: str | None = None,
) -> None:
    """Initialise parts of `model` from the given sources; None or "random" leaves them unchanged.

    Any of them may be a checkpoint of ours, folder or Hub name, that has such a part, as a DD-PPO
    that sees depth alone has a `depth_encoder`. Otherwise `depth_encoder` is a file of DD-PPO;
    `rgb_encoder` a ResNet or, for RDP, a CLIP, and `text_encoder` a CLIP, see `load_rgb_encoder`
    and `load_clip`; `word_embeddings` VLN-CE's `embeddings.json.gz`. Raises ValueError for a source
    that does not exist or does not fit, and for a part that `model` does not have.
    """
    sources = {
        "depth_encoder": depth_encoder,
        "rgb_encoder": rgb_encoder,
        "text_encoder": text_encoder,
        "word_embeddings": word_embeddings,
    }
    parts = _parts(model)
    for name, source in sources.items():
        if source in (None, RANDOM):
            continue
        if name not in parts:
            raise ValueError(
                f"--{name} {source}: a {type(model).__name__} has none, only {sorted(parts)}."
            )
        load_part(name, parts[name], source)
    for name, part in parts.items():
        learns = any(parameter.requires_grad for parameter in part.parameters())
        if sources[name] is None and not learns:
            logger.warning("--%s: None, so that it stays frozen with random numbers.", name)


def encoder_weights(
    file: Path, weights: Mapping[str, Tensor], model: PreTrainedModel, encoders: dict[str, str]
) -> dict[str, Tensor]:
    """State dict of the parts in `encoders`, named as in `model`, which is on the meta device.

    Their options are those of `start_vln`. Raises ValueError for a part that neither they nor the
    `weights` in `file` have.
    """
    parts = _parts(model)
    unknown = sorted(encoders.keys() - parts.keys())
    if unknown:
        raise ValueError(f"encoders: found {unknown}, expected some of {sorted(parts)}.")
    prefixes = {name: _WORDS if name == "word_embeddings" else f"{name}." for name in parts}
    present = {
        name for name, start in prefixes.items() if any(k.startswith(start) for k in weights)
    }
    missing = sorted(parts.keys() - present - encoders.keys())
    if missing:
        hint = ", ".join(f"{name!r}: FILE" for name in missing)
        raise ValueError(
            f"{file}: found no {', '.join(missing)}: frozen parts were left out. Name what they "
            f"were, with encoders={{{hint}}}, or with options of these names."
        )
    found = {}
    for name, source in encoders.items():
        load_part(name, parts[name].to_empty(device="cpu"), source)
        found |= under(prefixes[name], parts[name].state_dict())
    return found


def load_part(name: str, module: Any, source: str | Path) -> None:
    """Start `module`, the part `name` of a model, from `source`; see `start_vln`."""
    if _is_ours(name, source):
        _load_from_ours(name, module, source)
    elif name == "depth_encoder":
        load_depth_encoder(module, source)
    elif name == "word_embeddings":
        load_word_embeddings(module, source)
    elif isinstance(module, RGBResNet):
        load_rgb_encoder(module, source)
    else:
        towers = (module, None) if name == "text_encoder" else (None, module)
        load_clip(*towers, source)


def load_depth_encoder(encoder: DepthResNet, path: str | Path) -> None:
    """Load from a policy of DD-PPO (`gibson-2plus-resnet50.pth` and the like), of which only the
    visual encoder is taken. Raises ValueError if it has none or another.
    """
    fill(encoder, visual_encoder_weights(path), path)


def load_rgb_encoder(encoder: RGBResNet, source: str | Path) -> None:
    """Load a file of torchvision, or the folder or Hub name of a ResNet in transformers' form.

    Published models start from torchvision's IMAGENET1K_V1 (`resnet50-0676ba61.pth`); other
    weights of a ResNet-50, such as microsoft/resnet-50, work, but are not the same. The classifier
    is left out. Raises ValueError for weights that do not fit.
    """
    if Path(source).is_file():
        weights = torchvision_resnet_keys(read_tensors(source))
    else:
        weights = load_published({"resnet": ResNetModel}, source, ("classifier.",)).state_dict()
    counters = [key for key in encoder.state_dict() if key.endswith(_COUNTER)]
    fill(encoder, dict.fromkeys(counters, torch.tensor(0)) | weights, source)


def load_word_embeddings(embeddings: nn.Embedding, path: str | Path) -> None:
    """Load VLN-CE's `embeddings.json.gz`: a list of vectors, of which the first, that of padding,
    is zeros. Raises ValueError for another number or size of vectors.
    """
    file = check_file(path, "gzipped word vectors")
    most = 1_000_000 + _LONGEST_NUMBER * embeddings.weight.numel()
    try:
        with gzip.open(file) as stream:
            content = stream.read(most + 1)
        if len(content) > most:
            raise ValueError(f"more than {most} bytes, which vectors of the model's size need")
        table = torch.tensor(json.loads(content), dtype=torch.float32)
    except (OSError, EOFError, ValueError, TypeError, zlib.error, RecursionError) as error:
        found = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path}: found {found}; expected gzipped lists of numbers.") from error
    found, expected = tuple(table.shape), tuple(embeddings.weight.shape)
    if found != expected:
        raise ValueError(
            f"{path}: found a table of {found}, expected {expected}, vocab_size and embedding_size."
        )
    if table[0].any():
        raise ValueError(f"{path}: row 0: found a vector, expected zeros: id 0 is padding.")
    fill(embeddings, {"weight": table}, path)


def _parts(model: PreTrainedModel) -> dict[str, nn.Module]:
    """The parts of `model` that can be initialised from a source, by name of the option."""
    children = dict(model.named_children())
    parts = {name: children[name] for name in _ENCODERS if name in children}
    if getattr(model.config, "views", None) == ("depth",):  # an agent of DD-PPO
        parts["depth_encoder"] = children["visual_encoder"]
    if "instruction_encoder" in children:
        parts["word_embeddings"] = children["instruction_encoder"].word_embeddings
    return parts


def _is_ours(name: str, source: str | Path) -> bool:
    """Whether `source` is a checkpoint, folder or Hub name, of one of our models."""
    path = Path(source)
    if path.suffix in _FILES:
        check_file(path, option=f"--{name} ")
    elif not path.is_file():
        check_is_checkpoint(f"--{name}", str(source))
    if path.is_file() or (path.is_dir() and not (path / CONFIG_NAME).is_file()):
        return False
    return published_type(source).startswith("internnav_")


def _load_from_ours(name: str, module: nn.Module, source: str | Path) -> None:
    model: Any = AutoModel.from_pretrained(source)
    part = _parts(model).get(name)
    if part is None:
        found = sorted(_parts(model))
        raise ValueError(f"{source}: a {type(model).__name__} has no {name}, only {found}.")
    fill(module, part.state_dict(), source)
