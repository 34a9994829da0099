#pragma once
/// --lora: adapters beside a model's weights.

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "checkpoint/adapter_set.h"

namespace moe {

/// Declares `--lora DIR[:SCALE]`, which may be repeated.
CLI::Option* add_lora_option(CLI::App& command, std::vector<ChosenAdapter>& adapters);

/// What MODEL_DIR and --lora name together.
struct AdaptedModel {
  std::string folder;  ///< the model's own folder or file
  /// The folder with the tokenizer and the chat template: the first adapter's that has a template, else the model's.
  std::string companions;
  std::vector<ChosenAdapter> adapters;
};

/// MODEL_DIR may be an adapter's folder, for instance of a run that trains one: it stands for the model that the
/// adapter was trained on, with the adapter. An error says what is missing.
AdaptedModel adapted_model(const std::string& model, const std::vector<ChosenAdapter>& adapters);

/// The tokens that end a text: those of the model and of its companions.
std::vector<int32_t> end_tokens(const AdaptedModel& model);

}  // namespace moe
