#include "infer/sequence.h"

#include <algorithm>

namespace moe {

Limits limits_of(const Prompt& prompt, const GenerationOptions& options, const ModelConfig& config) {
  const int64_t positions = config.max_position_embeddings;
  const int64_t most = options.context > 0 ? std::min(options.context, positions) : positions;
  const int64_t room = most - static_cast<int64_t>(prompt.ids.size());
  if (room < options.max_new_tokens) return {room, StopReason::max_positions};
  return {options.max_new_tokens, StopReason::max_new_tokens};
}

Sequence::Sequence(const Tokenizer* tokenizer, const ModelConfig& config, const Prompt& prompt,
                   const GenerationOptions& options)
    : ids_(prompt.ids),
      number_(prompt.sequence),
      limits_(limits_of(prompt, options, config)),
      end_ids_(options.end_ids.begin(), options.end_ids.end()),
      stop_(options.stop) {
  end_ids_.push_back(config.eos_token_id);
  if (tokenizer == nullptr) return;
  end_ids_.push_back(tokenizer->eos());
  decoder_.emplace(*tokenizer);
}

std::string Sequence::extend(int32_t id) {
  ids_.push_back(id);
  ++new_tokens_;
  std::string text;
  if (std::find(end_ids_.begin(), end_ids_.end(), id) != end_ids_.end()) {
    end(StopReason::end_of_sequence, text);
  } else {
    if (decoder_) text = stop_.push(decoder_->push(id));
    if (stop_.stopped()) {
      end(StopReason::stop_string, text);
    } else if (new_tokens_ >= limits_.new_tokens) {
      end(limits_.reason, text);
    }
  }
  return text;
}

// The rest in the decoder is the start of a character that will not be finished, so it is dropped.
void Sequence::end(StopReason reason, std::string& text) {
  text += stop_.flush();
  reason_ = reason;
  ended_ = true;
}

}  // namespace moe
