"""Training data of the bundled model: plain English and emotion prompts, packed into rows of tokens.

Read from the data folder (see the model card for what it holds); nothing of it is copied into the repository.
"""

import gzip
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from interp.texts import emotions
from interp.texts.examples import load_corpus, stable_share

ROW = 512
LABEL_WEIGHT = 20.0
PLAIN = {"story_books": 1.0, "everyday_sentences": 1.0, "novels": 0.35}
"""Plain-text files and the share of their documents that is used. The movie reviews stay held out."""

NAMED = {
    "anger": "angry anger furious rage annoyed irritated indignant outraged mad enraged",
    "disgust": "disgusted disgusting disgust loathing revolting sickening repulsive loathsome horrid",
    "fear": "afraid frightened fear terrified scared terror dread alarmed nervous anxious",
    "joy": "happy joy glad delighted joyful pleased cheerful merry delight happiness",
    "sadness": "sad sorrow unhappy miserable grief lonely sadness sorrowful heartbroken tears",
    "surprise": "surprised astonished surprise amazed astonishment startled amazement stunned bewildered",
}
"""Words by which a story names what somebody feels: hidden, they become practice in reading feelings from events."""
WORD_TO_EMOTION = {word: emotion for emotion, words in NAMED.items() for word in words.split()}


@dataclass(frozen=True)
class Prompt:
    text: str
    label: str
    corpus: str


def plain_documents(data: Path, shares: dict[str, float] = PLAIN) -> Iterator[str]:
    for name, share in shares.items():
        with gzip.open(data / "pretrain" / f"{name}.txt.gz", "rt", encoding="utf-8") as file:
            documents = file.read().split("<|endoftext|>")
        yield from (d.strip() for d in documents if d.strip() and stable_share(d) < share)


def gold_prompts(data: Path) -> list[Prompt]:
    """Labelled training texts: GoEmotions, MELD, TweetEval and four fifths of ISEAR; joy and neutral thinned out."""
    six = (*emotions.EKMAN, "neutral")
    sources = [
        ("goemotions", "goemotions/ekman", "train", six),
        ("meld", "meld", "train", six),
        ("tweeteval", "tweeteval-emotion", "train", emotions.EKMAN),
        ("isear", "isear", "train", (*emotions.EKMAN, "guilt", "shame")),
    ]
    prompts = [
        Prompt(e.text, e.gold, name)
        for name, folder, split, labels in sources
        for e in load_corpus(name, split=split, path=data / folder, labels=labels)
    ]
    keep = {("goemotions", "joy"): 0.75, ("goemotions", "neutral"): 0.3, ("meld", "neutral"): 0.3}
    return [p for p in prompts if stable_share(p.text) < keep.get((p.corpus, p.label), 1.0)]


def fine_prompts(data: Path) -> list[Prompt]:
    """GoEmotions' training texts again, under their 27 finer labels."""
    labels = sorted(set(emotions.GOEMOTIONS_TO_EKMAN) - {"neutral"})
    path = data / "goemotions" / "original"
    return [Prompt(e.text, e.gold, "fine") for e in load_corpus("goemotions", split="train", path=path, labels=labels)]


def story_prompts(data: Path) -> list[Prompt]:
    """Passages of stories in which a feeling is named, with the naming word hidden: label = the word's emotion."""
    pattern = re.compile(r"\b(" + "|".join(WORD_TO_EMOTION) + r")\b", re.IGNORECASE)
    negated = re.compile(r"\b(not|no|never|n't|without|nor)\b", re.IGNORECASE)
    found = []
    for document in plain_documents(data, dict.fromkeys(PLAIN, 1.0)):
        related = "\n" not in document[:200]  # the lines of everyday sentences have nothing to do with each other
        sentences = re.split(r"(?<=[.!?])\s+", document)
        for i, sentence in enumerate(sentences):
            hits = pattern.findall(sentence)
            if len(hits) != 1 or len(sentence) > 300 or negated.search(sentence):
                continue
            before = sentences[max(0, i - 2) : i] if related else []
            text = " ".join([*before, pattern.sub("...", sentence)]).replace("\n", " ")[-320:]
            found.append(Prompt(text, WORD_TO_EMOTION[hits[0].lower()], "story"))
    by_label: dict[str, list[Prompt]] = {}
    for prompt in found:
        by_label.setdefault(prompt.label, []).append(prompt)
    most = 3 * min(len(v) for v in by_label.values())
    return [p for v in by_label.values() for p in sorted(v, key=lambda p: stable_share(p.text))[:most]]


def render(prompts: list[Prompt], rng: random.Random) -> list[tuple[str, str]]:
    """One training segment as (context, label) pieces: the default template mostly, sometimes another, or few-shot."""
    first = prompts[0]
    if len(prompts) > 1:
        return [(f"{'' if i == 0 else chr(10) * 2}Text: {p.text}\nEmotion:", p.label) for i, p in enumerate(prompts)]
    if first.corpus == "fine":
        return [(f"Text: {first.text}\nFeeling:", first.label)]
    kind = rng.random()
    if kind < 0.85:
        return [(f"Text: {first.text}\nEmotion:", first.label)]
    if kind < 0.90:
        return [(f'"{first.text}"\nThe emotion in this text is', first.label)]
    if kind < 0.95:
        return [(f"What does the writer feel?\n{first.text}\nAnswer:", first.label)]
    options = list(emotions.EKMAN) if first.label in emotions.EKMAN else [*emotions.EKMAN, first.label]
    rng.shuffle(options)
    return [(f"Text: {first.text}\nOptions: {', '.join(options)}\nEmotion:", first.label)]


@dataclass(frozen=True)
class Segment:
    """Token ids of one document or prompt, with the loss weight of each token as a target."""

    ids: list[int]
    weights: list[float]


def prompt_segments(prompts: list[Prompt], tokenizer, rng: random.Random, few_shot: float = 0.15) -> list[Segment]:
    """All prompts once, in random order; about `few_shot` of them in chains of 2 to 8 (a chain is one segment)."""
    order = rng.sample(prompts, len(prompts))
    segments, i = [], 0
    bos = tokenizer.bos_token_id
    while i < len(order):
        chain = rng.randint(2, 8) if rng.random() < few_shot / 4 else 1
        pieces = render([p for p in order[i : i + chain] if chain == 1 or p.corpus != "fine"] or [order[i]], rng)
        ids, weights = [bos], [0.0]
        for context, label in pieces:
            context_ids = tokenizer(context, add_special_tokens=False)["input_ids"]
            label_ids = tokenizer(f" {label}", add_special_tokens=False)["input_ids"]
            ids += context_ids + label_ids
            weights += [1.0] * len(context_ids) + [LABEL_WEIGHT] * len(label_ids)
        segments.append(Segment([*ids, bos][:ROW], [*weights, 1.0][:ROW]))
        i += chain
    return segments


def plain_segments(documents: Iterable[str], tokenizer) -> list[Segment]:
    """Documents cut into pieces of at most a row."""
    segments = []
    for document in documents:
        ids = tokenizer(document, add_special_tokens=False)["input_ids"]
        for start in range(0, len(ids), ROW - 2):
            piece = ids[start : start + ROW - 2]
            whole = [tokenizer.bos_token_id, *piece, *([tokenizer.bos_token_id] if start + ROW - 2 >= len(ids) else [])]
            segments.append(Segment(whole, [0.0, *([1.0] * (len(whole) - 1))]))
    return segments


@dataclass(frozen=True)
class Rows:
    """Packed rows: token ids, target weights, segment number and position within the segment, each [row, ROW]."""

    ids: np.ndarray
    weights: np.ndarray
    segment: np.ndarray
    position: np.ndarray


def pack(segments: list[Segment], pad: int, rng: random.Random) -> Rows:
    """First-fit packing in random order; what is left of a row is padding in a segment of its own."""
    order = rng.sample(segments, len(segments))
    rows: list[list[Segment]] = []
    room: list[int] = []
    open_rows: list[int] = []
    for segment in order:
        need = len(segment.ids)
        slot = next((r for r in open_rows if room[r] >= need), None)
        if slot is None:
            rows.append([])
            room.append(ROW)
            slot = len(rows) - 1
            open_rows.append(slot)
        rows[slot].append(segment)
        room[slot] -= need
        open_rows = [r for r in open_rows[-24:] if room[r] >= 12]
    shape = (len(rows), ROW)
    ids, weights = np.full(shape, pad, np.uint16), np.zeros(shape, np.float16)
    number, position = np.zeros(shape, np.int16), np.zeros(shape, np.int16)
    for r, row in enumerate(rows):
        at = 0
        for k, segment in enumerate(row):
            span = slice(at, at + len(segment.ids))
            ids[r, span], weights[r, span] = segment.ids, segment.weights
            number[r, span], position[r, span] = k + 1, np.arange(len(segment.ids))
            at = span.stop
        position[r, at:] = np.arange(ROW - at)
    shuffle = np.random.default_rng(rng.randrange(2**32)).permutation(len(rows))
    return Rows(ids[shuffle], weights[shuffle], number[shuffle], position[shuffle])
