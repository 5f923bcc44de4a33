"""Train the bundled model's tokenizer: byte-level BPE of 6,144 tokens on the training texts.

python -m experiments.tiny_model.train_tokenizer --data ../shared/data --out build/tiny_model
"""

import argparse
import random
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from experiments.tiny_model.data import gold_prompts, plain_documents
from interp.texts.emotions import EKMAN

VOCABULARY = 6144


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("build/tiny_model"))
    options = parser.parse_args()
    documents = list(plain_documents(options.data))
    prompts = gold_prompts(options.data)
    texts = random.Random(0).sample(documents, len(documents) // 3)
    texts += [f"Text: {p.text}\nEmotion: {p.label}" for p in prompts for _ in range(2)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=["<|endoftext|>", "<|pad|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|pad|>",
        padding_side="left",
        model_max_length=512,
    )
    for label in (*EKMAN, "neutral", "guilt", "shame"):
        pieces = fast(f" {label}", add_special_tokens=False)["input_ids"]
        print(f"{label}: {len(pieces)} token(s)")
    fast.save_pretrained(options.out / "tokenizer")
    sample = texts[0][:20_000]
    print(f"{len(sample) / len(fast(sample)['input_ids']):.2f} characters per token on plain text")


if __name__ == "__main__":
    main()
