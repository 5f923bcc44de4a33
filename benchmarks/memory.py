"""Peak memory of a run's capture and features stages: over corpus size, and with many large SAEs."""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import transformers as tf

from benchmarks.results import hardware, write
from benchmarks.worlds import SHAPE, number_tokenizer, random_saes
from interp.engine.capture import HIDDEN_AT_ONCE

SIZES = (1_000, 10_000, 100_000)
LABELS = ["10", "11", "12"]


def run() -> None:
    """Writes results/memory.md and .json. Every size runs in a process of its own."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        _world(Path(folder))
        for n in SIZES:
            command = [sys.executable, "-m", "benchmarks.memory", folder, str(n)]
            before, after = map(int, subprocess.check_output(command, text=True).split())
            found.append({"examples": n, "rss_loaded_mb": before / 1024, "rss_peak_mb": after / 1024})
    lines = [
        f"# Memory\n\n{hardware()}. Capture and features of a run on a random model (4 layers, d_model 256, SAEs of"
        " 2,048 features, 40-token prompts): peak resident memory of the process; the residuals on disk beside it.\n",
        "| examples | peak, MB | of which before the first stage, MB | residuals on disk, MB |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {r['examples']:,} | {r['rss_peak_mb']:.0f} | {r['rss_loaded_mb']:.0f}"
        f" | {r['examples'] * 4 * 256 * 4 / 2**20:.0f} |"
        for r in found
    ]
    large = _many_large_saes()
    lines += [
        "",
        f"24 layers, d_model 256, SAEs of 16,384 features ({large['all_saes_mb']:.0f} MB in all), 1,000 examples."
        " Allowed: what the process holds before the first stage, two SAEs, and a batch.\n",
        "| | MB |",
        "|---|---|",
        *(f"| {name.removesuffix('_mb').replace('_', ' ')} | {value:.0f} |" for name, value in large.items()),
    ]
    write("memory", {"corpus": found, "saes": large}, lines)


def _many_large_saes() -> dict[str, float]:
    layers, d_sae = 24, 16_384
    with tempfile.TemporaryDirectory() as folder:
        _world(Path(folder), layers, d_sae)
        command = [sys.executable, "-m", "benchmarks.memory", folder, "1000"]
        before, after = map(int, subprocess.check_output(command, text=True).split())
    sae = 2 * d_sae * 256 * 4 / 2**20
    batch = HIDDEN_AT_ONCE // 768 * (layers * 2 * 2 * 64 + 4 * 768 + 2 * 256) * 4 / 2**20
    return {
        "all_saes_mb": layers * sae,
        "one_sae_mb": sae,
        "before_the_first_stage_mb": before / 1024,
        "peak_mb": after / 1024,
        "allowed_mb": before / 1024 + 2 * sae + batch,
    }


def _world(folder: Path, layers: int = 4, d_sae: int = 2048) -> None:
    config = tf.LlamaConfig(vocab_size=2_000, num_hidden_layers=layers, **SHAPE)
    tf.AutoModelForCausalLM.from_config(config).save_pretrained(folder / "model")
    number_tokenizer(2_000).save_pretrained(folder / "model")
    saes = random_saes(layers, 256, d_sae)
    for layer in saes.layers:
        sae = saes[layer]
        sae.cfg.metadata.sae_lens_version = "6.54.12"
        sae.save_model(str(folder / f"saes/layer_{layer:02d}"))


def _child(folder: Path, n: int) -> None:
    from interp.files.folder import RunFolder
    from interp.run.config import Config, CorporaConfig, CorpusConfig, PromptConfig, SaesConfig
    from interp.run.session import Session
    from interp.run.stages import capture, features

    rows = [(" ".join(str(20 + (i * 31 + k * k) % 1900) for k in range(36)), LABELS[i % 3]) for i in range(n)]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(folder / f"{n}.csv", index=False)
    del rows
    whole = CorpusConfig("local", "all", str(folder / f"{n}.csv"))
    few = CorpusConfig("local", "all", str(folder / f"{n}.csv"), limit=3)
    config = Config(
        name=f"n{n}",
        model=str(folder / "model"),
        saes=SaesConfig(str(folder / "saes"), resident=2, force=True),
        labels=LABELS,
        corpora=CorporaConfig(whole, few, [few]),
        prompt=PromptConfig("{text} 5"),
        out=str(folder),
    )
    session = Session(config, RunFolder.open(folder / f"n{n}", f"n{n}"))
    assert len(session.examples) > n and session.saes.layers
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    capture.run(session)
    features.run(session)
    print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    _child(Path(sys.argv[1]), int(sys.argv[2]))
