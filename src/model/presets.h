#pragma once
/// The models of the DeepSeekMoE paper by name (docs/paper.md section 3), with widths that train well: a standard FFN
/// of the 2B models is 3456 = 4 * 864 wide; 8/3 d would be 3413.3.

#include <span>
#include <string_view>

#include "model/config.h"

namespace moe {

struct Preset {
  const char* name;
  const char* title;
  ModelConfig config;  ///< max_position_embeddings is the sequence length of training
};

/// In the paper's order.
std::span<const Preset> presets();

/// Throws a UsageError with all names if there is no such preset.
const Preset& find_preset(std::string_view name);

}  // namespace moe
