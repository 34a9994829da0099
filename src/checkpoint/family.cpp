#include "checkpoint/family.h"

#include <array>

#include "base/error.h"

namespace moe {

std::span<const Family* const> families() {
  static constexpr std::array kFamilies = {&kDeepseekFamily, &kLlamaFamily, &kMixtralFamily,
                                           &kQwen3MoeFamily, &kOlmoeFamily, &kQwen2MoeFamily};
  return kFamilies;
}

const Family& family_of(const ModelConfig& config) {
  for (const Family* family : families()) {
    if (config.family == family->model_type) return *family;
  }
  fail("the model's family is {:?}, expected one of those that this program knows", config.family);
}

}  // namespace moe
