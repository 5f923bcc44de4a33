"""Asking a model about segments: an answer a line, written as soon as it is there, so that nothing is asked twice."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from interp.engine.capture import batches
from interp.errors import DamagedError, UserError, quoted
from interp.files.folder import LOCK, fingerprint, read_json, write_json, writing
from interp.models.language_model import LanguageModel
from interp.surveys.express.choosing import Continuation, Trees, ending_tokens
from interp.surveys.express.generating import generate
from interp.surveys.express.parsing import format_answer
from interp.surveys.express.prompting import Style, build_prompt, choose_shots, fit
from interp.surveys.express.segments import Segment, as_record
from interp.texts.examples import stable_share
from interp.texts.prompts import Prompt, answer_text

TOKENS_PER_MASK, TOKENS_OF_REASONING = 12, 256
TOKENS_PER_BATCH = 4096
TOP = 5
MARKER = "Answer:"

Around = Callable[[LanguageModel], AbstractContextManager]
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
        if self.style.mode not in ("open", "choose"):
            raise UserError(f"--mode must be open or choose; got {self.style.mode!r}.")
        if self.style.mode == "choose" and self.style.chain_of_thought:
            raise UserError("--chain-of-thought needs --mode open: words that are scored leave no room for reasoning.")
        if self.style.mode == "choose" and not self.words:
            raise UserError("--mode choose needs words to choose from; the list is empty.")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"--limit must be at least 1; got {self.limit}.")


@dataclass(frozen=True)
class Asked:
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
    around: Around | None = None,
    show_progress: bool = False,
) -> Asked:
    """Answers for all segments asked about, in `out/answers.csv` (the authors' columns) when all are there.

    Each answer is a line of `out/answers.jsonl` at once; the same call goes on with those that are missing. Solved
    examples are drawn from the segments, and their posts are not asked about.

    Raises:
        UserError: `out` holds answers to another question; too few segments; a prompt that does not fit the context.
    """
    shots = choose_shots(segments, question.shots, question.seed)
    asked = _drawn([s for s in segments if s.post not in {shot.post for shot in shots}], question)
    _claim(out, model, segments, question)
    log = out / "answers.jsonl"
    known = {s.id for s in asked}
    done = {record["index"]: record for record in _finished(log) if record["index"] in known}
    resumed = len(done)
    todo = [s for s in asked if s.id not in done]
    with log.open("a", encoding="utf-8") as file, around(model) if around else nullcontext():
        bar = tqdm(
            total=len(asked),
            initial=resumed,
            desc="  asking",
            unit="segment",
            leave=False,
            delay=1,
            dynamic_ncols=True,
            disable=not show_progress,
        )
        for record in _answers(model, todo, shots, question):
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            file.flush()
            done[record["index"]] = record
            bar.update()
        bar.close()
    table = pd.DataFrame([as_record(s) | _columns(done[s.id]) for s in asked])
    with writing(out / "answers.csv") as part:
        table.to_csv(part, index=False)
    return Asked(out / "answers.csv", len(todo), resumed, int((table["tokens_cut"] > 0).sum()))


def _drawn(segments: Sequence[Segment], question: Question) -> list[Segment]:
    """At most `limit` segments, in file order; seed and id alone say which."""
    if question.limit is None or question.limit >= len(segments):
        return list(segments)
    ranked = sorted(range(len(segments)), key=lambda i: stable_share(f"{question.seed}/{segments[i].id}"))
    return [segments[i] for i in sorted(ranked[: question.limit])]


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
    lengths = [len(model.ids(prompt, chat=style.chat)) for prompt, _ in fitted]
    marker = MARKER if style.chain_of_thought else ""
    for batch in batches([n + room for n, room in zip(lengths, most, strict=True)], TOKENS_PER_BATCH):
        prompts = [fitted[i][0] for i in batch]
        written = generate(model, prompts, most_tokens=[most[i] for i in batch], marker=marker, chat=style.chat)
        for i, text in zip(batch, written, strict=True):
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
    record = out / "express.json"
    if record.exists():
        earlier = read_json(record)
        if not isinstance(earlier, dict):
            raise DamagedError(record, "no record of a run", f"remove {out} or choose another --out.")
        # Another limit asks about more or fewer of the same segments: the answers there still hold.
        changed = [key for key in facts if key != "limit" and earlier.get(key) != facts[key]]
        if changed:
            raise UserError(
                f"{out} holds answers with {changed[0].replace('_', ' ')} {quoted(earlier.get(changed[0]))}, not"
                f" {quoted(facts[changed[0]])}; choose another --out."
            )
    elif out.exists() and any(child.name != LOCK for child in out.iterdir()):
        raise UserError(f"{out} holds files but no express.json; choose another --out.")
    write_json(record, facts)


def _finished(log: Path) -> list[dict[str, Any]]:
    """Answers of earlier calls; a line that was cut short is dropped.

    Raises:
        DamagedError: a line that is no answer.
    """
    if not log.exists():
        return []
    whole = log.read_bytes()
    kept = whole[: whole.rfind(b"\n") + 1]
    if kept != whole:
        log.write_bytes(kept)
    found = []
    for number, line in enumerate(kept.split(b"\n"), 1):
        try:
            record = json.loads(line) if line else None
        except (ValueError, RecursionError):
            record = {}
        if record is not None:
            if not isinstance(record, dict) or not {"index", "output", "tokens_cut"} <= set(record):
                raise DamagedError(log, f"line {number} is no answer", "remove the line, or choose another --out.")
            found.append(record)
    return found


def _columns(record: dict[str, Any]) -> dict[str, Any]:
    return {key: json.dumps(value) if key == "top" else value for key, value in record.items() if key != "index"}
