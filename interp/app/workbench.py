"""What the page does, as Python calls: each handler of the page is one of them."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from interp.analysis.cards import logit_weights
from interp.analysis.dialogue import DialogueTrack, turns_of
from interp.analysis.inspection import Inspection
from interp.engine.capture import capture
from interp.errors import UserError, nearest
from interp.files.folder import RunFolder
from interp.models.language_model import LanguageModel
from interp.resources import shipped
from interp.run.config import config_of, load_config
from interp.run.inspecting import inspect_text
from interp.run.session import Session
from interp.run.steerable import Steerable
from interp.saes.loading import saes_record
from interp.saes.stack import SaeStack
from interp.steering.export import export
from interp.steering.generating import perplexity_of, repeats, written_ids
from interp.steering.mixing import Key, mixed
from interp.steering.steering import Steering

MOST_TURNS, MOST_CHARACTERS = 100, 20_000
WORDS = 10
"""Tokens that are told of a feature which has no card."""
STRANGE = 4.0
"""So many times the perplexity of the plain text, and what was written counts as broken language."""


class SideBySide(NamedTuple):
    """Plain and steered text so far; perplexities of both, under the model as it is, when both are at their end."""

    plain: str
    steered: str
    plain_perplexity: float | None = None
    steered_perplexity: float | None = None

    @property
    def done(self) -> bool:
        return self.plain_perplexity is not None or self.steered_perplexity is not None

    @property
    def warning(self) -> str:
        """Whether the strength breaks the language, in words; empty where it does not."""
        stuck = repeats(self.steered)
        if stuck is not None and repeats(self.plain) is None:
            return f"The steered text repeats '{stuck}': this strength is more than the model's language bears."
        plain, steered = self.plain_perplexity, self.steered_perplexity
        if plain is not None and steered is not None and steered > STRANGE * plain:
            return (
                f"The model finds the steered text {steered / plain:.1f} times as surprising a token as the plain one:"
                " this strength may be more than its language bears."
            )
        return ""


@dataclass(frozen=True)
class FeatureFacts:
    """What is known of a feature."""

    layer: int
    feature: int
    promotes: list[tuple[str, float]]
    suppresses: list[tuple[str, float]]
    emotions: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    neuronpedia: str | None = None


@dataclass(frozen=True)
class Workbench:
    """A run, or a model alone, loaded and ready. Made by `Workbench.open`.

    Attributes:
        name: as it was opened.
    """

    name: str
    session: Session
    steerable: Steerable
    has_run: bool

    @classmethod
    def open(cls, run_or_model: str | Path) -> "Workbench":
        """A run folder, or a model by name, hub id or folder.

        Raises:
            UserError: neither.
        """
        folder = Path(run_or_model)
        if (folder / "run.json").is_file():
            steerable = Steerable.of_run(folder)
            session = Session(config_of(folder), RunFolder(folder))
        else:
            config = load_config(shipped("experiments/tiny.yaml"), {"model": str(run_or_model)})
            nowhere = Path(tempfile.gettempdir()) / "interp-no-run"
            session = Session(config, RunFolder(nowhere))
            steerable = Steerable(nowhere, session.model, session.saes)
            vars(steerable).update(emotions=[], own=None)
        vars(session).update(model=steerable.model, saes=steerable.saes)
        return cls(str(run_or_model), session, steerable, (folder / "run.json").is_file())

    @property
    def model(self) -> LanguageModel:
        return self.session.model

    @property
    def saes(self) -> SaeStack:
        return self.session.saes

    @property
    def labels(self) -> list[str]:
        return self.session.labels

    @property
    def emotions(self) -> list[str]:
        """Those that one can push towards."""
        return self.steerable.emotions

    # ------------------------------------------------------------------------------------ reading

    def look(self, text: str) -> Inspection:
        """Evidence by layer and token, and the features behind the answer.

        Raises:
            UserError: an empty text.
        """
        return inspect_text(self.session, _some(text))

    def card(self, layer: int, feature: int) -> FeatureFacts:
        """The run's card of a feature; of one that has none, what it writes.

        Raises:
            UserError: no such feature.
        """
        self.saes.check_features(layer, [feature])
        known = self.steerable.files.json("cards") if self.has_run else None
        for card in known or []:
            if (card["layer"], card["feature"]) == (layer, feature):
                return FeatureFacts(
                    layer,
                    feature,
                    [(token, weight) for token, weight in card["promotes"]],
                    [(token, weight) for token, weight in card["suppresses"]],
                    [f"{e['emotion']}: active in {e['active']} of {e['n']} texts" for e in card["emotions"]],
                    ["".join(text["tokens"]) for text in card["texts"]],
                    card["neuronpedia"],
                )
        return self._written_by(layer, feature)

    @torch.no_grad()
    def _written_by(self, layer: int, feature: int) -> FeatureFacts:
        model = self.model
        captured = capture(model, self.session.prompts(["I do not know what to say."]), answers=self.labels)
        at = captured.residuals[model.n_layers - 1][0].float()
        (weights,) = logit_weights(model, self.saes.directions(layer, [feature]), at)
        best, least = weights.topk(WORDS), (-weights).topk(WORDS)
        words = [str(model.tokenizer.decode([k])) for k in (*best.indices.tolist(), *least.indices.tolist())]
        values = [*best.values.tolist(), *(-least.values).tolist()]
        pairs = list(zip(words, values, strict=True))
        return FeatureFacts(layer, feature, pairs[:WORDS], pairs[WORDS:])

    @torch.no_grad()
    def dialogue(self, text: str, *, before: bool = False) -> DialogueTrack:
        """The labels' probabilities for every turn of a dialogue (`Anna: I lost it.`, a turn a line).

        Args:
            before: each turn is read with those before it.

        Raises:
            UserError: no line names a speaker, or too many turns.
        """
        turns = turns_of(_some(text))
        if len(turns) > MOST_TURNS:
            raise UserError(f"The dialogue has {len(turns)} turns; {MOST_TURNS} are read at most.")
        shown = [
            "\n".join(f"{t.speaker}: {t.words}" for t in turns[: i + 1]) if before else turn.words
            for i, turn in enumerate(turns)
        ]
        captured = capture(self.model, self.session.prompts(shown), answers=self.labels)
        return DialogueTrack(self.labels, turns, captured.answer_logits.float().softmax(-1).cpu().numpy())

    # ------------------------------------------------------------------------------------ steering

    def steering(
        self,
        emotions: Mapping[str, float] | None = None,
        features: Mapping[Key, float] | None = None,
        own: float | None = None,
    ) -> Steering:
        """Pushes towards emotions with features multiplied, or the run's own steering.

        Args:
            emotions: by emotion, its strength.
            features: by layer and feature, what its activation is multiplied by; 1 leaves it.
            own: the strength of the run's own steering, which stands alone.

        Raises:
            UserError: an emotion or a feature that is not known, no steering of the run's own, or both kinds at once.
        """
        emotions, features = emotions or {}, features or {}
        if own is not None:
            if any(emotions.values()) or any(gain != 1 for gain in features.values()):
                raise UserError("The run's own steering stands alone; put the other sliders back.")
            return self.steerable.steering(None, own, "generated")
        for emotion in emotions:
            if emotion not in self.emotions:
                raise UserError(f"Nothing to push towards {emotion!r} along{nearest(emotion, self.emotions)}")
        for layer, feature in features:
            self.saes.check_features(layer, [feature])
        record = saes_record(self.saes, asdict(self.session.config.saes)) if features else None
        return mixed(
            [self.steerable.steering(emotion, strength) for emotion, strength in emotions.items() if strength],
            features,
            model={"name": self.model.name, "identity": self.model.identity},
            saes=record,
        )

    def side_by_side(
        self, prompt: str, steering: Steering, *, tokens: int = 60, temperature: float = 0.0, seed: int = 0
    ) -> Iterator[SideBySide]:
        """Plain and steered text, token by token, as `interp.steering.generating.stream` writes them.

        Raises:
            UserError: an empty prompt, or one that leaves no room for the tokens.
        """
        _some(prompt)
        model = self.model
        options: dict[str, Any] = {"tokens": tokens, "temperature": temperature, "seed": seed}
        streams = {
            "plain": written_ids(model, prompt, Steering("none"), **options),
            "steered": written_ids(model, prompt, steering, self.saes, **options),
        }
        ids: dict[str, list[int]] = {name: [] for name in streams}
        texts = dict.fromkeys(streams, "")
        while streams:
            for name in list(streams):
                new = next(streams[name], None)
                if new is None:
                    del streams[name]
                else:
                    ids[name], texts[name] = new, str(model.tokenizer.decode(new))
            if streams:
                yield SideBySide(texts["plain"], texts["steered"])
        asked = model.ids(prompt)
        surprise = {name: perplexity_of(model, asked, own) if own else None for name, own in ids.items()}
        yield SideBySide(texts["plain"], texts["steered"], surprise["plain"], surprise["steered"])

    def export(self, steering: Steering, to: str, folder: Path) -> Path:
        """For another tool, or (`to="interp"`) as `Steering.load` reads it; returns what to give it.

        Raises:
            UserError: an unknown format, or a steering that the format cannot express.
        """
        if not steering.layers:
            raise UserError("Nothing is steered yet: move a slider first.")
        if to != "interp":
            return export(steering, self.model, self.saes, to, folder)
        steering.save(folder)
        return folder


def _some(text: str) -> str:
    if not text.strip():
        raise UserError("The text is empty; write a sentence or two.")
    if len(text) > MOST_CHARACTERS:
        raise UserError(f"The text has {len(text):,} characters; {MOST_CHARACTERS:,} are read at most.")
    return text
