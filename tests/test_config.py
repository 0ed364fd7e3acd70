"""Settings: paths beside their file, refusals that name the setting."""

from pathlib import Path

import pytest

from u2a_core.config import Settings, load_settings
from u2a_core.errors import ConfigError


def written(folder: Path, text: str) -> Path:
    (folder / "s.yaml").write_text(text, encoding="utf-8")
    return folder / "s.yaml"


def test_paths_are_relative_to_the_file(tmp_path: Path):
    (tmp_path / "n.jsonl").write_text("{}")
    settings = load_settings(written(tmp_path, "data: {negatives: n.jsonl}"))
    assert settings.data.negatives == str(tmp_path / "n.jsonl")


@pytest.mark.parametrize("spec", ["mine:score", "mine.py:score"])
def test_a_function_of_a_file_beside_the_settings_is_found(tmp_path: Path, spec: str):
    (tmp_path / "mine.py").write_text("def score(prompts, replies): return [0.0] * len(replies)")
    settings = load_settings(written(tmp_path, f"objective: {{reward: '{spec}'}}"))
    assert settings.objective.reward == f"{tmp_path / 'mine.py'}:score"


def test_hub_ids_stay_as_they_are(tmp_path: Path):
    settings = load_settings(written(tmp_path, "model: {path: owner/name}"))
    assert settings.model.path == "owner/name"


def test_an_empty_section_list_gives_the_defaults(tmp_path: Path):
    assert load_settings(written(tmp_path, "{}")) == Settings()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("inner: {stepz: 3}", r"inner.stepz: is no setting \(did you mean inner.steps\?\)"),
        ("inner: {steps: 0}", "inner.steps: .*greater than or equal to 1; got 0"),
        ("inner: {method: rlhf}", "inner.method: .*'npo' or 'simnpo'; got 'rlhf'"),
        ("inner: {method: graddiff}", "data.retain must name a retain set"),
        ("objective: {samples: 1}", "objective.samples: .*; got 1"),
        ("outer: {step_size: -1}", "outer.step_size: .*; got -1"),
        ("- a list", "must hold sections"),
        ("iner: {steps: 3}", r"iner: is no setting \(did you mean inner\?\)"),
        ("inner: {steps: 3}\ninner: {lam: 1}", "line 2: inner stands there a second time"),
        ("inner: {steps: 3, steps: 4}", "line 1: steps stands there a second time"),
        ("inner: [", "must be valid YAML"),
        ("just text", "must hold sections such as model"),
        ("seed: 2020-99-99", "must be valid YAML; got a value that is not of its kind: month"),
        ("inner: {steps: !!int abc}", "must be valid YAML; got a value"),
        ("seed: !!timestamp foo", "must be valid YAML; got a value"),
        ("seed: !!bool abc", "must be valid YAML; got a value"),
        ("a: " + "[" * 3000 + "]" * 3000, "must be valid YAML; got too many levels"),
        ('model: {path: "\\ud800"}', "texts must be whole characters"),
        ('data: {columns: {retain: {prompt: "\\udc00"}}}', "texts must be whole characters"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, words: str):
    with pytest.raises(ConfigError, match=words):
        load_settings(written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml must be a readable YAML file"):
        load_settings(tmp_path / "nowhere.yaml")


def test_every_setting_is_explained():
    for section in Settings.model_fields.values():
        fields = getattr(section.annotation, "model_fields", {"": section})
        assert all(field.description for field in fields.values()), section


def test_a_mapping_may_be_merged_and_then_said_otherwise(tmp_path: Path):
    text = "a: &a {steps: 3, lam: 1}\n"
    with pytest.raises(ConfigError, match="a: is no setting"):
        load_settings(written(tmp_path, f"{text}inner: {{<<: *a, steps: 4}}"))
    merged = "inner: {<<: {steps: 3, lam: 1}, steps: 4}"
    assert load_settings(written(tmp_path, merged)).inner.steps == 4
