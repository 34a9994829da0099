"""Hugging Face `DeepseekForCausalLM` folders: config.json and one model.safetensors."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from .model import read_config, tensor_shapes

# The released 16B checkpoint's config.json; a case overrides what differs.
BASE_FIELDS = {
    "architectures": ["DeepseekForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "aux_loss_alpha": 0.001,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "first_k_dense_replace": 1,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 10944,
    "max_position_embeddings": 4096,
    "model_type": "deepseek",
    "moe_intermediate_size": 1408,
    "moe_layer_freq": 1,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "norm_topk_prob": False,
    "num_attention_heads": 16,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 28,
    "num_key_value_heads": 16,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "scoring_func": "softmax",
    "seq_aux": True,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "use_cache": True,
    "vocab_size": 102400,
}

BIAS_SIZE = 0.2  # large enough that the biased and the unbiased choice differ
LIGHT_STD = 0.5


def random_weights(config, seed, std, router_std):
    """Uniform values of the given standard deviation, norm gains in [0.7, 1.3]: only exact operations of PCG64's
    integers, so the same bits everywhere. Enough spread that routing and attention are not trivial."""
    random = np.random.Generator(np.random.PCG64(seed))
    weights = {}
    for name, shape in tensor_shapes(config).items():
        if name.endswith("gate.hash_table"):
            weights[name] = torch.from_numpy(random.integers(config.n_routed_experts, size=shape).astype(np.int32))
            continue
        unit = random.integers(-(2**23), 2**23, size=shape) / 2.0**23  # uniform in [-1, 1)
        if name.endswith("gate.e_score_correction_bias"):
            values = BIAS_SIZE * unit
        elif len(shape) == 1:
            values = 1 + 0.3 * unit
        elif "gate.light_" in name:
            values = unit * (3**0.5 * LIGHT_STD)
        else:
            is_router = name.endswith(("mlp.gate.weight", "mlp.gate.noise_weight"))
            values = unit * (3**0.5 * (router_std if is_router else std))
        weights[name] = torch.from_numpy(values.astype(np.float32))
    return weights


def to_dtype(weights, dtype):
    """The floating tensors in `dtype`; a hash table stays as it is."""
    return {name: w.to(dtype) if w.is_floating_point() else w for name, w in weights.items()}


def write_folder(path, fields, weights):
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(fields, indent=2) + "\n")
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})


def read_folder(path, dtype):
    """(Config, name -> tensor of `dtype`); raises ValueError where the tensors are not exactly the model's."""
    path = Path(path)
    config = read_config(json.loads((path / "config.json").read_text()))
    index = path / "model.safetensors.index.json"
    files = set(json.loads(index.read_text())["weight_map"].values()) if index.exists() else ["model.safetensors"]
    weights = {}
    for file in files:
        weights.update(load_file(path / file))
    shapes = tensor_shapes(config)
    wrong = sorted(set(shapes) ^ set(weights))
    wrong += [name for name in shapes if name in weights and tuple(weights[name].shape) != shapes[name]]
    if wrong:
        raise ValueError(f"{path}: {len(wrong)} tensors missing, extra or of another shape, the first is {wrong[0]}")
    return config, to_dtype(weights, dtype)
