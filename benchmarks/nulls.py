"""How often the tool finds something where there is nothing: `python -m benchmarks.nulls`.

In every null world labels have nothing to do with texts, so that nothing true can be said of any emotion:

- *shuffled labels*: the planted model and its SAEs, on its own texts, which do have causes, with permuted labels;
- *random model*: a Llama of random weights with random SAEs, on texts of filler words with random labels;
- *random SAE*: the planted model with SAEs of random directions, on its own texts with permuted labels.

A run's findings, each with a nominal rate of at most 5 % of runs:

- *selective*: more layers with a feature at q < 0.05 than the 95th percentile of Binomial(layers, 0.05). q is corrected
  within a layer, so one layer in twenty may name a feature although all labels are noise; that is its nominal rate;
- *causal*: any feature marked causal on the discover examples;
- *phases*: more than one phase;
- *gain*: the 95 % interval of steering's accuracy gain on the test examples excludes zero. A run that finds no cause
  steers nothing, so here the best of all common gains and of all gains for the weakest emotion is applied, chosen on
  the fit examples, on the ten features of largest effect, causal or not. (*macro-F1 gain* has no target: macro-F1 falls
  wherever answers crowd on fewer labels, also when labels are noise. Accuracy does not, with balanced labels.)

Beside them, without a target, worlds that are no null: the random model and the random SAEs on texts whose labels are
true. Random weights keep words apart, and random directions read the residual, so there is something to be found.
"""

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import transformers as tf
from sae_lens import SAE, TopKSAE, TopKSAEConfig
from scipy.stats import binom
from statsmodels.stats.proportion import proportion_confint

from interp.analysis.selectivity import Q_LEVEL
from interp.engine import answers_under
from interp.evaluation.recognition import paired_improvements
from interp.files.folder import RunFolder, read_json
from interp.models.language_model import LanguageModel
from interp.run.config import Config, CorporaConfig, CorpusConfig, FluencyConfig
from interp.run.session import Session
from interp.run.stages import attribution, capture, features, phases, selectivity, signals, steer, trace
from interp.run.steerings import fit_data
from interp.saes.stack import SaeStack
from interp.statistics import Bootstrap
from interp.steering.steering import SteeredFeature, Steering
from interp.steering.trials import amplified, targeted
from tests.planted import FILLERS, LABELS, Planted, build_planted

RESULTS = Path(__file__).parent / "results"
NULLS = ("shuffled labels", "random model", "random SAE")
NOT_NULL = ("random model, true labels", "random SAE, true labels")
FINDINGS = ("selective", "causal", "phases", "gain", "macro-F1 gain")
SIZES = {"discover": 120, "fit": 80, "test": 100}
TARGET = 0.05


@dataclass(frozen=True)
class Found:
    """What one run says."""

    kind: str
    seed: int
    layers: int
    selective_layers: int
    """Layers with a feature at q < 0.05."""
    causal_features: int
    n_phases: int
    gains: dict[str, tuple[float, float, float]]
    """Accuracy and macro-F1 gain on the test examples with intervals, of features steered whether causal or not."""
    steers: bool
    """Whether the run itself chose to steer."""

    def says(self, finding: str) -> bool:
        """Whether the run reports that."""
        if finding == "selective":
            return self.selective_layers > binom.ppf(1 - TARGET, self.layers, Q_LEVEL)
        if finding == "causal":
            return self.causal_features > 0
        if finding == "phases":
            return self.n_phases > 1
        _, low, high = self.gains["accuracy_gain" if finding == "gain" else "macro_f1_gain"]
        return not low <= 0 <= high


def world(kind: str, seed: int, planted: Planted, folder: Path) -> Session:
    """A run of that kind, its corpus written to `folder`."""
    true_labels = kind.endswith("true labels")
    of_fillers = kind == "random model"
    parts = []
    for number, (split, n) in enumerate(SIZES.items()):
        texts = planted.texts(n, 10 * seed + number, shuffled=not true_labels)
        if of_fillers:
            texts["text"] = _filler_texts(n, 10 * seed + number)
        parts.append(texts.assign(split=split))
    pd.concat(parts).to_csv(folder / "texts.csv", index=False)
    (folder / "plain.txt").write_text("\n<|endoftext|>\n".join(_filler_texts(8, seed)))
    source = {"name": "local", "path": str(folder / "texts.csv")}
    config = Config(
        name="null",
        labels=list(LABELS),
        corpora=CorporaConfig(
            CorpusConfig(split="discover", **source),
            CorpusConfig(split="fit", **source),
            [CorpusConfig(split="test", **source)],
        ),
        fluency=FluencyConfig(str(folder / "plain.txt")),
        resamples=500,
        seed=seed,
    )
    session = Session(config, RunFolder.open(folder / "run", "null"))
    session.model = random_model(planted, seed) if kind.startswith("random model") else planted.model
    session.saes = planted.saes if kind == "shuffled labels" else random_saes(session.model, seed)
    return session


def findings(session: Session, kind: str) -> Found:
    """The stages of a run up to steering, and the test score of what was chosen."""
    stages = (
        capture.run,
        features.run,
        selectivity.run,
        attribution.run,
        signals.run,
        phases.run,
        trace.run,
        steer.run,
    )
    for stage in stages:
        stage(session)
    selective = pd.read_parquet(session.folder / "selectivity.parquet")
    effects = pd.read_parquet(session.folder / "effects.parquet")
    return Found(
        kind,
        session.config.seed,
        len(session.saes.layers),
        selective.loc[selective["q"] < Q_LEVEL, "layer"].nunique(),
        int((effects["causal"] & (effects["role"] == "discover")).sum()),
        read_json(session.folder / "phases.json")["n_phases"],
        _gains(session, effects),
        Steering.load(session.folder.path).method != "none",
    )


def _gains(session: Session, effects: pd.DataFrame) -> dict[str, tuple[float, float, float]]:
    own = effects[~effects["control"] & (effects["role"] == "discover")].nlargest(10, "effect")
    own = own.drop_duplicates(["layer", "feature"])
    chosen_from = [SteeredFeature(r.layer, r.feature, r.emotion, r.effect) for r in own.itertuples()]
    data = fit_data(session)
    trials = amplified(data, chosen_from)
    trials += targeted(data, chosen_from)
    chosen = max(trials, key=lambda t: t.macro_f1).make(data)
    rows = session.role("test")
    place = {row: i for i, row in enumerate(rows)}
    before, after = (np.zeros(len(rows), dtype=int) for _ in range(2))
    for chunk, captured in session.cached(rows, "test"):
        at = [place[row] for row in chunk]
        before[at] = captured.answer_logits.argmax(-1).numpy()
        after[at] = answers_under(session.model, captured, chosen.edits(session.saes)).argmax(-1).numpy()
    bootstrap = Bootstrap(range(len(rows)), session.config.resamples, session.seed("test"))
    changes = paired_improvements(session.gold(rows), before, after, session.labels, bootstrap)
    return {name: (e.value, e.ci_low, e.ci_high) for name, e in changes.items() if name.endswith("gain")}


def _filler_texts(n: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(FILLERS, rng.integers(9, 16))) for _ in range(n)]


def random_model(planted: Planted, seed: int) -> LanguageModel:
    """Random weights, large enough that attention and MLPs matter."""
    torch.manual_seed(seed)
    config = tf.LlamaConfig(
        vocab_size=len(planted.model.tokenizer),
        hidden_size=48,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=128,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=2,
    )
    hf = tf.LlamaForCausalLM(config)
    with torch.no_grad():
        for weight in hf.parameters():
            if weight.ndim == 2:
                weight.normal_(0, 0.15)
    return LanguageModel(hf, planted.model.tokenizer, "random", f"random:{seed}")


def random_saes(model: LanguageModel, seed: int) -> SaeStack:
    """16 of 128 random directions active at a time."""
    saes: dict[int, SAE] = {}
    for layer in range(model.n_layers):
        generator = torch.Generator().manual_seed(1000 * seed + layer)
        sae = TopKSAE(TopKSAEConfig(d_in=model.d_model, d_sae=128, k=16, dtype="float32", device="cpu"))
        directions = torch.nn.functional.normalize(torch.randn(128, model.d_model, generator=generator), dim=-1)
        with torch.no_grad():
            sae.W_dec.copy_(directions)
            sae.W_enc.copy_(directions.T)
        saes[layer] = sae.requires_grad_(False)
    return SaeStack(saes, "random", f"random:{seed}")


def simulate(kind: str, worlds: int, planted: Planted) -> list[Found]:
    """`worlds` runs of a kind."""
    found, start = [], time.perf_counter()
    for seed in range(worlds):
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.append(findings(world(kind, seed, planted, Path(folder)), kind))
    print(f"{kind}: {(time.perf_counter() - start) / worlds:.1f} s a world", flush=True)
    return found


def rates(found: Sequence[Found]) -> pd.DataFrame:
    """Per kind and finding: the share of runs with it, and its 95 % interval (Clopper-Pearson)."""
    lines = []
    for kind in dict.fromkeys(f.kind for f in found):
        own = [f for f in found if f.kind == kind]
        for finding in FINDINGS:
            count = sum(f.says(finding) for f in own)
            low, high = proportion_confint(count, len(own), method="beta")
            lines.append({"kind": kind, "finding": finding, "rate": count / len(own), "low": low, "high": high})
        layers = sum(f.selective_layers for f in own) / sum(f.layers for f in own)
        lines.append({"kind": kind, "finding": "layers with a selective feature", "rate": layers})
        steered = np.mean([f.steers for f in own])
        lines.append({"kind": kind, "finding": "steering chosen", "rate": steered})
    return pd.DataFrame(lines)


def table(found: Sequence[Found]) -> str:
    """Markdown, one row per kind."""
    lines = [
        f"# Null worlds\n\nShare of runs with a finding (target: at most {TARGET:.0%}), its 95 % interval. What counts"
        " as one, and why worlds with true labels have no target: `benchmarks/nulls.py`.\n"
    ]
    shown = (*FINDINGS, "layers with a selective feature", "steering chosen")
    lines += ["| world | runs | " + " | ".join(shown) + " |", "|---|---|" + "---|" * len(shown)]
    summary = rates(found)
    for kind, part in summary.groupby("kind", sort=False):
        cells = []
        for finding in shown:
            line = part[part["finding"] == finding].iloc[0]
            between = "" if np.isnan(line["low"]) else f" ({line['low']:.2f}-{line['high']:.2f})"
            cells.append(f"{line['rate']:.2f}{between}")
        runs = sum(f.kind == kind for f in found)
        lines.append(f"| {kind} | {runs} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Rates of findings where there is nothing.")
    parser.add_argument("--worlds", type=int, default=100, help="of each null kind; a fifth as many of the others")
    parser.add_argument("--kinds", nargs="+", default=[*NULLS, *NOT_NULL], choices=[*NULLS, *NOT_NULL])
    parser.add_argument("--out", type=Path, default=RESULTS / "nulls")
    options = parser.parse_args()
    found: list[Found] = []
    with tempfile.TemporaryDirectory() as home:
        planted = build_planted(Path(home))
        for kind in options.kinds:
            found += simulate(kind, options.worlds if kind in NULLS else max(1, options.worlds // 5), planted)
            _write(options.out, found)
    print(table(found))


def _write(out: Path, found: Sequence[Found]) -> None:
    """After every kind, so that a stopped run leaves what it measured."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".md").write_text(table(found))
    summary = json.loads(rates(found).to_json(orient="records"))
    record = {"sizes": SIZES, "rates": summary, "runs": [vars(f) for f in found]}
    out.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
