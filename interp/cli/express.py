"""`interp express`: the commands. Heavy imports wait until a command runs."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cyclopts
from cyclopts import Parameter

from interp.cli.console import RUNS, Json, Log, Out, Quiet, errors, hushed, json_text
from interp.cli.options import Count, Resamples, Seed, folder_path, page_path
from interp.cli.tracking import sender
from interp.defaults import RESAMPLES
from interp.errors import UserError
from interp.surveys.express.options import ExpressOptions
from interp.surveys.terminal import interval, print_table

if TYPE_CHECKING:
    import pandas as pd

    from interp.surveys.express.comparing import ExpressComparison
    from interp.surveys.express.scoring import Scores

app = cyclopts.App(
    name="express", help="Does a model name what people say they feel? Words, and the eight emotions they are made of."
)
SHOWN = (
    ("scores", "the paper's scores"),
    ("without_all_zero_pairs", "without all-zero pairs"),
    ("with_fallbacks", "unknown words looked up by inflection and family"),
    ("lenient_parsing", "answers read leniently"),
    ("sentiment", "sentiment"),
    ("similarity", "graded similarity"),
)
LexiconPath = Annotated[
    str | None,
    Parameter(help="Decomposition table (word and ten columns), or `plutchik`; default: the one that ships."),
]


@app.command
def score(
    answers: Path,
    *,
    lexicon: LexiconPath = None,
    neighbours: str | None = None,
    resamples: Resamples = RESAMPLES,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Score answers that exist already.

    Parameters
    ----------
    answers
        CSV or JSONL with number_of_labels, labels, and output_formatted or output.
    neighbours
        A model whose input embeddings find the nearest lexicon word for words the lexicon lacks.
    resamples
        Bootstrap resamples over posts; 0: no intervals.
    """
    from interp.surveys.express.answers import read_answers
    from interp.surveys.express.lexicon import load_lexicon
    from interp.surveys.express.scoring import score as score_answers

    table = load_lexicon(lexicon)
    read = read_answers(answers)
    near = None
    if neighbours is not None:
        from interp.models.loading import load_model
        from interp.surveys.express.lexicon import embedding_neighbours

        near = embedding_neighbours(load_model(neighbours), table)
    scores = score_answers(read, table, neighbours=near, resamples=resamples, seed=seed)
    for line in read.problems.lines():
        _say(f"skipped: {line}")
    if json:
        print(json_text(scores.as_dict()))
    else:
        show(scores, str(answers))


@app.command
def run(
    *,
    options: Annotated[ExpressOptions, Parameter(name="*")],
    log: Log = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Ask a model which words stood behind the masks, and score its answers.

    Without `--out`, answers and scores go into a folder of runs/express named after model and settings. A run that was
    stopped goes on where it was: the same command asks only what has no answer yet.
    """
    quiet = quiet or json
    send = sender(log, quiet=quiet)
    from interp.surveys.express.running import run_express

    with hushed(quiet):
        done = run_express(options, say=(lambda line: None) if quiet else _say)
    for one in (done.unsteered, done):
        if one is not None and not quiet:
            show(one.scores, str(one.folder))
    for one in (done.unsteered, done):
        if one is not None:
            send(one.folder)
    if json:
        scores = {name: one.scores.as_dict() for name, one in (("unsteered", done.unsteered), ("scores", done)) if one}
        print(json_text({"folder": done.folder, "page": done.page, **scores}))
        return
    print(done.page or done.folder)


@app.command
def compare(
    *sources: Path,
    out: Out = None,
    lexicon: LexiconPath = None,
    human: Path | None = None,
    resamples: Resamples = RESAMPLES,
    seed: Seed = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Put several models or settings side by side: one page with table, figures and paired differences.

    Without `--out`, comparison.html and its tables go into runs/express-comparison.

    Parameters
    ----------
    sources
        Run folders or answer files; the first is what the others are compared with.
    human
        People's preferences between own words and a model's: coder, index, option1, option2, your_choice, choice, code.
    resamples
        Bootstrap resamples over posts; 0: no intervals.
    """
    from interp.surveys.express.comparing import compare, load_entries
    from interp.surveys.express.human import read_preferences
    from interp.surveys.express.lexicon import load_lexicon
    from interp.surveys.express.page import write_comparison

    if len(sources) < 2 and human is None:
        raise UserError("interp express compare needs at least two run folders or answer files (or --human).")
    out = folder_path(out or RUNS / "express-comparison")
    table, options = load_lexicon(lexicon), {"resamples": resamples, "seed": seed}
    preferences = None if human is None else read_preferences(human)
    for line in preferences.problems.lines() if preferences else ():
        _say(f"{human}: skipped {line}")
    entries = load_entries(sources, table, **options)
    for entry in entries:
        for line in entry.answers.problems.lines():
            _say(f"{entry.name}: skipped {line}")
    with hushed(quiet or json):
        compared = compare(entries, table, preferences=preferences, **options)
        page = write_comparison(compared, out, **options)
    if json:
        print(json_text({"page": page, **compared.as_dict()}))
        return
    if not quiet:
        show_side_by_side(compared)
    print(page)


@app.command
def build(
    posts: Path,
    *,
    out: Out = None,
    words: str | None = None,
    text_column: str = "text",
    id_column: str = "id",
    most_tokens: Count = 512,
    tokenizer: str | None = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make segments from raw posts: self-disclosed emotion words masked, long posts cut around them.

    Without `--out`, the segments, a CSV in the corpus' format, are runs/POSTS-segments.csv. A build that was stopped
    goes on where it was.

    Parameters
    ----------
    posts
        CSV or JSONL, one post a row.
    words
        Emotion words to mask: a JSON list, a CSV with a word column, or one word a line; default: those that ship.
    most_tokens
        Longest segment.
    tokenizer
        A model folder or hub id whose tokens are counted; default: words and punctuation marks.
    """
    from interp.files.folder import fingerprint
    from interp.surveys.express.building import MOST_TOKENS, build, count_words
    from interp.surveys.express.masking import Masker, load_words

    if most_tokens < 16:
        raise UserError(f"--most-tokens must be at least 16 (the paper's: {MOST_TOKENS}); got {most_tokens}.")
    out = page_path(out or RUNS / f"{posts.stem}-segments.csv", "segments.csv")
    listed = load_words(words)
    quiet = quiet or json
    built = build(
        posts,
        out,
        Masker(listed),
        text_column=text_column,
        id_column=id_column,
        most_tokens=most_tokens,
        count=count_words if tokenizer is None else _token_counter(tokenizer),
        settings={"words": fingerprint(listed), "tokenizer": tokenizer},
    )
    for line in built.problems.lines():
        _say(f"skipped: {line}")
    if json:
        told = {"posts": built.posts, "posts_used": built.posts_used, "segments": built.segments, "masks": built.masks}
        print(json_text({"path": out, "resumed": built.resumed, **told}))
        return
    if quiet:
        print(out)
        return
    if built.resumed:
        errors.print(f"went on after {built.resumed} posts done before")
    errors.print(
        f"{built.posts} posts, {built.posts_used} with a disclosed emotion: {built.segments} segments,"
        f" {built.masks} masks"
    )
    print(out)


def show(scores: "Scores", title: str) -> None:
    """The headline scores and their companions as a table on standard output."""
    rows: list[list[str]] = []
    for section, name in SHOWN:
        for score_name, row in scores.section(section).iterrows():
            value = interval(row["value"], row["ci_low"], row["ci_high"], digits=4)
            rows.append([name, str(score_name).replace("_", " "), value, str(int(row["n"]))])
            name = ""
        rows.append([])
    caption = "95 % bootstrap intervals over posts; n: rows (VRate) or labels"
    print_table(("", "score", "value [95 % interval]", "n"), rows, title=title, caption=caption, wrap=True)
    facts = scores.facts["rows"]
    invalid = ", ".join(f"{entry['n']} {reason}" for reason, entry in facts["invalid_answers"].items())
    unknown = sum(scores.facts["unknown_words"]["predicted"].values())
    print(
        f"{facts['read']} rows read, {facts['scored']} scored; invalid answers: {invalid or 'none'};"
        f" answers unknown to the lexicon: {unknown}."
    )


def show_side_by_side(compared: "ExpressComparison") -> None:
    """The headline scores on standard error, a column per entry."""
    own = [entry.scores.section("scores") for entry in compared.entries]

    def cell(table: "pd.DataFrame", name: str) -> str:
        row = table.loc[name]
        return interval(row["value"], row["ci_low"], row["ci_high"], digits=4)

    rows = [[str(name).replace("_", " "), *(cell(one, name) for one in own)] for name in (own[0].index if own else ())]
    columns = ("score", *(entry.name for entry in compared.entries))
    print_table(columns, rows, caption="95 % intervals over posts", wrap=True, stderr=True)


def _token_counter(name: str) -> Callable[[str], int]:
    from interp.models.loading import load_tokenizer

    tokenizer = load_tokenizer(name)
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


def _say(line: str) -> None:
    errors.print(line, style="yellow")
