"""The reference program's checks of itself, run before anything is written. Each raises SystemExit with what failed."""

import random as python_random
from dataclasses import replace

import torch

from .folder import to_dtype
from .model import forward
from .optimizers import is_hidden_matrix
from .step import Batch, gradients_of, parameters, run_step


def require(condition, what):
    if not condition:
        raise SystemExit(f"self-check failed: {what}")


def objective(config, weights, batch, loss):
    with torch.no_grad():
        return run_step(config, weights, batch, loss).total


def central_differences(config, weights, batch, loss, entries_per_kind=2, h=1e-5):
    """Two entries of every kind of tensor (attention, router, expert, norm, ...), in every layer kind."""
    leaves = parameters(weights, torch.float64)
    run_step(config, leaves, batch, loss)
    by_kind = {}
    for name in gradients_of(leaves):
        by_kind.setdefault(".".join(p for p in name.split(".") if not p.isdigit()), []).append(name)
    choice = python_random.Random(7)
    plain = {name: leaf.detach() for name, leaf in leaves.items()}
    for names in by_kind.values():
        for _ in range(entries_per_kind):
            name = choice.choice(names)
            flat, exact = plain[name].view(-1), leaves[name].grad.view(-1)
            i = choice.randrange(flat.numel())
            kept = flat[i].item()
            flat[i] = kept + h
            above = objective(config, plain, batch, loss)
            flat[i] = kept - h
            below = objective(config, plain, batch, loss)
            flat[i] = kept
            slope = (above - below) / (2 * h)
            require(
                abs(slope - exact[i].item()) < 1e-8 + 1e-6 * abs(slope),
                f"{loss.name}: d/d {name}[{i}] is {exact[i].item():.10g}, central differences give {slope:.10g}",
            )


def microbatches_do_not_matter(config, weights, batch, loss):
    """Sequence and step forms: the step's gradient is the same for one microbatch and for one row each."""
    rows = batch.tokens.shape[0]
    results = []
    for split in ((rows,), (1,) * rows):
        leaves = parameters(weights, torch.float64)
        result = run_step(config, leaves, batch, replace(loss, microbatch_rows=split))
        results.append((result.total, leaves))
    require(abs(results[0][0] - results[1][0]) < 1e-12, f"{loss.name}: the loss depends on the microbatches")
    for name, gradient in gradients_of(results[0][1]).items():
        difference = (gradient - results[1][1][name].grad).abs().max().item()
        require(difference < 1e-12, f"{loss.name}: the gradient of {name} depends on the microbatches")


def packing_does_not_matter(config, weights, batch):
    """Every segment alone, at position 0 of a row of its own, has the logits that it has in the packed batch."""
    plain = to_dtype(weights, torch.float64)
    tokens, start = batch.tokens.flatten(), batch.segment_start.flatten()
    packed, _ = forward(config, plain, tokens, start)
    for s in start[start >= 0].unique():
        alone, _ = forward(config, plain, tokens[start == s], torch.zeros(int((start == s).sum()), dtype=start.dtype))
        require((alone - packed[start == s]).abs().max().item() < 1e-11, f"segment {int(s)} sees other documents")


def padding_does_not_matter(config, weights, batch, loss):
    """Other token ids at padding, and a further column of it, change neither loss nor gradients. Random draws count
    positions, padding included: with them only the ids change."""
    rows, length = batch.tokens.shape
    columns = 0 if draws_numbers(config) else 1
    wider = Batch(*(torch.full((rows, length + columns), -1, dtype=torch.int32) for _ in range(3)))
    wider.tokens.fill_(1)
    for name in ("tokens", "targets", "segment_start"):
        getattr(wider, name)[:, :length] = getattr(batch, name)
    padding = batch.segment_start < 0
    wider.tokens[:, :length][padding] = 2
    start = batch.segment_start
    shift = columns * torch.arange(rows, dtype=torch.int32)[:, None]
    wider.segment_start[:, :length] = torch.where(padding, start, start + shift)
    one, two = parameters(weights, torch.float64), parameters(weights, torch.float64)
    first, second = run_step(config, one, batch, loss), run_step(config, two, wider, loss)
    require(abs(first.total - second.total) < 1e-12, f"{loss.name}: the loss depends on padding")
    for name in gradients_of(one):
        difference = (one[name].grad - two[name].grad).abs().max().item()
        require(difference < 1e-12, f"{loss.name}: the gradient of {name} depends on padding")


def chosen_sets(ids):
    return ids.sort(dim=-1).values


def methods_are_exercised(config, weights, batch, case):
    """The batch shows what the case is for: drops, thinning, choices that the bias or the groups change."""
    if not config.n_routed_experts:
        return
    for loss in case.losses:
        result = run_step(config, parameters(weights, torch.float64), batch, loss)
        thinned, dropped = sum(result.thinned.values()), sum(result.dropped.values())
        if capacity_limits(config):
            require(dropped > 0, f"{loss.name}: the capacity drops nothing")
        if config.second_expert_threshold:
            require(0 < thinned < batch.real.sum() * len(result.thinned), f"{loss.name}: no or only thinned choices")
    if config.topk_method == "greedy":
        return
    plain = to_dtype(weights, torch.float64)
    _, routes = forward(config, plain, batch.tokens.flatten(), batch.segment_start.flatten())
    for chosen in routes:
        best = chosen.scores.topk(config.num_experts_per_tok).indices
        differ = (chosen_sets(best) != chosen_sets(chosen.selected)).any(1)
        require(differ[batch.real].any(), f"layer {chosen.layer}: bias or groups do not matter")


def draws_numbers(config):
    return bool(config.router_jitter or config.second_expert_threshold or config.routing == "noisy_topk")


def capacity_limits(config):
    return bool(config.capacity_factor or config.eval_capacity_factor) and config.routing != "expert_choice"


def all_of(config, weights, batch, case):
    methods_are_exercised(config, weights, batch, case)
    if not capacity_limits(config) and config.routing != "expert_choice":  # these see a row, not a document
        packing_does_not_matter(config, weights, batch)
    if batch.tokens.numel() > 200:
        return  # a long row: the same code, and too slow for differences
    for loss in case.losses:
        central_differences(config, weights, batch, loss)
        padding_does_not_matter(config, weights, batch, loss)
        if loss.scope != "microbatch":
            microbatches_do_not_matter(config, weights, batch, loss)


def orthogonalized(u):
    """Muon's five Newton-Schulz steps, by singular values: each is mapped by the odd polynomial, five times over."""
    left, values, right = torch.linalg.svd(u / max(u.norm().item(), 1e-7), full_matrices=False)
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return left @ torch.diag(values) @ right


def optimizer(plan, config, weights, batches, learning_rate, final):
    """The optimizer written out, against torch's."""
    leaves = parameters(weights, torch.float64)
    first = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    second = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    for step, batch in enumerate(batches, start=1):
        for leaf in leaves.values():
            leaf.grad.zero_()
        run_step(config, leaves, batch, plan.loss)
        norm = torch.sqrt(sum(leaf.grad.pow(2).sum() for leaf in leaves.values()))
        scale = min(1.0, plan.clip / (norm.item() + 1e-6))
        rate = learning_rate(plan, step)
        with torch.no_grad():
            for name, leaf in leaves.items():
                g = leaf.grad * scale
                decay = plan.weight_decay if leaf.dim() > 1 else 0.0
                if plan.optimizer == "muon" and is_hidden_matrix(name, leaf):
                    first[name] = plan.momentum * first[name] + (1 - plan.momentum) * g
                    ahead = plan.momentum * first[name] + (1 - plan.momentum) * g
                    leaf -= rate * (0.2 * max(leaf.shape) ** 0.5 * orthogonalized(ahead) + decay * leaf)
                    continue
                first[name] = plan.beta1 * first[name] + (1 - plan.beta1) * g
                second[name] = plan.beta2 * second[name] + (1 - plan.beta2) * g * g
                mean = first[name] / (1 - plan.beta1**step)
                root = (second[name] / (1 - plan.beta2**step)).sqrt()
                leaf -= rate * (mean / (root + plan.eps) + decay * leaf)
    for name, leaf in leaves.items():
        difference = (leaf - final[name]).abs().max().item()
        require(difference < 1e-9, f"{plan.optimizer} written out differs from torch's in {name} by {difference}")
