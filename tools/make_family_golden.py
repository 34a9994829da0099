#!/usr/bin/env python3
"""Makes tests/golden/families again: tiny random checkpoints of each family as `transformers` writes them, with its logits.

    build/peers-venv/bin/python tools/make_family_golden.py --out tests/golden/families     (make family-golden)

A folder has config.json and weights, and references.safetensors: `input.tokens`, `input.targets` (none: -1) and
`input.segment_start` (0) [1, 520], `rows` (positions, the last ones beyond 500) and `logits` [rows, vocabulary], computed in
float64 and rounded to float32.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

LENGTH = 520
ROWS = [*range(6), *range(LENGTH - 6, LENGTH)]

SMALL = dict(vocab_size=40, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=600,
             bos_token_id=1, eos_token_id=2, attention_dropout=0.0)

# name: class of the configuration, class of the model, settings, arguments of save_pretrained (save_original_format
# false: the names and shapes of the model in memory, a layer's experts in one tensor)
MODELS = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", dict(intermediate_size=20, num_key_value_heads=4), {}),
    "llama_odd": ("LlamaConfig", "LlamaForCausalLM",
                  dict(intermediate_size=21, num_key_value_heads=2, head_dim=10, tie_word_embeddings=True, rms_norm_eps=1e-3,
                       rope_parameters={"rope_type": "default", "rope_theta": 700.0}), {"max_shard_size": "12KB"}),
    "mixtral": ("MixtralConfig", "MixtralForCausalLM",
                dict(intermediate_size=10, num_key_value_heads=2, num_local_experts=5, num_experts_per_tok=2),
                {"max_shard_size": "16KB"}),
    "mixtral_fused": ("MixtralConfig", "MixtralForCausalLM",
                      dict(intermediate_size=9, num_key_value_heads=4, num_local_experts=4, num_experts_per_tok=3,
                           rms_norm_eps=1e-4), {"save_original_format": False}),
    "qwen3_moe": ("Qwen3MoeConfig", "Qwen3MoeForCausalLM",
                  dict(moe_intermediate_size=10, intermediate_size=20, num_key_value_heads=2, head_dim=10, num_experts=5,
                       num_experts_per_tok=2, norm_topk_prob=True), {}),
    "qwen3_moe_odd": ("Qwen3MoeConfig", "Qwen3MoeForCausalLM",
                      dict(moe_intermediate_size=7, intermediate_size=20, num_key_value_heads=4, head_dim=6, num_experts=4,
                           num_experts_per_tok=3, norm_topk_prob=False, tie_word_embeddings=True, rms_norm_eps=1e-3,
                           rope_parameters={"rope_type": "default", "rope_theta": 700.0}), {"max_shard_size": "12KB"}),
    "olmoe": ("OlmoeConfig", "OlmoeForCausalLM",
              dict(intermediate_size=10, num_key_value_heads=4, num_experts=5, num_experts_per_tok=2, pad_token_id=0), {}),
    "olmoe_odd": ("OlmoeConfig", "OlmoeForCausalLM",
                  dict(intermediate_size=9, num_key_value_heads=2, num_experts=6, num_experts_per_tok=4, norm_topk_prob=True,
                       rms_norm_eps=1e-3, pad_token_id=0), {}),
    "qwen2_moe": ("Qwen2MoeConfig", "Qwen2MoeForCausalLM",
                  dict(moe_intermediate_size=10, shared_expert_intermediate_size=14, intermediate_size=20,
                       num_key_value_heads=4, num_experts=5, num_experts_per_tok=2), {}),
    "qwen2_moe_odd": ("Qwen2MoeConfig", "Qwen2MoeForCausalLM",
                      dict(moe_intermediate_size=7, shared_expert_intermediate_size=9, intermediate_size=20,
                           num_key_value_heads=2, num_experts=4, num_experts_per_tok=3, norm_topk_prob=True,
                           tie_word_embeddings=True, rms_norm_eps=1e-3), {}),
}


def make(folder, config_class, model_class, settings, storage):
    torch.manual_seed(len(folder.name))
    config = getattr(transformers, config_class)(**SMALL, **settings)
    config._experts_implementation = "eager"  # the only one that multiplies float64
    model = getattr(transformers, model_class)(config).double().eval()
    for name, parameter in model.named_parameters():  # norms that are not 1 and weights that matter
        torch.nn.init.normal_(parameter.data, 1 if "norm" in name else 0, 0.2 if "norm" in name else 0.25)
        parameter.data = parameter.data.float().double()
    tokens = torch.randint(3, config.vocab_size, (LENGTH,))
    with torch.no_grad():
        logits = model(tokens[None]).logits[0, ROWS].float()
    model.float().save_pretrained(folder, **storage)
    (folder / "generation_config.json").unlink(missing_ok=True)
    references = {"input.tokens": tokens[None].int(), "input.targets": torch.full((1, LENGTH), -1, dtype=torch.int32),
                  "input.segment_start": torch.zeros((1, LENGTH), dtype=torch.int32),
                  "rows": torch.tensor(ROWS, dtype=torch.int32), "logits": logits}
    save_file(references, folder / "references.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    for name, (config_class, model_class, settings, storage) in MODELS.items():
        make(out / name, config_class, model_class, settings, storage)
    versions = {"transformers": transformers.__version__, "torch": torch.__version__.partition("+")[0]}
    (out / "made_with.json").write_text(json.dumps(versions) + "\n")


if __name__ == "__main__":
    main()
