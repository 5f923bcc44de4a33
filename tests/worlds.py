"""Worlds of whole runs: a small model, SAEs, a corpus and a config as a user would have them, and runs in them."""

import hashlib
import json
import subprocess
from pathlib import Path

import commands_here
import numpy as np
import pandas as pd
import transformers as tf
import yaml
from tiny_models import WORDS, build_model, save_stack

from interp.run import pipeline
from interp.run.config import load_config

LABELS = ["anger", "fear", "joy"]


def write_world(folder: Path, tokenizer: tf.PreTrainedTokenizerFast) -> Path:
    """A model folder, an SAE folder, a corpus and `small.yaml`, written into `folder`."""
    model = build_model("llama", tokenizer)
    model.hf.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    save_stack(folder / "saes")
    rng = np.random.default_rng(0)
    words = WORDS.split()
    rows = [
        {"words": " ".join(rng.choice(words, rng.integers(3, 12))), "feeling": LABELS[i % 3], "split": part}
        for part, n in (("discover", 45), ("fit", 24), ("test", 30))
        for i in range(n)
    ]
    pd.DataFrame(rows).to_csv(folder / "corpus.csv", index=False)
    (folder / "plain.txt").write_text("The dog ran down the street.\n<|endoftext|>\nA letter came in the morning.\n")
    source = {"name": "local", "path": str(folder / "corpus.csv"), "text_column": "words", "label_column": "feeling"}
    config = {
        "name": "small",
        "model": str(folder / "model"),
        "saes": {"name": str(folder / "saes"), "force": True},
        "labels": LABELS,
        "corpora": {
            "discover": {**source, "split": "discover"},
            "fit": {**source, "split": "fit"},
            "test": [{**source, "split": "test"}],
        },
        "tracing": {"candidates": 4},
        "fluency": {"path": str(folder / "plain.txt")},
        "resamples": 100,
        "out": str(folder / "runs"),
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(config))
    return folder


def start(world: Path, out: Path, **overrides: str) -> pipeline.Outcome:
    """Runs the world's config, or goes on with the run that lies in `out`."""
    return pipeline.run(load_config(world / "small.yaml", {"out": str(out), **overrides}))


def contents(folder: Path) -> dict[str, str]:
    """Hash of every file's bytes; of run.json, without its timings."""
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            data = file.read_bytes()
            if file.name == "run.json":
                record = json.loads(data)
                record["config"].pop("out")
                record["stages"] = {k: v["fingerprint"] for k, v in record["stages"].items()}
                data = json.dumps(record).encode()
            found[str(file.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    return found


def shell(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return commands_here.run(words, cwd, environment)
