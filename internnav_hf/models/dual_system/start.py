"""Initial weights of a dual system: a System2 and a named action expert, or a dual system."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig, PreTrainedConfig

from internnav_hf.field_files import read_fields
from internnav_hf.models.dual_system.config import DualSystemConfig, action_experts
from internnav_hf.models.system2.config import System2Config
from internnav_hf.weights.loading import check_is_checkpoint

if TYPE_CHECKING:
    from internnav_hf.models.dual_system.model import DualSystemModel

# The colour encoder in each expert, and its published initial weights.
_COLOUR_ENCODERS = {
    "nextdit_async": ("vision", "depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf"),
    "navdp_async": ("rgbd_encoder.rgb_encoder", "depth-anything/Depth-Anything-V2-Small-hf"),
}


def starting_config(
    system1: str,
    system2: str,
    model: str | None = None,
    expert_file: str | Path | None = None,
    num_queries: int = 4,
) -> DualSystemConfig:
    """Configuration of the checkpoint `system2` with the expert `system1`, changed by the YAML or
    JSON file `expert_file`; or that of the dual system `model`.

    Raises ValueError if `model` has another expert, and for a file that is missing, is not a
    mapping, describes another expert or does not fit `system2`.
    """
    for option, path in (("system2", system2 if model is None else None), ("model", model)):
        if path is not None:
            check_is_checkpoint(f"--{option}", path)
    if model is None:
        stored = System2Config.from_pretrained(system2)
        expert = _expert_config(system1, stored.get_text_config().hidden_size, expert_file)
        return DualSystemConfig(
            system2_config=stored, action_expert_config=expert, num_queries=num_queries
        )
    if expert_file is not None:
        raise ValueError(f"action_expert_config: {model} has its expert already; leave it out.")
    config = DualSystemConfig.from_pretrained(model)
    found = system1_of(config.action_expert_config)
    if found != system1:
        raise ValueError(f"system1: found {system1!r}, but {model} was trained as {found!r}.")
    return config


def system1_of(config: PreTrainedConfig) -> str | None:
    """The name in `action_experts` of an expert's configuration, of any sizes; None for one that is
    not in the catalog.
    """
    for name, fields in action_experts().items():
        if all(getattr(config, key, None) == value for key, value in fields.items()):
            return name
    return None


def start_dual_system(
    config: DualSystemConfig,
    system2: str,
    model: str | None = None,
    vision_encoder: str = "published",
    image_size: tuple[int, int] | None = None,
    **loading: Any,
) -> "DualSystemModel":
    """A model of `config`: `system2` with a fresh expert, or the whole of `model`.

    `vision_encoder` initialises the expert's colour encoder, if it has one: "published", "random",
    or a source for `load_dino`. `image_size` (width, height) is that of the data, which must match
    System2's look-down images. `loading` goes to `from_pretrained`.
    """
    from internnav_hf.models.common.dino import DinoEncoder, load_dino
    from internnav_hf.models.dual_system.model import DualSystemModel
    from internnav_hf.models.system2.model import System2Model

    expected = (config.system2_config.image_width, config.system2_config.image_height)
    if image_size is not None and tuple(image_size) != expected:
        raise ValueError(
            f"The data's look-down images are {image_size[0]}x{image_size[1]}, but "
            f"{model or system2} points in images of {expected[0]}x{expected[1]}."
        )
    if model is not None:
        loaded: Any = DualSystemModel.from_pretrained(model, **loading)
        return loaded
    slow = System2Model.from_pretrained(system2, **loading)
    slow.drop_landmark_head()
    dual = DualSystemModel.from_parts(
        slow, config.action_expert_config, num_queries=config.num_queries
    )
    _, *encoders = parents_of(config, system2, None, vision_encoder)
    for weights in encoders:
        module, _ = _COLOUR_ENCODERS[system1_of(config.action_expert_config)]
        encoder = dual.action_expert.get_submodule(module)
        assert isinstance(encoder, DinoEncoder)
        load_dino(encoder, weights)
    return dual


def parents_of(
    config: DualSystemConfig, system2: str, model: str | None, vision_encoder: str
) -> list[str]:
    """Paths of all weights that `start_dual_system` reads with these arguments."""
    if model is not None:
        return [model]
    name = system1_of(config.action_expert_config)
    if name not in _COLOUR_ENCODERS or vision_encoder == "random":
        return [system2]
    published = _COLOUR_ENCODERS[name][1]
    return [system2, published if vision_encoder == "published" else vision_encoder]


def _expert_config(
    system1: str, plan_hidden_size: int, path: str | Path | None
) -> PreTrainedConfig:
    fields = {"plan_hidden_size": plan_hidden_size, **action_experts()[system1]}
    if path is None:
        return AutoConfig.for_model(**fields)
    given = read_fields(path)
    for name, value in action_experts()[system1].items():
        if given.get(name, value) != value:
            raise ValueError(f"{path}: {name}: found {given[name]!r}; {system1} has {value!r}.")
    try:
        return AutoConfig.for_model(**fields | given)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
