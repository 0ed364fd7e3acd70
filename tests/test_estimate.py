"""Memory and time before anything is loaded, against real runs; what the hub's refusals say."""

import dataclasses
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
import torch
import yaml
from huggingface_hub import errors as hub

from u2a_core import params
from u2a_core.commands import Watch, execute
from u2a_core.commands.shortage import shortage_told
from u2a_core.config import Settings, load_settings, override
from u2a_core.errors import (
    AccessError,
    ConfigError,
    MemoryShortageError,
    ModelError,
    TokenError,
    U2AError,
)
from u2a_core.estimate import from_dict, size, time_range, verdict
from u2a_core.estimate import machine as machine_module
from u2a_core.estimate.duration import seconds
from u2a_core.estimate.estimating import _changes, estimate
from u2a_core.estimate.memory import Memory
from u2a_core.estimate.result import Machine
from u2a_core.estimate.trace import Passes, Shape
from u2a_core.estimate.workload import Rows, read_workload
from u2a_core.models import load_policy, save_policy
from u2a_core.models.loading import load_failed, load_tokenizer
from u2a_core.models.rewards import check_reward
from u2a_core.models.skeleton import policy_skeleton, reward_skeleton
from u2a_core.runs import Run

KINDS = ("full", "last_n", "lora")


@pytest.fixture
def settings(scenario: Path) -> Settings:
    return load_settings(scenario)


def with_words(settings: Settings, *words: object) -> Settings:
    return override(settings, [str(word) for word in words])


def memory_of(settings: Settings) -> Memory:
    work = read_workload(settings, load_tokenizer(settings.model.path), 96, 256)
    return Memory(settings, Passes(policy_skeleton(settings.model)), None, work, program=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_skeleton_has_the_parameters_of_the_model_and_trains_the_same(
    settings: Settings, kind: str
):
    chosen = with_words(settings, "--model.parameters", kind).model
    skeleton, policy = policy_skeleton(chosen), load_policy(chosen)
    real = {name: p.shape for name, p in policy.model.named_parameters()}
    assert {name: p.shape for name, p in skeleton.model.named_parameters()} == real
    assert skeleton.theta == tuple(params.trainable(policy.model))
    assert set(skeleton.space) == set(policy.slopes_see)
    held = params.distinct([*policy.model.parameters(), *policy.model.buffers()])
    assert skeleton.weights == sum(tensor.nbytes for tensor in held)


def test_a_reward_models_skeleton_is_that_of_its_folder(scenario: Path, settings: Settings):
    skeleton = reward_skeleton(str(scenario.parent / "reward_model"), settings.model)
    assert Passes(skeleton).scores(4, 20).total > 0


@pytest.mark.parametrize("kind", KINDS)
def test_arithmetic_is_six_a_trained_number_and_token(settings: Settings, kind: str):
    """2 forward, 2 through the activations, 2 for a weight's gradient; attention comes on top."""
    skeleton = policy_skeleton(with_words(settings, "--model.parameters", kind).model)
    shape = Shape(4, 50, 200)  # every position is scored, so the tied head counts for each
    flops = Passes(skeleton).gradient(shape, skeleton.theta).flops / shape.tokens
    trained = skeleton.numbers_in(skeleton.theta)
    least = 2 * skeleton.parameters + 2 * trained
    assert 0.99 * least <= flops <= 1.35 * 6 * skeleton.parameters
    if kind == "full":
        assert flops >= 0.99 * 6 * skeleton.parameters  # norms multiply no matrix


def test_a_longer_or_wider_batch_needs_more(settings: Settings):
    passes = Passes(policy_skeleton(settings.model))
    theta = passes.skeleton.theta
    small = passes.gradient(Shape(8, 90, 350), theta)
    assert passes.gradient(Shape(16, 90, 700), theta).total > 1.5 * small.total
    assert passes.gradient(Shape(8, 90, 700), theta).peak["logits"] == 2 * small.peak["logits"]


def test_the_cache_of_a_generation_is_keys_and_values_of_every_token(settings: Settings):
    passes = Passes(policy_skeleton(settings.model))
    config = passes.skeleton.config
    each = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
    assert passes.cache_bytes(8, 30) == 8 * 30 * each


def test_the_batches_are_those_that_the_encoding_makes():
    rows = Rows(((4, 10), (4, 10), (2, 30)))
    assert rows.largest(60) == Shape(2, 30, 34)  # the longest first, with the next beside it
    assert rows.largest(60, share=0.5) == Shape(1, 30, 28)
    assert rows.several(60)
    assert not rows.several(90)


@pytest.mark.parametrize("parameters", ["full", "lora"])
def test_a_tokenizer_of_another_vocabulary_is_refused_before_a_job_is(
    scenario: Path, settings: Settings, tmp_path: Path, parameters: str
):
    folder = tmp_path / "model"
    shutil.copytree(scenario.parent / "model", folder)
    tokenizer = load_tokenizer(str(folder))
    tokenizer.add_tokens([f"<{i}>" for i in range(90)])
    tokenizer.save_pretrained(folder)
    words = ["--model.path", str(folder), "--model.parameters", parameters]
    with pytest.raises(ModelError, match="must have an embedding for each of the tokenizer's"):
        estimate(override(settings, words))


def test_what_is_not_named_is_taken_for_granted_and_told(settings: Settings):
    bare = with_words(settings, "--data.negatives", "", "--data.preferences", "")
    bare = with_words(bare, "--data.truth", "")
    found = estimate(bare)
    assert any("1000 negatives of 96 tokens" in text for text in found.assumed)
    assert estimate(settings).assumed == ()


def test_columns_that_the_settings_name_are_read(settings: Settings, tmp_path: Path):
    rows = [{"ask": "Why?", "bad": f"No {i}."} for i in range(3)]
    (tmp_path / "mine.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    data = settings.data.model_copy(
        update={
            "negatives": str(tmp_path / "mine.jsonl"),
            "columns": {"negatives": {"prompt": "ask", "response": "bad"}},
        }
    )
    assert len(memory_of(settings.model_copy(update={"data": data})).work.negatives) == 3


def test_standard_errors_of_gains_are_what_scoring_holds(settings: Settings):
    """A part of ∇J for each part of the prompts, beside the curvature's vectors."""
    eight, none = (
        dict(sum_parts(memory_of(with_words(settings, "--objective.splits", n)))) for n in (8, 0)
    )
    theta = policy_skeleton(settings.model).weights
    assert eight["gain directions"] - none["gain directions"] == pytest.approx(8 * theta, rel=0.01)


def sum_parts(memory: Memory) -> list[tuple[str, int]]:
    return [(part.name, part.bytes) for part in memory.peak("gains")[1]]


def test_fewer_replies_at_a_time_need_less(settings: Settings):
    many, few = (
        max(
            phase.total
            for phase in memory_of(
                with_words(settings, "--objective.generation_rows", rows)
            ).phases("gains")
            if phase.name == "sampling replies for J"
        )
        for rows in (256, 8)
    )
    assert few < many / 2


def test_what_does_not_fit_gets_suggestions_that_keep_their_word(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    scarce = Machine("cpu", "memory of this machine", 10 * 2**20, 2**30, 1e9)
    monkeypatch.setattr("u2a_core.estimate.estimating.machine", lambda *_: scarce)
    monkeypatch.setattr("u2a_core.estimate.estimating._program", lambda _: 0)
    found = estimate(settings)
    assert found.suggestions
    saved = [change.saves for change in found.suggestions]
    assert saved == sorted(saved, reverse=True)
    best = found.suggestions[0]
    words = [w for name, value in best.changes.items() for w in (f"--{name}", value)]
    after = estimate(with_words(settings, *words))
    command = found.largest.command
    need = next(need for need in after.needs if need.command == command)
    assert need.peak == pytest.approx(found.largest.peak - best.saves, rel=0.01)


def test_an_estimate_survives_json(settings: Settings):
    found = estimate(settings)
    assert from_dict(json.loads(json.dumps(found.as_dict()))) == found


def test_a_container_that_grants_less_than_the_machine_has_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "memory.max").write_text("1000000000")
    (tmp_path / "memory.current").write_text("400000000")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 100000000\n")
    monkeypatch.setattr(machine_module, "_CGROUP", tmp_path)
    rates = machine_module.Rates(1e9, 1e9, 1e5)
    found = machine_module.machine(torch.device("cpu"), rates)
    assert found.total == 10**9
    assert found.free == pytest.approx(7e8 + machine_module.process_bytes(), rel=0.1)
    (tmp_path / "memory.max").write_text("max")
    assert machine_module.machine(torch.device("cpu"), rates).total > 10**9


@pytest.mark.parametrize(
    ("peak", "said"),
    [(10, "fits"), (82, "fits"), (90, "tight"), (124, "tight"), (130, "too large")],
)
def test_within_the_margin_it_is_tight(peak: int, said: str):
    assert verdict(peak, 100, 0.2) == said


def test_the_speed_of_a_large_model_is_measured_in_seconds():
    begun = time.perf_counter()
    rates = machine_module.measured_rates(
        torch.device("cpu"), torch.float32, tokens=8192, width=5120, depth=152_064
    )
    assert rates.flops > 0
    assert time.perf_counter() - begun < 60  # one whole product takes minutes


def test_activations_computed_again_take_less_memory_and_a_forward_pass_more(settings: Settings):
    """With room for one block's internals beside a hidden state a block."""
    shape, found = Shape(16, 90, 200), {}
    for again in (False, True):
        chosen = with_words(settings, "--model.activation_checkpointing", again).model
        passes = Passes(policy_skeleton(chosen))
        found[again] = passes.gradient(shape, passes.skeleton.theta)
        values = passes.value(shape)
    assert found[True].total < 0.6 * found[False].total
    config = passes.skeleton.config
    head = 2 * shape.responses * passes.vocabulary * config.hidden_size
    last = 2 * shape.tokens * config.intermediate_size * config.hidden_size  # nothing needs it
    more = found[True].flops - found[False].flops
    assert more == pytest.approx(values.flops - head - config.num_hidden_layers * last)


@pytest.fixture
def no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without CUDA."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_card")
@pytest.mark.parametrize(("words", "told"), [
    (("--model.dtype", "bfloat16"), "bfloat16 do not follow steps below 0.20% of themselves"),
    (("--model.dtype", "float16"), "float16 do not follow steps below 0.02% of themselves"),
    (("--model.dtype", "bfloat16", "--model.parameters", "lora"), ""),
    (("--model.dtype", "float32"), ""),
])  # fmt: skip
def test_weights_trained_in_16_bits_are_warned_of(
    settings: Settings, words: tuple[str, ...], told: str
):
    (warning,) = estimate(with_words(settings, *words)).warnings or ("",)
    assert (told in warning) if told else not warning


def test_a_reward_model_on_another_device_is_told_apart(scenario: Path, settings: Settings):
    settings = with_words(settings, "--objective.reward", scenario.parent / "reward_model")
    own = with_words(settings, "--objective.reward_device", "cpu")
    assert estimate(own).beside is None  # where the policy is
    together = {part.name for part in estimate(own).largest.parts}
    other = estimate(with_words(settings, "--objective.reward_device", "cuda:1"))
    assert other.beside is not None
    assert other.beside.machine.device == "cuda:1"
    parts = {part.name: part.bytes for part in other.beside.parts}
    weights = reward_skeleton(settings.objective.reward, settings.model).weights
    assert parts["reward model"] == weights
    assert parts["activations"] > 0
    assert together - {part.name for part in other.largest.parts} == {"reward model"}
    assert from_dict(json.loads(json.dumps(other.as_dict()))) == other


@pytest.mark.usefixtures("no_card")
def test_a_card_that_is_not_here_is_estimated_and_not_compared(settings: Settings):
    """Before one is rented: the sums are those of the number format, without a process's own."""
    name = "cuda:1"
    words = ("--model.device", name, "--model.dtype")
    found = estimate(with_words(settings, *words, "auto"))
    assert found.model["dtype"] == "bfloat16"
    assert found.machine == Machine(name, f"this machine has no {name}", None, None, None)
    assert {verdict(need.peak, found.machine.free) for need in found.needs} == {"not compared"}
    assert {time_range(need.seconds) for need in found.needs} == {"not known"}
    (warning,) = found.warnings
    assert "trained in bfloat16" in warning
    assert from_dict(json.loads(json.dumps(found.as_dict()))) == found
    wide = estimate(with_words(settings, *words, "float32"))
    here = memory_of(with_words(settings, "--model.dtype", "float32"))
    for need in wide.needs:
        card = dataclasses.replace(here, device="cuda", program=0).peak(need.command)
        assert (need.phase, need.parts) == card
    parts = [{part.name: part.bytes for part in of.largest.parts} for of in (found, wide)]
    assert parts[0]["weights"] == pytest.approx(parts[1]["weights"] / 2, rel=0.01)


@pytest.mark.usefixtures("no_card")
def test_a_reward_model_on_a_card_that_is_not_here(scenario: Path, settings: Settings):
    reward = str(scenario.parent / "reward_model")
    words = ("--objective.reward", reward, "--objective.reward_device", "cuda")
    found = estimate(with_words(settings, *words))
    assert found.beside is not None
    assert found.beside.machine.free is None
    assert found.machine.free is not None
    assert found.beside.peak > 0
    assert all(need.seconds is None for need in found.needs)


@pytest.mark.usefixtures("no_card")
def test_other_devices_that_are_not_here_are_refused(settings: Settings):
    for name in ("xpu", "cuda:x"):
        with pytest.raises(ConfigError, match="must be a device of this machine"):
            estimate(with_words(settings, "--model.device", name))


def test_a_reward_model_without_a_pad_token_is_estimated(
    scenario: Path, settings: Settings, tmp_path: Path
):
    folder = shutil.copytree(scenario.parent / "reward_model", tmp_path / "reward")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": None}))
    with_pad, without = (
        Passes(reward_skeleton(str(path), settings.model)).scores(4, 20)
        for path in (scenario.parent / "reward_model", folder)
    )
    assert without == with_pad


def test_a_reward_that_cannot_be_asked_is_refused_before_a_job_is(
    scenario: Path, settings: Settings, tmp_path: Path
):
    folder = shutil.copytree(scenario.parent / "reward_model", tmp_path / "reward")
    config = json.loads((folder / "config.json").read_text())
    labels = {str(i): f"LABEL_{i}" for i in range(3)}
    (folder / "config.json").write_text(json.dumps(config | {"id2label": labels}))
    file = tmp_path / "mine.py"
    file.write_text("raise SystemExit\ndef good(prompts, replies): return [1.0 for _ in replies]")
    for spec, told in (
        (f"{folder}", "one or two logits; got 3"),
        (f"{file}", "name the function, too"),
        (f"{file}:other", "has no 'other'"),
        (f"{tmp_path}/gone.py:good", "FileNotFoundError"),
    ):
        with pytest.raises(U2AError, match=told):
            estimate(override(settings, ["--objective.reward", spec]))
    check_reward(f"{file}:good", settings.model, settings.objective)  # which does not run the file


def test_a_card_is_offered_what_helps_there(scenario: Path, settings: Settings):
    reward = Passes(reward_skeleton(str(scenario.parent / "reward_model"), settings.model))
    card = dataclasses.replace(memory_of(settings), reward=reward, device="cuda")
    words = {name for change in _changes(card) for name in change.words}
    assert {"model.quantize", "objective.reward_device"} <= words
    words = {name for change in _changes(memory_of(settings)) for name in change.words}
    assert not {"model.quantize", "objective.reward_device"} & words


def test_a_reward_model_elsewhere_takes_its_own_time(scenario: Path, settings: Settings):
    reward = Passes(reward_skeleton(str(scenario.parent / "reward_model"), settings.model))
    memory = dataclasses.replace(memory_of(settings), reward=reward)
    rates = machine_module.Rates(8e10, 4e10, 6e5)
    once, thrice = (seconds(memory, "unlearn", rates, slower)[0] for slower in (1.0, 3.0))
    none = seconds(memory_of(settings), "unlearn", rates)[0]
    read = reward.skeleton.weights / 2e9
    assert thrice - once == pytest.approx(2 * (once - none - read))


def test_sizes_and_times_are_told_in_their_unit():
    assert (size(3 * 2**30), size(5 * 2**20)) == ("3.0 GiB", "5 MiB")
    assert time_range((3.21, 14.0)) == "3.2–14 s"
    assert time_range((90.0, 600.0)) == "1.5–10 min"
    assert time_range((3600.0 * 20, 86400.0 * 3)) == "0.8–3.0 days"


def test_the_command_tells_it_in_words_and_as_json(u2a, scenario: Path):
    code, out, _ = u2a("estimate")
    assert code == 0
    assert "reweight" in out
    assert "fits" in out
    code, out, _ = u2a("estimate", "--json")
    assert {need["command"] for need in json.loads(out)["needs"]} == {
        "gains", "unlearn", "reweight"
    }  # fmt: skip


def test_why_there_is_no_estimate_is_json_too(u2a, tmp_path: Path):
    (tmp_path / "empty.yaml").write_text("model:\n  path: ''\n")
    code, out, err = u2a("estimate", "--json", config=tmp_path / "empty.yaml")
    assert code == 2
    assert json.loads(out)["kind"] == "ConfigError"
    assert "model.path must name" in err


_REAL = """
import sys, tempfile
from pathlib import Path
from u2a_core import commands
from u2a_core.config import load_settings
from u2a_core.runs import Run
settings = load_settings(Path(sys.argv[1]))
with tempfile.TemporaryDirectory() as folder:
    run = Run.create(Path(folder) / "run", sys.argv[2], settings)
    commands.execute(run, commands.Watch(run), commands.BODIES[sys.argv[2]])
# not getrusage, whose peak is also that of the process that this one was forked from
lines = Path("/proc/self/status").read_text().splitlines()
print(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")))
"""


SIZES = {
    "17 M": {"hidden_size": 384, "intermediate_size": 1152, "num_hidden_layers": 6, "heads": 6,
             "vocab_size": 16000},
    "100 M": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 11, "heads": 12,
              "vocab_size": 32000},
}  # fmt: skip


@pytest.fixture(scope="module")
def larger(scenario: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Settings of a random Llama of a size, of a kind of training, on so many samples."""
    from transformers import LlamaConfig, LlamaForCausalLM

    def made(name: str, kind: str, samples: int, *, again: bool = False) -> Path:
        folder = tmp_path_factory.mktemp("larger")
        shutil.copytree(scenario.parent, folder, dirs_exist_ok=True)
        config, own = LlamaConfig.from_pretrained(str(folder / "model")), dict(SIZES[name])
        heads = own.pop("heads")
        config.update(own | {"num_attention_heads": heads, "num_key_value_heads": heads})
        config.head_dim = config.hidden_size // heads
        LlamaForCausalLM(config).save_pretrained(folder / "model")
        for data in ("negatives", "truth", "preferences", "retain", "test_prompts"):
            file = folder / "data" / f"{data}.jsonl"
            file.write_text("".join(file.read_text().splitlines(keepends=True)[:samples]))
        raw = yaml.safe_load((folder / "demo.yaml").read_text())
        raw["model"] |= {"parameters": kind, "activation_checkpointing": again}
        raw["inner"]["steps"], raw["objective"]["max_new_tokens"] = 2, 6
        raw["objective"]["samples"], raw["evaluation"]["samples"] = 2, 1
        raw["objective"]["reward"] = "odd:score"  # by rubric a random model's replies score alike
        (folder / "odd.py").write_text(
            "def score(prompts, replies):\n    return [i % 7 / 7 for i in range(len(replies))]\n"
        )
        (folder / "larger.yaml").write_text(yaml.safe_dump(raw))
        return folder / "larger.yaml"

    return made


def check(config: Path, command: str, within: float) -> None:
    """Runs a command and its estimate, each in a process of its own."""
    call = [sys.executable, "-c", _REAL, str(config), command]
    real = int(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
    call = [sys.executable, "-m", "u2a_core.cli", "estimate", str(config), "--json"]
    said = subprocess.run(call, check=True, capture_output=True, text=True).stdout
    need = next(n for n in from_dict(json.loads(said)).needs if n.command == command)
    assert need.peak == pytest.approx(real, rel=within), need.parts


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads the peak as Linux counts it")


@LINUX
@pytest.mark.parametrize(("kind", "command"), [("full", "gains"), ("lora", "unlearn")])
def test_the_memory_of_a_real_run_is_within_fifteen_percent(larger, kind: str, command: str):
    check(larger("17 M", kind, 10), command, within=0.15)


@LINUX
@pytest.mark.long
@pytest.mark.parametrize("command", ["gains", "unlearn", "reweight"])
@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize(("size", "samples"), [("17 M", 40), ("100 M", 4)])
def test_the_memory_of_larger_runs_is_within_fifteen_percent(
    larger, size: str, samples: int, kind: str, command: str
):
    check(larger(size, kind, samples), command, within=0.15)


@LINUX
@pytest.mark.long
@pytest.mark.parametrize("command", ["gains", "unlearn", "reweight"])
@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize(("size", "samples"), [("17 M", 40), ("100 M", 4)])
def test_the_memory_with_activations_computed_again_is_within_fifteen_percent(
    larger, size: str, samples: int, kind: str, command: str
):
    check(larger(size, kind, samples, again=True), command, within=0.15)


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize("command", ["gains", "unlearn", "reweight"])
def test_the_memory_of_the_scenario_is_within_fifteen_percent(
    scenario: Path, tmp_path: Path, kind: str, command: str
):
    shutil.copytree(scenario.parent, tmp_path, dirs_exist_ok=True)
    raw = yaml.safe_load((tmp_path / "demo.yaml").read_text())
    raw["model"]["parameters"] = kind
    (tmp_path / "demo.yaml").write_text(yaml.safe_dump(raw))
    check(tmp_path / "demo.yaml", command, within=0.15)


def test_an_adapters_heap_keeps_what_passes_freed_and_a_card_another_share(settings: Settings):
    for kind in ("full", "lora"):
        memory = memory_of(with_words(settings, "--model.parameters", kind))
        phases = list(memory.phases("unlearn"))
        passing = max(
            sum(p.held.get(name, 0) for name in ("activations", "logits", "generation cache"))
            for p in phases
        )
        parts = {part.name: part.bytes for part in memory.peak("unlearn")[1]}
        rest = sum(parts.values()) - parts["allocator"]
        left = passing if kind == "lora" else 0
        assert parts["allocator"] == pytest.approx(left + 0.033 * rest, abs=2)
        assert max(memory.totals("unlearn")) == sum(parts.values())
        card = dataclasses.replace(memory, device="cuda").peak("unlearn")[1]
        assert {part.name: part.bytes for part in card}["allocator"] == round(0.1 * rest)


def test_an_adapters_heap_keeps_as_much_of_activations_that_are_made_again(settings: Settings):
    kept, again = (
        {part.name: part.bytes for part in memory_of(
            with_words(settings, "--model.parameters", "lora",
                       "--model.activation_checkpointing", value)
        ).peak("unlearn")[1]}
        for value in (False, True)
    )  # fmt: skip
    rest = {
        name: sum(parts.values()) - parts["allocator"]
        for name, parts in {"kept": kept, "again": again}.items()
    }
    assert rest["again"] < rest["kept"]
    more = 0.033 * (rest["kept"] - rest["again"])
    assert kept["allocator"] - again["allocator"] == pytest.approx(more, abs=2)


def test_a_busy_machine_makes_the_longest_time_longer(settings: Settings):
    memory = memory_of(settings)
    idle = machine_module.Rates(8e10, 4e10, 6e5)
    low, high = seconds(memory, "gains", idle)
    assert 1.5 < low < high
    assert seconds(memory, "gains", dataclasses.replace(idle, busy=3.0)) == (low, 3 * high)


def answered(kind: type[hub.HfHubHTTPError], status: int) -> Exception:
    """As transformers raises it: an OSError that was led to by the hub's answer."""
    request = httpx2.Request("GET", "https://huggingface.co/api/models/owner/name")
    cause = kind("refused", response=httpx2.Response(status, request=request))
    error = OSError("You are trying to access a gated repo.")
    error.__cause__ = cause
    return error


def led_by(cause: Exception) -> Exception:
    error = OSError("We couldn't connect to 'https://huggingface.co'")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (answered(hub.GatedRepoError, 401), TokenError, "says 401.*Enter one on the Model page"),
        (answered(hub.GatedRepoError, 403), AccessError, "https://huggingface.co/owner/name with"),
        (answered(hub.RepositoryNotFoundError, 404), TokenError, "none of this name"),
        (answered(hub.RepositoryNotFoundError, 401), TokenError, "none of this name"),
        (answered(hub.HfHubHTTPError, 401), TokenError, "says 401"),
        (answered(hub.HfHubHTTPError, 403), AccessError, "says 403"),
        (answered(hub.HfHubHTTPError, 500), ModelError, "says 500, a fault of its own"),
        (answered(hub.RevisionNotFoundError, 404), ModelError, "revision"),
        (led_by(hub.OfflineModeIsEnabled("off")), ModelError, "nothing of it in the cache"),
        (led_by(hub.LocalEntryNotFoundError("none")), ModelError, "got no connection"),
        (led_by(httpx2.ConnectError("refused")), ModelError, "got no connection"),
        (led_by(hub.HFValidationError("bad")), ModelError, "which is neither"),
        (OSError("something else"), ModelError, "must load; got: something else"),
    ],
)
def test_every_refusal_of_the_hub_has_its_own_sentence(
    error: Exception, kind: type[ModelError], words: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    found = load_failed("model", "owner/name", error)
    assert type(found) is kind
    with pytest.raises(kind, match=words):
        raise found


def test_a_local_folder_is_never_looked_for_on_the_hub(tmp_path: Path):
    found = load_failed("model", str(tmp_path), answered(hub.GatedRepoError, 401))
    assert "401" not in str(found)


@pytest.mark.parametrize("head", [True, False])
def test_the_folder_of_an_adapter_is_its_base_with_the_adapter_merged(
    settings: Settings, tmp_path: Path, head: bool
):
    chosen = with_words(settings, "--model.parameters", "lora", "--model.lora_head", head).model
    policy = load_policy(chosen)
    with torch.no_grad():
        for name, p in params.trainable(policy.model).items():
            p.add_(0.1 if "lora_B" in name else 0.0)
    save_policy(policy, tmp_path / "adapter", provenance={})
    adapter = settings.model.model_copy(update={"path": str(tmp_path / "adapter")})
    if head:  # the demo's head is tied to its embedding
        with pytest.raises(ModelError, match="must not reach the output head"):
            load_policy(adapter)
        return
    merged = load_policy(adapter)
    ids = torch.tensor([[1, 5, 9, 30]])
    torch.testing.assert_close(
        merged.model(ids).logits, policy.model(ids).logits, atol=1e-4, rtol=0
    )
    assert policy_skeleton(adapter).parameters == sum(p.numel() for p in merged.model.parameters())


def test_an_adapter_without_a_base_is_a_sentence(tmp_path: Path, settings: Settings):
    (tmp_path / "adapter_config.json").write_text("{}")
    broken = settings.model.model_copy(update={"path": str(tmp_path)})
    with pytest.raises(ModelError, match="must name the model it was made of"):
        load_policy(broken)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."),
        RuntimeError("MPS backend out of memory"),
    ],
)
def test_out_of_memory_is_a_sentence_with_a_next_step(error: Exception):
    with pytest.raises(MemoryShortageError, match="u2a estimate"), shortage_told():
        raise error


def test_what_it_asked_for_is_told():
    with pytest.raises(MemoryShortageError, match=r"asked for another 2.00 GiB"), shortage_told():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0")


def test_another_fault_is_left_as_it_is():
    with pytest.raises(RuntimeError, match="shapes"), shortage_told():
        raise RuntimeError("shapes do not match")


def test_a_run_that_dies_of_it_says_so(tmp_path: Path, settings: Settings):
    run = Run.create(tmp_path / "run", "gains", settings)

    def body(*_: object) -> dict:
        return {"weights": torch.empty(2**60)}  # more than any machine has

    with pytest.raises(MemoryShortageError):
        execute(run, Watch(run), body)
    assert run.status().state == "failed"
    assert "Model page's check" in run.status().message
    assert dataclasses.asdict(run.status())["message"].count("estimate") == 1
