"""`u2a build-demo`: makes assets/demo again, from nothing but this script and a seed.

Trains a byte-level BPE tokenizer, a tiny Llama policy on the mixture of good and bad replies, and
a reward model (sequence classifier) on replies scored by the rubric. Minutes on two cores.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from u2a_core.data.encode import batches, encode
from u2a_core.demo import world
from u2a_core.losses import IGNORED, response_log_probs
from u2a_core.models import Generator, RewardModel, load_tokenizer
from u2a_core.runs import demo_assets
from u2a_core.types import Sample, user_prompt

_TEMPLATE = (
    "<|bos|>{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_SPECIAL = ["<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
_LENGTH = 96


@dataclass(frozen=True)
class BuildOptions:
    """Options of build-demo."""

    out: Path = Path("assets/demo")
    """Where to write the scenario."""
    seed: int = 0
    """Seed of data and training; the committed files are seed 0."""
    runs: bool = False
    """Make only the runs that the workbench shows at once, from the models that are there."""


def build(out: Path, seed: int, report: Callable[[str], None]) -> None:
    """Writes data, policy and reward model, and says how good they are."""
    torch.manual_seed(seed)
    world.write_data(out / "data", seed)
    tokenizer = train_tokenizer()
    policy = train_policy(tokenizer, seed, report)
    _save(policy, tokenizer, out / "model")
    judge = train_reward_model(policy, tokenizer, seed, report)
    _save(judge, tokenizer, out / "reward_model")
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    report(f"{size / 1e6:.1f} MB in {out}")


def train_tokenizer() -> Any:
    """A byte-level BPE tokenizer with a chat template, trained on the world's texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    texts = [row[key] for row in world.mixture() for key in ("prompt", "response")]
    texts += [question.text for question in world.held_out_questions()]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    family: Any = PreTrainedTokenizerFast
    return family(
        tokenizer_object=tokenizer,
        bos_token="<|bos|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        chat_template=_TEMPLATE,
        model_max_length=_LENGTH,
    )


def train_policy(tokenizer: Any, seed: int, report: Callable[[str], None]) -> Any:
    """A tiny Llama, trained on the mixture's replies."""
    policy = _untrained(tokenizer)
    rows = world.mixture()
    samples = [
        Sample(str(i), user_prompt(row["prompt"]), row["response"]) for i, row in enumerate(rows)
    ]
    encoded, _ = encode(samples, tokenizer, max_length=_LENGTH)

    def loss(batch: list[int]) -> Tensor:
        (packed,) = batches([encoded[i] for i in batch], tokens_per_batch=10**6)
        # a mean over tokens, not over replies: that would make long replies rarer than they are
        return -response_log_probs(policy, packed).values.mean()

    _fit(policy, loss, len(encoded), epochs=_POLICY_EPOCHS, rate=3e-3, seed=seed, report=report)
    prompts = [user_prompt(row["prompt"]) for row in world.test_prompts(seed)]
    rollouts = Generator(tokenizer, 40)(policy.eval(), prompts, samples=2, seed=seed)
    asked = [world.test_prompts(seed)[i]["prompt"] for i in rollouts.prompt_index]
    rewards = world.rubric(asked, rollouts.replies)
    report(f"policy: mean reward on test prompts {sum(rewards) / len(rewards):+.3f}")
    return policy


def write_base(folder: Path, seed: int) -> None:
    """The scenario's base model: the policy's architecture and tokenizer, untrained.

    Retrain and supervised fine-tuning begin with it (`baseline.base`).
    """
    tokenizer = load_tokenizer(str(demo_assets() / "model"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _save(_untrained(tokenizer), tokenizer, folder)


def _untrained(tokenizer: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    policy: Any = LlamaForCausalLM(_shape(LlamaConfig, tokenizer))
    policy.generation_config.eos_token_id = tokenizer.eos_token_id
    policy.generation_config.pad_token_id = tokenizer.pad_token_id
    return policy


_POLICY_EPOCHS = 12
_JUDGE_EPOCHS = 6
_JUDGE_DRAWS = 5
"""Sets of replies the reward model learns from: new damage teaches more than more epochs."""


def train_reward_model(
    policy: Any, tokenizer: Any, seed: int, report: Callable[[str], None]
) -> Any:
    """A sequence classifier that starts from the policy's body and learns the rubric."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    config = _shape(LlamaConfig, tokenizer)
    config.num_labels = 1
    judge: Any = LlamaForSequenceClassification(config)  # type: ignore[no-untyped-call]
    judge.model.load_state_dict(policy.model.state_dict())
    rows = [
        row
        for draw in range(_JUDGE_DRAWS)
        for row in _scored_replies(world.training_questions(), policy, tokenizer, seed + 2 + draw)
    ]
    samples = [Sample(str(i), user_prompt(p), r) for i, (p, r, _) in enumerate(rows)]
    encoded, _ = encode(samples, tokenizer, max_length=_LENGTH)
    targets = torch.tensor([score for _, _, score in rows])

    def loss(batch: list[int]) -> Tensor:
        (packed,) = batches([encoded[i] for i in batch], tokens_per_batch=10**6)
        goals = targets[batch][packed.index]
        scores: Tensor = judge.score(judge.model(packed.input_ids).last_hidden_state)[:, :, 0]
        errors = (scores - goals[:, None]).square()
        final = errors.gather(1, packed.attention_mask.sum(1, keepdim=True) - 1).mean()
        # every token of the reply tells the score: where a reply goes wrong is learned there,
        # and the comparison of the reply's topic with the prompt's is learned at all
        return final + errors[packed.labels != IGNORED].mean()

    _fit(judge, loss, len(rows), epochs=_JUDGE_EPOCHS, rate=1e-3, seed=seed, report=report)
    held = _scored_replies(world.held_out_questions(), policy, tokenizer, seed + 1)
    asked = [user_prompt(p) for p, _, _ in held]
    scores = RewardModel(judge.eval(), tokenizer)(asked, [r for _, r, _ in held])
    agreed = sum((s > 0) == (t > 0) for s, (_, _, t) in zip(scores, held, strict=True))
    report(
        f"reward model: sign agrees with the rubric on {agreed / len(held):.4f} of {len(held)} "
        "held-out replies"
    )
    return judge


def _scored_replies(
    questions: Sequence[world.Question], policy: Any, tokenizer: Any, seed: int
) -> list[tuple[str, str, float]]:
    """Replies of every sort, scored: good, bad, sampled, damaged, and to another question."""
    draw = random.Random(f"replies {seed}")
    prompts = [user_prompt(question.text) for question in questions]
    rollouts = Generator(tokenizer, 40)(policy.eval(), prompts, samples=2, seed=seed)
    pairs = [
        (questions[i].text, r) for i, r in zip(rollouts.prompt_index, rollouts.replies, strict=True)
    ]
    for question in questions:
        good = world.good_replies(question)
        others = draw.sample([q for q in questions if q.family == question.family], 2)
        pairs += [(question.text, reply) for reply in good]
        pairs.append((question.text, draw.choice(world.bad_replies(question))))
        pairs += [(question.text, draw.choice(world.good_replies(other))) for other in others]
        pairs.append((question.text, _damaged(draw.choice(good), draw)))
    scores = world.rubric([p for p, _ in pairs], [r for _, r in pairs])
    return [(p, r, s) for (p, r), s in zip(pairs, scores, strict=True)]


def _damaged(reply: str, draw: random.Random) -> str:
    """A word dropped, doubled or swapped, or the end cut off."""
    words = reply.split()
    i = draw.randrange(len(words) - 1)
    match draw.randrange(4):
        case 0:
            return " ".join(words[:i] + words[i + 1 :])
        case 1:
            return " ".join([*words[: i + 1], *words[i:]])
        case 2:
            words[i], words[i + 1] = words[i + 1], words[i]
            return " ".join(words)
        case _:
            return " ".join(words[: i + 1])


def _shape(family: Any, tokenizer: Any) -> Any:
    return family(
        vocab_size=len(tokenizer),
        hidden_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=256,
        max_position_embeddings=_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _fit(
    model: nn.Module,
    loss: Callable[[list[int]], Tensor],
    n: int,
    *,
    epochs: int,
    rate: float,
    seed: int,
    report: Callable[[str], None],
) -> None:
    """AdamW with warm-up and cosine decay over shuffled minibatches."""
    model.train()
    total = epochs * math.ceil(n / 32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda i: min(1.0, (i + 1) / 50) * 0.5 * (1 + math.cos(math.pi * i / total)),
    )
    for step, batch in enumerate(_minibatches(n, epochs, seed)):
        value = loss(batch)
        optimizer.zero_grad()
        torch.autograd.backward(value)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            report(
                f"{type(model).__name__}: step {step} of {total}, loss {float(value.detach()):.3f}"
            )


def _minibatches(n: int, epochs: int, seed: int) -> Iterator[list[int]]:
    draw = random.Random(f"order {seed}")
    for _ in range(epochs):
        order = list(range(n))
        draw.shuffle(order)
        yield from (order[i : i + 32] for i in range(0, n, 32))


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
