"""Patching between the texts of a finished run: residuals, attention and MLP, by layer or over spans of layers."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from interp.analysis.patching import TextPair, patching_effects, text_pairs
from interp.engine.patching import Part, Patch, patched_answers, prompt_ends
from interp.errors import UserError
from interp.files.folder import RunFolder, claimed, fingerprint
from interp.reporting import Progress, silent
from interp.run import tables
from interp.run.afterwards import of_run, outputs_of
from interp.run.config import config_of
from interp.run.inputs import Inputs
from interp.run.reading import RunFiles
from interp.run.session import Session

COMMAND = "patch"
OUTPUTS = outputs_of(COMMAND)
PARTS: tuple[Part, ...] = ("residual", "attention", "mlp")


@dataclass(frozen=True)
class PatchingOptions:
    """What is patched.

    Attributes:
        pairs: of texts, for every two emotions and within each.
        span: layers whose outputs are patched together; 1: layer by layer.
        positions: counted from the prompt's end, each patched alone; none: the answer position, and the text's last
            token where prompts end alike behind it.
    """

    pairs: int = 4
    span: int = 1
    positions: tuple[int, ...] = ()


def patch(folder: Path, options: PatchingOptions, *, progress: Progress = silent) -> pd.DataFrame:
    """Patches between discover texts of a run and writes `patching.parquet` into its folder.

    Raises:
        UserError: no run folder, one without captures, or positions and layers that are not there.
    """
    if RunFiles(folder).record and not (folder / "examples.parquet").is_file():
        raise UserError(f"{folder} holds no examples.parquet; `interp trace` its config first.")
    with claimed(folder):
        run = RunFolder(folder)
        session = Session.going_on(Inputs(config_of(folder)), run, progress)
        if not 1 <= options.span <= session.model.n_layers:
            raise UserError(f"--span must be 1 to {session.model.n_layers} layers; got {options.span}.")
        print_ = fingerprint([asdict(options), of_run(run.record), run.record.get("model")])
        if run.is_current(COMMAND, print_) and not run.broken(COMMAND, OUTPUTS):
            return tables.read(run / OUTPUTS[0])
        began = time.perf_counter()
        run.begin(COMMAND, print_, [*OUTPUTS, f"units/{COMMAND}"])
        try:
            table = _patched(session, options)
        finally:
            session.close()
        tables.write(run / OUTPUTS[0], table)
        session.units(COMMAND).clear()
        run.finish(COMMAND, print_, time.perf_counter() - began, OUTPUTS)
        run.note(patch={"of": of_run(run.record), **asdict(options)})
    return table


def _patched(session: Session, options: PatchingOptions) -> pd.DataFrame:
    model, examples = session.model, session.labelled(session.traced_rows())
    n_tokens = np.array(session.n_tokens(session.texts(examples.rows)))
    pairs = text_pairs(examples, n_tokens, options.pairs, session.seed("patching"))
    if not pairs:
        raise UserError("There are no two discover texts of this run to patch between.")
    used = sorted({place for pair in pairs for place in (pair.target, pair.source)})
    texts = session.texts(examples.rows)
    behind = _behind_text(session, [texts[i] for i in used], n_tokens[used].tolist())
    positions = options.positions or tuple(dict.fromkeys((-1, -1 - behind) if behind else (-1,)))
    last = model.n_layers - options.span
    patches = [
        Patch(part, first, first + options.span - 1, (position,))
        for position in positions
        for part in PARTS
        for first in range(last + 1)
    ]
    names = [{"part": p.part, "first": p.first, "last": p.last, "position": p.positions[0]} for p in patches]
    clean = session.collect(examples.rows, lambda captured, _: {"logits": captured.answer_logits}, "answers")["logits"]
    return patching_effects(
        pairs, examples, clean.double().numpy(), _logits(session, texts, pairs, patches), names
    ).assign(text_end=-1 - behind if behind else 0)


def _logits(session: Session, texts: Sequence[str], pairs: Sequence[TextPair], patches: Sequence[Patch]) -> np.ndarray:
    model, span = session.model, max(p.span for p in patches)
    targets = [texts[pair.target] for pair in pairs]
    sources = [texts[pair.source] for pair in pairs]
    found = np.zeros((len(pairs), len(patches), len(session.labels)))
    for k, chunk in enumerate(session.progress(session.chunks(targets), "patches", "batch")):

        def read(chunk: list[int] = chunk) -> dict[str, np.ndarray]:
            room = int(session.answers.offsets.max())
            own, theirs = (
                prompt_ends(model, model.encode(session.prompts([texts[i] for i in chunk]), room=room), span)
                for texts in (targets, sources)
            )
            captured = session.captured([targets[i] for i in chunk])
            return {"logits": patched_answers(model, captured, own, theirs, patches).float().cpu().numpy()}

        found[chunk] = session.units(COMMAND).arrays(f"patches {k:05d}", read)["logits"]
    return found


def _behind_text(session: Session, texts: Sequence[str], n_tokens: Sequence[int]) -> int:
    """Tokens that stand behind the text in every prompt; 0 where prompts differ in that."""
    found = {
        n - 1 - max((t for span in spans for t in span.tokens), default=n - 1)
        for spans, n in zip(session.word_spans(texts), n_tokens, strict=True)
    }
    return found.pop() if len(found) == 1 else 0
