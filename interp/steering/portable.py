"""Steers a model without the package that fitted the steering: only torch and safetensors are needed.

import portable                                        # this file, beside steering_portable.safetensors
with portable.steered(model): ...                      # a transformers model; batches left-padded
with bridge.hooks(fwd_hooks=portable.hooks()): ...     # a TransformerLens bridge
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
                if "gate" in w:
                    change = change * torch.sigmoid(acts @ w["gate"] + w["gate_bias"])[..., None]
            return x + change.to(x.dtype)

        return steer

    return {layer: edit(layer) for layer in sorted({int(k.split(".")[0]) for k in t})}, facts


def placed(edit, where):
    """The edit at all positions, or at the last one of each pass (`answer`: not while single tokens are generated)."""
    if where == "all":
        return edit
    skip = where == "answer"
    return lambda x: x if skip and x.shape[1] == 1 else torch.cat([x[:, :-1], edit(x[:, -1:])], 1)


def hooks(folder=Path(__file__).parent):
    """(name, function) pairs for TransformerLens."""
    steer, facts = edits(folder)
    return [(f"blocks.{k}.hook_out", lambda x, hook, e=e: placed(e, facts["positions"])(x)) for k, e in steer.items()]


@contextlib.contextmanager
def steered(model, folder=Path(__file__).parent):
    """Every forward and `generate` of a transformers model inside is steered."""
    steer, facts = edits(folder)
    blocks = model.get_submodule(facts["blocks"])
    handles = []
    for layer, edit in steer.items():
        e = placed(edit, facts["positions"])
        handles.append(
            blocks[layer].register_forward_hook(
                lambda m, i, out, e=e: (e(out[0]), *out[1:]) if isinstance(out, tuple) else e(out)
            )
        )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
