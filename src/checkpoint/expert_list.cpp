#include "checkpoint/expert_list.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "formats/json_keys.h"
#include "formats/json_numbers.h"

namespace moe {
namespace {

constexpr std::string_view kMembers[] = {"experts", "shared_experts", "non_expert_modules"};

int64_t layer_number(const std::string& text, const std::string& where) {
  int64_t layer = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), layer);
  const bool right = error == std::errc() && layer >= 0 && std::to_string(layer) == text;  // "00" is no other layer
  if (!right) {
    fail("{}: experts has the layer {}, expected a number such as \"1\"", where, json_shown(text));
  }
  return layer;
}

std::vector<int64_t> ids_of(const Json& list, const std::string& where) {
  if (!list.is_array()) fail("{} is {}, expected a list of experts", where, json_kind(list));
  std::vector<int64_t> ids;
  for (const Json& id : list) {
    if (!is_int64(id)) fail("{} holds {}, expected the numbers of experts", where, json_shown(id));
    ids.push_back(id.get<int64_t>());
  }
  std::sort(ids.begin(), ids.end());
  if (const auto twice = std::adjacent_find(ids.begin(), ids.end()); twice != ids.end()) {
    fail("{} names expert {} twice, expected each expert once", where, *twice);
  }
  return ids;
}

}  // namespace

const std::vector<int64_t>& ExpertList::of_layer(int64_t layer) const {
  static const std::vector<int64_t> none;
  const auto found = experts.find(layer);
  return found == experts.end() ? none : found->second;
}

int64_t ExpertList::count() const {
  int64_t sum = 0;
  for (const auto& [layer, ids] : experts) sum += static_cast<int64_t>(ids.size());
  return sum;
}

ExpertList parse_expert_list(const Json& json, const std::string& where) {
  const Json& experts = json_member(json, "experts", where);
  for (const auto& [member, value] : json.items()) {
    if (std::find(std::begin(kMembers), std::end(kMembers), member) != std::end(kMembers)) continue;
    fail("{}: the member {} is not known, expected {}", where, json_shown(member), fmt::join(kMembers, ", "));
  }
  if (!experts.is_object()) fail("{}: experts is {}, expected an object by layer", where, json_kind(experts));
  ExpertList list{.experts = {},
                  .shared_experts = json_bool(json, "shared_experts", where, false),
                  .non_expert_modules = json_bool(json, "non_expert_modules", where, false)};
  for (const auto& [layer, ids] : experts.items()) {
    list.experts[layer_number(layer, where)] = ids_of(ids, fmt::format("{}: layer {} of experts", where, layer));
  }
  return list;
}

ExpertList read_expert_list(const fs::path& path) {
  return parse_expert_list(read_json_without_repeated_keys(path), path.string());
}

std::string expert_list_text(const ExpertList& list) {
  std::string layers;
  for (const auto& [layer, ids] : list.experts) {
    layers += fmt::format("{}\n    \"{}\": [{}]", layers.empty() ? "" : ",", layer, fmt::join(ids, ", "));
  }
  return fmt::format("{{\n  \"experts\": {{{}\n  }},\n  \"shared_experts\": {},\n  \"non_expert_modules\": {}\n}}\n",
                     layers, list.shared_experts, list.non_expert_modules);
}

void check_expert_list(const ExpertList& list, const ModelConfig& config, const std::string& where) {
  for (const auto& [layer, ids] : list.experts) {
    if (layer >= config.num_hidden_layers || !config.is_moe_layer(layer)) {
      fail("{}: layer {} has no routed experts in this model, expected a MoE layer; make the list with this model",
           where, layer);
    }
    for (const int64_t id : ids) {
      if (id >= 0 && id < config.n_routed_experts) continue;
      fail("{}: layer {} names expert {}, expected 0 to {}; make the list with this model", where, layer, id,
           config.n_routed_experts - 1);
    }
  }
}

}  // namespace moe
