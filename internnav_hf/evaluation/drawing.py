"""Pictures of a report: maps with paths, views with pixel goal and heatmap, the training curve."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from internnav_hf.evaluation.records import DecisionRecord, Rollout

AGENT_COLORS = {"system2": "#d6336c", "oracle": "#2b8a3e", "random": "#e8890c"}
OTHER_COLORS = ("#7048e8", "#0c8599", "#5c940d", "#a61e4d")
GOAL_COLOR = (255, 45, 120)
FREE_COLOR, BLOCKED_COLOR = (250, 249, 246), (88, 92, 102)


@dataclass
class MapObject:
    """A piece of furniture seen from above: its rectangle in metres and colour (r, g, b) in 0..1."""

    name: str
    low_xy: tuple[float, float]
    size_xy: tuple[float, float]
    color: tuple[float, float, float]


@dataclass
class SceneMap:
    """Ground plan: `free` (rows, columns) bool over `extent` (x0, x1, y0, y1) metres, row 0 at y0."""

    free: np.ndarray
    extent: tuple[float, float, float, float]
    objects: list[MapObject]


def agent_color(name: str, position: int = 0) -> str:
    """An agent's colour, the same in every picture; `position` tells unknown agents apart."""
    return AGENT_COLORS.get(name, OTHER_COLORS[position % len(OTHER_COLORS)])


def draw_map(scene_map: SceneMap, rollouts: list[Rollout], success_distance: float) -> bytes:
    """PNG of the ground plan with everyone's path; the first rollout is drawn on top."""
    figure, axes = _figure(scene_map.extent)
    colors = np.where(scene_map.free[..., None], FREE_COLOR, BLOCKED_COLOR).astype(np.uint8)
    axes.imshow(colors, extent=scene_map.extent, origin="lower", interpolation="nearest")
    for item in scene_map.objects:
        _draw_object(axes, item)
    _draw_reference(axes, rollouts[0], success_distance)
    for position, rollout in reversed(list(enumerate(rollouts))):
        _draw_path(axes, rollout, agent_color(rollout.agent, position), is_main=position == 0)
    axes.set_axis_off()
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3, frameon=False, fontsize=8)
    return _png(figure)


def _draw_object(axes, item: MapObject) -> None:
    from matplotlib.patches import Rectangle

    dark = np.array(item.color) * 0.55
    axes.add_patch(Rectangle(item.low_xy, *item.size_xy, fc=item.color, ec=dark, lw=1.2, zorder=2))
    center = np.add(item.low_xy, np.array(item.size_xy) / 2)
    halo = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.75}
    axes.text(*center, item.name, fontsize=6, ha="center", va="center", bbox=halo, zorder=3)


def _draw_reference(axes, rollout: Rollout, success_distance: float) -> None:
    from matplotlib.patches import Circle

    goal = rollout.goal_position
    disc = Circle(goal, success_distance, fc="#ffd43b", ec="#f08c00", alpha=0.3, ls=":", zorder=1)
    axes.add_patch(disc)
    axes.plot(*rollout.reference_path.T, "--", color="#495057", lw=1.5, label="reference", zorder=4)
    goal_style = {"marker": "*", "ms": 15, "mfc": "#ffd43b", "mec": "#5f3dc4", "ls": "none"}
    axes.plot(*goal, label="goal", zorder=8, **goal_style)
    start_style = {"marker": "o", "ms": 8, "mfc": "white", "mec": "black", "mew": 2, "ls": "none"}
    axes.plot(*rollout.positions[0], label="start", zorder=8, **start_style)


def _draw_path(axes, rollout: Rollout, color: str, is_main: bool) -> None:
    ending = "stopped" if rollout.stop_called else "step limit"
    style = {"lw": 2.8, "alpha": 0.95} if is_main else {"lw": 1.6, "alpha": 0.7}
    label = f"{rollout.agent} ({ending})"
    axes.plot(
        *rollout.positions.T, "-", color=color, label=label, zorder=6 if is_main else 5, **style
    )
    marker = "s" if rollout.stop_called else "X"
    axes.plot(*rollout.positions[-1], marker, color=color, ms=8, mec="white", zorder=7)
    if is_main and rollout.decisions:
        asked = np.array([decision.position for decision in rollout.decisions])
        axes.plot(*asked.T, ".", color="white", ms=4, zorder=7)


def draw_decision(
    image: Image.Image, decision: DecisionRecord, heatmap_opacity: float = 0.55
) -> Image.Image:
    """The view with the heatmap laid over it and a ring at the pixel goal."""
    picture = image.convert("RGB")
    if decision.heatmap is not None:
        picture = overlay_heatmap(picture, np.asarray(decision.heatmap), heatmap_opacity)
    if decision.goal_pixel is not None:
        draw_goal(picture, decision.goal_pixel)
    return picture


def overlay_heatmap(image: Image.Image, heatmap: np.ndarray, opacity: float) -> Image.Image:
    """`heatmap` (rows, columns) of any scale; its largest value gets `opacity`, zero stays clear."""
    from matplotlib import colormaps

    values = heatmap.astype(np.float32) / max(float(heatmap.max()), 1e-9)
    smooth = Image.fromarray(values).resize(image.size, Image.Resampling.BICUBIC)
    strength = np.clip(np.asarray(smooth), 0, 1)[..., None]
    colors = colormaps["turbo"](0.35 + 0.6 * strength[..., 0])[..., :3] * 255
    weight = strength * opacity
    return Image.fromarray((np.asarray(image) * (1 - weight) + colors * weight).astype(np.uint8))


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

    names = sorted({name for entry in log_history for name in entry if _is_curve(name)})
    groups = [[n for n in names if "loss" in n], [n for n in names if "loss" not in n]]
    groups = [group for group in groups if group]
    figure = Figure(figsize=(5.2 * max(len(groups), 1), 3), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, max(len(groups), 1)))
    for axes, group in zip(panels, groups, strict=False):
        for name in group:
            points = [(e["step"], e[name]) for e in log_history if name in e and "step" in e]
            axes.plot(*zip(*points, strict=True), label=name, lw=1.6)
        axes.set_xlabel("step")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=7, frameon=False)
    return _png(figure)


def _is_curve(name: str) -> bool:
    return name.endswith("loss") or "pixel_error" in name


def _figure(extent: tuple[float, float, float, float]):
    from matplotlib.figure import Figure

    width, height = extent[1] - extent[0], extent[3] - extent[2]
    inches = 5.0 / max(width, height)
    figure = Figure(figsize=(max(width * inches, 3.2), height * inches + 0.6), layout="constrained")
    axes = figure.subplots()
    axes.set_aspect("equal")
    return figure, axes


def _png(figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=130)
    return buffer.getvalue()


def jpeg(image: Image.Image, quality: int = 82) -> bytes:
    """Compressed bytes of an image."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def data_uri(content: bytes, kind: str) -> str:
    """An image that lives inside the HTML; `kind` is "png" or "jpeg"."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
