"""Texts of any number, one at a time: from a table, a folder of tables, or a data set of the hub."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from interp.errors import UserError
from interp.texts.mending import is_whole, mend
from interp.texts.records import need_columns, read

SUFFIXES = (".parquet", ".jsonl", ".csv", ".tsv", ".json", ".jsonl.gz", ".csv.gz", ".tsv.gz")


class StreamedText(NamedTuple):
    """A text of a stream; its label as it stands there, empty where there is none."""

    text: str
    label: str = ""


class StreamSource(NamedTuple):
    """Where texts come from.

    Attributes:
        name: a table (Parquet, JSONL, CSV, TSV), a folder of such tables, read in the order of their names, or an id of
            the Hugging Face hub.
        label_column: where their labels stand; None: they have none.
        split, subset: of a data set of the hub.
    """

    name: str
    text_column: str = "text"
    label_column: str | None = None
    split: str = "train"
    subset: str | None = None

    def texts(self) -> Iterator[StreamedText]:
        """All of them, in order; none is held.

        Raises:
            UserError: nothing of that name, a table that cannot be read, or a column that is missing.
        """
        path = Path(self.name).expanduser()
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.name.endswith(SUFFIXES) and not p.name.startswith("."))
            if not files:
                raise UserError(f"{path} holds no tables ({', '.join(SUFFIXES[:4])}); give a folder of shards.")
            for file in files:
                yield from self._of_table(file)
        elif path.is_file():
            yield from self._of_table(path)
        elif path.suffix or self.name.count("/") > 1 or self.name.startswith((".", "~", "/")):
            raise UserError(f"{self.name} is no file or folder; give a table, a folder of tables, or an id of the hub.")
        else:
            yield from self._of_hub()

    def _of_table(self, path: Path) -> Iterator[StreamedText]:
        needs = [self.text_column] + ([self.label_column] if self.label_column else [])
        for record in read(path, needs):
            label = record.cells.get(self.label_column, "") if self.label_column else ""
            yield StreamedText(record.cells.get(self.text_column, "").strip(), label.strip())

    def _of_hub(self) -> Iterator[StreamedText]:
        import datasets  # slow to import, and only needed here

        try:
            rows = datasets.load_dataset(self.name, self.subset, split=self.split, streaming=True)
            first = next(iter(rows), None)
        except (OSError, datasets.exceptions.DatasetsError, ValueError, KeyError, RuntimeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise UserError(f"{self.name!r} could not be read from the hub: {reason}.") from None
        if first is None:
            raise UserError(f"{self.name!r} holds no rows in split {self.split!r}.")
        needs = [self.text_column] + ([self.label_column] if self.label_column else [])
        need_columns(self.name, first, needs)
        for row in rows:
            text, label = str(row[self.text_column] or ""), row.get(self.label_column) if self.label_column else None
            text = text if is_whole(text) else mend(text)
            yield StreamedText(text.strip(), "" if label is None else str(label).strip())
