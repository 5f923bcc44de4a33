"""Score the bundled model and its SAEs, and write the folder that ships: weights, scores and model card.

python -m experiments.tiny_model.score --data ../shared/data --out build/tiny_model --ship sae_checkpoints/tiny
"""

import argparse
import gzip
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import jinja2
import numpy as np
import torch
from tqdm import tqdm

from experiments.tiny_model import train_model, train_saes
from interp import capture, load_corpus, load_model, load_saes
from interp.engine.capture import Captured
from interp.evaluation.fluency import fluency
from interp.evaluation.recognition import recognition_scores
from interp.models.language_model import LanguageModel
from interp.saes.stack import SaeStack
from interp.statistics import Bootstrap
from interp.steering import Steering
from interp.texts.emotions import EKMAN
from interp.texts.examples import Example
from interp.texts.plain_documents import load_plain_text
from interp.texts.prompts import build_prompts
from interp.training.residuals import Reading, RowReader
from interp.training.texts import Piece

CORPORA = {
    "goemotions test": ("goemotions", "goemotions/ekman", "test"),
    "isear held out": ("isear", "isear", "test"),
    "meld held out": ("meld", "meld", "test"),
    "tweeteval validation": ("tweeteval", "tweeteval-emotion", "validation"),
    "crowd-envent (never seen)": ("crowd-envent", "crowd-envent", "all"),
    "empatheticdialogues (never seen)": ("empatheticdialogues", "empatheticdialogues", "all"),
    "vignettes (never seen)": ("vignettes", None, "all"),
}
RECONSTRUCTED = ("goemotions test", "isear held out", "crowd-envent (never seen)")
PER_CORPUS = 1000
"""Examples per corpus on which reconstruction is judged."""


def read(model: LanguageModel, examples: Sequence[Example]) -> tuple[Captured, np.ndarray]:
    captured = capture(model, build_prompts([e.text for e in examples], EKMAN), answers=EKMAN)
    return captured, np.array([EKMAN.index(e.gold) for e in examples])


def recognition(model: LanguageModel, data: Path) -> dict[str, dict]:
    scores = {}
    for title, (name, folder, split) in tqdm(CORPORA.items(), desc="recognition"):
        examples = load_corpus(name, split=split, path=data / folder if folder else None)
        captured, gold = read(model, examples)
        bootstrap = Bootstrap([e.group for e in examples])
        found = recognition_scores(gold, captured.answer_logits.argmax(1).numpy(), EKMAN, bootstrap)
        scores[title] = {k: [round(e.value, 4), round(e.ci_low, 4), round(e.ci_high, 4), e.n] for k, e in found.items()}
    return scores


def fvu(x: torch.Tensor, reconstruction: torch.Tensor) -> float:
    return float((x - reconstruction).square().sum() / (x - x.mean(0)).square().sum())


@torch.no_grad()
def reconstruction(model: LanguageModel, saes: SaeStack, data: Path) -> dict[str, dict]:
    """Per layer: FVU at answer positions and over plain text; change of accuracy when the SAE's output takes over."""
    examples = [
        e
        for title in RECONSTRUCTED
        for name, folder, split in (CORPORA[title],)
        for e in load_corpus(name, split=split, path=data / folder, limit=PER_CORPUS)
    ]
    captured, gold = read(model, examples)
    right = float((captured.answer_logits.argmax(1).numpy() == gold).mean())
    with gzip.open(data / "pretrain" / "movie_reviews.txt.gz", "rt", encoding="utf-8") as file:
        reviews = file.read(2_000_000).split("<|endoftext|>")[:60]
    reader = RowReader(model, Reading(tuple(range(model.n_layers))))
    rows = [reader.rows([Piece(model.tokenizer(r)["input_ids"][:256])]) for r in reviews if r.strip()]
    plain = [torch.cat([r[layer] for r in rows])[:15_000] for layer in range(model.n_layers)]
    layers = {}
    for layer in tqdm(saes.layers, desc="reconstruction"):
        at_answer = captured.residuals[layer]

        def everywhere(x: torch.Tensor, layer: int = layer) -> torch.Tensor:
            # All positions but the first of a text: its residual is a constant that no SAE here was trained on.
            far = x.norm(dim=-1, keepdim=True) > 4 * x.norm(dim=-1).median()
            return torch.where(far, x, saes.reconstruct(layer, x))

        def at_last(x: torch.Tensor, layer: int = layer) -> torch.Tensor:
            x = x.clone()
            x[:, -1] = saes.reconstruct(layer, x[:, -1])
            return x

        changed = {}
        for name, edit in (("all_positions", everywhere), ("answer_position", at_last)):
            with model.edited({layer: edit}):
                again, _ = read(model, examples)
            changed[name] = round(float((again.answer_logits.argmax(1).numpy() == gold).mean()) - right, 4)
        acts = saes.encode(layer, at_answer)
        layers[f"layer {layer}"] = {
            "fvu_answer": round(fvu(at_answer, saes.reconstruct(layer, at_answer)), 4),
            "fvu_plain": round(fvu(plain[layer], saes.reconstruct(layer, plain[layer])), 4),
            "l0": round(float((acts > 0).sum(1).float().mean()), 2),
            "alive": int((saes.encode(layer, torch.cat([at_answer, plain[layer]])) > 0).any(0).sum()),
            "accuracy_change": changed,
        }
    return {"n": len(examples), "accuracy": round(right, 4), **layers}


def perplexities(model: LanguageModel, data: Path) -> dict[str, float]:
    with gzip.open(data / "pretrain" / "movie_reviews.txt.gz", "rt", encoding="utf-8") as file:
        reviews = [d for d in file.read(2_000_000).split("<|endoftext|>")[:40] if d.strip()]
    found = {}
    nothing = Steering("none")
    for name, documents in (("movie reviews", reviews), ("bundled plain text", load_plain_text(None))):
        bootstrap = Bootstrap(range(len(documents)), 100)
        found[name] = round(fluency(model, documents, lambda: nothing.applied(model), bootstrap).perplexity, 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("build/tiny_model"))
    parser.add_argument("--ship", type=Path, default=Path("sae_checkpoints/tiny"))
    options = parser.parse_args()
    torch.set_num_threads(2)
    for source, target in (("model_emotion", "model"), ("saes", "saes")):
        shutil.rmtree(options.ship / target, ignore_errors=True)
        unwanted = shutil.ignore_patterns("log", "*.html", "training.json", ".lock")
        shutil.copytree(options.out / source, options.ship / target, ignore=unwanted)
    model = load_model(str(options.ship / "model"))
    saes = load_saes(str(options.ship / "saes"), model)
    scores = {
        "parameters": sum(p.numel() for p in model.hf.parameters()),
        "recognition": recognition(model, options.data),
        "perplexity": perplexities(model, options.data),
        "reconstruction": reconstruction(model, saes, options.data),
        "recipe": {
            "stages": [vars(s) for s in train_model.STAGES],
            "tokens_per_step": train_model.ROWS_PER_STEP * 512,
            "sae": {"d_sae": train_saes.D_SAE, "k": train_saes.K},
        },
    }
    (options.ship / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")
    curve = [json.loads(line) for line in (options.out / "loss.jsonl").read_text().splitlines()]
    (options.ship / "loss_curve.jsonl").write_text("".join(json.dumps(c) + "\n" for c in curve[4::5]))
    template = jinja2.Template(Path(__file__).with_name("card.md.jinja").read_text(), trim_blocks=True)
    (options.ship / "README.md").write_text(template.render(**scores))
    size = sum(f.stat().st_size for f in options.ship.rglob("*") if f.is_file())
    print(json.dumps(scores, indent=1), f"\n{size / 1e6:.1f} MB in {options.ship}")


if __name__ == "__main__":
    main()
