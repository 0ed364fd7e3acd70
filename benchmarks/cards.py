"""Which models fit on which cards: the table of docs/models.md, by the code of `u2a estimate`.

    python benchmarks/cards.py           # prints the table
    python benchmarks/cards.py --write   # puts it into docs/models.md

The configurations are written by hand, with the numbers that the models' makers publish; no weights
are loaded, and nothing is measured on a card. A quarter of a minute a row on one core.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from u2a_core.config import Settings, parse_settings
from u2a_core.estimate import verdict
from u2a_core.estimate.memory import Memory
from u2a_core.estimate.trace import ACTIVATIONS, Passes, Shape
from u2a_core.estimate.workload import Rows, Workload
from u2a_core.models.skeleton import policy_skeleton

PAGE = Path(__file__).resolve().parent.parent / "docs" / "models.md"
BEGIN, END = "<!-- cards: begin -->\n", "<!-- cards: end -->\n"
GIB = 2**30
CARDS = {"24 GB": 24, "48 GB": 48, "80 GB": 80, "141 GB": 140}
"""GiB of a card, by its name."""
CONTEXT = 1
"""GiB that the driver and the libraries take before a model is there."""
LENGTH, DEPTHS = 512, (4, 8)

MODELS: dict[str, dict[str, object]] = {
    "LLaMA2-7B": {
        "model_type": "llama", "vocab_size": 32000, "hidden_size": 4096,
        "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "max_position_embeddings": 4096,
    },
    "LLaMA3.1-8B": {
        "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096,
        "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "max_position_embeddings": 131072,
    },
    "Qwen2.5-14B": {
        "model_type": "qwen2", "vocab_size": 152064, "hidden_size": 5120,
        "intermediate_size": 13824, "num_hidden_layers": 48, "num_attention_heads": 40,
        "num_key_value_heads": 8, "max_position_embeddings": 32768,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Way:
    """How a model is held and trained.

    Attributes:
        rank: of the LoRA adapter.
        space: what slopes see.
        base: how its weights are held: none, 4bit.
        again: whether activations are computed again.
    """

    rank: int
    space: str = "adapter"
    base: str = "none"
    again: bool = False

    @property
    def cells(self) -> list[str]:
        """In the table."""
        base = {"none": "bfloat16", "4bit": "4 bits"}[self.base]
        return [base, str(self.rank), self.space, "again" if self.again else "kept"]


WAYS = (
    Way(8), Way(32), Way(8, "weights"), Way(8, again=True), Way(8, base="4bit"),
    Way(8, base="4bit", again=True),
)  # fmt: skip


@dataclass(frozen=True)
class Fit:
    """A row of the table: GiB of each command at its worst moment, and of 512 tokens more."""

    model: str
    way: Way
    peaks: dict[str, float]
    more: float

    def line(self) -> str:
        """In Markdown."""
        cells = [self.model, *self.way.cells]
        cells += [f"{self.peaks[name]:.1f}" for name in ("gains", "unlearn", "reweight")]
        cells += [f"{self.more:.1f}"]
        need = max(self.peaks.values())
        words = {"fits": "fits", "tight": "tight", "too large": "–"}
        cells += [
            words[verdict(round(need * GIB), (gib - CONTEXT) * GIB)] for gib in CARDS.values()
        ]
        return f"| {' | '.join(cells)} |"


def settings(path: str, way: Way) -> Settings:
    """What docs/models.md says that the table is of."""
    return parse_settings(
        {
            "model": {
                "path": path, "dtype": "bfloat16", "device": "cpu", "parameters": "lora",
                "lora_rank": way.rank, "lora_alpha": 2 * way.rank, "lora_slopes": way.space,
                "max_length": LENGTH, "quantize": way.base, "activation_checkpointing": way.again,
            },
            "data": {"tokens_per_batch": LENGTH},
            "objective": {
                "splits": 8 if way.space == "adapter" else 0, "generation_rows": 32,
                "max_new_tokens": LENGTH // 2,
            },
            "inner": {"optimizer": "adamw", "method": "npo"},
        },
        source="benchmarks/cards.py",
    )  # fmt: skip


def workload() -> Workload:
    """1000 negatives, half prompt and half reply; J samples replies to 64 prompts."""
    half = LENGTH // 2
    negatives = Rows(((half, LENGTH),) * 1000, assumed=True)
    return Workload(negatives, Rows(()), Rows(()), (half,) * 64, (half,) * 64, LENGTH, ())


def fits(models: tuple[str, ...] = tuple(MODELS), ways: tuple[Way, ...] = WAYS) -> Iterator[Fit]:
    """The rows of the table.

    A model's layers are alike, so what each phase of a command needs grows by the same with each
    layer: it is computed for `DEPTHS` layers and continued to all, which `whole` checks.
    """
    for model in models:
        for way in ways:
            few, more = (needs(model, way, layers) for layers in DEPTHS)
            steps = (int(str(MODELS[model]["num_hidden_layers"])) - DEPTHS[1]) / (
                DEPTHS[1] - DEPTHS[0]
            )
            found = {
                name: max(b + steps * (b - a) for a, b in zip(few[name], more[name], strict=True))
                for name in more
            }
            yield Fit(model, way, found, found.pop("more"))


def whole(model: str, way: Way) -> Fit:
    """A row with every layer computed."""
    phases = needs(model, way, int(str(MODELS[model]["num_hidden_layers"])))
    found = {name: max(each) for name, each in phases.items()}
    return Fit(model, way, found, found.pop("more"))


def needs(model: str, way: Way, layers: int) -> dict[str, list[float]]:
    """GiB of each command's phases, and of 512 tokens more in a batch, with so many layers."""
    with tempfile.TemporaryDirectory() as folder:
        config = MODELS[model] | {"num_hidden_layers": layers}
        (Path(folder) / "config.json").write_text(json.dumps(config))
        chosen = settings(folder, way)
        passes = Passes(policy_skeleton(chosen.model))
    memory = Memory(chosen, passes, None, workload(), program=0, device="cuda")
    trace = passes.gradient(Shape(1, LENGTH, LENGTH // 2), passes.skeleton.theta)
    phases = {
        name: [total / GIB for total in memory.totals(name)]
        for name in ("gains", "unlearn", "reweight")
    }
    return {**phases, "more": [trace.peak[ACTIVATIONS] / GIB]}


def table(rows: Iterator[Fit]) -> str:
    """In Markdown."""
    head = ["model", "base", "LoRA r", "slopes see", "activations"]
    head += ["gains", "unlearn", "reweight", "more", *CARDS]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(row.line() for row in rows)]
    return "\n".join(lines) + "\n"


def written(page: str) -> str:
    """The table as a page has it."""
    return page[page.index(BEGIN) + len(BEGIN) : page.index(END)]


def main() -> None:
    """Prints the table, or writes it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into docs/models.md")
    found = table(fits())
    if not parser.parse_args().write:
        print(found)
        return
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(page.replace(written(page), found), encoding="utf-8")


if __name__ == "__main__":
    main()
