"""The README.md of a model: what it is, what it was made from, under which licence, how to use it.

Its metadata (the YAML head) is read again when another model is trained from this one: `made_from`
lists all weights and data that the model was made from, with the licence of each.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData

from internnav_hf.catalog import family_of
from internnav_hf.publishing.licences import (
    NON_COMMERCIAL,
    PERMISSIVE,
    RESTRICTED,
    Licence,
    permits,
    strictest,
)
from internnav_hf.publishing.origins import (
    CARD,
    HEADER,
    LIBRARY,
    Origin,
    fields_of,
    licences_of_card,
    read_head,
    texts,
)

PLACE = "this/repository"
_CAMERA_UNITS = {"hfov_deg": "°", "height_m": " m", "pitch_deg": "°", "look_down_pitch_deg": "°"}


@dataclass
class CardFacts:
    """The content of a model's card; `chosen` is the licence that the model's owner states."""

    config: Any
    origins: Sequence[Origin]
    chosen: Licence | None = None
    command: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    cameras: Sequence[Mapping[str, Any]] = ()
    base_models: Sequence[str] = ()
    """names on the Hub"""
    repository: str = PLACE
    is_adapter: bool = False
    limits: Sequence[str] = ()

    @property
    def licence(self) -> Licence | None:
        """The licence that the model must carry, else the one its owner states, else its base's."""
        known = [origin.licence for origin in self.origins if origin.licence]
        required = strictest(known)
        if self.chosen is not None:
            keeps_terms = required is not None and self.chosen.id == required.id
            return required if keeps_terms else self.chosen
        if required is not None:
            return required
        weights = {one.licence for one in self.origins if one.kind == "weights"}
        free = {one for one in weights if one and one.id != "unrestricted"}
        return free.pop() if len(free) == 1 and not self.unknown else None

    @property
    def unknown(self) -> list[Origin]:
        """The origins whose licence is not known."""
        return [origin for origin in self.origins if origin.licence is None]


def check_licence(facts: CardFacts) -> None:
    """Raise ValueError if the model must not carry the licence that its owner states."""
    if facts.chosen is not None:
        _check_chosen(facts.chosen, facts.origins)


def check_published(facts: CardFacts) -> None:
    """Raise ValueError if the licence of a model that is to be published is not known."""
    check_licence(facts)
    if facts.licence is None and facts.unknown:
        names = ", ".join(dict.fromkeys(one.name for one in facts.unknown))
        raise ValueError(
            f"--license: the licence of {names} is not known, so none can be derived from it: pass "
            f"--license, as {NON_COMMERCIAL.id} or apache-2.0, if its terms allow it."
        )


def is_by_hand(card: Mapping[str, Any]) -> bool:
    """True if a person wrote the head of a card, rather than this package or a trainer."""
    tags = texts(card.get("tags"))
    is_ours = "made_from" in card or "generated_from_trainer" in tags
    return bool(card) and not (is_ours or card.get("library_name") == "peft")


def check_kept(card: Mapping[str, Any], place: str, origins: Sequence[Origin]) -> None:
    """Raise ValueError if a handwritten card has a freer licence than `origins` allow, or none."""
    for stated in licences_of_card(card) or [None]:
        freed = _freed(stated, origins)
        if freed is not None:
            raise ValueError(
                f"its card states {stated or 'no licence'}, but {freed.name}, which the model is "
                f"made from, is {freed.licence}: expected {_required(origins)}; correct "
                f"the licence in {place}'s README.md."
            )


def settle(
    text: str, folder: str | Path, origins: Sequence[Origin], chosen: Licence | None = None
) -> str:
    """`text`, the card in `folder` of a model that was made from `origins`, with the right licence:
    `chosen`, else the one it states, else the one that follows from `origins`.

    Raises ValueError if that licence is freer than `origins` allow, or if it is not known.
    """
    head, required = read_head(text, folder), _required(origins)
    if not head:
        raise ValueError(f"{folder}: {CARD}: found no readable YAML head, expected its fields.")
    stated = licences_of_card(head)
    if chosen is not None:
        _check_chosen(chosen, origins)
        keeps_terms = required is not None and required.id == chosen.id
        return _with_licence(text, head, required if required and keeps_terms else chosen)
    if stated:
        check_kept(head, str(folder), origins)
        strange = [one for one in stated if one.id not in PERMISSIVE | RESTRICTED]
        return _with_licence(text, head, strange[0]) if strange else text
    if required is not None:
        return _with_licence(text, head, required)
    if not origins or not all(origin.licence for origin in origins):
        raise ValueError(f"{folder}: {CARD} states no licence, and none follows: pass --license.")
    return text


def _check_chosen(chosen: Licence, origins: Sequence[Origin]) -> None:
    freed = _freed(chosen, origins)
    if freed is not None:
        raise ValueError(
            f"--license {chosen.id}: the model is made from {freed.name}, which is "
            f"{freed.licence}: expected {_required(origins)}, or leave --license out."
        )


def _required(origins: Sequence[Origin]) -> Licence | None:
    return strictest(origin.licence for origin in origins if origin.licence)


def _freed(stated: Licence | None, origins: Sequence[Origin]) -> Origin | None:
    """The first of `origins` whose terms the licence `stated` violates; None if it keeps all."""
    required = _required(origins)
    if required is None or (stated is not None and permits(required, stated)):
        return None
    binding = [one for one in origins if one.licence and one.licence.restricts]
    strange = [one for one in binding if stated is None or not permits(one.licence, stated)]
    return (strange or binding)[0]


def _with_licence(text: str, head: Mapping[str, Any], licence: Licence) -> str:
    rest = {name: value for name, value in head.items() if not name.startswith("license")}
    fields = yaml.safe_dump(_licence_fields(licence) | rest, sort_keys=False, allow_unicode=True)
    body = HEADER.sub("", text, count=1)
    body = re.sub(r"(\n## Licence\n\n)[^\n]*", rf"\g<1>{licence}.", body, count=1)
    return f"---\n{fields}---\n{body}"


def _licence_fields(licence: Licence) -> dict[str, str]:
    """The licence fields of a card's head; the Hub accepts only identifiers that it knows."""
    if licence.id in PERMISSIVE | RESTRICTED:
        name = licence.name or "see-below" if licence.id == "other" else ""
        values = {"license": licence.id, "license_name": name, "license_link": licence.link}
    else:
        values = {"license": "other", "license_name": re.sub(r"[^a-z0-9.-]+", "-", licence.id)}
    return {key: value for key, value in values.items() if value}


def render_card(facts: CardFacts) -> str:
    """The text of README.md."""
    settings = [(plain(name), plain(value)) for name, value in facts.settings.items()]
    metrics = [(plain(name), f"{value:.4g}") for name, value in facts.metrics.items()]
    body = [
        f"# {_title(facts.config)}",
        "",
        *describe(facts.config),
        *(["", "This is a LoRA adapter of the base model."] if facts.is_adapter else []),
        *_usage(facts),
        *_licence(facts),
        *_made_from(facts),
        *_cameras(facts.cameras),
        *_table("## Settings", ("setting", "value"), settings),
        *(["", "## Command", "", "```bash", facts.command, "```"] if facts.command else []),
        *_table("## Metrics", ("metric", "value"), metrics),
        *_limits(facts),
        *_citation(facts.config),
        "",
    ]
    return str(ModelCard(f"---\n{_head(facts).to_yaml()}\n---\n\n" + "\n".join(body)))


def describe(config: Any) -> list[str]:
    """A few lines on what the model is."""
    kind = config.model_type
    if kind == "internnav_navdp":
        size, goals = f"{config.image_size}x{config.image_size}", ", ".join(config.goal_kinds)
        inputs = f"{config.num_memory_frames} frames of {size} pixels and depth"
        return [f"A NavDP for the goals {goals}. Its input is {inputs}."]
    if kind in ("internnav_seq2seq", "internnav_cma", "internnav_rdp"):
        size = f"{config.image_size}x{config.image_size}"
        name = _title(config).removesuffix("Model")
        return [f"A {name}: RGB images of {size} pixels, depth and an instruction in, actions out."]
    if kind in ("internnav_iplanner", "internnav_viplanner"):
        size, name = f"{config.image_width}x{config.image_height}", _title(config)
        others = {"use_semantics": "depth and semantic", "use_rgb": "depth and RGB"}
        found = [words for name, words in others.items() if getattr(config, name, False)]
        seen = found[0] if found else "depth"
        return [f"{name.removesuffix('Model')}: {seen} images of {size} pixels in, paths out."]
    if kind in ("internnav_gnm", "internnav_vint", "internnav_nomad"):
        size, name = f"{config.image_width}x{config.image_height}", _title(config)
        inputs = f"{config.num_memory_frames} RGB images of {size} pixels and the view at the goal"
        return [f"A {name.removesuffix('Model')}: {inputs} in, waypoints out."]
    if kind == "internnav_ddppo":
        size, views = f"{config.image_width}x{config.image_height}", " and ".join(config.views)
        return [
            f"DD-PPO's agent: {views or 'no'} views of {size} pixels and a point in, steps out."
        ]
    if kind not in ("internnav_system2", "internnav_dual_system"):
        return [f"A {kind}."]
    is_dual = kind == "internnav_dual_system"
    system2 = config.system2_config if is_dual else config
    head = " and a pixel-goal head." if system2.use_pixel_goal_head else "."
    size = f"{system2.image_width}x{system2.image_height}"
    lines = [f"A {system2.vlm_config.model_type} with System2's dialogue{head}"]
    lines += [f"Goals are pixels of a {size} look-down image."]
    if is_dual:
        expert = config.action_expert_config.model_type.removeprefix("internnav_")
        lines += [f"A {expert} turns its plans, of {config.num_queries} tokens, into trajectories."]
    return lines


def plain(text: str) -> str:
    """Untrusted `text` for a line of a card: without line breaks and markup."""
    return re.sub(r"[`|<>\x00-\x1f\x7f\u2028\u2029]+", " ", str(text)).strip()


def _head(facts: CardFacts) -> ModelCardData:
    family, licence = family_of(facts.config.model_type), facts.licence
    is_visual = family is not None and family.benchmark == "visual_navigation"
    task = "visual" if is_visual else "vision-and-language"
    data = [one.repository for one in facts.origins if one.kind == "data" and one.repository]
    base = list(dict.fromkeys(facts.base_models))
    relation = {"base_model_relation": "adapter" if facts.is_adapter else "finetune"}
    return ModelCardData(
        library_name=LIBRARY,
        pipeline_tag="robotics",
        base_model=base or None,
        datasets=list(dict.fromkeys(data)) or None,
        tags=["embodied-navigation", f"{task}-navigation"],
        made_from=fields_of(facts.origins),
        **(_licence_fields(licence) if licence else {}),
        **(relation if base else {}),
    )


def _title(config: Any) -> str:
    architectures = getattr(config, "architectures", None)
    if architectures:
        return str(architectures[0])
    return type(config).__name__.removesuffix("Config") + "Model"


def _usage(facts: CardFacts) -> list[str]:
    family = family_of(facts.config.model_type)
    place = None if family is None else family.places()["policy"]
    if place is None:
        return []
    policy = place.rpartition(".")[2]
    return [
        "",
        "```python",
        f"from internnav_hf.policies import {policy}",
        f'policy = {policy}.from_pretrained("{facts.repository}")',
        "```",
    ]


def _licence(facts: CardFacts) -> list[str]:
    licence = facts.licence
    if licence is not None:
        text = f"{licence}, which follows from the table below."
        text = f"{licence}, as stated by its owner." if licence == facts.chosen else text
    elif facts.unknown:
        text = "Not known: it depends on the unknown licences in the table below. Ask before use."
    else:
        text = "No origin restricts the model, and its owner has not stated a licence."
    return ["", "## Licence", "", text]


def _made_from(facts: CardFacts) -> list[str]:
    rows = []
    for one in dict.fromkeys(facts.origins):
        licence = plain(str(one.licence or "unknown"))
        rows.append((f"{one.kind}: `{plain(one.name)}`", licence, plain(one.version)))
    return _table("## Made from", ("what", "licence", "version"), rows)


def _cameras(cameras: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table with one column for each camera."""
    if not cameras:
        return []
    names = list(dict.fromkeys(name for camera in cameras for name in camera))
    units = [(name, _CAMERA_UNITS.get(name, "")) for name in names]
    rows = [(plain(n), *(plain(f"{c.get(n)}{unit}") for c in cameras)) for n, unit in units]
    heads = [f"camera {i}" for i in range(1, len(cameras) + 1)]
    return _table("## Camera", ("", *(heads if len(cameras) > 1 else ["value"])), rows)


def _table(title: str, heads: Sequence[str], rows) -> list[str]:
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    if not lines:
        return []
    return ["", title, "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *lines]


def _limits(facts: CardFacts) -> list[str]:
    given = [
        "It was made for research and has no notion of safety: a robot driven by it must stop "
        "for people and stairs by other means.",
        "It expects images like those it was trained on; another camera, height or pitch may make "
        "it fail.",
    ]
    return ["", "## Limits", "", *(f"- {line}" for line in [*given, *facts.limits])]


def _citation(config: Any) -> list[str]:
    family = family_of(config.model_type)
    if family is None or family.paper is None:
        return []
    name, number = family.paper
    key = name.lower().replace("-", "")
    entry = [f"@misc{{{key},", f"  title = {{{name}}},", f"  eprint = {{{number}}},"]
    entry += ["  archivePrefix = {arXiv}", "}"]
    return ["", "## Citation", "", "```bibtex", *entry, "```"]
