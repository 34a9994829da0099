#pragma once
/// --dtype of commands that compute with a model as its file stores it.

#include <optional>
#include <string>

#include "cli/device_option.h"
#include "infer/weight_types.h"

namespace moe {

/// Declares `--dtype`. Without it (`dtype` is empty) blocks stay as they are.
void add_kept_weights_option(CLI::App& command, std::string& dtype);

/// What `dtype` asks for; another name is a UsageError. On a GPU activations beside blocks are bf16.
WeightTypes parse_kept_weights(const std::string& dtype, const DeviceOptions& device);

/// Declares `--quant`, a type of weights in blocks or a mixture of them (checkpoint/gguf_types_of.h).
void add_blocks_option(CLI::App& command, std::string& quant);

/// The type of blocks with the name `quant`; nothing if `quant` is empty. Any other name, also a mixture's, is a
/// UsageError.
std::optional<DType> parse_blocks_option(const std::string& quant);

}  // namespace moe
