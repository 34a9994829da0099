#pragma once

#include "cli/prompt_lines.h"
#include "infer/model_on_device.h"

namespace moe {

/// Answers all requests at once, and prints a line for each, in their order, as soon as it and all before it have
/// ended. `free`: bytes of the device's memory that may be used, -1 if it is not known. Returns the number of requests
/// that failed, whose lines say why. Errors: not even one request at a time fits the device's memory.
int64_t answer_lines(const ModelOnDevice& runtime, const Tokenizer& tokenizer, const std::vector<LineRequest>& lines,
                     const LineDefaults& defaults, int64_t free, bool quiet);

}  // namespace moe
