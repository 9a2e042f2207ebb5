"""NavDP's goals as tokens: a point, an image of the goal, a pixel marked in a view, or none.

Three slots of the denoiser's condition hold goals. In training each slot holds any kind, so that
all kinds are trained at once; at run time all hold the same goal, or a point between two images.

Legend: B samples, S image size, C width, K kinds that the model is trained for.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from internnav_hf.models.common.dino import DinoEncoder, to_unit
from internnav_hf.models.navdp.config import SLOT_KINDS, NavDPConfig

NUM_SLOTS = 3
NUM_POINT_CHANNELS = 3  # x, y, yaw
NUM_IMAGE_CHANNELS = 6  # the view at the goal, the current view

Goal = Mapping[str, Any]  # kind -> tensor or array; empty for no goal


class GoalEncoder(nn.Module):
    """Tokens of the kinds of goals that the model is trained for, `encoders` by kind."""

    def __init__(self, config: NavDPConfig):
        super().__init__()
        self.goal_kinds, size = tuple(config.goal_kinds), config.image_size
        self.shapes = {
            "point": (NUM_POINT_CHANNELS,),
            "image": (NUM_IMAGE_CHANNELS, size, size),
            "pixel": (config.num_pixel_goal_channels, size, size),
        }
        kinds = [kind for kind in SLOT_KINDS if kind in self.goal_kinds]
        self.encoders = nn.ModuleDict({kind: self._encoder(kind, config) for kind in kinds})

    def _encoder(self, kind: str, config: NavDPConfig) -> nn.Module:
        if kind == "point":
            return nn.Linear(NUM_POINT_CHANNELS, config.hidden_size)
        return ViewEncoder(config, num_channels=self.shapes[kind][0])

    def forward(self, kind: str, goals: Tensor) -> Tensor:
        """Tokens (B, C) of `goals` (B, ...), all of one kind."""
        encoder: Any = self.encoders[kind]
        return encoder(goals.to(encoder.weight.dtype) if kind == "point" else goals)

    def mix(self, tokens: Mapping[str, Tensor], slots: Tensor) -> Tensor:
        """(B, 3, C): the `tokens` (B, C) of each kind, selected by `slots` (B, 3).

        Raises ValueError for a kind that the model is not trained for.
        """
        ours = torch.tensor(self._indices, device=slots.device)
        is_ours = slots[..., None] == ours
        if not is_ours.any(-1).all():
            raise ValueError(
                f"goal_slots: found {slots.unique().tolist()}, expected some of {self._indices}, "
                f"for this model is trained for {self.goal_kinds}."
            )
        stacked = torch.stack([tokens[kind] for kind in self.encoders], dim=1)  # (B, K, C)
        rows = torch.arange(len(stacked), device=slots.device)[:, None]
        return stacked[rows, is_ours.int().argmax(-1)]

    def published_slots(self, num_rows: int, device: torch.device) -> Tensor:
        """Slots (B, 3), indices into ("point", "image", "pixel"), that depend on the row alone.

        Row b has the digits of b to base K, lowest first: with all kinds, 27 different rows.
        """
        kinds = torch.tensor(self._indices, device=device)
        rows = torch.arange(num_rows, device=device)[:, None]
        digits = rows // len(kinds) ** torch.arange(NUM_SLOTS, device=device) % len(kinds)
        return kinds[digits]

    @property
    def _indices(self) -> list[int]:
        return [SLOT_KINDS.index(kind) for kind in self.encoders]

    def embed(self, goals: Sequence[Goal], like: Tensor) -> Tensor:
        """Slots (B, 3, C) of `goals`, in the dtype and on the device of `like` (..., C).

        A goal is {} (none), {"point": (3,)}, {"image": (6, S, S)}, {"pixel": (4 or 7, S, S)}, or a
        point and an image together. Raises ValueError for other mixtures, other shapes, and kinds
        that the model is not trained for.
        """
        kinds_of = [self._kinds(goal) for goal in goals]
        slots = like.new_zeros(len(goals), NUM_SLOTS, like.shape[-1])
        for kind in self.encoders:
            rows = [row for row, goal in enumerate(goals) if kind in goal]
            if rows:
                given = [self._tensor(kind, goals[row][kind], like.device) for row in rows]
                for row, token in zip(rows, self(kind, torch.stack(given)), strict=True):
                    places = [place for place, name in enumerate(kinds_of[row]) if name == kind]
                    slots[row, places] = token
        return slots

    def _kinds(self, goal: Goal) -> tuple[str, ...]:
        """The kinds of goals in the three slots."""
        for kind in goal or ("none",):
            if kind not in self.goal_kinds:
                raise ValueError(
                    f"goal: found {kind!r}, expected one of {self.goal_kinds}, which this model "
                    "was trained for."
                )
        if set(goal) == {"point", "image"}:
            return ("image", "point", "image")
        if len(goal) > 1:
            raise ValueError(f"goal: found {sorted(goal)}; only point and image go together.")
        return (next(iter(goal), "none"),) * NUM_SLOTS

    def _tensor(self, kind: str, given: Any, device: torch.device) -> Tensor:
        """`given` as floats: bytes stacked with floats in a batch would count as floats."""
        tensor = torch.as_tensor(given).to(device)
        if tuple(tensor.shape) != self.shapes[kind]:
            raise ValueError(
                f"goal: {kind}: found {tuple(tensor.shape)}, expected {self.shapes[kind]}."
            )
        return tensor if kind == "point" else to_unit(tensor)


class ViewEncoder(nn.Module):
    """One token from views and masks that are stacked as channels."""

    def __init__(self, config: NavDPConfig, num_channels: int):
        super().__init__()
        vision: Any = copy.deepcopy(config.goal_vision_config)
        vision.num_channels = num_channels
        self.encoder = DinoEncoder(vision, normalise=False)
        self.projection = nn.Linear(vision.hidden_size, config.hidden_size)

    def forward(self, views: Tensor) -> Tensor:
        """Tokens (B, C) of `views` (B, channels, S, S), bytes or floats in [0, 1]."""
        return self.projection(self.encoder(to_unit(views)).mean(1))
