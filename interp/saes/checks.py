"""Checks that SAEs belong to the model, made once at load, one SAE in memory at a time."""

import re
import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import InterpWarning, UserError
from interp.models.language_model import LanguageModel
from interp.saes.stack import SaeStack, additive

TEXTS = (
    "The train was late again, and nobody on the platform knew why.",
    "She had not spoken to her brother for years when his letter came, and she read it standing at the door.",
    "Add the flour slowly and stir until no lumps are left; then let the dough rest for an hour.",
    "He laughed so hard that he had to sit down.",
)
WARN_FVU, REFUSE_FVU = 0.5, 1.0


def check_saes(stack: SaeStack, model: LanguageModel, *, force: bool = False) -> dict[int, float]:
    """Unexplained variance of every layer's SAE on a few plain sentences, after all that is cheaper to check.

    Checked: input width, layer, declared model, hook point, whether contributions are additive, beginning-of-sequence
    token, and reconstruction.

    Args:
        force: go on, with a warning, where the SAE declares another model or layer, or reconstructs worse than the
            mean does.

    Raises:
        UserError: an SAE that does not belong on this model's residual stream.
    """
    residuals = _residuals(model, stack)
    adds_bos = _adds_bos(model)
    found, notes = {}, []
    for layer in stack.layers:
        sae = stack[layer]
        where = f"The SAE of layer {layer} in {stack.name}"
        if sae.cfg.d_in != model.d_model:
            raise UserError(
                f"{where} reads {sae.cfg.d_in} dimensions; {model.name} has d_model {model.d_model}."
                " These SAEs are for another model: name its own with --saes (interp models lists releases, interp saes"
                " train makes some)."
            )
        if layer >= model.n_layers:
            raise UserError(f"{stack.name} has an SAE for layer {layer}; {model.name} has {model.n_layers} layers.")
        notes += _check_hook(where, sae.cfg.metadata, layer, force)
        notes += _check_declared(where, sae.cfg.metadata, model, force)
        generator = torch.Generator().manual_seed(layer)
        x = (torch.randn(4, model.d_model, generator=generator) * 4).to(stack.device(layer), sae.dtype)
        if not additive(sae, x, stack.directions(layer)):
            raise UserError(f"{where} decodes in a way this tool does not know.")
        if sae.cfg.metadata.prepend_bos is not None and bool(sae.cfg.metadata.prepend_bos) != adds_bos:
            notes.append(
                f"{stack.name} was trained {'with' if sae.cfg.metadata.prepend_bos else 'without'} a beginning-of-"
                f"sequence token; the tokenizer of {model.name} {'adds one' if adds_bos else 'adds none'}."
            )
        found[layer] = unexplained(stack, layer, residuals[layer])
    notes += _judge(stack, found, force)
    for note in dict.fromkeys(notes):
        warnings.warn(note, InterpWarning, stacklevel=3)
    return found


def unexplained(stack: SaeStack, layer: int, residuals: Float[Tensor, "token d_model"]) -> float:
    """Fraction of variance unexplained by the SAE's reconstruction."""
    x = residuals.to(stack.device(layer)).float()
    error = (x - stack.reconstruct(layer, x)).square().sum()
    if stack.sources[layer].centred:
        x = x - x.mean(-1, keepdim=True)
    return float(error / (x - x.mean(0)).square().sum())


def base_name(name: str) -> str:
    """A model's name without owner and without what tells an instruction-tuned model from its base."""
    short = name.lower().rsplit("/", 1)[-1]
    short = {"gpt2": "gpt2-small", "meta-llama-3.1-8b": "llama-3.1-8b"}.get(short, short).removeprefix("meta-")
    return re.sub(r"[-_.](it|instruct|chat|pt|base)(?=$|[-_.])", "", short)


def _judge(stack: SaeStack, found: dict[int, float], force: bool) -> list[str]:
    bad = {k: v for k, v in found.items() if not v <= REFUSE_FVU}
    poor = {k: v for k, v in found.items() if k not in bad and v > WARN_FVU}

    def listed(values: dict[int, float]) -> str:
        return ", ".join(f"layer {k}: {v:.2f}" for k, v in values.items())

    text = (
        f"{stack.name} reconstructs the residuals worse than their mean does (unexplained variance {listed(bad)}):"
        " wrong normalisation, wrong layer or wrong model."
    )
    notes = _unless_forced(text, "Set saes.force: true to go on all the same.", force) if bad else []
    if poor:
        notes.append(f"{stack.name} leaves much of the residuals unexplained (FVU {listed(poor)}).")
    return notes


def _unless_forced(text: str, advice: str, force: bool) -> list[str]:
    """The text as a note.

    Raises:
        UserError: it is not to be gone on with.
    """
    if not force:
        raise UserError(f"{text} {advice}")
    return [text]


def _check_hook(where: str, metadata: Any, layer: int, force: bool) -> list[str]:
    """The SAE's own word on what it reads: a residual, and that of this layer."""
    hook = str(metadata.hook_name or "")
    if not hook:
        return []
    if not re.search(r"resid_(post|pre)|hook_out$|^model\.layers\.\d+$", hook):
        raise UserError(f"{where} reads {hook!r}, not the residual between blocks.")
    number = re.search(r"(?:blocks|layers)\.(\d+)", hook)
    if number is None or int(number[1]) - ("resid_pre" in hook) == layer:
        return []
    text = f"{where} says that it reads {hook!r}, which is another layer's residual."
    return _unless_forced(text, "Check the names of the folders, or set saes.force: true.", force)


def _check_declared(where: str, metadata: Any, model: LanguageModel, force: bool) -> list[str]:
    """The SAE's own word on its model; names of local folders say nothing and are let through."""
    declared = metadata.model_name
    if not declared or "/" not in model.name.strip("/") or model.name.startswith((".", "/")):
        return []
    theirs, ours = str(declared).lower().rsplit("/", 1)[-1], model.name.lower().rsplit("/", 1)[-1]
    if base_name(theirs) != base_name(ours):
        text = f"{where} is for {declared}, not for {model.name}."
        return _unless_forced(text, "Choose its own SAEs (`interp models`), or set saes.force: true.", force)
    tuned = re.compile(r"[-_.](it|instruct|chat)\b")
    if bool(tuned.search(ours)) != bool(tuned.search(theirs)):
        return [f"The SAEs were trained on {declared}; {model.name} is another version of the same model."]
    return []


@torch.no_grad()
def _residuals(model: LanguageModel, stack: SaeStack) -> dict[int, Float[Tensor, "token d_model"]]:
    """Residuals of all tokens but the first of a few sentences, for the layers that have an SAE."""
    tokens = model.pad(model.encode(TEXTS, chat=False))
    inside = tokens.mask & (tokens.positions > 0)
    layers = [layer for layer in stack.layers if layer < model.n_layers]
    with model.recorded(layers, lambda x: x[inside.to(x.device)]) as residuals:
        model.run(tokens)
    return residuals


def _adds_bos(model: LanguageModel) -> bool:
    ids = model.tokenizer("a")["input_ids"]
    return model.tokenizer.bos_token_id is not None and ids[:1] == [model.tokenizer.bos_token_id]
