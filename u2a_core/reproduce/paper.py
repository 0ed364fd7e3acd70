"""Figures quoted from the paper's poster, for the same data and model only, labelled as its own."""

from __future__ import annotations

from typing import Any

from u2a_core.config import Settings

_MODEL = "llama-3.1-8b-instruct"
_SOURCE = "Unlearning to Align, poster"
_FIGURES: dict[str, dict[str, Any]] = {
    "safe-rlhf": {
        "metrics": ("reward", "asr_a", "asr_s_worst"),
        "titles": ("Reward-V ↑", "ASR-A ↓", "ASR-S ↓"),
        "rows": {
            "Original": (-19.827, 0.848, 0.794),
            "Retrain": (-17.911, 0.740, 0.686),
            "GA": (-18.011, 0.829, 0.750),
            "GA + U2A": (-7.609, 0.162, 0.121),
            "GradDiff": (-18.477, 0.829, 0.767),
            "GradDiff + U2A": (-12.644, 0.103, 0.173),
            "NPO": (-17.985, 0.860, 0.785),
            "NPO + U2A": (-13.815, 0.698, 0.498),
        },
    },
    "ultrafeedback": {
        "metrics": ("reward", "lc_win_rate", "win_rate", "coherence"),
        "titles": ("Reward-V ↑", "LC-WR ↑", "GPT4-WR ↑", "Coherence ↑"),
        "rows": {
            "Original": (-4.996, 10.57, 5.85, 0.726),
            "PPO": (-1.302, 23.43, 19.41, 0.740),
            "DPO": (-0.277, 25.30, 19.08, 0.738),
            "GA + U2A": (1.105, 24.79, 21.33, 0.745),
            "GradDiff + U2A": (1.248, 24.18, 19.67, 0.738),
            "NPO + U2A": (-0.248, 20.56, 13.20, 0.729),
        },
    },
}


def quoted(settings: Settings) -> dict[str, Any] | None:
    """The paper's figures for this task, where it ran the same model; else None."""
    wanted = settings.reproduction
    same = wanted.scale == "full" and _MODEL in settings.baseline.base.lower()
    found = _FIGURES.get(wanted.task)
    return {"source": _SOURCE, **found} if same and found else None
