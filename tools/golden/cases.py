"""The golden cases: shapes, batches and loss configurations. Odd sizes on purpose."""

from dataclasses import dataclass, field

from .batches import PACKED, PACKED_SHORT
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


# Its widths are whole blocks of 64. It is written with adapters alone (tools/golden/lora.py).
NF4_BASE = Case(
    name="nf4_lora",
    what="a base in 4-bit NormalFloat: dense first layer, 1 shared and 4 routed experts, K = 2",
    fields=dict(
        vocab_size=37, hidden_size=64, intermediate_size=64, moe_intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, n_shared_experts=1, n_routed_experts=4, num_experts_per_tok=2,
    ),
    seed=140,
    rows=PACKED,
    row_length=19,
    losses=[NONE, *balanced(devices=2)],
    std=0.1,
)

PLAIN_CASES = [
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


def small(**fields):
    """The routing cases' model: small, and without a shared expert unless the case has one."""
    common = dict(
        vocab_size=59, hidden_size=12, intermediate_size=17, moe_intermediate_size=7, num_hidden_layers=3,
        num_attention_heads=2, num_key_value_heads=1, n_shared_experts=None, n_routed_experts=6, num_experts_per_tok=2,
    )
    return {**common, **fields}


def moe(**fields):
    """The same with routing fields that another architecture's name has to announce."""
    return small(architectures=["MoeForCausalLM"], model_type="moe", **fields)


def loss_of(name, rows, scope="sequence", alpha1=0.0, alpha2=0.0, devices=1, **others):
    return LossConfig(name, scope, alpha1, alpha2, devices, rows, **others)


def routing_case(name, what, fields, seed, losses, full, **others):
    return Case(name, what, fields, seed, PACKED_SHORT, 17, losses, (full,), **others)


# The shapes differ a little from case to case; weights of losses are far above the recipes', as before.
ROUTING_CASES = [
    routing_case(
        "mixture",
        "soft mixture: K = E, nothing is chosen; f is 1",
        small(num_experts_per_tok=6, n_shared_experts=1),
        seed=1000,
        losses=[loss_of("none", (2, 2)), loss_of("sequence", (2, 2), alpha1=0.05, alpha2=0.07, devices=3)],
        full="none",
    ),
    routing_case(
        "switch",
        "Switch in the DeepSeekMoE paper's form: softmax, top 1, dropless",
        small(num_experts_per_tok=1, hidden_size=16),
        seed=1100,
        losses=[
            loss_of("sequence", (3, 1), alpha1=0.05),
            loss_of("microbatch", (3, 1), "microbatch", alpha1=0.05),
            loss_of("step", (3, 1), "step", alpha1=0.05),
        ],
        full="sequence",
    ),
    routing_case(
        "switch_original",
        "Switch: jittered router input, top 1, capacity",
        moe(num_experts_per_tok=1, router_jitter=0.3, capacity_factor=1.25, eval_capacity_factor=1.25),
        seed=1200,
        losses=[
            loss_of("sequence", (1, 3), alpha1=0.05, seed=21, step=4),
            loss_of("z", (4,), alpha1=0.05, z_loss=0.03, seed=22, step=5),
        ],
        full="sequence",
    ),
    routing_case(
        "gshard_original",
        "GShard: second expert at random, renormalised gates, balance of first choices, capacity",
        moe(
            norm_topk_prob=True, second_expert_threshold=0.5, capacity_factor=1.0, eval_capacity_factor=1.0,
            n_shared_experts=1,
        ),
        seed=1300,
        losses=[
            loss_of("sequence", (2, 1, 1), alpha1=0.05, first_choice=True, seed=31, step=2),
            loss_of("step", (2, 1, 1), "step", alpha1=0.05, first_choice=True, seed=31, step=3),
            loss_of("both_choices", (2, 1, 1), "microbatch", alpha1=0.05, seed=31, step=2),
        ],
        full="sequence",
    ),
    routing_case(
        "st_moe",
        "ST-MoE: second expert at random, renormalised gates, z-loss, another capacity in evaluation",
        moe(
            norm_topk_prob=True, second_expert_threshold=0.6, capacity_factor=1.0, eval_capacity_factor=2.0,
            hidden_size=16,
        ),
        seed=1400,
        losses=[
            loss_of("sequence", (2, 2), alpha1=0.05, first_choice=True, z_loss=0.01, seed=41, step=6),
            loss_of("microbatch", (1, 1, 2), "microbatch", alpha1=0.05, first_choice=True, z_loss=0.01, seed=42),
            loss_of("step", (4,), "step", alpha1=0.05, first_choice=True, z_loss=0.01, seed=41, step=6),
        ],
        full="sequence",
    ),
    routing_case(
        "noisy_topk",
        "noisy top-k gating with importance and load losses",
        moe(routing="noisy_topk", n_shared_experts=1),
        seed=1500,
        losses=[
            loss_of("sequence", (1, 3), importance=0.1, load=0.1, seed=51, step=1),
            loss_of("microbatch", (1, 3), "microbatch", importance=0.1, load=0.1, seed=51, step=1),
            loss_of("step", (1, 3), "step", importance=0.1, load=0.1, seed=51, step=2),
        ],
        full="step",
        router_std=0.3,
    ),
    routing_case(
        "noisy_all",
        "noisy gating of all experts: the load loss is 0",
        moe(routing="noisy_topk", num_experts_per_tok=6),
        seed=1600,
        losses=[
            loss_of("sequence", (2, 2), importance=0.1, load=0.1, seed=61, step=8),
            loss_of("step", (2, 2), "step", importance=0.1, load=0.1, seed=61, step=8),
        ],
        full="sequence",
    ),
    routing_case(
        "hash",
        "Hash Layer: a table from token to expert, gate 1",
        moe(routing="hash", num_experts_per_tok=1, n_shared_experts=1),
        seed=1700,
        losses=[loss_of("none", (3, 1))],
        full="none",
    ),
    routing_case(
        "expert_choice",
        "every expert takes its best tokens of a row",
        moe(routing="expert_choice", capacity_factor=2.0, num_experts_per_tok=2, n_shared_experts=1),
        seed=1800,
        losses=[loss_of("none", (1, 3))],
        full="none",
    ),
    routing_case(
        "stable",
        "StableMoE: greedy by sigmoid, then by the light router of token embeddings",
        moe(routing="stable", vocab_size=31, num_experts_per_tok=1),
        seed=1900,
        losses=[
            loss_of("stage1_sequence", (1, 3), stable_balance=0.3, stable_distill=0.3),
            loss_of("stage1_step", (1, 3), "step", stable_balance=0.3, stable_distill=0.3),
            loss_of("stage2_step", (2, 2), "step", stable_balance=0.3, stable_distill=0.3, stage=2),
        ],
        full="stage1_sequence",
    ),
    routing_case(
        "mixtral",
        "Mixtral: top 2, gates renormalised",
        small(norm_topk_prob=True, n_routed_experts=8, hidden_size=16),
        seed=2000,
        losses=[loss_of("none", (4,)), loss_of("microbatch", (3, 1), "microbatch", alpha1=0.05, z_loss=0.03)],
        full="microbatch",
    ),
    routing_case(
        "device_limited",
        "the 2 best of 4 groups, then top 3; three balance losses; gates scaled",
        moe(
            topk_method="group_limited_greedy", n_group=4, topk_group=2, n_routed_experts=8, num_experts_per_tok=3,
            routed_scaling_factor=2.0, n_shared_experts=1,
        ),
        seed=2100,
        losses=[
            loss_of("sequence", (1, 3), alpha1=0.05, alpha2=0.07, devices=4, alpha3=0.06),
            loss_of("microbatch", (1, 3), "microbatch", alpha1=0.05, alpha2=0.07, devices=4, alpha3=0.06),
            loss_of("step", (1, 3), "step", alpha1=0.05, alpha2=0.07, devices=4, alpha3=0.06),
        ],
        full="sequence",
    ),
    routing_case(
        "loss_free_sigmoid",
        "biased sigmoid scores, groups by the sum of their best, gates renormalised and scaled",
        moe(
            scoring_func="sigmoid", topk_method="noaux_tc", n_group=4, topk_group=2, n_routed_experts=8,
            num_experts_per_tok=4, norm_topk_prob=True, routed_scaling_factor=2.5,
        ),
        seed=2200,
        losses=[
            loss_of("sequence", (2, 2), alpha1=0.05),
            loss_of("step", (1, 1, 2), "step", alpha1=0.05),
        ],
        full="sequence",
    ),
    routing_case(
        "loss_free_softmax",
        "biased softmax scores, no groups",
        moe(topk_method="noaux_tc", num_experts_per_tok=2, n_shared_experts=1, hidden_size=16),
        seed=2300,
        losses=[
            loss_of("sequence", (3, 1), alpha1=0.05),
            loss_of("microbatch", (3, 1), "microbatch", alpha1=0.05),
        ],
        full="sequence",
    ),
]

CASES = PLAIN_CASES + ROUTING_CASES


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
    optimizer: str = "adamw"
    momentum: float = 0.95  # Muon's
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


TRAININGS = [Training(), Training(name="ten_steps_muon", optimizer="muon", seed=950)]
