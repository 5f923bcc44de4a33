"""`python -m benchmarks.reliability`: 3,465 prompts on the bundled model, with and without shared prefixes."""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from interp import LanguageModel, load_corpus, load_model
from interp.engine.prefixes import grow
from interp.surveys.reliability.answering import answer
from interp.surveys.reliability.collecting import AT_ONCE
from interp.surveys.reliability.running import emotions, questions
from interp.surveys.reliability.variations import VariedPrompt, resolve_personas

PROMPTS = 3465
RELEASED = Path(__file__).parents[2] / "shared" / "data" / "model-personas" / "all_truefalse_short_changeline.json"
RESULTS = Path(__file__).parent / "results" / "reliability"
REPEATS = 3


def released_or_repeated() -> tuple[str, list[VariedPrompt]]:
    """Model-Personas' prompts where they are; else the bundled questionnaire under every persona, repeated."""
    if RELEASED.exists():
        return "Model-Personas", list(questions(RELEASED).asked)
    own = list(questions(None, personas=resolve_personas(["all"])).asked)
    return "bundled questionnaire, repeated", (own * (PROMPTS // len(own) + 1))[:PROMPTS]


def worlds() -> dict[str, list[VariedPrompt]]:
    name, first = released_or_repeated()
    own = list(questions(None, personas=resolve_personas(["all"])).asked)
    vignettes = list(emotions("vignettes", load_corpus("vignettes", split="test", limit=60)).asked)
    return {name: first, "bundled questionnaire, all variations": own, "vignettes, all label orders": vignettes}


def work(model: LanguageModel, asked: Sequence[VariedPrompt], *, share_prefixes: bool) -> tuple[float, float]:
    """Wall and processor seconds for all prompts, in the batches of a run."""
    order = sorted(asked, key=lambda a: str(a.prompt))
    wall, processor = time.perf_counter(), time.process_time()
    for start in range(0, len(order), AT_ONCE):
        answer(model, order[start : start + AT_ONCE], share_prefixes=share_prefixes)
    return time.perf_counter() - wall, time.process_time() - processor


def tokens(model: LanguageModel, asked: Sequence[VariedPrompt]) -> tuple[int, int]:
    """Prompt tokens, and those left once shared prefixes count once, in the batches of a run."""
    order = sorted(asked, key=lambda a: str(a.prompt))
    ids = [e.ids for e in model.encode([a.prompt for a in order])]
    chunks = [ids[start : start + AT_ONCE] for start in range(0, len(ids), AT_ONCE)]
    return sum(map(len, ids)), sum(len(b.tokens) for chunk in chunks for b in grow(chunk))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load_model("tiny")
    found = {}
    lines = [
        f"# Reliability: prefix caching on the bundled model, {options.threads} threads\n",
        f"Fastest of {options.repeats}, taken in turns; processor seconds are of all threads together.\n",
        "| prompts | n | tokens | tokens computed | shared, s | unshared, s | ratio | ratio, processor s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, asked in worlds().items():
        work(model, asked[:AT_ONCE], share_prefixes=True)
        turns = [
            (work(model, asked, share_prefixes=True), work(model, asked, share_prefixes=False))
            for _ in range(options.repeats)
        ]
        shared, unshared = (tuple(min(t[way][clock] for t in turns) for clock in (0, 1)) for way in (0, 1))
        total, computed = tokens(model, asked)
        found[name] = {
            "n": len(asked),
            "tokens": total,
            "computed": computed,
            "shared_s": shared[0],
            "unshared_s": unshared[0],
            "ratio": unshared[0] / shared[0],
            "processor_ratio": unshared[1] / shared[1],
        }
        lines.append(
            f"| {name} | {len(asked)} | {total} | {computed} | {shared[0]:.1f} | {unshared[0]:.1f} |"
            f" {unshared[0] / shared[0]:.2f} | {unshared[1] / shared[1]:.2f} |"
        )
        print(lines[-1], flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    options.out.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
