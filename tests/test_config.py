"""Settings: flags and YAML mean the same text, and paths are found from wherever a run is read."""

import pytest
import yaml

from interp import UserError
from interp.files.folder import write_json
from interp.run.config import config_of, load_config, local_paths
from interp.texts.emotions import LABEL_SETS


def test_f15_a_tilde_is_the_home_folder_in_every_path_field(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    flags = ("out", "model", "saes", "corpora.discover.path", "fluency.path")
    config = load_config(None, dict.fromkeys(flags, "~/zz") | {"corpora.discover.name": "local"})
    found = (config.out, config.model, config.saes.name, config.corpora.discover.path, config.fluency.path)
    assert found == (str(tmp_path / "zz"),) * 5


def test_19_flags_and_yaml_mean_the_text(tmp_path):
    (tmp_path / "c.yaml").write_text("labels: [yes, no]\nname: 2024\nseed: 0x1\n")
    with pytest.raises(UserError, match="seed"):
        load_config(tmp_path / "c.yaml")
    (tmp_path / "c.yaml").write_text(
        "labels: [yes, no]\nname: 2024\nsaes: {width: 65k, l0: 50, layers: [1, 2]}\ndevice_map: null\n"
    )
    config = load_config(
        tmp_path / "c.yaml",
        {
            "prompt.template": "Text: {text} #1\nEmotion:",
            "corpora.discover.name": "local",
            "corpora.discover.path": "a #b: c.csv",
            "fluency.path": "none",
        },
    )
    assert config.labels == ["yes", "no"]
    assert config.name == "2024"
    assert config.device_map is None
    assert (config.saes.width, config.saes.l0, config.saes.layers) == ("65k", 50.0, [1, 2])
    assert config.prompt.template == "Text: {text} #1\nEmotion:"
    assert config.corpora.discover.path == "a #b: c.csv"
    assert config.fluency.path is None


def test_21_a_moved_run_finds_its_files_where_they_lie(tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        (folder / "mine.csv").write_text("text,label\n")
    monkeypatch.chdir(here)
    corpora = {
        f"corpora.{part}.{key}": value
        for part in ("discover", "test.0")
        for key, value in (("name", "local"), ("path", "mine.csv"))
    }
    config = load_config(None, corpora)
    write_json(here / "run" / "run.json", {"config": config.as_dict(), "paths": local_paths(config)})
    monkeypatch.chdir(there)
    found = config_of(here / "run")
    assert found.corpora.discover.path == found.corpora.test[0].path == str(here / "mine.csv")
    (here / "mine.csv").unlink()
    assert config_of(here / "run").corpora.discover.path == "mine.csv"
    (there / "mine.csv").unlink()
    assert config_of(here / "run").corpora.discover.path == str(here / "mine.csv")


def test_a_published_label_set_goes_by_its_name_in_yaml_and_as_a_flag(tmp_path):
    (tmp_path / "c.yaml").write_text("labels: goemotions27\n")
    for config in (load_config(tmp_path / "c.yaml"), load_config(None, {"labels": "goemotions27"})):
        assert config.labels == list(LABEL_SETS["goemotions27"])
    assert load_config(None, {"labels": "[calm, tense]"}).labels == ["calm", "tense"]
    for wrong, said in (("goemotions", "goemotions2[78]"), ("none", "known: ekman6"), ("27", "known: ekman6")):
        with pytest.raises(UserError, match=f"^--labels: must be a list of labels or a published set; got.*{said}"):
            load_config(None, {"labels": wrong})
    (tmp_path / "c.yaml").write_text("labels: empathic32\n")
    with pytest.raises(UserError, match=r"c\.yaml: labels: must be a list.*did you mean 'empathetic32'\?$"):
        load_config(tmp_path / "c.yaml")


@pytest.mark.parametrize("part", ["discover", "fit", "anchors.0"])
def test_texts_with_several_emotions_are_for_tests_alone(part):
    flags = {f"corpora.{part}.name": "goemotions", f"corpora.{part}.several": "true"}
    with pytest.raises(UserError, match="several: features are found and steerings chosen on texts with one emotion"):
        load_config(None, flags)
    assert load_config(None, {"corpora.test.0.name": "goemotions", "corpora.test.0.several": "yes"})
    flags = {"labels": "[joy, love + hate]", "corpora.test.0.name": "xed", "corpora.test.0.several": "true"}
    with pytest.raises(UserError, match=r"labels must not hold ' \+ ' where texts may have several"):
        load_config(None, flags)


def test_a_corpus_without_a_split_is_that_of_its_part(tmp_path):
    own = {"name": "local", "path": "own.csv"}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"corpora": {"discover": own, "fit": own, "test": [own]}}))
    corpora = load_config(tmp_path / "c.yaml").corpora
    assert (corpora.discover.split, corpora.fit.split, corpora.test[0].split) == ("discover", "fit", "test")
    corpora = load_config(tmp_path / "c.yaml", {"corpora.fit.split": "all"}).corpora
    assert (corpora.discover.split, corpora.fit.split) == ("discover", "all")
