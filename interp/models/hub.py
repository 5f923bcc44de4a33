"""The Hugging Face hub as its cache on disk shows it, and what its errors mean."""

from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError


def cached_file(repository: str, name: str) -> Path | None:
    """A file of a repository in the local cache."""
    cached = try_to_load_from_cache(repository, name)
    return Path(cached) if isinstance(cached, str) else None


def cached_commit(repository: str, *probes: str) -> str | None:
    """Commit of the cached snapshot, as far as the first of some files that is there tells."""
    found = (cached_file(repository, name) for name in probes)
    return next((file.parent.name for file in found if file is not None), None)


def explain_hub_error(name: str, error: BaseException) -> str:
    """One line for what `from_pretrained` or a download raised."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    if any(isinstance(e, GatedRepoError) for e in chain) or "gated repo" in str(error):
        return (
            f"{name} is gated: accept its licence at https://huggingface.co/{name} and log in"
            " (`hf auth login`, or set HF_TOKEN)."
        )
    if any(isinstance(e, RepositoryNotFoundError) for e in chain):
        return f"The Hugging Face hub has no {name!r} (or it is private: `hf auth login`); check the spelling."
    if any(isinstance(e, LocalEntryNotFoundError | ConnectionError) for e in chain) or "connect" in str(error):
        return (
            f"{name} is not in the local cache and the Hugging Face hub cannot be reached; run `interp fetch` where"
            " there is a network, or give a local folder."
        )
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"Could not load {name!r}: {first_line}"
