"""Where a steering acts does not depend on how a text is cut into passes: against positions written out."""

from itertools import combinations

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache

from interp import UserError, capture
from interp.models.caching import cache_name
from interp.steering import Steering
from interp.steering.export import export, loaded
from interp.steering.generating import stream
from interp.steering.positions import WHERE

LAYER, NEW = 1, 6
FAMILIES = ["llama", "gpt2", "gemma3"]
PUSH = 6 * torch.randn(32, generator=torch.Generator().manual_seed(3))
WAYS = {
    "cached": {},
    "uncached": {"use_cache": False},
    "prompt lookup": {"prompt_lookup_num_tokens": 3},
    "chunks of four": {"prefill_chunk_size": 4},
    "chunks that leave one token": {"prefill_chunk_size": 5},
}
PROMPTS = {"eleven tokens": [7, 90, 33, 7, 90, 41, 200, 7, 90, 33, 12], "one token": [33]}


def push(positions: str) -> Steering:
    return Steering("push", vectors={LAYER: PUSH}, positions=positions)


def steered_columns(positions: str, width: int, length: int) -> slice:
    """The positions written out, of a prompt of `width` tokens and all that follows."""
    return {"answer": slice(width - 1, width), "generated": slice(width - 1, length), "all": slice(0, length)}[
        positions
    ]


@torch.no_grad()
def written_out(model, prompt: list[int], positions: str, new: int = NEW) -> list[int]:
    """Greedy tokens, the whole text passed anew for each, no cache."""
    ids = list(prompt)
    for _ in range(new):
        where = steered_columns(positions, len(prompt), len(ids))

        def add(x, where=where):
            x = x.clone()
            x[:, where] += PUSH
            return x

        handle = model.blocks[LAYER].register_forward_hook(
            lambda m, i, out, add=add: (add(out[0]), *out[1:]) if isinstance(out, tuple) else add(out)
        )
        ids.append(int(model.hf(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        handle.remove()
    return ids


def generated(hf, prompt: list[int], **options) -> list[int]:
    ids = torch.tensor([prompt])
    return hf.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=NEW,
        min_new_tokens=NEW,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=1,
        **options,
    )[0].tolist()


def ways(prompt: list[int]) -> dict[str, dict]:
    return WAYS if len(prompt) > 1 else {k: v for k, v in WAYS.items() if "chunk" not in k}


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("positions", WHERE)
def test_generation_is_steered_by_position_whatever_is_cached(models_by_family, prompt, positions):
    for model in (models_by_family[family] for family in FAMILIES):
        expected = written_out(model, prompt, positions)
        for way, options in ways(prompt).items():
            with push(positions).applied(model):
                assert generated(model.hf, prompt, **options) == expected, (model.name, way)
        assert model.placing.width == "unsaid"
        assert "generate" not in model.hf.__dict__


def test_the_three_positions_differ(models_by_family):
    """Or the tests above could not fail."""
    prompt = PROMPTS["eleven tokens"]
    texts = [{where: written_out(models_by_family[family], prompt, where) for where in WHERE} for family in FAMILIES]
    for one, other in combinations(WHERE, 2):
        assert any(text[one] != text[other] for text in texts), (one, other)


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("positions", WHERE)
def test_the_loader_that_travels_does_the_same(llama, stack, tmp_path, prompt, positions):
    export(push(positions), llama, stack, "hf", tmp_path)
    llama.hf.save_pretrained(tmp_path / "model")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    portable = loaded(tmp_path)
    expected = written_out(llama, prompt, positions)
    for way, options in ways(prompt).items():
        with portable.steered(plain):
            assert generated(plain, prompt, **options) == expected, way
    assert "generate" not in plain.__dict__
    if positions != "all":
        with portable.steered(plain), pytest.raises(ValueError, match="where the prompt ends"):
            in_chunks(plain, prompt * 3)
    with portable.steered(plain, prompt=3 * len(prompt)):
        theirs = in_chunks(plain, prompt * 3)
    assert theirs == written_out(llama, prompt * 3, positions, 1)[-1]


def in_chunks(hf, prompt: list[int]) -> int:
    """The likeliest next token, the prompt passed in two parts by hand."""
    cache = DynamicCache()
    with torch.no_grad():
        hf(torch.tensor([prompt[:-1]]), use_cache=True, **{cache_name(hf): cache})
        return int(hf(torch.tensor([prompt[-1:]]), use_cache=True, **{cache_name(hf): cache}).logits[0, -1].argmax())


@pytest.mark.parametrize("positions", ["answer", "generated"])
def test_a_pass_that_cannot_be_placed_is_refused(llama, positions):
    prompt = PROMPTS["eleven tokens"]
    with push(positions).applied(llama):
        with pytest.raises(UserError, match=r"Where the prompt ends is not known.*model\.prompted") as caught:
            in_chunks(llama.hf, prompt)
        assert "\n" not in str(caught.value)
        with llama.prompted(len(prompt)):
            assert in_chunks(llama.hf, prompt) == written_out(llama, prompt, positions, 1)[-1]


@pytest.mark.parametrize("positions", WHERE)
def test_streamed_text_and_padded_batches(llama, positions):
    prompt = "The dog ran down the street"
    ids = llama.encode([prompt])[0].ids
    text = list(stream(llama, prompt, push(positions), tokens=NEW))[-1]
    expected = written_out(llama, ids, positions)[len(ids) :]
    ends = [k for k, token in enumerate(expected) if token in llama.end_ids]
    assert text == llama.tokenizer.decode(expected[: ends[0] if ends else NEW])
    tokens = llama.pad(llama.encode([prompt, "Rain in the evening, and a letter for the cat."]))
    with push(positions).applied(llama), torch.no_grad():
        batch = llama.hf.generate(
            tokens.ids, attention_mask=tokens.mask.long(), max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False,
            eos_token_id=None, pad_token_id=1, use_cache=False,
        )  # fmt: skip
    assert batch[0, tokens.ids.shape[1] :].tolist() == expected


def test_whole_words_are_scored_under_a_steering_of_their_prompt(llama, stack):
    """The continuations of the words come behind a cache; the answer position is still the prompt's last token."""
    words = [" sad", " sadness", " sadly lost", " joy"]
    prompt = "Text: The dog ran.\nEmotion:"
    ids = llama.encode([prompt])[0].ids
    scores = []
    for word in words:
        own = llama.tokenizer(word, add_special_tokens=False)["input_ids"]

        def add(x):
            x = x.clone()
            x[:, len(ids) - 1] += PUSH
            return x

        with llama.edited({LAYER: add}), torch.no_grad():
            log_probs = llama.hf(torch.tensor([ids + own])).logits[0].float().log_softmax(-1)[len(ids) - 1 : -1]
        scores.append(log_probs.gather(1, torch.tensor(own)[:, None]).sum())
    with push("answer").applied(llama):
        found = capture(llama, [prompt], answers=words).answer_log_probabilities[0]
    torch.testing.assert_close(found, torch.stack(scores).log_softmax(-1), atol=1e-4, rtol=0)
