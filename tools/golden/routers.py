"""Every routing method of PAPER.md sections 4 and 5: scores, selection, gates and capacity of one MoE layer.

A router sees T flat positions (padding included; their results mean nothing) and returns a `Route`. What it needs
besides the weights (training or evaluation, the random draws' counters, where the rows are) is the `Context`.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor

import torch
from torch.nn.functional import cross_entropy, softplus

from . import draws

LIGHT_WIDTH = 50


@dataclass(frozen=True)
class Context:
    """How a forward pass is made, and which part of the step's [B, S] batch it sees."""

    training: bool = False
    stage: int = 1  # StableMoE
    seed: int = 0
    step: int = 0
    row_length: int = 0  # 0: all positions are one row
    first_token: int = 0  # flat position of the first one in the whole step's batch

    def indices(self, tokens, width):
        """[T, width] the draws' counters: global token * width + element."""
        flat = torch.arange(tokens * width, dtype=torch.int64) + self.first_token * width
        return flat.view(tokens, width)

    def draw(self, kind, what, layer, like, width):
        """[T, width] numbers of the dtype of `like`; T is its first size."""
        stream = draws.hash_name(f"{what}.{layer}.{self.step}")
        values = kind(self.seed, stream, self.indices(like.shape[0], width).numpy())
        return torch.from_numpy(values).to(like.dtype)

    def rows(self, real):
        """Per row of the batch, the positions that are not padding, in order."""
        length = self.row_length or len(real)
        positions = torch.arange(len(real))
        return [positions[(positions // length == r) & real].tolist() for r in range(-(-len(real) // length))]


EVALUATION = Context()


@dataclass
class Route:
    """What one MoE layer's router decided, for all T positions (padding included; its rows mean nothing)."""

    layer: int
    scores: torch.Tensor  # [T, E] over all experts (None: hash)
    ids: torch.Tensor  # [T, K] chosen experts by falling selection score, the lower index first among equals;
    #                    -1: thinned out or dropped. Expert choice: [T, E], slot e holds e or -1
    gates: torch.Tensor  # [T, K], 0 where the id is -1
    gap: torch.Tensor  # [T] the K-th score less the next one; infinity where K = E
    close: torch.Tensor = None  # [T] the closest of all calls: order of the chosen, groups, thinning
    logits: torch.Tensor = None  # [T, E] of the router, without bias or noise
    selected: torch.Tensor = None  # [T, K] ids before thinning and capacity
    balanced: torch.Tensor = None  # [T, K] ids that the balance losses count
    thinned: torch.Tensor = None  # [T, K] bool: second choices not taken
    dropped: torch.Tensor = None  # [T, K] bool: choices beyond the capacity
    extra: dict = field(default_factory=dict)  # what a method's own losses need

    def __post_init__(self):
        none = torch.zeros_like(self.ids, dtype=torch.bool)
        self.close = self.gap if self.close is None else self.close
        self.selected = self.ids if self.selected is None else self.selected
        self.balanced = self.selected if self.balanced is None else self.balanced
        self.thinned = none if self.thinned is None else self.thinned
        self.dropped = none if self.dropped is None else self.dropped


def falling(values):
    # A stable sort, unlike torch.topk, promises that the lower index wins among equal scores.
    return values.detach().sort(dim=-1, descending=True, stable=True)


def gap_at(ordered, k):
    """[T] the k-th of the falling values less the next one."""
    if k >= ordered.shape[-1]:
        return torch.full(ordered.shape[:-1], torch.inf, dtype=ordered.dtype)
    return ordered[..., k - 1] - ordered[..., k]


def closest(ordered, k):
    """[T] the smallest difference of neighbours among the first k + 1 falling values: order and cut of the top k."""
    gaps = [gap_at(ordered, i) for i in range(1, k + 1)]
    return torch.stack([g.nan_to_num(torch.inf) for g in gaps]).min(0).values


def smallest(*gaps):
    return torch.stack(gaps).min(0).values


# ---- capacity and expert choice


def capacity_of(tokens, experts, factor):
    """C = ceil(T / E * factor), exactly."""
    return ceil(Fraction(tokens, experts) * Fraction(str(factor)))


def choices_of_expert(tokens, experts, factor):
    """k = max(1, floor(c T / E)), exactly, and no more than there are tokens."""
    return min(tokens, max(1, floor(Fraction(tokens, experts) * Fraction(str(factor)))))


def beyond_capacity(ids, rows, experts, factor):
    """[T, K] bool: the choices that find their expert full. All first choices of a row in token order, then all second
    ones; a choice that is none (-1) or is rejected takes no slot."""
    dropped = torch.zeros_like(ids, dtype=torch.bool)
    for row in rows:
        capacity = capacity_of(len(row), experts, factor)
        filled = [0] * experts
        for slot in range(ids.shape[1]):
            for t in row:
                expert = int(ids[t, slot])
                if expert < 0:
                    continue
                if filled[expert] < capacity:
                    filled[expert] += 1
                else:
                    dropped[t, slot] = True
    return dropped


def limit(config, context, real, chosen):
    """The route after the capacity: a rejected choice has id -1 and gate 0; other gates stay."""
    factor = config.capacity_factor if context.training else config.eval_capacity_factor
    if not factor:
        return chosen
    chosen.dropped = beyond_capacity(chosen.ids, context.rows(real), config.n_routed_experts, factor)
    chosen.ids = chosen.ids.masked_fill(chosen.dropped, -1)
    chosen.gates = chosen.gates.masked_fill(chosen.dropped, 0.0)
    return chosen


# ---- scores -> top K


def jittered(config, context, layer, x):
    """Switch: the router's input (not the experts') times U(1 - j, 1 + j), elementwise, in training."""
    j = config.router_jitter
    if not (context.training and j):
        return x
    u = context.draw(draws.uniform, "router_jitter", layer, x, x.shape[1])
    return x * (1 - j + 2 * j * u)


def score(config, logits):
    """(11), or DeepSeek-V3's sigmoid."""
    return logits.sigmoid() if config.scoring_func == "sigmoid" else logits.softmax(-1)


def complementary(config):
    """Whether the balance losses see the unbiased scores: their top K for f, s_i / sum_j s_j for P (V3)."""
    return config.scoring_func == "sigmoid" or config.topk_method == "noaux_tc"


def group_scores(config, selection):
    """[T, D]: V2: the highest single score; V3: the sum of the K/M best (biased) ones."""
    grouped = selection.view(selection.shape[0], config.n_group, -1)
    if config.topk_method == "group_limited_greedy":
        return grouped.max(-1).values
    best = max(1, config.num_experts_per_tok // config.topk_group)
    return falling(grouped).values[..., :best].sum(-1)


def within_groups(config, selection):
    """(`selection` with -inf outside the M best groups, [T] the closest call of the group choice)"""
    if config.topk_method == "greedy" or config.n_group == 1:
        return selection, torch.full(selection.shape[:1], torch.inf, dtype=selection.dtype)
    order = falling(group_scores(config, selection))
    kept = torch.zeros(order.indices.shape, dtype=torch.bool)
    kept.scatter_(1, order.indices[:, : config.topk_group], True)
    width = selection.shape[1] // config.n_group
    return (
        selection.masked_fill(~kept.repeat_interleave(width, 1), -torch.inf),
        gap_at(order.values, config.topk_group),
    )


def renormalised(config, gates):
    if config.norm_topk_prob and config.num_experts_per_tok > 1:
        return gates / (gates.sum(-1, keepdim=True) + 1e-20)
    return gates


def second_thinned(config, context, layer, gates):
    """([T, K] bool: second choices not taken, [T] the closest call). Kept with probability min(1, g2 / threshold), g2
    renormalised over the two."""
    thinned = torch.zeros(gates.shape, dtype=torch.bool)
    never = torch.full(gates.shape[:1], torch.inf, dtype=gates.dtype)
    if not (context.training and config.second_expert_threshold):
        return thinned, never
    assert gates.shape[1] == 2, "thinning is of the second of two experts"
    probability = (gates[:, 1] / gates.sum(1) / config.second_expert_threshold).detach().clamp(max=1.0)
    u = context.draw(draws.uniform, "second_expert", layer, gates, 1)[:, 0]
    thinned[:, 1] = u >= probability
    return thinned, (u - probability).abs()


def top_k(config, layer, gate, x, tokens, real, context):
    """Equations (10) and (11) and everything that is a variant of them: soft mixture, Switch, GShard, ST-MoE, Mixtral,
    DeepSeekMoE, device-limited, loss-free and node-limited."""
    k = config.num_experts_per_tok
    logits = jittered(config, context, layer, x) @ gate["weight"].T
    scores = score(config, logits)
    selection = scores.detach()
    if config.topk_method == "noaux_tc":
        selection = selection + gate["e_score_correction_bias"].detach()
    limited, group_gap = within_groups(config, selection)
    order = falling(limited)
    ids = order.indices[:, :k]
    raw = scores.gather(1, ids)
    thinned, thin_gap = second_thinned(config, context, layer, raw)
    gates = renormalised(config, raw)
    if config.routed_scaling_factor != 1.0:
        gates = gates * config.routed_scaling_factor
    close = smallest(closest(order.values, k), group_gap, thin_gap)
    balanced = ids
    if complementary(config):
        unbiased = falling(scores)
        balanced = unbiased.indices[:, :k]
        close = smallest(close, closest(unbiased.values, k))
    return Route(
        layer=layer, scores=scores, ids=ids.masked_fill(thinned, -1), gates=gates.masked_fill(thinned, 0.0),
        gap=gap_at(order.values, k), close=close, logits=logits, selected=ids, balanced=balanced, thinned=thinned,
    )


# ---- the methods that are not a top K of scores


def noisy_top_k(config, layer, gate, x, tokens, real, context):
    """Shazeer et al.: top K of the noisy logits, softmax over the kept ones."""
    k = config.num_experts_per_tok
    clean = x @ gate["weight"].T
    spread = softplus(x @ gate["noise_weight"].T)
    noisy = clean
    if context.training:
        noisy = clean + context.draw(draws.normal, "router_noise", layer, x, clean.shape[1]) * spread
    order = falling(noisy)
    ids = order.indices[:, :k]
    gates = noisy.gather(1, ids).softmax(-1) * config.routed_scaling_factor
    # Also the calls one below the cut: the load loss's threshold of a chosen expert is the (K + 1)-th value.
    return Route(
        layer=layer, scores=noisy.softmax(-1), ids=ids, gates=gates, gap=gap_at(order.values, k),
        close=closest(order.values, k + 1), logits=clean, extra=dict(clean=clean, spread=spread, noisy=noisy),
    )


def hashed(config, layer, gate, x, tokens, real, context):
    """Hash Layer: the input token's expert, gate 1."""
    ids = gate["hash_table"][tokens.long()].long()[:, None]
    gates = torch.full(ids.shape, config.routed_scaling_factor, dtype=x.dtype)
    return Route(layer, None, ids, gates, torch.full(ids.shape[:1], torch.inf, dtype=x.dtype))


def expert_choice(config, layer, gate, x, tokens, real, context):
    """Each expert takes its k best tokens of a row, the lower position first among equals."""
    logits = x @ gate["weight"].T
    scores = logits.softmax(-1)
    experts = scores.shape[1]
    ids = torch.full(scores.shape, -1, dtype=torch.int64)
    gap = torch.full(scores.shape[:1], torch.inf, dtype=scores.dtype)
    for row in context.rows(real):
        if not row:
            continue
        k = choices_of_expert(len(row), experts, config.capacity_factor)
        positions = torch.tensor(row)
        for expert in range(experts):
            order = falling(scores[positions, expert])
            ids[positions[order.indices[:k]], expert] = expert
            gap[positions] = torch.minimum(gap[positions], gap_at(order.values, k))
    gates = torch.where(ids >= 0, scores, 0.0) * config.routed_scaling_factor
    return Route(layer, scores, ids, gates, gap, logits=logits)


def stable(config, layer, gate, x, tokens, real, context):
    """StableMoE: greedy top 1 of sigma(x . e) while stage 1 trains, else the light router's; gate sigma(x . e_a)."""
    logits = x @ gate["weight"].T
    scores = logits.sigmoid()
    light = gate["light_embedding"][tokens.long()] @ gate["light_centroids"].T
    learning = context.training and context.stage == 1
    order = falling(scores if learning else light)
    ids = order.indices[:, :1]
    gates = scores.gather(1, ids) * config.routed_scaling_factor
    extra = dict(light=light, greedy=ids) if learning else {}
    return Route(layer, scores, ids, gates, gap_at(order.values, 1), logits=logits, extra=extra)


METHODS = {
    "topk": top_k,
    "noisy_topk": noisy_top_k,
    "hash": hashed,
    "expert_choice": expert_choice,
    "stable": stable,
}


def route(config, layer, gate, x, tokens, real, context):
    """`gate`: the tensors under mlp.gate., by their last name."""
    chosen = METHODS[config.routing](config, layer, gate, x, tokens, real, context)
    return chosen if config.routing == "expert_choice" else limit(config, context, real, chosen)


def gate_shapes(config):
    """The tensors under mlp.gate., last name -> shape."""
    experts, d, vocab = config.n_routed_experts, config.hidden_size, config.vocab_size
    shapes = {} if config.routing == "hash" else {"weight": (experts, d)}
    if config.topk_method == "noaux_tc":
        shapes["e_score_correction_bias"] = (experts,)
    if config.routing == "noisy_topk":
        shapes["noise_weight"] = (experts, d)
    if config.routing == "hash":
        shapes["hash_table"] = (vocab,)
    if config.routing == "stable":
        shapes["light_embedding"] = (vocab, LIGHT_WIDTH)
        shapes["light_centroids"] = (experts, LIGHT_WIDTH)
    return shapes


def trained(name):
    """Whether the optimizer has the tensor; a hash table and a correction bias are not its business."""
    return not name.endswith(("gate.hash_table", "gate.e_score_correction_bias"))


# ---- losses of a layer (those beside the balance losses of step.py)


def z_loss(chosen, real):
    """sum_t (logsumexp of the router's logits)^2"""
    return chosen.logits[real].logsumexp(-1).square().sum()


def squared_variation(values):
    """CV^2 = variance / mean^2, the variance over all values (not the sample's)."""
    return values.var(correction=0) / values.mean().square()


def importance_loss(chosen, real):
    """CV^2 of the experts' summed gates."""
    experts = chosen.scores.shape[1]
    # A choice that was not taken (-1) has gate 0.
    dense = chosen.gates.new_zeros(chosen.gates.shape[0], experts)
    dense = dense.scatter_add(1, chosen.ids.clamp(min=0), chosen.gates)
    return squared_variation(dense[real].sum(0))


def load_loss(config, chosen, real):
    """CV^2 of sum_t P(i is selected if its own noise is drawn again)."""
    k, experts = config.num_experts_per_tok, config.n_routed_experts
    if k == experts:
        return chosen.gates.new_zeros(())
    clean, spread, noisy = (chosen.extra[name][real] for name in ("clean", "spread", "noisy"))
    load = []
    for i in range(experts):
        others = torch.cat((noisy[:, :i], noisy[:, i + 1 :]), dim=1)
        threshold = others.sort(dim=-1, descending=True).values[:, k - 1]
        load.append(torch.special.ndtr((clean[:, i] - threshold) / spread[:, i]).sum())
    return squared_variation(torch.stack(load))


def stable_balance_loss(chosen, real):
    """1 / T * sum_i (n_i - T/E) / (T/E) * sum_{t in i} sigma(x_t . e_i); n carries no gradient."""
    scores, greedy = chosen.scores[real], chosen.extra["greedy"][real, 0]
    tokens, experts = scores.shape
    mean = tokens / experts
    total = scores.new_zeros(())
    for i in range(experts):
        mine = greedy == i
        total = total + (int(mine.sum()) - mean) / mean * scores[mine, i].sum()
    return total / tokens


def distillation_loss(chosen, real):
    """sum_t cross-entropy of the light router against the greedy assignment; no gradient into x or e."""
    return cross_entropy(chosen.extra["light"][real], chosen.extra["greedy"][real, 0], reduction="sum")


def communication_loss(config, selected, p):
    """V2: sum_g f''_g P''_g, f''_g = D / (M T) * tokens with a selected expert in g, P''_g = the group's sum of P.
    `selected` [T, K] of the tokens that count, `p` [E]."""
    groups = config.n_group
    group_of = selected // (len(p) // groups)
    hits = torch.stack([(group_of == g).any(1).sum() for g in range(groups)]).to(p.dtype)
    return (groups / (config.topk_group * len(selected)) * hits * p.view(groups, -1).sum(1)).sum()
