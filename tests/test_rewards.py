"""Reward models: turns, logits, templates, padding, devices, and the check on known pairs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from families import FAMILIES, tokenizer_of
from safetensors.torch import load_file, save_file

from u2a_core import experiment as experiments
from u2a_core.alignment import disagreement, reward_agreement
from u2a_core.commands.work import _described
from u2a_core.config import ModelSettings, ObjectiveSettings, Settings, load_settings, override
from u2a_core.errors import ConfigError, ModelError
from u2a_core.judges import Question, load_judge
from u2a_core.models import HarmClassifier, RewardModel, load_local_judge, load_reward
from u2a_core.types import Message, PreferencePair, Prompt, prompt_text, user_prompt

CPU = ModelSettings(device="cpu", dtype="float32")
PROMPTS = [user_prompt(t) for t in ("Hi.", "How do I help with the garden?", "Hello.")]
REPLIES = ["Ask someone else.", "No.", "I am happy to help you. " * 3]

TALK: Prompt = (
    Message("system", "Be kind."),
    Message("user", "Hi."),
    Message("assistant", "Hello."),
    Message("user", "How do I help with the garden?"),
)


def classifier(folder: Path, *, logits: int = 1, family: str = "llama3", **config: object) -> Path:
    """A random sequence classifier in a folder."""
    import transformers as t

    tokenizer = tokenizer_of(FAMILIES[family])
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
             "intermediate_size": 32, "max_position_embeddings": 128}  # fmt: skip
    kinds = {"bert": (t.BertConfig, t.BertForSequenceClassification)}
    kind, model = kinds.get(
        str(config.pop("kind", "")), (t.LlamaConfig, t.LlamaForSequenceClassification)
    )
    torch.manual_seed(0)
    config = {"pad_token_id": None, "initializer_range": 0.3} | config
    model(kind(vocab_size=len(tokenizer), num_labels=logits, **sizes, **config)).save_pretrained(
        folder
    )
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pad", [None, -1, 3, "eos"])
def test_a_batch_scores_as_each_reply_alone_whatever_the_pad_token(tmp_path: Path, pad: Any):
    eos = tokenizer_of(FAMILIES["llama3"]).eos_token_id
    folder = classifier(tmp_path, pad_token_id=eos if pad == "eos" else pad)
    reward = RewardModel.load(str(folder), CPU)
    alone = [reward([p], [r])[0] for p, r in zip(PROMPTS, REPLIES, strict=True)]
    assert reward(PROMPTS, REPLIES) == pytest.approx(alone, abs=1e-5)
    assert len(set(alone)) == 3


def test_without_a_pad_token_the_score_is_that_of_the_very_last_token(tmp_path: Path):
    """The end token is not taken for padding; the configuration is left as it was."""
    reward = RewardModel.load(str(classifier(tmp_path)), CPU)
    from u2a_core.data.encode import conversation_ids

    ids = conversation_ids(user_prompt("Hi."), "No.", reward.tokenizer)
    with torch.no_grad():
        (expected,) = reward.model(torch.tensor([ids])).logits[:, 0].tolist()
    assert reward([PROMPTS[0], PROMPTS[2]], ["No.", "I am happy."])[0] == pytest.approx(
        expected, abs=1e-5
    )
    assert reward.model.config.pad_token_id is None


def by_transformers(folder: Path, turns: list[dict[str, str]]) -> float:
    """The score of a whole conversation, rendered by the tokenizer's own template."""
    import transformers as t

    tokenizer = t.AutoTokenizer.from_pretrained(folder)
    model = t.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ids = tokenizer.apply_chat_template(turns, return_dict=False, return_tensors="pt")
    with torch.no_grad():
        return float(model(ids).logits[0, 0])


@pytest.mark.parametrize("prompt", [TALK, TALK[1:], PROMPTS[1]])
def test_a_conversation_is_read_turn_by_turn(tmp_path: Path, prompt: Prompt):
    """As plain transformers reads it; alone, and padded beside a shorter one."""
    folder = classifier(tmp_path)
    turns = [{"role": m.role, "content": m.content} for m in prompt]
    expected = by_transformers(folder, [*turns, {"role": "assistant", "content": REPLIES[0]}])
    reward = RewardModel.load(str(folder), CPU)
    assert reward([prompt], REPLIES[:1]) == pytest.approx([expected], abs=1e-5)
    found = reward([PROMPTS[0], prompt], ["No.", REPLIES[0]])
    assert found[1] == pytest.approx(expected, abs=1e-5)
    if len(prompt) > 1:
        flat = user_prompt(prompt_text(prompt))
        assert abs(reward([flat], REPLIES[:1])[0] - expected) > 0.05


def test_a_reward_model_without_a_system_role_reads_the_system_text_in_the_first_turn(
    tmp_path: Path,
):
    folder = classifier(tmp_path, family="gemma2")
    turns = [{"role": m.role, "content": m.content} for m in TALK[1:]]
    turns[0]["content"] = "Be kind.\n\nHi."
    expected = by_transformers(folder, [*turns, {"role": "assistant", "content": "No."}])
    found = RewardModel.load(str(folder), CPU)([TALK], ["No."])
    assert found == pytest.approx([expected], abs=1e-5)


def test_a_reward_model_reads_the_same_date_every_day(tmp_path: Path):
    folder = classifier(tmp_path)
    file = folder / "chat_template.jinja"
    now = "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y %f') }}{% endif %}"
    file.write_text(now + file.read_text())
    reward = RewardModel.load(str(folder), CPU)
    assert reward._read(TALK, "No.") == reward._read(TALK, "No.")
    read = reward.tokenizer.decode(reward._read(TALK, "No.")["input_ids"])
    assert read.startswith("26 Jul 2024 %f")


def test_two_logits_are_their_difference_and_more_need_a_choice(tmp_path: Path):
    two = RewardModel.load(str(classifier(tmp_path / "two", logits=2)), CPU)
    found = two.logits(PROMPTS, REPLIES)
    assert two(PROMPTS, REPLIES) == pytest.approx((found[:, 1] - found[:, 0]).tolist())
    folder = str(classifier(tmp_path / "five", logits=5))
    with pytest.raises(ModelError, match=r"got 5\. Set objective\.reward_logit"):
        RewardModel.load(folder, CPU)(PROMPTS, REPLIES)
    third = RewardModel.load(folder, CPU, logit=2)
    assert third(PROMPTS, REPLIES) == third.logits(PROMPTS, REPLIES)[:, 2].tolist()
    with pytest.raises(ConfigError, match="must be below the 5 logits"):
        RewardModel.load(folder, CPU, logit=5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("head", ["score_head", "v_head.summary", "value_head"])
def test_a_score_head_of_another_name_is_the_score(tmp_path: Path, head: str, bias: bool):
    one = RewardModel.load(str(classifier(tmp_path / "one")), CPU)
    folder = classifier(tmp_path / "other")
    tensors = load_file(folder / "model.safetensors")
    tensors[f"{head}.weight"] = tensors.pop("score.weight")
    if bias:
        tensors[f"{head}.bias"] = torch.tensor([2.5])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["ScoreModel"]}
    config = {k: v for k, v in config.items() if k not in ("id2label", "label2id")}
    (folder / "config.json").write_text(json.dumps(config))
    expected = [r + 2.5 * bias for r in one(PROMPTS, REPLIES)]
    assert RewardModel.load(str(folder), CPU)(PROMPTS, REPLIES) == pytest.approx(expected, abs=1e-5)


def test_a_reward_model_without_a_template_must_be_told_how_it_reads(tmp_path: Path):
    folder = str(classifier(tmp_path, family="gpt2"))
    with pytest.raises(ModelError, match=r"Set objective\.reward_template to plain, pair"):
        RewardModel.load(folder, CPU)
    with pytest.raises(
        ConfigError, match=r"a text with \{prompt\} and \{reply\}; got 'Q: \{prompt\}'"
    ):
        RewardModel.load(folder, CPU, template="Q: {prompt}")


@pytest.mark.parametrize(
    ("template", "read"),
    [
        ("plain", "User: Say {reply}.\nAssistant: No.<|endoftext|>"),
        ("BEGIN USER: {prompt} ASSISTANT:{reply}", "BEGIN USER: Say {reply}. ASSISTANT:No."),
        ("pair", "Say {reply}.No."),
    ],
)
def test_declared_templates(tmp_path: Path, template: str, read: str):
    reward = RewardModel.load(str(classifier(tmp_path, family="gpt2")), CPU, template=template)
    assert (
        reward.tokenizer.decode(reward._read(user_prompt("Say {reply}."), "No.")["input_ids"])
        == read
    )


@pytest.mark.parametrize("template", ["Q: {prompt} A: {reply}", "pair"])
def test_a_declared_template_has_the_turns_as_one_text(tmp_path: Path, template: str):
    reward = RewardModel.load(str(classifier(tmp_path)), CPU, template=template)
    flat = user_prompt("Be kind.\nHi.\nHello.\nHow do I help with the garden?")
    assert reward._read(TALK, "No.") == reward._read(flat, "No.")
    assert reward([TALK], ["No."]) == reward([flat], ["No."])


def test_a_classifier_that_judges_reads_the_turns(tmp_path: Path):
    folder = classifier(tmp_path, logits=2)
    judge = load_judge(Settings(model=CPU, evaluation={"judge": str(folder)}), tmp_path)
    read = RewardModel.load(str(folder), CPU).logits([TALK], ["No."]).softmax(1)[0, 1]
    question = Question("policy", TALK, "No.")
    assert judge([question], lambda *_: None) == [round(1 + 4 * float(read))]


def test_an_encoder_reads_prompt_and_reply_as_two_segments(tmp_path: Path):
    folder = classifier(tmp_path, kind="bert", family="gpt2", pad_token_id=0)
    reward = RewardModel.load(str(folder), CPU, template="pair")
    from tokenizers.processors import TemplateProcessing

    reward.tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    reward.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A:0", pair="$A:0 $B:1", special_tokens=[]
    )
    read = reward._read(PROMPTS[0], "No.")
    assert set(read["token_type_ids"]) == {0, 1}
    alone = [reward([p], [r])[0] for p, r in zip(PROMPTS, REPLIES, strict=True)]
    assert reward(PROMPTS, REPLIES) == pytest.approx(alone, abs=1e-5)


def test_a_conversation_beyond_the_reward_models_context_is_a_sentence(tmp_path: Path):
    reward = RewardModel.load(str(classifier(tmp_path)), CPU)
    with pytest.raises(
        ModelError, match=r"context of 128 tokens must hold prompt and reply; got \d"
    ):
        reward([user_prompt("word " * 200)], ["Yes."])


def test_the_settings_of_the_objective_reach_the_reward_model(tmp_path: Path):
    folder = str(classifier(tmp_path, family="gpt2", logits=3))
    objective = ObjectiveSettings(reward_template="plain", reward_logit=1, reward_device="cpu")
    reward = load_reward(folder, ModelSettings(device="meta", dtype="float32"), objective)
    assert isinstance(reward, RewardModel)
    assert reward.logit == 1
    assert next(reward.model.parameters()).device.type == "cpu"
    assert load_reward(folder, ModelSettings(device="meta", dtype="float32"), objective) is reward


def test_a_classifier_that_judges_reads_two_segments_without_a_template(tmp_path: Path):
    judge = load_local_judge(str(classifier(tmp_path, family="gpt2", logits=2)), CPU)
    assert isinstance(judge, HarmClassifier)
    assert judge.scored.template == "pair"
    found = judge(PROMPTS, REPLIES)
    logits = judge.scored.logits(PROMPTS, REPLIES)
    assert found == pytest.approx(logits.softmax(1)[:, 1].tolist())


PAIRS = [PreferencePair(user_prompt(f"Ask {i}."), "good " * i, "bad") for i in range(1, 101)]


def asked(tmp_path: Path, body: str, **objective: Any) -> Settings:
    (tmp_path / "mine.py").write_text(f"def r(prompts, replies):\n    return {body}\n")
    spec = f"{tmp_path / 'mine.py'}:r"
    return Settings(objective=ObjectiveSettings(reward=spec, **objective))


def test_a_function_is_given_texts_and_a_reward_model_turns(tmp_path: Path):
    body = "[float(p.count(chr(10))) for p in prompts]"
    mine = load_reward(asked(tmp_path, body).objective.reward, CPU)
    assert mine([TALK, PROMPTS[0]], ["No.", "No."]) == [3.0, 0.0]
    folder = classifier(tmp_path)
    pairs = [PreferencePair(TALK, *REPLIES[:2]), PreferencePair(TALK, *REPLIES[1:])]
    model = RewardModel.load(str(folder), CPU)
    better = [model([TALK], [p.chosen]) > model([TALK], [p.rejected]) for p in pairs]
    settings = Settings(model=CPU, objective=ObjectiveSettings(reward=str(folder)))
    found = reward_agreement(settings, pairs)
    assert found is not None
    assert found.mean == sum(better) / 2


def test_a_reward_that_agrees_with_known_pairs_warns_of_nothing(tmp_path: Path):
    settings = asked(tmp_path, "[float('good' in r) for r in replies]")
    found = reward_agreement(settings, PAIRS)
    assert found is not None
    assert (found.mean, found.n) == (1.0, 64)
    assert disagreement(settings, found) == ()


@pytest.mark.parametrize("body", ["[float('bad' in r) for r in replies]", "[1.0 for r in replies]"])
def test_a_reward_that_disagrees_or_cannot_tell_is_told_with_its_interval(
    tmp_path: Path, body: str
):
    settings = asked(tmp_path, body)
    (said,) = disagreement(settings, reward_agreement(settings, PAIRS))
    assert "in 0% of 64 preference pairs (95 % interval 0% to 6%; 60% are expected)" in said


def test_a_margin_of_pairs_asks_no_reward(tmp_path: Path):
    body = "[1.0 for r in replies]"
    assert reward_agreement(asked(tmp_path, body, kind="preference"), PAIRS) is None
    assert reward_agreement(asked(tmp_path, body), []) is None


def test_a_report_holds_the_agreement_and_its_warning(scenario: Path, tmp_path: Path):
    (tmp_path / "mine.py").write_text(
        "def r(prompts, replies):\n    return [-len(r) for r in replies]\n"
    )
    raw = yaml.safe_load(scenario.read_text())
    reversed_reward = f"{tmp_path / 'mine.py'}:r"
    settings = override(load_settings(scenario), ["--objective.reward", reversed_reward])
    assert raw["objective"]["reward"] != reversed_reward
    loaded = experiments.load_experiment(settings)
    facts = json.loads(json.dumps(_described(loaded)))
    assert facts["reward_agreement"]["n"] == 12
    low = facts["reward_agreement"]["mean"] < 0.6
    assert bool(loaded.warnings) == low
