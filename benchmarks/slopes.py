"""What `slopes` costs: time and memory against a naive forward pass, on one seeded workload.

    python benchmarks/slopes.py [--repeats 7] [--threads 2]

A random Llama (6.8 M parameters) with LoRA on q and v, 256 samples of 32 to 192 tokens. The floor
is a plain forward pass: padded batches of 16, full logits, NLL. Both alternate in one process, so
the ratio survives a busy machine; CPU seconds are counted, and medians quoted. Memory is the peak
that a fresh process adds to the loaded model: for slopes of the largest batch, and for a naive
forward and backward pass of it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from u2a_core import Batch, GradientAscent, exact_slopes, params, slopes

VOCABULARY, SAMPLES, ROWS = 4096, 256, 16


def policy() -> nn.Module:
    """The model, its adapter away from zero."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=688,
        max_position_embeddings=512,
        initializer_range=1 / math.sqrt(256),
        use_cache=False,
    )
    lora = LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(LlamaForCausalLM(config), lora).eval()
    for name, parameter in params.trainable(model).items():
        parameter.data.normal_(std=0.02 if "lora_B" in name else parameter.shape[1] ** -0.5)
    return model


def padded_batches() -> list[Batch]:
    """Length-sorted, right-padded; the first third of each sample is its prompt."""
    generator = torch.Generator().manual_seed(2)
    lengths = torch.linspace(32, 192, SAMPLES).round().long()
    out = []
    for start in range(0, SAMPLES, ROWS):
        own = lengths[start : start + ROWS, None]
        position = torch.arange(int(own.max()))
        ids = torch.randint(3, VOCABULARY, (ROWS, len(position)), generator=generator)
        mask = (position < own).long()
        labels = torch.where((mask == 1) & (position >= own // 3), ids, -100)
        index = torch.arange(start, start + ROWS)
        out.append(Batch(input_ids=ids * mask, attention_mask=mask, labels=labels, index=index))
    return out


def naive_forward(model: nn.Module, batch: Batch) -> Tensor:
    """Mean response NLL of each row from full logits."""
    logits, targets = model(batch.input_ids).logits[:, :-1], batch.labels[:, 1:]
    nll = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return nll.view(targets.shape).sum(1) / (targets != -100).sum(1)


def seconds(action: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - cpu


def compare(repeats: int) -> dict[str, float]:
    """Ratios of slopes to the floor, and the error against the exact loop."""
    model, batches = policy(), padded_batches()
    along = {name: torch.randn_like(p) for name, p in params.trainable(model).items()}

    def floor() -> None:
        with torch.inference_mode():
            for batch in batches:
                naive_forward(model, batch)

    def ours() -> Tensor:
        return slopes(model, batches, GradientAscent(), along=along)

    expected = exact_slopes(model, batches, GradientAscent(), along=along)
    error = float((ours() - expected).abs().max() / expected.square().mean().sqrt())
    floor()
    pairs = [(seconds(ours), seconds(floor)) for _ in range(repeats)]
    middle = [
        [statistics.median(pair[side][clock] for pair in pairs) for clock in (0, 1)]
        for side in (0, 1)
    ]
    return {
        "slopes_seconds": middle[0][0],
        "forward_seconds": middle[1][0],
        "wall_ratio": middle[0][0] / middle[1][0],
        "cpu_ratio": middle[0][1] / middle[1][1],
        "error_over_rms": error,
    }


def peak_mib(what: str) -> float:
    """What the largest batch adds to this process's memory at its peak, in MiB (Linux)."""
    model, batches = policy(), padded_batches()
    along = {name: torch.randn_like(p) for name, p in params.trainable(model).items()}
    largest = dataclasses.replace(batches[-1], index=torch.arange(ROWS))
    slopes(model, batches[:1], GradientAscent(), along=along)  # what is loaded at first use
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = _status_kib("VmRSS")
    if what == "slopes":
        slopes(model, [largest], GradientAscent(), along=along)
    else:
        naive_forward(model, largest).sum().backward()
    return (_status_kib("VmHWM") - before) / 1024


def _status_kib(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def peak_in_a_process_of_its_own(what: str) -> float:
    """`peak_mib` where nothing else has been computed."""
    command = [sys.executable, __file__, "--peak", what]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description="Cost of slopes against a forward pass.")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--peak", choices=["slopes", "backward"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        sys.stdout.write(f"{peak_mib(options.peak)}\n")
        return
    figures = compare(options.repeats)
    figures |= {f"peak_mib_{w}": peak_in_a_process_of_its_own(w) for w in ("slopes", "backward")}
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
