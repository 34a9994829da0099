#!/usr/bin/env python3
"""Writes tests/golden: reference values of the model, the losses and the optimizer from an independent PyTorch program.

    build/venv/bin/python tools/make_golden.py --out tests/golden

Needs torch, numpy and safetensors. Everything is computed in float64 from weights stored as float32, in one thread,
from fixed seeds; gradients come from autograd, AdamW, Muon and clipping from torch itself. Before anything is written the
program checks itself: gradients against central differences, microbatches against one batch, packed against separate
documents, routing far from ties, random numbers against published ones. The written folders are described in
tests/golden/README.md; the cases are in tools/golden/cases.py.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from safetensors.torch import save_file

from golden import check
from golden.batches import packed_batch, shuffled_layout
from golden.cases import CASES, NF4_BASE, TRAININGS
from golden.draws import check_known_answers
from golden.folder import BASE_FIELDS, random_weights, to_dtype, write_folder
from golden.lora import in_nf4, write_adapters
from golden.model import forward, read_config
from golden.routers import Context
from golden.optimizers import optimizers_of
from golden.step import gradients_of, parameters, run_step

# Routing must not hang on rounding: a float32 score errs by about 1e-6.
LEAST_GAP = 1e-4
LEAST_TRAINING_GAP = 3e-5

AUTO_MAP = {
    "AutoConfig": "configuration_deepseek.DeepseekConfig",
    "AutoModel": "modeling_deepseek.DeepseekModel",
    "AutoModelForCausalLM": "modeling_deepseek.DeepseekForCausalLM",
}


def generator(seed):
    return np.random.Generator(np.random.PCG64(seed))


def config_fields(case):
    fields = {**BASE_FIELDS, **case.fields}
    return {**fields, "auto_map": AUTO_MAP} if case.auto_map else fields


def norm_of(gradients):
    return torch.sqrt(sum(g.double().pow(2).sum() for g in gradients)).item()


def relative(a, b):
    """max |a - b| / max |b|"""
    return ((a.double() - b.double()).abs().max() / b.double().abs().max().clamp_min(1e-300)).item()


def seen_by(config, weights, batch, context):
    """Logits and routes of a pass over the whole batch."""
    with torch.no_grad():
        return forward(config, weights, batch.tokens.flatten(), batch.segment_start.flatten(), context)


def evaluate(case, config, weights, batch, dtype):
    """Everything of a case in one precision: tensors to store, results by loss configuration, gradients."""
    leaves = parameters(weights, dtype)
    real = batch.real
    logits, routes = seen_by(config, leaves, batch, Context(row_length=batch.row_length))
    row_loss = torch.nn.functional.cross_entropy(
        logits, batch.targets.flatten().long(), ignore_index=-1, reduction="none"
    )
    tensors = {"logits": torch.where(real[:, None], logits, 0.0), "row_loss": row_loss}
    for chosen in routes:
        tensors[f"route.{chosen.layer}.ids"] = torch.where(real[:, None], chosen.ids, -1).to(torch.int32)
        tensors[f"route.{chosen.layer}.gates"] = torch.where(real[:, None], chosen.gates, 0.0)
    results, gradients = {}, {}
    for loss in case.losses:
        leaves = parameters(weights, dtype)
        results[loss.name] = run_step(config, leaves, batch, loss)
        gradients[loss.name] = gradients_of(leaves)
    return tensors, results, gradients


def smallest_gap(case, config, weights, batch):
    """The closest call of any router, in evaluation and in every configuration's training pass."""
    contexts = {Context(row_length=batch.row_length)} | {loss.context(batch.row_length) for loss in case.losses}
    gap = float("inf")
    for context in contexts:
        for chosen in seen_by(config, weights, batch, context)[1]:
            gap = min(gap, chosen.close[batch.real].min().item())
    return gap


def find_batch(case, config, weights):
    """The first seed whose batch routes every token at least LEAST_GAP away from a tie."""
    doubles = to_dtype(weights, torch.float64)
    for seed in range(case.seed, case.seed + 400):
        batch = packed_batch(generator(seed), config.vocab_size, case.rows, case.row_length)
        gap = smallest_gap(case, config, doubles, batch)
        if gap > LEAST_GAP:
            return seed, gap, batch
    raise SystemExit(f"{case.name}: no batch without near ties; spread the router more (router_std)")


def describe(loss, result, gradient_norm, stored):
    layers = [
        {
            "layer": layer,
            **result.terms[layer],
            "counts": [int(n) for n in result.counts[layer]],
            "dropped": result.dropped[layer],
        }
        for layer in sorted(result.terms)
    ]
    return {
        **asdict(loss),
        "cross_entropy": result.cross_entropy,
        "layers": layers,
        "expert_loss": result.sum_of("expert"),
        "device_loss": result.sum_of("device"),
        "total": result.total,
        "grad_norm": gradient_norm,
        "gradients": stored,
    }


def write_golden(folder, tensors, report):
    floats_to_f32 = {
        name: t.to(torch.float32 if t.is_floating_point() else torch.int32).contiguous() for name, t in tensors.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(floats_to_f32, folder / "golden.safetensors")
    (folder / "golden.json").write_text(json.dumps(report, indent=1) + "\n")


def write_case(case, out):
    fields = config_fields(case)
    config = read_config(fields)
    weights = random_weights(config, case.seed, case.std, case.router_std)
    batch_seed, gap, batch = find_batch(case, config, weights)
    check.all_of(config, weights, batch, case)
    tensors, results, gradients = evaluate(case, config, weights, batch, torch.float64)
    coarse_tensors, coarse_results, coarse_gradients = evaluate(case, config, weights, batch, torch.float32)

    deviation = {"logits": relative(coarse_tensors["logits"], tensors["logits"]), "total": 0.0, "gradients": 0.0}
    configurations = []
    for loss in case.losses:
        routers = [name for name in gradients[loss.name] if ".mlp.gate." in name]
        stored = "all" if loss.name in case.full_gradients else "routers"
        for name in gradients[loss.name] if stored == "all" else routers:
            exact, coarse = gradients[loss.name][name], coarse_gradients[loss.name][name]
            tensors[f"grad.{loss.name}.{name}"] = exact
            deviation["gradients"] = max(deviation["gradients"], relative(coarse, exact))
        exact_total, coarse_total = results[loss.name].total, coarse_results[loss.name].total
        deviation["total"] = max(deviation["total"], abs(coarse_total / exact_total - 1))
        norm = norm_of(gradients[loss.name].values())
        configurations.append(describe(loss, results[loss.name], norm, stored))

    tensors["input.tokens"], tensors["input.targets"] = batch.tokens, batch.targets
    tensors["input.segment_start"] = batch.segment_start
    if case.logit_rows:
        rows = torch.tensor(case.logit_rows)
        tensors["logits.rows"], tensors["logits"] = rows, tensors["logits"][rows]
        tensors = {name: t for name, t in tensors.items() if not name.startswith("route.")}
    write_folder(out / case.name, fields, weights)
    report = {
        "case": case.name,
        "what": case.what,
        "weights_seed": case.seed,
        "batch_seed": batch_seed,
        "tokens": int(batch.real.sum()),
        "targets": int((batch.targets >= 0).sum()),
        "smallest_routing_gap": gap if gap < float("inf") else None,
        "cross_entropy": (tensors["row_loss"].sum() / (batch.targets >= 0).sum()).item(),
        "configurations": configurations,
        "float32_deviation": deviation,
    }
    write_golden(out / case.name, tensors, report)
    print(f"{case.name}: cross-entropy {report['cross_entropy']:.6f}, gap {gap:.1e}, float32 deviates by {deviation}")


def learning_rate(plan, step):
    """Linear warm-up; x decay_factor from step floor(0.8 S) + 1 and again from floor(0.9 S) + 1. Steps count from 1."""
    rate = plan.peak_lr * min(1.0, step / plan.warmup)
    if step > plan.steps * 8 // 10:
        rate *= plan.decay_factor
    if step > plan.steps * 9 // 10:
        rate *= plan.decay_factor
    return rate


def step_in_full(optimizer, dtype):
    """A step in `dtype`: torch's Muon would round its products to bfloat16."""
    with mock.patch.object(torch, "bfloat16", dtype):
        optimizer.step()


def train(plan, config, weights, batches, dtype):
    """(report lines, final weights, closest routing call): torch's optimizers and clipping, decay on matrices only."""
    leaves = parameters(weights, dtype)
    optimizers = optimizers_of(plan, leaves)
    lines, gap = [], float("inf")
    for step, batch in enumerate(batches, start=1):
        for leaf in leaves.values():
            leaf.grad.zero_()
        result = run_step(config, leaves, batch, plan.loss)
        norm = torch.nn.utils.clip_grad_norm_(leaves.values(), plan.clip).item()
        rate = learning_rate(plan, step)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            step_in_full(optimizer, dtype)
        gap = min(gap, result.gap)
        lines.append(
            {
                "step": step,
                "lr": rate,
                "loss": result.cross_entropy,
                "expert_loss": result.sum_of("expert"),
                "device_loss": result.sum_of("device"),
                "grad_norm": norm,
            }
        )
    return lines, {name: leaf.detach() for name, leaf in leaves.items()}, gap


def write_training(plan, out):
    case = next(c for c in CASES if c.name == plan.model)
    config = read_config(config_fields(case))
    weights = random_weights(config, case.seed, case.std, case.router_std)
    for seed in range(plan.seed, plan.seed + 400):
        random = generator(seed)
        batches = [
            packed_batch(random, config.vocab_size, layout, plan.row_length)
            for layout in (shuffled_layout(random, plan.rows, plan.row_length) for _ in range(plan.steps))
        ]
        lines, final, gap = train(plan, config, weights, batches, torch.float64)
        if gap > LEAST_TRAINING_GAP:
            break
    else:
        raise SystemExit(f"{plan.name}: no sequence of batches without near ties")
    check.optimizer(plan, config, weights, batches, learning_rate, final)
    coarse_lines, coarse_final, _ = train(plan, config, weights, batches, torch.float32)
    deviation = {
        "loss": max(abs(a["loss"] / b["loss"] - 1) for a, b in zip(coarse_lines, lines)),
        "grad_norm": max(abs(a["grad_norm"] / b["grad_norm"] - 1) for a, b in zip(coarse_lines, lines)),
        "final": max(relative(coarse_final[name], final[name]) for name in plan.final_weights),
    }
    tensors = {f"final.{name}": final[name] for name in plan.final_weights}
    for part in ("tokens", "targets", "segment_start"):
        tensors[f"input.{part}"] = torch.stack([getattr(batch, part) for batch in batches])
    settings = {k: v for k, v in asdict(plan).items() if k not in ("name", "final_weights", "seed", "loss")}
    report = {
        "case": plan.name,
        "batch_seed": seed,
        **settings,
        "loss": {k: v for k, v in asdict(plan.loss).items() if k != "name"},
        "smallest_routing_gap": gap,
        "log": lines,
        "float32_deviation": deviation,
    }
    write_golden(out / plan.name, tensors, report)
    for line in lines:
        print("  " + ", ".join(f"{key} {value:.6g}" for key, value in line.items()))
    print(f"{plan.name}: gap {gap:.1e}, float32 deviates by {deviation}")


def write_lora(folder, case, weights, base):
    """Adapters of every linear map of a model, under the first seed whose routing is far from ties."""
    config = read_config(config_fields(case))
    batch = find_batch(case, config, weights)[2]
    loss = next(one for one in case.losses if one.name == "sequence")
    for seed in range(700, 1100):
        if write_adapters(folder, base, config, weights, batch, loss, seed) > LEAST_GAP:
            return
    raise SystemExit(f"{folder.name}: no adapters without near ties")


def weights_of(case):
    return random_weights(read_config(config_fields(case)), case.seed, case.std, case.router_std)


def write_loras(out):
    """moe_basic_lora; and nf4_lora, whose base is in nf4, with the folder `base` of the weights before that."""
    basic = next(case for case in CASES if case.name == "moe_basic")
    write_lora(out / "moe_basic_lora", basic, weights_of(basic), "moe_basic")
    weights = weights_of(NF4_BASE)
    write_folder(out / NF4_BASE.name / "base", config_fields(NF4_BASE), weights)
    write_lora(out / NF4_BASE.name, NF4_BASE, in_nf4(weights), "base")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder that receives one folder per case")
    parser.add_argument("--only-lora", action="store_true", help="write moe_basic_lora and nf4_lora alone")
    options = parser.parse_args()
    out = options.out
    torch.set_num_threads(1)
    check_known_answers()
    write_loras(out)
    if options.only_lora:
        return
    for case in CASES:
        write_case(case, out)
    for plan in TRAININGS:
        write_training(plan, out)


if __name__ == "__main__":
    main()
