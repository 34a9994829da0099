#pragma once
/// The type of a setting's value.

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace moe {

using SettingValue = std::variant<int64_t, double, bool, std::string, std::vector<int64_t>, std::vector<double>,
                                  std::vector<bool>, std::vector<std::string>>;

}  // namespace moe
