"""Pictures of a report: maps with paths, views with pixel goal and heatmap, the training curve."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from internnav_hf.camera import CameraSpec
from internnav_hf.evaluation.records import STEP, DecisionRecord, StoredRollout, spread
from internnav_hf.geometry import camera_pose, project
from internnav_hf.sim.render import top_down
from internnav_hf.sim.scenes import Scene

BASELINE_COLORS = {
    "random": "#e8890c",
    "forward": "#495057",
    "straight-line": "#495057",
    "oracle": "#2b8a3e",
}
MODEL_COLORS = ("#1c7ed6", "#d6336c", "#7048e8", "#0c8599", "#5c940d", "#a61e4d", "#8d4a1f")
GOAL_COLOR = (255, 45, 120)
BUNDLE_COLOR, MEAN_COLOR = (28, 126, 214), (255, 255, 255)  # of sampled trajectories, their mean
PLAN_PIXELS_PER_METRE = 60.0
MAPS_IN_A_ROW = 5
MAP_WIDTH, TITLE_HEIGHT = 2.3, 0.4  # inches
MOST_CURVES = 24


def agent_colors(names: Iterable[str]) -> dict[str, str]:
    """A colour for each agent: the same in every report for a baseline, models in turn."""
    colors = cycle(MODEL_COLORS)
    return {name: BASELINE_COLORS.get(name) or next(colors) for name in dict.fromkeys(names)}


def draw_map(
    scene: Scene,
    rollouts: Sequence[StoredRollout],
    success_distance: float,
    colors: Mapping[str, str] | None = None,
    margin_m: float | None = None,
) -> bytes:
    """PNG of the plan seen from above with the path of every agent. The first rollout is drawn on
    top, with the trajectories of some of its decisions.

    With `margin_m`, metres, only the part around the paths; else all of it, with the names of
    things and the places where the first agent decided. `colors` are those of the agents.
    """
    main = rollouts[0]
    colors = colors or agent_colors(rollout.agent for rollout in rollouts)
    plan, T_pixel_world = top_down(scene, PLAN_PIXELS_PER_METRE)
    low, high = _window(plan, T_pixel_world, rollouts, margin_m)
    figure, axes = plan_figure((high - low)[0] / (high - low)[1])
    plot = _plan_axes(axes, plan, T_pixel_world, low, high)
    if margin_m is None:
        _name_objects(plot, scene)
        places = [decision.position for decision in main.decisions]
        plot.plot(np.reshape(places, (-1, 2)), ".", color="white", ms=4, zorder=7)
    _draw_task(plot, main, success_distance)
    _draw_trajectories(plot, main, colors[main.agent])
    for rollout in reversed(rollouts):
        is_success = rollout.is_success(success_distance)
        _draw_path(plot, rollout, colors[rollout.agent], is_success, rollout is main)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, frameon=False, fontsize=8)
    return png(figure)


def draw_side_by_side(
    scene: Scene,
    rollouts: Sequence[StoredRollout],
    success_distance: float,
    colors: Mapping[str, str],
    margin_m: float | None = None,
) -> bytes:
    """PNG of one episode, a map for each agent, all of the same part of the plan; else as
    `draw_map`.
    """
    from matplotlib.figure import Figure

    plan, T_pixel_world = top_down(scene, PLAN_PIXELS_PER_METRE)
    low, high = _window(plan, T_pixel_world, rollouts, margin_m)
    num_rows, num_columns = grid_of(len(rollouts))
    height = MAP_WIDTH * float(np.clip((high - low)[1] / (high - low)[0], 0.4, 1.6))
    figure = Figure(figsize=(MAP_WIDTH * num_columns, (height + TITLE_HEIGHT) * num_rows))
    panels = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    top = 1 - TITLE_HEIGHT / (height + TITLE_HEIGHT) / num_rows
    space = {"wspace": 0.03, "hspace": TITLE_HEIGHT / height}
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.01, top=top, **space)
    for axes in panels:
        axes.set_axis_off()
    for axes, rollout in zip(panels, rollouts, strict=False):
        plot, color = _plan_axes(axes, plan, T_pixel_world, low, high), colors[rollout.agent]
        _draw_task(plot, rollout, success_distance)
        _draw_trajectories(plot, rollout, color)
        is_success = rollout.is_success(success_distance)
        _draw_path(plot, rollout, color, is_success, is_main=True)
        title = f"{plain(rollout.agent)}\n{plain(rollout.outcome)}"
        axes.set_title(title, color=color, fontsize=8, fontweight="bold", y=1.0, pad=3)
    return png(figure, is_tight=False)


def grid_of(num_maps: int) -> tuple[int, int]:
    """Rows and columns of so many maps, rows as equally long as can be: 7 are 4 and 3."""
    num_rows = -(-num_maps // MAPS_IN_A_ROW)
    return num_rows, -(-num_maps // num_rows)


def _window(
    plan: np.ndarray,
    T_pixel_world: np.ndarray,
    rollouts: Sequence[StoredRollout],
    margin_m: float | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest plan pixel to show: all of it, or with a margin what is driven."""
    low, high = np.zeros(2), np.array(plan.shape[1::-1], dtype=float)
    if margin_m is None:
        return low, high
    places = [*(rollout.positions for rollout in rollouts), rollouts[0].reference_path]
    pixels = PlanAxes(None, T_pixel_world).pixels(np.concatenate(places))
    margin = margin_m * PLAN_PIXELS_PER_METRE
    return np.maximum(pixels.min(axis=0) - margin, low), np.minimum(
        pixels.max(axis=0) + margin, high
    )


def _plan_axes(
    axes: Any, plan: np.ndarray, T_pixel_world: np.ndarray, low: np.ndarray, high: np.ndarray
) -> "PlanAxes":
    """Axes that show the plan between two of its pixels."""
    (left, top), (right, bottom) = np.floor(low).astype(int), np.ceil(high).astype(int)
    axes.imshow(
        plan[top:bottom, left:right],
        extent=(left - 0.5, right - 0.5, bottom - 0.5, top - 0.5),
    )
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(high[1], low[1])
    axes.set_axis_off()
    return PlanAxes(axes, T_pixel_world)


@dataclass
class PlanAxes:
    """Matplotlib axes over a plan image, drawn on in metres."""

    axes: Any
    T_pixel_world: np.ndarray

    def pixels(self, xy: Any) -> np.ndarray:
        """Plan pixels (N, 2) of places (N, 2)."""
        xy = np.asarray(xy, dtype=float)
        return np.concatenate([xy, np.ones((len(xy), 1))], axis=1) @ self.T_pixel_world.T

    def plot(self, xy: Any, *args, **kwargs) -> None:
        """As matplotlib's plot, for places (N, 2)."""
        self.axes.plot(*self.pixels(xy).T, *args, **kwargs)


def _name_objects(plot: PlanAxes, scene: Scene) -> None:
    halo = {"boxstyle": "round,pad=0.2", "fc": "white", "ec": "none", "alpha": 0.8}
    style = {"fontsize": 6.5, "ha": "center", "va": "center", "bbox": halo, "zorder": 3}
    for item in scene.objects:
        u, v = plot.pixels([item.position])[0]
        plot.axes.text(u, v, plain(item.name), **style)


def _draw_task(plot: PlanAxes, rollout: StoredRollout, success_distance: float) -> None:
    """Start, and goal and shortest path if there is a goal."""
    style = {"marker": "o", "ms": 8, "mfc": "white", "mec": "black", "mew": 2, "ls": "none"}
    plot.plot(rollout.positions[:1], label="start", zorder=8, **style)
    if rollout.goal_xy is None:
        return
    angle = np.linspace(0, 2 * np.pi, 60)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1) * success_distance
    plot.plot(circle + rollout.goal_xy, ":", color="#f08c00", lw=1.6, zorder=3)
    plot.plot(rollout.reference_path, "-", color="white", lw=2.6, alpha=0.6, zorder=4.5)
    plot.plot(rollout.reference_path, "--", color="black", lw=1.3, label="reference", zorder=5)
    style = {"marker": "*", "ms": 15, "mfc": "#ffd43b", "mec": "black", "ls": "none"}
    plot.plot([rollout.goal_xy], label="goal", zorder=8, **style)


def _draw_trajectories(plot: PlanAxes, rollout: StoredRollout, color: str) -> None:
    """Trajectories in colours by the critic's values, or thin without a critic."""
    for decision in spread([d for d in rollout.decisions if d.trajectories]):
        paths: list = decision.trajectories or []
        colors, style = [color] * len(paths), {"lw": 0.5, "alpha": 0.25}
        if decision.values is not None:
            colors, style = list(value_colors(decision.values)), {"lw": 0.7, "alpha": 0.75}
        for path, path_color in reversed(list(zip(paths, colors, strict=True))):
            plot.plot(path, "-", color=path_color, zorder=4, **style)


def _draw_path(
    plot: PlanAxes, rollout: StoredRollout, color: str, is_success: bool, is_main: bool
) -> None:
    width, order = (2.7, 6) if is_main else (1.5, 5)
    plot.plot(rollout.positions, "-", color="white", lw=width + 1.6, alpha=0.8, zorder=order)
    label = plain(f"{rollout.agent} ({rollout.outcome})")
    plot.plot(rollout.positions, "-", color=color, lw=width, label=label, zorder=order)
    marker = "s" if is_success else "X"
    plot.plot(rollout.positions[-1:], marker, color=color, ms=8, mec="white", zorder=9)


def draw_decision(
    image: Image.Image,
    decision: DecisionRecord,
    camera: CameraSpec | None = None,
    heatmap_opacity: float = 0.55,
) -> Image.Image:
    """The view with the heatmap laid over it, a ring at the pixel goal, and, if the `camera` that
    took it is known, the sampled trajectories on the floor.
    """
    picture = image.convert("RGB")
    if decision.heatmap is not None:
        picture = overlay_heatmap(picture, np.asarray(decision.heatmap), heatmap_opacity)
    if decision.trajectories is not None and camera is not None:
        picture = draw_trajectories(picture, decision, camera)
    if decision.goal_pixel is not None:
        draw_goal(picture, decision.goal_pixel)
    return picture


def overlay_heatmap(image: Image.Image, heatmap: np.ndarray, opacity: float) -> Image.Image:
    """`heatmap` (rows, columns) of any scale: its largest value gets `opacity`, 0 stays clear."""
    from matplotlib import colormaps

    values = heatmap.astype(np.float32) / max(float(heatmap.max()), 1e-9)
    smooth = Image.fromarray(values).resize(image.size, Image.Resampling.BICUBIC)
    strength = np.clip(np.asarray(smooth), 0, 1)[..., None]
    colors = colormaps["turbo"](0.35 + 0.6 * strength[..., 0])[..., :3] * 255
    weight = np.sqrt(strength) * opacity  # the tail of a sharp heatmap stays visible
    return Image.fromarray((np.asarray(image) * (1 - weight) + colors * weight).astype(np.uint8))


def draw_trajectories(
    image: Image.Image, decision: DecisionRecord, camera: CameraSpec
) -> Image.Image:
    """A bundle on the floor of the view: thin lines, and in white their mean, or the one that the
    critic likes best: then the lines have the colours of its values.
    """
    pitch = np.radians(camera.pitch_deg if decision.kind == STEP else camera.look_down_pitch_deg)
    T_world_camera = camera_pose(*decision.position, decision.yaw, camera.height_m, pitch)
    paths, values = np.asarray(decision.trajectories), decision.values
    layer = Image.new("RGBA", image.size)
    pen = ImageDraw.Draw(layer)
    unit = max(image.height / 240, 1.0)
    chosen, colors = paths.mean(axis=0), [(*BUNDLE_COLOR, 150)] * len(paths)
    if values is not None:
        chosen = paths[0]
        colors = [(*color, 220) for color in (255 * value_colors(values)).astype(int).tolist()]
    lines = [(path, color, 1.5 * unit) for path, color in zip(paths, colors, strict=True)][::-1]
    for path, color, width in [*lines, (chosen, (*MEAN_COLOR, 255), 2 * unit)]:
        floor = np.concatenate([path, np.zeros((len(path), 1))], axis=1)
        pixels, depth = project(floor, T_world_camera, camera.intrinsics)
        # What is beneath the robot is outside the image, and lines from there are not straight.
        seen = [tuple(pixel) for pixel in pixels[depth > 0.1].tolist()]
        pen.line(seen, fill=color, width=max(1, round(width)))
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def value_colors(values: Any) -> np.ndarray:
    """(N, 3) in [0, 1]: red for the lowest of a critic's values (N,), blue for the highest."""
    from matplotlib import colormaps

    values = np.asarray(values, dtype=float)
    spread = max(float(np.ptp(values)), 1e-9)
    return colormaps["turbo"](0.9 - 0.78 * (values - values.min()) / spread)[:, :3]


def draw_goal(image: Image.Image, goal_pixel: tuple[float, float]) -> None:
    """A ring with a point at (u, v); in place."""
    u, v = goal_pixel
    pen = ImageDraw.Draw(image)
    unit = max(image.height / 120, 1.0)
    for radius, color, width in ((7, (255, 255, 255), 3), (6, GOAL_COLOR, 2)):
        box = (u - radius * unit, v - radius * unit, u + radius * unit, v + radius * unit)
        pen.ellipse(box, outline=color, width=max(1, round(width * unit / 2)))
    pen.ellipse((u - unit, v - unit, u + unit, v + unit), fill=GOAL_COLOR)


def plot_training_curve(log_history: list[dict]) -> bytes:
    """PNG of every loss, and of held-out pixel errors when they were measured, over the steps."""
    from matplotlib.figure import Figure

    names = sorted({name for entry in log_history for name in entry if is_curve(name)})
    names = names[:MOST_CURVES]
    groups = [[n for n in names if "loss" in n], [n for n in names if "loss" not in n]]
    groups = [group for group in groups if group]
    figure = Figure(figsize=(5.2 * max(len(groups), 1), 3), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, max(len(groups), 1)))
    for axes, group in zip(panels, groups, strict=False):
        for name in group:
            points = [(e["step"], e[name]) for e in log_history if name in e and "step" in e]
            axes.plot(*zip(*points, strict=True), label=plain(name), lw=1.6)
        axes.set_xlabel("step")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=7, frameon=False)
    return png(figure)


def plain(text: str) -> str:
    """Text for a picture: a $ begins no formula, and what cannot be written is a question mark."""
    shown = text.encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() else " " for c in shown)[:80].replace("$", r"\$")


def is_curve(name: str) -> bool:
    """Whether what a training logs under this name is drawn."""
    return name.endswith("loss") or "pixel_error" in name


def plan_figure(aspect: float) -> tuple[Any, Any]:
    """A figure for a plan and its axes; `aspect` is width / height."""
    from matplotlib.figure import Figure

    height = 5.0 / max(aspect, 1.0)
    figure = Figure(figsize=(max(height * aspect, 3.2), height + 0.7), layout="constrained")
    axes = figure.subplots()
    axes.set_aspect("equal")
    return figure, axes


def png(figure: Any, is_tight: bool = True) -> bytes:
    """Compressed bytes of a figure, without its empty margins if `is_tight`."""
    buffer = io.BytesIO()
    cut = {"bbox_inches": "tight", "pad_inches": 0.05} if is_tight else {}
    figure.savefig(buffer, dpi=130, **cut)
    return buffer.getvalue()


def jpeg(image: Image.Image, quality: int = 82) -> bytes:
    """Compressed bytes of an image."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def data_uri(content: bytes, kind: str) -> str:
    """An image that lives inside the HTML; `kind` is "png" or "jpeg"."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
