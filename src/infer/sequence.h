#pragma once
/// A prompt and what was generated after it.

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "infer/generation.h"
#include "infer/stop_strings.h"
#include "model/config.h"
#include "tokenizer/streaming_decoder.h"

namespace moe {

/// How many tokens a prompt may get.
struct Limits {
  int64_t new_tokens;
  StopReason reason;  // why no more may come
};
Limits limits_of(const Prompt& prompt, const GenerationOptions& options, const ModelConfig& config);

/// One sequence while it grows. Use it on one thread at a time.
class Sequence {
 public:
  /// `tokenizer`, if it is not null, must outlive the sequence. Without one there is no text.
  Sequence(const Tokenizer* tokenizer, const ModelConfig& config, const Prompt& prompt,
           const GenerationOptions& options);

  /// Chooses the next token. Returns the text that can be shown now.
  std::string extend(Sampler& sampler, std::span<const float> logits) { return extend(choose(sampler, logits)); }
  /// The next token; nothing changes.
  int32_t choose(Sampler& sampler, std::span<const float> logits) const {
    return sampler.sample(logits, ids_, number_, ids_.size());
  }
  /// The same for a token that was chosen elsewhere.
  std::string extend(int32_t id);

  bool ended() const { return ended_; }
  /// The prompt's and the chosen ones.
  const std::vector<int32_t>& ids() const { return ids_; }
  /// Why it has ended.
  StopReason reason() const { return reason_; }

 private:
  void end(StopReason reason, std::string& text);

  std::vector<int32_t> ids_;
  uint64_t number_;
  Limits limits_;
  std::vector<std::optional<int64_t>> end_ids_;
  std::optional<StreamingDecoder> decoder_;
  StopStrings stop_;
  int64_t new_tokens_ = 0;
  StopReason reason_ = StopReason::max_new_tokens;
  bool ended_ = false;
};

}  // namespace moe
