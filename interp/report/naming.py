"""What things side by side are called on a page: what tells them apart, and folders only where nothing does."""

from collections import Counter
from collections.abc import Mapping, Sequence

from interp.report.words import short_name
from interp.run.reading import RunFiles


def told_apart(facts: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """A name by key: the first fact and, in brackets, those further ones that are not the same for all; where that is
    another's name too, the first fact and the key.

    Args:
        facts: as many for every key, empty where there is nothing to say.
    """
    differs = [i for i, column in enumerate(zip(*facts.values(), strict=True)) if i and len(set(column)) > 1]
    further = {key: ", ".join(own[i] for i in differs if own[i]) for key, own in facts.items()}
    names = {key: f"{facts[key][0]} ({more})" if more else facts[key][0] for key, more in further.items()}
    count = Counter(names.values())
    return {key: name if count[name] == 1 else f"{facts[key][0]}: {key}" for key, name in names.items()}


def run_names(runs: Mapping[str, RunFiles]) -> dict[str, str]:
    """Models, then corpora, templates and seeds, by the folder's name."""
    return told_apart({name: _facts(run) for name, run in runs.items()})


def _facts(run: RunFiles) -> list[str]:
    record = run.record
    config = record["config"]
    return [
        short_name(str(record["model"]["name"])),
        f"on {config['corpora']['discover']['name']}",
        "" if config["prompt"]["template"] == "default" else f"template {config['prompt']['template']}",
        f"seed {config['seed']}",
    ]
