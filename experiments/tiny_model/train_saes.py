"""Train one TopK SAE per layer of the bundled model, on prompts and plain text, from one pass over them.

python -m experiments.tiny_model.train_saes --data ../shared/data --out build/tiny_model

A run that was stopped goes on where it was.
"""

import argparse
import json
from pathlib import Path

from experiments.tiny_model import data as training_data
from interp.files.folder import writing
from interp.run.config import CorpusConfig
from interp.training.config import HeldOutConfig, PlainConfig, PromptsConfig, TextConfig, TrainingConfig
from interp.training.running import train_saes

D_SAE, K = 2048, 32


def config(data: Path, out: Path, *, tokens: int) -> TrainingConfig:
    """All layers, five positions of plain text to two of prompts; the first token of a text is a constant, left out."""
    prompts = training_data.gold_prompts(data) + training_data.story_prompts(data)
    table = out / "prompts.jsonl"
    with writing(table) as part:
        lines = (json.dumps({"text": p.text, "label": p.label}) + "\n" for p in prompts)
        part.write_text("".join(lines), encoding="utf-8")
    plain = [
        PlainConfig(str(data / "pretrain" / f"{name}.txt.gz"), share=0.25 * share, weight=share)
        for name, share in training_data.PLAIN.items()
    ]
    return TrainingConfig(
        model=str(out / "model_emotion"),
        d_sae=D_SAE,
        k=K,
        tokens=tokens,
        labels=sorted({p.label for p in prompts}),
        text=TextConfig(plain=plain, prompts=[PromptsConfig("local", "all", str(table))], answer_repeats=3),
        held_out=HeldOutConfig(prompts=[CorpusConfig("vignettes", "test")]),
        out=str(out / "saes"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("build/tiny_model"))
    parser.add_argument("--tokens", type=int, default=3_000_000)
    options = parser.parse_args()
    found = train_saes(config(options.data, options.out, tokens=options.tokens))
    print((found.folder / "card.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
