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
  Sequence(const Tokenizer& tokenizer, const ModelConfig& config, const Prompt& prompt,
           const GenerationOptions& options);

  /// Chooses the next token. Returns the text that can be shown now.
  std::string extend(Sampler& sampler, std::span<const float> logits);

  bool ended() const { return ended_; }
  int32_t last_id() const { return ids_.back(); }
  Continuation take_result() { return std::move(result_); }

 private:
  void end(StopReason reason, std::string& text);

  std::vector<int32_t> ids_;
  uint64_t number_;
  Limits limits_;
  std::vector<std::optional<int64_t>> end_ids_;
  StreamingDecoder decoder_;
  StopStrings stop_;
  Continuation result_;
  bool ended_ = false;
};

}  // namespace moe
