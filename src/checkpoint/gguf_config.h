#pragma once
/// The metadata of a GGUF file as config.json of the family that it belongs to.

#include "formats/gguf.h"
#include "formats/json.h"
#include "model/config.h"

namespace moe {

/// Of the architectures `llama` (dense models, and Mixtral's experts) and `deepseek`. Every key of the architecture is
/// honoured or refused by name; keys of tokenizers and general facts are not looked at, but for BOS and EOS. The result
/// is for parse_hf_config(), which checks the values.
Json gguf_hf_config(const GgufFile& file);

/// The configuration of a model in these files (open_gguf()). A model without the tensor output.weight is tied.
ModelConfig gguf_model_config(const std::vector<GgufFile>& files);

}  // namespace moe
