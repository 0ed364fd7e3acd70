"""Policies, sampled replies, rewards: through the library's own loading and generation."""

from pathlib import Path

import pytest
import torch

from u2a_core import params
from u2a_core.config import ModelSettings, load_settings
from u2a_core.data.encode import batches, conversation_ids, encode, prompt_ids
from u2a_core.errors import ConfigError, DataError, ModelError
from u2a_core.losses import response_log_probs
from u2a_core.models import (
    Generator,
    Policy,
    RewardModel,
    load_policy,
    load_reward,
    save_policy,
    use_threads,
)
from u2a_core.models.loading import load_tokenizer
from u2a_core.types import Message, Sample, user_prompt


@pytest.fixture(scope="module")
def policy(scenario: Path) -> Policy:
    return load_policy(load_settings(scenario).model)


def sample(policy: Policy, prompt: str, response: str) -> Sample:
    return Sample("s", user_prompt(prompt), response)


def test_labels_are_the_response_and_its_end_token(policy: Policy):
    encoded, _ = encode([sample(policy, "How do I make tea?", "Ask.")], policy.tokenizer,
                        max_length=96)  # fmt: skip
    (batch,) = batches(encoded, tokens_per_batch=96)
    labelled = batch.labels[0][batch.labels[0] != -100]
    assert policy.tokenizer.decode(labelled) == "Ask.<|end|>"


def test_prompts_are_a_prefix_of_their_conversation(policy: Policy):
    prompt = (Message("system", "Be kind."), Message("user", "Hello."))
    (ids,) = prompt_ids([prompt], policy.tokenizer)
    whole = conversation_ids(prompt, "Hi.", policy.tokenizer)
    assert whole[: len(ids)] == ids
    assert policy.tokenizer.decode(ids).endswith("<|assistant|>")


def test_the_begin_token_stands_once(policy: Policy):
    ids = conversation_ids(user_prompt("Hello."), "Hi.", policy.tokenizer)
    assert ids.count(policy.tokenizer.bos_token_id) == 1


def test_long_responses_are_cut_and_counted(policy: Policy):
    long = sample(policy, "How do I make tea?", "Ask someone else. " * 30)
    encoded, report = encode([long], policy.tokenizer, max_length=40)
    assert (len(encoded[0].input_ids), report.truncated, report.lengths) == (40, 1, (40,))


def test_where_no_length_is_set_the_models_context_counts(scenario: Path):
    settings = load_settings(scenario).model
    assert load_policy(settings.model_copy(update={"max_length": 0})).max_length == 96
    assert load_policy(settings.model_copy(update={"max_length": 50})).max_length == 50


def test_batches_hold_every_row_once_within_their_size(policy: Policy):
    samples = [sample(policy, "Hi.", "word " * n) for n in range(1, 20)]
    encoded, _ = encode(samples, policy.tokenizer, max_length=96)
    packed = batches(encoded, tokens_per_batch=100)
    assert sorted(torch.cat([b.index for b in packed]).tolist()) == list(range(19))
    assert all(b.input_ids.numel() <= 100 for b in packed)


def test_generation_is_reproducible_and_leaves_the_random_state(policy: Policy):
    generator = Generator(policy.tokenizer, 8)
    prompts = [user_prompt("How do I make tea?")] * 3
    state = torch.random.get_rng_state()
    one = generator(policy.model, prompts, samples=2, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert generator(policy.model, prompts, samples=2, seed=1).replies == one.replies
    assert generator(policy.model, prompts, samples=2, seed=2).replies != one.replies
    assert one.prompt_index == (0, 0, 1, 1, 2, 2)


def test_sampled_tokens_are_scored_as_they_were_drawn(policy: Policy):
    """Labels of rollouts decode to the replies, and greedy-like replies have high probability."""
    rollouts = Generator(policy.tokenizer, 20, temperature=0.05)(
        policy.model, [user_prompt("How do I make tea?")], samples=2, seed=0
    )
    (batch,) = rollouts.batches
    for row, index in enumerate(batch.index.tolist()):
        labels = batch.labels[row][batch.labels[row] != -100]
        text = policy.tokenizer.decode(labels, skip_special_tokens=True).strip()
        assert text == rollouts.replies[index]
    assert float(response_log_probs(policy.model, batch).values.detach().exp().median()) > 0.3


def test_the_models_own_habits_of_generation_are_put_aside(policy: Policy):
    """A repetition penalty in generation_config.json would bias J's policy gradient."""
    draw = Generator(policy.tokenizer, 20)
    plain = draw(policy.model, [user_prompt("Hello.")], samples=4, seed=0).replies
    own = policy.model.generation_config
    own.update(repetition_penalty=3.0, no_repeat_ngram_size=1, suppress_tokens=[5, 6, 7])
    try:
        assert draw(policy.model, [user_prompt("Hello.")], samples=4, seed=0).replies == plain
        assert policy.model.generation_config is own
        assert own.repetition_penalty == 3.0
    finally:
        own.update(repetition_penalty=None, no_repeat_ngram_size=None, suppress_tokens=None)


def test_a_conversation_that_the_template_refuses_is_a_sentence(scenario: Path):
    tokenizer = load_tokenizer(load_settings(scenario).model.path)
    tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(DataError, match=r"System role not supported for the roles system, user"):
        prompt_ids([(Message("system", "Be kind."), Message("user", "Hello."))], tokenizer)


def test_reply_frequencies_follow_the_policy(policy: Policy):
    """First tokens drawn 2000 times against the softmax, by their standard errors."""
    prompt = user_prompt("How do I make tea?")
    rollouts = Generator(policy.tokenizer, 1)(policy.model, [prompt], samples=2000, seed=0)
    (ids,) = prompt_ids([prompt], policy.tokenizer)
    with torch.no_grad():
        chances = policy.model(torch.tensor([ids])).logits[0, -1].softmax(-1)
    first = torch.cat([b.input_ids[:, len(ids)] for b in rollouts.batches])
    counts = torch.bincount(first, minlength=len(chances)) / 2000
    error = (chances * (1 - chances) / 2000).sqrt()
    assert bool(((counts - chances).abs() <= 4.5 * error + 1e-3).all())


@pytest.mark.parametrize(("parameters", "share"), [("full", 1.0), ("last_n", 0.3), ("lora", 0.35)])
def test_only_the_chosen_parameters_train(scenario: Path, parameters: str, share: float):
    settings = load_settings(scenario).model.model_copy(update={"parameters": parameters})
    model = load_policy(settings).model
    trained = sum(p.numel() for p in params.trainable(model).values())
    total = sum(p.numel() for p in model.parameters())
    assert 0 < trained <= share * total
    if parameters == "last_n":
        assert all(".layers.2." in name for name in params.trainable(model))


def test_more_last_layers_than_there_are_is_refused(scenario: Path):
    settings = load_settings(scenario).model
    change = {"parameters": "last_n", "last_layers": 9}
    with pytest.raises(ConfigError, match="at most the model's 3 layers; got 9"):
        load_policy(settings.model_copy(update=change))


def test_a_saved_policy_loads_with_the_same_weights(policy: Policy, tmp_path: Path):
    save_policy(policy, tmp_path, provenance={"command": "test"})
    again = load_policy(policy.settings.model_copy(update={"path": str(tmp_path)}))
    theirs = params.trainable(again.model)
    assert all(torch.equal(p, theirs[n]) for n, p in params.trainable(policy.model).items())


def test_no_path_and_no_folder_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"model\.path must name"):
        load_policy(ModelSettings())
    with pytest.raises(ModelError, match="must hold a tokenizer"):
        load_policy(ModelSettings(path=str(tmp_path), device="cpu"))


def test_the_trained_reward_model_ranks_good_above_bad(scenario: Path):
    settings = load_settings(scenario).model
    reward = load_reward(str(scenario.parent / "reward_model"), settings)
    prompt = user_prompt("What is the capital of France?")
    replies = ["The capital of France is Paris.", "The capital of France is Lyon."]
    good, bad = reward([prompt] * 2, replies)
    assert good > 0.5
    assert bad < -0.5


def test_reward_of_a_padded_batch_is_that_of_each_reply_alone(scenario: Path):
    reward = load_reward(str(scenario.parent / "reward_model"), load_settings(scenario).model)
    assert isinstance(reward, RewardModel)
    texts = ("What is the capital of France?", "Hello. How do I make tea?", "Hi.")
    prompts = [user_prompt(text) for text in texts]
    replies = ["The capital of France is Paris.", "Ask someone else. I am busy.", "No."]
    alone = [reward([p], [r])[0] for p, r in zip(prompts, replies, strict=True)]
    assert reward(prompts, replies) == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize("spec", ["nowhere:f", "math:nothing", "math:pi"])
def test_a_reward_that_cannot_be_called_is_refused(spec: str):
    with pytest.raises(ModelError, match="must be"):
        load_reward(spec, ModelSettings())


def test_a_file_that_is_no_python_is_refused(tmp_path: Path):
    (tmp_path / "mine.py").write_text("def f(:\n")
    with pytest.raises(ModelError, match="invalid syntax"):
        load_reward(f"{tmp_path / 'mine.py'}:f", ModelSettings())


def test_a_missing_reward_names_the_ways_to_give_one():
    with pytest.raises(ConfigError, match="module:function"):
        load_reward("", ModelSettings())


def test_a_reward_function_that_expects_single_texts_is_told_what_it_is_given(tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text("def score(prompt, reply):\n    return reply.startswith('a')\n")
    reward = load_reward(f"{file}:score", ModelSettings())
    expected = "must take \\(prompts, replies\\), two sequences of texts, and return a number for"
    with pytest.raises(ModelError, match=expected):
        reward([user_prompt("p")], ("r",))


def test_a_tiny_model_computes_in_one_thread_unless_told(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
):
    before = torch.get_num_threads()
    large = torch.nn.Linear(10_000, 1_001, device="meta")
    try:
        for wanted, model, threads in ((0, policy.model, 1), (3, policy.model, 3), (2, large, 2)):
            use_threads(wanted, model)
            assert torch.get_num_threads() == threads
        monkeypatch.setattr("u2a_core.models.policy._OWN_THREADS", 4)
        use_threads(0, large)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
