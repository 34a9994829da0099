"""Adapters of linear maps (LoRA) on a golden model: W + alpha / r B A in the place of W, with autograd's gradients of A
and B. The written folder is an adapter as PEFT writes one."""

import json
from pathlib import Path

import numpy as np
import torch
from make_nf4_golden import BLOCK, NF4, dynamic_map, quantise
from safetensors.torch import save_file

from .model import forward
from .routers import Context
from .step import run_step

PREFIX = "base_model.model."
ALPHA, RANK, EXPERTS_RANK = 7.0, 3, 2
LEAVES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head")
SIZE = 0.3  # of the values: large enough that an adapter matters


def is_expert(name):
    return ".mlp.experts." in name


def rank_of(name):
    return EXPERTS_RANK if is_expert(name) else RANK


def adapted(name):
    return name.endswith(tuple(f"{leaf}.weight" for leaf in LEAVES))


def in_nf4(weights):
    """The weights as a base in 4-bit NormalFloat has them: each adapted matrix but the head by itself."""
    result = dict(weights)
    for name, weight in weights.items():
        if not adapted(name) or name == "lm_head.weight":
            continue
        packed, scales = quantise(weight.numpy().flatten(), dynamic_map())
        codes = np.stack([packed >> 4, packed & 15], axis=-1).reshape(-1, BLOCK)
        result[name] = torch.from_numpy((NF4[codes] * scales[:, None]).reshape(weight.shape))
    return result


def random_adapters(weights, seed):
    """Name of the weight -> (A, B), uniform values from exact operations of PCG64's integers."""
    random = np.random.Generator(np.random.PCG64(seed))

    def draw(*shape):
        return torch.from_numpy((SIZE * random.integers(-(2**23), 2**23, size=shape) / 2.0**23).astype(np.float32))

    return {
        name: (draw(rank_of(name), weight.shape[1]), draw(weight.shape[0], rank_of(name)))
        for name, weight in weights.items()
        if adapted(name)
    }


def changed(weights, adapters, dtype):
    """The weights in `dtype`, each with its adapter's change."""
    result = {}
    for name, weight in weights.items():
        result[name] = weight.to(dtype) if weight.is_floating_point() else weight
        if name in adapters:
            a, b = adapters[name]
            result[name] = result[name] + ALPHA / rank_of(name) * (b @ a)
    return result


def file_name(name, part):
    return f"{PREFIX}{name.removesuffix('.weight')}.lora_{part}.weight"


def write_adapters(folder: Path, base, config, weights, batch, loss, seed):
    """`base`: the name of the model's folder."""
    adapters = random_adapters(weights, seed)
    leaves = {
        name: tuple(part.to(torch.float64).requires_grad_() for part in pair) for name, pair in adapters.items()
    }
    result = run_step(config, changed(weights, leaves, torch.float64), batch, loss)
    with torch.no_grad():
        logits, routes = forward(
            config, changed(weights, leaves, torch.float64), batch.tokens.flatten(), batch.segment_start.flatten(),
            Context(row_length=batch.row_length),
        )
    gap = min(chosen.close[batch.real].min().item() for chosen in routes)
    folder.mkdir(parents=True, exist_ok=True)
    tensors, golden = {}, {"logits": torch.where(batch.real[:, None], logits, 0.0).to(torch.float32)}
    squares = 0.0
    for name, (a, b) in leaves.items():
        for part, leaf in (("A", a), ("B", b)):
            tensors[file_name(name, part)] = leaf.detach().to(torch.float32)
            golden[f"grad.{file_name(name, part)}"] = leaf.grad.to(torch.float32)
            squares += leaf.grad.square().sum().item()
    golden["input.tokens"], golden["input.targets"] = batch.tokens, batch.targets
    golden["input.segment_start"] = batch.segment_start
    save_file({name: t.contiguous() for name, t in tensors.items()}, folder / "adapter_model.safetensors")
    integers = {name: t if t.is_floating_point() else t.to(torch.int32) for name, t in golden.items()}
    save_file({name: t.contiguous() for name, t in integers.items()}, folder / "golden.safetensors")
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": RANK,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "target_modules": list(LEAVES),
        "target_parameters": None,
        "rank_pattern": {r".*\.experts\.\d+\..*_proj": EXPERTS_RANK},
        "alpha_pattern": {},
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings, indent=1) + "\n")
    report = {
        "case": folder.name,
        "alpha": ALPHA,
        "rank": RANK,
        "rank_experts": EXPERTS_RANK,
        "alpha1": loss.alpha1,
        "alpha2": loss.alpha2,
        "devices": loss.devices,
        "microbatch_rows": list(loss.microbatch_rows),
        "cross_entropy": result.cross_entropy,
        "total": result.total,
        "grad_norm": squares**0.5,
        "smallest_routing_gap": gap,
    }
    (folder / "golden.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"{folder.name}: cross-entropy {result.cross_entropy:.6f}, gap {gap:.1e}")
    return gap
