"""Sampled replies: noise that depends on the prompt alone, exact frequencies, ends of turns."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from u2a_core.config import load_settings
from u2a_core.errors import NumericalError
from u2a_core.losses import output_embedding
from u2a_core.models import Generator, Policy, load_policy
from u2a_core.models.generation import plain_sampling, stop_ids, turn_end
from u2a_core.models.noise import add_gumbel, row_keys
from u2a_core.models.streaming import stream_reply
from u2a_core.types import user_prompt

PROMPTS = [
    user_prompt(text)
    for text in ("Hi.", "How do I make tea?", "What is the capital of France? Tell me, please.")
]


@pytest.fixture(scope="module")
def policy(scenario: Path) -> Policy:
    """In float64: what a pass rounds differs between batches by 1e-15."""
    loaded = load_policy(load_settings(scenario).model)
    loaded.model.double()
    return loaded


@pytest.mark.parametrize("rows", [1, 2, 5, 256])
def test_a_reply_is_the_same_whatever_is_sampled_beside_it(policy: Policy, rows: int):
    whole = Generator(policy.tokenizer, 16)(policy.model, PROMPTS, samples=3, seed=1).replies
    some = Generator(policy.tokenizer, 16, rows=rows)
    assert some(policy.model, PROMPTS, samples=3, seed=1).replies == whole
    backwards = some(policy.model, PROMPTS[::-1], samples=3, seed=1).replies
    assert backwards == (*whole[6:], *whole[3:6], *whole[:3])
    assert some(policy.model, PROMPTS[1:2], samples=2, seed=1).replies == whole[3:5]


def test_rows_of_every_length_come_back_in_prompt_order(policy: Policy):
    rollouts = Generator(policy.tokenizer, 8, rows=2)(
        policy.model, PROMPTS[::-1], samples=2, seed=0
    )
    assert rollouts.prompt_index == (0, 0, 1, 1, 2, 2)
    for batch in rollouts.batches:
        for row, index in zip(batch.input_ids, batch.index.tolist(), strict=True):
            asked = PROMPTS[::-1][rollouts.prompt_index[index]][-1].content
            assert asked in policy.tokenizer.decode(row)


def test_another_seed_another_sample_and_a_repeated_prompt_have_other_noise(policy: Policy):
    ids = [[1, 2, 3], [4, 5], [1, 2, 3]]
    keys = row_keys(ids, samples=2, seed=0)
    assert len(set(keys)) == 6
    assert not set(keys) & set(row_keys(ids, samples=2, seed=1))
    assert row_keys(ids[:1], samples=4, seed=0) == [*keys[:2], *keys[4:]]
    draw = Generator(policy.tokenizer, 16)
    replies = draw(policy.model, PROMPTS[:1] * 8, samples=1, seed=0).replies
    assert len(set(replies)) > 1


def test_one_word_at_a_time_is_the_first_reply_of_the_prompt(policy: Policy):
    (first,) = Generator(policy.tokenizer, 16)(
        policy.model, PROMPTS[1:2], samples=1, seed=3
    ).replies
    text, _ = stream_reply(
        policy, PROMPTS[1][-1].content, max_new_tokens=16, temperature=1.0, seed=3,
        told=lambda _: None, stopping=lambda: False,
    )  # fmt: skip
    assert text == first


def test_the_noise_is_standard_gumbel_and_shares_nothing_between_rows_steps_and_tokens():
    keys = torch.tensor(row_keys([[1], [2]], samples=200, seed=0))
    drawn = [torch.zeros(400, 500, dtype=torch.float64) for _ in range(2)]
    for step, noise in enumerate(drawn):
        add_gumbel(noise, keys, step=step)
    one, other = (noise.numpy() for noise in drawn)
    assert stats.kstest(one.ravel(), stats.gumbel_r.cdf).pvalue > 0.01
    assert np.unique(one).size == one.size
    for left, right in ((one, other), (one[1:], one[:-1]), (one[:, 1:], one[:, :-1])):
        assert abs(np.corrcoef(left.ravel(), right.ravel())[0, 1]) < 4.5 / np.sqrt(left.size)


def test_the_noise_of_a_row_is_the_same_among_any_rows():
    keys = torch.tensor(row_keys([[7, 8]], samples=40, seed=5))
    together, alone = torch.zeros(40, 70_000), torch.zeros(1, 70_000)
    add_gumbel(together, keys, step=2)  # more than is hashed at a time
    add_gumbel(alone, keys[17:18], step=2)
    torch.testing.assert_close(together[17:18], alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_draws_have_the_frequencies_of_the_softmax(policy: Policy, temperature: float):
    """Chi-square of 20,000 first tokens; those expected less than five times count as one."""
    logits = torch.randn(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    chances = (logits / temperature).softmax(0).numpy()
    keys = torch.tensor(row_keys([[1, 2]], samples=20_000, seed=0))
    scores = (logits / temperature).repeat(20_000, 1)
    add_gumbel(scores, keys, step=0)
    counts = torch.bincount(scores.argmax(1), minlength=50).numpy()
    often = 20_000 * chances >= 5
    seen = [*counts[often], counts[~often].sum()]
    expected = np.array([*chances[often], chances[~often].sum()]) * 20_000
    assert stats.chisquare(seen, expected).pvalue > 0.01
    assert stats.chisquare(seen, np.roll(expected, 1)).pvalue < 1e-6


def test_a_model_whose_logits_are_no_numbers_is_told_from_other_faults(scenario: Path):
    broken = load_policy(load_settings(scenario).model)
    next(broken.model.parameters()).data.fill_(float("nan"))
    draw = Generator(broken.tokenizer, 4)
    with pytest.raises(NumericalError, match="it has collapsed"):
        draw(broken.model, PROMPTS[:1], samples=1, seed=0)


TEMPLATES = {
    "<|eot_id|>": "{% for m in messages %}<|start|>{{ m.role }}<|sep|>\n\n{{ m.content }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant<|sep|>\n\n{% endif %}",
    "<|im_end|>": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "<end_of_turn>": "{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content | trim }}"
    "<end_of_turn>\n{% endfor %}",
    "<|end|>": "{% for m in messages %}{{ m.role }}: {{ m.content }}{% if m.role == 'assistant' %}"
    " <|end|>{% endif %}{% endfor %}",
    "": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
}


@pytest.mark.parametrize("end", TEMPLATES)
def test_the_token_that_ends_a_turn_of_the_template_ends_a_reply(scenario: Path, end: str):
    policy = load_policy(load_settings(scenario).model)
    tokenizer = policy.tokenizer
    tokenizer.add_special_tokens({
        "additional_special_tokens": [
            "<|eot_id|>", "<|im_end|>", "<end_of_turn>", "<|im_start|>", "<start_of_turn>",
        ]
    })  # fmt: skip
    tokenizer.chat_template = TEMPLATES[end]
    expected = tokenizer.convert_tokens_to_ids(end) if end else None
    assert turn_end(tokenizer) == expected
    assert {expected} - {None} <= stop_ids(policy.model, tokenizer)


def test_a_template_that_refuses_has_no_end(policy: Policy, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(policy.tokenizer, "chat_template", "{{ raise_exception('never') }}")
    assert turn_end(policy.tokenizer) is None


def test_a_reply_ends_with_its_turn_though_no_configuration_says_so(scenario: Path):
    policy = load_policy(load_settings(scenario).model)
    draw = Generator(policy.tokenizer, 30)
    before = draw(policy.model, PROMPTS, samples=2, seed=0)
    end = policy.tokenizer.eos_token_id
    policy.model.generation_config.eos_token_id = None
    policy.model.config.eos_token_id = None
    policy.tokenizer.eos_token = None
    assert stop_ids(policy.model, policy.tokenizer) == {end}
    after = draw(policy.model, PROMPTS, samples=2, seed=0)
    assert after.replies == before.replies


def test_the_projection_sees_the_last_position_of_the_prompts_only(policy: Policy):
    """Also in a model that cannot be asked for a part of its logits."""
    seen: list[torch.Size] = []
    head = output_embedding(policy.model)
    ids = torch.tensor([[1, 5, 9, 30]])
    whole = policy.model(ids).logits[:, -1:]
    with plain_sampling(policy.model):
        hook = head.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape))
        part = policy.model(ids).logits
        hook.remove()
    torch.testing.assert_close(part, whole)
    assert seen == [(1, 1, 96)]
    assert policy.model(ids).logits.shape[1] == 4
