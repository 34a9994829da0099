#pragma once
/// What `moe convert --check` does: the tokens of a text, and the report of what a conversion has changed.

#include <string>

#include "batch/batch.h"
#include "cli/model_writing.h"
#include "model/config.h"

namespace moe {

/// The first tokens of FILE, by the tokenizer of `model` (a folder or a GGUF file). Refuses a model without a tokenizer
/// that fits it, and a text without tokens to predict.
Batch conversion_check_batch(const std::string& model, const ModelConfig& config, const std::string& file);

/// Runs the source and what was written of it on the batch, and prints what differs. `file` is named in the report.
void report_conversion(const WeightSource& source, const ModelOutput& output, const std::string& file,
                       const Batch& batch);

}  // namespace moe
