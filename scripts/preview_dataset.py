"""Show training samples on one HTML page, with images, prompts and answers.

    python scripts/preview_dataset.py data/vln_ce/traj_data --dataset r2r_125cm_0_30
    python scripts/preview_dataset.py outputs/demo/data --dataset r2r_125cm_0_30 --dual-system
    python scripts/preview_dataset.py data/vln_pe/traj_data --whole-walks

With --dual-system the samples are those of the dual system: pixel goals, and the frames on the path
to each with the target trajectory drawn on the floor. With --whole-walks they are those of Seq2Seq,
CMA and RDP: some frames of each episode with the target actions, and a map with the path and RDP's
displacements.
"""

import argparse
import base64
import html
import io
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from internnav_hf.camera import CameraSpec, resize_view
from internnav_hf.command_line import LineParser, ends_in_one_line, output_folder, whole_number
from internnav_hf.data import DualSystemDataset, System2Dataset, VLNDataset
from internnav_hf.data.formats.vln_ce.names import SETTING_PATTERN, camera_settings
from internnav_hf.data.formats.vln_ce.reader import EPISODES_FILE
from internnav_hf.data.readers.folders import subfolders
from internnav_hf.data.tasks.vln import read_texts
from internnav_hf.data.vocabulary import learn_words
from internnav_hf.files import write_text
from internnav_hf.geometry import camera_pose, project, robot_to_world
from internnav_hf.models.system2.dialogue import IMAGE, JOINT, render
from internnav_hf.models.vln.processor import VLNProcessor, word_tokenizer
from internnav_hf.trajectory import path_of

CLASS_NAMES = ("pixel goal", "turn", "stop")
THUMBNAIL_WIDTH = 120
VIEW_WIDTH = 320
GOAL_COLOR = (255, 40, 90)
PATH_COLOR = (20, 220, 255)
IMAGE_MARK = "[image]"
ARROWS = "■↑←→"
NUM_EPISODE_FRAMES = 8
MAP_SIZE, MAP_MARGIN = 240, 20
FARTHEST_M = 10

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title><style>
body {{ font: 15px/1.45 system-ui, sans-serif; color: #222;
  max-width: 1060px; margin: 2em auto; padding: 0 1em }}
section {{ border-top: 1px solid #ccc; padding: 1em 0 }}
h2 {{ font-size: 1.05em; margin: 0 0 .4em }}
.strip {{ display: flex; gap: 4px; flex-wrap: wrap; margin: .5em 0 }} figure {{ margin: 0 }}
img {{ display: block; border-radius: 3px }} figcaption {{ font-size: .8em; color: #666 }}
pre {{ white-space: pre-wrap; background: #f5f5f3; padding: .7em; border-radius: 4px;
  font-size: .82em }}
</style><h1>{title}</h1><p>{summary}</p>{sections}</html>"""


def main() -> None:
    """Write the page and print its path."""
    parser = LineParser(__doc__)
    parser.add_argument("data_root", type=Path, help="the folder with r2r/, rxr/, ...")
    parser.add_argument("--dataset", help="one or more, comma-separated; default: the only one")
    parser.add_argument(
        "--num-samples", type=whole_number(1), default=12, help="samples, spread over the classes"
    )
    parser.add_argument("--seed", type=whole_number(0), default=0)
    parser.add_argument("--dual-system", action="store_true", help="the dual system's samples")
    parser.add_argument("--out", type=Path, default=Path("preview.html"))
    parser.add_argument("--whole-walks", action="store_true", help="samples of Seq2Seq, CMA, RDP")
    options = parser.parse_args()
    output_folder("--out", options.out.parent)
    if options.whole_walks:
        preview_episodes(options)
        return
    name = options.dataset or only_dataset(options.data_root)
    make = partial(DualSystemDataset, depth=False) if options.dual_system else System2Dataset
    dataset = make(options.data_root, name, seed=options.seed)
    indices = choose(dataset, options.num_samples, options.seed)
    write_text(options.out, page(dataset, name, indices))
    print(f"{len(indices)} of {len(dataset)} samples: {options.out}")


def only_dataset(root: Path) -> str:
    """The name of the dataset below `root`, with its first camera if it is of `vln_ce`; ValueError
    if there are several.
    """
    folders = subfolders(root) if root.is_dir() else []
    if len(folders) != 1:
        shown = ", ".join(folder.name for folder in folders[:10]) or "none"
        raise ValueError(f"{root}: found {shown}, expected one dataset: pass --dataset NAME.")
    scenes = [scene for scene in subfolders(folders[0]) if (scene / EPISODES_FILE).is_file()]
    found = [SETTING_PATTERN.fullmatch(s) for scene in scenes for s in camera_settings(scene)]
    cameras = sorted({(match[1], int(match[2])) for match in found if match})
    if not cameras:
        return folders[0].name
    height = cameras[0][0]
    pitches = [pitch for one, pitch in cameras if one == height]
    return f"{folders[0].name}_{height}_{pitches[0]}_{pitches[:2][-1]}"


def preview_episodes(options: argparse.Namespace) -> None:
    """Write the page of whole episodes."""
    processor = VLNProcessor(word_tokenizer(learn_words(read_texts(options.data_root))))
    kinds = ("actions", "displacements")
    datasets = {kind: VLNDataset(options.data_root, processor, kind) for kind in kinds}
    first = datasets["actions"]
    rng = np.random.default_rng(options.seed)
    indices = sorted(rng.permutation(len(first))[: options.num_samples].tolist())
    sections = "\n".join(episode_section(datasets, index) for index in indices)
    summary = f"{len(first)} samples, {first.episodes.num_rows} episodes"
    text = PAGE.format(
        title=html.escape(str(options.data_root)), summary=html.escape(summary), sections=sections
    )
    write_text(options.out, text)
    print(f"{len(indices)} of {len(first)} samples: {options.out}")


def choose(dataset: System2Dataset, num_samples: int, seed: int) -> list[int]:
    """Samples of all classes in turn, so that rare classes appear too."""
    rng = np.random.default_rng(seed)
    classes = dataset.samples["answer_class"].to_numpy()
    shuffled = [rng.permutation(np.flatnonzero(classes == kind)) for kind in range(3)]
    longest = max(len(indices) for indices in shuffled)
    turns = [int(i[n]) for n in range(longest) for i in shuffled if n < len(i)]
    return sorted(turns[:num_samples])


def page(dataset: System2Dataset, title: str, indices: list[int]) -> str:
    """The whole page, with embedded images."""
    classes = dataset.samples["answer_class"].to_numpy()
    counts = ", ".join(f"{(classes == k).sum()} {word}" for k, word in enumerate(CLASS_NAMES))
    size = "{}x{}".format(*dataset.image_size)
    camera = f"camera {dataset.camera.setting}" if dataset.camera else "unknown camera"
    summary = (
        f"{len(dataset)} samples ({counts}), {dataset.episodes.num_rows} episodes,"
        f" {size} pixels, {camera}"
    )
    sections = "\n".join(section(dataset, index) for index in indices)
    return PAGE.format(title=html.escape(title), summary=html.escape(summary), sections=sections)


def section(dataset: System2Dataset, index: int) -> str:
    """One sample: history, the two views with the goal, the dialogue."""
    decision, item = dataset.decision(index), dataset[index]
    messages = item["messages"]
    kind, answer = CLASS_NAMES[decision["answer_class"]], messages[-1]["content"]
    history = [figure(image, THUMBNAIL_WIDTH, "") for image in decision["history"]]
    look_down = decision["look_down"]
    if decision["goal_pixel"] is not None:
        look_down = draw_goal(look_down, decision["goal_pixel"])
    if "path" in decision:
        look_down = draw_path(look_down, decision["path"], decision["camera"])
    views = [
        figure(decision["image"], VIEW_WIDTH, "now"),
        figure(look_down, VIEW_WIDTH, "looking down"),
    ]
    if "rgb" in item:
        views += [figure(view, THUMBNAIL_WIDTH, "") for view in frames(item, decision["camera"])]
    marked = [{**m, "content": m["content"].replace(IMAGE, IMAGE_MARK)} for m in messages]
    return (
        f"<section><h2>{index} · {kind}: {html.escape(answer)}</h2>"
        f"<p>{html.escape(decision['instruction'])}</p>"
        f"<div class=strip>{''.join(history)}</div><div class=strip>{''.join(views)}</div>"
        f"<pre>{html.escape(render(marked).replace(JOINT, ''))}</pre></section>"
    )


def frames(item: dict, camera: CameraSpec) -> list[Image.Image]:
    """The views on the path to the goal, each with the trajectory from there."""
    views = [Image.fromarray(rgb.transpose(1, 2, 0)) for rgb in item["rgb"]]
    paths = path_of(item["actions"])
    return [draw_path(view, path, camera) for view, path in zip(views, paths, strict=True)]


def draw_path(image: Image.Image, path: np.ndarray, camera: CameraSpec) -> Image.Image:
    """Draw `path` (P, 2) as dots on the floor, in a look-down view of any size."""
    T_robot_camera = camera_pose(0, 0, 0, camera.height_m, np.radians(camera.look_down_pitch_deg))
    floor = np.column_stack([path, np.zeros(len(path))])
    pixels, _ = project(floor, T_robot_camera, camera.intrinsics)  # nan behind the camera
    pixels *= np.divide(image.size, (camera.width, camera.height))
    image = image.copy()
    draw = ImageDraw.Draw(image)
    for pixel in pixels[np.isfinite(pixels).all(axis=1)].tolist():
        draw.circle(pixel, max(image.width // 160, 1), fill=PATH_COLOR)
    return image


def episode_section(datasets: dict[str, VLNDataset], index: int) -> str:
    """One episode: its tokens, some frames, the actions, and the path on a map."""
    dataset, item = datasets["actions"], datasets["actions"][index]
    moves = datasets["displacements"][index]
    words = dataset.processor.tokenizer.convert_ids_to_tokens(item["instruction_ids"])
    arrows = "".join(ARROWS[action] for action in item["actions"])
    frames = np.unique(np.linspace(0, len(arrows) - 1, NUM_EPISODE_FRAMES).astype(int)).tolist()
    views, depths = [], []
    for frame in frames:
        caption = f"{frame} {arrows[frame]} {item['progress'][frame]:.2f}"
        view = Image.fromarray(item["rgb"][frame].transpose(1, 2, 0))
        views.append(figure(view, THUMBNAIL_WIDTH, caption))
        grey = (item["depth"][frame] / FARTHEST_M).clip(0, 1) * 255
        depths.append(figure(Image.fromarray(grey.astype(np.uint8)), THUMBNAIL_WIDTH, ""))
    map_ = figure(draw_map(moves["relative_pose"], moves["displacements"], frames), MAP_SIZE, "")
    strips = "".join(
        f"<div class=strip>{''.join(strip)}</div>" for strip in (views, depths, [map_])
    )
    return (
        f"<section><h2>{index} · {len(arrows)} steps</h2><p>{html.escape(dataset.text(index))}</p>"
        f"{strips}<pre>{html.escape(' '.join(words))}\n{arrows}</pre></section>"
    )


def draw_map(poses: np.ndarray, steps: np.ndarray, frames: list[int]) -> Image.Image:
    """A map with the first heading to the right: the path (T, 3), and the steps from each of
    `frames`.
    """
    ahead = [np.cumsum(np.insert(steps[frame, :, :2], 0, 0, axis=0), axis=0) for frame in frames]
    paths = [robot_to_world(path, poses[f]) for path, f in zip(ahead, frames, strict=True)]
    xy = np.concatenate([poses[:, :2], *paths])
    low, extent = xy.min(axis=0), max(np.ptp(xy, axis=0).max(), 1.0)
    image = Image.new("RGB", (MAP_SIZE, MAP_SIZE), "white")
    draw = ImageDraw.Draw(image)

    def pixels(points: np.ndarray) -> list[tuple[float, float]]:
        u, v = (points - low).T / extent * (MAP_SIZE - 2 * MAP_MARGIN) + MAP_MARGIN
        return list(zip(u.tolist(), (MAP_SIZE - v).tolist(), strict=True))

    draw.line(pixels(poses[:, :2]), fill=(90, 90, 90), width=5)
    for path in paths:
        draw.line(pixels(path), fill=GOAL_COLOR, width=1)
    draw.circle(pixels(poses[:1, :2])[0], 5, fill=PATH_COLOR)
    return image


def draw_goal(image: Image.Image, goal: tuple[int, int]) -> Image.Image:
    """Draw a ring and a dot at pixel (u, v)."""
    image = image.copy()
    draw = ImageDraw.Draw(image)
    radius = max(image.width // 40, 3)
    for size, width in ((radius, max(radius // 4, 1)), (max(radius // 5, 1), 2)):
        draw.circle(goal, size, outline=GOAL_COLOR, width=width)
    return image


def figure(image: Image.Image, width: int, caption: str) -> str:
    """An embedded JPEG."""
    buffer = io.BytesIO()
    height = round(image.height * width / image.width)
    resize_view(image, (width, height)).save(buffer, "JPEG", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode()
    caption = html.escape(caption)
    source = (
        f'<img src="data:image/jpeg;base64,{data}" width={width} height={height} alt="{caption}">'
    )
    return f"<figure>{source}<figcaption>{caption}</figcaption></figure>"


if __name__ == "__main__":
    with ends_in_one_line():
        main()
