#pragma once
/// A chat: messages and commands come in, answers and what the commands say go out.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/chat_input.h"
#include "infer/conversation.h"

namespace moe {

struct ChatOutput {
  bool quiet = false;        ///< without remarks
  bool show_prompt = false;  ///< the text and the ids of every prompt
  bool progress = false;     ///< while a prompt is read
};

/// Use it on one thread at a time.
class ChatSession {
 public:
  /// `interrupted` is asked between passes of the model; true stops an answer.
  ChatSession(Conversation& conversation, ChatOutput output, std::function<bool()> interrupted)
      : conversation_(conversation), output_(output), interrupted_(std::move(interrupted)) {}

  /// Takes input until its end or /exit. A message or command that fails is said, and the chat goes on. The result is
  /// false if one failed.
  bool run(ChatInput& input);

  // For the commands.
  Conversation& conversation() { return conversation_; }
  /// A remark for the person, on standard error.
  void remark(const std::string& sentence) const;
  void answer_again(bool other_draws);
  /// Changes the routing and, if there is an answer, answers again.
  void route(const RoutingSwitches& switches);
  /// What /stats says.
  std::string statistics() const;
  void end() { ended_ = true; }

 private:
  void take(const std::string& line);
  void answer(const std::function<Answer(const AnswerEvents&)>& produce);
  void report(const Answer& answer);

  Conversation& conversation_;
  ChatOutput output_;
  std::function<bool()> interrupted_;
  bool ended_ = false;
  Answer last_;
  int64_t answers_ = 0, tokens_ = 0;
};

/// Runs "/command arguments". A UsageError for a command that does not exist, with the one that was probably meant.
void run_chat_command(ChatSession& session, std::string_view line);

/// "/help", "/system" ...
std::vector<std::string> chat_command_names();

}  // namespace moe
