"""The cost of an epoch of CMA with stored features, compared with encoding every frame.

    python -m benchmarks.vln_features

One process, one run: CMA at the published sizes (ResNet-50 for colours and for depth at 256x256,
256 + 256 channels for words, a state of 512), batches of two episodes, losses, gradients and AdamW,
on synthetic episodes of a few frames with three instructions each. Both epochs read the same data
set in turn, and the best round of each counts. Ends with an error if stored features are not
`LIMIT_RATIO` times as fast.

Then the effect of storing them in float16 on the outputs, compared with frames encoded in float32.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from benchmarks.data import synthetic_image
from internnav_hf.camera import CameraSpec
from internnav_hf.command_line import LineParser
from internnav_hf.data import FeatureStore, VLNCollator, VLNDataset
from internnav_hf.data.features import DTYPES, cache_features
from internnav_hf.models.vln.cma import CMAModel
from internnav_hf.models.vln.config import CMAConfig
from internnav_hf.models.vln.processor import VLNProcessor, word_tokenizer
from internnav_hf.sim.writers.vln_pe import RecordedEpisode, vln_pe_folder

LIMIT_RATIO = 5.0
BATCH_SIZE = 2  # published
SIZE = 256
WORDS = ("walk", "past", "the", "red", "chair", "and", "stop", "turn", "left")
INSTRUCTIONS = ("Walk past the chair and stop.", "Turn left and stop", "Stop past the red chair")


def main() -> None:
    """Print the table; exit with an error below the limit."""
    parser = LineParser(__doc__)
    parser.add_argument("--walks", type=int, default=2, help="episodes in the data set")
    parser.add_argument("--frames", type=int, default=6, help="frames of each episode")
    parser.add_argument("--rounds", type=int, default=2, help="epochs of each kind")
    parser.add_argument(
        "--threads", type=int, default=torch.get_num_threads(), help="threads of torch"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_walks(folder / "data" / "synthetic" / "scene", options.walks, options.frames)
        dataset = open_dataset(folder)
        model = make_model(dataset)
        stores = {dtype: FeatureStore(folder / dtype, "these", dtype) for dtype in DTYPES}
        start = time.perf_counter()
        cache_features(dataset, stores["float16"], model.encode_rgb, model.encode_depth)
        filling = time.perf_counter() - start
        cache_features(dataset, stores["float32"], model.encode_rgb, model.encode_depth)
        seconds = {False: [], True: []}
        for _ in range(options.rounds):
            for kept in seconds:
                dataset.features = stores["float16"] if kept else None
                seconds[kept].append(epoch(model, dataset))
        size = sum(path.stat().st_size for path in stores["float16"].folder.rglob("*.safetensors"))
        num_frames = options.walks * options.frames
        encoding, kept = min(seconds[False]), min(seconds[True])
        print(f"\n{len(dataset)} samples of {options.frames} frames, {options.threads} threads")
        print(f"  seconds per epoch, frames encoded     {encoding:10.2f}")
        print(f"  seconds per epoch, features stored    {kept:10.2f}   {encoding / kept:.1f} times")
        print(f"  seconds to fill the store, once       {filling:10.2f}")
        print(f"  kB per frame, float16                 {size / num_frames / 1e3:10.1f}")
        for dtype, store in stores.items():
            state, logits, changed = difference(model, dataset, store)
            print(
                f"  {dtype}: states differ by up to {state:.1e}, log-probabilities by {logits:.1e}"
                f", {changed} actions of {len(dataset) * options.frames}"
            )
    if encoding < LIMIT_RATIO * kept:
        sys.exit(
            f"stored features are {encoding / kept:.1f} times as fast; the limit is {LIMIT_RATIO}"
        )


def write_walks(unit: Path, num_walks: int, num_frames: int) -> None:
    """Write episodes straight ahead, with images of noise and patches."""
    rng = np.random.default_rng(0)
    camera = CameraSpec(width=SIZE, height=SIZE)
    with vln_pe_folder(unit, camera, {"scene": unit.name}) as writer:
        for _ in range(num_walks):
            views = [synthetic_image(rng).resize((SIZE, SIZE)) for _ in range(num_frames)]
            x = 0.25 * np.arange(num_frames)
            writer.add(
                RecordedEpisode(
                    INSTRUCTIONS,
                    poses=np.stack([x, 0 * x, 0 * x], axis=1),
                    rgb=np.stack([np.asarray(view) for view in views]),
                    depth=rng.uniform(0.3, 9, (num_frames, SIZE, SIZE)),
                    actions=np.array([1] * (num_frames - 1) + [0]),
                    progress=np.linspace(0, 1, num_frames),
                )
            )


def open_dataset(folder: Path) -> VLNDataset:
    """The dataset as for training, with a tokenizer of few words."""
    processor = VLNProcessor(word_tokenizer(("<pad>", "<unk>", *WORDS)))
    return VLNDataset(folder / "data", processor, cache_dir=folder / "cache")


def make_model(dataset: VLNDataset) -> CMAModel:
    """A CMA of published size with random weights. Batch norm's running statistics are set to those
    of some frames, so that features are as large as trained ones and actions are not arbitrary.
    """
    model = CMAModel(CMAConfig()).eval()
    nn.init.orthogonal_(model.action_head.weight)
    norms = [part for part in model.rgb_encoder.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum, norm.training = 1.0, True
    with torch.no_grad():
        model.encode_rgb(torch.from_numpy(dataset.read_frames(0)["rgb"]))
    return model.train()


def epoch(model: CMAModel, dataset: VLNDataset) -> float:
    """Seconds of one epoch with optimisation."""
    learns = [weights for weights in model.parameters() if weights.requires_grad]
    optimizer = torch.optim.AdamW(learns, lr=1e-4)
    loader = DataLoader(dataset, BATCH_SIZE, collate_fn=VLNCollator())
    start = time.perf_counter()
    for batch in loader:
        loss = model(**batch).loss
        assert loss is not None
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - start


@torch.inference_mode()
def difference(
    model: CMAModel, dataset: VLNDataset, store: FeatureStore
) -> tuple[float, float, int]:
    """The largest differences of last states and of log-probabilities, and the number of changed
    most likely actions.
    """
    model.eval()
    states, logits = [], []
    for features in (None, store):
        dataset.features = features
        loader = DataLoader(dataset, BATCH_SIZE, collate_fn=VLNCollator())
        outputs = [model(**batch) for batch in loader]
        states.append(torch.cat([output.recurrent_state for output in outputs]))
        logits.append(torch.cat([output.logits for output in outputs]))
    model.train()
    changed = logits[0].argmax(-1) != logits[1].argmax(-1)
    largest = [float((pair[0] - pair[1]).abs().max()) for pair in (states, logits)]
    return largest[0], largest[1], int(changed.sum())


if __name__ == "__main__":
    main()
