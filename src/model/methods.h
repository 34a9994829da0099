#pragma once
/// The systems that DeepSeekMoE is compared with, each a row of choices (docs/routing.md): what `model.method` of a run
/// file stands for.

#include <span>
#include <string>
#include <string_view>

#include "model/config.h"

namespace moe {

struct Method {
  const char* name;
  const char* title;
  int64_t top_k;  ///< K; kAnyTopK: the model's own, kEveryExpert: E
  /// Sets the row's choices where they differ from the K best of softmax scores under the default losses.
  void (*choose)(ModelConfig& model, BalanceConfig& balance);
  bool balanced_hash = false;

  static constexpr int64_t kAnyTopK = -1, kEveryExpert = -2;
  bool fixes_top_k() const { return top_k != kAnyTopK; }
  /// Needs routed experts.
  bool routes() const { return top_k != 0; }
  /// Sets all of a model's routing and its losses, whatever they were before; sizes stay as they are, except K where
  /// the method fixes it and the experts of a dense model.
  void apply(ModelConfig& model, BalanceConfig& balance) const;
};

/// In the order of docs/routing.md.
std::span<const Method> methods();

/// Throws UsageError with all names where there is none of this one.
const Method& find_method(std::string_view name);

/// A model's routing in a line: K of E, and every choice that is not the default.
std::string routing_text(const ModelConfig& config);

/// The losses that a model is trained with unless a run file says otherwise.
BalanceConfig default_balance(const ModelConfig& config);

/// Throws Error naming the key of [balance] that the model's routing does not have, or that does not fit its sizes.
void validate(const BalanceConfig& balance, const ModelConfig& config);

}  // namespace moe
