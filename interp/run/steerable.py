"""The model of a run, and the steerings it can be put under: its own, and pushes towards emotions."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import cast

from interp.errors import UserError, nearest
from interp.files.stored import as_recorded, read_record
from interp.models.language_model import LanguageModel
from interp.models.loading import load_model
from interp.run.additive import GENTLE, towards
from interp.run.config import config_of
from interp.run.reading import RunFiles
from interp.saes.loading import load_saes
from interp.saes.stack import SaeStack
from interp.steering.positions import Positions
from interp.steering.steering import FACTS, TENSORS, Provenance, Steering

READY = "emotions"
"""A folder beside a run's files with pushes made beforehand, a folder each: where the texts' activations are not."""


@dataclass(frozen=True)
class Steerable:
    """A model with what steers it. Made by `Steerable.of_run`.

    Attributes:
        folder: of the run.
        chat: None: prompts stand in the chat template as the run's did.
    """

    folder: Path
    model: LanguageModel
    saes: SaeStack
    _whole: dict[str, Steering] = field(default_factory=dict, repr=False)

    @classmethod
    def of_run(cls, folder: Path, *, chat: bool | None = None) -> "Steerable":
        """Loads model and SAEs of a run.

        Args:
            chat: put prompts into the model's chat template; None: as the run did.

        Raises:
            UserError: no run folder, a model or SAEs that cannot be loaded.
        """
        config = config_of(folder)
        model = load_model(
            config.model,
            device=config.device,
            dtype=config.dtype,
            device_map=config.device_map,
            quantization=config.quantization,
            chat=_chats(read_record(folder), config.prompt.chat) if chat is None else chat,
        )
        return cls(folder, model, load_saes(model=model, **asdict(config.saes)))

    @cached_property
    def files(self) -> RunFiles:
        return RunFiles(self.folder)

    @cached_property
    def emotions(self) -> list[str]:
        """Those that one can push towards: a causal feature was found for them."""
        if (self.folder / READY).is_dir():
            return [label for label in self.files.labels if (self.folder / READY / label).is_dir()]
        if any(not (self.folder / name).is_file() for name in ("effects.parquet", "examples.parquet")):
            return []
        found = set(self.files.causal_features()["emotion"])
        return [label for label in self.files.labels if label in found]

    @cached_property
    def own(self) -> Steering | None:
        """The run's own steering; None where none was found to help, or none was looked for."""
        if not (self.folder / FACTS).is_file():
            return None
        as_recorded(self.folder, (FACTS, TENSORS), read_record(self.folder))
        steering = Steering.load(self.folder)
        return steering if steering.layers else None

    @staticmethod
    def strength(emotion: str | None, strength: float | None) -> float:
        """The strength asked for, or one that leaves language whole."""
        return strength if strength is not None else 1.0 if emotion is None else GENTLE

    def steering(
        self, emotion: str | None = None, strength: float | None = None, positions: Positions | None = None
    ) -> Steering:
        """A push towards an emotion, or the run's own steering.

        Args:
            strength: None: of an emotion `GENTLE`, of the run's own steering 1.
            positions: other ones than its own.

        Raises:
            UserError: an emotion that the run does not know or that has no causal feature, no steering of the run's
                own, a strength that is not finite.
        """
        if emotion is None and self.own is None:
            can = f"Name an emotion to push towards{nearest('', self.emotions)}" if self.emotions else ""
            raise UserError(f"The steering of {self.folder} is none: nothing was found to help. {can}".rstrip())
        own = self.own if emotion is None else self._towards(emotion)
        assert own is not None
        amount = self.strength(emotion, strength)
        provenance = own.provenance if emotion is None else Provenance(**{**own.provenance, "strength": amount})
        return replace(own.scaled(amount), positions=positions or own.positions, provenance=provenance)

    def _towards(self, emotion: str) -> Steering:
        """At strength 1, read once."""
        if emotion not in self._whole:
            made = self.folder / READY / emotion
            ready = made.is_dir() and emotion in self.emotions
            self._whole[emotion] = Steering.load(made) if ready else towards(self.folder, self.saes, emotion)
        return self._whole[emotion]


def _chats(record: Mapping[str, object], configured: object) -> bool:
    """As the run did; where that is not recorded, as it is configured."""
    known = cast(Mapping[str, object], record.get("model", {})).get("chat")
    return cast(bool, configured if known is None else known)
