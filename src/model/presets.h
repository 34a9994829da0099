#pragma once
/// The models of the DeepSeekMoE paper, and two more, by name (docs/paper.md section 3), with widths that train well: a
/// standard FFN of the 2B models is 3456 = 4 * 864 wide; 8/3 d would be 3413.3.

#include <span>
#include <string_view>

#include "model/config.h"

namespace moe {

struct Preset {
  const char* name;
  const char* title;
  /// max_position_embeddings is the sequence length of training, of GigaChat the longest that it was extended to.
  ModelConfig config;
};

/// In the paper's order; those that it does not have come last.
std::span<const Preset> presets();

/// Throws a UsageError with all names if there is no such preset.
const Preset& find_preset(std::string_view name);

}  // namespace moe
