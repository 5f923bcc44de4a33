"""Training SAEs: every architecture, interruption, bounds, scales, bad input."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from filelock import FileLock
from sae_lens import SAE
from safetensors.torch import load_file
from tiny_models import SENTENCES, build_model

from interp import UserError, load_saes
from interp.errors import InterpWarning
from interp.run.config import CorpusConfig
from interp.training.buffer import ActivationBuffer
from interp.training.config import (
    HeldOutConfig,
    PlainConfig,
    PromptsConfig,
    TextConfig,
    TrainingConfig,
    load_training_config,
)
from interp.training.residuals import Reading, RowReader
from interp.training.running import Event, train_saes
from interp.training.texts import Piece, documents, sections
from interp.training.trainer import LayerTrainer, Scaling, geometric_median

ARCHITECTURES = ["topk", "batchtopk", "matryoshka", "jumprelu", "gated", "standard"]
pytestmark = pytest.mark.filterwarnings("ignore::interp.errors.InterpWarning")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Sixty short documents, none like another."""
    rng = np.random.default_rng(0)
    words = " ".join(SENTENCES).split()
    path = tmp_path_factory.mktemp("text") / "plain.txt"
    path.write_text("\n<|endoftext|>\n".join(" ".join(rng.choice(words, 60)) for _ in range(60)))
    return path


@pytest.fixture
def config(text, tmp_path):
    return TrainingConfig(
        layers=[1, 3],
        d_sae=48,
        k=4,
        tokens=1024,
        batch=64,
        chunk=512,
        dead_after=8,
        text=TextConfig(
            plain=[PlainConfig(str(text), weight=3)],
            prompts=[PromptsConfig("vignettes", "discover", limit=40)],
            context=32,
            answer_repeats=3,
        ),
        held_out=HeldOutConfig(share=0.2, tokens=200, prompts=[CorpusConfig("vignettes", "test", limit=12)]),
        capture_dtype="float32",
        train_dtype="float32",
        precision="float32",
        out=str(tmp_path / "out"),
    )


def weights(folder):
    return {p.parent.name: p.read_bytes() for p in sorted(folder.glob("layer_*/sae_weights.safetensors"))}


# ---------------------------------------------------------------------------------- what comes out


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_trained_and_loaded_back(config, llama, architecture):
    config = replace(config, architecture=architecture, precision="float16")
    found = train_saes(config, model=llama, card=False)
    stack = load_saes(config.out, llama, force=True)
    assert stack.layers == [1, 3] == list(found.layers)
    theirs = SAE.load_from_disk(found.folder / "layer_03")  # half precision, as saved
    metadata = theirs.cfg.metadata
    assert metadata.hook_name == "blocks.3.hook_resid_post"
    assert metadata.prepend_bos is True
    assert metadata.model_identity == llama.identity
    assert metadata.context_size == 32
    assert theirs.cfg.architecture() == {"batchtopk": "jumprelu", "matryoshka": "jumprelu"}.get(
        architecture, architecture
    )
    assert theirs.W_dec.dtype == torch.float16
    torch.testing.assert_close(theirs.W_dec.float().norm(dim=-1), torch.ones(48), atol=1e-2, rtol=0)
    x = torch.randn(9, 32, generator=torch.Generator().manual_seed(0))
    whole = SAE.load_from_disk(found.folder / "layer_03", dtype="float32")  # .float() alone would still round its input
    torch.testing.assert_close(stack.reconstruct(3, x), whole.decode(whole.encode(x)), rtol=1e-5, atol=1e-5)
    log = (found.folder / "log" / "layer_03.csv").read_text().splitlines()
    assert not (found.folder / "work").exists()
    assert log[0].startswith("step,positions,loss,mse,fvu,l0,dead,lr")


@pytest.mark.parametrize("architecture", ["topk", "jumprelu", "gated", "standard"])
def test_a_finished_sae_is_the_trained_one_in_the_residuals_own_units(config, architecture):
    rows = torch.randn(512, 32, generator=torch.Generator().manual_seed(1)) * 40 + 300
    scaling = Scaling.of(rows, None)
    trainer = LayerTrainer(replace(config, architecture=architecture), 1, scaling, torch.device("cpu"), autocast=False)
    list(trainer.train(rows.split(64)))
    with torch.no_grad():
        expected = trainer.sae.decode(trainer.sae.encode(rows * scaling.factor)) / scaling.factor
        finished = trainer.finished()
        torch.testing.assert_close(finished.decode(finished.encode(rows)), expected, rtol=1e-4, atol=1e-2)
    assert finished.cfg.normalize_activations == "none"


def test_training_explains_what_it_is_given(llama, config):
    """Sparse directions on a large mean: most of the variance is found, far more than by the mean alone."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(24, 32, generator=generator), dim=-1)
    acts = torch.rand(20_000, 24, generator=generator) * (torch.rand(20_000, 24, generator=generator) < 0.1) * 50
    rows = acts @ directions + 400
    config = replace(config, tokens=19_968, lr=3e-3)
    trainer = LayerTrainer(config, 1, Scaling.of(rows[:4096], None), torch.device("cpu"), autocast=False)
    list(trainer.train(rows[:19_968].split(64)))
    sae = trainer.finished()
    with torch.no_grad():
        error = (rows - sae.decode(sae.encode(rows))).square().sum()
    assert error / (rows - rows.mean(0)).square().sum() < 0.25


# ---------------------------------------------------------------------------------- interruption


class Killed(BaseException):
    pass


def kill_at(stage, layer, after):
    """A progress that ends everything at the n-th event of a stage."""
    count = 0

    def progress(event: Event):
        nonlocal count
        count += event.stage == stage and event.layer == layer
        if count > after:
            raise Killed

    return progress


@pytest.mark.parametrize(
    "kills",
    [[("capture", None, 12)], [("train", 3, 2)], [("train", 1, 3), ("capture", None, 1), ("train", 3, 5)]],
    ids=["text", "layer", "often"],
)
def test_a_training_that_was_killed_ends_with_the_same_bytes(config, llama, tmp_path, kills):
    whole = train_saes(replace(config, out=str(tmp_path / "whole")), model=llama, card=False)
    for kill in kills:
        with pytest.raises(Killed):
            train_saes(config, model=llama, card=False, progress=kill_at(*kill))
        assert not (tmp_path / "out" / "layer_01").exists()
    again = train_saes(config, model=llama, card=False)
    assert weights(again.folder) == weights(whole.folder)
    assert len(weights(again.folder)) == 2
    logs = [
        [line.rsplit(",", 1)[0] for line in (f.folder / "log/layer_01.csv").read_text().splitlines()]
        for f in (again, whole)
    ]
    assert logs[0] == logs[1]
    assert len(logs[0]) > 1


def test_another_seed_gives_other_weights(config, llama, tmp_path):
    first = train_saes(config, model=llama, card=False)
    other = train_saes(replace(config, seed=1, out=str(tmp_path / "other")), model=llama, card=False)
    assert weights(first.folder) != weights(other.folder)


def test_a_finished_training_is_left_alone(config, llama):
    found = train_saes(config, model=llama, card=False)
    before = {p: p.stat().st_mtime_ns for p in found.folder.rglob("layer_*/*")}
    train_saes(config, model=llama, card=False)
    assert {p: p.stat().st_mtime_ns for p in found.folder.rglob("layer_*/*")} == before


def test_going_on_with_other_settings_is_refused_by_name(config, llama):
    with pytest.raises(Killed):
        train_saes(config, model=llama, card=False, progress=kill_at("train", 3, 2))
    with pytest.raises(UserError, match=r"begun with other settings: k was 4 and is now 5\."):
        train_saes(replace(config, k=5), model=llama, card=False)
    changed = replace(config, text=replace(config.text, answer_repeats=9))
    with pytest.raises(UserError, match=r"text\.answer_repeats was 3 and is now 9"):
        train_saes(changed, model=llama, card=False)


def test_one_process_per_folder(config, llama, tmp_path):
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(UserError, match="Another process is writing to"):
        train_saes(config, model=llama, card=False)


# ---------------------------------------------------------------------------------- the buffer


def test_disk_does_not_grow_with_the_number_of_tokens(config, llama, tmp_path):
    sizes = []

    def watch(event: Event):
        sizes.append(sum(f.stat().st_size for f in (tmp_path / "out" / "work" / "buffer").glob("*")))

    train_saes(replace(config, tokens=4096), model=llama, card=False, progress=watch)
    assert max(sizes) == 2 * 512 * 32 * 4


def test_bfloat16_holds_what_half_precision_cannot(tmp_path):
    buffer = ActivationBuffer(tmp_path / "b", [0], 128, 32, torch.bfloat16)
    rows = torch.randn(128, 32, generator=torch.Generator().manual_seed(0)) * 90_000
    assert rows.abs().max() > 65_504
    assert buffer.write(0, {0: rows}) == 128
    read = torch.cat(list(buffer.batches(0, 32, seed=3)))
    assert torch.isfinite(read).all()
    assert len(read) == 128
    expected = rows.to(torch.bfloat16).float()
    assert sorted(map(tuple, read.tolist())) == sorted(map(tuple, expected.tolist()))
    with pytest.raises(ValueError, match="float16"):
        ActivationBuffer(tmp_path / "c", [0], 128, 32, torch.float16)


def test_a_buffer_gives_every_row_once_in_an_order_of_the_seed(tmp_path):
    buffer = ActivationBuffer(tmp_path / "b", [0, 2], 1000, 4, torch.float32)
    rows = torch.arange(4000, dtype=torch.float32).view(1000, 4)
    for start in range(0, 1000, 300):
        assert buffer.write(start, {0: rows[start : start + 300], 2: -rows[start : start + 300]}) == min(
            300, 1000 - start
        )
    first, again, other = (torch.cat(list(buffer.batches(2, 100, seed=s))) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert sorted((-first[:, 0]).tolist()) == rows[:, 0].tolist()
    assert (first[1:, 0] - first[:-1, 0] != -4).float().mean() > 0.9  # neighbours are parted


def test_a_full_disk_is_said_before_anything_is_written(config, llama, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(UserError, match=r"needs 0\.0 GB for activations; 0\.0 GB are free\. Use a smaller chunk"):
        train_saes(config, model=llama, card=False)


# ---------------------------------------------------------------------------------- rows


def test_a_common_beginning_is_computed_once_and_counted_once(any_model):
    encoded = [e.ids for e in any_model.encode([f"Text: {s}\nEmotion:" for s in SENTENCES])]
    shared = next(i for i in range(40) if len({tuple(ids[: i + 1]) for ids in encoded}) > 1)
    assert shared > 1
    layers = (0, 3)
    found = RowReader(any_model, Reading(layers, answer_repeats=3)).rows([Piece(i, True, shared) for i in encoded])
    alone = RowReader(any_model, Reading(layers))
    for layer in layers:
        each = [alone.rows([Piece(ids)])[layer] for ids in encoded]
        answers = torch.stack([rows[-1] for rows in each])
        expected = torch.cat([each[0][: shared - 1], *(rows[shared - 1 :] for rows in each), answers, answers])
        torch.testing.assert_close(found[layer], expected, atol=1e-4, rtol=1e-4)


def test_the_first_position_is_read_where_it_is_wanted(llama):
    ids = llama.encode(SENTENCES[:1])[0].ids
    without, with_it = (RowReader(llama, Reading((2,), first)).rows([Piece(ids)])[2] for first in (False, True))
    assert len(with_it) == len(without) + 1 == len(ids)
    torch.testing.assert_close(with_it[1:], without)


def test_infinite_activations_are_named_and_never_trained_on(config, tokenizer):
    model = build_model("llama", tokenizer)
    with torch.no_grad():
        model.blocks[2].mlp.down_proj.weight[3] = torch.inf
    with pytest.raises(
        UserError, match=r"residual of layer 3 of llama holds NaN or infinite numbers for the text '.+'"
    ) as caught:
        train_saes(config, model=model, card=False)
    assert "\n" not in str(caught.value)


def test_long_positions_are_left_out_and_counted(config, tokenizer):
    """An attention sink on a word: its residual is a hundred times as long as all others."""
    model = build_model("llama", tokenizer)
    word = tokenizer(" rain", add_special_tokens=False)["input_ids"][0]
    with torch.no_grad():
        model.hf.get_input_embeddings().weight[word] *= 1000
    found = train_saes(config, model=model, card=False)
    record = json.loads((found.folder / "training.json").read_text())
    assert record["dropped_positions"] > 0
    everything = replace(config, out=config.out + "2", text=replace(config.text, norm_cap=None))
    record = json.loads((train_saes(everything, model=model, card=False).folder / "training.json").read_text())
    assert record["dropped_positions"] == 0


def test_the_geometric_median_is_not_moved_by_a_few_far_points():
    rows = torch.randn(1000, 8, generator=torch.Generator().manual_seed(0))
    rows[:10] += 10_000
    assert geometric_median(rows).norm() < 0.5 < rows.mean(0).norm()


# ---------------------------------------------------------------------------------- text


def test_documents_are_read_as_they_are_needed(tmp_path):
    text = "one\n\ntwo\n<|endoftext|>\nthree\n<|endoftext|>\n\n"
    (tmp_path / "a.txt").write_text(text)
    with gzip.open(tmp_path / "a.txt.gz", "wt") as file:
        file.write(text)
    for path in (tmp_path / "a.txt", tmp_path / "a.txt.gz"):
        assert [d.strip() for d in documents(path) if d.strip()] == ["one\n\ntwo", "three"]
    long = "word " * 9000
    parts = list(sections([long, "short"]))
    assert [len(p) <= 20_000 for p in parts] == [True] * 4
    assert " ".join(parts[:3]).split() == long.split()


def test_held_out_text_is_never_trained_on(config, llama):
    from interp.training.texts import held_out_examples, held_out_pieces, sources

    held = held_out_pieces(config, llama)
    texts = {e.text for e in held_out_examples(config)}
    config = replace(config, text=replace(config.text, prompts=[PromptsConfig("vignettes", "test", limit=60)]))
    plain, prompts = sources(config, llama, texts)
    drawn = [plain.draw() for _ in range(300)]
    assert plain.round >= 1  # everything was seen
    assert held
    assert not {tuple(p.ids) for p in held} & {tuple(p.ids) for p in drawn}
    framed = {tuple(e.ids) for e in llama.encode([f"Text: {t}\nEmotion:" for t in texts])}
    assert not framed & {tuple(prompts.draw().ids) for _ in range(200)}


def test_a_data_set_on_disk_is_a_stream(config, llama, tmp_path, text):
    import datasets

    datasets.Dataset.from_dict({"body": text.read_text().split("<|endoftext|>")}).save_to_disk(str(tmp_path / "data"))
    from interp.training.config import StreamConfig

    stream = StreamConfig(str(tmp_path / "data"), column="body")
    found = train_saes(replace(config, text=replace(config.text, plain=[], streams=[stream])), model=llama, card=False)
    assert found.layers == (1, 3)
    wrong = replace(config, out=config.out + "2", text=replace(config.text, streams=[replace(stream, column="text")]))
    with pytest.raises(UserError, match=r"has no column 'text' \(it has: body\)"):
        train_saes(wrong, model=llama, card=False)


# ---------------------------------------------------------------------------------- bad input


def yaml_of(tmp_path, plain, **fields):
    tree = {"text": {"plain": [{"path": str(plain)}]}, "tokens": 2048, "batch": 64, "chunk": 1024, **fields}
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(tree))
    return path


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"d_sae": 16}, r"k must be at most d_sae, the number of features \(16\); got 32"),
        ({"layers": []}, "layers must name at least one layer, each once"),
        ({"layers": [1, 1]}, "layers must name at least one layer, each once"),
        ({"tokens": 32}, "tokens and chunk must hold at least one batch"),
        ({"lr": float("nan")}, "lr: input should be"),
        ({"lr": 0}, "lr: input should be greater than 0"),
        ({"seed": -1}, "seed: input should be greater than or equal to 0"),
        ({"batch": 0}, "batch: input should be greater than or equal to 1"),
        ({"batch": True}, "batch: input should be a valid integer"),
        ({"warmup": 0.6, "decay": 0.6}, "warmup and decay must be at most 1 together"),
        ({"architecture": "top-k"}, "architecture: input should be 'topk'"),
        ({"precision": "int8"}, "precision: input should be 'float16'"),
        ({"text": {}}, "text names nothing to train on"),
        ({"text": {"plian": []}}, r"unknown key 'text.plian'; did you mean 'plain'\?"),
        ({"groups": [64, 32]}, "groups must rise"),
        ({"held_out": {"share": 1.0}}, "held_out.share: input should be less than 1"),
        ({"labels": ["joy"]}, "labels must be at least two different words"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(tmp_path, text, fields, words):
    with pytest.raises(UserError, match=words) as caught:
        load_training_config(yaml_of(tmp_path, text, **fields))
    assert "\n" not in str(caught.value)


def test_flags_are_fields(tmp_path, text):
    path = yaml_of(tmp_path, text)
    flags = {"lr": "3e-4", "text.plain.0.path": "a: b #c", "text.plain.1.path": "2024", "layers": "[1, 2]", "k": "8"}
    found = load_training_config(path, flags)
    assert found.lr == 3e-4
    assert [p.path for p in found.text.plain] == ["a: b #c", "2024"]
    assert found.layers == [1, 2]
    assert found.k == 8
    for key, words in (
        ("kk", "Unknown option --kk"),
        ("text.plain.7.path", "no place in a list"),
        ("k.x", "Unknown option"),
    ):
        with pytest.raises(UserError, match=words):
            load_training_config(path, {key: "1"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layers": [4]}, "layers: llama has layers 0 to 3; got 4"),
        ({"text": {"context": 4096}}, "text.context is 4096; llama reads at most 128 tokens together"),
        (
            {"batch": 100_000, "tokens": 100_000, "chunk": 100_000},
            r"holds [\d,]+ tokens for training, less than one batch \(100,000\)",
        ),
        ({"text": {"plain": [PlainConfig("nowhere.txt")]}}, "No plain-text file 'nowhere.txt'"),
    ],
)
def test_a_model_or_text_that_does_not_fit_is_said_in_one_line(config, llama, change, words):
    if "text" in change:
        change = {"text": replace(config.text, **change["text"])}
    with pytest.raises(UserError, match=words) as caught:
        train_saes(replace(config, **change), model=llama, card=False)
    assert "\n" not in str(caught.value)
    train_saes(config, model=llama, card=False)  # the folder is not spoilt


@pytest.mark.parametrize("damage", ["\xff\xfe not text".encode("latin-1"), b"\x1f\x8b\x08\x00broken"])
def test_damaged_text_is_said_in_one_line(config, llama, tmp_path, damage):
    path = tmp_path / ("a.txt.gz" if damage[0] == 0x1F else "a.txt")
    path.write_bytes(damage)
    bad = replace(config, text=replace(config.text, plain=[PlainConfig(str(path))]))
    with pytest.raises(UserError, match=r"is not UTF-8 text|is a damaged \.gz file"):
        train_saes(bad, model=llama, card=False)


def test_a_folder_of_something_else_is_left_alone(config, llama, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds files but no training\.json"):
        train_saes(config, model=llama, card=False)
    assert [p.name for p in (tmp_path / "out").iterdir() if p.name != ".lock"] == ["letter.txt"]


def test_text_that_is_read_again_is_said(config, llama):
    with pytest.warns(InterpWarning, match=r"plain\.txt was read \d times"):
        train_saes(replace(config, tokens=8192), model=llama, card=False)


def test_weights_too_large_for_half_precision_are_refused(config):
    from interp.training.saving import _cast

    with pytest.raises(UserError, match="too large for float16; save with --precision bfloat16 or float32"):
        _cast(torch.tensor([70_000.0]), torch.float16, 3)
    assert torch.isfinite(_cast(torch.tensor([70_000.0]), torch.bfloat16, 3)).all()


def test_states_hold_no_pickle(config, llama, tmp_path):
    with pytest.raises(Killed):
        train_saes(config, model=llama, card=False, progress=kill_at("train", 3, 2))
    state = load_file(tmp_path / "out" / "work" / "layer_01.safetensors")
    assert {"sae.W_dec", "adam.W_dec.exp_avg", "adam.W_dec.exp_avg_sq", "adam.W_dec.step", "fired"} <= set(state)
