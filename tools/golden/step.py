"""Losses and gradients of one training step: cross-entropy plus the balance losses (12)-(17), over microbatches."""

from dataclasses import dataclass, field

import torch
from torch.nn.functional import cross_entropy

from .model import forward

SCOPES = ("sequence", "microbatch", "step")


@dataclass(frozen=True)
class Batch:
    """Row-major [B, S] integer tensors; targets -1: ignored; segment_start: flat index into [B * S], -1: padding."""

    tokens: torch.Tensor
    targets: torch.Tensor
    segment_start: torch.Tensor

    def rows(self, first, count):
        """Rows [first, first + count) as a batch of their own."""
        part = slice(first, first + count)
        start = self.segment_start[part]
        return Batch(
            self.tokens[part],
            self.targets[part],
            torch.where(start < 0, start, start - first * self.tokens.shape[1]),
        )

    @property
    def real(self):
        """[B * S] bool: the positions that are not padding."""
        return self.segment_start.flatten() >= 0


@dataclass(frozen=True)
class LossConfig:
    name: str
    scope: str
    alpha1: float
    alpha2: float
    devices: int
    microbatch_rows: tuple


@dataclass
class StepResult:
    cross_entropy: float = 0.0
    expert: dict = field(default_factory=dict)  # layer -> alpha1 * sum_i f_i P_i, weighted by the scope
    device: dict = field(default_factory=dict)  # layer -> alpha2 * sum_g f'_g P'_g
    counts: dict = field(default_factory=dict)  # layer -> [E] tokens of the step that chose the expert
    gap: float = float("inf")  # the closest call of any router

    @property
    def total(self):
        return self.cross_entropy + sum(self.expert.values()) + sum(self.device.values())


def expert_counts(chosen, mask):
    """[E] how many of the masked tokens chose each expert."""
    experts = chosen.scores.shape[1]
    return torch.bincount(chosen.ids[mask].flatten(), minlength=experts).to(chosen.scores.dtype)


def balance(loss, f, p):
    """(12) and (15) from f [E] (no gradient) and P [E]: alpha1 * sum_i f_i P_i, alpha2 * sum_g f'_g P'_g."""
    group_f = f.view(loss.devices, -1).mean(1)
    group_p = p.view(loss.devices, -1).sum(1)
    return loss.alpha1 * (f * p).sum(), loss.alpha2 * (group_f * group_p).sum()


def token_groups(loss, part):
    """The sets of tokens over which f and P range, as masks of a microbatch (sequence and microbatch scopes)."""
    if loss.scope == "microbatch":
        return [part.real]
    start = part.segment_start.flatten()
    return [start == s for s in start[part.real].unique()]


def balance_of_microbatch(loss, k, chosen, part, step_tokens, step_counts):
    """One layer's expert and device loss: this microbatch's share of the step's."""
    experts = chosen.scores.shape[1]
    if loss.scope == "step":
        f = experts / (k * step_tokens) * step_counts[chosen.layer]
        return balance(loss, f, chosen.scores[part.real].sum(0) / step_tokens)
    expert_loss = device_loss = chosen.scores.new_zeros(())
    for mask in token_groups(loss, part):
        tokens = mask.sum()
        f = experts / (k * tokens) * expert_counts(chosen, mask)
        one, two = balance(loss, f, chosen.scores[mask].mean(0))
        expert_loss = expert_loss + tokens / step_tokens * one
        device_loss = device_loss + tokens / step_tokens * two
    return expert_loss, device_loss


def run_step(config, weight, batch, loss):
    """Losses of the step; adds the gradient of their sum to `.grad` of every weight that requires one."""
    assert sum(loss.microbatch_rows) == batch.tokens.shape[0] and loss.scope in SCOPES
    first_rows = [sum(loss.microbatch_rows[:i]) for i in range(len(loss.microbatch_rows))]
    parts = [batch.rows(first, rows) for first, rows in zip(first_rows, loss.microbatch_rows)]
    targets, tokens = int((batch.targets >= 0).sum()), int(batch.real.sum())

    result = StepResult()
    with torch.no_grad():  # the counting pass: the step scope needs the counts before the first gradient
        for part in parts:
            for chosen in forward(config, weight, part.tokens.flatten(), part.segment_start.flatten())[1]:
                counts = expert_counts(chosen, part.real)
                result.counts[chosen.layer] = result.counts.get(chosen.layer, 0) + counts
                if part.real.any():
                    result.gap = min(result.gap, chosen.gap[part.real].min().item())

    for part in parts:
        logits, routes = forward(config, weight, part.tokens.flatten(), part.segment_start.flatten())
        objective = cross_entropy(logits, part.targets.flatten().long(), ignore_index=-1, reduction="sum") / targets
        result.cross_entropy += objective.item()
        for chosen in routes:
            expert_loss, device_loss = balance_of_microbatch(
                loss, config.num_experts_per_tok, chosen, part, tokens, result.counts
            )
            objective = objective + expert_loss + device_loss
            result.expert[chosen.layer] = result.expert.get(chosen.layer, 0.0) + expert_loss.item()
            result.device[chosen.layer] = result.device.get(chosen.layer, 0.0) + device_loss.item()
        if objective.requires_grad:
            objective.backward()
    return result
