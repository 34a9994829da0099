#include "checkpoint/gguf_config.h"

#include <charconv>
#include <set>
#include <string>

#include "base/error.h"
#include "checkpoint/hf_config.h"

namespace moe {
namespace {

/// The double of the shortest decimal that gives the number.
double shortest(float number) {
  const std::string text = fmt::format("{}", number);
  double result = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), result);
  MOE_CHECK(parsed.ec == std::errc() && parsed.ptr == text.data() + text.size());
  return result;
}

/// The keys of one architecture, each read once.
class Keys {
 public:
  Keys(const GgufFile& file, std::string architecture) : file_(file), prefix_(std::move(architecture) + ".") {}

  bool has(const char* name) const { return file_.value(prefix_ + name) != nullptr; }
  int64_t integer(const char* name) {
    seen_.insert(prefix_ + name);
    return file_.integer(prefix_ + name);
  }
  int64_t integer(const char* name, int64_t absent) { return has(name) ? integer(name) : absent; }
  double number(const char* name, double absent) { return has(name) ? number(name) : absent; }
  /// A stored f32 is the shortest decimal that gives it, as people write it: 1e-06 and not 9.99999997e-07.
  double number(const char* name) {
    if (!has(name)) {
      fail("{}: the metadata has no {}{}, expected a number; write the file again", file_.path().string(), prefix_,
           name);
    }
    const GgufValue& value = taken(name);
    const auto* x = std::get_if<double>(&value.value);
    if (x == nullptr) refuse(name, "a number");
    return value.kind == GgufKind::f32 ? shortest(static_cast<float>(*x)) : *x;
  }
  bool flag(const char* name, bool absent) {
    if (!has(name)) return absent;
    const auto* x = std::get_if<bool>(&taken(name).value);
    if (x == nullptr) refuse(name, "a boolean");
    return *x;
  }
  /// An integer that can only be this.
  void only(const char* name, int64_t value, const char* why) {
    if (!has(name) || integer(name) == value) return;
    refuse(name, fmt::format("{} ({})", value, why).c_str());
  }
  [[noreturn]] void refuse(const char* name, const char* expected) const {
    fail("{}: {}{} is {}, expected {}", file_.path().string(), prefix_, name, file_.value(prefix_ + name)->shown(),
         expected);
  }
  void ignore(const char* name) { seen_.insert(prefix_ + name); }
  /// Refuses keys of the architecture that nothing has read.
  void refuse_others() const {
    for (const GgufEntry& entry : file_.metadata()) {
      if (!entry.key.starts_with(prefix_) || seen_.count(entry.key) != 0) continue;
      fail("{}: {} ({}) is a key that this program does not know; it may change what the model computes",
           file_.path().string(), entry.key, entry.value.shown());
    }
  }

 private:
  const GgufValue& taken(const char* name) {
    seen_.insert(prefix_ + name);
    return *file_.value(prefix_ + name);
  }

  const GgufFile& file_;
  std::string prefix_;
  std::set<std::string> seen_;
};

void add_id(const GgufFile& file, const char* key, const char* field, Json& json) {
  if (file.value(key) != nullptr) json[field] = file.integer(key);
}

/// What both architectures have.
void read_common(const GgufFile& file, Keys& keys, Json& json) {
  const int64_t hidden = keys.integer("embedding_length"), heads = keys.integer("attention.head_count");
  if (heads < 1) keys.refuse("attention.head_count", "1 or more");
  const int64_t head = keys.integer("attention.key_length", hidden / heads);
  json["hidden_size"] = hidden;
  json["num_hidden_layers"] = keys.integer("block_count");
  json["num_attention_heads"] = heads;
  json["num_key_value_heads"] = keys.integer("attention.head_count_kv", heads);
  json["head_dim"] = head;
  keys.only("attention.value_length", head, "as attention.key_length");
  keys.only("rope.dimension_count", head, "the head size: this program rotates whole heads");
  json["rms_norm_eps"] = keys.number("attention.layer_norm_rms_epsilon");
  json["rope_theta"] = keys.number("rope.freq_base", 10000.0);
  json["max_position_embeddings"] = keys.integer("context_length");
  if (keys.has("rope.scaling.type") && file.text(file.text("general.architecture") + ".rope.scaling.type") != "none") {
    keys.refuse("rope.scaling.type", "none");
  }
  keys.ignore("rope.scaling.type");
  for (const char* factor : {"rope.scaling.factor", "rope.scale_linear"}) {
    if (keys.number(factor, 1.0) != 1.0) keys.refuse(factor, "1");
  }
  keys.only("attention.sliding_window", 0, "this program computes no windows");
  keys.only("expert_group_count", 1, "experts are chosen without groups");
  keys.only("expert_group_used_count", 1, "experts are chosen without groups");
  constexpr int64_t kSoftmax = 1;
  keys.only("expert_gating_func", kSoftmax, "softmax");
  const GgufTensor* embedding = file.find("token_embd.weight");
  const int64_t vocabulary = embedding != nullptr && !embedding->shape.empty() ? embedding->shape.front() : 0;
  json["vocab_size"] = keys.integer("vocab_size", vocabulary);
  json["tie_word_embeddings"] = false;
  add_id(file, "tokenizer.ggml.bos_token_id", "bos_token_id", json);
  add_id(file, "tokenizer.ggml.eos_token_id", "eos_token_id", json);
}

Json llama_config(const GgufFile& file, Keys& keys) {
  const int64_t experts = keys.integer("expert_count", 0);
  Json json = experts == 0 ? Json{{"model_type", "llama"}, {"architectures", {"LlamaForCausalLM"}}}
                           : Json{{"model_type", "mixtral"}, {"architectures", {"MixtralForCausalLM"}}};
  read_common(file, keys, json);
  json["intermediate_size"] = keys.integer("feed_forward_length");
  const int64_t used = keys.integer("expert_used_count", 0);
  if (experts == 0) return json;
  json["num_local_experts"] = experts;
  json["num_experts_per_tok"] = used;
  return json;
}

Json deepseek_config(const GgufFile& file, Keys& keys) {
  Json json{{"model_type", "deepseek"}, {"architectures", {"DeepseekForCausalLM"}}};
  read_common(file, keys, json);
  if (const int64_t dense = keys.integer("feed_forward_length", 0); dense > 0) json["intermediate_size"] = dense;
  json["first_k_dense_replace"] = keys.integer("leading_dense_block_count", 0);
  json["moe_intermediate_size"] = keys.integer("expert_feed_forward_length");
  json["n_routed_experts"] = keys.integer("expert_count");
  json["num_experts_per_tok"] = keys.integer("expert_used_count");
  json["n_shared_experts"] = keys.integer("expert_shared_count", 0);
  json["norm_topk_prob"] = keys.flag("expert_weights_norm", false);
  const double scale = keys.number("expert_weights_scale", 1.0);
  json["routed_scaling_factor"] = scale == 0 ? 1.0 : scale;  // 0 is absent
  json["scoring_func"] = "softmax";
  return json;
}

/// Qwen3-MoE, OLMoE and Qwen2-MoE.
Json other_config(const std::string& architecture, Keys& keys, const GgufFile& file) {
  const bool olmoe = architecture == "olmoe", qwen3 = architecture == "qwen3moe";
  Json json = olmoe   ? Json{{"model_type", "olmoe"}, {"architectures", {"OlmoeForCausalLM"}}}
              : qwen3 ? Json{{"model_type", "qwen3_moe"}, {"architectures", {"Qwen3MoeForCausalLM"}}}
                      : Json{{"model_type", "qwen2_moe"}, {"architectures", {"Qwen2MoeForCausalLM"}}};
  read_common(file, keys, json);
  json["num_experts"] = keys.integer("expert_count");
  json["num_experts_per_tok"] = keys.integer("expert_used_count");
  json["norm_topk_prob"] = qwen3;  // the architecture implies it
  if (!qwen3) {                    // the families have no such field: it must follow from the other sizes
    keys.only("attention.key_length", json["hidden_size"].get<int64_t>() / json["num_attention_heads"].get<int64_t>(),
              "embedding_length / attention.head_count");
    json.erase("head_dim");
  }
  const int64_t dense = keys.integer("feed_forward_length", 0);
  if (olmoe) {
    json["intermediate_size"] = dense;
    return json;
  }
  if (dense > 0) json["intermediate_size"] = dense;
  const int64_t used = json["num_experts_per_tok"].get<int64_t>();
  json["moe_intermediate_size"] = keys.integer("expert_feed_forward_length", used > 0 ? dense / used : 0);
  if (!qwen3) json["shared_expert_intermediate_size"] = keys.integer("expert_shared_feed_forward_length", dense);
  return json;
}

}  // namespace

Json gguf_hf_config(const GgufFile& file) {
  const std::string& architecture = file.text("general.architecture");
  Keys keys(file, architecture);
  Json json;
  if (architecture == "llama") {
    json = llama_config(file, keys);
  } else if (architecture == "deepseek") {
    json = deepseek_config(file, keys);
  } else if (architecture == "qwen3moe" || architecture == "olmoe" || architecture == "qwen2moe") {
    json = other_config(architecture, keys, file);
  } else {
    fail("{}: general.architecture is {:?}, expected \"llama\", \"deepseek\", \"qwen3moe\", \"olmoe\" or \"qwen2moe\"",
         file.path().string(), architecture);
  }
  keys.refuse_others();
  return json;
}

ModelConfig gguf_model_config(const std::vector<GgufFile>& files) {
  Json json = gguf_hf_config(files.front());
  bool head = false;
  for (const GgufFile& file : files) head = head || file.find("output.weight") != nullptr;
  json["tie_word_embeddings"] = !head;
  return parse_hf_config(json, files.front().path().string());
}

}  // namespace moe
