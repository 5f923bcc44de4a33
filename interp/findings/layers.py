"""What the layers of a run say: phases, where emotion shows, and where the format ends."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from interp.analysis.entropy import LayerEntropy, entropy_by_layer
from interp.analysis.phases import Phases, find_phases
from interp.findings.claims import NONE_TO_SPEAK_OF, SURE, Finding, Verdict, above, below
from interp.findings.reading import Run
from interp.statistics import Estimate, from_draws

Array = np.ndarray
RESAMPLES = 200
"""Bootstrap resamples of the entropy curve, as many as phases use."""


@dataclass(frozen=True)
class EntropyPhases:
    """The paper's own kind of reading of a run: the curve and its change points."""

    curve: LayerEntropy
    phases: Phases
    n: int


def read_entropy(run: Run) -> EntropyPhases | None:
    """Entropy over emotions of the discover examples' features; None where a run has no features or one emotion."""
    rows, layers = run.rows("discover"), run.layers
    if not layers or not len(rows) or len(np.unique(run.gold(rows))) < 2:
        return None
    gold = run.gold(rows)
    weights = run.weights(rows, "entropy")[:RESAMPLES]
    curve = entropy_by_layer(layers, lambda k: run.features(k)[rows], gold, weights, run.seed("entropy"))
    return EntropyPhases(curve, find_phases(curve.specific[:, None], curve.draws[:, :, None], layers), len(rows))


def layer_findings(run: Run, entropy: EntropyPhases | None) -> list[Finding]:
    """Findings about claims on layers; claims that the run's files say nothing about are left out."""
    found = [_phases(run), _phases_by_entropy(run, entropy), _only_by_entropy(entropy)]
    found += [_only_by_signal(run, "only_last_probe", "probe_features", "probe_shuffled")]
    found += [_only_by_signal(run, "only_last_causal", "joint_ablation", None), _format(run)]
    return [f for f in found if f is not None]


def _phases(run: Run) -> Finding | None:
    phases = run.json("phases")
    if phases is None:
        return None
    number, support = int(phases["n_phases"]), float(phases.get("support", np.nan))
    places = zip(phases["boundaries"], phases["intervals"], strict=True)
    shown = _counted(number, support, [(b, tuple(i)) for b, i in places], int(run.record["model"]["n_layers"]))
    n = int(phases.get("n", 0))
    return Finding("phases", "", shown, number, np.nan, np.nan, n, "texts", _three(number, support), "phases.json")


def _phases_by_entropy(run: Run, entropy: EntropyPhases | None) -> Finding | None:
    if entropy is None:
        return None
    phases = entropy.phases
    places = list(zip(phases.boundaries, phases.intervals, strict=True))
    shown = _counted(phases.n_phases, phases.support, places, int(run.record["model"]["n_layers"]))
    if not entropy.curve.cut.threshold:
        shown += "; no cut: one Gaussian fits the entropies as well as two"
    verdict = _three(phases.n_phases, phases.support)
    source = "features/, examples.parquet"
    return Finding("phases_entropy", "", shown, phases.n_phases, np.nan, np.nan, entropy.n, "texts", verdict, source)


def _three(number: int, support: float) -> Verdict:
    if not support >= SURE:
        return "undecided"
    return "yes" if number == 3 else "no"


def _counted(number: int, support: float, places: Sequence[tuple[int, tuple[int, ...]]], n_layers: int) -> str:
    where = ", ".join(f"{b} [{low}, {high}]" for b, (low, high) in places)
    agree = f" ({support:.0%} of resamples agree)" if np.isfinite(support) else ""
    begins = f"; begin at layer {where} of 0-{n_layers - 1}" if where else ""
    return f"{number}{agree}{begins}"


def _only_by_entropy(entropy: EntropyPhases | None) -> Finding | None:
    if entropy is None:
        return None
    curve = entropy.curve
    value, draws = curve.specific - curve.shuffled, curve.draws - curve.shuffled
    begins = entropy.phases.boundaries[-1] if entropy.phases.boundaries else None
    return _only("only_last_entropy", curve.layers, value, draws, begins, entropy.n, "features/, examples.parquet")


def _only_by_signal(run: Run, claim: str, name: str, control: str | None) -> Finding | None:
    signals, phases = run.table("signals"), run.json("phases")
    if signals is None or phases is None or not (signals["signal"] == name).any():
        return None
    layers = sorted(int(k) for k in signals.loc[signals["signal"] == name, "layer"])
    parts = [_signal(run, name, layers)] + ([_signal(run, control, layers)] if control else [])
    if any(p is None for p in parts):
        return None
    (value, draws), *rest = [p for p in parts if p is not None]
    for other_value, other_draws in rest:
        value, draws = value - other_value, draws - other_draws
    begins = int(phases["boundaries"][-1]) if phases["boundaries"] else None
    n = int(signals.loc[signals["signal"] == name, "n"].max())
    return _only(claim, layers, value, draws, begins, n, "signals.parquet, signals_draws.npz, phases.json")


def _signal(
    run: Run, name: str, layers: list[int]
) -> tuple[Float[Array, " layer"], Float[Array, "resample layer"]] | None:
    """A signal's values and draws by layer; draws are NaN where the run has none."""
    signals = run.table("signals")
    assert signals is not None
    own = signals[signals["signal"] == name].set_index("layer")["value"]
    if not set(layers) <= set(own.index):
        return None
    keys = [f"{name}/{k}" for k in layers]
    stored = run.signal_draws
    draws = (
        np.stack([stored[k] for k in keys], 1) if all(k in stored for k in keys) else np.full((2, len(keys)), np.nan)
    )
    return own.loc[layers].to_numpy(dtype=float), draws


def _only(
    claim: str,
    layers: list[int],
    value: Float[Array, " layer"],
    draws: Float[Array, "resample layer"],
    begins: int | None,
    n: int,
    source: str,
) -> Finding:
    """Mean before the last phase over mean in it."""
    if begins is None:
        shown = f"one phase, so there is no last one; {value.mean():.2f} on average"
        return Finding(claim, "", shown, np.nan, np.nan, np.nan, n, "texts", "undecided", source)
    early = np.asarray(layers) < begins
    before, after = float(value[early].mean()), float(value[~early].mean())
    late = draws[:, ~early].mean(1)
    ratio = draws[:, early].mean(1) / np.where(late > 0, late, np.nan)
    estimate = Estimate(before / after if after > 0 else np.nan, np.nan, np.nan, n)
    if np.isfinite(ratio).mean() >= SURE and after > 0:
        estimate = from_draws(before / after, ratio[np.isfinite(ratio)], n)
    shown = f"ratio {estimate.value:.2f}: {before:.2f} before layer {begins}, {after:.2f} from there on"
    return Finding(claim, "", shown, *estimate, "texts", below(estimate, NONE_TO_SPEAK_OF), source)


def _format(run: Run) -> Finding | None:
    signals = run.table("signals")
    if signals is None or not (signals["signal"] == "format_share").any():
        return None
    own = signals[signals["signal"] == "format_share"]
    layers = sorted(int(k) for k in own["layer"])
    found = _signal(run, "format_share", layers)
    assert found is not None
    value, draws = found
    third = max(1, len(layers) // 3)
    change = draws[:, :third].mean(1) - draws[:, -third:].mean(1)
    first, last = float(value[:third].mean()), float(value[-third:].mean())
    n = int(own["n"].max())
    estimate = Estimate(first - last, np.nan, np.nan, n)
    if np.isfinite(change).all():
        estimate = from_draws(first - last, change, n)
    shown = f"{first:.2f} in the first third of the layers, {last:.2f} in the last ({first - last:+.2f})"
    if first > last:
        places = [layers[i] for d in draws if np.isfinite(d).all() for i in (_falls(d),)]
        inside = f" [{np.quantile(places, 0.025):.0f}, {np.quantile(places, 0.975):.0f}]" if places else ""
        shown += f"; falls most before layer {layers[_falls(value)]}{inside}"
    verdict = above(estimate, 0.0)
    return Finding("format", "", shown, *estimate, "texts", verdict, "signals.parquet, signals_draws.npz")


def _falls(value: Float[Array, " layer"]) -> int:
    """Place of the layer before which the curve falls most."""
    return 1 + int(np.argmin(np.diff(value))) if len(value) > 1 else 0
