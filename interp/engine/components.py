"""Single heads, neurons, modules and features at the answer position, set to other values: exactly, alone or together.

A component's *value* is what it holds before it is written to the residual: of a head what it has gathered [d_head],
of a neuron its activation [1], of an attention or MLP module its output [d_model], of a feature its activation [1].
Setting it to zero, or to its mean over many examples (a *reference*), is removing it; everything above is computed
again, and in its own block too, with the norms behind attention and MLP where a family has them.

A variant costs one token through the layers from its lowest component on. Sources: zero and mean ablation of heads,
Michel et al. 2019 (arXiv 1905.10650) and Wang et al. 2023 (2211.00593); of neurons, Vig et al. 2020 (2004.12265).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.engine.capture import Captured
from interp.engine.suffix import ResidualEdit, Suffix, check_unedited, rows_in_memory, rows_that_fit, suffixes
from interp.engine.variants import Name
from interp.errors import UserError
from interp.models.language_model import LanguageModel, Site
from interp.saes.stack import SaeStack

Kind = Literal["head", "neuron", "attention", "mlp", "feature"]
WITHIN: dict[Kind, int] = {"head": 0, "attention": 0, "neuron": 1, "mlp": 1, "feature": 2}
"""The order of components of a layer, as a pass computes them."""


class Component(NamedTuple):
    """A part of a layer that reads and writes the residual; `number`: of the head, neuron or feature."""

    layer: int
    kind: Kind
    number: int = 0

    @property
    def order(self) -> tuple[int, int, int]:
        """Places it behind all that a pass computes before it."""
        return self.layer, WITHIN[self.kind], self.number

    @property
    def name(self) -> str:
        """`head 3.1`: layer, then index; `mlp 3` where a layer has one."""
        return f"{self.kind} {self.layer}" + ("" if self.kind in ("attention", "mlp") else f".{self.number}")


Value = Float[Tensor, "..."]
"""One for all examples, or one for each."""
Variant = Mapping[Component, Value | None]
"""What some components are set to; None: zero."""


def check_components(model: LanguageModel, saes: SaeStack | None, components: Iterable[Component]) -> None:
    """Refuses what the model or its SAEs do not have.

    Raises:
        UserError: a layer, head, neuron or feature out of range, or a feature without SAEs.
    """
    widths = {"head": model.n_heads, "neuron": model.n_neurons, "attention": 1, "mlp": 1}
    for one in components:
        if one.kind == "feature":
            if saes is None:
                raise UserError(f"{one.name} needs the SAEs that it belongs to.")
            saes.check_features(one.layer, [one.number])
        elif not 0 <= one.layer < model.n_layers:
            raise UserError(f"{model.name} has layers 0 to {model.n_layers - 1}; got {one.name}.")
        elif not 0 <= one.number < widths[one.kind]:
            raise UserError(f"{model.name} has {one.kind}s 0 to {widths[one.kind] - 1} a layer; got {one.name}.")


def site_of(component: Component) -> Site:
    """Where its value passes."""
    sites: dict[Kind, Site] = {
        "head": ("heads", component.layer),
        "neuron": ("neurons", component.layer),
        "attention": ("attention", component.layer),
        "mlp": ("mlp", component.layer),
        "feature": component.layer,
    }
    return sites[component.kind]


def columns_of(model: LanguageModel, component: Component) -> slice:
    """Which columns of its site are its own."""
    width = {"head": model.d_head, "neuron": 1}.get(component.kind, model.d_model)
    return slice(component.number * width, (component.number + 1) * width)


@torch.no_grad()
def site_values(
    model: LanguageModel, captured: Captured, sites: Collection[Site]
) -> dict[Site, Float[Tensor, "example _"]]:
    """What passes some sites at the answer position: all heads of a layer side by side, all neurons, outputs.

    Raises:
        ValueError: `captured` was made without `keep_cache=True`.
    """
    found: dict[Site, Tensor] = {}
    blocks = [site if isinstance(site, int) else site[1] for site in sites]
    below = max(min(blocks) - 1, -1)
    for suffix in suffixes(model, captured, rows_in_memory(model, captured)):
        with model.recorded(sites, lambda x: x[:, 0]) as seen:
            suffix.tails({below: suffix.clean(below)[:, None]})
        for site in sites:
            values = seen[site].to(model.device)
            if site not in found:
                found[site] = values.new_empty(captured.residuals.shape[1], values.shape[-1])
            found[site][suffix.examples] = values
    return found


def component_values(
    model: LanguageModel, saes: SaeStack | None, captured: Captured, components: Sequence[Component]
) -> dict[Component, Float[Tensor, "example _"]]:
    """The components' values as they are.

    Raises:
        UserError: a component that the model or its SAEs do not have.
        ValueError: `captured` was made without `keep_cache=True`.
    """
    check_components(model, saes, components)
    inside = {site_of(c) for c in components if c.kind != "feature"}
    seen = site_values(model, captured, inside) if inside else {}
    found = {c: seen[site_of(c)][:, columns_of(model, c)] for c in components if c.kind != "feature"}
    for layer, features in _by_layer(components, "feature").items():
        assert saes is not None
        index = torch.tensor([c.number for c in features])
        acts = saes.encode_features(layer, captured.residuals[layer], index)
        found |= {c: acts[:, k : k + 1] for k, c in enumerate(features)}
    return {c: found[c] for c in components}


def site_gradients(
    model: LanguageModel, captured: Captured, targets: Int[Tensor, " example"], sites: Sequence[Site]
) -> dict[Site, Float[Tensor, "example _"]]:
    """Gradient of the target answer's log-probability (over the label set) with respect to what passes some sites.

    Raises:
        ValueError: `captured` was made without `keep_cache=True`.
    """
    found: dict[Site, Tensor] = {}
    for suffix in suffixes(model, captured, rows_in_memory(model, captured) // model.n_layers):
        with torch.enable_grad(), model.recorded(sites) as seen:
            tails = suffix.tails({-1: suffix.clean(-1)[:, None].clone().requires_grad_()})
            scores = captured.answers.score(model, tails)[:, 0].log_softmax(-1)
            target = targets.to(scores.device)[suffix.examples, None]
            slopes = torch.autograd.grad(scores.gather(1, target).sum(), [seen[site] for site in sites])
        for site, slope in zip(sites, slopes, strict=True):
            at_answer = slope[:, 0].to(model.device)
            if site not in found:
                found[site] = at_answer.new_empty(captured.residuals.shape[1], at_answer.shape[-1])
            found[site][suffix.examples] = at_answer
    return found


@torch.no_grad()
def answers_with(
    model: LanguageModel,
    captured: Captured,
    variants: Mapping[Name, Variant],
    *,
    saes: SaeStack | None = None,
    rows_in_flight: int | None = None,
) -> dict[Name, Float[Tensor, "example answer"]]:
    """By name, answer logits of every example with a variant's components set together, all above them recomputed.

    A feature is set as it is active in the residual that the variant's lower components leave. Variants share their
    passes, which an unedited row accompanies.

    Args:
        saes: of features among the components.
        rows_in_flight: edited tokens computed together; None sizes them from the free memory.

    Raises:
        UserError: a component that the model or its SAEs do not have.
        EngineError: the unedited row moved by more than `TOLERANCE`.
        ValueError: `captured` was made without `keep_cache=True`.
    """
    return {
        name: passed.logits for name, passed in _passes(model, captured, variants, saes, (), rows_in_flight).items()
    }


class Passed(NamedTuple):
    """Answer logits under a variant, and what passes the sites that were watched."""

    logits: Float[Tensor, "example answer"]
    seen: dict[Site, Float[Tensor, "example _"]]


@torch.no_grad()
def passed_with(
    model: LanguageModel,
    captured: Captured,
    variants: Mapping[Name, Variant],
    watched: Collection[Site],
    *,
    saes: SaeStack | None = None,
    rows_in_flight: int | None = None,
) -> dict[Name, Passed]:
    """As `answers_with`, and what passes some sites at the answer position: what a removal makes of those above it."""
    return _passes(model, captured, variants, saes, watched, rows_in_flight)


def _passes(
    model: LanguageModel,
    captured: Captured,
    variants: Mapping[Name, Variant],
    saes: SaeStack | None,
    watched: Collection[Site],
    rows_in_flight: int | None,
) -> dict[Name, Passed]:
    check_components(model, saes, {c for variant in variants.values() for c in variant})
    size = rows_that_fit(model, captured) if rows_in_flight is None else rows_in_flight
    names = sorted((n for n in variants if variants[n]), key=lambda name: _enters(variants[name]))
    logits = {name: captured.answer_logits.clone() for name in variants}
    seen: dict[Name, dict[Site, Tensor]] = {name: {} for name in variants}
    for suffix in suffixes(model, captured, max(1, size // 2)):
        count = max(1, size // len(suffix.examples) - 1)
        for k in range(0, max(len(names), 1 if watched else 0), count):
            chunk = names[k : k + count]
            passing = _Rows(suffix, [variants[name] for name in chunk], saes)
            tail, values = passing.run(watched)
            scores = captured.answers.score(model, tail)
            check_unedited(model, passing.lowest, scores[:, 0] - suffix.clean_scores)
            for row, name in enumerate(chunk, start=1):
                logits[name][suffix.examples] = scores[:, row]
            for site, passed in values.items():
                unnamed = [n for n in variants if not variants[n]] if k == 0 else []
                for row, name in [*enumerate(chunk, start=1), *((0, n) for n in unnamed)]:
                    own = passed[:, row if row < passed.shape[1] else 0]  # what it enters above is as it was
                    if site not in seen[name]:
                        seen[name][site] = own.new_empty(captured.residuals.shape[1], own.shape[-1])
                    seen[name][site][suffix.examples] = own
    return {name: Passed(logits[name], seen[name]) for name in variants}


def _enters(variant: Variant) -> int:
    """After which layer a variant's row leaves the unedited one: that below its lowest block, or a feature's own."""
    return min(c.layer if c.kind == "feature" else c.layer - 1 for c in variant)


def _by_layer(components: Iterable[Component], kind: Kind) -> dict[int, list[Component]]:
    found: dict[int, list[Component]] = {}
    for one in components:
        if one.kind == kind:
            found.setdefault(one.layer, []).append(one)
    return found


class _Change(NamedTuple):
    """Columns of a row, and what they are set to."""

    row: int
    columns: slice
    value: Tensor | None


class _Rows:
    """Variants of some prompts as rows of one pass, the unedited one first, in the order in which they enter."""

    def __init__(self, suffix: Suffix, variants: Sequence[Variant], saes: SaeStack | None) -> None:
        self.suffix, self.saes = suffix, saes
        self.lowest = min(map(_enters, variants), default=suffix.model.n_layers - 1)
        self.inside: dict[Site, list[_Change]] = {}
        self.features: dict[int, list[_Change]] = {}
        entering: dict[int, list[int]] = {}
        for row, variant in enumerate(variants, start=1):
            after = _enters(variant)
            entering.setdefault(after, []).append(row)
            for component, value in variant.items():
                if component.kind == "feature":
                    change = _Change(row, slice(component.number, component.number + 1), value)
                    self.features.setdefault(component.layer, []).append(change)
                else:
                    columns = columns_of(suffix.model, component)
                    self.inside.setdefault(site_of(component), []).append(_Change(row, columns, value))
        self.entering = dict(sorted({self.lowest: [], **entering}.items()))

    def run(self, watched: Collection[Site]) -> tuple[Tensor, dict[Site, Tensor]]:
        """Residuals after the last layer [prompt, row, tail, d_model], and what passed the sites [prompt, row, width].

        Rows that had not entered yet are missing at the end of the latter.
        """
        suffix, model, n_prompts = self.suffix, self.suffix.model, len(self.suffix.examples)
        seen: dict[Site, Tensor] = {}
        rows: dict[int, Tensor] = {}
        for after, own in self.entering.items():
            entered = suffix.clean(after)[:, None].repeat(1, len(own) + (after == self.lowest), 1)
            first = own[0] if own else 0
            if after in self.features and own:
                offset = 1 if after == self.lowest else 0
                changes = [c._replace(row=c.row - first + offset) for c in self.features[after] if c.row in set(own)]
                entered = self._with_features(entered, after, changes)
            rows[after] = entered

        def residual(layer: int) -> ResidualEdit:
            there = {row for after, own in self.entering.items() if after < layer for row in own}

            def edit(x: Tensor) -> Tensor:
                x = self._with_features(x, layer, [c for c in self.features.get(layer, []) if c.row in there])
                if layer in watched:
                    seen[layer] = x.clone()
                return x

            return edit

        def note(site: Site, x: Tensor) -> None:
            seen[site] = x.unflatten(0, (n_prompts, -1))[:, :, 0].to(model.device, copy=True)

        # What has been set is what is watched: hooks of a module run in the order in which they were put there.
        with model.edited({site: partial(self._set, changes) for site, changes in self.inside.items()}):
            looked = {site: partial(note, site) for site in watched if not isinstance(site, int)}
            with model.edited({site: one for site, one in looked.items() if site[1] > self.lowest}):
                above = [k for k in {*self.features, *watched} if isinstance(k, int) and k > self.lowest]
                tail = suffix.tails(rows, {layer: residual(layer) for layer in above})
        if self.lowest in watched:
            seen[self.lowest] = rows[self.lowest]
        below = [s for s in watched if s not in seen]
        if below:
            clean = _clean_values(suffix, below)
            seen |= {site: clean[site][:, None] for site in below}
        return tail, seen

    def _set(self, changes: Sequence[_Change], output: Tensor) -> Tensor:
        """What passes a site, with the changes of its rows; changes of equal width are made together."""
        by_row = output.unflatten(0, (len(self.suffix.examples), -1)).clone()
        by_width: dict[int, list[_Change]] = {}
        for change in changes:
            by_width.setdefault(change.columns.stop - change.columns.start, []).append(change)
        for width, alike in by_width.items():
            rows = torch.tensor([[c.row] for c in alike], device=by_row.device)
            start = torch.tensor([[c.columns.start] for c in alike], device=by_row.device)
            columns = start + torch.arange(width, device=by_row.device)
            by_row[:, rows, 0, columns] = self._values(alike, width).to(by_row)
        whole: Tensor = by_row.flatten(0, 1)
        return whole

    def _values(self, changes: Sequence[_Change], width: int) -> Float[Tensor, "prompt change width"]:
        examples, device = self.suffix.examples, self.suffix.examples.device
        zero = torch.zeros(width, device=device)
        values = [zero if c.value is None else c.value.to(device) for c in changes]
        shape = (len(examples), width)
        return torch.stack([(v[examples] if v.ndim == 2 else v).float().expand(shape) for v in values], dim=1)

    def _with_features(
        self, x: Float[Tensor, "prompt row d_model"], layer: int, changes: Sequence[_Change]
    ) -> Float[Tensor, "prompt row d_model"]:
        """Residuals with activations of features set; each row's are read before any of them is set."""
        if not changes:
            return x
        assert self.saes is not None
        of_row: dict[int, list[_Change]] = {}
        for change in changes:
            of_row.setdefault(change.row, []).append(change)
        index = torch.tensor(sorted({c.columns.start for c in changes}))
        place = {feature: k for k, feature in enumerate(index.tolist())}
        rows = sorted(of_row)
        acts = self.saes.encode_features(layer, x[:, rows], index)  # [prompt, row, feature]
        wanted = acts.clone()
        for k, row in enumerate(rows):
            own = of_row[row]
            columns = [place[c.columns.start] for c in own]
            wanted[:, k, columns] = self._values(own, 1)[..., 0].to(wanted)
        out = x.clone()
        out[:, rows] += ((wanted - acts) @ self.saes.directions(layer, index)).to(x)
        return out


def _clean_values(suffix: Suffix, sites: Sequence[Site]) -> dict[Site, Float[Tensor, "prompt width"]]:
    """What passes sites below all edits."""
    found: dict[Site, Tensor] = {s: suffix.clean(s) for s in sites if isinstance(s, int)}
    inside = [s for s in sites if not isinstance(s, int)]
    if inside:
        with suffix.model.recorded(inside, lambda x: x[:, 0].to(suffix.model.device)) as seen:
            suffix.tails({-1: suffix.clean(-1)[:, None]})
        for site in inside:
            found[site] = seen[site]
    return found
