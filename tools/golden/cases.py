"""The golden cases: shapes, batches and loss configurations. Odd sizes on purpose."""

from dataclasses import dataclass, field

from .batches import PACKED
from .step import LossConfig

MICROBATCHES = (2, 2)

NONE = LossConfig("none", "sequence", 0.0, 0.0, 1, MICROBATCHES)


def balanced(devices):
    """The balance losses in each scope; alphas far above the recipes', so that no router gradient hides their part."""
    return [
        LossConfig("sequence", "sequence", 0.05, 0.07, devices, MICROBATCHES),
        LossConfig("microbatch", "microbatch", 0.05, 0.07, devices, MICROBATCHES),
        LossConfig("step", "step", 0.05, 0.07, devices, MICROBATCHES),
    ]


@dataclass(frozen=True)
class Case:
    name: str
    what: str
    fields: dict  # config.json fields that differ from the released checkpoint's
    seed: int
    rows: list
    row_length: int
    losses: list
    full_gradients: tuple = ()  # configurations that store every gradient; the others store the routers' alone
    logit_rows: tuple = ()  # empty: all
    std: float = 0.2
    router_std: float = 0.35
    auto_map: bool = field(default=False)


CASES = [
    Case(
        name="moe_basic",
        what="dense first layer, 2 shared and 9 routed experts, K = 3, gates not renormalised",
        fields=dict(
            vocab_size=67, hidden_size=20, intermediate_size=29, moe_intermediate_size=13, num_hidden_layers=3,
            num_attention_heads=2, num_key_value_heads=2, n_shared_experts=2, n_routed_experts=9, num_experts_per_tok=3,
        ),
        seed=100,
        rows=PACKED,
        row_length=19,
        losses=[NONE, *balanced(devices=3)],
        full_gradients=("none", "sequence"),
        auto_map=True,
    ),
    Case(
        name="moe_gqa_norm",
        what="grouped heads, head_dim given, no shared expert, gates renormalised, a MoE layer every 2, tied head",
        fields=dict(
            vocab_size=61, hidden_size=18, intermediate_size=23, moe_intermediate_size=11, num_hidden_layers=5,
            num_attention_heads=6, num_key_value_heads=3, head_dim=4, n_shared_experts=None, n_routed_experts=6,
            num_experts_per_tok=2, moe_layer_freq=2, norm_topk_prob=True, tie_word_embeddings=True,
            rms_norm_eps=1e-3, rope_theta=500.0,
        ),
        seed=200,
        rows=PACKED,
        row_length=19,
        losses=[NONE, *balanced(devices=2)],
        full_gradients=("step",),
    ),
    Case(
        name="dense",
        what="no routed expert: every layer is an FFN; one key/value head for all query heads",
        fields=dict(
            vocab_size=71, hidden_size=24, intermediate_size=31, moe_intermediate_size=None, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=1, n_shared_experts=None, n_routed_experts=None,
            num_experts_per_tok=None, first_k_dense_replace=0,
        ),
        seed=300,
        rows=PACKED,
        row_length=19,
        losses=[NONE],
        full_gradients=("none",),
    ),
    Case(
        name="moe_k1",
        what="one expert a token (norm_topk_prob is set and must not act), one shared, every layer MoE, D = E",
        fields=dict(
            vocab_size=73, hidden_size=16, intermediate_size=37, moe_intermediate_size=17, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, n_shared_experts=1, n_routed_experts=5, num_experts_per_tok=1,
            first_k_dense_replace=0, norm_topk_prob=True,
        ),
        seed=400,
        rows=PACKED,
        row_length=19,
        losses=[NONE, *balanced(devices=5)],
        full_gradients=("microbatch",),
    ),
    Case(
        name="long_row",
        what="one document of 600 tokens: positions far from the start",
        fields=dict(
            vocab_size=79, hidden_size=28, intermediate_size=35, moe_intermediate_size=9, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=2, n_shared_experts=1, n_routed_experts=8, num_experts_per_tok=2,
        ),
        seed=500,
        rows=[[(600, 0, False)]],
        row_length=600,
        losses=[
            LossConfig("none", "sequence", 0.0, 0.0, 1, (1,)),
            LossConfig("sequence", "sequence", 0.05, 0.07, 4, (1,)),
        ],
        logit_rows=(0, 1, 2, 63, 64, 100, 255, 256, 300, 399, 511, 512, 513, 577, 598, 599),
        router_std=0.6,
    ),
]


@dataclass(frozen=True)
class Training:
    """Ten optimizer steps of one case's model, on a different batch each step."""

    name: str = "ten_steps"
    model: str = "moe_basic"
    seed: int = 900
    steps: int = 10
    rows: int = 4
    row_length: int = 17
    peak_lr: float = 1e-2
    warmup: int = 3
    decay_factor: float = 0.316
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip: float = 3.0  # the first steps' norms lie above, the last ones' below
    loss: LossConfig = LossConfig("training", "sequence", 0.01, 0.02, 3, MICROBATCHES)
    final_weights: tuple = (
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.1.input_layernorm.weight",
        "model.layers.1.mlp.gate.weight",
        "model.layers.1.mlp.experts.0.down_proj.weight",
        "model.layers.2.mlp.experts.8.gate_proj.weight",
        "model.layers.2.mlp.shared_experts.down_proj.weight",
        "model.norm.weight",
        "lm_head.weight",
    )


TRAINING = Training()
