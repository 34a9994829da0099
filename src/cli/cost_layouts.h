#pragma once
/// The part of `moe cost` that plans several ranks: its options, JSON and text.

#include <string>

#include <CLI/CLI.hpp>

#include "formats/json.h"
#include "plan/propose.h"

namespace moe {

struct LayoutFlags {
  int64_t ranks = 0;  ///< 0: not given, so that no layouts are planned
  std::string layout;
  std::string card = "h100";
  double network_gb_per_s = 50;
  int64_t machine_ranks = 8;
  int64_t zero = 1;
  int64_t step_rows = 0;  ///< 0: the run file's, or 32 for each rank
};

/// Declares the options. All but --ranks need --ranks.
void add_layout_options(CLI::App& command, LayoutFlags& flags);

/// Plans the layouts. `step`: types and length of the run; `rows_per_step`: of the run file, 0 without one; `choices`:
/// rows and recompute, if they are given.
Json layouts_json(const LayoutFlags& flags, const ModelConfig& config, const StepConfig& step, int64_t rows_per_step,
                  LayoutChoices choices);

void print_layouts(const Json& layouts);

}  // namespace moe
