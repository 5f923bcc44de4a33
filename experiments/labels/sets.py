"""Scores of answers to texts with several emotions, from the files of runs: as they are, and beside what guesses get.

    python experiments/labels/sets.py runs/smollm2-goemotions runs/gemma-goemotions

Less the prior: log-probabilities less their means over the fit texts, whose labels are not used. Constant: every text
gets the same ranking, that of the labels' frequency among these very texts, so no constant one can do better at the
first place. Permuted: the answers of another text.
"""

import sys
from pathlib import Path

import numpy as np

from interp.evaluation.references import without_prior
from interp.evaluation.several import gold_sets, set_scores
from interp.run.reading import RunFiles
from interp.statistics import Bootstrap


def main(folders: list[Path]) -> None:
    print("| run | answers | hit | ranking precision | micro-F1 | macro-F1 |\n|---|---|---|---|---|---|")
    for folder in folders:
        run = RunFiles(folder)
        table = run.table("examples")
        assert table is not None
        logp = table[[f"logp_{label}" for label in run.labels]].to_numpy(float)
        scored = table["role"].isin(["test", "several"]).to_numpy()
        gold = gold_sets(table["gold"][scored].tolist(), run.labels)
        bootstrap = Bootstrap(table["group"][scored].tolist(), seed=0)
        plain = logp[scored]
        answers = {
            "as they are": plain,
            "less the prior": without_prior(plain, logp[(table["role"] == "fit").to_numpy()]),
            "constant": np.tile(gold.mean(0), (len(gold), 1)),
            "permuted": plain[np.random.default_rng(0).permutation(len(plain))],
        }
        for name, values in answers.items():
            cells = [
                f"{e.value:.3f} [{e.ci_low:.3f}, {e.ci_high:.3f}]" for e in set_scores(gold, values, bootstrap).values()
            ]
            print(f"| {folder.name} | {name} | {' | '.join(cells)} |")
        counts = gold.sum(1)
        print(f"{folder.name}: n = {len(gold)}, {int((counts > 1).sum())} with several emotions", file=sys.stderr)


if __name__ == "__main__":
    main([Path(word) for word in sys.argv[1:]])
