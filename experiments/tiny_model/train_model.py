"""Train the bundled language model in two stages; stops and resumes at checkpoints; logs a loss curve.

python -m experiments.tiny_model.train_model --data ../shared/data --out build/tiny_model

Stage `language`: plain English with some emotion prompts. Stage `emotion`: emotion prompts with some plain English.
Matrices are trained by Muon, embeddings and norms by AdamW; the forward runs in bfloat16, the weights stay float32.
"""

import argparse
import json
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from experiments.tiny_model import data as training_data
from experiments.tiny_model.data import ROW, Rows

ROWS_PER_STEP = 12


@dataclass(frozen=True)
class Stage:
    name: str
    steps: int
    plain_share: float
    matrix_lr: float
    other_lr: float
    warmup: int
    story_share: float
    """Share of the story prompts (noisy labels) used in an epoch."""


STAGES = (
    Stage("language", 2000, 0.72, 0.02, 3e-3, 60, 1.0),
    Stage("emotion", 800, 0.25, 0.008, 1e-3, 30, 0.25),
)


def new_model(tokenizer) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=768,
        max_position_embeddings=ROW,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config)


class RowStream:
    """Rows of one stage's mixture, packed anew each epoch; its position is a number, so that a run can resume."""

    def __init__(self, make_epoch, seed: int) -> None:
        self.make_epoch, self.seed = make_epoch, seed
        self.epoch, self.at = -1, 0
        self.rows: Rows | None = None

    def take(self, count: int, consumed: int) -> Rows:
        """Rows `consumed` to `consumed + count` of the endless stream of epochs."""
        while self.rows is None or self.at + len(self.rows.ids) < consumed + count:
            if self.rows is not None:
                self.at += len(self.rows.ids)
            self.epoch += 1
            self.rows = self.make_epoch(random.Random(1000 * self.seed + self.epoch))
        start = max(consumed - self.at, 0)
        r = self.rows
        return Rows(*(x[start : start + count] for x in (r.ids, r.weights, r.segment, r.position)))


def streams(stage: Stage, data: Path, tokenizer) -> tuple[RowStream, RowStream]:
    documents = list(training_data.plain_documents(data))
    plain = training_data.plain_segments(documents, tokenizer)
    gold, fine = training_data.gold_prompts(data), training_data.fine_prompts(data)
    story = training_data.story_prompts(data)
    print(
        f"{stage.name}: {len(plain)} pieces of plain text, {len(gold)} labelled, {len(fine)} fine, {len(story)} story"
    )

    def epoch_of_prompts(rng: random.Random) -> Rows:
        mix = gold + rng.sample(fine, len(fine) // 2) + rng.sample(story, int(len(story) * stage.story_share))
        return training_data.pack(training_data.prompt_segments(mix, tokenizer, rng), tokenizer.pad_token_id, rng)

    def epoch_of_plain(rng: random.Random) -> Rows:
        return training_data.pack(plain, tokenizer.pad_token_id, rng)

    seed = 1 + [s.name for s in STAGES].index(stage.name)
    return RowStream(epoch_of_plain, seed), RowStream(epoch_of_prompts, seed + 10)


def batch_loss(model, ids, weights, segment, position):
    """Weighted next-token loss of packed rows [row, token]; a token sees only earlier tokens of its own segment."""
    same = segment[:, None, :, None] == segment[:, None, None, :]
    causal = torch.ones(ROW, ROW, dtype=torch.bool).tril()
    hidden = model.model(
        input_ids=ids, attention_mask=same & causal, position_ids=position, use_cache=False
    ).last_hidden_state
    logits = (hidden[:, :-1] @ model.lm_head.weight.T).float()
    target = torch.where(segment[:, 1:] == segment[:, :-1], ids[:, 1:], -100)
    loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-100, reduction="none")
    weight = weights[:, 1:].flatten()
    return (loss * weight).sum() / weight.sum(), loss.detach(), weight


class MasterWeights:
    """float32 weights behind a bfloat16 model: gradients flow from the one to the other, values back."""

    def __init__(self, model, stage: Stage) -> None:
        self.low = list(model.parameters())
        self.high = [p.detach().float().clone().requires_grad_() for p in self.low]
        embedding = model.model.embed_tokens.weight
        matrices = [h for p, h in zip(self.low, self.high, strict=True) if p.ndim == 2 and p is not embedding]
        others = [h for h in self.high if all(h is not m for m in matrices)]
        self.optimisers = [
            torch.optim.Muon(matrices, lr=stage.matrix_lr, weight_decay=0.02, momentum=0.95, ns_steps=5),
            torch.optim.AdamW(others, lr=stage.other_lr, betas=(0.9, 0.95), weight_decay=0.01),
        ]
        self.rates = [stage.matrix_lr, stage.other_lr]

    def step(self, factor: float) -> None:
        for low, high in zip(self.low, self.high, strict=True):
            high.grad = low.grad.float()
            low.grad = None
        others = self.optimisers[1].param_groups[0]["params"]
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        for optimiser, rate in zip(self.optimisers, self.rates, strict=True):
            optimiser.param_groups[0]["lr"] = rate * factor
            optimiser.step()
        with torch.no_grad():
            for low, high in zip(self.low, self.high, strict=True):
                low.copy_(high)

    def state(self) -> dict:
        return {"high": [h.detach() for h in self.high], "optimisers": [o.state_dict() for o in self.optimisers]}

    def load(self, state: dict) -> None:
        with torch.no_grad():
            for low, high, saved in zip(self.low, self.high, state["high"], strict=True):
                high.copy_(saved)
                low.copy_(high)
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)


def train_stage(stage: Stage, model, tokenizer, options) -> None:
    checkpoint = options.out / f"{stage.name}.pt"
    master = MasterWeights(model, stage)
    plain, prompts = streams(stage, options.data, tokenizer)
    start = consumed_plain = consumed_prompts = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=False)
        master.load(saved["master"])
        start, consumed_plain, consumed_prompts = saved["step"], saved["plain"], saved["prompts"]
        print(f"{stage.name}: continuing after step {start}")
    compiled = torch.compile(batch_loss, dynamic=False) if options.compile else batch_loss
    curve = (options.out / "loss.jsonl").open("a")
    began, mean_plain, mean_label = time.time(), 0.0, 0.0
    bar = tqdm(range(start, stage.steps), desc=stage.name, initial=start, total=stage.steps, mininterval=20)
    for step in bar:
        # Whole rows of either kind in every step; the fraction is made up over steps.
        n_plain = round((step + 1) * ROWS_PER_STEP * stage.plain_share) - round(
            step * ROWS_PER_STEP * stage.plain_share
        )
        parts = [plain.take(n_plain, consumed_plain), prompts.take(ROWS_PER_STEP - n_plain, consumed_prompts)]
        consumed_plain, consumed_prompts = consumed_plain + n_plain, consumed_prompts + ROWS_PER_STEP - n_plain
        ids, weights, segment, position = (
            torch.cat([torch.from_numpy(getattr(p, name).astype(kind)) for p in parts])
            for name, kind in (("ids", "int64"), ("weights", "float32"), ("segment", "int64"), ("position", "int64"))
        )
        loss, token_loss, weight = compiled(model, ids, weights, segment, position)
        loss.backward()
        warm = min(1.0, (step + 1) / stage.warmup)
        cosine = 0.5 * (1 + math.cos(math.pi * step / stage.steps))
        master.step(warm * (0.02 + 0.98 * cosine))
        decay = 0.98 if step > start else 0.0
        label = weight > 1.5
        mean_label = decay * mean_label + (1 - decay) * token_loss[label].mean().item()
        mean_plain = decay * mean_plain + (1 - decay) * token_loss[weight == 1.0].mean().item()
        if step % 20 == 19:
            record = {"stage": stage.name, "step": step + 1, "text": mean_plain, "label": mean_label}
            record["seconds"] = round(time.time() - began, 1)
            curve.write(json.dumps(record) + "\n")
            curve.flush()
            bar.set_postfix(text=f"{mean_plain:.3f}", label=f"{mean_label:.3f}")
        if step % 200 == 199 or step + 1 == stage.steps:
            saved = {"master": master.state(), "step": step + 1, "plain": consumed_plain, "prompts": consumed_prompts}
            torch.save(saved, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").rename(checkpoint)
        if options.stop_after and step + 1 >= options.stop_after:
            break


def save(model, tokenizer, folder: Path) -> None:
    """Half-precision Hugging Face folder."""
    half = LlamaForCausalLM(model.config)
    half.load_state_dict(model.state_dict())
    half.to(torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("build/tiny_model"))
    parser.add_argument("--stop-after", type=int, help="stop every stage after this many steps (for trials)")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    options = parser.parse_args()
    torch.set_num_threads(2)
    tokenizer = AutoTokenizer.from_pretrained(options.out / "tokenizer")
    model = new_model(tokenizer).to(torch.bfloat16)
    for stage in STAGES:
        torch.manual_seed(1)
        train_stage(stage, model, tokenizer, options)
        save(model, tokenizer, options.out / f"model_{stage.name}")
    print(f"saved {options.out / 'model_emotion'}")


if __name__ == "__main__":
    main()
