#include "cli/chat_session.h"

#include <algorithm>
#include <cmath>

#include "base/activity.h"
#include "base/error.h"
#include "base/log.h"
#include "base/output.h"
#include "base/units.h"

namespace moe {
namespace {

double rate(int64_t tokens, double seconds) { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0.0; }

/// Prompts of fewer tokens are read at once.
constexpr int64_t kLongPrompt = 256;

}  // namespace

void ChatSession::remark(const std::string& sentence) const {
  if (!output_.quiet) log_info("({})", sentence);
}

bool ChatSession::run(ChatInput& input) {
  bool all_done = true;
  while (!ended_) {
    const auto line = input.next();
    if (!line) break;
    try {
      take(*line);
    } catch (const Error& error) {
      // The chat ends if its output is lost, or if the model cannot compute any more.
      if (output_failed() || !conversation_.engine().usable()) throw;
      clear_status();
      log_info("error: {}", error.what());
      all_done = false;
    }
  }
  return all_done;
}

/// A line that begins with one slash is a command, with two a text that begins with a slash.
void ChatSession::take(const std::string& line) {
  if (line.find_first_not_of(" \t\r\n") == std::string::npos) return;
  if (line.starts_with("//")) {
    answer([&](const AnswerEvents& events) { return conversation_.ask(line.substr(1), events); });
  } else if (line.starts_with('/')) {
    run_chat_command(*this, line);
    flush_output();
  } else {
    answer([&](const AnswerEvents& events) { return conversation_.ask(line, events); });
  }
}

void ChatSession::answer(const std::function<Answer(const AnswerEvents&)>& produce) {
  bool line_is_open = false;
  AnswerEvents events;
  events.text = [&](std::string_view text) {
    clear_status();
    print_text(text);
    flush_output();
    line_is_open = !text.ends_with('\n');
  };
  events.stop = interrupted_;
  if (output_.show_prompt) {
    events.prompt = [](const std::string& text, const std::vector<int32_t>& ids) {
      log_info("--- prompt: {} ---\n{}\n--- ids ---\n{}\n---", counted(ids.size(), "token"), text, fmt::join(ids, " "));
    };
  }
  if (output_.progress) {
    events.reading = [](int64_t done, int64_t total) {
      if (total >= kLongPrompt) show_status(fmt::format("reading the prompt: {} of {} tokens", done, total));
    };
  }
  const auto end_line = [&] {
    clear_status();
    if (line_is_open) write_output("\n");
    flush_output();
  };
  try {
    last_ = produce(events);
  } catch (...) {
    if (!output_failed()) end_line();
    throw;
  }
  line_is_open = line_is_open || (last_.kept && last_.text.empty());  // an empty answer is an empty line
  end_line();
  report(last_);
}

void ChatSession::report(const Answer& answer) {
  if (!answer.kept) return remark("stopped before the first token; nothing has changed");
  ++answers_;
  tokens_ += answer.new_tokens;
  if (answer.left > 0) {
    remark(fmt::format("the context was full: the {} left it; /save still writes them",
                       counted(answer.left, "oldest message")));
  }
  switch (answer.end) {
    case AnswerEnd::by_model:
    case AnswerEnd::stop_string:
      break;
    case AnswerEnd::most_tokens:
      remark(fmt::format("cut off after {}; /set max-new-tokens N allows more", counted(answer.new_tokens, "token")));
      break;
    case AnswerEnd::context_full:
      remark(fmt::format("cut off: the context of {} is full", counted(conversation_.engine().most_tokens(), "token")));
      break;
    case AnswerEnd::interrupted:
      remark("stopped; the answer so far stays in the conversation");
      break;
  }
}

void ChatSession::answer_again(bool other_draws) {
  answer([&](const AnswerEvents& events) { return conversation_.answer_again(other_draws, events); });
}

void ChatSession::route(const RoutingSwitches& switches) {
  ChatEngine& engine = conversation_.engine();
  const size_t before = engine.ids().size();
  engine.set_switches(switches);
  if (before > 0) remark(fmt::format("{} of {} cached tokens hold under this routing", engine.ids().size(), before));
  if (conversation_.has_question()) answer_again(false);
}

std::string ChatSession::statistics() const {
  const ChatEngine& engine = conversation_.engine();
  std::string text;
  if (answers_ > 0) {
    text += fmt::format("prompt   {}, {} from the cache; {:.1f} tokens/s\n", counted(last_.prompt_tokens, "token"),
                        last_.reused_tokens, rate(last_.prompt_tokens - last_.reused_tokens, last_.prompt_seconds));
    text += fmt::format("answer   {}; {:.1f} tokens/s\n", counted(last_.new_tokens, "token"),
                        rate(last_.new_tokens - 1, last_.seconds));
    if (last_.drafted_tokens > 0) {
      text +=
          fmt::format("lookup   {} of {} guessed tokens were right; {:.2f} s {} than without\n", last_.accepted_tokens,
                      last_.drafted_tokens, std::abs(last_.saved_seconds), last_.saved_seconds < 0 ? "more" : "less");
    }
  }
  text += fmt::format("context  {} of {} tokens used, {}\n", engine.ids().size(), engine.most_tokens(),
                      counted(conversation_.messages().size(), "message"));
  text += fmt::format("chat     {}, {}\n", counted(answers_, "answer"), counted(tokens_, "token"));
  return text;
}

}  // namespace moe
