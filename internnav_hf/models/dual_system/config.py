"""Configuration of the dual system: System2, and any action expert.

Apart from the model's file so that `import internnav_hf` can register it without importing
modelling code.
"""

from collections.abc import Callable, Collection
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from internnav_hf.catalog import FAMILIES
from internnav_hf.models.common.config import NavConfig, read_sub_config
from internnav_hf.models.system2.config import System2Config
from internnav_hf.weights.checkpoints import hub_arguments, open_weights, weight_names

RELEASED_MODEL_TYPE = "internvla_n1"
# The published action experts by their names in released configurations (`system1`).
SYSTEM1: dict[str, dict[str, Any]] = {
    "nextdit_async": {"model_type": "internnav_nextdit", "use_images": True},
    "nextdit": {"model_type": "internnav_nextdit", "use_images": False},
    "navdp_async": {"model_type": "internnav_navdp_action_expert"},
}
_OLDEST_MODEL_TYPE = "qwen2_5_vl"
_QUERIES = "model.latent_queries"
# Prefixes of the weight names of each released System1, in the order of the search.
_STARTS = {
    "navdp_async": "model.navdp.",
    "nextdit_async": "model.rgb_model.",
    "nextdit": "model.traj_dit.",
}
_SYSTEM1_KEYS = (*_STARTS.values(), _QUERIES)


def action_experts() -> dict[str, dict[str, Any]]:
    """Fields of the configuration of each action expert, by the name that `--system1` takes.

    In addition to the published ones, every family of the catalog that enters no benchmark, by its
    `model_type` without `internnav_`.
    """
    published = {fields["model_type"] for fields in SYSTEM1.values()}
    kinds = [family.model_type for family in FAMILIES if family.benchmark is None]
    own = {kind.removeprefix("internnav_"): {"model_type": kind} for kind in kinds}
    return SYSTEM1 | {name: own[name] for name in own if own[name]["model_type"] not in published}


class DualSystemConfig(NavConfig):
    """System2 + `num_queries` latent queries + an action expert.

    Fields:
        system2_config: a `System2Config`, or a dict of one.
        action_expert_config: configuration of the expert, or a dict of it with its `model_type`.
        num_queries: query tokens whose hidden states are System2's plan.

    `from_pretrained` also reads the configuration of a released InternVLA-N1 that has a System1.
    Raises ValueError for an unknown field, and for an expert that takes plans of another width.
    """

    model_type = "internnav_dual_system"
    sub_configs = {"system2_config": System2Config, "action_expert_config": AutoConfig}

    system2_config: dict | PreTrainedConfig | None = None
    action_expert_config: dict | PreTrainedConfig | None = None
    num_queries: int = 4

    def __post_init__(self, **kwargs):
        self.system2_config = read_sub_config(System2Config, self.system2_config, {})
        expert = self.action_expert_config
        if expert is None:
            width = self.system2_config.get_text_config().hidden_size
            expert = SYSTEM1["nextdit_async"] | {"plan_hidden_size": width}
        self.action_expert_config = read_sub_config(AutoConfig.for_model, expert, {})
        super().__post_init__(**kwargs)

    def check(self) -> None:
        """Raise ValueError for invalid values, and for an expert that takes other plans."""
        self.expect_positive("num_queries")
        found, expected = self.action_expert_config.plan_hidden_size, self.hidden_size
        if found != expected:
            raise ValueError(
                f"The action expert's plan_hidden_size is {found}, but System2's hidden_size is "
                f"{expected}."
            )

    @property
    def hidden_size(self) -> int:
        """Hidden size of System2's language model; DeepSpeed's `auto` sizes follow it."""
        return self.get_text_config().hidden_size

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs):
        """The dict on disk; that of a released InternVLA-N1 is translated."""
        given = dict(kwargs)
        config_dict, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        found = config_dict.get("model_type", cls.model_type)
        path, hub = pretrained_model_name_or_path, hub_arguments(given)
        if found == RELEASED_MODEL_TYPE or (
            found != cls.model_type and holds_dual_system(config_dict, path, **hub)
        ):
            config_dict = _translate(_with_system1(config_dict, path, **hub), path)
        elif found != cls.model_type:
            raise ValueError(
                f"{pretrained_model_name_or_path}: model_type: found {found!r}, expected "
                f"{cls.model_type!r} or a released InternVLA-N1. Make a dual system of a System2 "
                "with recipes/train_dual_system.py."
            )
        return config_dict, kwargs

    def get_text_config(self, *args, **kwargs):
        """The language model's part of System2's configuration."""
        return self.system2_config.get_text_config(*args, **kwargs)


def holds_dual_system(stored: dict, path, **hub) -> bool:
    """Whether the checkpoint in `path`, a folder or Hub name, whose configuration is `stored`, is a
    dual system, ours or a released one.

    The oldest, InternVLA-N1-wo-dagger, is stored as a Qwen2.5-VL: only its weights show it.
    """
    if stored.get("model_type") == DualSystemConfig.model_type:
        return True
    return is_released("DualSystem", stored, lambda: weight_names(path, **hub))


def is_released(family: str, stored: dict, names: Callable[[], Collection[str]]) -> bool:
    """Whether these are a released dual system's configuration and `names` of weights."""
    found = stored.get("model_type")
    if found == RELEASED_MODEL_TYPE or stored.get("system1") is not None:
        return True
    return found == _OLDEST_MODEL_TYPE and any(n.startswith(_SYSTEM1_KEYS) for n in names())


def _with_system1(released: dict, path, **hub) -> dict:
    """`released` with `system1` and `n_query`, taken from the weights if they are missing."""
    if released.get("system1") is not None:
        return released
    weights = open_weights(path, **hub)
    entries = {} if weights is None else weights.entries
    names = [name for name, starts in _STARTS.items() if any(k.startswith(starts) for k in entries)]
    queries = entries.get(_QUERIES)
    if not names or queries is None or len(queries.shape) != 3:
        raise ValueError(
            f"{path}: system1: found None, expected one of {', '.join(SYSTEM1)}, and its weights "
            "hold no action expert: open it as a System2."
        )
    return released | {"system1": names[0], "n_query": queries.shape[1]}


def _translate(released: dict, path) -> dict:
    """Our configuration from the released flat one, a Qwen2.5-VL's with `system1`, `n_query`."""
    released = dict(released)
    system1, num_queries = released.pop("system1", None), released.pop("n_query", 4)
    text = released.get("text_config", released)
    if system1 not in SYSTEM1:
        raise ValueError(
            f"{path}: system1: found {system1!r}, expected one of {', '.join(SYSTEM1)}."
        )
    released |= {"model_type": "qwen2_5_vl"}
    released.pop("architectures", None)
    return {
        "model_type": DualSystemConfig.model_type,
        "system2_config": {"vlm_config": released, "use_pixel_goal_head": False},
        "action_expert_config": SYSTEM1[system1] | {"plan_hidden_size": text["hidden_size"]},
        "num_queries": num_queries,
    }
