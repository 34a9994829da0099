#pragma once
/// Writes a LoRA adapter in PEFT's form.

#include "checkpoint/adapter_config.h"
#include "checkpoint/checksums.h"
#include "model/lora.h"
#include "ops/device.h"

namespace moe {

/// Writes FOLDER/adapter_config.json and FOLDER/adapter_model.safetensors: the adapters among `views`, which are in the
/// order of `table` (of `config`, with adapters), under PEFT's names. Where the family's class holds all experts of a
/// layer as one parameter, so do these files (target_parameters). `base` is the model that was trained, for
/// base_model_name_or_path. Memory: a copy of the largest adapter.
WrittenFile save_adapter(const fs::path& folder, const ModelConfig& config, const LoraConfig& lora,
                         const std::string& base, const std::vector<Parameter>& table, const std::vector<View>& views,
                         Device& device);

}  // namespace moe
