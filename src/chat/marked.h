#pragma once
/// A conversation as the tokens that training reads, with marks for those that it learns: the answers, each with the
/// token that ends it. Marks follow from places in the rendered text, never from a search for words. So a special token
/// whose text is part of what an answer says does not end the answer.
///
/// A text is cut before and after each answer, and the parts are tokenised one by one, because a prompt is tokenised
/// without its answer when the model is used. The answer is what the template adds to the open prompt ("...
/// Assistant:"), or, if the template has {% generation %} blocks, what these blocks write.

#include <atomic>
#include <mutex>
#include <optional>
#include <set>
#include <vector>

#include "chat/conversation_formats.h"
#include "chat/format.h"

namespace moe {

enum class LearnedAnswers { every, last };

struct MarkedChat {
  std::vector<int32_t> ids;
  std::vector<uint8_t> marks;  ///< for each id: 1 if it is learned
  int64_t text_bytes = 0;      ///< of the rendered text
  int64_t learned_bytes = 0;   ///< of the text of learned tokens, without special ones
};

struct MarkingOptions {
  LearnedAnswers answers = LearnedAnswers::every;
  /// The most tokens of a conversation; 0: no limit. A longer one loses its last turns.
  int64_t max_tokens = 0;
};

/// Any number of threads may use it at once. It counts what it has done.
class ChatMarker {
 public:
  /// `format` and `tokenizer` must outlive it.
  ChatMarker(const ChatFormat& format, const Tokenizer& tokenizer, MarkingOptions options)
      : format_(format), tokenizer_(tokenizer), options_(options) {}

  /// Nothing if even the first answer does not fit, or no answer that fits is learned. An error, which calls the
  /// conversation `where`, if the template refuses it or does not write a conversation from its beginning on.
  std::optional<MarkedChat> mark(const TrainingConversation& conversation, const std::string& where) const;

  int64_t cut() const { return cut_; }            ///< conversations that lost turns
  int64_t left_out() const { return left_out_; }  ///< conversations without a learned answer that fits
  /// Answers that got the tokenizer's EOS, because the template puts no special token after them.
  int64_t without_end() const { return without_end_; }
  /// The tokens that end learned answers, ascending.
  std::vector<int32_t> ends() const;
  /// Whether the template puts a special token after answers, as a small conversation shows. True if it refuses that
  /// one.
  bool template_ends_answers() const;

 private:
  enum class End { nothing, of_template, added };
  /// A part of the rendered text: an answer, or what is between answers.
  struct Part {
    std::string text;
    bool answer = false;
    bool learned = false;
    size_t said = 0;  ///< of an answer: bytes of the text up to the end of what the message says
    std::vector<int32_t> ids = {};
    size_t end = 0;  ///< of an answer: the number of its ids up to the token that ends it
    End ended = End::nothing;
    bool has_text = true;  ///< of an answer: its message says something
  };
  std::vector<Part> parts_of(const TrainingConversation& conversation, const std::string& where) const;
  size_t said_until(const std::vector<ChatMessage>& messages, size_t block, std::string_view answer) const;
  void encode(std::vector<Part>& parts) const;
  void require_text(const Part& answer, const std::string& where) const;
  void find_end(Part& answer, Part* next) const;

  const ChatFormat& format_;
  const Tokenizer& tokenizer_;
  MarkingOptions options_;
  mutable std::atomic<int64_t> cut_ = 0, left_out_ = 0, without_end_ = 0;
  mutable std::mutex ends_mutex_;
  mutable std::set<int32_t> ends_;
};

}  // namespace moe
