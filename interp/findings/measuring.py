"""Run folders to findings, a set per run, in a fixed order."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from interp.errors import UserError
from interp.findings.causes import cause_findings
from interp.findings.claims import CLAIMS, Finding
from interp.findings.emotions import EmotionFindings, emotion_findings, fires_elsewhere
from interp.findings.layers import EntropyPhases, layer_findings, read_entropy
from interp.findings.reading import Run
from interp.findings.recognition import chosen_method, recognition_findings


@dataclass(frozen=True)
class RunFindings:
    """What one run says.

    Attributes:
        run: the files.
        title: model and corpus, and the run's name where these do not tell it from another.
        findings: at least one for every claim, in the order of `CLAIMS`.
        emotions: one per label; empty where the run has not been traced.
        entropy: the curve by entropy; None where the run has no features.
        steering: method and setting that were chosen.
    """

    run: Run
    title: str
    findings: tuple[Finding, ...]
    emotions: tuple[EmotionFindings, ...]
    entropy: EntropyPhases | None
    steering: str

    def of(self, claim: str) -> list[Finding]:
        """Findings about one claim."""
        return [f for f in self.findings if f.claim == claim]


def measure(folders: Sequence[Path]) -> list[RunFindings]:
    """Findings of every run, sorted by model, corpus and name.

    Raises:
        UserError: no folder, one that is no run folder, one named twice, or a damaged file.
    """
    if not folders:
        raise UserError("interp findings needs at least one run folder, such as runs/tiny.")
    twice = [f for f, n in Counter(f.resolve() for f in folders).items() if n > 1]
    if twice:
        raise UserError(f"The run {twice[0].name} is named twice; give every run folder once.")
    runs = sorted((Run.open(f) for f in folders), key=lambda r: (r.model, r.corpus, r.folder.resolve().name))
    return [replace(m, title=t) for m, t in zip(map(_measured, runs), _titles(runs), strict=True)]


def _measured(run: Run) -> RunFindings:
    entropy, elsewhere = read_entropy(run), fires_elsewhere(run)
    emotions = emotion_findings(run, elsewhere)
    found = layer_findings(run, entropy) + cause_findings(run, emotions, elsewhere) + recognition_findings(run)
    complete = [
        f for claim in CLAIMS for f in ([x for x in found if x.claim == claim.key] or [_not_measured(claim.key)])
    ]
    return RunFindings(run, "", tuple(complete), tuple(emotions), entropy, chosen_method(run))


def _not_measured(claim: str) -> Finding:
    return Finding(claim, "", "not measured", np.nan, np.nan, np.nan, 0, "", "not measured", "")


def _titles(runs: Sequence[Run]) -> list[str]:
    """Model and corpus; the folder's name where these recur, and its parent's where that recurs too."""
    plain = [f"{r.model} on {r.corpus}" for r in runs]
    named = [f"{t} ({r.folder.resolve().name})" if plain.count(t) > 1 else t for t, r in zip(plain, runs, strict=True)]
    return [
        f"{p} ({r.folder.resolve().parent.name}/{r.folder.resolve().name})" if named.count(t) > 1 else t
        for p, t, r in zip(plain, named, runs, strict=True)
    ]
