"""One reliability run: prompts, answers, scores and their files."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from interp.engine.ablation import ResidualEdit
from interp.errors import UserError
from interp.files.folder import claimed, fingerprint, write_json, write_table
from interp.models.language_model import LanguageModel
from interp.reporting import Progress, silent
from interp.surveys.reliability.answering import Positions, answer, chat, generated_answer
from interp.surveys.reliability.collecting import (
    LOG,
    Answerer,
    collect,
    emotion_table,
    open_folder,
    questionnaire_table,
)
from interp.surveys.reliability.emotion_scoring import EmotionReliability, score_emotions
from interp.surveys.reliability.emotion_variations import emotion_variations, expand_emotions, label_orders
from interp.surveys.reliability.logged import read_prompts
from interp.surveys.reliability.pairing import ABOUT, REFERENCE
from interp.surveys.reliability.problems import Problem
from interp.surveys.reliability.questionnaires import load_questionnaire
from interp.surveys.reliability.scoring import Reliability, score
from interp.surveys.reliability.variations import FACTORS, Asked, expand, one_at_a_time
from interp.texts.emotions import EKMAN
from interp.texts.examples import Example, stable_share


@dataclass(frozen=True)
class Questions:
    """A questionnaire turned into prompts."""

    name: str
    asked: Sequence[Asked]
    problems: Sequence[Problem] = ()


@dataclass(frozen=True)
class Emotions:
    """Emotion prompts over the orders of a label set."""

    name: str
    asked: Sequence[Asked]
    labels: Sequence[str]
    orders: Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Outcome:
    """What a run found, and where its files lie."""

    folder: Path
    questionnaire: Reliability | None
    emotions: EmotionReliability | None
    whole_answers: int
    """Prompts whose options the tokenizer cannot tell apart by their first token."""
    cut: int
    """Prompts whose text was cut to fit the context."""

    def as_dict(self) -> dict[str, Any]:
        """The questionnaire's shares at the top level, as `interp reliability score --json` prints them."""
        return {
            **(self.questionnaire.as_dict() if self.questionnaire else {}),
            **({"emotions": self.emotions.as_dict()} if self.emotions else {}),
            "whole_answers": self.whole_answers,
            "cut": self.cut,
            "folder": str(self.folder),
        }


def questions(
    path: str | Path | None = None,
    *,
    factors: Sequence[str] = FACTORS,
    personas: Mapping[str, str] | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Questions:
    """Prompts of the bundled questionnaire, of a table of statements, or of a JSON of ready prompts as they are.

    Args:
        path: a `.json` holds prompts as Model-Personas released them; everything else is a questionnaire.
        factors: variations to make, of `variations.FACTORS`.
        limit: at most this many questions, drawn with `seed`.
    """
    if path is not None and Path(path).suffix == ".json":
        table, problems = read_prompts(Path(path))
        columns = [*ABOUT, "valence", *REFERENCE]
        asked = [Asked(r["text"], r["options"], {c: r[c] for c in columns}) for r in table.to_dict("records")]
        name = Path(path).stem
    else:
        questionnaire = load_questionnaire(path)
        name, problems = questionnaire.name, list(questionnaire.problems)
        asked = list(expand(questionnaire.items, one_at_a_time(factors, personas), personas))
    return Questions(name, _drawn(asked, limit, seed), problems)


def emotions(name: str, examples: Sequence[Example], labels: Sequence[str] = EKMAN, *, seed: int = 0) -> Emotions:
    """Emotion prompts of labelled texts under every variation; permutations of the labels are drawn with `seed`."""
    orders = label_orders(len(labels), seed=seed)
    asked = list(expand_emotions(examples, labels, emotion_variations(orders), orders))
    return Emotions(name, asked, labels, orders)


@dataclass(frozen=True)
class Settings:
    """How prompts are answered and scored."""

    generate: bool = False
    """Read answers from generated text, for models that only chat."""
    resamples: int = 1000
    seed: int = 0
    state: str = "unsteered"
    """What `around` does to the model, in a word; runs of different states do not mix in one folder."""
    around: Callable[[], AbstractContextManager] = field(default=nullcontext)
    """Entered around the model's answers, for instance `lambda: steering.applied(model, saes)`."""
    edits: Mapping[int, ResidualEdit] | None = None
    """What replaces residuals, by layer: `steering.edits(saes)`."""
    positions: Positions = "answer"
    """Where the edits act: at the answer position, or also at the tokens of the answer (`generated`)."""


def run(
    model: LanguageModel,
    out: Path,
    *,
    asked: Questions | None = None,
    emotional: Emotions | None = None,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Answers, scores and their files; rows that `out` already holds are not asked again.

    Writes rows.jsonl (as it goes), answers.parquet and emotion_answers.parquet (tidy, one row per prompt),
    scores.parquet (tidy, one row per measure and group), scores.json and run.json.

    Raises:
        UserError: nothing to ask, or `out` holds something else.
    """
    settings = settings or Settings()
    if asked is None and emotional is None:
        raise UserError("Nothing to ask: give a questionnaire, or a corpus for --emotions.")
    with claimed(out):
        return _run(model, out, asked, emotional, settings, progress)


def _run(
    model: LanguageModel,
    out: Path,
    asked: Questions | None,
    emotional: Emotions | None,
    settings: Settings,
    progress: Progress,
) -> Outcome:
    folder = open_folder(
        out,
        {
            "model": model.name,
            "identity": model.identity,
            "dtype": str(model.dtype).removeprefix("torch."),
            "state": settings.state,
            "answers": "generated" if settings.generate else "probabilities",
            **({"chat": True, "frame": fingerprint(model.frame)} if model.chat else {}),
        },
    )
    answerer: Answerer = lambda some: answer(model, some, edits=settings.edits, positions=settings.positions)  # noqa: E731
    if settings.generate:
        write = chat(model)
        answerer = lambda some: generated_answer(write, some)  # noqa: E731
    options = {"resamples": settings.resamples, "seed": settings.seed}
    tables: dict[str, pd.DataFrame] = {}
    found: Reliability | None = None
    recognised: EmotionReliability | None = None
    if asked is not None:
        rows = collect(asked.asked, answerer, folder / LOG, around=settings.around, progress=progress)
        tables["answers"] = questionnaire_table(asked.asked, rows)
        found = score(tables["answers"], problems=asked.problems, **options)
    if emotional is not None:
        rows = collect(emotional.asked, answerer, folder / LOG, around=settings.around, progress=progress)
        tables["emotion_answers"] = emotion_table(emotional.asked, rows, emotional.labels)
        recognised = score_emotions(tables["emotion_answers"], emotional.labels, emotional.orders, **options)
    for name in ("answers", "emotion_answers"):
        path = folder / f"{name}.parquet"
        if name in tables:
            write_table(path, tables[name])
        else:  # of an earlier run with other questions; its rows stay in the log
            path.unlink(missing_ok=True)
    write_table(folder / "scores.parquet", _tidy(found, recognised))
    everything = pd.concat(tables.values())
    outcome = Outcome(
        out, found, recognised, int((everything["method"] == "whole answer").sum()), int((everything["cut"] > 0).sum())
    )
    write_json(folder / "scores.json", {k: v for k, v in outcome.as_dict().items() if k != "folder"})
    folder.note(
        chat=model.chat,
        questionnaire=asked.name if asked else None,
        corpus=emotional.name if emotional else None,
        **options,
    )
    return outcome


def _tidy(found: Reliability | None, recognised: EmotionReliability | None) -> pd.DataFrame:
    """Columns part (questionnaire | emotions), level, name, measure, and the fields of `Share`."""
    parts = []
    if found is not None:
        parts.append(found.items.assign(part="questionnaire"))
    if recognised is not None:
        overall = [{"level": "all", "name": "all", "measure": m, **s.as_dict()} for m, s in recognised.measures.items()]
        parts.append(pd.concat([pd.DataFrame(overall), recognised.items]).assign(part="emotions"))
    return pd.concat(parts, ignore_index=True)


def _drawn(asked: Sequence[Asked], limit: int | None, seed: int) -> Sequence[Asked]:
    if limit is None:
        return asked
    if limit < 1:
        raise UserError(f"limit must be at least 1; got {limit}.")
    every = dict.fromkeys(a.facts["question"] for a in asked)
    chosen = set(sorted(every, key=lambda q: stable_share(f"{seed}/{q}"))[:limit])
    return [a for a in asked if a.facts["question"] in chosen]
