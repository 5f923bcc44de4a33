"""Which model it is, from its files alone: no weights are read into a model, and torch is not needed."""

from huggingface_hub import hf_hub_download

from interp.errors import UserError
from interp.models.hub import cached_commit, explain_hub_error
from interp.models.sources import ModelPlace, prepare
from interp.models.weights import check_folder, identity_of_folder


def model_identity(name: str) -> str:
    """What `load_model(name).identity` is: a hub id and its commit, or a content hash of what is computed with.

    Raises:
        UserError: no such model, not reachable, or a damaged one.
    """
    place = prepare(name)
    if place.folder is not None:
        check_folder(place.folder)
    elif not place.ready:
        try:
            hf_hub_download(name, "config.json")
        except Exception as error:  # whatever a download may fail of
            raise UserError(explain_hub_error(name, error)) from None
    return identity_of(place)


def identity_of(place: ModelPlace) -> str:
    """The same of a model that is ready."""
    if place.folder is not None:
        return identity_of_folder(place.folder)
    return f"{place.name}@{cached_commit(place.name, 'config.json') or 'unknown'}"
