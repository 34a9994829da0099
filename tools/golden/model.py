"""The DeepSeekMoE model in plain PyTorch: one function per equation, no batching tricks.

Tokens are flat: T positions, each with `segment_start`, the flat index of the first token of its document segment, or
-1 at padding. Symbols: T tokens, d hidden size, H query heads, h head size, E routed experts, K chosen, V vocabulary.
Every tensor has the caller's dtype (float64 for golden values), and gradients come from autograd.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import silu

from .routers import EVALUATION, METHODS, gate_shapes, route


@dataclass(frozen=True)
class Config:
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    moe_intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    n_shared_experts: int  # 0: none
    n_routed_experts: int  # 0: every layer is dense
    num_experts_per_tok: int
    moe_layer_freq: int
    first_k_dense_replace: int
    norm_topk_prob: bool
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool
    scoring_func: str
    topk_method: str
    n_group: int  # D
    topk_group: int  # M
    routed_scaling_factor: float
    routing: str
    router_jitter: float
    second_expert_threshold: float  # 0: the second expert is always taken
    capacity_factor: float  # 0: dropless; expert choice: c
    eval_capacity_factor: float

    def is_moe(self, layer):
        return (
            self.n_routed_experts > 0
            and layer >= self.first_k_dense_replace
            and layer % self.moe_layer_freq == 0
        )


# Fields whose other values mean another model: (name, the only value computed here).
FIXED_FIELDS = [
    ("hidden_act", "silu"),
    ("rope_scaling", None),
    ("attention_bias", False),
    ("attention_dropout", 0.0),
]

# (name, the values that are known, the first where the field is absent)
NAMED_FIELDS = [
    ("scoring_func", ("softmax", "sigmoid")),
    ("topk_method", ("greedy", "group_limited_greedy", "noaux_tc")),
    ("routing", tuple(METHODS)),
]


def read_config(fields):
    """A `DeepseekForCausalLM` config.json, as a dict, to a Config; raises ValueError on another model's settings."""
    for name, value in FIXED_FIELDS:
        if fields.get(name, value) not in (value, None):
            raise ValueError(f"config field {name} is {fields[name]!r}; only {value!r} is computed here")
    for name, values in NAMED_FIELDS:
        if (fields.get(name) or values[0]) not in values:
            raise ValueError(f"config field {name} is {fields[name]!r}; known are {', '.join(values)}")
    heads = fields["num_attention_heads"]
    return Config(
        vocab_size=fields["vocab_size"],
        hidden_size=fields["hidden_size"],
        intermediate_size=fields["intermediate_size"],
        moe_intermediate_size=fields.get("moe_intermediate_size") or 0,
        num_hidden_layers=fields["num_hidden_layers"],
        num_attention_heads=heads,
        num_key_value_heads=fields.get("num_key_value_heads") or heads,
        head_dim=fields.get("head_dim") or fields["hidden_size"] // heads,
        n_shared_experts=fields.get("n_shared_experts") or 0,
        n_routed_experts=fields.get("n_routed_experts") or 0,
        num_experts_per_tok=fields.get("num_experts_per_tok") or 0,
        moe_layer_freq=fields.get("moe_layer_freq", 1),
        first_k_dense_replace=fields.get("first_k_dense_replace", 0),
        norm_topk_prob=fields.get("norm_topk_prob", False),
        rms_norm_eps=fields.get("rms_norm_eps", 1e-6),
        rope_theta=fields.get("rope_theta", 10000.0),
        tie_word_embeddings=fields.get("tie_word_embeddings", False),
        **{name: fields.get(name) or values[0] for name, values in NAMED_FIELDS},
        n_group=fields.get("n_group") or 1,
        topk_group=fields.get("topk_group") or 1,
        routed_scaling_factor=fields.get("routed_scaling_factor") or 1.0,
        router_jitter=fields.get("router_jitter") or 0.0,
        second_expert_threshold=fields.get("second_expert_threshold") or 0.0,
        capacity_factor=fields.get("capacity_factor") or 0.0,
        eval_capacity_factor=fields.get("eval_capacity_factor") or 0.0,
    )


def tensor_shapes(config):
    """Every tensor of the model, Hugging Face name -> shape ([out, in] for matrices)."""
    d = config.hidden_size
    q_width = config.num_attention_heads * config.head_dim
    kv_width = config.num_key_value_heads * config.head_dim
    shapes = {"model.embed_tokens.weight": (config.vocab_size, d)}

    def add_ffn(prefix, width):
        shapes[f"{prefix}.gate_proj.weight"] = (width, d)
        shapes[f"{prefix}.up_proj.weight"] = (width, d)
        shapes[f"{prefix}.down_proj.weight"] = (d, width)

    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}"
        shapes[f"{prefix}.input_layernorm.weight"] = (d,)
        shapes[f"{prefix}.self_attn.q_proj.weight"] = (q_width, d)
        shapes[f"{prefix}.self_attn.k_proj.weight"] = (kv_width, d)
        shapes[f"{prefix}.self_attn.v_proj.weight"] = (kv_width, d)
        shapes[f"{prefix}.self_attn.o_proj.weight"] = (d, q_width)
        shapes[f"{prefix}.post_attention_layernorm.weight"] = (d,)
        if not config.is_moe(layer):
            add_ffn(f"{prefix}.mlp", config.intermediate_size)
            continue
        for name, shape in gate_shapes(config).items():
            shapes[f"{prefix}.mlp.gate.{name}"] = shape
        for expert in range(config.n_routed_experts):
            add_ffn(f"{prefix}.mlp.experts.{expert}", config.moe_intermediate_size)
        if config.n_shared_experts:
            add_ffn(f"{prefix}.mlp.shared_experts", config.n_shared_experts * config.moe_intermediate_size)
    shapes["model.norm.weight"] = (d,)
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, d)
    return shapes


def rms_norm(x, gain, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * gain


def rotate(x, positions, theta):
    """RoPE, "rotate half" layout: x [T, heads, h], dimension j < h/2 paired with j + h/2."""
    half = x.shape[-1] // 2
    # Angles are float64 for any x: a float32 product of position and frequency loses digits at long positions.
    frequency = theta ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = positions.to(torch.float64)[:, None, None] * frequency
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def attention(config, weight, prefix, x, segment_start):
    """Causal attention inside each document segment; query head q reads key/value head floor(q * n_kv / n_heads)."""
    t, heads, kv_heads, h = x.shape[0], config.num_attention_heads, config.num_key_value_heads, config.head_dim
    index = torch.arange(t)
    padding = segment_start < 0
    segment = torch.where(padding, index, segment_start)  # a padding position is alone, so that its softmax exists
    positions = index - segment
    q = rotate((x @ weight[f"{prefix}.q_proj.weight"].T).view(t, heads, h), positions, config.rope_theta)
    k = rotate((x @ weight[f"{prefix}.k_proj.weight"].T).view(t, kv_heads, h), positions, config.rope_theta)
    v = (x @ weight[f"{prefix}.v_proj.weight"].T).view(t, kv_heads, h)
    kv_of_head = torch.arange(heads) * kv_heads // heads
    k, v = k[:, kv_of_head], v[:, kv_of_head]
    visible = (segment[:, None] == segment[None, :]) & (index[None, :] <= index[:, None])
    logits = torch.einsum("qnh,knh->nqk", q, k) / h**0.5
    weights = logits.masked_fill(~visible, -torch.inf).softmax(-1)
    mixed = torch.einsum("nqk,knh->qnh", weights, v).reshape(t, heads * h)
    return mixed @ weight[f"{prefix}.o_proj.weight"].T


def swiglu(weight, prefix, x):
    hidden = silu(x @ weight[f"{prefix}.gate_proj.weight"].T) * (x @ weight[f"{prefix}.up_proj.weight"].T)
    return hidden @ weight[f"{prefix}.down_proj.weight"].T


def moe_ffn(config, weight, prefix, layer, x, tokens, real, context):
    """Equation (9) without the residual: the shared experts' sum plus the gated routed experts."""
    gate = {name: weight[f"{prefix}.gate.{name}"] for name in gate_shapes(config)}
    chosen = route(config, layer, gate, x, tokens, real, context)
    y = torch.zeros_like(x)
    if config.n_shared_experts:
        y = y + swiglu(weight, f"{prefix}.shared_experts", x)
    for expert in range(config.n_routed_experts):
        token, slot = (chosen.ids == expert).nonzero(as_tuple=True)
        if len(token):
            out = swiglu(weight, f"{prefix}.experts.{expert}", x[token])
            y = y.index_add(0, token, chosen.gates[token, slot][:, None] * out)
    return y, chosen


def forward(config, weight, tokens, segment_start, context=EVALUATION):
    """Logits [T, V] and the routes of the MoE layers. `weight`: name -> tensor; all of one floating dtype (a hash
    table: integers)."""
    x = weight["model.embed_tokens.weight"][tokens]
    routes = []
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}"
        normed = rms_norm(x, weight[f"{prefix}.input_layernorm.weight"], config.rms_norm_eps)
        x = x + attention(config, weight, f"{prefix}.self_attn", normed, segment_start)
        normed = rms_norm(x, weight[f"{prefix}.post_attention_layernorm.weight"], config.rms_norm_eps)
        if config.is_moe(layer):
            y, chosen = moe_ffn(
                config, weight, f"{prefix}.mlp", layer, normed, tokens, segment_start >= 0, context
            )
            routes.append(chosen)
        else:
            y = swiglu(weight, f"{prefix}.mlp", normed)
        x = x + y
    x = rms_norm(x, weight["model.norm.weight"], config.rms_norm_eps)
    head = weight["model.embed_tokens.weight" if config.tie_word_embeddings else "lm_head.weight"]
    return x @ head.T, routes
