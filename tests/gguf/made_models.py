"""Hugging Face folders of every family with random weights, as their classes name tensors."""

import json
import struct

import numpy as np

# By family: the class, and what its config.json has beside the common fields. Every token goes to all experts unless a test
# asks for less: rounding then changes no choice, and differences stay of rounding's size.
FAMILIES = {
    "llama": ("LlamaForCausalLM", {"intermediate_size": 512}),
    "mixtral": ("MixtralForCausalLM", {"intermediate_size": 256, "num_local_experts": 4, "num_experts_per_tok": 4,
                                       "sliding_window": None}),
    "qwen3_moe": ("Qwen3MoeForCausalLM", {"intermediate_size": 512, "moe_intermediate_size": 256, "num_experts": 4,
                                          "num_experts_per_tok": 4, "norm_topk_prob": True, "head_dim": 32}),
    "olmoe": ("OlmoeForCausalLM", {"intermediate_size": 256, "num_experts": 4, "num_experts_per_tok": 4,
                                   "norm_topk_prob": False, "num_key_value_heads": 4}),
    "qwen2_moe": ("Qwen2MoeForCausalLM", {"intermediate_size": 512, "moe_intermediate_size": 256, "num_experts": 4,
                                          "num_experts_per_tok": 4, "norm_topk_prob": False,
                                          "shared_expert_intermediate_size": 512}),
}


def settings_of(family, **changes):
    """config.json of a small model: widths of whole blocks of 256 unless `changes` says otherwise."""
    architecture, own = FAMILIES[family]
    config = {"architectures": [architecture], "model_type": family, "vocab_size": 320, "hidden_size": 256,
              "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
              "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False, "torch_dtype": "float32"}
    return config | own | changes


def shapes_of(config):
    """Names and shapes of all tensors."""
    family, width = config["model_type"], config["hidden_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head = config.get("head_dim", width // heads)
    experts = config.get("num_experts", config.get("num_local_experts", 0))
    expert_width = config.get("moe_intermediate_size", config["intermediate_size"])
    yield "model.embed_tokens.weight", (config["vocab_size"], width)
    for layer in range(config["num_hidden_layers"]):
        base = f"model.layers.{layer}."
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"{base}{name}.weight", (width,)
        for name, rows in (("q_proj", heads), ("k_proj", kv_heads), ("v_proj", kv_heads)):
            yield f"{base}self_attn.{name}.weight", (rows * head, width)
            if family == "qwen2_moe":
                yield f"{base}self_attn.{name}.bias", (rows * head,)
        yield f"{base}self_attn.o_proj.weight", (width, heads * head)
        for name, rows in (("q_norm", heads), ("k_norm", kv_heads)):
            if family in ("qwen3_moe", "olmoe"):
                yield f"{base}self_attn.{name}.weight", (head if family == "qwen3_moe" else rows * head,)
        if experts == 0:
            yield from ffn(f"{base}mlp.", width, config["intermediate_size"])
            continue
        block = "block_sparse_moe." if family == "mixtral" else "mlp."
        yield f"{base}{block}gate.weight", (experts, width)
        for expert in range(experts):
            names = ("w1", "w3", "w2") if family == "mixtral" else ("gate_proj", "up_proj", "down_proj")
            yield from ffn(f"{base}{block}experts.{expert}.", width, expert_width, names)
        if family == "qwen2_moe":
            yield from ffn(f"{base}mlp.shared_expert.", width, config["shared_expert_intermediate_size"])
            yield f"{base}mlp.shared_expert_gate.weight", (1, width)
    yield "model.norm.weight", (width,)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (config["vocab_size"], width)


def ffn(base, width, inner, names=("gate_proj", "up_proj", "down_proj")):
    gate, up, down = names
    yield f"{base}{gate}.weight", (inner, width)
    yield f"{base}{up}.weight", (inner, width)
    yield f"{base}{down}.weight", (width, inner)


def write(folder, family, std=0.05, seed=1, **changes):
    """A folder with weights of this standard deviation; norms are around 1 and biases around 0, each ten percent wide."""
    config = settings_of(family, **changes)
    random = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes_of(config):
        drawn = random.standard_normal(shape, dtype=np.float32)
        tensors[name] = drawn * np.float32(std) if len(shape) > 1 else np.float32(0.1) * drawn + ("norm" in name)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def write_safetensors(path, tensors):
    header, at = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [at, at + values.nbytes]}
        at += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            file.write(np.ascontiguousarray(values, dtype="<f4").tobytes())
