#include "cli/cache_option.h"

#include "base/error.h"
#include "base/words.h"
#include "ops/types.h"

namespace moe {
namespace {

constexpr TypeSet kTypes{DType::f32, DType::bf16, DType::f16};

}  // namespace

void add_cache_option(CLI::App& command, std::string& type) {
  command
      .add_option("--cache-type", type,
                  "storage of the keys and values of earlier tokens: " + kTypes.text() +
                      "; without it that of activations, and on the CPU f16 beside weights in blocks")
      ->type_name("TYPE");
}

DType parse_cache_option(const std::string& type, const Compute& compute, DType activations, bool weights_in_blocks) {
  if (type.empty()) return default_cache_type(*compute.backend, activations, weights_in_blocks);
  const AcceptedTypes* const accepted = compute.backend->accepts();
  for (const StorageType& row : kStorageTypes) {
    if (!kTypes.has(row.dtype) || type != row.name) continue;
    if (accepted == nullptr || accepted->of(CachedAttention::name, "k_cache").has(row.dtype)) return row.dtype;
    fail_usage("--cache-type {}: {} computes with a cache of {}; choose one of these", type, accepted->backend,
               accepted->of(CachedAttention::name, "k_cache").text());
  }
  fail_usage("--cache-type {}: expected {}", type, alternatives(kTypes.names()));
}

}  // namespace moe
