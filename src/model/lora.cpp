#include "model/lora.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/words.h"
#include "ops/type_set.h"

namespace moe {
namespace {

constexpr std::array kTargets = {"attention", "experts", "shared", "dense", "head"};

bool has(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

}  // namespace

std::vector<std::string> lora_targets() { return {kTargets.begin(), kTargets.end()}; }

std::vector<std::string> lora_base_types() {
  std::vector<std::string> names{name(DType::f32), name(DType::bf16)};
  for (const std::string& block : named_block_types().names()) names.push_back(block);
  return names;
}

std::string lora_target(const ParameterInfo& parameter) {
  switch (parameter.role) {
    case ParameterRole::attention_qkv:
    case ParameterRole::attention_output:
      return "attention";
    case ParameterRole::experts_gate_up:
    case ParameterRole::experts_down:
      return "experts";
    case ParameterRole::shared_gate_up:
    case ParameterRole::shared_down:
      return "shared";
    case ParameterRole::ffn_gate_up:
    case ParameterRole::ffn_down:
      return "dense";
    case ParameterRole::head:
      return "head";
    case ParameterRole::embedding:
    case ParameterRole::attention_norm:
    case ParameterRole::attention_qkv_bias:
    case ParameterRole::attention_q_norm:
    case ParameterRole::attention_k_norm:
    case ParameterRole::ffn_norm:
    case ParameterRole::router:
    case ParameterRole::router_own:
    case ParameterRole::shared_gate:
    case ParameterRole::final_norm:
      return "";
  }
  return "";
}

std::vector<std::string> present_targets(const ModelConfig& config) {
  std::vector<std::string> found, ordered;
  for (const Parameter& parameter : parameter_table(config)) found.push_back(lora_target(parameter));
  for (const char* target : kTargets) {
    if (has(found, target)) ordered.emplace_back(target);
  }
  return ordered;
}

AdapterShapes adapters_of(const ModelConfig& config, const LoraConfig& lora) {
  const std::vector<std::string> present = present_targets(config);
  if (lora.targets.empty()) fail("no target is given, expected one or more of {}", alternatives(present));
  for (const std::string& target : lora.targets) {
    if (has(present, target)) continue;
    if (!has(lora_targets(), target)) {
      fail("\"{}\" is not a target of adapters, expected {}", target, alternatives(lora_targets()));
    }
    const bool tied = target == "head" && config.tie_word_embeddings;
    fail("the target \"{}\" stands for nothing in this model{}; it has {}", target,
         tied ? ", whose head is the embedding" : "", alternatives(present));
  }
  AdapterShapes shapes;
  for (const Parameter& parameter : parameter_table(config)) {
    const std::string target = lora_target(parameter);
    if (target.empty() || !has(lora.targets, target)) continue;
    const int64_t rank = target == "experts" ? lora.rank_experts : lora.rank;
    shapes[{parameter.layer, parameter.role}] = {rank, static_cast<float>(lora.alpha / static_cast<double>(rank))};
  }
  return shapes;
}

}  // namespace moe
