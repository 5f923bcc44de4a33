"""Label words that share their first tokens, and what a whole pass per word says of them."""

import torch

WORDS = [" sad", " sadness", " sadly lost", " joy", " joyful streets", " a"]


@torch.no_grad()
def word_log_probs(model, prompt: str, edit=None, layer: int = 0, *, words=WORDS, normed=True) -> torch.Tensor:
    """log softmax, over the words, of each whole word's log-probability, a full pass per word; edited at one layer.

    `edit` sees the residuals of the prompt's tokens.
    """
    ids = model.encode([prompt])[0].ids
    scores = []
    for word in words:
        own = model.tokenizer(word, add_special_tokens=False)["input_ids"]
        whole = torch.tensor([ids + own])

        def on_prompt(x):
            x = x.clone()
            x[:, : len(ids)] = edit(x[:, : len(ids)])
            return x

        with model.edited({} if edit is None else {layer: on_prompt}):
            logits = model.hf(input_ids=whole, attention_mask=torch.ones_like(whole)).logits[0]
        log_probs = logits.float().log_softmax(-1)[len(ids) - 1 : -1]
        scores.append(log_probs.gather(1, torch.tensor(own)[:, None]).sum())
    found = torch.stack(scores)
    return found.log_softmax(-1) if normed else found
