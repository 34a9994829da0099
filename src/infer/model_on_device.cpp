#include "infer/model_on_device.h"

#include "ops/types.h"

namespace moe {

DType default_cache_type(const Backend& backend, DType activations, bool weights_in_blocks) {
  const AcceptedTypes* const accepted = backend.accepts();
  const bool computes = accepted != nullptr && accepted->of(KvAppend::name, "k_cache").has(DType::f16) &&
                        accepted->of(CachedAttention::name, "k_cache").has(DType::f16);
  return weights_in_blocks && computes ? DType::f16 : activations;
}

}  // namespace moe
