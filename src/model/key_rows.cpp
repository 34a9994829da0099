#include "model/key_rows.h"

#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/words.h"

namespace moe {
namespace {

std::string quoted(std::vector<std::string> words) {
  for (std::string& word : words) word = fmt::format("\"{}\"", word);
  return alternatives(words);
}

std::string integer_range(const KeyInfo& info) {
  if (info.most == std::numeric_limits<int64_t>::max()) return fmt::format("at least {}", info.least);
  return fmt::format("an integer from {} to {}", info.least, info.most);
}

}  // namespace

const Need kNeedsExperts = {"routed experts", [](const ModelConfig& model) { return model.n_routed_experts > 0; }};
const Need kNeedsTopk = {"model.routing = topk",
                         [](const ModelConfig& model) { return model.routes_with(&RoutingRow::score_settings); }};
const Need kNeedsCapacity = {"model.routing = topk or expert_choice",
                             [](const ModelConfig& model) { return model.routes_with(&RoutingRow::capacity); }};
const Need kNeedsGroups = {"model.topk_method = group_limited_greedy or noaux_tc", [](const ModelConfig& model) {
                             return kNeedsTopk.holds(model) && model.topk_method != TopkMethod::greedy;
                           }};
const Need kNeedsLimitedGroups = {"model.topk_method = group_limited_greedy", [](const ModelConfig& model) {
                                    return kNeedsTopk.holds(model) &&
                                           model.topk_method == TopkMethod::group_limited_greedy;
                                  }};
const Need kNeedsBias = {"model.topk_method = noaux_tc", [](const ModelConfig& model) {
                           return model.n_routed_experts > 0 && model.has_router_bias();
                         }};
const Need kNeedsNoisyTopk = {"model.routing = noisy_topk",
                              [](const ModelConfig& model) { return model.routes_with(&RoutingRow::noise); }};
const Need kNeedsHash = {"model.routing = hash",
                         [](const ModelConfig& model) { return model.routes_with(&RoutingRow::hash_table); }};
const Need kNeedsStable = {"model.routing = stable",
                           [](const ModelConfig& model) { return model.routes_with(&RoutingRow::staged); }};

std::string KeyInfo::need() const {
  if (needs != nullptr) return needs->text;
  return used_with != nullptr ? used_with() : "";
}

std::string_view KeyInfo::leaf() const {
  const std::string_view path = key;
  return path.substr(path.rfind('.') + 1);
}

std::string_view KeyInfo::section() const {
  const std::string_view path = key;
  return path.substr(0, path.rfind('.'));
}

SettingValue value_of_word(const KeyInfo& info) {
  return info.kind == KeyKind::integer ? SettingValue(info.word.value) : SettingValue(std::string(info.word.text));
}

std::string expected_values(const KeyInfo& info) {
  switch (info.kind) {
    case KeyKind::integer:
      return info.word.text == nullptr ? integer_range(info)
                                       : fmt::format("{} or \"{}\"", integer_range(info), info.word.text);
    case KeyKind::number:
      return fmt::format("a number from {} to {}", info.low, info.high);
    case KeyKind::boolean:
      return info.word.text == nullptr ? "true or false" : fmt::format("true, false or \"{}\"", info.word.text);
    case KeyKind::word:
      return quoted(info.words());
    case KeyKind::text:
      return "a string";
    case KeyKind::texts:
      return "a list of strings";
    case KeyKind::integers:
      return fmt::format("a list of integers from {} to {}", info.least, info.most);
  }
  return "?";
}

bool takes(const KeyInfo& info, const SettingValue& value) {
  switch (info.kind) {
    case KeyKind::integer: {
      const auto integer = std::get<int64_t>(value);
      return (integer >= info.least && integer <= info.most) ||
             (info.word.text != nullptr && integer == info.word.value);
    }
    case KeyKind::number: {
      const auto number = std::get<double>(value);
      const bool vanishes = number != 0 && std::abs(number) < kLeastPositive;
      return number >= info.low && number <= info.high && !vanishes;
    }
    case KeyKind::word: {
      const std::vector<std::string> words = info.words();
      return std::find(words.begin(), words.end(), std::get<std::string>(value)) != words.end();
    }
    case KeyKind::integers: {
      const auto& list = std::get<std::vector<int64_t>>(value);
      return std::all_of(list.begin(), list.end(),
                         [&](int64_t integer) { return integer >= info.least && integer <= info.most; });
    }
    case KeyKind::boolean:
    case KeyKind::text:
    case KeyKind::texts:
      return true;
  }
  return false;
}

std::string plain_text(const SettingValue& value) {
  return std::visit(
      [](const auto& held) -> std::string {
        using T = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<T, std::string>) {
          return held;
        } else if constexpr (std::is_arithmetic_v<T>) {
          return fmt::format("{}", held);
        } else {
          return fmt::format("[{}]", fmt::join(held, ", "));
        }
      },
      value);
}

double key_rows::decimal(float value) {
  const std::string digits = fmt::format("{}", value);
  double decimal = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), decimal);
  return decimal;
}

}  // namespace moe
