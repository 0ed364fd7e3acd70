"""The layers that bitsandbytes quantizes, by their shapes; where it is installed, against it."""

import math
from pathlib import Path

import pytest
import torch
from families import FAMILIES, saved
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from u2a_core.config import ModelSettings
from u2a_core.estimate.trace import WHOLE, Trace, traced
from u2a_core.models.kernels import quantization_config
from u2a_core.models.quantized import Packed
from u2a_core.models.skeleton import Skeleton, _faked, policy_skeleton

KINDS = ("4bit", "8bit")


def skeleton_of(folder: Path, kind: str, **settings: object) -> Skeleton:
    lora = {"parameters": "lora", "lora_slopes": "adapter", "lora_rank": 4, "dtype": "bfloat16"}
    chosen = lora | {"path": str(folder), "device": "cpu", "quantize": kind} | settings
    return policy_skeleton(ModelSettings(**chosen))


def base_bytes(skeleton: Skeleton) -> int:
    return skeleton.weights - skeleton.bytes_of(skeleton.theta)


def packed_bytes(rows: int, columns: int, kind: str) -> int:
    """Of a layer: NF4 with scales in a byte, and their scales, codes and mean; or a byte, a row."""
    numbers = rows * columns
    if kind == "8bit":
        return numbers + 4 * rows
    scales = math.ceil(numbers / 64)
    return math.ceil(numbers / 2) + scales + 4 * (math.ceil(scales / 256) + 256 + 16 + 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_base_takes_what_the_formats_say(tmp_path: Path, kind: str):
    """LLaMA: seven linear layers a block; embedding, head and norms stay in bfloat16."""
    folder = saved(FAMILIES["llama3"], tmp_path)
    skeleton, plain = skeleton_of(folder, kind), skeleton_of(folder, "none")
    config = skeleton.config
    d, wide = config.hidden_size, config.intermediate_size
    queries, keys = (
        config.head_dim * n for n in (config.num_attention_heads, config.num_key_value_heads)
    )
    shapes = [(queries, d), (keys, d), (keys, d), (d, queries), (wide, d), (wide, d), (d, wide)]
    shapes *= config.num_hidden_layers
    kept = base_bytes(plain) - 2 * sum(rows * columns for rows, columns in shapes)
    assert base_bytes(skeleton) == kept + sum(packed_bytes(*shape, kind) for shape in shapes)
    assert skeleton.parameters == plain.parameters
    assert skeleton.theta == plain.theta


def test_the_head_and_what_is_tied_to_it_stay_as_they_are(tmp_path: Path):
    for name in ("gemma2", "gpt2", "pythia"):
        skeleton = skeleton_of(saved(FAMILIES[name], tmp_path / name), "4bit")
        linear = {n for n, m in skeleton.model.named_modules() if isinstance(m, nn.Linear)}
        assert {n for n in linear if "lora_" not in n} == {"base_model.model.lm_head.base_layer"}
        assert skeleton.packed


def trace_of(kind: str, tokens: int, rows: int, columns: int) -> Trace:
    """Forward and backward of one layer."""
    mode = FakeTensorMode()
    with torch.device("meta"):
        layer = Packed(nn.Linear(columns, rows, bias=False, dtype=torch.bfloat16), kind)
    skeleton = Skeleton(_faked(layer, mode), mode)

    def work() -> object:
        inputs = torch.empty(1, tokens, columns, dtype=torch.bfloat16, requires_grad=True)
        return torch.autograd.grad(layer(inputs).sum(), inputs)

    return traced(skeleton, 0, work)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_made_whole_for_a_product_and_let_go(kind: str):
    trace = trace_of(kind, tokens=2, rows=256, columns=512)
    assert trace.peak[WHOLE] == 2 * 256 * 512
    assert trace.kept == 2 * 2 * 512  # the gradient of the inputs
    assert trace.flops == 2 * 2 * 2 * 256 * 512


def test_an_8_bit_product_is_counted_in_32_bits_first():
    """Inputs and their codes; the sums in int32, then in float16, then in bfloat16."""
    trace = trace_of("8bit", tokens=1000, rows=256, columns=64)
    assert sum(trace.peak.values()) == pytest.approx(1000 * (64 * (2 + 1) + 256 * (4 + 2 + 2)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["llama3", "gpt2", "gemma2"])
def test_bitsandbytes_itself_holds_these_bytes(tmp_path: Path, name: str, kind: str):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    from transformers import AutoModelForCausalLM

    folder = saved(FAMILIES[name], tmp_path)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, device_map={"": "cpu"},
        quantization_config=quantization_config(kind, torch.bfloat16),
    )  # fmt: skip
    held: list[torch.Tensor] = [*model.parameters(), *model.buffers()]
    layers = set()
    for path, module in model.named_modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            state = module.weight.quant_state
            held += [state.absmax, state.state2.absmax, state.state2.code, state.code, state.offset]
            layers.add(path)
        elif isinstance(module, bitsandbytes.nn.Linear8bitLt):
            held.append(module.weight.SCB)
            layers.add(path)
    skeleton = skeleton_of(folder, kind)
    assert base_bytes(skeleton) == sum(tensor.nbytes for tensor in held)
    assert layers == {
        path.removeprefix("base_model.model.").removesuffix(".base_layer")
        for path, module in skeleton.model.named_modules()
        if isinstance(module, Packed)
    }
