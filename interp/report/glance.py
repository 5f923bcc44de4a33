"""The first lines of a report: what was run on what, and how well the model recognises emotions."""

from dataclasses import dataclass

import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from interp.report.words import counted, layer_list, listed, share, short_name
from interp.run.reading import PLAIN, RunFiles, score_of
from interp.statistics import Estimate

ROLES = {
    "discover": "to find features (discover)",
    "fit": "to choose a steering (fit)",
    "test": "to test",
    "several": "with several emotions to test",
}


MOST_NAMED = 3
"""Corpora in the heading."""


@dataclass(frozen=True)
class Recognised:
    """How well the model's own answers name the emotions of a corpus, and what can be read from its residual stream.

    Attributes:
        texts: what the texts were used for.
        macro_f1, probe: None where the run has not measured them.
        chance: accuracy of guessing.
        commonest: accuracy of always giving the commonest emotion.
        knows: whether the probe is right more often than the answers beyond doubt; None: cannot be told.
    """

    corpus: str
    texts: str
    accuracy: Estimate
    macro_f1: Estimate | None
    probe: Estimate | None
    chance: float
    commonest: float | None
    knows: bool | None

    @property
    def verdict(self) -> str:
        """What the distance between the two means."""
        if self.probe is None:
            return ""
        both = (
            f"a linear probe on its residual stream, fitted on other texts, is right on {share(self.probe.value)} of"
            " these"
        )
        if self.knows:
            return f"The model knows more than it says: {both}, its own answers on {share(self.accuracy.value)}."
        return f"Beside its answers, {both}: not beyond doubt more than it says."


def heading(run: RunFiles) -> str:
    """Model and corpora."""
    model = short_name(str(run.record["model"]["name"]))
    corpora = _corpora(run)
    if len(corpora) > MOST_NAMED:
        corpora = [corpora[0], f"{len(corpora) - 1} other corpora"]
    return f"How {model} recognises emotions" + (f": {listed(corpora)}" if corpora else "")


def facts(run: RunFiles) -> list[str]:
    """Name, date, model, SAEs, sizes of the samples, seed."""
    record = run.record
    model, saes = record["model"], record["saes"]
    examples = run.table("examples")
    counts = {} if examples is None else examples["role"].value_counts().to_dict()
    uses = ROLES if saes["layers"] else ROLES | {"discover": "to find directions (discover)"}
    texts = ", ".join(f"{counted(int(counts[r]), 'text')} {use}" for r, use in uses.items() if r in counts)
    at = layer_list(saes["layers"], model["n_layers"])
    return [
        fact
        for fact in (
            f"run {record['name']}",
            str(record.get("date", "")),
            f"{short_name(str(model['name']))}, {counted(model['n_layers'], 'layer')} of width {model['d_model']:,}",
            f"SAEs {short_name(str(saes['name']))} at {at}" if saes["layers"] else "without SAEs",
            texts,
            f"emotions: {', '.join(run.labels)}",
            f"seed {record['config']['seed']}, interp {record['versions']['interp']}",
        )
        if fact
    ]


def recognised(run: RunFiles) -> list[Recognised]:
    """By test corpus; on the discover texts where nothing has been tested yet."""
    scores = run.table("evaluation")
    if scores is not None:
        corpora = dict.fromkeys(scores.loc[scores["corpus"] != PLAIN, "corpus"])
        found = [_tested(run, scores[scores["corpus"] == c], str(c)) for c in corpora]
        return [f for f in found if f is not None]
    return _discovered(run)


def _tested(run: RunFiles, own: pd.DataFrame, corpus: str) -> Recognised | None:
    accuracy = score_of(own, "unsteered", "accuracy")
    if accuracy is None:
        return None
    gain, probe = score_of(own, "probe", "macro_f1_gain"), score_of(own, "probe", "accuracy")
    return Recognised(
        corpus=corpus,
        texts="test texts",
        accuracy=accuracy,
        macro_f1=score_of(own, "unsteered", "macro_f1"),
        probe=probe,
        chance=1 / len(run.labels),
        commonest=_commonest(run, "test", corpus),
        knows=None if gain is None or probe is None else gain.low > 0 and probe.value > accuracy.value,
    )


def _discovered(run: RunFiles) -> list[Recognised]:
    examples, signals = run.table("examples"), run.table("signals")
    if examples is None:
        return []
    own = examples[examples["role"] == "discover"]
    if not len(own):
        return []
    right = int((own["gold"] == own["predicted"]).sum())
    low, high = proportion_confint(right, len(own), method="wilson")
    accuracy = Estimate(right / len(own), float(low), float(high), len(own))
    probe = None
    if signals is not None and (signals["signal"] == "probe_residuals").any():
        rows = signals[signals["signal"] == "probe_residuals"]
        best = rows.loc[rows["value"].idxmax()]
        probe = Estimate.of(best)
    corpus = " and ".join(dict.fromkeys(own["corpus"].astype(str)))
    return [
        Recognised(
            corpus=corpus,
            texts="texts to find features on",
            accuracy=accuracy,
            macro_f1=None,
            probe=probe,
            chance=1 / len(run.labels),
            commonest=_commonest(run, "discover", None),
            knows=None if probe is None else probe.low > accuracy.high,
        )
    ]


def _commonest(run: RunFiles, role: str, corpus: str | None) -> float | None:
    examples = run.table("examples")
    if examples is None:
        return None
    own = examples[(examples["role"] == role) & examples["gold"].isin(run.labels)]
    if corpus is not None:
        own = own[own["corpus"] == corpus]
    return float(own["gold"].value_counts(normalize=True).max()) if len(own) else None


def _corpora(run: RunFiles) -> list[str]:
    examples = run.table("examples")
    if examples is None:
        return []
    found = examples["role"] == "discover"
    return list(dict.fromkeys([*examples["corpus"][found].astype(str), *examples["corpus"].astype(str)]))
