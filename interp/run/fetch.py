"""What a configuration needs from the network, and getting it, so that a node without one can run."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from sae_lens import SAE

from interp.errors import UserError
from interp.models.hub import cached_file, explain_hub_error
from interp.models.loading import model_source
from interp.models.sources import locate, packaged_models, prepare, source_of
from interp.models.weights import check_folder
from interp.resources import BUNDLED_SAES, NO_SAES
from interp.run.config import Config, CorpusConfig
from interp.saes.releases import choose_saes, known_releases
from interp.texts.corpora import BUNDLED_TEXTS
from interp.texts.examples import load_corpus

MODEL_FILES = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]


@dataclass(frozen=True)
class Need:
    """One thing that a run reads.

    Attributes:
        kind: model, SAE or corpus.
        where: local, cached, hub or index (would be downloaded), or gguf (would be converted).
        size: bytes to download, where that is known.
    """

    kind: str
    name: str
    where: str
    size: int | None = None


def needs(config: Config) -> list[Need]:
    """Everything a run reads, and where it is now. Downloads nothing.

    Raises:
        UserError: a model or a release that does not exist, a layer or width that a release does not have.
    """
    out = [_model_need(config.model)]
    saes = config.saes
    release = known_releases().get(saes.name)
    if saes.name == NO_SAES:
        pass
    elif Path(saes.name).is_dir() or saes.name in BUNDLED_SAES:
        out.append(Need("SAEs", saes.name, "local"))
    elif release is not None:
        chosen = choose_saes(saes.name, layers=saes.layers, width=saes.width, l0=saes.l0)
        for choice in chosen.values():
            path = release.saes_map[choice.sae_id]
            names = [
                path,
                *(f"{path}/{file}" for file in ("params.npz", "params.safetensors", "sae_weights.safetensors")),
            ]
            cached = any(_where(release.repo_id, name) == "cached" for name in names)
            out.append(Need("SAE", f"{saes.name} {choice.sae_id}", "cached" if cached else "hub"))
    for corpus in _corpora(config):
        local = corpus.path is not None or corpus.name in BUNDLED_TEXTS
        out.append(Need("corpus", corpus.name, "local" if local else "hub"))
    return list(dict.fromkeys(out))


def with_size(need: Need, config: Config) -> Need:
    """The same with the size of its weights, if the hub can be asked."""
    if need.kind != "model" or need.where != "hub":
        return need
    try:
        found = HfApi().model_info(config.model, files_metadata=True).siblings or []
    except (httpx.HTTPError, HfHubHTTPError, OSError):
        return need
    return Need(
        need.kind, need.name, need.where, sum(f.size or 0 for f in found if f.rfilename.endswith("safetensors"))
    )


def fetch(config: Config, say: Callable[[str], None]) -> None:
    """Downloads what is not local, a finished file never twice; an interrupted download goes on where it stopped.

    Raises:
        UserError: a gated model, no network, or nothing of that name.
    """
    for need in needs(config):
        if need.where == "local":
            say(f"{need.kind} {need.name}: local")
            continue
        if need.kind == "model":
            fetch_model(need.name, say)
            continue
        say(f"{need.kind} {need.name}: {'checking' if need.where == 'cached' else 'downloading'}")
        try:
            if need.kind == "SAE":
                release, sae_id = need.name.split(" ", 1)
                SAE.from_pretrained(release, sae_id, device="cpu")
            else:
                for corpus in _corpora(config):
                    if corpus.name == need.name:
                        load_corpus(
                            corpus.name,
                            split=corpus.split,
                            labels=config.labels,
                            mapping=corpus.mapping,
                            text_column=getattr(corpus, "text_column", "text"),
                            label_column=getattr(corpus, "label_column", None) or "label",
                            limit=1,
                        )
        except (OSError, ValueError, RuntimeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(explain_hub_error(need.name, error)) from None


def fetch_model(name: str, say: Callable[[str], None]) -> None:
    """Makes a model ready: downloads it from the package index or the hub, converts a GGUF file.

    Raises:
        UserError: terms not accepted, a gated model, no network, a damaged file, a full disk, or nothing of that name.
    """
    place = locate(name)
    if place.kind == "hub":
        say(f"model {name}: {'checking' if place.ready else 'downloading'}")
        try:
            snapshot_download(name, allow_patterns=MODEL_FILES)
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(explain_hub_error(name, error)) from None
        return
    if place.ready and place.kind in ("package", "gguf") and place.folder is not None:
        try:
            check_folder(place.folder)
            source_of(place)
        except UserError as error:
            say(f"model {name}: damaged in the cache, made anew ({error})")
            shutil.rmtree(place.folder)
            place = locate(name)
    if place.ready:
        say(f"model {name}: {'local' if place.kind in ('bundled', 'folder') else 'cached'} ({place.folder})")
        return
    ready = prepare(name)
    source = source_of(ready)
    say(f"model {name}: {', '.join(word for word in (source.quantisation, source.licence) if word)}; in {ready.folder}")


def _model_need(name: str) -> Need:
    """A model and where it is now."""
    place = locate(name)
    if place.kind == "package":
        model = packaged_models()[name]
        return Need("model", name, "cached" if place.ready else "index", None if place.ready else model.download_bytes)
    if place.kind == "hub":
        return Need("model", name, "cached" if place.ready else "hub")
    if place.kind == "gguf" and not place.ready:
        return Need("model", name, "gguf")
    model_source(name)  # refuses a folder that holds something else
    return Need("model", name, "local")


def _corpora(config: Config) -> list[CorpusConfig]:
    corpora = config.corpora
    return [corpora.discover, corpora.fit, *corpora.test, *corpora.anchors]


def _where(repository: str, file: str) -> str:
    try:
        return "cached" if cached_file(repository, file) is not None else "hub"
    except ValueError:
        return "hub"
