#include "infer/conversation.h"

#include <algorithm>
#include <array>

#include "base/clock.h"
#include "base/error.h"
#include "base/units.h"
#include "infer/generate.h"
#include "infer/prompt_lookup.h"
#include "infer/sampler.h"
#include "infer/sequence.h"

namespace moe {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";

std::string_view without_first_blanks(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
  return text;
}

/// Passes on what follows the first blanks.
class FirstBlanks {
 public:
  std::string_view push(std::string_view text) {
    if (!over_) text = without_first_blanks(text);
    over_ = over_ || !text.empty();
    return text;
  }

 private:
  bool over_ = false;
};

size_t common_prefix(std::string_view a, std::string_view b) {
  return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

/// The messages are as they were if the scope is left by an exception.
class Unchanged {
 public:
  explicit Unchanged(std::vector<ChatMessage>& messages) : messages_(messages), before_(messages) {}
  ~Unchanged() {
    if (!done_) messages_ = std::move(before_);
  }
  Unchanged(const Unchanged&) = delete;
  Unchanged& operator=(const Unchanged&) = delete;
  void done() { done_ = true; }

 private:
  std::vector<ChatMessage>& messages_;
  std::vector<ChatMessage> before_;
  bool done_ = false;
};

AnswerEnd end_of(StopReason reason, bool model_stopped, bool context_full) {
  switch (reason) {
    case StopReason::end_of_sequence:
      return AnswerEnd::by_model;
    case StopReason::stop_string:
      return model_stopped ? AnswerEnd::by_model : AnswerEnd::stop_string;
    case StopReason::max_new_tokens:
      return context_full ? AnswerEnd::context_full : AnswerEnd::most_tokens;
    case StopReason::max_positions:
      return AnswerEnd::context_full;
  }
  return AnswerEnd::by_model;
}

}  // namespace

Conversation::Conversation(const ChatFormat& format, const Tokenizer& tokenizer, ContextCache& cache,
                           GenerationOptions options)
    : format_(format),
      tokenizer_(tokenizer),
      cache_(cache),
      options_(std::move(options)),
      allowed_(ids_with_token(tokenizer, cache.config().vocab_size)) {
  check_generates(cache.config());
}

void Conversation::set_messages(std::vector<ChatMessage> messages) {
  messages_ = std::move(messages);
  left_ = 0;
  draws_ = 0;
  used_.clear();
}

std::optional<std::string> Conversation::system() const {
  if (messages_.empty() || messages_.front().role != "system") return std::nullopt;
  return messages_.front().content;
}

void Conversation::set_system(const std::optional<std::string>& text) {
  if (system()) messages_.erase(messages_.begin());
  if (text) messages_.insert(messages_.begin(), {.role = "system", .content = *text});
}

std::optional<size_t> Conversation::last_question() const {
  for (size_t i = messages_.size(); i-- > 0;) {
    if (messages_[i].role == "user") return i;
  }
  return std::nullopt;
}

bool Conversation::undo() {
  const auto question = last_question();
  if (!question) return false;
  messages_.resize(*question);
  draws_ = 0;
  used_.clear();
  if (left_ >= static_cast<int64_t>(messages_.size()) - (system() ? 1 : 0)) left_ = 0;
  return true;
}

std::vector<ChatMessage> Conversation::visible(int64_t left) const {
  std::vector<ChatMessage> messages = messages_;
  const auto begin = messages.begin() + (system() ? 1 : 0);
  messages.erase(begin, begin + left);
  return messages;
}

/// `left` after one more turn has left: up to the next question. Nothing if only the last question would remain.
std::optional<int64_t> Conversation::without_oldest(int64_t left) const {
  const int64_t first = system() ? 1 : 0;
  for (auto i = static_cast<size_t>(first + left + 1); i < messages_.size(); ++i) {
    if (messages_[i].role == "user") return static_cast<int64_t>(i) - first;
  }
  return std::nullopt;
}

/// The prompt, with as many of the oldest turns left out as needed. Room for an answer is wanted, but the last question
/// stays even without.
Conversation::Fitted Conversation::fit() const {
  const int64_t most = cache_.most_tokens();
  const int64_t wanted = std::min(options_.max_new_tokens, std::max<int64_t>(most / 4, 1));
  for (int64_t left = left_;;) {
    Fitted fitted{.text = format_.prompt(visible(left)), .ids = {}, .left = left};
    fitted.ids = format_.encode(fitted.text);
    const auto tokens = static_cast<int64_t>(fitted.ids.size());
    if (tokens + wanted <= most) return fitted;
    if (const auto shorter = without_oldest(left)) {
      left = *shorter;
      continue;
    }
    if (tokens < most) return fitted;
    fail("the message has {}{}, but the context has {} in all; shorten it", counted(tokens, "token"),
         system() ? " with the system message" : "", most);
  }
}

/// The content of the answer's message: of the forms that the model's text can have, the one that the template writes
/// most like the model did. So the next prompt begins as this one, and the cache holds.
std::string Conversation::content_of(const std::string& prompt, const std::string& written) const {
  const std::string whole = prompt + written;
  std::string best;
  size_t longest = 0;
  for (const std::string_view form : std::array<std::string_view, 2>{without_first_blanks(written), written}) {
    std::vector<ChatMessage> messages = visible(left_);
    messages.push_back({.role = "assistant", .content = std::string(form)});
    const size_t common = common_prefix(format_.transcript(messages).text, whole);
    if (common <= longest && longest > 0) continue;
    longest = common;
    best = form;
  }
  return best;
}

void Conversation::count_experts(int64_t first_pass, int64_t passes) {
  const ModelConfig& config = cache_.config();
  const auto experts = cache_.chosen(first_pass, first_pass + passes);
  used_.clear();
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    if (!config.is_moe_layer(layer)) continue;
    used_.push_back({.layer = layer,
                     .chosen = std::vector<int64_t>(static_cast<size_t>(config.n_routed_experts), 0),
                     .choices = 0});
  }
  if (used_.empty()) return;
  const size_t slots = experts.size() / static_cast<size_t>(passes) / used_.size();
  for (size_t i = 0; i < experts.size(); ++i) {
    if (experts[i] < 0) continue;
    LayerUse& use = used_[i / slots % used_.size()];
    ++use.chosen[static_cast<size_t>(experts[i])];
    ++use.choices;
  }
}

/// The logits after the text so far, of a pass for each token, or for several that were guessed (prompt lookup).
class Conversation::Rows {
 public:
  Rows(ContextCache& cache, std::vector<float> first, int64_t most_guesses)
      : cache_(cache), logits_(std::move(first)), most_guesses_(most_guesses) {}

  std::span<const float> row() const {
    const auto width = static_cast<size_t>(cache_.config().vocab_size);
    return std::span(logits_).subspan(row_ * width, width);
  }
  /// After a token: the next row, of this pass if the token was guessed, else of another one. `left`: the tokens that
  /// may come after the next one.
  void go_on(const std::vector<int32_t>& ids, int64_t left) {
    if (row_ < guesses_.size() && guesses_[row_] == ids.back()) {
      ++row_, ++accepted_;
      return;
    }
    count();
    const auto known = static_cast<int64_t>(ids.size()) - 1;
    cache_.keep_first(known);
    guesses_.clear();
    if (most_guesses_ > 0 && gain_.wants_draft()) guesses_ = look_up_draft(ids, std::min(most_guesses_, left));
    std::vector<int32_t> next{ids.back()};
    next.insert(next.end(), guesses_.begin(), guesses_.end());
    drafted_ += static_cast<int64_t>(guesses_.size());
    const double started = steady_seconds();
    logits_ = cache_.logits_after_each(next);
    seconds_ = steady_seconds() - started;
    row_ = 0;
  }
  /// At the end: drops guesses that were wrong, and tells what guessing gave.
  void finish(int64_t tokens, Answer& answer) {
    count();
    cache_.keep_first(tokens);
    answer.drafted_tokens = drafted_;
    answer.accepted_tokens = accepted_;
    answer.saved_seconds = gain_.saved_seconds();
  }

 private:
  void count() {
    if (seconds_ > 0) gain_.add(seconds_, static_cast<int64_t>(row_) + 1, !guesses_.empty());
    seconds_ = 0;
  }

  ContextCache& cache_;
  std::vector<float> logits_;
  int64_t most_guesses_;
  std::vector<int32_t> guesses_ = {};
  size_t row_ = 0;
  double seconds_ = 0;  // of the pass; 0: it was counted, or was the prompt's
  int64_t drafted_ = 0, accepted_ = 0;
  DraftGain gain_ = {};
};

Answer Conversation::answer(const AnswerEvents& events) {
  validate(options_);
  const Fitted fitted = fit();
  Answer answer{.text = "", .left = fitted.left - left_, .prompt_tokens = static_cast<int64_t>(fitted.ids.size())};
  GenerationOptions options = options_;
  const int64_t room = cache_.most_tokens() - answer.prompt_tokens;
  options.max_new_tokens = std::min(options_.max_new_tokens, room);
  options.stop.insert(options.stop.end(), format_.stop().begin(), format_.stop().end());
  Sampler sampler(options.sampling, allowed_);
  const Prompt prompt{.ids = fitted.ids, .sequence = draws_};
  Sequence sequence(&tokenizer_, cache_.config(), prompt, options);
  if (events.prompt) events.prompt(fitted.text, fitted.ids);

  const auto stopped = [&] { return events.stop && events.stop(); };
  const double started = steady_seconds();
  std::vector<float> logits = cache_.logits_after(fitted.ids, [&](int64_t done, int64_t total) {
    if (events.reading) events.reading(done, total);
    return !stopped();
  });
  const double read = steady_seconds();
  answer.prompt_seconds = read - started;
  answer.reused_tokens = cache_.reused();
  if (logits.empty()) {
    answer.end = AnswerEnd::interrupted;
    answer.kept = false;
    return answer;
  }
  left_ = fitted.left;
  FirstBlanks blanks;
  bool interrupted = false;
  std::string written;
  Rows rows(cache_, std::move(logits), options.prompt_lookup);
  for (;;) {
    const std::string text = sequence.extend(sampler, rows.row());
    written += text;
    ++answer.new_tokens;
    if (const std::string_view shown = blanks.push(text); events.text && !shown.empty()) events.text(shown);
    if (sequence.ended()) break;
    if ((interrupted = stopped())) break;
    rows.go_on(sequence.ids(), options.max_new_tokens - answer.new_tokens - 1);
  }
  rows.finish(static_cast<int64_t>(sequence.ids().size()) - 1, answer);
  answer.seconds = steady_seconds() - read;
  const bool by_format = options_.stop.empty() && !format_.stop().empty();
  answer.end =
      interrupted ? AnswerEnd::interrupted : end_of(sequence.reason(), by_format, room <= options_.max_new_tokens);
  answer.text = content_of(fitted.text, written);
  messages_.push_back({.role = "assistant", .content = answer.text});
  count_experts(answer.prompt_tokens - 1, answer.new_tokens);
  return answer;
}

Answer Conversation::ask(const std::string& question, const AnswerEvents& events) {
  Unchanged unchanged(messages_);
  const uint64_t before = draws_;
  messages_.push_back({.role = "user", .content = question});
  draws_ = 0;
  try {
    Answer result = answer(events);
    if (result.kept) {
      unchanged.done();
    } else {
      draws_ = before;
    }
    return result;
  } catch (...) {
    draws_ = before;
    throw;
  }
}

Answer Conversation::answer_again(bool other_draws, const AnswerEvents& events) {
  const auto question = last_question();
  if (!question) fail("there is no question yet that could be answered again; ask one");
  Unchanged unchanged(messages_);
  messages_.resize(*question + 1);
  if (other_draws) ++draws_;
  Answer result = answer(events);
  if (result.kept) unchanged.done();
  return result;
}

}  // namespace moe
