#include "infer/sequence.h"

#include <algorithm>

namespace moe {

Limits limits_of(const Prompt& prompt, const GenerationOptions& options, const ModelConfig& config) {
  const int64_t room = config.max_position_embeddings - static_cast<int64_t>(prompt.ids.size());
  if (room < options.max_new_tokens) return {room, StopReason::max_positions};
  return {options.max_new_tokens, StopReason::max_new_tokens};
}

Sequence::Sequence(const Tokenizer& tokenizer, const ModelConfig& config, const Prompt& prompt,
                   const GenerationOptions& options)
    : ids_(prompt.ids),
      number_(prompt.sequence),
      limits_(limits_of(prompt, options, config)),
      end_ids_(options.end_ids.begin(), options.end_ids.end()),
      decoder_(tokenizer),
      stop_(options.stop) {
  end_ids_.insert(end_ids_.end(), {tokenizer.eos(), config.eos_token_id});
}

std::string Sequence::extend(Sampler& sampler, std::span<const float> logits) {
  const int32_t id = sampler.sample(logits, ids_, number_, ids_.size());
  ids_.push_back(id);
  result_.ids.push_back(id);
  std::string text;
  if (std::find(end_ids_.begin(), end_ids_.end(), id) != end_ids_.end()) {
    end(StopReason::end_of_sequence, text);
  } else {
    text = stop_.push(decoder_.push(id));
    if (stop_.stopped()) {
      end(StopReason::stop_string, text);
    } else if (static_cast<int64_t>(result_.ids.size()) >= limits_.new_tokens) {
      end(limits_.reason, text);
    }
  }
  result_.text += text;
  return text;
}

// The rest in the decoder is the start of a character that will not be finished, so it is dropped.
void Sequence::end(StopReason reason, std::string& text) {
  text += stop_.flush();
  result_.reason = reason;
  ended_ = true;
}

}  // namespace moe
