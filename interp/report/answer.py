"""The answer in three sentences: where, which, and what steering changed, made of the run's numbers."""

from interp.report.run_files import RunFiles


def answer(run: RunFiles) -> list[str]:
    """A sentence or two each; what is not known yet is left out."""
    return [s for s in (_where(run), _which(run), _steered(run)) if s]


def _where(run: RunFiles) -> str | None:
    phases = run.json("phases")
    return None if phases is None else f"{run.record['model']['n_layers']} layers: {phases['verdict']}"


def _which(run: RunFiles) -> str | None:
    table = run.table("concentration")
    if table is None:
        return None
    whole = table[table["phase"] == "all"].set_index("emotion")
    if not whole["n_causal"].any():
        return "No feature's removal lowers the right answer beyond its controls: no causal feature was found."
    counts = ", ".join(f"{label} {int(n)}" for label, n in whole["n_causal"].items())
    known = whole[whole["n_causal"] > 0].sort_values("effective_number")
    first, last = known.index[0], known.index[-1]
    effective = known["effective_number"]
    spread = (
        f" Most concentrated: {first} (effectively {effective[first]:.1f} features);"
        f" most diffuse: {last} ({effective[last]:.1f})."
        if first != last
        else f" Effectively {effective[first]:.1f} features."
    )
    return f"Causal features per emotion: {counts}.{spread}"


def _steered(run: RunFiles) -> str | None:
    steering, table = run.json("steering"), run.table("evaluation")
    if steering is None or table is None:
        return None
    if steering["method"] == "none":
        return f"Steering: none. {steering['reason']}"
    gains = table[(table["method"] == "steered") & (table["metric"] == "macro_f1_gain")]
    changes = "; ".join(
        f"{r.corpus} {r.value:+.3f} [{r.ci_low:+.3f}, {r.ci_high:+.3f}], n = {r.n}" for r in gains.itertuples()
    )
    ratio = table[(table["method"] == "steered") & (table["metric"] == "perplexity_ratio")]["value"]
    cost = f" Perplexity ratio on plain text {ratio.iloc[0]:.3f}." if len(ratio) else ""
    return f"Steering ({steering['method']}, {steering['setting']}) changes macro-F1 on test: {changes}.{cost}"
