"""Our DPO loss against TRL's, on the same model and pairs; skipped where TRL is not installed."""

import importlib.util
from pathlib import Path

import pytest
import torch

from u2a_core.alignment import preference
from u2a_core.baselines import preference_loss
from u2a_core.config import load_settings
from u2a_core.data import load_preferences
from u2a_core.models import load_policy

BETA = 0.1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="needs TRL: pip install .[trl]")
def test_the_dpo_loss_is_trls_to_six_digits(scenario: Path, tmp_path: Path):
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    settings = load_settings(scenario)
    pairs = load_preferences(settings.data.preferences)[0]
    policy, original = (load_policy(settings.model) for _ in range(2))
    objective = preference(settings, policy, pairs, dpo_beta=BETA)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in policy.model.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=generator))
        ours = torch.cat(
            [preference_loss(policy.model, objective, batch) for batch in objective.batches]
        ).mean()

    def turn(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    rows = [
        {
            "prompt": turn("user", pair.prompt[0].content),
            "chosen": turn("assistant", pair.chosen),
            "rejected": turn("assistant", pair.rejected),
        }
        for pair in pairs
    ]
    options = DPOConfig(
        output_dir=str(tmp_path), beta=BETA, per_device_train_batch_size=len(pairs),
        report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False, max_length=None,
    )  # fmt: skip
    trainer = DPOTrainer(
        policy.model, ref_model=original.model, args=options,
        train_dataset=Dataset.from_list(rows), processing_class=policy.tokenizer,
    )  # fmt: skip
    with torch.no_grad():
        theirs = trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader())))
    assert float(ours) == pytest.approx(float(theirs), rel=1e-6)
    assert abs(float(ours) - 0.693147) > 1e-3  # not at the reference, where any margin is 0
