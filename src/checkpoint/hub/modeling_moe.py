"""DeepSeekMoE for `transformers` 5: the model that this folder's config.json describes, as `moe` computes it.

`AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True)` uses this file. It holds

- MoeConfig and DeepseekConfig: the fields of config.json;
- the decoder: norms, rotary positions, attention, SwiGLU;
- one router per routing method: scores -> chosen experts and their gates;
- MoeForCausalLM and DeepseekForCausalLM.

The routers choose as in evaluation, in `train()` mode too. There is no jitter, noise or thinning, and no balance loss.
With `use_cache=False`, experts drop choices beyond `eval_capacity_factor`. With a cache, nothing is dropped.

Symbols: B rows, T tokens of all rows, D hidden size, E routed experts, K chosen ones.
"""

from fractions import Fraction
from math import ceil, floor

import torch
from torch import nn
from torch.nn import functional as F
from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

try:
    from transformers import PreTrainedConfig
except ImportError:
    from transformers import PretrainedConfig as PreTrainedConfig


# The fields of config.json that describe the model, with what an absent one means.
FIELDS = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 0,
    "moe_intermediate_size": None,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": None,
    "head_dim": None,
    "n_shared_experts": None,
    "n_routed_experts": None,
    "num_experts_per_tok": None,
    "moe_layer_freq": 1,
    "first_k_dense_replace": 0,
    "routing": "topk",
    "scoring_func": "softmax",
    "topk_method": "greedy",
    "n_group": 1,
    "topk_group": 1,
    "norm_topk_prob": False,
    "routed_scaling_factor": 1.0,
    "capacity_factor": 0.0,
    "eval_capacity_factor": 0.0,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "initializer_range": 0.02,
    "hidden_act": "silu",
    "use_cache": True,
    "tie_word_embeddings": False,
}


class MoeConfig(PreTrainedConfig):
    model_type = "moe"
    keys_to_ignore_at_inference = ["past_key_values", "cache"]

    def __init__(self, **fields):
        own = {name: fields.pop(name, value) for name, value in FIELDS.items()}
        fields.pop("rope_scaling", None)  # always null; transformers 5 warns of its name
        super().__init__(tie_word_embeddings=own["tie_word_embeddings"], **fields)
        for name, value in own.items():
            setattr(self, name, value)
        self.num_key_value_heads = self.num_key_value_heads or self.num_attention_heads
        self.head_dim = self.head_dim or self.hidden_size // self.num_attention_heads

    def is_moe(self, layer):
        return bool(self.n_routed_experts) and layer >= self.first_k_dense_replace and layer % self.moe_layer_freq == 0


class DeepseekConfig(MoeConfig):
    model_type = "deepseek"

    def __init__(self, **fields):
        super().__init__(**fields)


# Newer versions of transformers say `cache` for `past_key_values`.
CACHE = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"


# ---- the decoder


class RMSNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        wide = x.float()
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (normed * self.weight.float()).to(x.dtype)


class SwiGLU(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


def rope(config, positions):
    """cos and sin [B, 1, length, head_dim / 2] of the angles; positions [B, length]. The angles are f64."""
    half = config.head_dim // 2
    exponents = torch.arange(half, dtype=torch.float64, device=positions.device) / half
    angles = positions[:, None, :, None].double() * config.rope_theta**-exponents
    return angles.cos().float(), angles.sin().float()


def rotate(x, cos, sin):
    """Element j of a head is paired with element j + head_dim / 2."""
    first, second = x.float().chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        self.shared_by = config.num_attention_heads // config.num_key_value_heads
        heads, pairs = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, heads, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, pairs, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, pairs, bias=False)
        self.o_proj = nn.Linear(heads, config.hidden_size, bias=False)

    def forward(self, x, cos, sin, visible, cache):
        def heads_of(projected):
            return projected.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

        q = rotate(heads_of(self.q_proj(x)), cos, sin)
        k = rotate(heads_of(self.k_proj(x)), cos, sin)
        v = heads_of(self.v_proj(x))
        if cache is not None:
            k, v = cache.update(k, v, self.layer)
        k, v = (values.repeat_interleave(self.shared_by, 1) for values in (k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, is_causal=visible is None and q.shape[2] > 1)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))


def visible_keys(attention_mask, length, past, device):
    """bool [B, 1, length, past + length], or None where a plain causal mask says the same."""
    if attention_mask is None or bool(attention_mask.all()):
        if past == 0 or length == 1:
            return None
        attention_mask = torch.ones(1, past + length, device=device)
    queries = torch.arange(past, past + length, device=device)[:, None]
    keys = torch.arange(past + length, device=device)[None, :]
    seen = (keys <= queries) & attention_mask.bool()[:, None, :]
    # A position of padding sees itself, so that its softmax exists. Nobody reads it.
    return (seen | (keys == queries))[:, None]


# ---- routers: (x [T, D], token ids [T]) -> experts [T, K] (-1: none) and their gates [T, K] in f32


class Router(nn.Module):
    """What all routers share: the experts' rows."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        if config.routing != "hash":
            self.weight = nn.Parameter(torch.zeros(config.n_routed_experts, config.hidden_size))

    def logits(self, x):
        return F.linear(x.float(), self.weight.float())


def best(values, count):
    """The largest values and their places; among equal values the first place wins."""
    order = values.sort(dim=-1, descending=True, stable=True)
    return order.values[..., :count], order.indices[..., :count]


class TopK(Router):
    def __init__(self, config):
        super().__init__(config)
        if config.topk_method == "noaux_tc":
            self.e_score_correction_bias = nn.Parameter(torch.zeros(config.n_routed_experts), requires_grad=False)

    def in_best_groups(self, scores):
        """The scores, -infinity outside each token's best groups of experts."""
        config = self.config
        if config.topk_method == "greedy" or config.n_group == 1:
            return scores
        grouped = scores.unflatten(-1, (config.n_group, -1))
        biased = config.topk_method == "noaux_tc"
        counted = max(1, config.num_experts_per_tok // config.topk_group) if biased else 1
        _, groups = best(best(grouped, counted)[0].sum(-1), config.topk_group)
        used = torch.zeros(grouped.shape[:-1], dtype=torch.bool, device=scores.device).scatter(-1, groups, True)
        return grouped.masked_fill(~used[..., None], -torch.inf).flatten(-2)

    def forward(self, x, ids):
        config = self.config
        logits = self.logits(x)
        scores = logits.sigmoid() if config.scoring_func == "sigmoid" else logits.softmax(-1)
        choice = scores
        if config.topk_method == "noaux_tc":
            choice = scores + self.e_score_correction_bias.float()
        _, experts = best(self.in_best_groups(choice), config.num_experts_per_tok)
        gates = scores.gather(-1, experts)
        if config.norm_topk_prob and config.num_experts_per_tok > 1:
            gates = gates / (gates.sum(-1, keepdim=True) + 1e-20)
        return experts, gates * config.routed_scaling_factor


class NoisyTopK(Router):
    """Without noise: softmax over the K largest logits."""

    def __init__(self, config):
        super().__init__(config)
        self.noise_weight = nn.Parameter(torch.zeros(config.n_routed_experts, config.hidden_size))

    def forward(self, x, ids):
        logits, experts = best(self.logits(x), self.config.num_experts_per_tok)
        return experts, logits.softmax(-1) * self.config.routed_scaling_factor


class Hash(Router):
    """A table from token id to expert."""

    def __init__(self, config):
        super().__init__(config)
        self.register_buffer("hash_table", torch.zeros(config.vocab_size, dtype=torch.int32))

    def forward(self, x, ids):
        experts = self.hash_table[ids].long()[:, None]
        return experts, torch.full(experts.shape, float(self.config.routed_scaling_factor), device=x.device)


class ExpertChoice(Router):
    """Each expert takes its best tokens of a row: slot e holds e or -1. `choose` is called for each row."""

    def forward(self, x, ids):
        scores = self.logits(x).softmax(-1)
        tokens, experts = scores.shape
        share = floor(Fraction(tokens, experts) * Fraction(str(self.config.capacity_factor)))
        _, taken = best(scores.T, min(tokens, max(1, share)))
        chosen = torch.zeros(experts, tokens, dtype=torch.bool, device=x.device).scatter(1, taken, True).T
        slots = torch.arange(experts, device=x.device).expand(tokens, -1)
        gates = scores * chosen * self.config.routed_scaling_factor
        return slots.masked_fill(~chosen, -1), gates


class Stable(Router):
    """The light router chooses by the token id alone; the gate is the sigmoid of the chosen expert's logit."""

    LIGHT_WIDTH = 50

    def __init__(self, config):
        super().__init__(config)
        self.light_embedding = nn.Parameter(torch.zeros(config.vocab_size, self.LIGHT_WIDTH))
        self.light_centroids = nn.Parameter(torch.zeros(config.n_routed_experts, self.LIGHT_WIDTH))

    def forward(self, x, ids):
        _, experts = best(F.linear(self.light_embedding[ids].float(), self.light_centroids.float()), 1)
        return experts, self.logits(x).gather(-1, experts).sigmoid() * self.config.routed_scaling_factor


ROUTERS = {"topk": TopK, "noisy_topk": NoisyTopK, "hash": Hash, "expert_choice": ExpertChoice, "stable": Stable}


def within_capacity(experts, capacity):
    """The choices of one row [T, K], -1 where the expert was full: first choices queue in the order of tokens, then
    second ones."""
    queue = experts.T.flatten()
    taken = queue[:, None] == torch.arange(int(experts.max()) + 1, device=experts.device)
    place = (taken.cumsum(0) * taken).sum(-1)
    return queue.masked_fill(place > capacity, -1).view(experts.shape[1], -1).T


class MoE(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.gate = ROUTERS[config.routing](config)
        width = config.moe_intermediate_size
        self.experts = nn.ModuleList(SwiGLU(config.hidden_size, width) for _ in range(config.n_routed_experts))
        if config.n_shared_experts:
            self.shared_experts = SwiGLU(config.hidden_size, config.n_shared_experts * width)

    def choose(self, x, ids, rows, drops):
        """`rows`: the flat positions of each row's tokens that are not padding."""
        config = self.config
        factor = config.eval_capacity_factor if drops else 0
        experts_choose = config.routing == "expert_choice"
        if not experts_choose and not factor:
            return self.gate(x, ids)
        slots = config.n_routed_experts if experts_choose else config.num_experts_per_tok
        experts = torch.full((len(x), slots), -1, dtype=torch.int64, device=x.device)
        gates = torch.zeros(experts.shape, device=x.device)
        for row in rows:
            if not len(row):
                continue
            chosen, gates[row] = self.gate(x[row], ids[row])
            if factor and not experts_choose:
                share = Fraction(len(row), config.n_routed_experts)
                chosen = within_capacity(chosen, ceil(share * Fraction(str(factor))))
            experts[row] = chosen
        return experts, gates

    def forward(self, x, ids, rows, drops):
        flat = x.flatten(0, -2)
        experts, gates = self.choose(flat, ids, rows, drops)
        y = torch.zeros_like(flat, dtype=torch.float32)
        for expert in experts.unique().tolist():
            if expert < 0:
                continue
            tokens, slots = (experts == expert).nonzero(as_tuple=True)
            out = self.experts[expert](flat[tokens]).float()
            y = y.index_add(0, tokens, gates[tokens, slots, None] * out)
        if self.config.n_shared_experts:
            y = y + self.shared_experts(flat).float()
        return y.to(x.dtype).view(x.shape)


class DecoderLayer(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.routed = config.is_moe(layer)
        self.mlp = MoE(config) if self.routed else SwiGLU(config.hidden_size, config.intermediate_size)

    def forward(self, x, cos, sin, visible, cache, *routing):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, visible, cache)
        normed = self.post_attention_layernorm(x)
        return x + (self.mlp(normed, *routing) if self.routed else self.mlp(normed))


class Decoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


# ---- the models


class MoeForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = MoeConfig
    base_model_prefix = "model"
    _no_split_modules = ["DecoderLayer"]
    _supports_sdpa = True
    _keep_in_fp32_modules_strict = ["e_score_correction_bias"]
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config):
        super().__init__(config)
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        elif isinstance(module, Router) and not isinstance(module, (Hash, NoisyTopK)):
            nn.init.normal_(module.weight, std=self.config.initializer_range)

    def get_input_embeddings(self):
        return self.model.embed_tokens

    def set_input_embeddings(self, value):
        self.model.embed_tokens = value

    def get_output_embeddings(self):
        return self.lm_head

    def set_output_embeddings(self, value):
        self.lm_head = value

    def generate(self, *args, **kwargs):
        if self.config.n_routed_experts and self.config.routing == "expert_choice":
            raise ValueError("routing expert_choice cannot generate: its experts choose among later tokens")
        return super().generate(*args, **kwargs)

    def forward(
        self,
        input_ids,
        attention_mask=None,
        position_ids=None,
        past_key_values=None,
        cache=None,
        labels=None,
        use_cache=None,
        output_hidden_states=None,
        logits_to_keep=0,
        **kwargs,
    ):
        """input_ids, attention_mask (0: padding), labels: [B, length]; logits [B, length, vocabulary]. labels are the
        input's ids (-100: no loss); the model moves them by one."""
        config = self.config
        use_cache = config.use_cache if use_cache is None else use_cache
        cache = past_key_values if cache is None else cache
        if use_cache and cache is None:
            cache = DynamicCache()
        batch, length = input_ids.shape
        past = cache.get_seq_length() if cache is not None else 0
        if attention_mask is not None and attention_mask.dim() != 2:
            raise ValueError(f"attention_mask has {attention_mask.dim()} dimensions, expected [rows, tokens]")
        if position_ids is None:
            if attention_mask is None:
                position_ids = torch.arange(past, past + length, device=input_ids.device).expand(batch, -1)
            else:
                position_ids = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, -length:]
        cos, sin = rope(config, position_ids)
        visible = visible_keys(attention_mask, length, past, input_ids.device)
        real = torch.ones_like(input_ids) if attention_mask is None else attention_mask[:, -length:]
        rows = [b * length + real[b].nonzero(as_tuple=True)[0] for b in range(batch)]
        x = self.model.embed_tokens(input_ids)
        hidden = [x]
        for layer in self.model.layers:
            x = layer(x, cos, sin, visible, cache, input_ids.flatten(), rows, not use_cache)
            hidden.append(x)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        normed = self.model.norm(x)
        logits = self.lm_head(normed[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            hidden_states=(*hidden[:-1], normed) if output_hidden_states else None,
            **{CACHE: cache if use_cache else None},
        )


class DeepseekForCausalLM(MoeForCausalLM):
    config_class = DeepseekConfig
