"""The configuration: every problem is said at once, at the door."""

import json
from pathlib import Path

import pytest

from firstpick.cli import main
from firstpick.cli.check import flat, keys_table
from firstpick.config import KEYS, Config, ConfigError, load_config, state_folder

ROOT = Path(__file__).parents[1]


def write(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_file_the_defaults_hold():
    assert load_config() == Config()


def test_a_file_and_then_the_command_line_win(tmp_path):
    path = write(tmp_path, "batch_size: 20\nviews: {size: 224, percentiles: [1, 99]}\neligible: {modalities: [CT]}\n")
    config = load_config(path, {"batch_size": "5", "views.per_plane": "1", "encoder": "pixels", "auto_next": "true"})
    assert (config.batch_size, config.encoder, config.auto_next) == (5, "pixels", True)
    assert (config.views.size, config.views.per_plane, config.views.percentiles) == (224, 1, (1.0, 99.0))
    assert config.eligible.modalities == ("CT",)


@pytest.mark.parametrize(
    "text", ["/data/ward #3/state", "2024", "007", "no", "1e3", "[a", "{a: 1}", "null", "~", "", "'quoted'", " a: b "]
)
def test_a_text_of_the_command_line_stays_what_was_typed(text):
    assert load_config(None, {"state_dir": text}).state_dir == text
    assert load_config(None, {"eligible.series_description": text.strip("[")}).eligible.series_description in text


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        ("old/*", ("old/*",)),
        ("#recycle/*", ("#recycle/*",)),
        ("[ab]*", ("[ab]*",)),
        ("[no, 007, 1e3]", ("no", "007", "1e3")),
        ("", ()),
    ],
)
def test_a_list_of_the_command_line_holds_texts_as_typed(text, patterns):
    assert load_config(None, {"eligible.exclude": text}).eligible.exclude == patterns


def test_the_state_folder_is_the_one_that_was_named(tmp_path, capsys):
    state = str(tmp_path / "ward #3" / "state")
    for arguments in (["--state", state], ["--conf", "state_dir", state]):
        assert main(["check", *arguments]) == 0
        assert f"state_dir: {json.dumps(state)}\n" in capsys.readouterr().out


def test_numbers_of_a_file_are_texts_where_texts_belong_and_a_lone_value_is_a_list_of_one(tmp_path):
    config = load_config(write(tmp_path, "layer: 11\nviews: {planes: axial}\neligible: {exclude: 2024}\n"))
    assert (config.layer, config.views.planes, config.eligible.exclude) == ("11", ("axial",), ("2024",))


def test_numbers_are_read_in_any_notation(tmp_path):
    assert load_config(write(tmp_path, "time_limit_s: 1e3\n")).time_limit_s == 1000
    assert load_config(None, {"views.every_mm": "1e1", "params": "{n_init: 3}"}).params == {"n_init": 3}


def test_all_problems_are_listed_at_once_with_near_misses(tmp_path):
    path = write(
        tmp_path,
        "stratgy: kmeans\nbatch_size: many\nencoder: dinov2\nviews: {sise: 3}\nscaling: l3\nseed: -1\nn_jobs: yes\n",
    )
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    text = str(caught.value)
    assert all(line.startswith(str(path)) for line in text.splitlines())
    assert "key 'stratgy' is not known. Did you mean 'strategy'?" in text
    assert "batch_size must be a whole number; got 'many'." in text
    assert "key 'views.sise' is not known. Did you mean 'views.size'?" in text
    assert "seed must be at least 0; got -1." in text
    assert "n_jobs must be a whole number; got 'True'." in text


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("strategy", "kmean", "Did you mean 'kmeans'? Choose one of"),
        ("encoder", "dinov2", "encoder 'dinov2' is not known. Did you mean 'dinov2-s'?"),
        ("params", "{n_start: 3}", "n_init"),
        ("scaling", "l3", "scaling 'l3' is not known. Choose one of l2, none, standardise, pca, whiten."),
        ("batch_size", "0", "batch_size must be at least 1; got 0."),
        ("seed", "-1", "seed must be at least 0; got -1."),
        ("batch_size", "true", "batch_size must be a whole number; got 'true'."),
        ("views.planes", "[axial, oblique]", "oblique"),
        ("params", "3", "params must hold keys and values; got 3."),
        ("views", "3", "views must hold keys and values; got '3'."),
        ("views.percentiles", "[1, 2, 3]", "views.percentiles must be a list of 2 values"),
        ("eligible.series_description", "'('", "unterminated"),
        ("weights", "/no/such/file", "weights '/no/such/file' cannot be read."),
        ("labels", "[{value: 1}]", "labels[0].name is missing."),
        ("labels", "[{name: a, value: 0}]", "labels[0].value must be at least 1; got 0."),
        ("labels", "[{name: a, value: 1}, {name: a, value: 1}]", "labels: name 'a' is used twice."),
        ("labels", "[{name: a, value: 1, color: red}]", "labels[0].color must look like #ffcc00; got 'red'."),
        ("layer", "13", "layer '13' is not one of encoder 'dinov2-s'. Choose one of 1, 2,"),
        ("tokens", "mean", "tokens 'mean' is not one of encoder 'dinov2-s'. Choose one of class, patch, both."),
        ("pooling", "median", "Choose one of mean, mean+max, per-plane."),
    ],
)
def test_a_wrong_value_says_what_is_allowed(key, value, text):
    with pytest.raises(ConfigError) as caught:
        load_config(None, {key: value})
    assert text in str(caught.value)


@pytest.mark.parametrize(("text", "message"), [("a: [", "not valid YAML"), ("- a", "must hold keys and values")])
def test_a_file_that_is_no_configuration_is_one_sentence(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, text))
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_config(tmp_path / "missing.yaml")


def test_state_never_lies_in_the_studies_or_app_folder(tmp_path):
    for kind in ("studies", "app"):
        config = load_config(None, {"state_dir": str(tmp_path / kind / "state")})
        with pytest.raises(ConfigError, match=f"lies in the {kind} folder"):
            state_folder(config, tmp_path / "studies", app_dir=tmp_path / "app")


def test_state_on_a_network_disk_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("firstpick.config._file_system", lambda path: "nfs4")
    with pytest.raises(ConfigError, match=r"network disk \(nfs4\)"):
        state_folder(load_config(None, {"state_dir": str(tmp_path)}), "/studies")


def test_each_studies_folder_has_a_default_state_of_its_own(tmp_path):
    first, second = (state_folder(Config(), tmp_path / name / "images") for name in "ab")
    assert first != second
    assert first.name.startswith("images-")
    assert first == state_folder(Config(), str(tmp_path / "a" / "images"))


def test_every_key_is_documented_in_the_readmes_table():
    assert list(flat(Config())) == list(KEYS)
    assert keys_table() in (ROOT / "sample_configs" / "README.md").read_text(encoding="utf-8")


def test_every_sample_configuration_is_in_the_readmes_table():
    readme = (ROOT / "sample_configs" / "README.md").read_text(encoding="utf-8")
    names = [path.name for path in (ROOT / "sample_configs").glob("*.yaml")]
    assert [name for name in names if f"\n| [{name}]({name}) |" not in readme] == []


@pytest.mark.parametrize("path", sorted((ROOT / "sample_configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_sample_configuration_loads(path):
    assert load_config(path).encoder == "dinov2-s"
