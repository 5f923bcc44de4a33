"""`python -m benchmarks scaling`: the cost model beside measured unit costs, and what it says of large runs.

Written into results/scaling.md; `docs/pages/scaling.md` takes its tables from there.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.results import hardware, write
from benchmarks.timing import peak_flops
from interp.engine.capture import capture
from interp.engine.kept import KeptBatch
from interp.files.folder import RunFolder
from interp.run import scaling
from interp.run.checking import measure
from interp.run.config import made_config
from interp.run.scaling import GEMMA_2_2B, GEMMA_2_9B, Shape, Work
from interp.run.session import Session

MODELS = ("tiny", "smollm2-135m-instruct")
SAMPLE = 16
GPU = ("H100 (SXM)", 989e12, 80e9)
"""Name, dense bfloat16 operations a second and bytes, by its data sheet; nothing here was measured on it."""
SHARES = (0.1, 0.3)
"""Of the data sheet's operations that a plan counts on, cautious and fair."""
LABELS, CANDIDATES, KEPT, ACTIVE = 6, 64, 8, 70.0
PLANS: dict[str, tuple[Shape, Work, int]] = {
    "gemma-2-2b, one run of the first paper": (GEMMA_2_2B, Work(6_000, 700_000, 80), 1),
    "gemma-2-9b with 42 SAEs, one run": (GEMMA_2_9B, Work(6_000, 700_000, 80), 8),
    "gemma-2-9b with 42 SAEs, a stream of 10 million texts": (GEMMA_2_9B, Work(10_000_000, 0, 80), 8),
}
"""Shape, work and GPUs. Edits are assumed: 1,800 discover texts, 64 candidates and controls in three phases, a quarter
active (`traced_rows`: 173,000), and about four times that in all stages together."""


def measured(name: str, peak: float) -> list[dict[str, Any]]:
    """A row per unit: predicted, measured, and their ratio."""
    config = made_config(
        {"model": name, "saes": name},
        "benchmark",
        {"corpora.discover": {"name": "vignettes", "split": "discover", "limit": "60"}},
    )
    with TemporaryDirectory() as folder:
        session = Session(config, RunFolder(Path(folder)))
        found = measure(session)
        model, saes = session.model, session.saes
        shape = scaling.shape_of(model.backbone.config, d_sae=saes.d_sae(saes.layers[0]), saes=len(saes.layers))
        texts = [e.text for role, e in session.examples if role == "discover"][:SAMPLE]
        captured = capture(model, session.prompts(texts), answers=session.labels, keep_cache=True)
        kept = sum(x.nbytes for cache in captured.caches for x in (*cache.keys.values(), *cache.values.values()))
        padded = sum(cache.mask.numel() for cache in captured.caches)
        parameters = sum(p.numel() for p in {id(p): p for p in model.hf.parameters()}.values())
        assert KeptBatch.of(captured, None).n_bytes >= kept
    tokens = found.tokens
    predicted = {
        "prompt captured, s": (scaling.capture_flops(shape, tokens) / peak, found.speeds.per_prompt),
        "edit, lowest layer with an SAE, s": (
            scaling.row_flops(shape, tokens, shape.n_layers - saes.layers[0] - 1) / peak,
            found.speeds.per_row,
        ),
        "text encoded in a layer, s": (scaling.encode_flops(shape) / peak, found.speeds.per_encode),
        "weights, number": (float(shape.weights), float(parameters)),
        "keys and values a token, bytes": (
            scaling.kept_bytes(shape, 1, 4) - scaling.residual_bytes(shape, 4),
            kept / padded,
        ),
    }
    return [
        {"model": name, "unit": unit, "predicted": float(p), "measured": float(m), "ratio": float(m / p)}
        for unit, (p, m) in predicted.items()
    ]


def planned() -> list[dict[str, Any]]:
    """A row per plan, from the cost model alone."""
    rows = []
    for name, (shape, work, gpus) in PLANS.items():
        operations = scaling.flops(shape, work)
        whole = sum(operations.values())
        stream = work.rows == 0
        rows.append(
            {
                "plan": name,
                "gpus": gpus,
                "texts": work.texts,
                "edits": work.rows,
                **{f"{kind} PFLOP": value / 1e15 for kind, value in operations.items()},
                "weights GB": scaling.weight_bytes(shape, 2) / 1e9,
                "SAEs GB": shape.saes * scaling.sae_bytes(shape) / 1e9,
                "kept GB": 0.0 if stream else work.texts * scaling.kept_bytes(shape, work.tokens, 2) / 1e9,
                "disk GB": (
                    scaling.tally_bytes(shape, LABELS, KEPT)
                    if stream
                    else work.texts * (scaling.residual_bytes(shape, 2) + scaling.feature_bytes(shape, ACTIVE))
                )
                / 1e9,
                "hours": [whole / (gpus * GPU[1] * share) / 3600 for share in SHARES],
            }
        )
    return rows


def run() -> None:
    """Writes results/scaling.md and scaling.json."""
    peak = peak_flops()
    units = [row for name in MODELS for row in measured(name, peak)]
    found = {"hardware": hardware(), "peak_gflops": peak / 1e9, "units": units, "plans": planned()}
    write("scaling", found, render(found))


def render(found: dict[str, Any]) -> list[str]:
    """The Markdown of what was found."""
    return [
        f"{found['hardware']}; matrix products of 1,024 by 1,024 reach {found['peak_gflops']:.0f} GFLOP/s, by which"
        " predicted seconds are computed.\n",
        "| model | unit | predicted | measured | measured / predicted |",
        "|---|---|---|---|---|",
        *(
            f"| {r['model']} | {r['unit']} | {r['predicted']:,.3g} | {r['measured']:,.3g} | {r['ratio']:.2f} |"
            for r in found["units"]
        ),
        "",
        f"Computed, not measured; hours at {SHARES[0]:.0%} and at {SHARES[1]:.0%} of what the data sheet of an {GPU[0]}"
        f" says ({GPU[1] / 1e12:.0f} TFLOP/s in bfloat16), without loading, statistics and reports. Prompts of"
        " 80 tokens and the numbers of edits are assumed.\n",
        "| plan | GPUs | texts | edits | capture, PFLOP | encode, PFLOP | edits, PFLOP | weights, GB | SAEs, GB |"
        " kept for later stages, GB | on disk, GB | hours |",
        "|---" * 12 + "|",
        *(
            f"| {r['plan']} | {r['gpus']} | {r['texts']:,} | {r['edits']:,} | {r['capture PFLOP']:,.1f} |"
            f" {r['encode PFLOP']:,.1f} | {r['edits PFLOP']:,.1f} | {r['weights GB']:.1f} | {r['SAEs GB']:.1f} |"
            f" {r['kept GB']:,.0f} | {r['disk GB']:,.1f} | {r['hours'][0]:.2g} to {r['hours'][1]:.2g} |"
            for r in found["plans"]
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    run()


if __name__ == "__main__":
    main()
