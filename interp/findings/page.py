"""Findings as Markdown and as JSON. Every number comes from a run's files."""

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from interp.files.folder import writing
from interp.files.jsonable import jsonable
from interp.findings.claims import CLAIM, CLAIMS, Claim, Finding, Verdict
from interp.findings.concentration import TOP
from interp.findings.emotions import EmotionFindings
from interp.findings.measuring import RunFindings
from interp.findings.steering import few_labels, transfer
from interp.report.markdown import escaped, table_of_words
from interp.statistics import Estimate

PAPER = "https://arxiv.org/abs/2604.25866"
TITLE = "From Syntax to Emotion: A Mechanistic Analysis of Emotion Inference in LLMs"
ORIGINS = {"abstract": "the paper's abstract", "text": "the paper's text", "own": "a check beside the paper"}
NONE = "-"


def write_findings(found: Sequence[RunFindings], out: Path, figures: Mapping[str, Path] | None = None) -> Path:
    """Writes the page; the same runs give the same bytes.

    Args:
        figures: pages of layer-phase plots by title; a `.png` of the same name beside one is shown in its place.
    """
    with writing(out) as part:
        part.write_text(markdown(found, out.parent, figures or {}), encoding="utf-8")
    return out


def markdown(found: Sequence[RunFindings], beside: Path, figures: Mapping[str, Path]) -> str:
    """The page.

    Args:
        beside: the folder that links are relative to.
    """
    parts = [_head(found), _glance(found), *(part for part in (few_labels(found), transfer(found)) if part)]
    for one in found:
        parts += [f"## {escaped(one.title)}", _facts(one), _words(one)]
        if one.title in figures:
            parts.append(_picture(one.title, figures[one.title], beside))
        parts.append(_claims(one))
        if one.emotions:
            parts.append(_emotions(one))
    return "\n\n".join([*parts, _rules()]) + "\n"


def as_json(found: Sequence[RunFindings]) -> dict[str, Any]:
    """The same as plain values; None for what is not known."""
    value: dict[str, Any] = jsonable(
        {
            "paper": PAPER,
            "claims": [
                {"key": c.key, "claim": c.words, "paper": c.paper, "origin": c.origin, "rule": c.rule} for c in CLAIMS
            ],
            "runs": [
                {
                    "title": one.title,
                    "name": one.run.record.get("name"),
                    "model": one.run.model,
                    "corpus": one.run.corpus,
                    "seed": one.run.config["seed"],
                    "steering": one.steering,
                    "findings": [_renamed(asdict(f), verdict="agrees") for f in one.findings],
                    "emotions": [_emotion_json(e) for e in one.emotions],
                    "entropy": _entropy_json(one),
                }
                for one in found
            ],
        }
    )
    return value


def _renamed(entry: Mapping[str, Any], **names: str) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in entry.items()}


def _head(found: Sequence[RunFindings]) -> str:
    many = f"{len(found)} runs show" if len(found) > 1 else "a run shows"
    return (
        f"# What a paper claims, and what {many}\n\n"
        f"The claims are those of [{TITLE}]({PAPER}). Everything below was written by `interp findings` from the run"
        " folders' files. Brackets are 95 % intervals, bootstrap over texts unless a rule says otherwise. *agrees?* is"
        " decided by the rule that stands for each claim at the [end](#rules): **yes**, **no**, or *undecided* where"
        " the data allow both."
    )


def _glance(found: Sequence[RunFindings]) -> str:
    rows = [
        [claim.words, claim.paper, *(_verdicts(one.of(claim.key)) for one in found)]
        for claim in CLAIMS
        if claim.rule != "A measure, no claim."
    ]
    return "## At a glance\n\n" + _table(["claim", "the paper", *(one.title for one in found)], rows)


def _verdicts(findings: Sequence[Finding]) -> str:
    """The verdict, or how many of each where there are several."""
    counts = Counter(f.verdict for f in findings)
    if len(counts) == 1:
        return _marked(findings[0].verdict)
    order: tuple[Verdict, ...] = ("yes", "undecided", "no", "not measured")
    return ", ".join(f"{_marked(v)} ({counts[v]})" for v in order if counts[v])


def _marked(verdict: Verdict) -> str:
    return f"**{verdict}**" if verdict in ("yes", "no") else NONE if verdict == "no claim" else f"*{verdict}*"


def _facts(one: RunFindings) -> str:
    record, config = one.run.record, one.run.config
    saes, model = record.get("saes", {}), record["model"]
    counts = one.run.table("examples")
    roles = "" if counts is None else ", ".join(f"{r} {n}" for r, n in counts["role"].value_counts(sort=False).items())
    facts = [
        f"Run `{record.get('name', one.run.folder.name)}`",
        f"{model.get('n_layers', '?')} layers of width {model.get('d_model', '?')}",
        f"SAEs {Path(str(saes.get('name', '?'))).name} on {len(saes.get('layers', []))} layers",
        f"texts: {roles}" if roles else "",
        f"seed {config['seed']}",
        f"labels {', '.join(one.run.labels)}",
        f"interp {record.get('versions', {}).get('interp', '?')}",
    ]
    return "; ".join(f for f in facts if f) + "."


def _words(one: RunFindings) -> str:
    """A paragraph of the run's numbers, then what holds, what does not, and what is open."""
    lines = [s for s in (_layers_said(one), _features_said(one), _steering_said(one)) if s]
    groups: dict[str, list[str]] = {"yes": [], "no": [], "undecided": [], "not measured": []}
    for claim in CLAIMS:
        for verdict in dict.fromkeys(f.verdict for f in one.of(claim.key)):
            if verdict in groups:
                parts = [f.about for f in one.of(claim.key) if f.verdict == verdict and f.about]
                mixed = len({f.verdict for f in one.of(claim.key)}) > 1 and parts
                groups[verdict].append(claim.short + (f" ({' and '.join(parts)})" if mixed else ""))
    heads = {"yes": "Holds", "no": "Does not hold", "undecided": "Undecided", "not measured": "Not measured"}
    lists = [f"- **{heads[v]}:** {'; '.join(items) if items else 'none'}." for v, items in groups.items()]
    return " ".join(lines) + "\n\n" + "\n".join(escaped(x) for x in lists)


def _first(one: RunFindings, claim: str) -> Finding | None:
    found = [f for f in one.of(claim) if f.verdict != "not measured"]
    return found[0] if found else None


def _layers_said(one: RunFindings) -> str:
    said = []
    phases, entropy = _first(one, "phases"), _first(one, "phases_entropy")
    if phases:
        said.append(f"Phases that fit best: {phases.shown}.")
    if entropy:
        said.append(f"By entropy: {entropy.shown}.")
    where = {
        "only_last_entropy": "specific features",
        "only_last_probe": "what a probe reads",
        "only_last_causal": "effects",
    }
    early: list[str] = []
    more: list[str] = []
    for claim, name in where.items():
        f = _first(one, claim)
        if f and math.isfinite(f.value):
            (more if f.high < 1 else early).append(f"{name} {f.value:.0%}")
    if more:
        said.append(f"Before the last phase there is less of emotion than in it ({', '.join(more)} of its value).")
    if early:
        said.append(f"Not surely less than in the last phase: {', '.join(early)} of its value before it.")
    form = _first(one, "format")
    if form:
        said.append(f"Share of features that are the same in every prompt: {form.shown}.")
    return " ".join(said)


def _features_said(one: RunFindings) -> str:
    known = [e for e in one.emotions if e.n_causal]
    few = _first(one, "few")
    if not few and not known:
        return ""
    said = [f"Causal: {few.shown}."] if few else []
    ordered = sorted(known, key=lambda e: e.spread.effective.value)
    if len(ordered) > 1:
        first, last = ordered[0], ordered[-1]
        said.append(
            f"Most concentrated is {first.emotion} (effective number {first.spread.effective.value:.1f}), most diffuse"
            f" {last.emotion} ({last.spread.effective.value:.1f})."
        )
        weak = min((e for e in one.emotions if e.n), key=lambda e: e.spread.strongest.value)
        said.append(
            f"The weakest is {weak.emotion} ({weak.spread.strongest.value:.2f} nats by its strongest features)."
        )
    taken = _first(one, "overshadowed_answers")
    if taken:
        said.append(f"Disgust is taken for {taken.shown}.")
    return " ".join(said)


def _steering_said(one: RunFindings) -> str:
    found = [f for c in ("gain", "generalises") for f in one.of(c) if f.about.split("; ")[-1].startswith("chosen")]
    plain = {f.about: f for f in one.of("macro_f1") if f.verdict != "not measured"}
    if not found:
        return "Recognition and steering were not evaluated." if not plain else ""
    said = [
        f"Unsteered macro-F1 {', '.join(f'{f.value:.3f} {_interval(f)} on {about}' for about, f in plain.items())}.",
        f"Steering that was chosen: {one.steering}.",
    ]
    if one.steering != "none":
        gains = (f"{f.about.split('; ')[0]} {f.shown} {_interval(f)}" for f in found)
        said.append(f"It changes macro-F1: {'; '.join(gains)}.")
        language = [f for f in one.of("language") if f.about.split("; ")[-1].startswith("chosen")]
        if language:
            said.append(f"Perplexity ratio {language[0].shown} {_interval(language[0])}.")
    return " ".join(said)


def _picture(title: str, page: Path, beside: Path) -> str:
    image = page.with_suffix(".png")
    link = Path(os.path.relpath(page, beside)).as_posix()
    if image.is_file():
        return f"![Layers and phases: {escaped(title)}]({Path(os.path.relpath(image, beside)).as_posix()})"
    return f"[Layers and phases]({link})"


def _claims(one: RunFindings) -> str:
    rows = []
    for f in one.findings:
        claim = CLAIM[f.claim]
        words = f"{claim.words}: {f.about}" if f.about else claim.words
        n = f"{f.n} {f.unit}" if f.n else NONE
        source = ", ".join(f"`{s}`" for s in f.source.split(", ")) if f.source else NONE
        rows.append([words, claim.paper, f.shown, _interval(f), n, _marked(f.verdict), source])
    return _table(["claim of the paper", "its value", "ours", "interval", "n", "agrees?", "from"], rows)


def _emotions(one: RunFindings) -> str:
    gains = _recall_gains(one)
    head = ["emotion", "n", "recall", "most taken for", "causal (traced)", "effective number"]
    head += [f"share of top {k}" for k in TOP] + ["strongest, nats", "summed, nats", "P most diffuse", "P weakest"]
    head += ["fires elsewhere", *gains]
    rows = []
    for e in one.emotions:
        taken = f"{e.taken_for} {_number(e.taken_for_share)}" if e.taken_for else NONE
        rows.append(
            [
                *(e.emotion, str(e.n), _number(e.recall), taken, f"{e.n_causal} ({e.n_traced})"),
                _number(e.spread.effective, 1),
                *(_number(e.spread.top[k]) for k in TOP),
                *(_number(e.spread.strongest), _number(e.spread.summed)),
                *(NONE if math.isnan(o.probability) else f"{o.probability:.2f}" for o in (e.most_diffuse, e.weakest)),
                _number(e.fires_elsewhere),
                *(_number(gains[name][e.emotion]) if e.emotion in gains[name] else NONE for name in gains),
            ]
        )
    return "By emotion:\n\n" + _table(head, rows)


def _recall_gains(one: RunFindings) -> dict[str, dict[str, Estimate]]:
    """By test corpus, each emotion's change of recall under the chosen steering."""
    scores = one.run.table("evaluation")
    if scores is None:
        return {}
    own = scores[(scores["method"] == "steered") & scores["metric"].str.startswith("recall_gain_")]
    gains: dict[str, dict[str, Estimate]] = {}
    for r in own.itertuples():
        column = gains.setdefault(f"recall change, {r.corpus}", {})
        column[str(r.metric).removeprefix("recall_gain_")] = Estimate(r.value, r.ci_low, r.ci_high, r.n)
    return gains


def _rules() -> str:
    lines = ["## Rules", "A rule that speaks of an interval cannot be met without one.", ""]
    lines += [f"- *{escaped(c.words)}* ({ORIGINS[c.origin]}): {escaped(c.rule)}" for c in CLAIMS]
    lines += [
        "",
        "Intervals of effects, and the probabilities of orders, resample texts with the set of causal features held as"
        " it was found; those of the entropy curve hold the cut. Resamples of quantities that noise makes look more"
        " concentrated are shifted to have the estimate as their mean. Shares of features have Wilson's interval.",
    ]
    return "\n".join(lines)


def _interval(f: Finding) -> str:
    if not (math.isfinite(f.low) and math.isfinite(f.high)):
        return NONE
    points = f.unit and f.claim in ("gain", "generalises", "beyond_random", "few_labels")
    if points:
        return f"[{100 * f.low:+.1f}, {100 * f.high:+.1f}]"
    if f.claim == "few":
        return f"[{f.low:.3%}, {f.high:.3%}]"
    return f"[{f.low:.3f}, {f.high:.3f}]" if f.claim in ("language", "accuracy", "macro_f1") else _two(f.low, f.high)


def _two(low: float, high: float) -> str:
    return f"[{low:.2f}, {high:.2f}]"


def _number(e: Estimate, digits: int = 2) -> str:
    if not math.isfinite(e.value):
        return NONE
    inside = f" [{e.low:.{digits}f}, {e.high:.{digits}f}]" if math.isfinite(e.low) and math.isfinite(e.high) else ""
    return f"{e.value:.{digits}f}{inside}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return table_of_words([head, ["---"] * len(head), *rows])


def _estimate_json(e: Estimate) -> dict[str, Any]:
    return {"value": e.value, "low": e.low, "high": e.high, "n": e.n}


def _emotion_json(e: EmotionFindings) -> dict[str, Any]:
    spread = {"effective_number": e.spread.effective, "strongest": e.spread.strongest, "summed": e.spread.summed}
    spread |= {f"share_top_{k}": e.spread.top[k] for k in TOP}
    return {
        "emotion": e.emotion,
        "n": e.n,
        "recall": _estimate_json(e.recall),
        "n_causal": e.n_causal,
        "n_traced": e.n_traced,
        **{name: _estimate_json(estimate) for name, estimate in spread.items()},
        "most_diffuse": e.most_diffuse.probability,
        "weakest": e.weakest.probability,
        "taken_for": e.taken_for or None,
        "taken_for_share": _estimate_json(e.taken_for_share),
        "fires_elsewhere": _estimate_json(e.fires_elsewhere),
    }


def _entropy_json(one: RunFindings) -> dict[str, Any] | None:
    if one.entropy is None:
        return None
    curve = one.entropy.curve
    columns = ("features", "specific", "shuffled", "format")
    return {
        "threshold": curve.cut.threshold,
        "low_mean": curve.cut.low,
        "high_mean": curve.cut.high,
        "n_features": curve.cut.n,
        "n": one.entropy.n,
        "phases": one.entropy.phases.spans(),
        "support": one.entropy.phases.support,
        "layers": [
            {"layer": k, **{name: getattr(curve, name)[i] for name in columns}} for i, k in enumerate(curve.layers)
        ],
    }


def verdict_lines(found: Sequence[RunFindings]) -> list[tuple[Claim, list[str]]]:
    """Per claim, the verdict of every run in plain words, for a table on the screen."""
    return [
        (claim, [_verdicts(one.of(claim.key)).replace("*", "") for one in found])
        for claim in CLAIMS
        if claim.rule != "A measure, no claim."
    ]
