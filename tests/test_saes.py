"""SAE stacks: releases of the registry, folders, raw Gemma Scope files, laziness, restriction, and every refusal."""

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf
from sae_lens import SAE
from safetensors.torch import load_file, save_file
from tiny_models import PROMPTS, build_model, build_sae, save_stack

from interp import UserError, capture, load_saes
from interp.engine import ablate_jointly
from interp.errors import InterpWarning
from interp.run.config import Config, SaesConfig, load_config
from interp.run.fetch import needs
from interp.saes.catalogue import catalogue
from interp.saes.checks import base_name, check_saes, unexplained
from interp.saes.folders import choose_in_folder
from interp.saes.releases import choose_saes, parse_width, residual_releases
from interp.saes.stack import SaeSource, SaeStack

LABELS = ["anger", "fear", "joy"]
KINDS = ["standard", "gated", "jumprelu", "topk"]

# ---------------------------------------------------------------------------------- the registry


def test_canonical_releases_give_one_sae_a_layer():
    with pytest.warns(InterpWarning, match="took width 16384"):
        chosen = choose_saes("gemma-scope-2b-pt-res-canonical")
    assert list(chosen) == list(range(26))
    assert {c.sae_id for c in chosen.values()} == {f"layer_{k}/width_16k/canonical" for k in range(26)}
    assert chosen[7].neuronpedia == "gemma-2-2b/7-gemmascope-res-16k"


def test_partial_coverage_and_width(recwarn):
    chosen = choose_saes("gemma-scope-9b-it-res-canonical", width="131k")
    assert {k: c.sae_id for k, c in chosen.items()} == {k: f"layer_{k}/width_131k/canonical" for k in (9, 20, 31)}
    assert not recwarn


def test_the_nearest_l0_is_taken_and_said():
    with pytest.warns(InterpWarning, match="l0 layer 3: "):
        chosen = choose_saes("gemma-scope-2b-pt-res", width="16k", l0=60, layers=[3, 4])
    ids = [i for i in _ids("gemma-scope-2b-pt-res") if i.startswith("layer_3/width_16k/")]
    gaps = {i: abs(int(i.rsplit("_", 1)[1]) - 60) for i in ids}
    assert chosen[3].sae_id == min(gaps, key=gaps.get)
    assert chosen[3].width == 16384


def test_words_for_l0():
    chosen = choose_saes("gemma-scope-2-1b-it-res-all", width="16k", l0="small")
    assert chosen[5].sae_id == "layer_5_width_16k_l0_small"
    assert len(chosen) == 26
    with pytest.raises(UserError, match=r"no SAE with l0 'tiny' at layer 0; there: big, small\."):
        choose_saes("gemma-scope-2-1b-it-res-all", width="16k", l0="tiny")


@pytest.mark.parametrize(
    ("release", "layers", "example"),
    [
        ("llama_scope_lxr_8x", range(32), (3, "l3r_8x")),
        ("gpt2-small-res-jb", range(12), (2, "blocks.3.hook_resid_pre")),
        ("pythia-70m-deduped-res-sm", range(6), (4, "blocks.4.hook_resid_post")),
        ("qwen-scope-3-8b-base-w64k-l50", range(36), (35, "layer35")),
        ("goodfire-llama-3.1-8b-instruct", [19], (19, "layer_19")),
        ("llama-3.1-8b-instruct-andyrdt", [3, 7, 11, 15, 19, 23, 27], (7, "resid_post_layer_7_trainer_1")),
    ],
)
def test_forms_of_ids(release, layers, example):
    chosen = choose_saes(release)
    assert list(chosen) == list(layers)
    assert chosen[example[0]].sae_id == example[1]


def test_an_sae_before_a_block_reads_the_layer_below():
    chosen = choose_saes("gpt2-small-res-jb")
    assert chosen[2].before_block
    assert chosen[2].layer == 2
    assert not chosen[11].before_block
    assert chosen[11].sae_id == "blocks.11.hook_resid_post"


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        ({"release": "gemma-scope-2b-pt-res-cannonical"}, "did you mean 'gemma-scope-2b-pt-res-canonical' or "),
        ({"release": "llama_scope_lxm_8x"}, "has no SAE on the residual stream"),
        (
            {"release": "gemma-scope-9b-it-res-canonical", "layers": [10]},
            "no SAE for layer 10; layers covered: 9, 20, 31",
        ),
        ({"release": "gemma-scope-9b-it-res-canonical", "width": "32k"}, "at layer 9; there: 16,384, 131,072"),
        ({"release": "gemma-scope-9b-it-res-canonical", "width": "wide"}, "must be a number of features such as 16k"),
    ],
)
def test_refusals_of_the_registry(ask, words):
    with pytest.raises(UserError) as caught:
        choose_saes(**ask)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_widths_are_powers_of_two():
    assert parse_width("80k") == 80 * 1024
    assert parse_width("64k") == 2**16
    assert [parse_width(w) for w in ("4k", "16k", "65k", "131k", "262k", "1m", 24576, "24576")] == [
        2**12, 2**14, 2**16, 2**17, 2**18, 2**20, 24576, 24576,
    ]  # fmt: skip


def test_the_catalogue_has_the_field_models():
    entries = {e.release: e for e in catalogue()}
    scope = entries["gemma-scope-2b-pt-res-canonical"]
    assert scope.model == "google/gemma-2-2b"
    assert scope.layers == "0-25"
    assert scope.gated
    assert not scope.cached
    assert scope.sae_bytes == 2 * 16384 * 2304 * 4
    assert {"llama_scope_lxr_8x", "gpt2-small-res-jb", "qwen-scope-3-8b-base-w64k-l50"} <= set(entries)
    assert not any("transcoder" in r or "_lxm_" in r or "-mlp-" in r for r in residual_releases())


def _ids(release):
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    return get_pretrained_saes_directory()[release].saes_map


# ---------------------------------------------------------------------------------- folders


@pytest.mark.parametrize("kind", KINDS)
def test_a_saelens_folder_encodes_as_saelens_does_on_the_bridges_residuals(tmp_path, llama, kind):
    for layer in range(4):
        build_sae(kind, seed=layer).save_model(str(tmp_path / f"layer_{layer:02d}"))
    with pytest.warns(InterpWarning):
        stack = load_saes(str(tmp_path), llama, force=True)
    theirs = SAE.load_from_disk(str(tmp_path / "layer_02"))
    ids = torch.tensor([llama.encode(PROMPTS[:1])[0].ids])
    seen = {}
    llama.bridge.run_with_hooks(
        ids,
        attention_mask=torch.ones_like(ids),
        fwd_hooks=[("blocks.2.hook_out", lambda x, hook: seen.update(x=x[0].clone()))],
    )
    found = capture(llama, PROMPTS[:1], answers=LABELS)
    torch.testing.assert_close(stack.encode(2, found.residuals[2])[0], theirs.encode(seen["x"])[-1], atol=1e-4, rtol=0)
    torch.testing.assert_close(stack.reconstruct(2, seen["x"]), theirs.decode(theirs.encode(seen["x"])))


def test_raw_gemma_scope_files(tmp_path, models_by_family):
    model = models_by_family["gemma2"]
    rng = np.random.default_rng(0)
    for l0 in (20, 90):
        for layer in (1, 3):
            folder = tmp_path / f"layer_{layer}" / "width_16k" / f"average_l0_{l0}"
            folder.mkdir(parents=True)
            arrays = {
                "w_enc": rng.normal(0, 0.2, (32, 64)), "w_dec": rng.normal(0, 0.2, (64, 32)),
                "b_enc": rng.normal(0, 0.1, 64), "b_dec": rng.normal(0, 0.1, 32),
                "threshold": np.full(64, l0 / 100),
            }  # fmt: skip
            np.savez(folder / "params.npz", **{k: v.astype(np.float32) for k, v in arrays.items()})
    with pytest.warns(InterpWarning, match="covers layers 1, 3 of 4"):
        stack = load_saes(str(tmp_path), model, l0=25, force=True)
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    raw = np.load(tmp_path / "layer_3/width_16k/average_l0_20/params.npz")
    before = x.numpy() @ raw["w_enc"] + raw["b_enc"]
    expected = np.where(before > raw["threshold"], np.maximum(before, 0), 0)
    np.testing.assert_allclose(stack.encode(3, x).numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(stack.reconstruct(3, x).numpy(), expected @ raw["w_dec"] + raw["b_dec"], atol=1e-5)


def test_a_release_from_the_hub_cache(tmp_path):
    """Real registry ids and true shapes, in a cache as huggingface_hub lays it out, read without network."""
    home, commit = tmp_path / "hub", "0123456789abcdef0123456789abcdef01234567"
    repo = home / "models--google--gemma-scope-2b-pt-res"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    for layer in (0, 2):
        path = Path(_ids("gemma-scope-2b-pt-res-canonical")[f"layer_{layer}/width_16k/canonical"])
        folder = repo / "snapshots" / commit / path
        folder.mkdir(parents=True)
        decoder = np.zeros((16384, 2304), np.float16)
        decoder[np.arange(16384), np.arange(16384) % 2304] = 1
        encoder = np.ascontiguousarray(decoder.T) / 8
        vectors = {"b_enc": np.zeros(16384), "threshold": np.full(16384, 0.01 * (layer + 1)), "b_dec": np.zeros(2304)}
        np.savez_compressed(folder / "params.npz", w_enc=encoder, w_dec=decoder, **vectors)
    config = tf.Gemma2Config(
        vocab_size=300, hidden_size=2304, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1,
        head_dim=16, intermediate_size=32, max_position_embeddings=128, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
import pytest, torch, transformers as tf
from interp.models.language_model import LanguageModel
from interp import load_saes
from transformers import PreTrainedTokenizerFast
from tokenizers import Tokenizer, models, pre_tokenizers
raw = Tokenizer(models.WordLevel({{"<s>": 0, "<unk>": 1}}, unk_token="<unk>"))
raw.pre_tokenizer = pre_tokenizers.Whitespace()
tok = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<s>", unk_token="<unk>")
torch.manual_seed(0)
hf = tf.AutoModelForCausalLM.from_config(tf.Gemma2Config(**{config.to_diff_dict()!r}))
model = LanguageModel(hf, tok, "google/gemma-2-2b-it", "x")
stack = load_saes("gemma-scope-2b-pt-res-canonical", model, layers=[0, 2], width="16k", force=True, resident=1)
x = torch.randn(3, 2304)
acts = stack.encode(2, x)
before = x.repeat(1, 8)[:, :16384] / 8
print(stack.identity.split(":")[0], stack.neuronpedia_url(2, 7), len(stack._loaded))
print(bool(((acts - torch.where(before > 0.03, before, 0)).abs() < 1e-4).all()))
"""
    environment = {**os.environ, "HF_HUB_CACHE": str(home), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == [
        "gemma-scope-2b-pt-res-canonical@main https://www.neuronpedia.org/gemma-2-2b/2-gemmascope-res-16k/7 1",
        "True",
    ]
    assert "another version of the same model" in done.stderr


def test_llama_scope_from_the_hub_cache(tmp_path):
    home, commit = tmp_path / "hub", "0123456789abcdef0123456789abcdef01234567"
    repo = home / "models--fnlp--Llama3_1-8B-Base-LXR-8x"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    folder = repo / "snapshots" / commit / _ids("llama_scope_lxr_8x")["l1r_8x"]
    (folder / "checkpoints").mkdir(parents=True)
    d, width = 64, 512
    hyper = {
        "d_model": d, "d_sae": width, "hook_point_in": "blocks.1.hook_resid_post", "expansion_factor": 8,
        "hook_point_out": "blocks.1.hook_resid_post", "act_fn": "jumprelu", "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": {"in": 8.0, "out": 8.0}, "jump_relu_threshold": 0.05,
        "dtype": "torch.bfloat16",
    }  # fmt: skip
    (folder / "hyperparams.json").write_text(json.dumps(hyper))
    decoder = torch.nn.functional.normalize(torch.randn(d, width, generator=torch.Generator().manual_seed(0)), dim=0)
    state = {
        "encoder.weight": decoder.T.contiguous() / 3, "encoder.bias": torch.zeros(width),
        "decoder.weight": decoder.contiguous(), "decoder.bias": torch.zeros(d),
    }  # fmt: skip
    save_file(state, folder / "checkpoints" / "final.safetensors")
    code = """
import torch
from sae_lens import SAE
from interp.saes.loading import _read_release
from interp.saes.releases import choose_saes
from interp.saes.stack import SaeStack, SaeSource, additive
choice = choose_saes("llama_scope_lxr_8x", layers=[1])[1]
sae = _read_release(choice, "cpu")
stack = SaeStack({1: sae}, "x", "x")
theirs = SAE.from_pretrained("llama_scope_lxr_8x", "l1r_8x", device="cpu", dtype="float32")
x = torch.randn(4, 64, generator=torch.Generator().manual_seed(1))
acts = stack.encode(1, x)
assert torch.equal(acts, theirs.encode(x)) and (acts > 0).any()
print(additive(sae, x, stack.directions(1)))
"""
    environment = {**os.environ, "HF_HUB_CACHE": str(home), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "True"


# ---------------------------------------------------------------------------------- the stack


def test_at_most_a_set_number_is_resident():
    loads, alive = [], []

    def source(layer):
        def load():
            loads.append(layer)
            return build_sae(seed=layer)

        return SaeSource(load)

    stack = SaeStack({k: source(k) for k in range(5)}, "lazy", "x", resident=2)
    assert not loads
    x = torch.randn(3, 32)
    for layer in (0, 1, 0, 2, 1):
        stack.encode(layer, x)
        alive.append(len(stack._loaded))
    assert loads == [0, 1, 2, 1]
    assert max(alive) == 2


@pytest.mark.parametrize("options", [{}, {"normalize_activations": "layer_norm"}], ids=["plain", "layer_norm"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_restricted_stack_gives_the_same_numbers(llama, kind, options):
    saes = {k: build_sae(kind, seed=k, **options) for k in range(4)}
    stack = SaeStack(saes, "whole", "x")
    wanted = {0: [3, 60, 17], 2: [5]}
    few = stack.restricted(wanted)
    x = torch.randn(6, 32, generator=torch.Generator().manual_seed(0)) * 3
    for layer, features in wanted.items():
        index = torch.tensor(features)
        expected = stack.encode(layer, x)[:, index]
        torch.testing.assert_close(few.encode_features(layer, x, index), expected, atol=1e-6, rtol=1e-6)
        assert torch.equal(few.directions(layer, index), stack.directions(layer, index))
    assert few.layers == [0, 2]
    assert few.d_sae(0) == 64
    if kind != "topk":
        assert few[0].W_enc.shape == (32, 3)
    captured = capture(llama, PROMPTS, answers=LABELS, keep_cache=True)
    torch.testing.assert_close(
        ablate_jointly(llama, few, captured, wanted), ablate_jointly(llama, stack, captured, wanted), atol=1e-5, rtol=0
    )


def test_a_centred_sae_reads_and_explains_centred_residuals():
    sae = build_sae("standard")
    stack = SaeStack({0: SaeSource(lambda: sae, centred=True)}, "jb", "x")
    x = torch.randn(7, 32, generator=torch.Generator().manual_seed(0)) + 5
    centred = x - x.mean(-1, keepdim=True)
    torch.testing.assert_close(stack.encode(0, x), sae.encode(centred))
    torch.testing.assert_close(x - stack.reconstruct(0, x), centred - sae.decode(sae.encode(centred)))
    spread = (centred - centred.mean(0)).square().sum()
    expected = (centred - sae.decode(sae.encode(centred))).square().sum() / spread
    assert unexplained(stack, 0, x) == pytest.approx(expected.item(), rel=1e-5)


# ---------------------------------------------------------------------------------- checks at load


def declared(model_name="acme/tiny", **metadata):
    return build_sae(metadata={"sae_lens_version": "6.54.12", "model_name": model_name, **metadata})


@pytest.fixture
def acme(tokenizer):
    model = build_model("llama", tokenizer)
    model.name = "acme/tiny-it"
    return model


def test_an_sae_that_reconstructs_nothing_is_refused_unless_forced(llama):
    stack = SaeStack({0: build_sae()}, "random", "x")
    with pytest.raises(
        UserError, match=r"worse than their mean does \(unexplained variance layer 0: .*saes.force: true"
    ):
        check_saes(stack, llama)
    with pytest.warns(InterpWarning, match="worse than their mean"):
        found = check_saes(stack, llama, force=True)
    assert found[0] > 1


def test_an_sae_of_another_model_is_refused_and_of_its_base_noted(acme):
    with pytest.raises(UserError, match=r"is for other/thing, not for acme/tiny-it"):
        check_saes(SaeStack({0: declared("other/thing")}, "s", "x"), acme)
    with pytest.warns(InterpWarning, match="another version of the same model"):
        check_saes(SaeStack({0: declared("acme/tiny-pt")}, "s", "x"), acme, force=True)


def test_bos_is_compared_with_training(llama):
    with pytest.warns(InterpWarning, match="trained without a beginning-of-sequence token; .* adds one"):
        check_saes(SaeStack({0: declared(prepend_bos=False)}, "s", "x"), llama, force=True)


def test_names_of_one_model():
    assert base_name("google/gemma-2-9b-it") == base_name("gemma-2-9b") == "gemma-2-9b"
    assert base_name("openai-community/gpt2") == base_name("gpt2-small")
    assert base_name("meta-llama/Llama-3.1-8B-Instruct") == base_name("meta-llama/Llama-3.1-8B")
    assert base_name("gemma-2-2b") != base_name("gemma-2-9b")


def test_half_a_folder_and_a_missing_layer_are_refused(tmp_path, llama):
    save_stack(tmp_path, layers=2)
    with pytest.raises(UserError, match="no SAE for layer 3; layers covered: 0-1"):
        load_saes(str(tmp_path), llama, layers=[3])
    (tmp_path / "layer_01" / "cfg.json").unlink()
    with pytest.raises(UserError, match=r"layer_01 lacks cfg\.json"):
        load_saes(str(tmp_path), llama)


# ---------------------------------------------------------------------------------- which layer, and which of several


def put(folder, *, d_in=32, hook=None, name=None, **options):
    """An SAE on disk; `hook` as cfg.json names it."""
    metadata = {"sae_lens_version": "6.54.12", **({"hook_name": hook} if hook else {})}
    build_sae("standard", d_in=d_in, metadata=metadata, **options).save_model(str(folder))


@pytest.mark.parametrize(
    ("names", "hooks", "layers"),
    [
        (["gemma_2b_blocks.0.hook_resid_post_16384", "gemma_2b_blocks.6.hook_resid_post_16384"], None, [0, 6]),
        (["gemma_2b_blocks.0.x_16384", "gemma_2b_blocks.6.x_16384"], "blocks.{}.hook_resid_post", [0, 6]),
        (["v5_32k_layer_1", "v5_32k_layer_6"], None, [1, 6]),
        (["blocks.3.hook_resid_pre", "blocks.6.hook_resid_pre"], None, [2, 5]),
        (["blocks.3.hook_resid_pre", "blocks.6.hook_resid_pre"], "blocks.{}.hook_resid_pre", [2, 5]),
        (["a", "b"], "blocks.{}.hook_resid_pre", [2, 5]),
        (["7", "12"], None, [7, 12]),
        (["layer_07", "layers-12"], None, [7, 12]),
        (["layer_1", "layer_2"], "model.layers.{}", [3, 6]),
    ],
)
def test_the_hook_name_decides_the_layer_and_then_the_folders_name(tmp_path, names, hooks, layers):
    for i, name in enumerate(names):
        number = layers[i] + ("resid_pre" in (hooks or ""))
        if hooks == "model.layers.{}":
            number = layers[i]
        put(tmp_path / name, hook=hooks and hooks.format(number))
    found = choose_in_folder(tmp_path, layers=None, width=None, l0=None)
    assert [(s.layer, s.path.name) for s in found.values()] == list(zip(layers, names, strict=True))


def test_an_sae_before_a_block_is_read_on_the_residual_below_it(tmp_path, llama):
    put(tmp_path / "blocks.2.hook_resid_pre", hook="blocks.2.hook_resid_pre")
    with pytest.warns(InterpWarning):
        stack = load_saes(str(tmp_path), llama, force=True)
    assert stack.layers == [1]


def test_one_sae_is_a_folder_of_its_own(tmp_path):
    put(tmp_path / "mine", hook="blocks.2.hook_resid_post")
    assert list(choose_in_folder(tmp_path / "mine", layers=None, width=None, l0=None)) == [2]


def test_what_is_no_sae_beside_them_is_let_lie(tmp_path):
    put(tmp_path / "layer_1")
    (tmp_path / "log").mkdir()
    (tmp_path / "notes 2024.txt").write_text("x")
    (tmp_path / ".cache_3").mkdir()
    assert list(choose_in_folder(tmp_path, layers=None, width=None, l0=None)) == [1]


def test_two_saes_for_a_layer_are_told_apart_or_refused_with_both_named(tmp_path):
    put(tmp_path / "blocks.1.small", d_sae=64)
    put(tmp_path / "blocks.1.wide", d_sae=128)
    with pytest.raises(UserError, match=r"2 SAEs for layer 1: blocks\.1\.small and blocks\.1\.wide.*by saes\.width"):
        choose_in_folder(tmp_path, layers=None, width=None, l0=None)
    assert choose_in_folder(tmp_path, layers=None, width=128, l0=None)[1].path.name == "blocks.1.wide"
    with pytest.raises(UserError, match=r"no SAE of 16,384 features at layer 1; there: 64, 128"):
        choose_in_folder(tmp_path, layers=[1], width="16k", l0=None)
    put(tmp_path / "layer_2_l0_20")
    put(tmp_path / "layer_2_l0_90")
    assert choose_in_folder(tmp_path, layers=[2], width=None, l0=70)[2].path.name == "layer_2_l0_90"
    put(tmp_path / "layer_3_a")
    put(tmp_path / "layer_3_b")
    with pytest.raises(UserError, match=r"layer 3: layer_3_a and layer_3_b\. Move all but one away\.$"):
        choose_in_folder(tmp_path, layers=[3], width=None, l0=None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": "xyzzy"}, "must be a number of features such as 16k"),
        ({"l0": float("nan")}, "must be a number above 0"),
        ({"l0": -3.0}, "must be a number above 0"),
        ({"l0": float("inf")}, "must be a number above 0"),
        ({"layers": []}, "must name at least one layer, each once"),
        ({"layers": [0, 0]}, "must name at least one layer, each once"),
        ({"width": "32k"}, "no SAE of 32,768 features at layer 0; there: 64"),
    ],
)
def test_choices_that_choose_nothing_are_refused_for_folders_too(tmp_path, llama, options, words):
    save_stack(tmp_path, layers=2)
    with pytest.raises(UserError, match=words) as caught:
        load_saes(str(tmp_path), llama, **options)
    assert "\n" not in str(caught.value)


def _cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _without(key):
    def damage(path):
        value = json.loads(path.read_text())
        del value[key]
        path.write_text(json.dumps(value))

    return damage


DAMAGE = {
    "truncated weights": ("sae_weights.safetensors", _cut, "could not be loaded as an SAE"),
    "empty weights": ("sae_weights.safetensors", lambda p: p.write_bytes(b""), "could not be loaded as an SAE"),
    "random weights": (
        "sae_weights.safetensors",
        lambda p: p.write_bytes(np.random.default_rng(0).bytes(5000)),
        "could not be loaded as an SAE",
    ),
    "no weights": ("sae_weights.safetensors", Path.unlink, "lacks sae_weights.safetensors"),
    "no cfg": ("cfg.json", Path.unlink, "lacks cfg.json"),
    "cfg cut": ("cfg.json", _cut, "is damaged"),
    "cfg empty": ("cfg.json", lambda p: p.write_text(""), "is damaged"),
    "cfg a list": ("cfg.json", lambda p: p.write_text("[1, 2]"), "is damaged"),
    "cfg binary": ("cfg.json", lambda p: p.write_bytes(b"\xff\xfe\x00"), "is damaged"),
    "cfg nested": ("cfg.json", lambda p: p.write_text("[" * 100_000), "is damaged"),
    "no architecture": ("cfg.json", _without("architecture"), "could not be loaded as an SAE"),
    "no d_in": ("cfg.json", _without("d_in"), "could not be loaded as an SAE"),
    "nan": (
        "sae_weights.safetensors",
        lambda p: save_file({k: v * torch.nan if k == "W_enc" else v for k, v in load_file(p).items()}, p),
        r"holds NaN or infinite weights \(W_enc\)",
    ),
    "other shape": (
        "sae_weights.safetensors",
        lambda p: save_file({k: v[..., :5].contiguous() for k, v in load_file(p).items()}, p),
        "could not be loaded as an SAE",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_sae_is_one_line(tmp_path, llama, kind):
    name, damage, words = DAMAGE[kind]
    save_stack(tmp_path, layers=2)
    damage(tmp_path / "layer_01" / name)
    with pytest.raises(UserError, match=words) as caught:
        load_saes(str(tmp_path), llama, force=True)
    assert "\n" not in str(caught.value)
    assert "layer_01" in str(caught.value)


@pytest.mark.parametrize("damage", [_cut, lambda p: p.write_bytes(b""), lambda p: p.write_bytes(b"PK\x03\x04 no")])
def test_a_damaged_gemma_scope_file_is_one_line(tmp_path, llama, damage):
    folder = tmp_path / "layer_1" / "width_16k" / "average_l0_20"
    folder.mkdir(parents=True)
    np.savez(folder / "params.npz", w_enc=np.zeros((32, 64)), w_dec=np.zeros((64, 32)))
    damage(folder / "params.npz")
    with pytest.raises(UserError, match="could not be loaded as an SAE") as caught:
        load_saes(str(tmp_path), llama, force=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("declared_bos", "version"), [(None, "6.54.12"), (None, "5.0.0"), (False, "6.54.12")])
def test_the_note_on_bos_says_what_cfg_says(tmp_path, llama, declared_bos, version):
    """Old files say nothing of it; SAELens fills in that one was prepended."""
    save_stack(tmp_path, layers=1)
    path = tmp_path / "layer_00" / "cfg.json"
    cfg = json.loads(path.read_text())
    cfg["metadata"] = {"sae_lens_version": version}
    if declared_bos is not None:
        cfg["metadata"]["prepend_bos"] = declared_bos
    path.write_text(json.dumps(cfg))
    llama.tokenizer.bos_token, before = None, llama.tokenizer.bos_token
    try:
        with warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always")
            stack = load_saes(str(tmp_path), llama, force=True)
    finally:
        llama.tokenizer.bos_token = before
    assert stack[0].cfg.metadata.prepend_bos is declared_bos
    assert not any("beginning-of-sequence" in str(n.message) for n in notes)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("folder", "layers"),
    [
        ("gemma2b_hook", [0, 6]),
        ("gemma2b_nohook", [0, 6]),
        ("v5_nohook", [1, 6]),
        ("pre_hook", [2, 5]),
        ("pre_nohook", [2, 5]),
    ],
)
def test_published_folder_names(tmp_path, folder, layers):
    """cfg.json as published, with random weights."""
    source = Path(__file__).parents[2] / "shared" / "faults" / "sae-folders" / folder
    for part in source.iterdir():
        (tmp_path / part.name).mkdir()
        (tmp_path / part.name / "cfg.json").write_text((part / "cfg.json").read_text())
        save_file({"W_enc": torch.zeros(1)}, tmp_path / part.name / "sae_weights.safetensors")
    assert list(choose_in_folder(tmp_path, layers=None, width=None, l0=None)) == layers


# ---------------------------------------------------------------------------------- configuration and downloads


def test_saes_in_a_config_are_a_name_or_a_mapping(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("saes: gemma-scope-2b-pt-res-canonical\n")
    config = load_config(file, {"saes.width": "65k"})
    assert config.saes == SaesConfig("gemma-scope-2b-pt-res-canonical", width="65k")
    assert Config(saes="tiny") == Config()
    file.write_text("saes: {nam: tiny}\n")
    with pytest.raises(UserError, match=r"unknown key 'saes.nam'; did you mean 'name'"):
        load_config(file)


def test_every_shipped_config_names_a_real_release():
    folder = Path(__file__).parents[1] / "experiments" / "models"
    files = sorted(folder.glob("*.yaml"))
    assert len(files) == 11
    for file in files:
        config = load_config(file)
        assert config.name == file.stem
        flags = re.search(r"^#   (--.+)$", file.read_text(), re.MULTILINE)
        assert flags is not None, file
        words = flags[1].split()
        paper = load_config(file, {w.removeprefix("--"): v for w, v in zip(words[::2], words[1::2], strict=True)})
        assert (paper.name, paper.tracing.examples, paper.tracing.position) == (
            f"{file.stem}-paper",
            "correct",
            "answer",
        )
        wanted = {n.name: n for n in needs(config) if n.kind != "corpus"}
        assert wanted[config.model].where == "hub"
        assert sum(n.kind == "SAE" for n in wanted.values()) >= 3, file
