"""The same model under a saved steering, to be asked everything once more."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from interp.engine.suffix import ResidualEdit
from interp.errors import UserError
from interp.models.language_model import Edit, LanguageModel
from interp.saes.stack import SaeStack
from interp.steering.steering import Steering


@dataclass(frozen=True)
class SteeredTwin:
    """A model and the steering under which it answers, at the steering's own positions.

    Attributes:
        state: what is done to the model, in words; answers of different states do not mix in one folder.
    """

    model: LanguageModel
    steering: Steering
    saes: SaeStack
    state: str

    @cached_property
    def hooks(self) -> dict[int, Edit]:
        return self.steering.hooks(self.model, self.saes)

    @property
    def edits(self) -> dict[int, ResidualEdit]:
        """What the hooks do, wherever it is done: for passes that place a steering themselves."""
        return self.steering.edits(self.saes)

    def answering(self) -> AbstractContextManager[None]:
        """The model is steered inside."""
        return self.model.edited(self.hooks)


def steered_twin(folder: Path, load: Callable[[], LanguageModel]) -> SteeredTwin:
    """The model under the steering of a run folder, or of any folder that holds one.

    Args:
        load: gives the model, once it is known that there is a steering for it.

    Raises:
        UserError: no steering there, one of another model, or one that leaves the model alone.
    """
    steering = Steering.load(folder)
    if not steering.layers:
        raise UserError(f"The steering in {folder} is none: it leaves the model alone. Leave --steering out.")
    setting = steering.provenance.get("setting", folder.name)
    state = f"steered: {steering.method}, {setting}, at {steering.positions}"
    model = load()
    return SteeredTwin(model, steering, steering.loaded_saes(model), state)
