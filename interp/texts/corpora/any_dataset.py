"""Any data set of texts with one label column or several names for it: of the hub, or as Python has it.

    {"text": "i didnt feel humiliated", "label": 0}        # dair-ai/emotion, where 0 is the class label "sadness"

Which column holds the text and which the label is found by their names and types where nobody says.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any

from interp.errors import InterpWarning, UserError
from interp.texts.corpora.base import Corpus, Row
from interp.texts.mending import is_whole, mend
from interp.texts.records import cells_of, class_names, listed

PREFIX = "hub:"
TEXT, LABEL = "text", "label"
"""The columns where nobody says others."""
TEXTS = ("text", "sentence", "utterance", "content", "body", "tweet", "comment", "message", "situation", "document")
LABELS = ("label", "labels", "emotion", "emotions", "feeling", "category", "class", "target")
LOOKED_AT = 100
"""Records by which columns are found."""
FROM_TRAIN = {"discover": "train", "fit": "train", "test": "test"}

Records = Iterable[Mapping[str, Any]]


def hub_corpus(name: str, text_column: str, label_column: str) -> Corpus:
    """The corpus `hub:OWNER/NAME` or `hub:OWNER/NAME:CONFIG`.

    Raises:
        UserError: no name of a data set.
    """
    repository, _, config = name.removeprefix(PREFIX).partition(":")
    if not repository.strip("/") or repository.count("/") > 1 or " " in repository:
        raise UserError(f"{name!r} names no data set of the hub; write hub:OWNER/NAME, such as hub:dair-ai/emotion.")
    load = partial(_of_hub, repository, config or None, text_column, label_column)
    return Corpus(lambda path, problems: iter(()), f"{repository}, of the hub", "see its page", rows_of=load,
                  official=FROM_TRAIN)  # fmt: skip


def python_corpus(data: Any, text_column: str, label_column: str) -> Corpus:
    """A `pandas.DataFrame`, a `datasets.Dataset` or `DatasetDict`, or a list of records.

    Raises:
        UserError: something else.
    """
    parts = _parts(data)
    load = partial(rows_of, parts, "the data given", text_column, label_column)
    return Corpus(lambda path, problems: iter(()), "a table in memory", "yours", rows_of=load, official=FROM_TRAIN)


def rows_of(parts: Mapping[str | None, Any], where: str, text_column: str, label_column: str) -> Iterator[Row]:
    """Rows of tables by split; of a single split, as of a file without one.

    Raises:
        UserError: no such column, or none can be told.
    """
    for split, table in parts.items():
        names = class_names(getattr(table, "features", None) or {})
        records: Iterator[Mapping[str, Any]] = iter(table)
        head = list(islice(records, LOOKED_AT))
        if not head:
            continue
        text, label = _columns(head, names, where, text_column, label_column)
        known = split if len(parts) > 1 else None
        for i, record in enumerate(chain(head, records)):
            decoded = dict(record) | {c: _decoded(record.get(c), words) for c, words in names.items()}
            cells = cells_of(decoded)
            own = cells.get(text, "")
            labels = tuple(one for one in listed(cells.get(label, "")) if one.strip())
            id_ = cells.get("id") or (f"{split}-{i}" if len(parts) > 1 else str(i))
            part = known or cells.get("split") or None
            yield Row(id_, own if is_whole(own) else mend(own), labels, part, cells.get("group") or None)


def _parts(data: Any) -> Mapping[str | None, Any]:
    if hasattr(data, "to_dict") and hasattr(data, "columns"):  # a data frame
        return {None: data.to_dict("records")}
    if isinstance(data, Mapping) and all(hasattr(part, "features") for part in data.values()):
        return dict(data)
    if hasattr(data, "features"):
        return {None: data}
    if isinstance(data, Sequence) and not isinstance(data, str | bytes) and all(isinstance(r, Mapping) for r in data):
        return {None: data}
    raise UserError(
        f"A corpus is a name, a pandas.DataFrame, a datasets.Dataset or DatasetDict, or a list of records; got"
        f" {type(data).__name__}."
    )


def _of_hub(repository: str, config: str | None, text_column: str, label_column: str) -> Iterator[Row]:
    import datasets  # slow to import, and only needed here

    try:
        loaded = datasets.load_dataset(repository, config)
    except (OSError, datasets.exceptions.DatasetsError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160].rstrip(".")
        raise UserError(
            f"Could not fetch {repository!r} from the Hugging Face hub ({type(error).__name__}: {reason}); check the"
            f" name and the network, write {PREFIX}{repository}:CONFIG where it has several, or give a saved folder to"
            " local."
        ) from None
    yield from rows_of(loaded, repository, text_column, label_column)


def _columns(
    head: Sequence[Mapping[str, Any]], names: Mapping[str, Sequence[str]], where: str, text: str, label: str
) -> tuple[str, str]:
    """The columns of text and label."""
    present = list(dict.fromkeys(name for record in head for name in cells_of(record)))
    if not isinstance(head[0], Mapping):
        raise UserError(f"{where} holds no records with columns.")
    found_text = text if text in present else _one_of(TEXTS, present) if text == TEXT else None
    found_label = label if label in present else None
    if found_label is None and label == LABEL:
        found_label = _one_of(LABELS, present) or (next(iter(names)) if len(names) == 1 else None)
    if found_text is None and text == TEXT:
        lengths = {c: sum(len(r[c]) for r in head if isinstance(r.get(c), str)) for c in present if c != found_label}
        found_text = max(lengths, key=lambda c: lengths[c]) if any(lengths.values()) else None
    for asked, found, option in ((text, found_text, "text_column"), (label, found_label, "label_column")):
        if found is None:
            raise UserError(
                f"{where}: no column {asked!r} (it has: {', '.join(map(repr, present))}); say which with {option}."
            )
    assert found_text is not None
    assert found_label is not None
    if (found_text, found_label) != (text, label):
        said = f"{where}: texts are in column {found_text!r}, labels in {found_label!r}."
        warnings.warn(said, InterpWarning, stacklevel=2)
    return found_text, found_label


def _one_of(names: Sequence[str], present: Sequence[str]) -> str | None:
    return next((column for name in names for column in present if column.casefold() == name), None)


def _decoded(value: Any, names: Sequence[str]) -> Any:
    """Class labels by their names."""
    if isinstance(value, list | tuple):
        return [_decoded(one, names) for one in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None
