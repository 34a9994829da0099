#pragma once
/// The cache of one conversation: the tokens that went through the model, and what is kept of them.

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "infer/cached_model.h"
#include "infer/loaded_model.h"

namespace moe {

/// Gives the logits after any sequence of tokens, and computes only those that its cache does not hold. On the CPU the
/// logits have the bits of a computation without a cache. Use it on one thread at a time.
class ContextCache {
 public:
  /// Called before each pass with the number of tokens that are computed and that will be; false stops.
  using GoOn = std::function<bool(int64_t done, int64_t total)>;

  /// `loaded` must outlive the cache, and only the cache may change its switches. `switches` are those that it has now.
  /// `most_tokens`: the length of the longest sequence.
  /// `cache`: the type of the cache; absent: that of the activations.
  ContextCache(LoadedModel& loaded, Device& device, Backend& backend, int64_t most_tokens,
               RoutingSwitches switches = {}, std::optional<DType> cache = {});

  /// Bytes that a cache of `most_tokens` tokens allocates. Nothing is allocated.
  static int64_t bytes(const ModelConfig& config, const PassTypes& types, int64_t most_tokens);

  /// The logits [V] after `ids`, which must have a token and no more than most_tokens(). Afterwards the cache holds all
  /// of them. Empty if `go_on` stopped it; what was computed by then is kept.
  std::vector<float> logits_after(std::span<const int32_t> ids, const GoOn& go_on = {});
  /// The logits after one more token.
  std::vector<float> logits_after_next(int32_t id) { return logits_after_each({&id, 1}); }
  /// The logits [n, V] after each of some more tokens, at most kMostPromptLookup + 1 and not more than fit.
  std::vector<float> logits_after_each(std::span<const int32_t> ids);
  /// Forgets all but the first so many tokens.
  void keep_first(int64_t tokens);

  /// Of the last logits_after(): tokens that were in the cache.
  int64_t reused() const { return reused_; }
  int64_t most_tokens() const { return model_.max_length(); }
  const std::vector<int32_t>& ids() const { return ids_; }
  const ModelConfig& config() const { return loaded_.config(); }

  /// The experts that the cached tokens from `begin` up to, not including, `end` chose: [tokens, MoE layers, S]; -1:
  /// none.
  std::span<const int32_t> chosen(int64_t begin, int64_t end) const;

  const RoutingSwitches& switches() const { return switches_; }
  /// Changes the routing, and keeps of the cache what it holds under the new one (infer/routing_change.h). An error
  /// changes nothing.
  void set_switches(const RoutingSwitches& switches);

 private:
  void forget_from(int64_t length);
  void remember(std::span<const int32_t> ids);
  int64_t ids_per_token() const;
  ModelOnDevice runtime() const { return {loaded_.model(), loaded_.dtype(), device_, backend_, cache_}; }

  LoadedModel& loaded_;
  Device& device_;
  Backend& backend_;
  RoutingSwitches switches_;
  std::optional<DType> cache_;
  CachedModel model_;
  std::vector<int32_t> ids_;
  std::vector<int32_t> chosen_;  // [tokens, MoE layers, S]
  int64_t reused_ = 0;
};

}  // namespace moe
