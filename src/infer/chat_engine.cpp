#include "infer/chat_engine.h"

#include <algorithm>

#include "base/error.h"
#include "infer/leader.h"
#include "infer/routing_change.h"

namespace moe {
namespace {

EngineSizes sizes_of_engine(const ChatSizes& sizes, bool on_device) {
  return {.sequences = 1,
          .tokens_per_pass = std::min(sizes.most_tokens, sizes.tokens_per_pass),
          // One more: the page that a prompt takes a copy of, while the prompt needs all others.
          .pages = pages_for(sizes.most_tokens) + 1,
          .longest = sizes.most_tokens,
          .experts = true,
          .on_device = on_device,
          .penalties = true,  // options may change between requests
          .drafts = kMostPromptLookup};
}

}  // namespace

ChatEngine::ChatEngine(LoadedModel& loaded, const Tokenizer* tokenizer, Device& device, Backend& backend,
                       const ChatSizes& sizes, RoutingSwitches switches, std::optional<DType> cache, Leader* leader)
    : loaded_(loaded),
      device_(device),
      backend_(backend),
      sizes_(sizes),
      switches_(std::move(switches)),
      cache_(cache),
      leader_(leader),
      engine_(runtime(), tokenizer, sizes_of_engine(sizes, device.records())) {}

int64_t ChatEngine::bytes(const HeldModel& held, const PassTypes& types, const ChatSizes& sizes, bool on_device) {
  return Engine::bytes(held, types, sizes_of_engine(sizes, on_device));
}

bool ChatEngine::usable() const { return leader_ == nullptr || leader_->usable(); }

int64_t ChatEngine::ids_per_token() const {
  return config().moe_layers() == 0 ? 0 : config().moe_layers() * config().router().slots();
}

void ChatEngine::forget_from(int64_t tokens) {
  ids_.resize(static_cast<size_t>(tokens));
  chosen_.resize(static_cast<size_t>(tokens * ids_per_token()));
}

int64_t ChatEngine::read() const { return counts().prompt_tokens - before_.prompt_tokens; }

void ChatEngine::begin(Request request) {
  MOE_CHECK(!number_);
  request.experts = request.prompt_experts = true;
  const std::vector<int32_t>& ids = request.prompt.ids;
  const auto same = std::mismatch(ids.begin(), ids.end(), ids_.begin(), ids_.end()).first - ids.begin();
  // The last token is always computed, because logits are not kept.
  if (!ids.empty()) forget_from(std::min<int64_t>(same, static_cast<int64_t>(ids.size()) - 1));
  engine_.forget_prefixes(ids_);
  number_ = engine_.admit(request);
  newest_.reset();
  before_ = counts();
  reused_ = static_cast<int64_t>(ids_.size());
  prompt_ = std::move(request.prompt.ids);
}

std::vector<Event> ChatEngine::step() {
  if (!number_) return {};
  const bool first = read() == 0;
  std::vector<Event> events = engine_.step();
  if (first) {
    reused_ = counts().reused_tokens - before_.reused_tokens;
    forget_from(reused_);
  }
  for (const Event& event : events) {
    chosen_.insert(chosen_.end(), event.prompt_experts.begin(), event.prompt_experts.end());
    // Until now the token before this one was not in the cache.
    if (newest_ && event.id) {
      ids_.push_back(*newest_);
      chosen_.insert(chosen_.end(), event.experts.begin(), event.experts.end());
    }
    if (event.id) newest_ = event.id;
    if (event.ended) number_.reset();
  }
  const auto known = static_cast<int64_t>(ids_.size()), computed = reused_ + read();
  if (known < computed) ids_.insert(ids_.end(), prompt_.begin() + known, prompt_.begin() + computed);
  return events;
}

void ChatEngine::end() {
  if (number_) engine_.cancel(*number_);
  number_.reset();
}

std::span<const int32_t> ChatEngine::chosen(int64_t begin, int64_t end) const {
  const auto width = static_cast<size_t>(ids_per_token());
  return std::span(chosen_).subspan(static_cast<size_t>(begin) * width, static_cast<size_t>(end - begin) * width);
}

void ChatEngine::set_switches(const RoutingSwitches& switches) {
  MOE_CHECK(!number_);
  const auto tokens = static_cast<int64_t>(ids_.size());
  const int64_t kept = tokens_that_hold(loaded_.own_config(), switches_, switches, chosen_, tokens);
  const int64_t old_width = ids_per_token();
  engine_.forget_prefixes(ids_);  // afterwards no queued step reads the old model
  loaded_.set_switches(switches);
  if (leader_ != nullptr) leader_->set_switches(switches);
  try {
    engine_.set_model(runtime());
  } catch (...) {
    loaded_.set_switches(switches_);
    if (leader_ != nullptr) leader_->set_switches(switches_);
    engine_.set_model(runtime());  // needs no more memory than it has
    throw;
  }
  switches_ = switches;
  ids_.resize(static_cast<size_t>(kept));
  engine_.forget_prefixes(ids_);
  // If only the last layer has changed, the number of choices may be another one. What older tokens chose there is
  // gone.
  if (ids_per_token() != old_width) chosen_.assign(static_cast<size_t>(kept * ids_per_token()), -1);
  forget_from(kept);
}

}  // namespace moe
