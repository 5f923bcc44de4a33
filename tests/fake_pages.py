"""Every kind of page, made by hand of numbers that are hard on its layout: long names, many layers, few texts."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from express_files import TWELVE, write_answers, write_lexicon
from fake_runs import make_run, store, write_ratings

from interp.analysis.inspection import BehindAnswer, Inspection
from interp.report import write_report
from interp.report.comparing import compare
from interp.report.inspecting import inspection_page
from interp.surveys.express.comparing import compare as compare_answers
from interp.surveys.express.comparing import load_entries
from interp.surveys.express.lexicon import load_lexicon
from interp.surveys.express.page import write_comparison
from interp.surveys.reliability.compared import MEASURES, ComparedRun
from interp.surveys.reliability.comparing import write_page
from interp.surveys.reliability.measures import Share

SIX = ("anger", "disgust", "fear", "joy", "sadness", "surprise")
LONG = "a-model-of-some-length-1.7b-instruct"
TEXT = "Yesterday the milk had gone sour, and when I poured it lumps slid into my cup; my sister laughed. " * 2


def write_pages(folder: Path) -> dict[str, Path]:
    """By kind."""
    return {
        "report": report(folder / "report"),
        "compare": comparison(folder),
        "express": express(folder / "express"),
        "reliability": reliability(folder / "reliability.html"),
        "inspect": inspection(folder / "inspect.html"),
    }


def hard_run(folder: Path, *, model: str, layers: int, corpus: str) -> Path:
    """A run of six emotions, of phases that are one layer wide, and of a steering that costs a hundredfold."""
    make_run(folder, labels=SIX, layers=layers, examples=48, traced=30, corpus=corpus)
    record = json.loads((folder / "run.json").read_text())
    record["model"]["name"], record["date"] = model, "2026-01-31"
    part = {"name": corpus, "split": "test"}
    corpora = {"discover": part, "fit": part, "test": [part], "ratings": [], "anchors": []}
    record["config"] |= {"corpora": corpora, "prompt": {"template": "default"}, "tracing": {"examples": "all"}}
    record["config"]["steering"] = {"perplexity_budget": 1.05}
    (folder / "run.json").write_text(json.dumps(record))
    starts = [0, 1, 2, 3, layers // 2, layers - 1]
    ends = [*(k - 1 for k in starts[1:]), layers - 1]
    spans = [{"phase": i, "first": a, "last": b} for i, (a, b) in enumerate(zip(starts, ends, strict=True), 1)]
    facts = {"phases": spans, "boundaries": starts[1:], "intervals": [[k, k + 1] for k in starts[1:]], "support": 0.4}
    (folder / "phases.json").write_text(json.dumps(facts))
    scores = pd.read_parquet(folder / "evaluation.parquet")
    gain = scores[(scores["method"] == "steered") & (scores["metric"] == "macro_f1_gain")]
    price = scores[scores["metric"] == "perplexity_ratio"]
    more = [
        gain.assign(method="mean_difference"),
        price.assign(method="mean_difference", value=131.0, ci_low=80.0, ci_high=220.0),
        *(own.assign(corpus="another corpus of some length") for own in (scores[scores["corpus"] == corpus],)),
    ]
    pd.concat([scores, *more], ignore_index=True).to_parquet(folder / "evaluation.parquet")
    return folder


def report(folder: Path) -> Path:
    """With ratings, so that figures of many panels are there too."""
    run = hard_run(folder, model=LONG, layers=26, corpus="mine")
    write_ratings(run)
    return write_report(run)


def comparison(folder: Path) -> Path:
    """Of two models whose folders say nothing."""
    runs = [
        hard_run(folder / "a", model=LONG, layers=26, corpus="mine"),
        hard_run(folder / "b", model="small", layers=8, corpus="mine"),
    ]
    for run in runs:
        examples = pd.read_parquet(run / "examples.parquet")
        store(run, "examples", [*examples.to_dict("records"), *examples.assign(role="discover").to_dict("records")])
    return compare(runs, folder / "both", match=False).page


def express(folder: Path) -> Path:
    """Of two runs whose folders say nothing, on a dozen answers."""
    folder.mkdir()
    lexicon, options = load_lexicon(write_lexicon(folder / "lexicon.csv")), {"resamples": 50, "seed": 0}
    sources = []
    for name, model in (("one", f"/somewhere/{LONG}"), ("two", "small")):
        (folder / name).mkdir()
        write_answers(folder / name / "answers.csv", TWELVE)
        facts = {"model": model, "mode": "open", "shots": 0, "chain_of_thought": False, "variant": ""}
        (folder / name / "express.json").write_text(json.dumps(facts))
        sources.append(folder / name)
    entries = load_entries(sources, lexicon, **options)
    return write_comparison(compare_answers(entries, lexicon, **options), folder / "out", **options)


def reliability(path: Path) -> Path:
    """Of two models, with all measures, questionnaire and emotions."""
    kinds = [("questionnaire" if i < 8 else "emotions", measure) for i, measure in enumerate(MEASURES)]
    kinds += [("questionnaire", "position_bias")]
    known = {
        key: Share(0.9, 0.8, 1.0, 24, 12, *((0.1, -0.2, 0.4) if i % 3 else ()), constant=float(i % 2))
        for i, key in enumerate(kinds)
    }
    record = {"questionnaire": "daily", "corpus": "vignettes", "made_by": {"answers": "probabilities"}}
    return write_page([ComparedRun(LONG, record, known), ComparedRun("small", record, known)], path)


def inspection(path: Path) -> Path:
    """Of a text of forty words."""
    tokens = [f" {word}" for word in TEXT.split()]
    evidence = np.random.default_rng(0).dirichlet(np.ones(6), (26, len(tokens)))
    probabilities = {name: [0.1, 0.4, 0.1, 0.1, 0.2, 0.1] for name in ("plain", "without", "steered")}
    behind = [BehindAnswer(k, 1000 + k, 3.0, 0.2 - 0.05 * k, [1 / 6] * 6, ["joy"] * (k % 2)) for k in range(8)]
    found = Inspection(TEXT, list(SIX), tokens, evidence, probabilities, behind, 0)
    path.write_text(inspection_page(found, "small"), encoding="utf-8")
    return path
