#include "infer/context_cache.h"

#include <algorithm>

#include "base/error.h"
#include "infer/generation.h"
#include "infer/routing_change.h"

namespace moe {
namespace {

constexpr int64_t kTokensPerPass = 512;  // limits the memory of activations, and the time until a stop is noticed

}  // namespace

ContextCache::ContextCache(LoadedModel& loaded, Device& device, Backend& backend, int64_t most_tokens,
                           RoutingSwitches switches, std::optional<DType> cache)
    : loaded_(loaded),
      device_(device),
      backend_(backend),
      switches_(std::move(switches)),
      cache_(cache),
      model_(runtime(), 1, most_tokens, std::min(most_tokens, kTokensPerPass), ChosenIds::kept,
             std::min(most_tokens, kMostPromptLookup + 1)) {}

int64_t ContextCache::bytes(const ModelConfig& config, const PassTypes& types, int64_t most_tokens) {
  return CachedModel::bytes(config, types, 1, most_tokens, std::min(most_tokens, kTokensPerPass));
}

int64_t ContextCache::ids_per_token() const {
  const ModelConfig& config = loaded_.config();
  return config.moe_layers() == 0 ? 0 : config.moe_layers() * config.router().slots();
}

void ContextCache::forget_from(int64_t length) {
  model_.truncate(0, length);
  ids_.resize(static_cast<size_t>(length));
  chosen_.resize(static_cast<size_t>(length * ids_per_token()));
}

/// The tokens of the last pass. The model gives their experts layer by layer.
void ContextCache::remember(std::span<const int32_t> ids) {
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  if (ids_per_token() == 0) return;
  const std::vector<int32_t>& by_layer = model_.chosen_ids();
  const auto layers = static_cast<size_t>(loaded_.config().moe_layers());
  const size_t slots = static_cast<size_t>(ids_per_token()) / layers;
  for (size_t token = 0; token < ids.size(); ++token) {
    for (size_t layer = 0; layer < layers; ++layer) {
      const auto from = by_layer.begin() + static_cast<int64_t>((layer * ids.size() + token) * slots);
      chosen_.insert(chosen_.end(), from, from + static_cast<int64_t>(slots));
    }
  }
}

std::vector<float> ContextCache::logits_after(std::span<const int32_t> ids, const GoOn& go_on) {
  MOE_CHECK(!ids.empty() && static_cast<int64_t>(ids.size()) <= most_tokens());
  const auto differs = std::mismatch(ids.begin(), ids.end(), ids_.begin(), ids_.end()).first;
  // Logits are not kept, so the last token is always computed.
  reused_ = std::min<int64_t>(differs - ids.begin(), static_cast<int64_t>(ids.size()) - 1);
  forget_from(reused_);
  const auto rest = ids.subspan(static_cast<size_t>(reused_));
  std::vector<float> logits;
  for (size_t begin = 0; begin < rest.size(); begin += kTokensPerPass) {
    if (go_on && !go_on(static_cast<int64_t>(begin), static_cast<int64_t>(rest.size()))) return {};
    const auto part = rest.subspan(begin, std::min<size_t>(kTokensPerPass, rest.size() - begin));
    logits = model_.append(0, part);
    remember(part);
  }
  return logits;
}

std::vector<float> ContextCache::logits_after_each(std::span<const int32_t> ids) {
  std::vector<float> logits = model_.append_with_logits(0, ids);
  remember(ids);
  return logits;
}

void ContextCache::keep_first(int64_t tokens) { forget_from(std::min(tokens, static_cast<int64_t>(ids_.size()))); }

std::span<const int32_t> ContextCache::chosen(int64_t begin, int64_t end) const {
  const auto width = static_cast<size_t>(ids_per_token());
  return std::span(chosen_).subspan(static_cast<size_t>(begin) * width, static_cast<size_t>(end - begin) * width);
}

void ContextCache::set_switches(const RoutingSwitches& switches) {
  const auto tokens = static_cast<int64_t>(ids_.size());
  const int64_t kept = tokens_that_hold(loaded_.own_config(), switches_, switches, chosen_, tokens);
  const int64_t old_width = ids_per_token();
  loaded_.set_switches(switches);
  try {
    model_.set_model(runtime());
  } catch (...) {
    loaded_.set_switches(switches_);
    model_.set_model(runtime());  // needs no more memory than it has
    throw;
  }
  switches_ = switches;
  model_.truncate(0, kept);
  ids_.resize(static_cast<size_t>(kept));
  // If only the last layer has changed, the number of choices may be another one. What older tokens chose there is
  // gone.
  if (ids_per_token() != old_width) chosen_.assign(static_cast<size_t>(kept * ids_per_token()), -1);
  chosen_.resize(static_cast<size_t>(kept * ids_per_token()));
}

}  // namespace moe
