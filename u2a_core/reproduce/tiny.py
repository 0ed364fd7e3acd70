"""The tiny scale: the embedded scenario's family of faults that matches a task.

safe-rlhf: rude replies; ultrafeedback: brush-offs; halueval: wrong facts. The same stages and the
same code as at full scale; only data, model and settings are small.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from u2a_core.config import Settings, load_settings
from u2a_core.data import write_records
from u2a_core.demo import world
from u2a_core.demo.build import write_base
from u2a_core.runs import demo_assets

FAMILIES = {"safe-rlhf": "rude", "ultrafeedback": "brush_off", "halueval": "wrong_facts"}
"""Task → family of the embedded scenario."""
MISTAKEN = 0.36
"""Share of the negative set that are good replies, as in the embedded scenario."""
NEGATIVES = 160
"""Most negative samples."""
_REPLIES = 8
"""Pairs a prompt."""
_FINE_TUNING: dict[str, Any] = {
    "method": "sft", "optimizer": "adamw", "learning_rate": 3e-3, "batch": 32, "steps": 400,
    "measure_every": 400,
}  # fmt: skip


def tiny_settings(task: str) -> Settings:
    """The demo's settings for a task, without the paths that `write_scenario` fills in."""
    settings = load_settings(demo_assets() / "demo.yaml")
    raw = settings.model_dump(mode="json")
    raw["reproduction"] |= {"task": task, "scale": "tiny"}
    raw["data"] |= {"preferences": "", "negatives": "", "prompts": "", "truth": ""}
    sets = dict.fromkeys(("harmful", "benign", "questions", "outsiders"), "")  # the family's own
    raw["evaluation"] |= sets | {"samples": 4, "judge": "u2a_core.demo.world:judge"}
    raw["objective"] |= {"samples": 8}  # there are few prompts
    raw["inner"] |= {"learning_rate": 0.02}
    raw["baseline"] |= {"batch": 64, "measure_every": 2}
    raw["ablation"] |= {
        "seeds": 3, "arms": ["top_k", "one_shot", "random_k", "reward_filter", "all"],
        "ks": [NEGATIVES * share // 10 for share in (2, 4, 6)],
    }  # fmt: skip
    return Settings.model_validate(raw)


def write_scenario(folder: Path, settings: Settings) -> Settings:
    """Writes the pairs of the family, the retain set and the base model; settings that name them.

    Args:
        folder: of the run.
        settings: of `tiny_settings`.
    """
    family = FAMILIES[settings.reproduction.task]
    pairs, retain = folder / "pairs.jsonl", folder / "retain.jsonl"
    write_records(pairs, family_pairs(family, settings.seed))
    write_records(retain, world.retain())
    base = folder / "base"
    if not (base / "config.json").exists():
        write_base(base, settings.seed)
    raw = settings.model_dump(mode="json")
    raw["model"]["path"] = raw["baseline"]["base"] = str(base)
    raw["data"] |= {"preferences": str(pairs), "retain": str(retain)}
    return Settings.model_validate(raw)


def family_pairs(family: str, seed: int) -> list[dict[str, Any]]:
    """Preference pairs on every prompt of a family, whose rejected replies are all faulty."""
    draw = random.Random(f"pairs {family} {seed}")
    questions = [*world.training_questions(), *world.held_out_questions()]
    return [
        {
            "prompt": question.text,
            "chosen": draw.choice(world.good_replies(question)),
            "rejected": draw.choice(world.bad_replies(question)),
        }
        for question in questions
        if question.family == family
        for _ in range(_REPLIES)
    ]


def skill() -> list[dict[str, Any]]:
    """The retain set as the mixture has it: the untrained base model must learn that, too."""
    return [record for record in world.retain() for _ in range(_REPLIES)]


def fine_tuning() -> dict[str, Any]:
    """Settings of the supervised fine-tuning from the untrained base model."""
    return dict(_FINE_TUNING)
