#pragma once
/// A conversation with a model: messages, their text and tokens, and answers. It knows nothing of terminals.

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "chat/format.h"
#include "infer/chat_engine.h"
#include "infer/generation.h"

namespace moe {

enum class AnswerEnd {
  by_model,      ///< an end token, or the beginning of the next question
  stop_string,   ///< one of GenerationOptions::stop
  most_tokens,   ///< GenerationOptions::max_new_tokens
  context_full,  ///< the context has no further tokens
  interrupted,   ///< AnswerEvents::stop
};

struct Answer {
  std::string text;  ///< as it is in the messages
  AnswerEnd end = AnswerEnd::by_model;
  bool kept = true;  ///< false: it was interrupted before its first token, and the messages are as they were
  int64_t left = 0;  ///< the oldest messages that left the context for this answer
  int64_t prompt_tokens = 0;
  int64_t reused_tokens = 0;  ///< of the prompt: they were in the cache
  int64_t new_tokens = 0;
  int64_t drafted_tokens = 0, accepted_tokens = 0;  ///< guesses of GenerationOptions::prompt_lookup; the right ones
  double saved_seconds = 0;                         ///< by them (DraftGain)
  double prompt_seconds = 0;
  double seconds = 0;  ///< after the prompt; the first token comes from the prompt's pass
};

/// What happens during an answer. Every member may be empty.
struct AnswerEvents {
  std::function<void(const std::string& text, const std::vector<int32_t>& ids)> prompt = {};
  /// Whole characters of the answer. The blanks before its first other character are left out.
  std::function<void(std::string_view)> text = {};
  /// Before each pass over a part of the prompt: tokens that are computed, and those that will be.
  std::function<void(int64_t done, int64_t total)> reading = {};
  /// True ends the answer after the current pass.
  std::function<bool()> stop = {};
};

/// How often the tokens of one MoE layer chose each routed expert.
struct LayerUse {
  int64_t layer = 0;
  std::vector<int64_t> chosen = {};  ///< [E]
  int64_t choices = 0;               ///< their sum
};

/// Use it on one thread at a time.
class Conversation {
 public:
  /// All must outlive the conversation, and nothing else may use the engine meanwhile. options.end_ids are the model's.
  Conversation(const ChatFormat& format, ChatEngine& engine, GenerationOptions options)
      : format_(format), engine_(engine), options_(std::move(options)) {}

  const std::vector<ChatMessage>& messages() const { return messages_; }
  /// Replaces all messages.
  void set_messages(std::vector<ChatMessage> messages);
  /// Sets the system message; nothing: removes it.
  void set_system(const std::optional<std::string>& text);
  std::optional<std::string> system() const;
  /// Removes the last question, with its answer. False if there is none.
  bool undo();

  /// Adds a question and answers it. After an error the messages are as they were.
  Answer ask(const std::string& question, const AnswerEvents& events);
  /// Answers the last question again, in place of its answer, or changes nothing: with `other_draws`, with other random
  /// draws, else with those of the earlier answer. The first answer, and every answer with the same draws, is that of a
  /// new conversation with the same messages, options and routing, bit for bit on the CPU.
  Answer answer_again(bool other_draws, const AnswerEvents& events);
  bool has_question() const { return last_question().has_value(); }

  GenerationOptions& options() { return options_; }
  ChatEngine& engine() { return engine_; }

  /// Of the last answer: for each MoE layer, the experts that were chosen in the passes that gave its tokens, one pass
  /// for each token.
  const std::vector<LayerUse>& experts_used() const { return used_; }

 private:
  struct Fitted {
    std::string text;
    std::vector<int32_t> ids;
    int64_t left;  // as left_
  };

  std::optional<size_t> last_question() const;
  std::vector<ChatMessage> visible(int64_t left) const;
  std::optional<int64_t> without_oldest(int64_t left) const;
  Fitted fit() const;
  Request request_for(const Fitted& fitted) const;
  Answer answer(const AnswerEvents& events);
  std::string content_of(const std::string& prompt, const std::string& written) const;

  const ChatFormat& format_;
  ChatEngine& engine_;
  GenerationOptions options_;
  std::vector<ChatMessage> messages_;
  int64_t left_ = 0;    // so many messages after the system message have left the context
  uint64_t draws_ = 0;  // selects the draws of the last question's answer
  std::vector<LayerUse> used_;
};

}  // namespace moe
