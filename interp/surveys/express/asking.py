"""Asking a model about segments: an answer a line, written as soon as it is there, so that nothing is asked twice."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from interp.engine.capture import batches
from interp.engine.words import Continuation, Trees, ending_tokens
from interp.errors import DamagedError, UserError
from interp.files.folder import LOCK, fingerprint, read_json, write_json, writing
from interp.models.language_model import LanguageModel
from interp.reporting import counted
from interp.surveys.answer_log import appending, read_log
from interp.surveys.draw import drawn
from interp.surveys.express.answers import RECORD
from interp.surveys.express.parsing import format_answer
from interp.surveys.express.prompting import Style, build_prompt, choose_shots, fit
from interp.surveys.express.segments import Segment, as_record
from interp.surveys.folder import refuse_other_answers
from interp.surveys.generating import ListClosed, replies
from interp.texts.prompts import Prompt, answer_text

TOKENS_PER_MASK, TOKENS_OF_REASONING = 12, 256
TOKENS_PER_BATCH = 4096
TOP = 5
MARKER = "Answer:"

Around = Callable[[LanguageModel], AbstractContextManager[Any]]
"""What holds while the model is asked: a steering's `applied`, for example."""


@dataclass(frozen=True)
class Question:
    """What decides a run's answers, the model apart.

    Attributes:
        limit: at most this many segments, drawn with `seed`.
        words: the list to choose from, for mode `choose`.
        variant: a name for what is done to the model meanwhile (`around`), such as a steering's identity.
    """

    style: Style
    shots: int = 0
    limit: int | None = None
    seed: int = 0
    words: tuple[str, ...] = ()
    variant: str = ""

    def __post_init__(self) -> None:
        if self.style.mode == "choose" and self.style.chain_of_thought:
            raise UserError("--chain-of-thought needs --mode open: words that are scored leave no room for reasoning.")
        if self.style.mode == "choose" and not self.words:
            raise UserError("--mode choose needs words to choose from; the list is empty.")


@dataclass(frozen=True)
class AnswerFile:
    """Where the answers are, and how many were new, found from before, or given without the whole text."""

    answers: Path
    new: int
    resumed: int
    cut: int


def ask(
    model: LanguageModel,
    segments: Sequence[Segment],
    question: Question,
    out: Path,
    *,
    around: Around = lambda model: nullcontext(),
) -> AnswerFile:
    """Answers for all segments asked about, in `out/answers.csv` (the authors' columns) when all are there.

    Each answer is a line of `out/answers.jsonl` at once; the same call goes on with those that are missing. Solved
    examples are drawn from the segments, and their posts are not asked about.

    Raises:
        UserError: `out` holds answers to another question; too few segments; a prompt that does not fit the context.
    """
    shots = choose_shots(segments, question.shots, question.seed)
    solved = {shot.post for shot in shots}
    asked = drawn([s for s in segments if s.post not in solved], question.limit, question.seed, lambda s: s.id)
    _claim(out, model, segments, question)
    log, ids = out / "answers.jsonl", {s.id for s in asked}
    answered = {record["index"]: record for record in read_log(log, _answer) if record["index"] in ids}
    todo, resumed = [s for s in asked if s.id not in answered], len(answered)
    with appending(log) as add, around(model):
        new = _answers(model, todo, shots, question)
        for record in counted(new, "asking", "segment", total=len(asked), done=resumed):
            add(record)
            answered[record["index"]] = record
    table = pd.DataFrame([as_record(s) | _columns(answered[s.id]) for s in asked])
    with writing(out / "answers.csv") as part:
        table.to_csv(part, index=False)
    return AnswerFile(out / "answers.csv", len(todo), resumed, int((table["tokens_cut"] > 0).sum()))


def _answers(
    model: LanguageModel, segments: Sequence[Segment], shots: Sequence[Segment], question: Question
) -> Iterator[dict[str, Any]]:
    style = question.style
    most = [_room(segment, style) for segment in segments]
    fitted = [
        fit(model, build_prompt(s, shots, style), room, chat=style.chat) for s, room in zip(segments, most, strict=True)
    ]
    if style.mode == "choose":
        yield from _choose(model, segments, [f for f, _ in fitted], [cut for _, cut in fitted], question)
        return
    encoded = [model.encode([p], room=n, chat=style.chat)[0] for (p, _), n in zip(fitted, most, strict=True)]
    marker = MARKER if style.chain_of_thought else ""
    for batch in batches([len(e.ids) + n for e, n in zip(encoded, most, strict=True)], TOKENS_PER_BATCH):
        prompts, room = model.pad([encoded[i] for i in batch]), [most[i] for i in batch]
        stop = ListClosed(model, prompts.ids.shape[1], room, marker)
        for i, reply in zip(batch, replies(model, prompts, most_tokens=max(room), stopping=[stop]), strict=True):
            text = reply.strip()
            reasoning, _, answer = text.rpartition(MARKER) if style.chain_of_thought else ("", "", text)
            yield {
                "index": segments[i].id,
                "output": style.opening + (answer.strip() if style.chain_of_thought else answer),
                "reasoning": reasoning.strip(),
                "tokens_cut": fitted[i][1],
            }


def _choose(
    model: LanguageModel, segments: Sequence[Segment], prompts: Sequence[Prompt], cut: Sequence[int], question: Question
) -> Iterator[dict[str, Any]]:
    """The most probable word for each mask, given those chosen before it."""
    chat = question.style.chat
    trees = Trees(model, question.words)
    ends = ending_tokens(model)
    for segment, prompt, n_cut in zip(segments, prompts, cut, strict=True):
        shown = str(model.framed(prompt, chat=chat))
        there = Continuation(
            model, model.pad(model.encode([prompt], room=_room(segment, question.style), chat=chat)), shown
        )
        chosen, top, lead = [], [], answer_text("", shown)
        for mask in range(len(segment.labels)):
            scores = there.score(trees.behind(there.text, lead), ends)
            values, best = scores.topk(min(TOP, len(scores)))
            top.append([[question.words[i], round(v, 4)] for i, v in zip(best.tolist(), values.tolist(), strict=True)])
            chosen.append(question.words[int(best[0])])
            if mask + 1 < len(segment.labels):
                there.go_on(f"{lead}{chosen[-1]},")
                lead = " "
        yield {"index": segment.id, "output": format_answer(chosen), "top": top, "tokens_cut": n_cut}


def _room(segment: Segment, style: Style) -> int:
    """Tokens to be generated at most."""
    return TOKENS_PER_MASK * (1 + len(segment.labels)) + (TOKENS_OF_REASONING if style.chain_of_thought else 0)


def _claim(out: Path, model: LanguageModel, segments: Sequence[Segment], question: Question) -> None:
    """Writes down what the folder's answers answer, or refuses a folder that holds something else."""
    facts = {
        "model": model.name,
        "model_identity": model.identity,
        "dtype": str(model.dtype).removeprefix("torch."),
        "segments": len(segments),
        "segments_identity": fingerprint([as_record(s) for s in segments]),
        **asdict(question.style),
        **({"frame": fingerprint(model.tokenization.frame())} if question.style.chat else {}),
        **{key: value for key, value in asdict(question).items() if key not in ("style", "words")},
        "words": len(question.words),
        "words_identity": fingerprint(question.words),
    }
    if (out / RECORD).exists():
        before = read_json(out / RECORD)
        if not isinstance(before, dict):
            raise DamagedError(out / RECORD, "no record of a run", f"remove {out} or choose another --out.")
        # Another limit asks about more or fewer of the same segments: the answers there still hold.
        refuse_other_answers(out, before, facts, free={"limit"})
    elif out.exists() and any(child.name != LOCK for child in out.iterdir()):
        raise UserError(f"{out} holds files but no {RECORD}; choose another --out.")
    write_json(out / RECORD, facts)


def _answer(record: dict[str, Any]) -> dict[str, Any]:
    """A line of the log; a `LookupError` or `TypeError` where it is no answer."""
    _ = record["index"], record["output"], record["tokens_cut"]
    return record


def _columns(record: dict[str, Any]) -> dict[str, Any]:
    return {key: json.dumps(value) if key == "top" else value for key, value in record.items() if key != "index"}
