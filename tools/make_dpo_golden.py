#!/usr/bin/env python3
"""Writes tests/golden/dpo: the loss and the gradients of direct preference optimisation, from an independent PyTorch program.

    build/peers-venv/bin/python tools/make_dpo_golden.py --out tests/golden      # seconds, deterministic

The model is that of tests/golden/moe_basic; the reference has other random weights. Two rows hold two pairs, a chosen and a
rejected document each, whose first tokens (the prompt) have no target. Everything is computed in float64 from weights stored
as float32; the loss is -logsigmoid(beta ((c - rc) - (r - rr))), the mean over the pairs, and autograd gives the gradients.
The program checks itself: the gradient against central differences, and each document alone against packed.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from golden.batches import packed_batch
from golden.cases import CASES
from golden.folder import random_weights, read_folder
from golden.model import forward
from golden.routers import Context
from golden.step import gradients_of, parameters
from make_golden import LEAST_GAP, relative, seen_by, write_golden

MODEL, BETA, ROW_LENGTH = "moe_basic", 0.3, 21
PAIRS = [
    [(9, 3, False), (8, 3, False)],
    [(6, 2, False), (11, 2, False)],
]


def document_sums(config, weights, batch):
    """For each segment, in order, the sum of the log-probabilities of its targets."""
    start = batch.segment_start.flatten()
    logits, _ = forward(config, weights, batch.tokens.flatten(), start, Context(row_length=batch.row_length))
    chances = torch.log_softmax(logits, dim=-1)
    targets = batch.targets.flatten().long()
    own = torch.where(targets >= 0, chances.gather(1, targets.clamp_min(0)[:, None])[:, 0], 0.0)
    return torch.stack([own[start == first].sum() for first in sorted(set(start.tolist()) - {-1})])


def loss_of(config, weights, batch, reference):
    change = document_sums(config, weights, batch) - reference
    margins = BETA * (change[0::2] - change[1::2])
    return -torch.nn.functional.logsigmoid(margins).mean(), margins, change


def gradients(config, weights, batch, reference, dtype):
    leaves = parameters(weights, dtype)
    loss, margins, change = loss_of(config, leaves, batch, reference.to(dtype))
    loss.backward()
    return loss.item(), margins.detach(), change.detach(), gradients_of(leaves)


def check(config, weights, batch, reference, found):
    """Central differences of the loss along random directions."""
    random = np.random.default_rng(5)
    for name in ("model.layers.1.mlp.experts.0.up_proj.weight", "lm_head.weight", "model.layers.1.mlp.gate.weight"):
        direction = torch.from_numpy(random.standard_normal(tuple(weights[name].shape)))
        sides = []
        for sign in (1, -1):
            moved = {key: value.double() for key, value in weights.items()}
            moved[name] = moved[name] + sign * 1e-6 * direction
            with torch.no_grad():
                sides.append(loss_of(config, moved, batch, reference)[0].item())
        difference = (sides[0] - sides[1]) / 2e-6
        exact = (found[name].double() * direction).sum().item()
        assert abs(difference - exact) < 1e-6 * max(1, abs(exact)), (name, difference, exact)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder that has moe_basic and receives dpo")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    case = next(case for case in CASES if case.name == MODEL)
    config, weights = read_folder(out / MODEL, torch.float32)
    other = {key: value.double() for key, value in random_weights(config, case.seed + 1, case.std, case.router_std).items()}
    doubles = {key: value.double() for key, value in weights.items()}
    for seed in range(700, 1100):
        batch = packed_batch(np.random.Generator(np.random.PCG64(seed)), config.vocab_size, PAIRS, ROW_LENGTH)
        routes = seen_by(config, doubles, batch, Context(row_length=ROW_LENGTH))[1]
        if min(chosen.close[batch.real].min().item() for chosen in routes) > LEAST_GAP:
            break
    else:
        raise SystemExit("no batch without near ties")
    with torch.no_grad():
        reference = document_sums(config, other, batch)
    loss, margins, change, exact = gradients(config, weights, batch, reference, torch.float64)
    check(config, weights, batch, reference, exact)
    coarse_loss, _, _, coarse = gradients(config, weights, batch, reference, torch.float32)
    deviation = {
        "loss": abs(coarse_loss / loss - 1),
        "gradients": max(relative(coarse[name], exact[name]) for name in exact),
    }
    tensors = {f"grad.{name}": gradient for name, gradient in exact.items()}
    tensors["input.tokens"], tensors["input.targets"] = batch.tokens, batch.targets
    tensors["input.segment_start"] = batch.segment_start
    report = {
        "case": "dpo",
        "model": MODEL,
        "beta": BETA,
        "batch_seed": seed,
        "reference": reference.tolist(),
        "loss": loss,
        "accuracy": (margins > 0).double().mean().item(),
        "margin": margins.mean().item(),
        "chosen_reward": BETA * change[0::2].mean().item(),
        "rejected_reward": BETA * change[1::2].mean().item(),
        "grad_norm": torch.sqrt(sum(g.pow(2).sum() for g in exact.values())).item(),
        "float32_deviation": deviation,
    }
    write_golden(out / "dpo", tensors, report)
    print(report)


if __name__ == "__main__":
    main()
