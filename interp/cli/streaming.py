"""The command that counts features over any number of texts."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from interp.cli.console import RUNS, Arguments, Json, Out, Quiet, errors, hushed, json_text, overrides
from interp.cli.options import Count, Limit, folder_path
from interp.reporting import reporter
from interp.run.config import known_keys, load_config


def stream(
    config: Path,
    *arguments: Arguments,
    source: str,
    out: Out = None,
    text_column: Annotated[str, Parameter(name="--text_column")] = "text",
    label_column: Annotated[str | None, Parameter(name="--label_column")] = None,
    split: str = "train",
    subset: str | None = None,
    limit: Limit = None,
    kept: Count = 8,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Count every feature over millions of texts, at constant memory and disk.

    Usage: interp stream CONFIG.yaml --source TABLE|FOLDER|HUB_ID [--out DIR] [--any.field VALUE ...]

    Model, SAEs, labels and template are those of the config. Nothing of a text is kept but its number; a killed stream
    goes on where it was. Without `--out`, features.parquet, texts.parquet and answers.parquet go into runs/NAME-stream.

    For example: `interp stream experiments/tiny.yaml --source shards/ --label_column emotion --out runs/stream`.

    Parameters
    ----------
    config
        A YAML file as for `interp run`.
    source
        A table (Parquet, JSONL, CSV, TSV), a folder of tables, read in the order of their names, or a hub id.
    text_column
        The column with the texts.
    label_column
        The column with their labels, if they have some.
    split, subset
        Of a data set of the hub.
    kept
        Texts of each feature whose numbers are kept: so many of the strongest, and so many drawn at random.
    """
    made = load_config(config, overrides(arguments, "--seed 1", known_keys()))
    from tempfile import TemporaryDirectory

    from interp.files.folder import RunFolder
    from interp.run.session import Session
    from interp.run.streaming import TallyOptions, stream_features
    from interp.texts.streams import StreamSource

    texts = StreamSource(source, text_column, label_column, split, subset)
    next(iter(texts.texts()), None)  # refused before a model is loaded
    out = folder_path(out or RUNS / f"{made.name}-stream")
    options = TallyOptions(made.prompt.template, made.corpora.discover.mapping, limit, kept, seed=made.seed)

    def tell(n: int) -> None:
        reporter().advance("texts", n, limit or 0, "text")

    with TemporaryDirectory() as folder, hushed(quiet or json):
        session = Session(made, RunFolder(Path(folder)))
        found = stream_features(
            session.model, session.saes, texts.texts, made.labels, out, options=options, advance=tell
        )
    if json:
        print(json_text({"out": out, "n": found.n, "features": len(found.features), "answers": found.answers}))
        return
    if not quiet:
        errors.print(f"{found.n:,} texts, {len(found.features):,} features that fired on some")
    print(out / "features.parquet")
