"""Model folders as they arrive: damaged, pickled, with code, beside other files; one line each, and one identity."""

import json
import os
import shlex
import shutil
from pathlib import Path

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file
from tiny_models import build_model

from interp import UserError, load_model
from interp.cli import main as cli
from interp.models.chat import decide_chat
from interp.models.identity import model_identity
from interp.models.sources import ModelPlace, locate
from interp.models.weights import identity_of_folder
from interp.saes.catalogue import catalogue
from interp.terminal import Screen


@pytest.fixture(scope="module")
def pristine(tokenizer, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pristine") / "model"
    build_model("llama", tokenizer).hf.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def folder(pristine, tmp_path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "model"))


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_model(str(folder))
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


# ------------------------------------------------------------------------------------ identity


def test_identity_is_that_of_what_is_computed_with(folder):
    before = load_model(str(folder)).identity
    assert model_identity(str(folder)) == before == model_identity(f"{folder}/")
    for name in (
        "notes.txt",
        "README.md",
        "results.json",
        "other.safetensors",
        "training_args.bin",
        "pytorch_model.bin",
    ):
        (folder / name).write_bytes(b"anything")
        assert model_identity(str(folder)) == before, name
    seen = {before}
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for change in ("weights", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        if change != "weights":
            (folder / change).write_text((folder / change).read_text() + "\n")
        seen.add(model_identity(str(folder)))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    seen.add(model_identity(str(folder)))
    assert len(seen) == 7


def test_identity_of_shards_is_that_of_those_the_index_names(folder, tokenizer):
    build_model("llama", tokenizer).hf.save_pretrained(folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink()
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    before = model_identity(str(folder))
    assert load_model(str(folder)).identity == before
    shutil.copy(shards[0], folder / "model-old.safetensors")
    assert model_identity(str(folder)) == before
    shards[0].write_bytes(shards[0].read_bytes()[:-4] + b"\x00\x00\x80\x3f")
    assert model_identity(str(folder)) != before
    shards[1].unlink()
    assert f"{shards[1].name} is missing" in refusal(folder)


def test_large_files_are_hashed_once(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("interp.models.store.WORTH_REMEMBERING", 0)
    before = identity_of_folder(folder)
    path = folder / "model.safetensors"
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=times)  # not looked at again while size and time are the same
    assert identity_of_folder(folder) == before
    os.utime(path, ns=(times[0], times[1] + 1))
    assert identity_of_folder(folder) != before


def test_the_bundled_model_keeps_its_identity():
    from interp.models.store import content_hash
    from interp.resources import bundled_folder

    files = sorted((bundled_folder("tiny") / "model").iterdir())
    assert model_identity("tiny") == content_hash(files)


# ------------------------------------------------------------------------------------ weights


def test_pickled_weights_are_refused_with_the_way_to_convert_them(folder, tmp_path):
    marker = tmp_path / "ran"
    (folder / "model.safetensors").unlink()

    class Bomb:
        def __reduce__(self):
            return (Path.touch, (marker,))

    torch.save({"model.norm.weight": Bomb()}, folder / "pytorch_model.bin")
    message = refusal(folder)
    assert "pytorch_model.bin, a pickle that could run code" in message
    assert "save_pretrained" in message
    assert not marker.exists()
    hf = tf.AutoModelForCausalLM.from_config(tf.AutoConfig.from_pretrained(folder))
    torch.save(hf.state_dict(), folder / "pytorch_model.bin")
    python, option, code = shlex.split(message.split("convert it: ")[1])
    assert (python, option) == ("python", "-c")
    exec(code, {})
    assert load_model(str(folder)).n_layers == 4


def test_damaged_weights_are_half_a_checkpoint(folder):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    huge = (2**40).to_bytes(8, "little")
    for damaged in (b"", b"\x00" * 8, content[:5], content[:300], content[:-1], content + b"x", huge + content[8:]):
        path.write_bytes(damaged)
        assert "half a checkpoint: model.safetensors is damaged" in refusal(folder)
    path.write_bytes(torch.randint(256, (len(content),), dtype=torch.uint8).numpy().tobytes())
    assert "half a checkpoint" in refusal(folder)


def test_weights_that_are_not_numbers_are_named(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.2.mlp.up_proj.weight"][3, 5] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert "model.layers.2.mlp.up_proj.weight holds numbers that are not finite" in refusal(folder)


def test_weights_of_another_shape_are_refused(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = torch.ones(31)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert "Could not load" in refusal(folder)


def test_an_index_reaches_nothing_outside_its_folder(folder):
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    for target in ("../outside.safetensors", "/etc/passwd", "pytorch_model.bin", 7, None, ""):
        index = {"metadata": {}, "weight_map": {"model.norm.weight": target}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        message = refusal(folder)
        assert "only .safetensors files beside it" in message or "is damaged: it has no weight_map" in message


# ------------------------------------------------------------------------------------ config, tokenizer, code


def changed(**values) -> str:
    """A Llama config with other values."""
    config = tf.LlamaConfig(
        vocab_size=400, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=64
    ).to_dict()
    return json.dumps(config | {"architectures": ["LlamaForCausalLM"]} | values)


CONFIGS = {
    "empty": "",
    "not JSON": "{model_type: llama",
    "bytes": b"\xff\xfe\x00",
    "a list": "[1, 2]",
    "a number": "7",
    "nested": "[" * 100_000,
    "nested objects": '{"a":' * 100_000,
    "a long number": '{"hidden_size": ' + "9" * 5_000 + "}",
    "nothing in it": "{}",
    "no architecture": '{"model_type": "llama"}',
    "another model type": '{"model_type": "nonesuch"}',
    "a model type that is a list": '{"model_type": ["llama"]}',
    "another architecture": changed(architectures=["BertModel"]),
    "architectures as text": changed(architectures="LlamaForCausalLM"),
    "architectures as number": changed(architectures=3),
    "a million layers": changed(num_hidden_layers=1_000_000),
    "a trillion layers": changed(num_hidden_layers=10**12),
    "no layers": changed(num_hidden_layers=0),
    "negative layers": changed(num_hidden_layers=-1),
    "layers as text": changed(num_hidden_layers="four"),
    "layers as truth": changed(num_hidden_layers=True),
    "layers as nothing": changed(num_hidden_layers=None),
    "layers as a fraction": changed(num_hidden_layers=3.5),
    "no heads": changed(num_attention_heads=0),
    "more key than query heads": changed(num_key_value_heads=7),
    "a width of nothing": changed(hidden_size=0),
    "a width below nothing": changed(hidden_size=-32),
    "a width as text": changed(hidden_size="wide"),
    "an absurd width": changed(hidden_size=2**62),
    "an absurd vocabulary": changed(vocab_size=2**50),
    "a vocabulary of nothing": changed(vocab_size=0),
    "an unknown activation": changed(hidden_act="nonesuch"),
    "an unknown rotation": changed(rope_parameters={"rope_type": "nonesuch"}),
    "a rotation as text": changed(rope_parameters="nonesuch"),
    "a context of nothing": changed(max_position_embeddings=0),
    "weights elsewhere": changed(transformers_weights="../model.safetensors"),
    "quantised by nobody": changed(quantization_config={"quant_method": "nonesuch"}),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_a_config_that_makes_no_sense_is_one_line(folder, config):
    (folder / "config.json").write_bytes(config.encode() if isinstance(config, str) else config)
    refusal(folder)


TOKENIZERS = {
    "empty": ("tokenizer.json", ""),
    "not JSON": ("tokenizer.json", "{"),
    "a list": ("tokenizer.json", "[]"),
    "nested": ("tokenizer.json", '{"a":' * 50_000),
    "no model": ("tokenizer.json", '{"version": "1.0"}'),
    "an unknown model": ("tokenizer.json", '{"version": "1.0", "model": {"type": "Nonesuch"}}'),
    "settings that are not JSON": ("tokenizer_config.json", "{"),
    "settings that are a list": ("tokenizer_config.json", "[]"),
    "an unknown class": ("tokenizer_config.json", '{"tokenizer_class": 7}'),
    "a padding token without an embedding": (
        "tokenizer_config.json",
        '{"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<|beyond|>", "bos_token": "<|endoftext|>"}',
    ),
}


@pytest.mark.parametrize(("name", "content"), TOKENIZERS.values(), ids=TOKENIZERS.keys())
def test_a_broken_tokenizer_is_one_line(folder, name, content):
    if "beyond" in content:  # the tokenizer's vocabulary fills the model's embeddings, so this token lies behind them
        tokenizer = tf.AutoTokenizer.from_pretrained(folder)
        tokenizer.add_special_tokens({"additional_special_tokens": [f"<|{k}|>" for k in range(400 - len(tokenizer))]})
        tokenizer.add_special_tokens({"pad_token": "<|beyond|>"})
        tokenizer.save_pretrained(folder)
    else:
        (folder / name).write_text(content)
    refusal(folder)


def test_code_of_a_model_is_neither_run_nor_offered(folder, tmp_path, monkeypatch):
    marker = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Config: pass\n")
    monkeypatch.setattr("builtins.input", lambda *args: pytest.fail("asked"))
    for name, auto_map in {
        "config.json": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Config"},
        "tokenizer_config.json": {"AutoTokenizer": ["evil.Config", None]},
    }.items():
        before = (folder / name).read_text()
        for extra in ({}, {"model_type": "nonesuch"}):
            (folder / name).write_text(json.dumps(json.loads(before) | {"auto_map": auto_map} | extra))
            assert "brings code of its own (auto_map in its config), which is never run" in refusal(folder)
        (folder / name).write_text(before)
    assert not marker.exists()
    load_model(str(folder))


# ------------------------------------------------------------------------------------ chat or not


def test_chat_does_not_depend_on_how_a_path_is_written(tmp_path, folder, monkeypatch):
    """`auto` takes the name of a base model from a trailing slash, `.`, and a snapshot in the hub's cache alike."""
    tokenizer = tf.AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{{ messages }}"
    base = tmp_path / "Qwen3-8B-Base"
    snapshot = tmp_path / "models--Qwen--Qwen3-8B-Base" / "snapshots" / "0123456789abcdef"
    for place in (base, snapshot):
        place.mkdir(parents=True)
    monkeypatch.chdir(base)
    for written in (str(base), f"{base}/", f"{base}//", "../Qwen3-8B-Base/", ".", "./", str(snapshot), f"{snapshot}/"):
        decision = decide_chat(locate(written), tokenizer, "auto")
        assert not decision.chat and "ends in 'Base', as base models' do" in decision.reason, written
    for name, chats in (("Qwen/Qwen3-8B-Base/", False), ("Qwen/Qwen3-8B", True)):
        assert decide_chat(ModelPlace(name, "hub", None, True), tokenizer, "auto").chat == chats


def test_a_model_says_why_it_chats(folder):
    model = load_model(str(folder))
    assert (model.chat, model.chat_reason) == (False, "auto: the tokenizer has no chat template")
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}:")
    model = load_model(str(folder))
    assert (model.chat, model.chat_reason) == (True, "auto: the tokenizer has a chat template")
    assert load_model(str(folder), chat=False).chat_reason == "prompt.chat is false"
    assert model.source.kind == "folder"
    assert model.source.as_dict() == {"kind": "folder", "where": str(folder)}


# ------------------------------------------------------------------------------------ the command line


def test_fetch_takes_names_and_says_what_is_near(tmp_path, monkeypatch):
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="did you mean 'smollm2-135m-instruct'"):
        cli.fetch("smollm2")
    with pytest.raises(UserError, match="if you accept them: interp fetch gemma-3-270m --accept-terms gemma"):
        cli.fetch("gemma-3-270m")
    with pytest.raises(UserError, match="No terms 'gemini'; did you mean 'gemma'"):
        cli.fetch("gemma-3-270m", accept_terms="gemini")
    with pytest.raises(UserError, match="takes one model, or a"):
        cli.fetch("tiny", "--seed", "1")
    assert not (tmp_path / "cache").exists()


def test_models_are_one_line_each_at_80_columns(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path))
    monkeypatch.setattr("interp.cli.listing.screen", Screen(width=80))
    cli.models()
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    names = list(dict.fromkeys(entry.model for entry in catalogue()))
    starts = [next(k for k, line in enumerate(lines) if line.split(" ")[0] == name) for name in names]
    assert starts == sorted(starts)
    assert names[:2] == ["smollm2-135m-instruct", "gemma-3-270m"]
    assert "Apache-2.0" in lines[starts[0]]
    assert "238 MB" in lines[starts[1]]
    assert "Gemma terms" in lines[starts[1]]


def test_models_as_json_keep_their_keys(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path))
    cli.models(json=True)
    entries = json.loads(capsys.readouterr().out)
    before = {"model", "release", "layers", "n_layers", "widths", "sae_bytes", "model_bytes", "gated", "cached"}
    assert all(before <= set(entry) for entry in entries)
    first = entries[0]
    assert (first["model"], first["source"], first["licence"]) == ("smollm2-135m-instruct", "index", "Apache-2.0")
    assert not first["cached"]
    assert any(entry["release"] == "gpt2-small-res-jb" for entry in entries)


def test_check_lists_what_would_be_fetched(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path))
    cli.check("--model", "smollm2-135m-instruct")
    out = capsys.readouterr().out
    assert "would download model smollm2-135m-instruct (0.1 GB)" in out
    assert "interp fetch" in out
