#pragma once
/// The systems that DeepSeekMoE is compared with. Each is a row of choices (docs/routing.md), which `model.method` of a
/// run file names.

#include <span>
#include <string>
#include <string_view>

#include "model/config.h"

namespace moe {

struct Method {
  const char* name;
  const char* title;
  int64_t top_k;  ///< K; kAnyTopK: the model's own, kEveryExpert: E
  /// Sets the choices that differ from the K best of softmax scores with the default losses.
  void (*choose)(ModelConfig& model, BalanceConfig& balance);
  bool balanced_hash = false;

  static constexpr int64_t kAnyTopK = -1, kEveryExpert = -2;
  bool fixes_top_k() const { return top_k != kAnyTopK; }
  /// True if it needs routed experts.
  bool routes() const { return top_k != 0; }
  /// Replaces every routing and loss setting of a model. Sizes are kept, except K if the method fixes it; a dense
  /// method also removes the experts.
  void apply(ModelConfig& model, BalanceConfig& balance) const;
};

/// In the order of docs/routing.md.
std::span<const Method> methods();

/// Throws a UsageError with all names if there is no such method.
const Method& find_method(std::string_view name);

}  // namespace moe
