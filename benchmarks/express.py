"""`python -m benchmarks.express`: the EXPRESS scorer on as many rows as the corpus has, against per-row lookups."""

import ast
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd

from interp.surveys.express.answers import AnswerSheet
from interp.surveys.express.lexicon import DIMENSIONS, Lexicon
from interp.surveys.express.parsing import format_answer
from interp.surveys.express.scoring import HEADLINE, score
from interp.texts.problems import Problems

ROWS, LEXICON_WORDS, LABELS = 33_679, 16_019, 251
NAIVE_ROWS = 500
OUT = Path(__file__).parent / "results" / "express"


def synthetic(rows: int, seed: int = 0) -> tuple[AnswerSheet, Lexicon]:
    """Made-up words in the corpus' proportions: half the lexicon all zeros, one to four masks, 1 % broken answers."""
    rng = np.random.default_rng(seed)
    words = tuple(f"word{i}" for i in range(LEXICON_WORDS))
    vectors = (rng.random((LEXICON_WORDS, len(DIMENSIONS))) < 0.2) & (rng.random((LEXICON_WORDS, 1)) < 0.5)
    n_masks = rng.choice([1, 2, 3, 4], size=rows, p=[0.6, 0.27, 0.1, 0.03])
    labels = [tuple(words[i] for i in rng.integers(0, LABELS, n)) for n in n_masks]
    answers = [tuple(words[i] for i in rng.integers(0, 2 * LABELS, n)) for n in n_masks]
    outputs = ["sorry" if rng.random() < 0.01 else format_answer(a) for a in answers]
    ids = [str(i) for i in range(rows)]
    posts = [str(i) for i in rng.integers(0, rows // 2, rows)]
    context = rng.integers(100, 450, rows).astype(float)
    made = AnswerSheet(list(range(2, rows + 2)), ids, posts, labels, outputs, context, Problems())
    return made, Lexicon(words, vectors.astype(float), "synthetic", "synthetic")


def naive_scores(answers: AnswerSheet, lexicon: Lexicon) -> dict[str, float]:
    """The five scores as one writes them down at first: a search of the table for every word of every row."""
    table = pd.DataFrame(lexicon.vectors, columns=list(DIMENSIONS)).assign(word=lexicon.words)

    def vector(word: str) -> np.ndarray:
        found = table[table["word"] == word]
        return found[list(DIMENSIONS)].iloc[0].to_numpy() if len(found) else np.zeros(len(DIMENSIONS))

    valid = total = hits = equal = 0
    f1, same = [], []
    for labels, output in zip(answers.labels, answers.outputs, strict=True):
        total += len(labels)
        words = ast.literal_eval(output) if output.startswith("[") else [output]
        if len(words) != len(labels):
            continue
        valid += 1
        for gold, predicted in zip(labels, words, strict=True):
            a, b = vector(gold), vector(predicted)
            hits, equal = hits + (gold == predicted), equal + bool((a == b).all())
            f1.append(2 * (a * b).sum() / (a.sum() + b.sum()) if a.sum() + b.sum() else 0.0)
            same.append((a == b).mean())
    found = (valid / len(answers.rows), hits / total, equal / total, np.mean(f1), np.mean(same))
    return dict(zip(HEADLINE, map(float, found), strict=True))


def main() -> None:
    answers, lexicon = synthetic(ROWS)
    start = time.perf_counter()
    score(answers, lexicon, resamples=0)
    bare = time.perf_counter() - start
    start = time.perf_counter()
    score(answers, lexicon)
    whole = time.perf_counter() - start
    few, _ = synthetic(NAIVE_ROWS)
    start = time.perf_counter()
    naive = naive_scores(few, lexicon)
    per_row = (time.perf_counter() - start) / NAIVE_ROWS
    ours = score(few, lexicon, resamples=0)
    gap = max(abs(ours[name] - naive[name]) for name in HEADLINE)
    lines = [
        f"# EXPRESS: scoring {ROWS:,} synthetic answers in the corpus' proportions\n",
        "| what | seconds |",
        "|---|---|",
        f"| all scores | {bare:.2f} |",
        f"| all scores with 1,000 bootstrap resamples | {whole:.2f} |",
        f"| the five scores alone, a table lookup per word (scaled from {NAIVE_ROWS} rows) | {per_row * ROWS:.0f} |",
        f"\nRatio {per_row * ROWS / bare:.0f} without intervals, {per_row * ROWS / whole:.0f} with;"
        f" largest difference of a score {gap:.1e}.",
    ]
    found = {"rows": ROWS, "scores_s": bare, "with_intervals_s": whole, "lookups_s": per_row * ROWS, "gap": gap}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    OUT.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
