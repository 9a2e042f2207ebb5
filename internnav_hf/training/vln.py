"""Start of a training of Seq2Seq, CMA or RDP: model, processor, and features of frozen encoders."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from torch.utils.data import ConcatDataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from internnav_hf.arguments.data import DataArguments
from internnav_hf.arguments.training import NavTrainingArguments, option, read_fields
from internnav_hf.data import FeatureStore, VLNDataset
from internnav_hf.data.features import DEFAULT_CACHE, cache_features, encoder_digest
from internnav_hf.data.formats.registry import Reader
from internnav_hf.data.formats.vln_pe.reader import find_units, read_records
from internnav_hf.data.tasks.common import RDP, VLN, check_groups
from internnav_hf.data.tasks.vln import read_texts
from internnav_hf.data.vocabulary import learn_words, read_vocabulary
from internnav_hf.models.rdp.config import RDPConfig
from internnav_hf.models.rdp.model import RDPModel
from internnav_hf.models.vln.cma import CMAModel
from internnav_hf.models.vln.config import CMAConfig
from internnav_hf.models.vln.processor import WORD_LENGTH, VLNProcessor, word_tokenizer
from internnav_hf.models.vln.seq2seq import Seq2SeqModel
from internnav_hf.models.vln.start import RANDOM, start_vln
from internnav_hf.training.evaluation import evaluating
from internnav_hf.weights.loading import check_is_checkpoint
from internnav_hf.weights.processor_files import check_processor_files

MODELS = {"seq2seq": Seq2SeqModel, "cma": CMAModel, "rdp": RDPModel}
CLIP_TOKENIZER = "openai/clip-vit-base-patch16"  # Long-CLIP has CLIP's vocabulary
LEARNT = "words"
ENCODERS = ("rgb_encoder", "depth_encoder")
PARTS = (*ENCODERS, "text_encoder", "word_embeddings")
Scans = Mapping[str, Sequence[str] | None]
"""Data root -> scans to train on; None: all."""
_PROCESSOR_FILE = "processor_config.json"
# Fields of the model and processor configurations that features depend on, next to weights.
_SEEN_BY = ("model_type", "image_size", "image_mean", "image_std", "depth_size", "max_depth")
# ... and of the colour encoder's configuration, if shapes of weights do not determine them.
_TOWER = ("hidden_act", "num_attention_heads", "layer_norm_eps", "downsample_in_bottleneck")


@dataclass
class StartArguments:
    """Initial weights, sizes and words of the model."""

    init_from: str | None = option(None, "Checkpoint to continue from: ours, released, VLN-CE's.")
    model_config: str | None = option(None, "YAML or JSON file with other sizes, for a new model.")
    depth_encoder: str | None = option(None, "DD-PPO's file, or a checkpoint of ours; or random.")
    rgb_encoder: str | None = option(None, "ResNet or CLIP weights, file or folder; or random.")
    text_encoder: str | None = option(None, "RDP: Long-CLIP's file or folder; or random.")
    word_embeddings: str | None = option(None, "embeddings.json.gz of VLN-CE; or random.")
    vocabulary: str | None = option(None, "VLN-CE's train.json.gz; default: the data's own words.")
    tokenizer: str = option(
        CLIP_TOKENIZER, f"CLIP's tokenizer, folder or Hub name; {LEARNT}: the data's own."
    )

    @property
    def parents(self) -> tuple[str | None, ...]:
        """All sources of the model's initial weights."""
        encoders = (self.rgb_encoder, self.depth_encoder, self.text_encoder, self.word_embeddings)
        return (self.init_from, *encoders)


@dataclass
class VLNDataArguments(DataArguments):
    """Training episodes."""

    data_root: list[str] = field(metadata={"help": f"Folders of scans, all used: {VLN.words()}."})  # pyright: ignore[reportIncompatibleVariableOverride]
    scans: list[str] | None = option(None, "Scans to train on; default: all but --eval_scans.")
    eval_scans: list[str] | None = option(None, "Held-out scans, for metrics while training.")
    max_walk_steps: int = option(200, "Steps at which a longer episode is cut.", low=1)
    inflection_coefficient: float = option(
        3.2, "Weight of a step whose action differs from the one before.", above=0
    )
    cache_features: bool = option(True, "Cache the outputs of frozen encoders.")


def check_scans(kind: str, scans: Scans, held_out: Scans) -> None:
    """Raise ValueError if scans or their episodes do not exist, or lack what the model `kind`
    learns from; before anything is loaded.
    """
    task = RDP if kind == "rdp" else VLN
    for root, chosen in scans.items():
        check_groups(task, root, chosen, held_out.get(root))


def start(
    kind: str, args: StartArguments, scans: Scans, cache_dir: str | None = None
) -> tuple[Any, VLNProcessor]:
    """Return the model `kind` (`..._plus` is the same, from a checkpoint) and its processor.

    The vocabulary is built from the instructions of `scans` if no option gives one. Raises
    ValueError for a source that does not exist or does not fit.
    """
    name, texts = kind.removesuffix("_plus"), _texts(scans, cache_dir)
    if kind != name and args.init_from is None:
        raise ValueError(f"--model {kind} goes on from weights: pass --init_from.")
    model_class: Any = MODELS[name]
    fields = read_fields(args.model_config) if args.model_config else {}
    parts = {part: getattr(args, part) for part in PARTS}
    given = {part: source for part, source in parts.items() if source not in (None, RANDOM)}
    if args.init_from is not None:
        if not Path(args.init_from).is_file():
            check_is_checkpoint("--init_from", args.init_from)
        model = model_class.from_pretrained(args.init_from, encoders=given, **fields)
        processor = _processor(args, model.config, texts)
        _check_words(args, processor, model.config)
        return model, processor
    config = model_class.config_class(**fields)
    processor = _processor(args, config, texts)
    clip = _clip_text(config)
    if "vocab_size" not in (fields if clip is None else fields.get("text_config") or {}):
        for reader in [clip] if name == "rdp" else filter(None, [clip, config]):
            reader.vocab_size = len(processor.tokenizer)
    model = model_class(config)
    start_vln(model, **parts)
    return model, processor


def _check_words(args: StartArguments, processor: VLNProcessor, config: Any) -> None:
    """Raise ValueError if the model of --init_from has no embedding of some words."""
    found, expected = len(processor.tokenizer), (_clip_text(config) or config).vocab_size
    if found > expected:
        raise ValueError(
            f"--init_from {args.init_from}: found {found} words in its processor, --vocabulary or "
            f"--tokenizer, but it has embeddings of {expected}: pass "
            "those that it was trained with."
        )


def _clip_text(config: Any) -> Any:
    """Return the configuration of the CLIP tower that reads instructions, None if there is none."""
    is_clip = isinstance(config, RDPConfig) or (isinstance(config, CMAConfig) and config.use_clip)
    return config.text_config if is_clip else None


def _processor(args: StartArguments, config: Any, texts: Iterator[str]) -> VLNProcessor:
    """Return the checkpoint's processor if it has one, else a new one with `config`'s sizes."""
    if args.init_from is not None and Path(args.init_from, _PROCESSOR_FILE).is_file():
        if args.vocabulary is not None:
            raise ValueError(
                f"--vocabulary {args.vocabulary}: --init_from {args.init_from} has its own words, "
                f"in its {_PROCESSOR_FILE}; leave --vocabulary out."
            )
        return VLNProcessor.from_pretrained(args.init_from)
    sizes = {"image_size": config.image_size, "depth_size": config.depth_size}
    clip = _clip_text(config)
    if clip is not None:
        length = clip.max_position_embeddings
        tokenizer = _clip_tokenizer(args.tokenizer, length, texts)
        return VLNProcessor(tokenizer, resize="clip", max_length=length, **sizes)
    if args.vocabulary is not None:
        words = read_vocabulary(args.vocabulary)
    elif args.init_from is not None:
        raise ValueError(
            f"--init_from {args.init_from}: it has no {_PROCESSOR_FILE}, so --vocabulary must say "
            "which words it knows (VLN-CE's train.json.gz)."
        )
    else:
        words = learn_words(texts)
    return VLNProcessor(word_tokenizer(words), max_length=WORD_LENGTH, **sizes)


def _clip_tokenizer(source: str, max_length: int, texts: Iterator[str]) -> PreTrainedTokenizerBase:
    if source == LEARNT:
        return word_tokenizer(learn_words(texts), max_length)
    check_is_checkpoint("--tokenizer", source)
    check_processor_files(source)
    try:
        return AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--tokenizer {source}: found no tokenizer ({str(error).splitlines()[0]}). Name a "
            f"folder with CLIP's, or {LEARNT}, the data's own."
        ) from error


def _texts(scans: Scans, cache_dir: str | None) -> Iterator[str]:
    """Yield all instructions; those of `vln_pe` also of episodes that are broken or left out."""
    for root, chosen in scans.items():
        sources = Reader(VLN.native, Path()).below(Path(root), chosen)
        if sources[0].format != VLN.native:
            yield from read_texts(root, chosen, cache_dir=cache_dir)
            continue
        for unit in find_units(Path(root), chosen):
            with suppress(ValueError):
                texts = (record.instructions for record in read_records(unit)[0])
                yield from chain.from_iterable(texts)


class VLNDatasets(ConcatDataset):
    """Concatenated datasets, with the `lengths` of all samples."""

    @property
    def lengths(self) -> np.ndarray:
        """(samples,) frames of each."""
        return np.concatenate([part.lengths for part in self.datasets])  # type: ignore[attr-defined]


def open_dataset(
    root: str,
    scans: Sequence[str] | None,
    model: Any,
    processor: VLNProcessor,
    data_args: VLNDataArguments,
    args: NavTrainingArguments,
) -> VLNDataset:
    """Return samples for `model`; features instead of images if its encoders are frozen."""
    cache_dir = data_args.cache_dir
    dataset = VLNDataset(
        root,
        processor,
        targets="displacements" if isinstance(model, RDPModel) else "actions",
        scans=scans,
        max_steps=data_args.max_walk_steps,
        inflection_coefficient=data_args.inflection_coefficient,
        max_broken_fraction=data_args.max_broken_fraction,
        cache_dir=cache_dir,
    )
    if data_args.cache_features and model.has_fixed_features:
        _keep_features(model, dataset, args, cache_dir)
    return dataset


def _keep_features(
    model: Any, dataset: VLNDataset, args: NavTrainingArguments, cache_dir: str | None
) -> None:
    """Make `dataset` read stored features; missing ones are first encoded by all processes."""
    encoders = {name: getattr(model, name).state_dict() for name in ENCODERS}
    weights = {f"{name}.{key}": v for name, part in encoders.items() for key, v in part.items()}
    fields = model.config.to_dict()
    settings = {name: fields[name] for name in _SEEN_BY} | {"resize": dataset.processor.resize}
    tower = fields.get("vision_config") or fields["rgb_config"]
    settings["tower"] = {name: tower.get(name) for name in _TOWER}
    folder = Path(cache_dir, "features") if cache_dir else DEFAULT_CACHE
    store = FeatureStore.below(folder, encoder_digest(weights, settings))
    state = PartialState()
    with evaluating(model.to(args.device)):
        cache_features(
            dataset,
            store,
            model.encode_rgb,
            model.encode_depth,
            device=args.device,
            rank=state.process_index,
            world_size=state.num_processes,
            num_workers=args.dataloader_num_workers,
        )
    state.wait_for_everyone()
    missing = store.missing(dataset.feature_keys)
    if missing:
        raise ValueError(
            f"--cache_dir {store.folder}: {len(missing)} episodes have no features here, expected "
            "those of all processes: the folder must be shared by all machines."
        )
    dataset.features = store
