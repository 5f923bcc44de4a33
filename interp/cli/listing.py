"""The commands that list what there is: models and corpora."""

from dataclasses import asdict

from interp.cli.console import Json, json_text, screen


def models(*, all: bool = False, releases: bool = False, json: Json = False) -> None:
    """List models: those of the package index, then those with public residual-stream SAEs, and what is cached.

    For example: `interp models --releases`, or `interp models --json | jq '.[].release'`.

    Parameters
    ----------
    all
        Also releases for models whose architecture is not supported.
    releases
        The SAE releases of each model, as saes.name takes them, with layers, widths and sizes.
    """
    from interp.cli.model_tables import models_table, packaged_table, releases_table
    from interp.saes.catalogue import catalogue

    entries = catalogue(everything=all)
    if json:
        print(json_text([asdict(e) for e in entries]))
        return
    for table in [releases_table(entries)] if releases else [packaged_table(entries), models_table(entries)]:
        screen.print(table)
        screen.print()


def corpora(*, json: Json = False) -> None:
    """List the corpora that are known by name: labels, splits, licence, and what each is read from.

    Every table of your own is read as well: `--corpora.discover.name local --corpora.discover.path FILE`.
    """
    from interp.texts.corpora import known_corpora

    listed = known_corpora()
    if json:
        print(json_text([asdict(one) for one in listed]))
        return
    for one in listed:
        print(f"{one.name}: {one.description}")
        print(f"    {one.source}; licence: {one.licence}" + (f"; rows: {one.rows}" if one.rows else ""))
        named = {"labels": one.labels, "ratings": one.ratings, "splits": one.splits}
        print("    " + "; ".join(f"{what}: {', '.join(names)}" for what, names in named.items() if names))
