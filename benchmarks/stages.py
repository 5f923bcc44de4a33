"""`python -m benchmarks.stages`: a whole run by stage on SmolLM2, of this code and, beside it, of an earlier commit.

An earlier commit is a git worktree of it: `git worktree add ../before COMMIT`, then `--tree before=../before`. Rows of
earlier measurements with the same settings are kept.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import yaml
from sae_lens import TopKSAE, TopKSAEConfig

from benchmarks.results import FOLDER, hardware, write
from interp.engine.capture import capture
from interp.models.language_model import LanguageModel
from interp.models.loading import load_model
from interp.texts.emotions import EKMAN
from interp.texts.examples import load_corpus
from interp.texts.prompts import build_prompts

MODEL = "smollm2-135m-instruct"
LAYERS = (3, 8, 13, 17, *range(20, 30))
D_SAE, K = 2048, 64
SAMPLE = 96
"""Texts whose residuals the directions of random SAEs are mixed from."""
MIXED = 6
"""Residuals in each direction."""
LIMITS = {"discover": 72, "fit": 60, "test": 60}
CANDIDATES = 16
TIMED_RUN = """
import json, sys, time
from dataclasses import replace
from interp.run import pipeline
from interp.run.config import load_config

taken = {}

def timed(stage):
    def run(session):
        start = time.process_time()
        stage.run(session)
        taken[stage.name] = round(time.process_time() - start, 2)
    return replace(stage, run=run)

pipeline.STAGES = tuple(map(timed, pipeline.STAGES))
pipeline.run(load_config(sys.argv[1]), say=lambda line: print(line, file=sys.stderr, flush=True))
json.dump(taken, open(sys.argv[2], "w"))
"""
"""What a run of any commit's code is started with: processor seconds by stage, beside the wall seconds it records."""
DOCUMENTS = 6
"""Documents of the bundled plain text on which perplexity is measured."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stages", description=__doc__)
    parser.add_argument("--tree", action="append", default=[], metavar="NAME=FOLDER", help="code to measure")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--saes", help="folder of trained SAEs; without it, random ones of the same shape")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    options = parser.parse_args()
    trees = dict(t.split("=", 1) for t in options.tree) or {"after": str(Path(__file__).parents[1])}
    kept = json.loads((FOLDER / "stages.json").read_text()) if (FOLDER / "stages.json").exists() else []
    with tempfile.TemporaryDirectory() as folder:
        saes = options.saes or str(random_saes(load_model(options.model), Path(folder) / "saes"))
        for name, tree in trees.items():
            for threads in options.threads:
                found = measure(name, Path(tree).resolve(), options.model, saes, threads, Path(folder))
                same = ("name", "threads")
                kept = [r for r in kept if any(r[k] != found[k] for k in same)] + [found]
                _report(kept)


def random_saes(model: LanguageModel, folder: Path) -> Path:
    """TopK SAEs whose directions are mixed from centred residuals, so that features tell texts apart.

    Decoder rows of unit norm, the encoder their transpose.
    """
    texts = [e.text for e in load_corpus("vignettes", split="discover", labels=EKMAN, limit=SAMPLE, seed=0)]
    residuals = capture(model, build_prompts(texts, EKMAN), answers=EKMAN).residuals
    generator = torch.Generator().manual_seed(0)
    for layer in LAYERS:
        centre = residuals[layer].mean(0)
        mixed = torch.stack([torch.randperm(len(texts), generator=generator)[:MIXED] for _ in range(D_SAE)])
        signs = torch.randn(D_SAE, MIXED, generator=generator)
        rows = torch.nn.functional.normalize(
            torch.einsum("fm,fmd->fd", signs, (residuals[layer] - centre)[mixed]), dim=-1
        )
        config = TopKSAEConfig(
            d_in=model.d_model, d_sae=D_SAE, k=K, dtype="float32", device="cpu", apply_b_dec_to_input=True
        )
        config.metadata.sae_lens_version = "6.54.12"
        sae = TopKSAE(config)
        with torch.no_grad():
            sae.W_dec.copy_(rows)
            sae.W_enc.copy_(rows.T)
            sae.b_dec.copy_(centre)
        sae.save_model(str(folder / f"layer_{layer:02d}"))
    return folder


def measure(name: str, tree: Path, model: str, saes: str, threads: int, folder: Path) -> dict[str, Any]:
    """One run of the code in `tree`, in a process of its own: seconds by stage, peak resident memory."""
    plain = folder / "plain.txt"
    text = (files("interp") / "data" / "plain_text.txt").read_text(encoding="utf-8")
    plain.write_text("<|endoftext|>".join(text.split("<|endoftext|>")[:DOCUMENTS]), encoding="utf-8")
    corpora: dict[str, Any] = {
        role: {"name": "vignettes", "split": role, "limit": limit} for role, limit in LIMITS.items()
    }
    config = {
        "name": f"{name}-{threads}",
        "model": model,
        "saes": {"name": saes, "force": True},
        "corpora": corpora | {"test": [corpora["test"]]},
        "tracing": {"candidates": CANDIDATES},
        "fluency": {"path": str(plain)},
        "out": str(folder / "runs"),
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    environment |= {k: str(threads) for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    command = [sys.executable, "-c", TIMED_RUN, str(folder / "config.yaml"), str(folder / "taken.json")]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=tree, env=environment, stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"the run of {name} failed")
    record = json.loads((folder / "runs" / config["name"] / "run.json").read_text())
    torch.set_num_threads(threads)
    return {
        "name": name,
        "threads": threads,
        "commit": record["git"].get("commit", "")[:7],
        "hardware": hardware(),
        "seconds": {k: v["seconds"] for k, v in record["stages"].items()},
        "processor_seconds": json.loads((folder / "taken.json").read_text()),
        "whole_run_seconds": round(seconds, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_memory_mb": round(usage.ru_maxrss / 1024),
    }


def _report(found: list[dict[str, Any]]) -> None:
    """Writes results/stages.md and .json: a column a run."""
    stages = list(dict.fromkeys(s for r in found for s in r["seconds"]))
    heads = [f"{r['name']} ({r['commit']}), {r['threads']} thread{'s' * (r['threads'] > 1)}" for r in found]
    whole = [("whole run with loading and report", "whole_run_seconds"), ("all its processor seconds", "cpu_seconds")]

    def both(run: dict[str, Any], stage: str) -> str:
        processor = run["processor_seconds"].get(stage)
        wall = f"{run['seconds'].get(stage, float('nan')):.1f}"
        return wall if processor is None else f"{wall} ({processor:.1f})"

    lines = [
        f"# A whole run by stage\n\n{found[-1]['hardware']}. SmolLM2-135M-Instruct in its chat template, SAEs of"
        f" {D_SAE:,} features at {len(LAYERS)} of 30 layers, {LIMITS['discover']} / {LIMITS['fit']} / {LIMITS['test']}"
        f" vignettes, {CANDIDATES} candidates, {DOCUMENTS} documents of plain text. Wall seconds, in brackets processor"
        " seconds: the machine was shared with other work, so that only the latter, and ratios, are to be trusted.\n",
        "| stage | " + " | ".join(heads) + " |",
        "|---" * (len(heads) + 1) + "|",
        *(f"| {s} | " + " | ".join(both(r, s) for r in found) + " |" for s in stages),
        *(f"| {title} | " + " | ".join(f"{r[key]:,.0f}" for r in found) + " |" for title, key in whole),
        "| peak memory, MB | " + " | ".join(f"{r['peak_memory_mb']:,}" for r in found) + " |",
    ]
    write("stages", found, lines)


if __name__ == "__main__":
    main()
