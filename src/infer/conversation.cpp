#include "infer/conversation.h"

#include <algorithm>
#include <array>

#include "base/clock.h"
#include "base/error.h"
#include "base/units.h"

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

/// The messages and the choice of draws are as they were unless it is done.
class Unchanged {
 public:
  Unchanged(std::vector<ChatMessage>& messages, uint64_t& draws)
      : messages_(messages), draws_(draws), messages_before_(messages), draws_before_(draws) {}
  ~Unchanged() {
    if (done_) return;
    messages_ = std::move(messages_before_);
    draws_ = draws_before_;
  }
  Unchanged(const Unchanged&) = delete;
  Unchanged& operator=(const Unchanged&) = delete;
  void done() { done_ = true; }

 private:
  std::vector<ChatMessage>& messages_;
  uint64_t& draws_;
  std::vector<ChatMessage> messages_before_;
  uint64_t draws_before_;
  bool done_ = false;
};

/// Calls a function at the end of a scope.
class AtEnd {
 public:
  explicit AtEnd(std::function<void()> work) : work_(std::move(work)) {}
  ~AtEnd() { work_(); }
  AtEnd(const AtEnd&) = delete;
  AtEnd& operator=(const AtEnd&) = delete;

 private:
  std::function<void()> work_;
};

/// The experts of an answer's passes.
class ExpertCounts {
 public:
  explicit ExpertCounts(const ModelConfig& config) {
    for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
      if (!config.is_moe_layer(layer)) continue;
      layers_.push_back({.layer = layer,
                         .chosen = std::vector<int64_t>(static_cast<size_t>(config.n_routed_experts), 0),
                         .choices = 0});
    }
  }
  /// Those of one pass, [MoE layers, choices]; -1: none.
  void add(const std::vector<int32_t>& experts) {
    for (size_t i = 0; i < experts.size(); ++i) {
      if (experts[i] < 0) continue;
      LayerUse& use = layers_[i * layers_.size() / experts.size()];
      ++use.chosen[static_cast<size_t>(experts[i])];
      ++use.choices;
    }
  }
  const std::vector<LayerUse>& layers() const { return layers_; }

 private:
  std::vector<LayerUse> layers_;
};

int64_t count_of(const std::vector<int32_t>& ids) { return static_cast<int64_t>(ids.size()); }

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
  const int64_t most = engine_.most_tokens();
  const int64_t wanted = std::min(options_.max_new_tokens, std::max<int64_t>(most / 4, 1));
  for (int64_t left = left_;;) {
    Fitted fitted{.text = format_.prompt(visible(left)), .ids = {}, .left = left};
    fitted.ids = format_.encode(fitted.text);
    const int64_t tokens = count_of(fitted.ids);
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

Request Conversation::request_for(const Fitted& fitted) const {
  Request request{.prompt = {.ids = fitted.ids, .sequence = draws_}, .options = options_};
  GenerationOptions& options = request.options;
  options.max_new_tokens = std::min(options_.max_new_tokens, engine_.most_tokens() - count_of(fitted.ids));
  options.stop.insert(options.stop.end(), format_.stop().begin(), format_.stop().end());
  return request;
}

Answer Conversation::answer(const AnswerEvents& events) {
  validate(options_);
  const Fitted fitted = fit();
  Answer answer{.text = "", .left = fitted.left - left_, .prompt_tokens = count_of(fitted.ids)};
  if (events.prompt) events.prompt(fitted.text, fitted.ids);
  const EngineCounts before = engine_.counts();
  const double started = steady_seconds(), saved_before = engine_.saved_seconds();
  double read = started;
  engine_.begin(request_for(fitted));
  const AtEnd end([&] { engine_.end(); });

  const auto stopped = [&] { return events.stop && events.stop(); };
  FirstBlanks blanks;
  ExpertCounts used(engine_.config());
  StopReason reason = StopReason::max_new_tokens;
  bool ended = false, interrupted = false;
  std::string written;
  while (!ended && !interrupted) {
    if (answer.new_tokens == 0) {
      if (events.reading) events.reading(engine_.read(), answer.prompt_tokens - engine_.reused());
      if (stopped()) {
        answer.end = AnswerEnd::interrupted;
        answer.kept = false;
        return answer;
      }
    }
    for (const Event& event : engine_.step()) {
      if (!event.error.empty()) fail("{}", event.error);
      if (!event.id) continue;  // a piece of the prompt
      if (answer.new_tokens++ == 0) read = steady_seconds();
      used.add(event.experts);
      written += event.text;
      if (const std::string_view shown = blanks.push(event.text); events.text && !shown.empty()) events.text(shown);
      reason = event.reason;
      if ((ended = event.ended) || (interrupted = stopped())) break;
    }
  }
  left_ = fitted.left;
  answer.prompt_seconds = read - started;
  answer.seconds = steady_seconds() - read;
  answer.reused_tokens = engine_.reused();
  const EngineCounts after = engine_.counts();
  answer.drafted_tokens = after.drafted - before.drafted;
  answer.accepted_tokens = after.accepted - before.accepted;
  answer.saved_seconds = engine_.saved_seconds() - saved_before;
  const bool by_format = options_.stop.empty() && !format_.stop().empty();
  const bool context_full = engine_.most_tokens() - answer.prompt_tokens <= options_.max_new_tokens;
  answer.end = interrupted ? AnswerEnd::interrupted : end_of(reason, by_format, context_full);
  answer.text = content_of(fitted.text, written);
  messages_.push_back({.role = "assistant", .content = answer.text});
  used_ = used.layers();
  return answer;
}

Answer Conversation::ask(const std::string& question, const AnswerEvents& events) {
  Unchanged unchanged(messages_, draws_);
  messages_.push_back({.role = "user", .content = question});
  draws_ = 0;
  Answer result = answer(events);
  if (result.kept) unchanged.done();
  return result;
}

Answer Conversation::answer_again(bool other_draws, const AnswerEvents& events) {
  const auto question = last_question();
  if (!question) fail("there is no question yet that could be answered again; ask one");
  Unchanged unchanged(messages_, draws_);
  messages_.resize(*question + 1);
  if (other_draws) ++draws_;
  Answer result = answer(events);
  if (result.kept) unchanged.done();
  return result;
}

}  // namespace moe
