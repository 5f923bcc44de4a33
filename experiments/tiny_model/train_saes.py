"""Train one TopK SAE per layer of the bundled model with SAELens, on residuals of prompts and plain text.

python -m experiments.tiny_model.train_saes --data ../shared/data --out build/tiny_model

All positions but the first token of a text (its residual is a constant, far from all others); answer positions, which
are rare and matter most, count three times. A layer that is finished is skipped, so a stopped run goes on where it was.
"""

import argparse
import json
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from sae_lens import SAETrainer, TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.config import SAETrainerConfig
from tqdm import tqdm

from experiments.tiny_model import data as training_data
from interp import load_model
from interp.model import Encoded, LanguageModel

D_SAE, K = 2048, 32
PLAIN_TOKENS, PROMPT_TOKENS, ANSWER_REPEATS = 250_000, 100_000, 3
INPUT_NORM = 16.0


@torch.no_grad()
def residuals(model: LanguageModel, texts: Sequence[list[int]], *, last_only: bool, limit: int) -> torch.Tensor:
    """[layer, token, d_model] in half precision, of all positions but the first, or of the last position alone."""
    pool = torch.empty(model.n_layers, limit, model.d_model, dtype=torch.float16)
    filled = 0
    order = sorted(texts, key=len) if last_only else texts
    for start in tqdm(range(0, len(order), 32), desc="answers" if last_only else "texts", mininterval=10):
        tokens = model.pad([Encoded(ids, 0) for ids in order[start : start + 32]])
        wanted = tokens.mask & (tokens.positions > 0)
        if last_only:
            wanted[:, :-1] = False
        count = min(int(wanted.sum()), limit - filled)

        def keep(layer: int, wanted=wanted, at=filled, count=count):
            def edit(x: torch.Tensor) -> None:
                pool[layer, at : at + count] = x[wanted][:count].to(torch.float16)

            return edit

        with model.edited({layer: keep(layer) for layer in range(model.n_layers)}):
            model.run(tokens)
        filled += count
        if filled == limit:
            break
    return pool[:, :filled]


def build_pool(model: LanguageModel, data: Path) -> torch.Tensor:
    rng = random.Random(7)
    tokenizer = model.tokenizer
    plain = [s.ids for s in training_data.plain_segments(training_data.plain_documents(data), tokenizer)]
    prompts = training_data.gold_prompts(data) + training_data.story_prompts(data)
    asked = [tokenizer(f"Text: {p.text}\nEmotion:")["input_ids"][:512] for p in prompts]
    rng.shuffle(plain)
    rng.shuffle(asked)
    answers = residuals(model, asked, last_only=True, limit=len(asked))
    parts = [
        residuals(model, [ids[:256] for ids in plain], last_only=False, limit=PLAIN_TOKENS),
        residuals(model, asked, last_only=False, limit=PROMPT_TOKENS),
        *[answers] * ANSWER_REPEATS,
    ]
    print("tokens of plain text, prompts, answer positions:", [p.shape[1] for p in parts])
    return torch.cat(parts, dim=1)


def train_layer(layer: int, pool: torch.Tensor, folder: Path, steps: int, batch: int) -> None:
    """`pool` [token, d_model]. Residuals are centred and scaled for training, and the weights scaled back after."""
    torch.manual_seed(layer)
    mean = pool.float().mean(0)
    scale = INPUT_NORM / (pool.float() - mean).norm(dim=-1).mean()
    generator = torch.Generator().manual_seed(layer)

    def batches() -> Iterator[torch.Tensor]:
        while True:
            for index in torch.randperm(len(pool), generator=generator).split(batch):
                yield (pool[index].float() - mean) * scale

    d_model = pool.shape[1]
    sae = TopKTrainingSAE(
        TopKTrainingSAEConfig(
            d_in=d_model, d_sae=D_SAE, k=K, dtype="float32", device="cpu", normalize_activations="none"
        )
    )
    trainer = SAETrainer(
        SAETrainerConfig(
            total_training_samples=steps * batch,
            train_batch_size_samples=batch,
            lr=1e-3,
            lr_end=1e-4,
            lr_warm_up_steps=50,
            lr_decay_steps=steps // 2,
            dead_feature_window=200,
            device="cpu",
            autocast=True,
        ),
        sae,
        batches(),
    )
    trained = trainer.fit()
    with torch.no_grad():
        trained.fold_W_dec_norm()
        trained.cfg.rescale_acts_by_decoder_norm = False
        # The same function of the raw residual, in its units: relu(W (x - b)) scales with its input, so only the
        # biases change, and rows of W_dec keep length 1.
        trained.b_enc.div_(scale)
        if not trained.cfg.apply_b_dec_to_input:
            trained.b_enc.sub_(mean @ trained.W_enc)
        trained.b_dec.div_(scale).add_(mean)
    trained.cfg.metadata.model_name = "tiny"
    trained.cfg.metadata.hook_name = f"blocks.{layer}.hook_resid_post"
    trained.cfg.metadata.prepend_bos = True
    trained.cfg.metadata.sae_lens_training_version = None
    trained.to(torch.float16)
    trained.cfg.dtype = "float16"
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    trained.save_inference_model(part)
    part.rename(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("build/tiny_model"))
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=1024)
    options = parser.parse_args()
    torch.set_num_threads(2)
    model = load_model(str(options.out / "model_emotion"))
    folders = [options.out / "saes" / f"layer_{layer:02d}" for layer in range(model.n_layers)]
    if all(f.exists() for f in folders):
        print("all layers are there")
        return
    pool = build_pool(model, options.data)
    for layer, folder in enumerate(folders):
        if not folder.exists():
            train_layer(layer, pool[layer], folder, options.steps, options.batch)
            print(json.dumps({"layer": layer, "saved": str(folder)}))


if __name__ == "__main__":
    main()
