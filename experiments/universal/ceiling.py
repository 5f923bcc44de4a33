"""How many features of runs are found again in each other, of runs that need not be traced (`interp trees` is enough).

python experiments/universal/ceiling.py runs/gemma runs/gemma-seed-1 runs/smollm2
"""

import sys
from itertools import permutations
from pathlib import Path

import numpy as np

from interp.analysis.rules import Q_LEVEL
from interp.run.alike import match_runs
from interp.run.reading import RunFiles

STRONG = 0.5
"""Correlation on held-out texts from which two features are nearly the same."""


def main(folders: list[Path]) -> None:
    columns = "features of | in | which is | texts | features | correlation | permuted | held out | within emotions"
    print(f"| {columns} | q < 0.05 | universal | held out >= {STRONG} |\n|{'---|' * 12}")
    for one, other in permutations(folders, 2):
        found = match_runs(RunFiles(one), RunFiles(other))
        table = found.features
        numbers = [*table[["correlation", "floor", "held_out", "within"]].mean()]
        numbers += [(table["q"] < Q_LEVEL).mean(), table["universal"].mean(), (table["held_out"] >= STRONG).mean()]
        cells = [_name(one), _name(other), found.kind, str(found.n), f"{len(table):,}", *(f"{x:.2f}" for x in numbers)]
        print(f"| {' | '.join(cells)} |", flush=True)
        by_layer = table.groupby("layer")["held_out"].mean()
        layers = ", ".join(f"{layer}: {value:.2f}" for layer, value in by_layer.items())
        best = found.layers.loc[found.layers.groupby("layer")["cka"].idxmax()]
        cka = ", ".join(f"{r.layer} - {r.layer_beside}: {r.cka:.2f}" for r in best.itertuples())
        print(f"{_name(one)} in {_name(other)}: held out by layer {layers}; CKA {cka}", file=sys.stderr, flush=True)
        assert np.isfinite(numbers).all()


def _name(folder: Path) -> str:
    return "/".join(folder.resolve().parts[-2:])


if __name__ == "__main__":
    main([Path(word) for word in sys.argv[1:]])
