#!/usr/bin/env python3
"""Makes tests/golden/families again: tiny random checkpoints of each family as `transformers` writes them, with what its
classes compute of them.

    build/peers-venv/bin/python tools/make_family_golden.py --out tests/golden/families     (make family-golden)

A folder has config.json and weights, and references.safetensors, whose floats are F32:

- `input.tokens`, `input.targets` (the next tokens; -1 at the end) and `input.segment_start` (0) [1, 520];
- `rows`: positions, the last ones beyond 500;
- computed in float64, also the angles of rotary positions (the classes round them to float32, which beyond 500 positions
  changes the sixth digit): `hidden.I` [rows, hidden size], the residual stream before layer I and after the last one,
  `logits` [rows, vocabulary], and `grad.NAME`, the gradient of the mean cross-entropy of all targets with respect to each
  tensor, under its name in a file that has experts apart;
- computed in bfloat16 from weights rounded to it: `bf16.hidden.I`, `bf16.logits`, and `bf16.grad_error.NAME` [1], the norm of
  what such a gradient differs from `grad.NAME` by.

A random text has tokens where two experts are nearly equally good, and roundings decide between them. Such tokens are
drawn again, so that float64 and bfloat16 choose the same experts everywhere.

DeepSeekMoE has no class in `transformers`. The text model of DeepSeek-OCR 2 is its decoder, so a folder `deepseek*` is
computed by that class with a head behind it, and with Qwen3-MoE's router where gates are divided by their sum.
`deepseek_fused` has the weights of `deepseek` with experts fused, and no references.
"""

import argparse
import copy
import json
import shutil
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.conversion_mapping import get_checkpoint_conversion_mapping, register_checkpoint_conversion_mapping
from transformers.models.deepseek_ocr2.configuration_deepseek_ocr2 import DeepseekOcr2TextConfig
from transformers.models.deepseek_ocr2.modeling_deepseek_ocr2 import DeepseekOcr2TextModel
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeTopKRouter

LENGTH = 520
ROWS = [*range(6), *range(LENGTH - 6, LENGTH)]
CLEAR = 0.3  # the least distance between the router logits of the last chosen expert and the first other one

SMALL = dict(vocab_size=40, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=600,
             bos_token_id=1, eos_token_id=2, attention_dropout=0.0)

# name: class of the configuration, class of the model, settings, arguments of save_pretrained (save_original_format
# false: the names and shapes of the model in memory, a layer's experts in one tensor). Configurations of DeepSeekMoE are
# dictionaries of their own fields.
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
    "mixtral_one": ("MixtralConfig", "MixtralForCausalLM",
                    dict(intermediate_size=11, num_key_value_heads=1, num_local_experts=1, num_experts_per_tok=1), {}),
    "deepseek": (None, None, dict(intermediate_size=20, moe_intermediate_size=10, num_hidden_layers=3,
                                  first_k_dense_replace=1, n_shared_experts=2, n_routed_experts=5, num_experts_per_tok=2),
                 {"max_shard_size": "16KB"}),
    "deepseek_odd": (None, None, dict(intermediate_size=21, moe_intermediate_size=7, num_hidden_layers=3, head_dim=10,
                                      num_key_value_heads=2, first_k_dense_replace=2, n_shared_experts=3,
                                      n_routed_experts=6, num_experts_per_tok=3, norm_topk_prob=True,
                                      tie_word_embeddings=True, rms_norm_eps=1e-3, rope_theta=700.0), {}),
    "deepseek_sparse": (None, None, dict(intermediate_size=20, moe_intermediate_size=9, num_hidden_layers=4,
                                         first_k_dense_replace=0, moe_layer_freq=2, n_shared_experts=None,
                                         n_routed_experts=5, num_experts_per_tok=2), {}),
    "deepseek_one": (None, None, dict(intermediate_size=20, moe_intermediate_size=11, num_hidden_layers=2,
                                      first_k_dense_replace=0, n_shared_experts=1, n_routed_experts=1,
                                      num_experts_per_tok=1), {}),
}
# The same weights in another form, without references: name: (name of the model, arguments of save_pretrained)
FORMS = {"deepseek_fused": ("deepseek", {"save_original_format": False})}

# The fields of a released config.json of DeepSeekMoE that a folder here does not set.
DEEPSEEK = dict(architectures=["DeepseekForCausalLM"], model_type="deepseek", attention_bias=False, aux_loss_alpha=0.001,
                hidden_act="silu", initializer_range=0.02, moe_layer_freq=1, norm_topk_prob=False, num_key_value_heads=4,
                pretraining_tp=1, rms_norm_eps=1e-6, rope_scaling=None, rope_theta=10000.0, scoring_func="softmax",
                seq_aux=True, tie_word_embeddings=False, torch_dtype="float32", use_cache=True)


class NoSharedExpert(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


class DeepseekForCausalLM(transformers.PreTrainedModel):
    """The decoder of DeepSeekMoE as `transformers` has it, and a head."""

    config_class = DeepseekOcr2TextConfig
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config):
        super().__init__(config)
        self.model = DeepseekOcr2TextModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        for layer, kind in zip(self.model.layers, config.mlp_layer_types):
            if kind == "sparse" and config.norm_topk_prob:
                layer.mlp.gate = Qwen3MoeTopKRouter(config)
            if kind == "sparse" and config.n_shared_experts == 0:
                layer.mlp.shared_experts = NoSharedExpert()
        self.post_init()

    def forward(self, ids):
        logits = self.lm_head(self.model(ids, use_cache=False).last_hidden_state)
        return transformers.modeling_outputs.CausalLMOutput(logits=logits)

    def get_input_embeddings(self):
        return self.model.embed_tokens

    def get_output_embeddings(self):
        return self.lm_head


# It is saved with experts apart, as the models of Qwen2-MoE's form are: the released files have the same names.
register_checkpoint_conversion_mapping("DeepseekForCausalLM", get_checkpoint_conversion_mapping("qwen2_moe"))


def deepseek_config(fields):
    """Of the class in `transformers`, from the fields of a released config.json."""
    fields = dict(fields)
    frequency, dense = fields["moe_layer_freq"], fields["first_k_dense_replace"]
    layers = range(fields["num_hidden_layers"])
    same = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings", "bos_token_id",
            "eos_token_id", "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size"]
    config = DeepseekOcr2TextConfig(
        **{name: fields[name] for name in same}, n_shared_experts=fields["n_shared_experts"] or 0,
        rope_parameters={"rope_type": "default", "rope_theta": fields["rope_theta"]},
        mlp_layer_types=["sparse" if i >= dense and i % frequency == 0 else "dense" for i in layers])
    config.norm_topk_prob = fields["norm_topk_prob"]
    config.head_dim = fields.get("head_dim", config.head_dim)  # the class sets its own
    return config


def build(name):
    """(model in float64 with random weights, fields of its config.json: None if its own class writes them)"""
    config_class, model_class, settings, _ = MODELS[name]
    torch.manual_seed(len(name))
    if config_class is None:
        fields = {**DEEPSEEK, **SMALL, **settings}
        config, make = deepseek_config(fields), DeepseekForCausalLM
    else:
        fields = None
        config, make = getattr(transformers, config_class)(**SMALL, **settings), getattr(transformers, model_class)
    config._experts_implementation = "eager"  # the only one that multiplies float64
    model = make(config).double().eval()
    for name, parameter in model.named_parameters():  # norms that are not 1 and weights that matter
        torch.nn.init.normal_(parameter.data, 1 if "norm" in name else 0, 0.2 if "norm" in name else 0.25)
        parameter.data = parameter.data.float().double()
    return model, fields


def make_angles_exact(model):
    rotary = model.model.rotary_emb
    width = 2 * len(rotary.inv_freq)
    frequencies = rotary.config.rope_parameters["rope_theta"] ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)

    def forward(x, position_ids, **_):
        angles = position_ids[..., None] * frequencies
        angles = torch.cat((angles, angles), -1)
        return angles.cos(), angles.sin()

    rotary.forward = forward


def run(model, tokens):
    """(logits of all positions, {"hidden.I": residual stream}, experts of each router, distances [LENGTH] of choices)"""
    hidden, experts, distances = {}, [], []

    def see_layer(index):
        def see(_, inputs, output):
            hidden[f"hidden.{index}"] = inputs[0][0]
            hidden[f"hidden.{index + 1}"] = output[0] if output.dim() == 3 else output
        return see

    def see_router(_, inputs, output):
        logits, _, chosen = output
        experts.append(chosen.sort(-1).values)
        if chosen.shape[-1] < logits.shape[-1]:
            best = logits.double().sort(-1, descending=True).values
            distances.append(best[:, chosen.shape[-1] - 1] - best[:, chosen.shape[-1]])

    hooks = [layer.register_forward_hook(see_layer(i)) for i, layer in enumerate(model.model.layers)]
    for module in model.modules():
        if type(module).__name__.endswith("Router"):
            hooks.append(module.register_forward_hook(see_router))
    logits = model(tokens[None]).logits[0]
    for hook in hooks:
        hook.remove()
    nearest = torch.stack(distances).amin(0) if distances else torch.full((LENGTH,), torch.inf)
    return logits, hidden, experts, nearest


@torch.no_grad()
def clear_tokens(model):
    """Random tokens; those with an unclear choice of experts are drawn again, which changes the ones after them."""
    tokens = torch.randint(3, model.config.vocab_size, (LENGTH,))
    for _ in range(400):
        unclear = run(model, tokens)[3] < CLEAR
        if not unclear.any():
            return tokens
        tokens[unclear] = torch.randint(3, model.config.vocab_size, (int(unclear.sum()),))
    raise SystemExit("no text with clear choices of experts")


def gradients(model, logits, tokens):
    """Of the mean cross-entropy, by the names of a file with experts apart: a model is saved whose weights they are."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    torch.nn.functional.cross_entropy(wide[:-1], tokens[1:]).backward()
    of_loss = copy.deepcopy(model)
    for into, parameter in zip(of_loss.parameters(), model.parameters()):
        into.data = parameter.grad
    with tempfile.TemporaryDirectory() as folder:
        of_loss.float().save_pretrained(folder)
        return load_file(f"{folder}/model.safetensors")


def references_of(model):
    rough = copy.deepcopy(model).bfloat16()
    make_angles_exact(model)
    tokens = clear_tokens(model)
    logits, hidden, experts, _ = run(model, tokens)
    rough_logits, rough_hidden, rough_experts, _ = run(rough, tokens)
    if not all(torch.equal(a, b) for a, b in zip(experts, rough_experts)):
        raise SystemExit("bfloat16 chooses other experts")
    found = {**hidden, "logits": logits, "bf16.logits": rough_logits,
             **{f"bf16.{name}": x for name, x in rough_hidden.items()}}
    exact, coarse = gradients(model, logits, tokens), gradients(rough, rough_logits, tokens)
    targets = torch.cat((tokens[1:], torch.tensor([-1])))
    return {"input.tokens": tokens[None].int(), "input.targets": targets[None].int(),
            "input.segment_start": torch.zeros((1, LENGTH), dtype=torch.int32),
            "rows": torch.tensor(ROWS, dtype=torch.int32),
            **{name: x[ROWS].detach().float() for name, x in found.items()},
            **{f"grad.{name}": x for name, x in exact.items()},
            **{f"bf16.grad_error.{name}": (coarse[name] - x).norm()[None] for name, x in exact.items()}}


def save(folder, model, fields, storage):
    model.save_pretrained(folder, **storage)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if fields is not None:
        (folder / "config.json").write_text(json.dumps(fields, indent=2) + "\n")


def make(out, name):
    model, fields = build(name)
    references = references_of(model)
    model.float()
    save(out / name, model, fields, MODELS[name][3])
    save_file(references, out / name / "references.safetensors")
    for form, (of, storage) in FORMS.items():
        if of == name:
            save(out / form, model, fields, storage)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    torch.set_num_threads(1)  # the models are tiny
    transformers.utils.logging.disable_progress_bar()
    shutil.rmtree(out, ignore_errors=True)
    for name in MODELS:
        make(out, name)
    versions = {"transformers": transformers.__version__, "torch": torch.__version__.partition("+")[0]}
    (out / "made_with.json").write_text(json.dumps(versions) + "\n")


if __name__ == "__main__":
    main()
