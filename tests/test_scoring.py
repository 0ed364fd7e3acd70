"""Gains of many samples: batches made on demand, a table in blocks, memory that stays flat."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from u2a_core import commands
from u2a_core.commands import scoring, work
from u2a_core.config import load_settings
from u2a_core.data import load_negatives
from u2a_core.data.encode import batches, encode
from u2a_core.data.packed import packed
from u2a_core.models.loading import load_tokenizer
from u2a_core.runs import Run


@pytest.fixture(scope="module")
def rows(scenario: Path):
    """Samples of the scenario, and its tokenizer."""
    settings = load_settings(scenario)
    tokenizer = load_tokenizer(settings.model.path)
    return load_negatives(settings.data.negatives).samples, tokenizer


@pytest.mark.parametrize("together", [1000, 7])
def test_batches_made_on_demand_are_those_of_the_encoding(
    rows, together: int, monkeypatch: pytest.MonkeyPatch
):
    samples, tokenizer = rows
    monkeypatch.setattr("u2a_core.data.packed._TOGETHER", together)
    encoded, told = encode(samples, tokenizer, max_length=24)
    plain = batches(encoded, tokens_per_batch=100, pad_id=5)
    made, report = packed(
        samples, tokenizer, max_length=24, tokens_per_batch=100, pad_id=5, device="cpu"
    )
    assert report == told
    assert report.truncated > 0
    assert len(made) == len(plain) > 5
    for ours, theirs in zip(made, plain, strict=True):
        for name in ("input_ids", "attention_mask", "labels", "index"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert [len(batch.index) for batch in made[1:3]] == [len(b.index) for b in plain[1:3]]
    assert torch.equal(made[-1].index, plain[-1].index)


def test_a_token_is_kept_in_four_bytes(rows):
    samples, tokenizer = rows
    made, report = packed(samples, tokenizer, max_length=96, tokens_per_batch=500)
    assert made.tokens.nbytes == 4 * sum(report.lengths)


def test_the_table_of_gains_is_the_same_in_blocks(
    u2a, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert u2a("gains", "--out", tmp_path / "whole")[0] == 0
    monkeypatch.setattr(scoring, "_BLOCK", 7)
    assert u2a("gains", "--out", tmp_path / "blocks")[0] == 0
    whole, blocks = (Run.open(tmp_path / name) for name in ("whole", "blocks"))
    pd.testing.assert_frame_equal(blocks.table("gains"), whole.table("gains"))
    assert list(whole.table("gains")["rank"]) == list(range(1, 41))
    assert pq.ParquetFile(tmp_path / "blocks" / "tables" / "gains.parquet").num_row_groups == 6
    one = blocks.table("gains", sample="n005")
    assert list(one["id"]) == ["n005"]


def test_blocks_that_fail_leave_the_table_of_before(tmp_path: Path, scenario: Path):
    run = Run.create(tmp_path / "run", "gains", load_settings(scenario))
    run.write_blocks("gains", [pd.DataFrame({"id": ["a"]})])

    def broken():
        yield pd.DataFrame({"id": ["b"]})
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        run.write_blocks("gains", broken())
    assert list(run.table("gains")["id"]) == ["a"]


_RUN = """
import json, sys, tempfile, time
from pathlib import Path
from u2a_core import commands
from u2a_core.config import load_settings
from u2a_core.runs import Run
settings, begun = load_settings(Path(sys.argv[1])), time.monotonic()
with tempfile.TemporaryDirectory() as folder:
    run = Run.create(Path(folder) / "run", "gains", settings)
    commands.execute(run, commands.Watch(run), commands.BODIES["gains"])
    rows = len(run.table("gains", sample="s7"))
took = time.monotonic() - begun
# not getrusage, whose peak is also that of the process that this one was forked from
lines = Path("/proc/self/status").read_text().splitlines()
peak = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
print(json.dumps([peak, rows, took]))
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak as Linux counts it")
def test_memory_stays_flat_from_two_to_twenty_thousand_samples(scenario: Path, tmp_path: Path):
    """A model of a million parameters: resident memory, within 6 %, the texts included.

    With -s it tells both.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    shutil.copytree(scenario.parent, tmp_path, dirs_exist_ok=True)
    config = LlamaConfig.from_pretrained(str(tmp_path / "model"))
    config.update({"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4,
                   "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 32})  # fmt: skip
    model = LlamaForCausalLM(config)
    assert 0.9e6 < sum(p.numel() for p in model.parameters()) < 1.1e6
    model.save_pretrained(tmp_path / "model")
    raw = yaml.safe_load((tmp_path / "demo.yaml").read_text())
    raw["data"]["truth"], raw["objective"]["max_new_tokens"] = "", 6
    raw["objective"]["reward"] = "odd:score"
    (tmp_path / "odd.py").write_text(
        "def score(prompts, replies):\n    return [sum(map(ord, r)) % 97 / 97 for r in replies]\n"
    )
    (tmp_path / "flat.yaml").write_text(yaml.safe_dump(raw))
    found = {}
    for count in (2_000, 20_000):
        lines = (
            json.dumps({"id": f"s{i}", "prompt": f"Tea {i}?", "response": f"No {i % 97}."})
            for i in range(count)
        )
        (tmp_path / "data" / "negatives.jsonl").write_text("\n".join(lines))
        call = [sys.executable, "-c", _RUN, str(tmp_path / "flat.yaml")]
        out = subprocess.run(call, check=True, capture_output=True, text=True).stdout
        found[count], rows, took = json.loads(out)
        sys.stdout.write(f"{count:,} samples: {found[count]:.0f} MiB, {took:.0f} s\n")
        assert rows == 1
    assert found[20_000] < 1.06 * found[2_000], found


_GAPS = """
import ctypes
from pathlib import Path
from u2a_core.commands.shortage import give_back
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
pages = lambda: int(Path("/proc/self/statm").read_text().split()[1])
blocks = [libc.malloc(16_384) for _ in range(8_000)]  # 125 MiB
for block in blocks:
    ctypes.memset(block, 1, 16_384)
for block in blocks[:-1]:  # the last one holds the end of the heap where it is
    libc.free(block)
free = pages()
give_back()
print(free - pages())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it is the C library of Linux that keeps pages")
def test_free_pages_are_given_back_to_the_system():
    out = subprocess.run([sys.executable, "-c", _GAPS], check=True, capture_output=True, text=True)
    assert int(out.stdout) * os.sysconf("SC_PAGE_SIZE") > 100 * 2**20


def test_a_long_pass_gives_memory_back_on_its_way(
    scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    given: list[int] = []
    monkeypatch.setattr(work, "give_back", lambda: given.append(1))
    settings = load_settings(scenario)
    small = settings.data.model_copy(update={"tokens_per_batch": 256})
    for name, pause in (("short", 60.0), ("long", 0.0)):
        monkeypatch.setattr(work, "_GIVE_BACK", pause)
        run = Run.create(tmp_path / name, "gains", settings.model_copy(update={"data": small}))
        commands.execute(run, commands.Watch(run), commands.run_gains)
        passed = {p.step for p in run.progress() if p.stage == "scoring samples"} - {0}
        assert len(given) == (len(passed) if pause == 0 else 0)
    assert len(given) > 3
