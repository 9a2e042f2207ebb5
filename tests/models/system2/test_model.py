"""System2: equal to the published network, exact losses, strict loading."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText
from transformers.initialization import no_init_weights

from internnav_hf.models.system2.config import System2Config
from internnav_hf.models.system2.model import System2Model
from tests.golden import GOLDEN
from tests.tiny.batch import pad_batch, tiny_batch
from tests.tiny.released import convert_released
from tests.tiny.seeded_weights import seeded_tensor
from tests.tiny.system2 import FAMILIES, tiny_system2, tiny_vlm_config


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


def test_equal_to_the_reference_network():
    """The reference's tiny Qwen2.5-VL; what stands before its latent queries is plain System2."""
    golden = load_file(GOLDEN / "system2_tiny.safetensors")
    config = System2Config(vlm_config=_golden_config(), use_pixel_goal_head=False)
    model = System2Model(config).eval()
    released = {_released_key(key): value for key, value in model.state_dict().items()}
    seeded = {key: seeded_tensor(key, tuple(value.shape)) for key, value in released.items()}
    model.load_state_dict(convert_released(seeded, model))
    with torch.no_grad():
        inputs = {key: golden[key] for key in ("input_ids", "pixel_values", "image_grid_thw")}
        mask = golden["attention_mask"].long()
        output = model(**inputs, attention_mask=mask)
        images = model.vlm.model.get_image_features(
            golden["pixel_values"], golden["image_grid_thw"], return_dict=True
        ).pooler_output
    torch.testing.assert_close(torch.cat(list(images)), golden["image_embeds"], atol=1e-5, rtol=0)
    for row, end in enumerate(golden["t_s_pos"].tolist()):
        logits = output.logits[row, :end, :64]
        torch.testing.assert_close(logits, golden["logits_first64"][row, :end], atol=1e-5, rtol=0)


def _golden_config():
    text = {
        "vocab_size": 151936,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
    }
    text |= {"num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-6}
    text |= {
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    }
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2}
    vision |= {"fullatt_block_indexes": [1], "out_hidden_size": 64}
    return AutoConfig.for_model("qwen2_5_vl", text_config=text, vision_config=vision)


def _released_key(key: str) -> str:
    key = key.removeprefix("vlm.")
    return key.replace("model.visual.", "visual.").replace("model.language_model.", "model.")


def test_the_released_7b_key_list_fits_strictly():
    shapes = json.loads((GOLDEN / "keys_system2_7b.json").read_text())
    released = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    vision = {"depth": 32, "hidden_size": 1280, "num_heads": 16, "intermediate_size": 3420}
    vision |= {"out_hidden_size": 3584, "fullatt_block_indexes": [7, 15, 23, 31]}
    text = {"vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944}
    text |= {"num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4}
    vlm_config = AutoConfig.for_model("qwen2_5_vl", text_config=text, vision_config=vision)
    with torch.device("meta"), no_init_weights():
        model = System2Model(System2Config(vlm_config=vlm_config, use_pixel_goal_head=False))
    assert convert_released(released, model).keys() == model.state_dict().keys()
    dropped = next(iter(released))
    del released[dropped]
    with pytest.raises(ValueError, match=r"lacks 1 key\(s\): vlm.model.visual.patch_embed"):
        convert_released(released, model)
    released[dropped] = torch.empty(1, device="meta")
    with pytest.raises(ValueError, match="other shapes"):
        convert_released(released, model)


def test_released_names_are_converted_in_old_and_new_layout():
    model = tiny_system2(use_pixel_goal_head=False)
    ours = model.state_dict()
    new = {key.removeprefix("vlm."): value for key, value in ours.items()}
    old = {_released_key(key): value for key, value in ours.items()}
    assert "visual.patch_embed.proj.weight" in old
    for released in (new, old):
        converted = convert_released(released, model)
        assert converted.keys() == ours.keys()
        assert all(torch.equal(converted[key], ours[key]) for key in ours)


def test_a_tied_output_layer_may_be_left_out():
    model = tiny_system2(use_pixel_goal_head=False)
    released = {key.removeprefix("vlm."): value for key, value in model.state_dict().items()}
    del released["lm_head.weight"]
    assert "vlm.lm_head.weight" in convert_released(released, model)
    untied = tiny_system2(use_pixel_goal_head=False, tie_word_embeddings=False)
    with pytest.raises(ValueError, match="vlm.lm_head.weight"):
        convert_released(released, untied)


def test_logits_only_where_there_are_labels(family):
    model, batch = tiny_system2(family), tiny_batch(family)
    output = model(**batch)
    supervised = batch["labels"][:, 1:] != -100
    assert output.logits.shape[0] == supervised.sum()
    labels = batch.pop("labels")
    everywhere = model(**batch).logits
    torch.testing.assert_close(everywhere[:, :-1][supervised], output.logits, atol=1e-5, rtol=0)
    loss = torch.nn.functional.cross_entropy(output.logits, labels[:, 1:][supervised])
    torch.testing.assert_close(output.language_loss, loss)


def test_language_loss_equals_the_stock_models(family):
    model, batch = tiny_system2(family, pixel_goal_loss_weight=0.0), tiny_batch(family)
    names = (
        "input_ids",
        "attention_mask",
        "labels",
        "pixel_values",
        "image_grid_thw",
        "mm_token_type_ids",
    )
    stock = model.vlm(**{name: batch[name] for name in names})
    torch.testing.assert_close(model(**batch).loss, stock.loss)


def test_every_parameter_is_trained_and_the_loss_falls_on_one_batch(family):
    model = tiny_system2(family, landmark_loss_weight=1.0).train()
    batch = tiny_batch(family, landmarks=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = model(**batch).loss
        loss.backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if losses[-1] < 0.3 * losses[0]:
            break
    assert losses[-1] < 0.3 * losses[0]


def test_padding_changes_nothing(family):
    model, batch = tiny_system2(family), tiny_batch(family)
    plain, padded = model(**batch), model(**pad_batch(batch, extra=7))
    for name in ("loss", "language_loss", "pixel_goal_loss", "goal_pixel", "goal_confidence"):
        torch.testing.assert_close(plain[name], padded[name], atol=1e-5, rtol=1e-5)


def test_two_halves_with_global_counts_equal_the_whole_batch():
    model, batch = tiny_system2(), tiny_batch()
    counts = {
        "num_items_in_batch": (batch["labels"][:, 1:] != -100).sum(),
        "num_goals_in_batch": batch["goal_mask"].sum(),
    }
    whole = model(**batch).loss
    halves = [model(**_rows(batch, rows), **counts).loss for rows in ([0, 1], [2])]
    torch.testing.assert_close(sum(halves), whole)


def _rows(batch: dict, rows: list[int]) -> dict:
    """The rows of a batch with their images."""
    per_row = (batch["input_ids"] == tiny_vlm_config().vision_start_token_id).sum(1)
    owner = torch.repeat_interleave(torch.arange(len(per_row)), per_row)
    patches = torch.repeat_interleave(owner, batch["image_grid_thw"].prod(1))
    chosen = torch.tensor(rows)
    pick = {
        "image_grid_thw": torch.isin(owner, chosen),
        "pixel_values": torch.isin(patches, chosen),
    }
    return {key: value[pick.get(key, chosen)] for key, value in batch.items()}


def test_a_batch_without_any_pixel_goal_has_a_finite_loss_and_gradients():
    model, batch = tiny_system2(), tiny_batch()
    batch["goal_mask"][:] = False
    output = model(**batch)
    assert output.pixel_goal_loss == 0
    output.loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    torch.testing.assert_close(output.loss, output.language_loss)


def test_class_losses_are_parts_of_the_language_loss():
    output = tiny_system2()(**tiny_batch())
    parts = ("pixel_text_loss", "turn_loss", "stop_loss")
    total = sum(output[name] * output.loss_counts[name] for name in parts)
    torch.testing.assert_close(
        total, output.language_loss.detach() * output.loss_counts["language_loss"]
    )


def test_images_of_different_sizes_in_one_batch_keep_their_own_grids():
    model, batch = tiny_system2(), tiny_batch()
    output = model(**batch)
    alone = [model(**_rows(batch, [row])) for row in range(3)]
    for row, single in enumerate(alone):
        torch.testing.assert_close(output.goal_pixel[row], single.goal_pixel[0], atol=1e-4, rtol=0)
        rows, columns = single.heatmap.shape[1:]
        torch.testing.assert_close(
            output.heatmap[row, :rows, :columns], single.heatmap[0], atol=1e-5, rtol=0
        )
        assert output.heatmap[row].sum() == pytest.approx(1, abs=1e-5)


def test_gradient_checkpointing_changes_no_gradient(family):
    batch = tiny_batch(family)
    gradients = []
    for checkpointing in (False, True):
        model = tiny_system2(family).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(**batch).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_bfloat16_runs():
    output = tiny_system2().to(torch.bfloat16)(**_floats(tiny_batch(), torch.bfloat16))
    assert output.loss.isfinite()


def _floats(batch: dict, dtype: torch.dtype) -> dict:
    return batch | {"pixel_values": batch["pixel_values"].to(dtype)}


@pytest.mark.parametrize("tied", [True, False])
def test_round_trips(family, tied, tmp_path):
    model, batch = tiny_system2(family, tie_word_embeddings=tied), tiny_batch(family)
    model.save_pretrained(tmp_path)
    expected = model(**batch)
    for loader in (System2Model, AutoModel, AutoModelForImageTextToText):
        loaded = loader.from_pretrained(tmp_path).eval()
        assert type(loaded) is System2Model
        torch.testing.assert_close(loaded(**batch).loss, expected.loss)


def test_a_plain_vlm_loads_as_system2_and_leaves_as_a_plain_vlm(family, tmp_path):
    model, batch = tiny_system2(family), tiny_batch(family)
    del batch["labels"]
    model.save_vlm(tmp_path / "plain")
    stock = AutoModelForImageTextToText.from_pretrained(tmp_path / "plain")
    assert stock.config.model_type == family
    headless = System2Model.from_pretrained(tmp_path / "plain").eval()
    assert not headless.config.use_pixel_goal_head
    torch.testing.assert_close(headless(**batch).logits, model(**batch).logits)
    with_head = System2Model.from_pretrained(
        tmp_path / "plain", use_pixel_goal_head=True, head_hidden_size=16
    ).eval()
    torch.testing.assert_close(with_head(**batch).logits, model(**batch).logits)
    assert with_head.pixel_goal_head.key.weight.std() > 0.01
    assert torch.isfinite(with_head(**batch).goal_pixel).all()


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("asked", [torch.float32, torch.bfloat16])
def test_a_plain_vlm_loads_in_the_type_asked_for_with_exact_rotary_frequencies(
    stored, asked, tmp_path
):
    tiny_system2().to(stored).save_vlm(tmp_path)
    model = System2Model.from_pretrained(tmp_path, use_pixel_goal_head=True, dtype=asked)
    assert {parameter.dtype for parameter in model.parameters()} == {asked}
    frequencies = {n: b.dtype for n, b in model.named_buffers() if "inv_freq" in n}
    assert frequencies
    assert set(frequencies.values()) == {torch.float32}
    batch = tiny_batch()
    output = model(**_floats(batch, asked))
    assert output.loss.isfinite()
    assert output.goal_pixel.isfinite().all()


def test_a_model_goes_on_without_the_landmark_head_it_was_trained_with(tmp_path):
    tiny_system2(landmark_loss_weight=1.0).save_pretrained(tmp_path)
    model = System2Model.from_pretrained(tmp_path, landmark_loss_weight=0.0)
    assert not hasattr(model, "landmark_head")


def test_the_landmark_head_takes_part_in_a_batch_without_masks():
    model = tiny_system2(landmark_loss_weight=1.0)
    model(**tiny_batch()).loss.backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.landmark_head.parameters())


def test_a_checkpoint_with_a_missing_or_unknown_key_is_refused(tmp_path):
    tiny_system2().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    dropped = weights.pop("pixel_goal_head.query.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 key\(s\): pixel_goal_head.query.weight"):
        System2Model.from_pretrained(tmp_path)
    save_file(
        weights | {"pixel_goal_head.query.weight": dropped, "stray": dropped.clone()},
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(ValueError, match=r"unexpected 1 key\(s\): stray"):
        System2Model.from_pretrained(tmp_path)


def test_an_unknown_config_field_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match="no field 'head_hidden_sise'. Did you mean 'head_hidden_size'"
    ):
        System2Config(vlm_config=tiny_vlm_config(), head_hidden_sise=3)
    System2Config(vlm_config=tiny_vlm_config()).save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(stored | {"image_widht": 3}))
    with pytest.raises(ValueError, match="Did you mean 'image_width'"):
        System2Config.from_pretrained(tmp_path)
