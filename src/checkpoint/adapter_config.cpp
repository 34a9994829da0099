#include "checkpoint/adapter_config.h"

#include <cfloat>
#include <cmath>

#include "base/error.h"
#include "base/paths.h"
#include "checkpoint/model_path.h"

namespace moe {
namespace {

/// Members that change what LoRA computes, with the values of plain LoRA beside null.
struct Plain {
  const char* key;
  const char* value;  ///< JSON
};
constexpr Plain kPlain[] = {
    {"bias", "\"none\""},          {"use_dora", "false"},       {"fan_in_fan_out", "false"},
    {"lora_bias", "false"},        {"modules_to_save", "[]"},   {"layer_replication", "[]"},
    {"use_qalora", "false"},       {"use_bdlora", "null"},      {"alora_invocation_tokens", "[]"},
    {"kasa_config", "null"},       {"velora_config", "null"},   {"arrow_config", "null"},
    {"monteclora_config", "null"}, {"megatron_config", "null"}, {"trainable_token_indices", "[]"}};

/// Ways to begin that leave the model's weights as they are, so that the adapter beside them is plain LoRA. Others
/// (pissa, olora, corda, loftq, lora_ga) take a part out of the weights first.
constexpr const char* kPlainStarts[] = {"true", "false", "\"gaussian\"", "\"orthogonal\"", "\"eva\""};

void check_start(const Json& json, const std::string& file) {
  constexpr const char* kKey = "init_lora_weights";
  const Json* const found = json_find(json, kKey, file);
  if (found == nullptr) return;
  for (const char* const plain : kPlainStarts) {
    if (*found == parse_json(plain, kKey)) return;
  }
  fail(
      "{}: \"{}\" is {}, expected {}; with others the adapter belongs to changed weights of the model, so let PEFT "
      "convert it to plain LoRA (path_initial_model_for_weight_conversion of save_pretrained)",
      file, kKey, json_shown(*found), fmt::join(kPlainStarts, ", "));
}

std::vector<std::string> strings_of(const Json& json, const char* key, const std::string& file) {
  const Json* const found = json_find(json, key, file);
  std::vector<std::string> list;
  if (found == nullptr) return list;
  if (!found->is_array()) fail("{}: \"{}\" is {}, expected an array of strings", file, key, json_kind(*found));
  for (const Json& value : *found) {
    if (!value.is_string()) fail("{}: \"{}\" has {}, expected strings", file, key, json_shown(value));
    list.push_back(value.get<std::string>());
  }
  return list;
}

/// PEFT takes a pattern for the end of a module's name: all of it, or what is behind one of its dots.
Regex pattern_of(const std::string& pattern, const std::string& where) {
  try {
    return Regex("\\A(?:.*\\.)?(?:" + pattern + ")\\z");
  } catch (const Error&) {
    fail("{} is not a regular expression that this program knows; write the names of modules out", where);
  }
}

bool matches(const Regex& pattern, const std::string& name, RegexScratch& scratch, const std::string& file) {
  Regex::Match match{};
  try {
    return pattern.find(name, 0, scratch, match);
  } catch (const Error&) {
    fail("{}: an alpha_pattern takes too long to compare with {}; write the names of modules out", file, name);
  }
}

}  // namespace

bool is_adapter(const fs::path& folder) { return path_exists(folder / kAdapterConfig); }

fs::path adapter_folder(const std::string& path) {
  const fs::path folder(model_folder(path));
  if (is_adapter(folder)) return folder;
  fail("{} has no {}, expected the folder of a LoRA adapter in PEFT's form, or of a run that trains one", path,
       kAdapterConfig);
}

AdapterConfig::AdapterConfig(const fs::path& folder) : file_((folder / kAdapterConfig).string()) {
  const Json json = read_json(file_);
  const std::string type = json_string(json, "peft_type", file_, "");
  if (type != "LORA") fail("{}: \"peft_type\" is {:?}, expected \"LORA\"; other adapters are not known", file_, type);
  for (const Plain& plain : kPlain) {
    const Json* const found = json_find(json, plain.key, file_);
    if (found == nullptr || *found == parse_json(plain.value, plain.key)) continue;
    fail("{}: \"{}\" is {}, expected {} or nothing; only plain LoRA is known", file_, plain.key, json_shown(*found),
         plain.value);
  }
  check_start(json, file_);
  base_ = json_string(json, "base_model_name_or_path", file_, "");
  alpha_ = json_number(json, "lora_alpha", file_);
  root_ = json_bool(json, "use_rslora", file_, false);
  parameters_ = strings_of(json, "target_parameters", file_);
  const Json* const patterns = json_find(json, "alpha_pattern", file_);
  if (patterns == nullptr) return;
  if (!patterns->is_object()) fail("{}: \"alpha_pattern\" is {}, expected an object", file_, json_kind(*patterns));
  for (const auto& [pattern, value] : patterns->items()) {
    const std::string where = fmt::format("{}: alpha_pattern {}", file_, json_shown(pattern));
    if (!value.is_number()) fail("{} is {}, expected a number", where, json_shown(value));
    alphas_.emplace_back(pattern_of(pattern, where), value.get<double>());
  }
}

double AdapterConfig::scale(const std::string& name, int64_t rank) const {
  double alpha = alpha_;
  RegexScratch scratch;
  for (const auto& [pattern, value] : alphas_) {
    if (!matches(pattern, name, scratch, file_)) continue;
    alpha = value;
    break;
  }
  const auto r = static_cast<double>(rank);
  const double scale = alpha / (root_ ? std::sqrt(r) : r);
  if (std::abs(scale) <= FLT_MAX) return scale;
  fail("{}: the change of {} is multiplied by {} (its alpha is {}), expected a number that 32 bits can hold", file_,
       name, scale, alpha);
}

bool AdapterConfig::targets_parameter(std::string_view leaf) const {
  for (const std::string& name : parameters_) {
    if (name == leaf || name.ends_with(fmt::format(".{}", leaf))) return true;
  }
  return false;
}

}  // namespace moe
