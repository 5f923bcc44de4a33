"""Fixtures: tiny models, a tokenizer trained on the spot, random SAEs, and a world with a run, made once a worker."""

import os
import shutil
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: threads cost such small models time

if os.environ.get("INTERP_CHECK_SHAPES"):
    import shapes

    shapes.check(os.environ["INTERP_CHECK_SHAPES"].split(","))  # before what it checks is imported

import hypothesis
import pytest
import transformers as tf
from tiny_models import FAMILIES, SENTENCES, WORDS, build_model, build_sae
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from worlds import start, write_world

from interp.files.folder import RunFolder
from interp.models.language_model import LanguageModel
from interp.run.config import config_of
from interp.run.session import Session
from interp.saes.stack import SaeStack

# The same examples every time: a property that fails does so for everyone, and today as tomorrow.
hypothesis.settings.register_profile("same", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("same")


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory) -> tf.PreTrainedTokenizerFast:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|pad|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([*(f" {w}" * 3 for w in WORDS.split()), *SENTENCES], trainer)
    raw.post_processor = processors.TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
    folder = tmp_path_factory.mktemp("tokenizer")
    tf.PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=special[0], eos_token=special[0], pad_token=special[1], padding_side="left"
    ).save_pretrained(folder)
    return tf.AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="session")
def models_by_family(tokenizer) -> dict[str, LanguageModel]:
    return {family: build_model(family, tokenizer) for family in FAMILIES}


@pytest.fixture(params=FAMILIES)
def any_model(request, models_by_family) -> LanguageModel:
    return models_by_family[request.param]


@pytest.fixture
def llama(models_by_family) -> LanguageModel:
    return models_by_family["llama"]


@pytest.fixture
def stack() -> SaeStack:
    return SaeStack({layer: build_sae(seed=layer) for layer in range(4)}, "test", "test:saes")


@pytest.fixture(scope="session")
def world(tmp_path_factory, tokenizer) -> Path:
    """What a run reads: a model folder, an SAE folder, a corpus and a config."""
    return write_world(tmp_path_factory.mktemp("world"), tokenizer)


@pytest.fixture(scope="session")
def finished(world, tmp_path_factory) -> Path:
    """A finished run of the world, to be read: tests leave it as it was."""
    return start(world, tmp_path_factory.mktemp("finished")).folder


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A finished run of one's own, to be changed or damaged."""
    return Path(shutil.copytree(finished, tmp_path / "runs" / "small"))


@pytest.fixture(scope="session")
def session(finished) -> Session:
    """The finished run as its stages see it."""
    return Session(config_of(finished), RunFolder(finished))


QUICK_FAMILIES = ("llama", "gemma3")
LONG = {
    "test_app.py",
    "test_browser.py",
    "test_bundled.py",
    "test_cards.py",
    "test_certifying.py",
    "test_circuits.py",
    "test_commands.py",
    "test_comparing.py",
    "test_coupled.py",
    "test_engines.py",
    "test_findings.py",
    "test_inspecting.py",
    "test_pipeline.py",
    "test_planted.py",
    "test_planted_ratings.py",
    "test_remote.py",
    "test_run_folders.py",
    "test_sae_card.py",
    "test_sae_training.py",
    "test_sweep.py",
    "test_tuning.py",
    "test_worlds.py",
}
"""Files whose tests make whole runs or train; `make quick` leaves them, and the notebooks, out."""


def pytest_addoption(parser) -> None:
    parser.addoption("--quick", action="store_true", help="no whole runs, no notebooks, two model families")


def _is_quick(item) -> bool:
    family = getattr(item, "callspec", None) and item.callspec.params.get("any_model")
    return item.path.suffix == ".py" and item.path.name not in LONG and family in (None, *QUICK_FAMILIES)


def pytest_collection_modifyitems(config, items) -> None:
    if config.getoption("--quick"):
        config.hook.pytest_deselected(items=[item for item in items if not _is_quick(item)])
        items[:] = [item for item in items if _is_quick(item)]
    data = Path(__file__).parents[2] / "shared" / "data"
    if not data.is_dir():
        for item in items:
            if "shared" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="the development corpora (../shared/data) are not here"))
