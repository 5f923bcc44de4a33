"""Steers a model without the package that fitted the steering: only torch and safetensors are needed.

import portable                                        # this file, beside steering_portable.safetensors
with portable.steered(model): ...                      # a transformers model; batches left-padded
with bridge.hooks(fwd_hooks=portable.hooks()): ...     # TransformerLens: a bridge or a HookedTransformer
"""

import contextlib
from pathlib import Path

import torch
from safetensors import safe_open


def edits(folder=Path(__file__).parent):
    """({layer: function of the residual [*, d_model]}, facts: where it acts, and the name of the list of blocks)."""
    with safe_open(Path(folder) / "steering_portable.safetensors", "pt") as file:
        t, facts = {k: file.get_tensor(k) for k in file.keys()}, file.metadata()  # noqa: SIM118

    def edit(layer):
        own = {k.split(".", 1)[1]: v for k, v in t.items() if k.split(".")[0] == str(layer)}

        def steer(x):
            w = {k: v.to(x.device) for k, v in own.items()}
            change, z = w["vector"], x.float()
            if "encoder" in w:
                acts = ((z - w["centre"]) @ w["encoder"] + w["bias"]) * w["scale"]
                if "k" in w:
                    least = acts.topk(int(w["k"]), dim=-1).values[..., -1:]
                    acts = torch.where(acts >= least, acts, 0)
                acts = torch.where(acts > w["threshold"], acts, 0)
                change = change + acts @ w["change"]
                if "read" in w:
                    change = change + (acts @ w["read"] + w["read_bias"]).clamp(-w["limit"], w["limit"]) @ w["say"]
                if "gate" in w:
                    change = change * torch.sigmoid(acts @ w["gate"] + w["gate_bias"])[..., None]
            return x + change.to(x.dtype)

        return steer

    return {layer: edit(layer) for layer in sorted({int(k.split(".")[0]) for k in t})}, facts


def placed(edit, where, span):
    """The edit where it acts, for passes whose `span()` is (first column, column behind the last, prompt's width)."""
    if where == "all":
        return edit

    def steer(x):
        start, stop, prompt = span()
        if prompt is None:
            raise ValueError("a pass behind cached tokens outside generate(): where the prompt ends is not known;"
                             " use generate(), or steered(model, prompt=width)")  # fmt: skip
        begin = min(max(prompt - 1 - start, 0), stop - start)
        end = stop - start if where == "generated" else min(begin + 1, prompt - start, stop - start)
        return x if begin >= end else torch.cat([x[:, :begin], edit(x[:, begin:end]), x[:, end:]], 1)

    return steer


def hooks(folder=Path(__file__).parent, prompt=None):
    """(name, function) pairs for TransformerLens.

    Its hooks do not see what is cached. A steering at the answer position takes every pass for a prompt, unless
    `prompt` says how many tokens the prompt has: then the whole text must be passed each time (no cache).
    """
    steer, facts = edits(folder)
    at_answer = facts["positions"] != "all"

    def hook(edit):
        def run(x, hook):
            if at_answer and x.shape[1] == 1 and prompt != 1:
                raise ValueError("a pass of one token may be a prompt or a generated one: give prompt=1 for the first;"
                                 " generate with use_past_kv_cache=False and hooks(prompt=n_tokens)")  # fmt: skip
            return placed(edit, facts["positions"], lambda: (0, x.shape[1], prompt or x.shape[1]))(x)

        return run

    return [(f"blocks.{layer}.hook_resid_post", hook(edit)) for layer, edit in steer.items()]


@contextlib.contextmanager
def steered(model, folder=Path(__file__).parent, prompt=None):
    """Every forward and `generate` of a transformers model inside is steered, by position, whatever is cached.

    A forward without cached keys is a prompt; `prompt` is its width where one's own passes go on behind a cache.
    """
    steer, facts = edits(folder)
    blocks = model.get_submodule(facts["blocks"])
    at = {"width": prompt, "span": None}

    def note(module, args, options):
        given = options.get("inputs_embeds")
        if given is None:
            given = options["input_ids"] if options.get("input_ids") is not None else args[0]
        past = options.get("cache", options.get("past_key_values"))  # the former from transformers 5.24 on
        start = 0 if past is None else int(past.get_seq_length())
        stop = start + given.shape[1]
        at["span"] = start, stop, at["width"] or (None if start else stop)

    def generate(inputs=None, *args, **options):
        known = (inputs, options.get("input_ids"), options.get("inputs_embeds"))
        ids = next((x for x in known if x is not None), None)
        before, at["width"] = at["width"], at["width"] if ids is None else ids.shape[1]
        try:
            return original(inputs, *args, **options)
        finally:
            at["width"] = before

    backbone = model.get_submodule(facts["blocks"].rpartition(".")[0])
    handles = [backbone.register_forward_pre_hook(note, with_kwargs=True)]
    for layer, edit in steer.items():
        e = placed(edit, facts["positions"], lambda: at["span"])
        handles.append(
            blocks[layer].register_forward_hook(
                lambda m, i, out, e=e: (e(out[0]), *out[1:]) if isinstance(out, tuple) else e(out)
            )
        )
    own, original = model.__dict__.get("generate"), model.generate
    model.generate = generate
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        if own is None:
            del model.generate
        else:
            model.generate = own
