"""One reliability run: prompts, answers, scores and their files."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from interp.defaults import RESAMPLES
from interp.engine.suffix import ResidualEdit
from interp.errors import UserError
from interp.files.folder import RunFolder, claimed, fingerprint, write_json, write_table
from interp.files.jsonable import jsonable
from interp.models.language_model import LanguageModel
from interp.steering.positions import Positions
from interp.surveys.draw import drawn
from interp.surveys.folder import refuse_other_answers
from interp.surveys.reliability.answering import answer, chat, generated_answer
from interp.surveys.reliability.collecting import LOG, Answerer, collect, emotion_table, questionnaire_table
from interp.surveys.reliability.emotion_scoring import EmotionReliability, score_emotions
from interp.surveys.reliability.emotion_variations import emotion_variations, expand_emotions, label_orders
from interp.surveys.reliability.logged import read_prompts
from interp.surveys.reliability.options import ReliabilityOptions, label_set
from interp.surveys.reliability.pairing import ABOUT, REFERENCE
from interp.surveys.reliability.questionnaires import BUNDLED, load_questionnaire
from interp.surveys.reliability.scoring import Reliability, score
from interp.surveys.reliability.steered import write_changes
from interp.surveys.reliability.variations import FACTORS, VariedPrompt, expand, one_at_a_time, resolve_personas
from interp.surveys.steered_twin import SteeredTwin, steered_twin
from interp.texts.emotions import EKMAN
from interp.texts.examples import Example, load_corpus
from interp.texts.problems import Problems


@dataclass(frozen=True)
class Questions:
    """A questionnaire turned into prompts."""

    name: str
    asked: Sequence[VariedPrompt]
    problems: Problems = field(default_factory=Problems)


@dataclass(frozen=True)
class Emotions:
    """Emotion prompts over the orders of a label set."""

    name: str
    asked: Sequence[VariedPrompt]
    labels: Sequence[str]
    orders: Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class ReliabilityRun:
    """What a run found, and where its files lie."""

    folder: Path
    questionnaire: Reliability | None
    emotions: EmotionReliability | None
    whole_answers: int
    """Prompts whose options the tokenizer cannot tell apart by their first token."""
    cut: int
    """Prompts whose text was cut to fit the context."""
    changes: pd.DataFrame | None = None
    """measure, before, after, change, ci_low, ci_high, n: of the steered model, where it was asked as well."""
    state: str = "unsteered"
    """What the steering that made the changes is, in words."""

    def as_dict(self) -> dict[str, Any]:
        """The questionnaire's shares at the top level, as `interp reliability score --json` prints them."""
        changes = {} if self.changes is None else self.changes.set_index("measure").to_dict("index")
        return {
            **(self.questionnaire.as_dict() if self.questionnaire else {}),
            **({"emotions": self.emotions.as_dict()} if self.emotions else {}),
            "whole_answers": self.whole_answers,
            "cut": self.cut,
            "folder": str(self.folder),
            **({"steered": jsonable(changes)} if changes else {}),
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
        asked = [VariedPrompt(r["text"], r["options"], {c: r[c] for c in columns}) for r in table.to_dict("records")]
        name = Path(path).stem
    else:
        questionnaire = load_questionnaire(path)
        name, problems = questionnaire.name, questionnaire.problems
        asked = list(expand(questionnaire.items, one_at_a_time(factors, personas), personas))
    return Questions(name, drawn(asked, limit, seed, lambda a: a.facts["question"]), problems)


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
    resamples: int = RESAMPLES
    seed: int = 0
    state: str = "unsteered"
    """What `around` does to the model, in a word; runs of different states do not mix in one folder."""
    around: Callable[[], AbstractContextManager[Any]] = field(default=nullcontext)
    """Entered around the model's answers, for instance `lambda: steering.applied(model, saes)`."""
    edits: Mapping[int, ResidualEdit] | None = None
    """What replaces residuals, by layer: `steering.edits(saes)`."""
    positions: Positions = "answer"
    """Where the edits act: at the answer position, or also at the tokens of the answer (`generated`)."""

    def steered(self, twin: SteeredTwin) -> "Settings":
        """The same under a saved steering, at the positions that it was saved with."""
        if self.generate or twin.steering.positions == "all":
            return replace(self, state=twin.state, around=twin.answering)
        return replace(self, state=twin.state, edits=twin.edits, positions=twin.steering.positions)


def run_reliability(options: ReliabilityOptions) -> ReliabilityRun:
    """Everything that the options ask for, in one folder; of the steered model, in `steered` within it.

    Raises:
        UserError: anything about options, files or model that the user can mend.
    """
    personas = resolve_personas(options.persona or [])
    asked = emotional = None
    if options.questionnaire is not None or options.emotions is None:
        source = None if options.questionnaire in (None, BUNDLED) else options.questionnaire
        factors = options.variations or FACTORS
        asked = questions(source, factors=factors, personas=personas, limit=options.limit, seed=options.seed)
        asked.problems.warn()
    if options.emotions is not None:
        names = label_set(options.labels)
        where: dict[str, Any] = {"split": options.split, "path": options.emotions_path}
        texts = load_corpus(options.emotions, **where, labels=names, limit=options.limit, seed=options.seed)
        emotional = emotions(options.emotions, texts, names, seed=options.seed)
    model = options.load(None if options.chat == "auto" else options.chat == "true")
    settings = Settings(generate=options.generate, resamples=options.resamples, seed=options.seed)
    twin = None if options.steering is None else steered_twin(options.steering, lambda: model)
    folder = options.out or Path("runs") / f"reliability-{Path(options.model).name}"
    plain = run(model, folder, asked=asked, emotional=emotional, settings=settings)
    if twin is None:
        return plain
    steered = run(model, folder / "steered", asked=asked, emotional=emotional, settings=settings.steered(twin))
    changes = write_changes(plain.folder, steered.folder, resamples=options.resamples, seed=options.seed)
    return replace(plain, changes=changes, state=twin.state)


def run(
    model: LanguageModel,
    out: Path,
    *,
    asked: Questions | None = None,
    emotional: Emotions | None = None,
    settings: Settings | None = None,
) -> ReliabilityRun:
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
        return _run(model, out, asked, emotional, settings)


def _run(
    model: LanguageModel, out: Path, asked: Questions | None, emotional: Emotions | None, settings: Settings
) -> ReliabilityRun:
    folder = _open(out, model, settings)
    answerer: Answerer = lambda some: answer(model, some, edits=settings.edits, positions=settings.positions)  # noqa: E731
    if settings.generate:
        write = chat(model)
        answerer = lambda some: generated_answer(write, some)  # noqa: E731
    options = {"resamples": settings.resamples, "seed": settings.seed}
    tables: dict[str, pd.DataFrame] = {}
    found: Reliability | None = None
    recognised: EmotionReliability | None = None
    if asked is not None:
        rows = collect(asked.asked, answerer, folder / LOG, around=settings.around)
        tables["answers"] = questionnaire_table(asked.asked, rows)
        found = score(tables["answers"], problems=asked.problems, **options)
    if emotional is not None:
        rows = collect(emotional.asked, answerer, folder / LOG, around=settings.around)
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
    whole, cut = (everything["method"] == "whole answer").sum(), (everything["cut"] > 0).sum()
    done = ReliabilityRun(out, found, recognised, int(whole), int(cut))
    write_json(folder / "scores.json", {k: v for k, v in done.as_dict().items() if k != "folder"})
    folder.note(
        chat=model.chat,
        questionnaire=asked.name if asked else None,
        corpus=emotional.name if emotional else None,
        **options,
    )
    return done


def _open(out: Path, model: LanguageModel, settings: Settings) -> RunFolder:
    """The folder of a run, new or begun before by the same model in the same state."""
    made_by = {
        "model": model.name,
        "identity": model.identity,
        "dtype": str(model.dtype).removeprefix("torch."),
        "state": settings.state,
        "answers": "generated" if settings.generate else "probabilities",
        **({"chat": True, "frame": fingerprint(model.frame)} if model.chat else {}),
    }
    folder = RunFolder.open(out, "reliability")
    refuse_other_answers(out, folder.record.get("made_by", made_by), made_by)
    folder.note(name="reliability", made_by=made_by)
    return folder


def _tidy(found: Reliability | None, recognised: EmotionReliability | None) -> pd.DataFrame:
    """Columns part (questionnaire | emotions), level, name, measure, and the fields of `Share`."""
    parts = []
    if found is not None:
        parts.append(found.items.assign(part="questionnaire"))
    if recognised is not None:
        overall = [{"level": "all", "name": "all", "measure": m, **s.as_dict()} for m, s in recognised.measures.items()]
        parts.append(pd.concat([pd.DataFrame(overall), recognised.items]).assign(part="emotions"))
    return pd.concat(parts, ignore_index=True)
