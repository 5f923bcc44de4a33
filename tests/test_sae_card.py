"""The quality card: its formulas on cases whose answer is known, and its commands."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import SENTENCES, build_sae

from interp import UserError
from interp.report.words import fixed
from interp.saes.stack import SaeStack
from interp.texts.examples import Example
from interp.training.card import quality_card
from interp.training.card_files import as_json, as_markdown, quality_table, write_card
from interp.training.replacing import body, last_residual, residuals
from interp.training.texts import Piece

LABELS = ["anger", "fear", "joy"]
EXAMPLES = [Example(str(i), "own", "test", s, LABELS[i % 3], str(i)) for i, s in enumerate(SENTENCES)]


def identity_sae(d=32):
    """x = relu(x) - relu(-x): nothing is lost."""
    sae = build_sae("standard", d_in=d, d_sae=2 * d, apply_b_dec_to_input=False)
    with torch.no_grad():
        sae.W_enc.copy_(torch.cat([torch.eye(d), -torch.eye(d)], dim=1))
        sae.W_dec.copy_(torch.cat([torch.eye(d), -torch.eye(d)]))
        sae.b_enc.zero_()
        sae.b_dec.zero_()
    return sae


def pieces(model):
    return [Piece(e.ids) for e in model.encode(SENTENCES)]


def card_of(model, sae, **options):
    stack = SaeStack(dict.fromkeys((0, 3), sae), "s", "x")
    return quality_card(model, stack, plain=pieces(model), examples=EXAMPLES, labels=LABELS, **options)


def test_the_card_of_a_perfect_sae_is_perfect(any_model):
    for layer in card_of(any_model, identity_sae()).layers:
        assert layer.plain.fvu < 1e-10
        assert layer.answer.fvu < 1e-10
        assert layer.plain.cosine == pytest.approx(1, abs=1e-6)
        assert layer.loss.recovered == pytest.approx(1, abs=1e-4)
        assert layer.loss.kl == pytest.approx(0, abs=1e-6)
        assert layer.answers.same == 1
        assert layer.answers.kl == pytest.approx(0, abs=1e-6)
        assert layer.answers.accuracy == layer.answers.accuracy_reconstructed


def test_an_sae_that_gives_nothing_recovers_nothing(llama):
    sae = identity_sae()
    with torch.no_grad():
        sae.W_dec.zero_()
    for layer in card_of(llama, sae).layers:
        assert layer.loss.recovered == pytest.approx(0, abs=1e-6)
        assert layer.loss.kl > 0
        assert layer.plain.cosine == 0
        assert layer.plain.fvu > 1


def test_the_formulas(llama):
    """FVU, cosine, L0, dense and dead against their definitions, position by position."""
    sae = build_sae("topk")
    found = card_of(llama, sae).layers[1]
    rows = []
    for piece in pieces(llama):
        tokens = llama.pad(llama.encode([llama.tokenizer.decode(piece.ids[1:])]))
        assert tokens.ids[0].tolist() == piece.ids
        rows.append(residuals(llama, tokens, [3])[3][0, 1:])
    x = torch.cat(rows).double().numpy()
    acts = sae.encode(torch.cat(rows))
    decoded = sae.decode(acts).double().numpy()
    acts = (acts > 0).numpy()
    assert found.plain.n == len(x)
    assert found.plain.fvu == pytest.approx(((x - decoded) ** 2).sum() / ((x - x.mean(0)) ** 2).sum(), rel=1e-4)
    cosine = (x * decoded).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(decoded, axis=1)
    assert found.plain.cosine == pytest.approx(cosine.mean(), rel=1e-4)
    assert found.plain.l0 == pytest.approx(acts.sum(1).mean(), rel=1e-3)
    assert found.dense == (acts.mean(0) > 0.1).sum()
    assert found.dead <= (~acts.any(0)).sum()
    assert found.plain.long == 0


def test_the_losses_are_those_of_a_hooked_model(llama):
    sae = build_sae("jumprelu")
    found = card_of(llama, sae).layers[0].loss
    tokens = llama.pad(llama.encode(SENTENCES))
    where = body(tokens)
    target, counted = tokens.ids[:, 1:], where[:, :-1] & tokens.mask[:, 1:]

    def loss(edit):
        with torch.no_grad(), llama.edited({0: edit}):
            logits = llama.hf(
                input_ids=tokens.ids, attention_mask=tokens.mask.long(), position_ids=tokens.positions
            ).logits
        return -logits[:, :-1].log_softmax(-1).gather(-1, target[..., None])[..., 0][counted].mean().item()

    def with_values(values):
        return lambda x: torch.where(where[..., None], values(x), x)

    plain, reconstructed = loss(lambda x: None), loss(with_values(lambda x: sae.decode(sae.encode(x))))
    zeroed = loss(with_values(torch.zeros_like))
    assert found.n == int(counted.sum())
    assert found.original == pytest.approx(plain, rel=1e-4)
    assert found.reconstructed == pytest.approx(reconstructed, rel=1e-4)
    assert found.zeroed == pytest.approx(zeroed, rel=1e-4)
    assert found.recovered == pytest.approx((zeroed - reconstructed) / (zeroed - plain), rel=1e-2, abs=1e-3)


def test_passing_over_blocks_changes_nothing(any_model):
    tokens = any_model.pad(any_model.encode(SENTENCES))
    seen = residuals(any_model, tokens, [0, 1, 2])
    for layer in (0, 1, 2):
        again = last_residual(any_model, tokens, layer, seen[layer])
        torch.testing.assert_close(again[tokens.mask], seen[3][tokens.mask], rtol=1e-5, atol=1e-5)
        other = seen[layer] + 1
        with torch.no_grad(), any_model.edited({layer: lambda x, other=other: other}):
            expected = residuals(any_model, tokens, [])[3]
        torch.testing.assert_close(
            last_residual(any_model, tokens, layer, other)[tokens.mask], expected[tokens.mask], rtol=1e-5, atol=1e-5
        )
    torch.testing.assert_close(residuals(any_model, tokens, [0])[0], seen[0])  # nothing stays behind


def test_answers_of_several_tokens_are_scored_whole(llama):
    """Labels with one first token; a perfect SAE changes none of their scores."""
    labels = ["the cat", "the dog", "the rain"]
    examples = [replace(e, gold=labels[i % 3]) for i, e in enumerate(EXAMPLES)]
    stack = SaeStack({2: identity_sae()}, "s", "x")
    found = quality_card(llama, stack, examples=examples, labels=labels).layers[0]
    assert found.answers.same == 1
    assert found.answers.kl == pytest.approx(0, abs=1e-6)
    assert found.plain is None
    assert found.loss is None


def test_sinks_are_counted_and_not_measured(tokenizer):
    from tiny_models import build_model

    model = build_model("llama", tokenizer)
    word = tokenizer(" rain", add_special_tokens=False)["input_ids"][0]
    with torch.no_grad():
        model.hf.get_input_embeddings().weight[word] *= 1000
    found = card_of(model, identity_sae()).layers[0]
    assert found.plain.long >= 1
    assert found.plain.fvu < 1e-9


def test_a_card_needs_text(llama):
    with pytest.raises(UserError, match="needs text"):
        quality_card(llama, SaeStack({0: identity_sae()}, "s", "x"))


def test_files_of_a_card(llama, tmp_path):
    card = card_of(llama, build_sae("topk"))
    write_card(card, tmp_path, {"plain text": "five sentences", "prompts": "five"}, ["A note."])
    stored = json.loads((tmp_path / "card.json").read_text())
    assert stored == json.loads(json.dumps(as_json(card, {"plain text": "five sentences", "prompts": "five"})))
    assert [layer["layer"] for layer in stored["layers"]] == [0, 3]
    assert "FVU" in stored["definitions"]
    text = (tmp_path / "card.md").read_text()
    assert text == as_markdown(card, {"plain text": "five sentences", "prompts": "five"}, ["A note."])
    table = quality_table(stored["layers"])
    assert len(table.rows) == len(card.layers)
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert f"| {fixed(card.layers[0].plain.fvu, 3)} |" in text
    assert text.count("\n| ") == len(card.layers) + 2


# ---------------------------------------------------------------------------------- the commands


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """SAEs of the bundled model, from the command line."""
    from interp.cli.saes import app

    folder = tmp_path_factory.mktemp("cli")
    (folder / "plain.txt").write_text("\n<|endoftext|>\n".join(f"{s} And {i}." for i in range(40) for s in SENTENCES))
    tree = {
        "layers": [2], "d_sae": 256, "k": 16, "tokens": 2048, "batch": 256, "chunk": 1024,
        "text": {"plain": [{"path": str(folder / "plain.txt")}], "prompts": [{"name": "vignettes", "split": "fit"}]},
        "held_out": {"share": 0.2, "tokens": 256, "prompts": [{"name": "vignettes", "limit": 12}]},
    }  # fmt: skip
    (folder / "c.yaml").write_text(json.dumps(tree))
    with pytest.raises(SystemExit) as ended:
        app(["train", str(folder / "c.yaml"), "--out", str(folder / "out"), "--k", "8", "--quiet"])
    assert ended.value.code == 0
    return folder


def test_the_command_leaves_saes_a_card_and_a_page(trained):
    out = trained / "out"
    card = json.loads((out / "card.json").read_text())
    assert card["layers"][0]["plain"]["l0"] <= 8
    assert card["saes"] == "out"
    assert str(trained) not in json.dumps(card)
    assert "12 of vignettes/test" in card["data"]["prompts"]
    page = (out / "learning.html").read_text()
    assert "Learning curves" in page
    assert "unexplained variance" in page
    assert "loss recovered" in page
    cfg = json.loads((out / "layer_02" / "cfg.json").read_text())
    assert cfg["metadata"]["model_name"] == "tiny"
    assert cfg["metadata"]["dataset_path"] == "plain.txt, vignettes/fit"
    assert cfg["normalize_activations"] == "none"
    assert cfg["k"] == 8
    assert cfg["dtype"] == "float16"


@pytest.mark.filterwarnings("ignore::interp.errors.InterpWarning")  # one layer of eight
def test_checking_makes_the_same_card_for_anybodys_saes(trained, capsys, tmp_path):
    from interp.cli.saes import app

    command = ["check", str(trained / "out"), "--model", "tiny", "--tokens", "200", "--limit", "12", "--json"]
    with pytest.raises(SystemExit):
        app([*command, "--out", str(tmp_path)])
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((tmp_path / "card.json").read_text())
    own = json.loads((trained / "out" / "card.json").read_text())["layers"][0]
    assert found["layers"][0]["answers"] == own["answers"]
    assert found["layers"][0]["answer"] == own["answer"]
    with pytest.raises(SystemExit):
        app(["check", "tiny", "--model", "tiny", "--tokens", "200", "--limit", "12", "--layers", "7", "--json"])
    shipped = json.loads(capsys.readouterr().out)["layers"]
    assert [s["layer"] for s in shipped] == [7]
    assert shipped[0]["loss"]["recovered"] > 0.9


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["train"], "Give a config file"),
        (["train", "nowhere.yaml"], "No config file 'nowhere.yaml'"),
        (["train", "c.yaml", "--kk", "3"], "Unknown option --kk"),
        (["train", "c.yaml", "--k"], "--k needs a value"),
        (["train", "c.yaml", "k"], "Unexpected 'k'"),
        (["train", "c.yaml", "--k", "300"], "k must be at most d_sae"),
        (["train", "c.yaml", "--layers", "[9]"], "layers: tiny has layers 0 to 7; got 9"),
        (["check", "./nowhere", "--model", "tiny"], "No SAE folder 'nowhere'"),
        (["check", "out", "--model", "tiny", "--layers", "3"], "no SAE for layer 3"),
        (["check", "out", "--model", "tiny", "--plain", "nowhere.txt"], "No plain-text file 'nowhere.txt'"),
        (["check", "out", "--model", "tiny", "--prompts", "vignets"], "did you mean 'vignettes'"),
    ],
)
@pytest.mark.filterwarnings("ignore::interp.errors.InterpWarning")  # one layer of eight
def test_commands_refuse_in_one_line(trained, monkeypatch, command, words):
    from interp.cli.saes import app

    monkeypatch.chdir(trained)
    with pytest.raises(UserError, match=words) as caught:
        app([*command, "--out", "elsewhere"] if command[:2] == ["train", "c.yaml"] and len(command) > 3 else command)
    assert "\n" not in str(caught.value)
