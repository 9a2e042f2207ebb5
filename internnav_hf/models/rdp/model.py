"""RDP, the recurrent diffusion policy of VLN-PE (arXiv 2507.13019): an instruction into steps.

CLIP encodes instruction and views, a ResNet depth; a GRU is the memory; views and instruction
attend to each other, and a diffusion model predicts the next displacements. Differs from the
published code: an instruction is encoded once and without its padding, padding frames not at all;
steps of an episode share common computation; padding does not count as steps, and guidance masks
the intended tokens, unless the configuration has the published mistakes.

Legend: B episodes, T steps, F frames, R steps that count, L tokens of an instruction, S image size,
D depth size, V width of the vision tower, G grid of depth features, C hidden, H horizon.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import initialization as init

from internnav_hf.models.common.clip_config import NUM_IMAGE_TOKENS
from internnav_hf.models.common.counted_losses import masked
from internnav_hf.models.common.cross_modal import CrossModalEncoder, init_small
from internnav_hf.models.common.diffusion import NUM_ACTION_CHANNELS, noise_schedule
from internnav_hf.models.common.instruction_encoder import check_words
from internnav_hf.models.common.recurrent import last_states, reset_mask_of
from internnav_hf.models.rdp.config import RDPConfig
from internnav_hf.models.rdp.denoiser import RDPDenoiser, denoise_guided
from internnav_hf.models.rdp.displacements import unscale
from internnav_hf.models.rdp.draws import draw_for_sampling, draw_for_training
from internnav_hf.models.rdp.encoders import RDPEncoders, RDPScene
from internnav_hf.models.rdp.losses import ProgressHead, RDPOutput, rdp_losses

NUM_KINDS = 10  # of condition tokens; a released table has unused rows
KIND_FUSED, KIND_TEXT, KIND_STATE, KIND_POSE, KIND_PREVIOUS = 0, 1, 2, 4, 5
NUM_FUSED_TOKENS = NUM_IMAGE_TOKENS + 1
_ROWS_AT_ONCE = 128  # denoised together


class RDPPrediction(NamedTuple):
    """Output of `RDPModel.sample`: `displacements` (B, T, H, 3), dx, dy, dyaw in m, m, rad in the
    robot frame of their step, so that their sums are the future poses; `progress` and
    `stop_progress` (B, T) in 0..1.
    """

    displacements: Tensor
    progress: Tensor
    stop_progress: Tensor


class RDPAction(NamedTuple):
    """Output of `RDPModel.act`: `displacements` (B, H, 3), `stop_progress` and `progress` (B,) as
    in `RDPPrediction`, NaN for robots not in `decide`; `recurrent_state` (B, 1, C).
    """

    displacements: Tensor
    stop_progress: Tensor
    progress: Tensor
    recurrent_state: Tensor


class RDPModel(RDPEncoders):
    """See the module. `rgb_features` are (B, T, 5, V), `depth_features` (B, T, channels, G, G)."""

    config_class = RDPConfig
    config: RDPConfig
    supports_gradient_checkpointing = True
    loss_count_keys = {"step_mask": "num_steps_in_batch"}
    _supports_sdpa = True
    _no_split_modules = ["CLIPEncoderLayer", "CrossModalLayer", "DenoiserLayer"]

    def __init__(self, config: RDPConfig):
        super().__init__(config)
        hidden = config.hidden_size
        self.image_reader = CrossModalEncoder(config)
        self.text_reader = CrossModalEncoder(config)
        self.previous_tokens = nn.Linear(NUM_ACTION_CHANNELS, hidden)
        self.pose_token = nn.Linear(NUM_ACTION_CHANNELS, hidden)
        kinds = [KIND_FUSED] * NUM_FUSED_TOKENS + [KIND_TEXT, KIND_STATE, KIND_POSE]
        self.kinds = kinds + [KIND_PREVIOUS] * config.num_previous_displacements
        self.kind_embedding = nn.Embedding(NUM_KINDS, config.denoiser_hidden_size)
        self.denoiser = RDPDenoiser(config, len(self.kinds))
        self.progress_head = ProgressHead(2 * hidden)
        self.stop_head = ProgressHead(2 * hidden)
        self.post_init()
        self.train(self.training)  # freezes the parts that the configuration freezes

    @torch.no_grad()
    def initialize_weights(self):
        """As published. transformers' own hook skips modules that only contain other modules."""
        super().initialize_weights()
        for part in (self.image_reader, self.text_reader, self.denoiser):
            init_small(part)
        self.progress_head.init_weights()
        self.stop_head.init_weights()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.Linear | nn.Embedding | nn.GroupNorm | nn.LayerNorm):
            module.reset_parameters()

    def forward(
        self,
        instruction_ids: Tensor,
        rgb: Tensor | None = None,
        depth: Tensor | None = None,
        previous_displacements: Tensor | None = None,
        relative_pose: Tensor | None = None,
        displacements: Tensor | None = None,
        progress: Tensor | None = None,
        stop_progress: Tensor | None = None,
        step_mask: Tensor | None = None,
        rgb_features: Tensor | None = None,
        depth_features: Tensor | None = None,
        recurrent_state: Tensor | None = None,
        reset_mask: Tensor | None = None,
        num_steps_in_batch: Tensor | int | None = None,
        noise: Tensor | None = None,
        timesteps: Tensor | None = None,
        image_drop: Tensor | None = None,
        condition_drop: Tensor | None = None,
    ) -> RDPOutput:
        """Losses for `displacements` (B, T, H, 3), dx, dy, dyaw in m, m, rad in the robot frame.

        `instruction_ids` (B, L), right-padded with 0; `rgb` (B, T, 3, S, S), bytes or floats in
        [0, 1], and `depth` (B, T, D, D) in metres, 0 where unknown, or instead of them
        `rgb_features` and `depth_features`, each frame's output of `encode_rgb` and `encode_depth`.
        `previous_displacements` (B, T, 4, 3), the latest first, and `relative_pose` (B, T, 3),
        since the start, in m, m, rad; `progress` and `stop_progress` (B, T) are the heads' targets.
        `step_mask` (B, T) is True where an episode has a step, and `num_steps_in_batch` its sum
        over the whole optimisation step.

        `recurrent_state` (B, 1, C) is the initial state; `reset_mask` (B, T) is True at steps
        before which it is reset and no displacement precedes, by default the first step if no state
        is given. `noise` (B, T, H, 3), `timesteps` (B, T), `image_drop` (B, T), steps without
        views, and `condition_drop` (B, T), steps predicted without images and instruction, replace
        the random ones, which come from torch's own generator in training; in evaluation nothing is
        dropped, and the others are always the same for the same steps. Raises ValueError for
        missing or misshapen inputs.
        """
        given = {
            "displacements": displacements,
            "previous_displacements": previous_displacements,
            "relative_pose": relative_pose,
            "progress": progress,
            "stop_progress": stop_progress,
        }
        batch = self._checked(given, len(instruction_ids))
        shape = batch["progress"].shape
        if step_mask is None:
            step_mask = torch.ones(shape, dtype=torch.bool, device=instruction_ids.device)
        batch = {name: masked(value, step_mask) for name, value in batch.items()}
        given = {"noise": noise, "timesteps": timesteps}
        given |= {"image_drop": image_drop, "condition_drop": condition_drop}
        draws = draw_for_training(self.config, _targets(batch), given, self.training)
        self.check_counts(num_steps_in_batch=num_steps_in_batch)
        counted = torch.ones_like(step_mask) if self.config.padded_loss else step_mask
        is_seen = step_mask & ~draws["image_drop"]
        check_words(instruction_ids, self._vocab_size, step_mask.any(1))
        instruction = self.encode_instruction(instruction_ids)
        resets = reset_mask_of(reset_mask, recurrent_state, shape, step_mask)
        images = self._features("rgb", rgb, rgb_features, is_seen, counted)
        depths = self._features("depth", depth, depth_features, is_seen, counted)
        moved = batch["previous_displacements"], batch["relative_pose"]
        scene = self.advance(images, depths, *moved, recurrent_state, resets)
        condition, summary = self._fuse(instruction, scene, counted)
        predicted, target = self._predict(condition, batch["displacements"], draws, counted)
        heads = {"progress": self.progress_head(summary), "stop": self.stop_head(summary)}
        predictions = {
            name: _spread(value, counted) for name, value in {"action": predicted, **heads}.items()
        }
        # as published: padding has arrived at the goal
        arrived = batch["progress"].masked_fill(~step_mask, 1)
        targets = {"action": _spread(target, counted), "progress": arrived}
        targets["stop"] = batch["stop_progress"]
        output = rdp_losses(self.config, predictions, targets, step_mask, num_steps_in_batch)
        initial = self._state(recurrent_state, scene.states)
        output.recurrent_state = last_states(scene.states, initial, step_mask)[:, None]
        return output

    def _predict(
        self, condition: Tensor, displacements: Tensor, draws: dict[str, Tensor], counted: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The denoiser's outputs and targets, (N, H, 3) each, for the N counted steps."""
        if not self.config.use_diffusion:
            memory = self.denoiser.read(condition, self._kinds(), None)
            return self.denoiser(None, memory), self._scaled(displacements)[counted]
        noise, steps = draws["noise"][counted], draws["timesteps"][counted]
        schedule = noise_schedule(self.config.num_diffusion_steps)
        noisy = schedule.add_noise(self._scaled(displacements)[counted], noise, steps)
        dropped = self._droppable(noise.device) & draws["condition_drop"][counted][:, None]
        memory = self.denoiser.read(condition, self._kinds(), steps[:, None])
        return self.denoiser(noisy, memory, dropped), noise

    @torch.no_grad()
    def sample(
        self,
        instruction: Tensor,
        scene: RDPScene,
        step_mask: Tensor | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        noise: Tensor | None = None,
        step_noise: Tensor | None = None,
    ) -> RDPPrediction:
        """Predictions at all steps of `scene`, or at those in `step_mask` (B, T); else NaN.

        `instruction` is ids (B, L) or their output of `encode_instruction`. A list of generators
        has one for each of the B, so that the noise of a row does not depend on the others. `noise`
        (B, T, H, 3) replaces the initial noise, `step_noise` (steps - 1, chains, B, T, H, 3) that
        between the diffusion steps; see `num_chains`.
        """
        shape = scene.states.shape[:2]
        if isinstance(generator, list) and len(generator) != shape[0]:
            raise ValueError(f"generator: found {len(generator)}, expected {shape[0]}.")
        if step_mask is None:
            step_mask = torch.ones(shape, dtype=torch.bool, device=self.device)
        if not instruction.is_floating_point():
            check_words(instruction, self._vocab_size, step_mask.any(1))
            instruction = self.encode_instruction(instruction)
        drawn = draw_for_sampling(self.config, shape, self.device, generator)
        noise = (drawn[0] if noise is None else noise)[step_mask]
        step_noise = (drawn[1] if step_noise is None else step_noise)[:, :, step_mask]
        condition, summary = self._fuse(instruction, scene, step_mask)
        droppable, kinds = self._droppable(noise.device), self._kinds()
        scaled = [
            self._sample_rows(
                condition[rows], kinds, droppable, noise[rows], step_noise[:, :, rows]
            )
            for rows in torch.arange(len(noise)).split(_ROWS_AT_ONCE)
        ]
        low, high = self.config.displacement_min, self.config.displacement_max
        displacements = unscale(torch.cat(scaled), low, high)
        values = (displacements, self.progress_head(summary), self.stop_head(summary))
        return RDPPrediction(*(_spread(value, step_mask, torch.nan) for value in values))

    @torch.no_grad()
    def act(
        self,
        instruction: Tensor,
        rgb: Tensor,
        depth: Tensor,
        previous_displacements: Tensor,
        relative_pose: Tensor,
        recurrent_state: Tensor | None = None,
        starts: Tensor | None = None,
        decide: Tensor | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        noise: Tensor | None = None,
    ) -> RDPAction:
        """The next displacements of each of B robots, which may be at different steps.

        `instruction` is ids (B, L) or their output of `encode_instruction`; `rgb` (B, 3, S, S) and
        `depth` (B, D, D) are the current views; `previous_displacements` (B, 4, 3), the latest
        first, and `relative_pose` (B, 3), since the start. `recurrent_state` (B, 1, C) is that of
        the last call, and `starts` (B,) is True for a robot that starts: its row of the state
        counts as zeros. Without a state all start. Robots that are not in `decide` (B,), because
        they still execute a plan, only update their state. `generator` may be a list with one for
        each of the B; `noise` (B, H, 3) replaces the initial noise.
        """
        decide = torch.ones_like(rgb[:, 0, 0, 0], dtype=torch.bool) if decide is None else decide
        if starts is None:
            starts = torch.full_like(decide, recurrent_state is None)
        seen = (self.encode_rgb(rgb)[:, None], self.encode_depth(depth)[:, None])
        seen += (previous_displacements[:, None], relative_pose[:, None])
        scene = self.advance(*seen, recurrent_state, starts[:, None])
        for _ in range(1, self.config.state_updates_per_decision):
            again = self.advance(*seen, scene.states, starts[:, None])
            states = again.states.where(decide[:, None, None], scene.states)
            scene = again._replace(states=states)
        horizon, device = self.config.action_horizon, decide.device
        displacements = torch.full((len(rgb), horizon, NUM_ACTION_CHANNELS), torch.nan).to(device)
        stop_progress, progress = torch.full((2, len(rgb)), torch.nan).to(device)
        if decide.any():
            if isinstance(generator, list):
                chosen = decide.tolist()
                generator = [one for one, decides in zip(generator, chosen, strict=True) if decides]
            scene_of = RDPScene(*(part[decide] for part in scene))
            noise = None if noise is None else noise[decide, None]
            found = self.sample(instruction[decide], scene_of, generator=generator, noise=noise)
            displacements[decide] = found.displacements[:, 0]
            stop_progress[decide] = found.stop_progress[:, 0]
            progress[decide] = found.progress[:, 0]
        return RDPAction(displacements, stop_progress, progress, scene.states)

    def _sample_rows(
        self,
        condition: Tensor,
        kinds: Tensor,
        droppable: Tensor,
        noise: Tensor,
        step_noise: Tensor,
    ) -> Tensor:
        """Scaled displacements (R, H, 3); `step_noise` (steps - 1, chains, R, H, 3)."""
        if not self.config.use_diffusion:
            return self.denoiser(None, self.denoiser.read(condition, kinds, None))
        return denoise_guided(
            self.denoiser, condition, kinds, droppable, noise, step_noise, self.config
        )

    def _fuse(
        self, instruction: Tensor, scene: RDPScene, step_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Condition tokens (R, N, C) and inputs of the heads (R, 2 C) for the steps in a mask."""
        instruction_mask = instruction.any(-1)
        tokens = torch.cat([scene.image_tokens, scene.states[:, :, None]], dim=2)
        fused = self.image_reader.read_text(tokens, instruction, instruction_mask)[step_mask]
        episodes = step_mask.nonzero()[:, 0]
        text = self.text_reader.summarise_text(
            instruction, instruction_mask, tokens[step_mask], episodes
        )
        states = scene.states[step_mask]
        pose = self.pose_token(scene.relative_pose[step_mask])
        previous = self.previous_tokens(scene.previous_displacements[step_mask])
        single = torch.stack([text, states, pose], dim=1)
        return torch.cat([fused, single, previous], dim=1), torch.cat([states, text], dim=-1)

    @property
    def _vocab_size(self) -> int:
        return self.config.text_config.vocab_size

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weight of each named loss in `loss`."""
        progress, stop = self.config.progress_loss_weight, self.config.stop_loss_weight
        return {"action_loss": 1.0, "progress_loss": progress, "stop_loss": stop}

    def _kinds(self) -> Tensor:
        """(N, E): embedding of the kind of each condition token."""
        return self.kind_embedding(torch.tensor(self.kinds, device=self.device))

    def _droppable(self, device: torch.device) -> Tensor:
        """(1 + N,): True for images and instruction; the first is the token of time."""
        kinds = torch.tensor([-1, *self.kinds], device=device)
        return (kinds == KIND_FUSED) | (kinds == KIND_TEXT)

    def _checked(self, given: dict[str, Tensor | None], num_episodes: int) -> dict[str, Tensor]:
        config = self.config
        told = given["displacements"]
        num_steps = told.shape[1] if told is not None and told.ndim == 4 else -1
        shape = (num_episodes, num_steps)
        channels = NUM_ACTION_CHANNELS
        shapes = {
            "displacements": (*shape, config.action_horizon, channels),
            "previous_displacements": (*shape, config.num_previous_displacements, channels),
            "relative_pose": (*shape, channels),
        }
        for name, value in given.items():
            expected = shapes.get(name, shape)
            if value is None or value.shape != expected:
                found = None if value is None else tuple(value.shape)
                raise ValueError(f"RDPModel: {name}: found {found}, expected {expected}.")
        return {name: value.float() for name, value in given.items() if value is not None}


def _targets(batch: dict[str, Tensor]) -> Tensor:
    """(B, T, ...): targets that distinguish steps, even if the robot stands still."""
    moves, progress = batch["displacements"].flatten(2), batch["progress"][..., None]
    return torch.cat([moves, progress], dim=-1)


def _spread(rows: Tensor, step_mask: Tensor, padding: float = 0) -> Tensor:
    """(B, T, ...) from `rows` (R, ...), which are the steps in `step_mask` (B, T)."""
    steps = rows.new_full((*step_mask.shape, *rows.shape[1:]), padding)
    steps[step_mask] = rows
    return steps
