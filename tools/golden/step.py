"""Losses and gradients of one training step: cross-entropy plus every other loss of PAPER.md, over microbatches.

The microbatches only matter to the forward passes and to the microbatch scope. All of them are kept, the losses are
formed from the whole step's routes, and one backward pass gives the gradient.
"""

from dataclasses import dataclass, field

import torch
from torch.nn.functional import cross_entropy

from . import routers
from .model import forward

SCOPES = ("sequence", "microbatch", "step")

# A layer's losses, by the names that golden.json has.
SCOPED_TERMS = ("expert", "device", "communication", "importance", "load", "stable_balance")
TOKEN_TERMS = ("z", "distillation")  # sums over tokens: the scope does not matter
TERMS = SCOPED_TERMS + TOKEN_TERMS


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
    def row_length(self):
        return self.tokens.shape[1]

    @property
    def real(self):
        """[B * S] bool: the positions that are not padding."""
        return self.segment_start.flatten() >= 0


@dataclass(frozen=True)
class LossConfig:
    name: str
    scope: str
    alpha1: float  # expert level
    alpha2: float  # device level
    devices: int
    microbatch_rows: tuple
    alpha3: float = 0.0  # communication, between the router's own groups
    z_loss: float = 0.0
    importance: float = 0.0
    load: float = 0.0
    first_choice: bool = False  # f counts the first choice alone, and its K is 1
    stable_balance: float = 0.0  # StableMoE's two, in stage 1 only
    stable_distill: float = 0.0
    seed: int = 0  # of the random draws
    step: int = 0
    stage: int = 1  # of StableMoE

    def context(self, row_length, first_row=0):
        """The training pass over microbatches from `first_row` on."""
        return routers.Context(
            training=True, stage=self.stage, seed=self.seed, step=self.step, row_length=row_length,
            first_token=first_row * row_length,
        )


@dataclass
class StepResult:
    cross_entropy: float = 0.0
    terms: dict = field(default_factory=dict)  # layer -> name -> loss as added to the objective
    counts: dict = field(default_factory=dict)  # layer -> [E] choices of the step, before thinning and capacity
    dropped: dict = field(default_factory=dict)  # layer -> choices beyond the capacity
    thinned: dict = field(default_factory=dict)  # layer -> second choices not taken
    gap: float = float("inf")  # the smallest cut of any router: K-th score less the next

    def sum_of(self, name):
        return sum(terms[name] for terms in self.terms.values())

    @property
    def total(self):
        return self.cross_entropy + sum(self.sum_of(name) for name in TERMS)


def parameters(weights, dtype):
    """Leaf tensors with a zero gradient: an expert without tokens has the gradient 0, not none. What the optimizer does
    not train has no gradient."""
    leaves = {}
    for name, w in weights.items():
        leaf = w.detach().clone()
        if routers.trained(name):
            leaf = leaf.to(dtype).requires_grad_()
            leaf.grad = torch.zeros_like(leaf)
        elif leaf.is_floating_point():
            leaf = leaf.to(dtype)
        leaves[name] = leaf
    return leaves


def gradients_of(leaves):
    return {name: leaf.grad for name, leaf in leaves.items() if leaf.requires_grad}


def joined(routes):
    """One layer's routes of all microbatches as one, for all positions of the step."""
    parts = {}
    for name in ("scores", "ids", "gates", "gap", "close", "logits", "selected", "balanced", "thinned", "dropped"):
        values = [getattr(r, name) for r in routes]
        parts[name] = None if values[0] is None else torch.cat(values)
    extra = {name: torch.cat([r.extra[name] for r in routes]) for name in routes[0].extra}
    return routers.Route(routes[0].layer, extra=extra, **parts)


def choice_counts(ids, experts):
    """[E] how many of the ids [T, K] name each expert; -1 is none."""
    return torch.bincount(ids[ids >= 0], minlength=experts)


def token_groups(loss, batch):
    """The sets of tokens over which a balance loss ranges, as masks of the step."""
    real = batch.real
    if loss.scope == "step":
        return [real]
    if loss.scope == "microbatch":
        index = torch.arange(len(real)) // batch.row_length
        masks, first = [], 0
        for rows in loss.microbatch_rows:
            masks.append(real & (index >= first) & (index < first + rows))
            first += rows
        return [mask for mask in masks if mask.any()]
    start = batch.segment_start.flatten()
    return [start == s for s in start[real].unique()]


def load_fractions(config, loss, chosen, mask):
    """f [E] of (13), without a gradient."""
    counted, k = chosen.balanced[mask], config.num_experts_per_tok
    if loss.first_choice:
        counted, k = counted[:, :1], 1
    experts = config.n_routed_experts
    counts = choice_counts(counted, experts).to(chosen.scores.dtype)
    return experts / (k * int(mask.sum())) * counts


def mean_scores(config, chosen, mask):
    """P [E] of (14)."""
    scores = chosen.scores[mask]
    if routers.complementary(config):
        scores = scores / scores.sum(-1, keepdim=True)
    return scores.mean(0)


def scoped_terms(config, loss, chosen, mask):
    """The losses of one group of tokens, name -> scalar; those whose weight is 0 are left out."""
    terms = {}
    if loss.alpha1 or loss.alpha2:
        f, p = load_fractions(config, loss, chosen, mask), mean_scores(config, chosen, mask)
        group_f = f.view(loss.devices, -1).mean(1)
        group_p = p.view(loss.devices, -1).sum(1)
        terms["expert"] = loss.alpha1 * (f * p).sum()  # (12)
        terms["device"] = loss.alpha2 * (group_f * group_p).sum()  # (15)
    if loss.alpha3:
        p = mean_scores(config, chosen, mask)
        terms["communication"] = loss.alpha3 * routers.communication_loss(config, chosen.selected[mask], p)
    if loss.importance:
        terms["importance"] = loss.importance * routers.importance_loss(chosen, mask)
    if loss.load:
        terms["load"] = loss.load * routers.load_loss(config, chosen, mask)
    if loss.stable_balance and loss.stage == 1:
        terms["stable_balance"] = loss.stable_balance * routers.stable_balance_loss(chosen, mask)
    return terms


def layer_terms(config, loss, chosen, batch):
    """All losses of a layer, name -> scalar tensor."""
    real = batch.real
    tokens = int(real.sum())  # a tensor of integers would divide in float32
    terms = {name: chosen.gates.new_zeros(()) for name in TERMS}
    for mask in token_groups(loss, batch):
        for name, value in scoped_terms(config, loss, chosen, mask).items():
            terms[name] = terms[name] + int(mask.sum()) / tokens * value
    if loss.z_loss:
        terms["z"] = loss.z_loss * routers.z_loss(chosen, real) / tokens
    if loss.stable_distill and loss.stage == 1:
        terms["distillation"] = loss.stable_distill * routers.distillation_loss(chosen, real) / tokens
    return terms


def run_step(config, weight, batch, loss):
    """Losses of the step; adds the gradient of their sum to `.grad` of every weight that requires one."""
    assert sum(loss.microbatch_rows) == batch.tokens.shape[0] and loss.scope in SCOPES
    logits, routes, first = [], [], 0
    for rows in loss.microbatch_rows:
        part = batch.rows(first, rows)
        context = loss.context(batch.row_length, first)
        seen = forward(config, weight, part.tokens.flatten(), part.segment_start.flatten(), context)
        logits.append(seen[0])
        routes.append(seen[1])
        first += rows

    objective = cross_entropy(torch.cat(logits), batch.targets.flatten().long(), ignore_index=-1)
    result = StepResult(cross_entropy=objective.item())
    real = batch.real
    for layer_routes in zip(*routes):
        chosen = joined(layer_routes)
        terms = layer_terms(config, loss, chosen, batch)
        objective = objective + sum(terms.values())
        result.terms[chosen.layer] = {name: value.item() for name, value in terms.items()}
        result.counts[chosen.layer] = choice_counts(chosen.selected[real], config.n_routed_experts)
        result.dropped[chosen.layer] = int(chosen.dropped[real].sum())
        result.thinned[chosen.layer] = int(chosen.thinned[real].sum())
        result.gap = min(result.gap, chosen.gap[real].min().item())
    if objective.requires_grad:
        objective.backward()
    return result
