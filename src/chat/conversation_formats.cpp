#include "chat/conversation_formats.h"

#include <algorithm>
#include <array>

#include "base/error.h"

namespace moe {
namespace {

struct RoleName {
  const char* name;
  const char* role;
};

/// The names of roles in ShareGPT's files, beside the roles themselves.
constexpr std::array kRoleNames = {RoleName{"human", kUser}, RoleName{"gpt", kAssistant},
                                   RoleName{"chatgpt", kAssistant}, RoleName{"bing", kAssistant},
                                   RoleName{"bard", kAssistant}};

std::string role_of(const std::string& name, const std::string& where) {
  if (is_role(name)) return name;
  const auto found =
      std::find_if(kRoleNames.begin(), kRoleNames.end(), [&](const RoleName& known) { return name == known.name; });
  if (found == kRoleNames.end()) {
    fail("{}: the role is {}, expected system, user (human) or assistant (gpt)", where, json_shown(name));
  }
  return found->role;
}

/// Calls of tools are not rendered, so a conversation that has them would be learned without a part.
void refuse_tools(const Json& object, const std::string& where) {
  for (const char* const member : {"tools", "tool_calls", "functions", "function_call"}) {
    const Json* const found = json_find(object, member, where);
    if (found == nullptr || (found->is_structured() && found->empty())) continue;
    fail("{}: it has {}, which are not known here; leave out conversations with tools", where, member);
  }
}

class Reader {
 public:
  explicit Reader(const std::string& where) : where_(where) {}

  void add(const std::string& role, std::string content, bool learned = true) {
    const bool answer = role == kAssistant;
    if (answer && content.empty()) fail("{}: the answer is empty", place());
    if (role == kSystem && !result_.messages.empty()) fail("{}: a system message must be the first one", place());
    result_.messages.push_back({.role = role, .content = std::move(content)});
    result_.learned.push_back(answer && learned);
  }

  /// A message of either naming.
  void add_message(const Json& message) {
    if (!message.is_object()) fail("{}: found {}, expected an object", place(), json_kind(message));
    refuse_tools(message, place());
    const double weight = json_number(message, "weight", place(), 1);
    if (weight != 0 && weight != 1) fail("{}: the weight is {}, expected 0 or 1", place(), weight);
    const bool named_from = message.contains("from") && !message.contains("role");
    const std::string role = role_of(json_string(message, named_from ? "from" : "role", place()), place());
    add(role, named_from ? json_string(message, "value", place()) : message_content(message, place()), weight == 1);
  }

  void add_messages(const Json& list, const char* member) {
    if (!list.is_array()) fail("{}: {} is {}, expected a list of messages", where_, member, json_kind(list));
    for (const Json& message : list) add_message(message);
  }

  void add_system(const Json& object) {
    if (const std::string system = json_string(object, kSystem, where_, ""); !system.empty()) add(kSystem, system);
  }

  /// A text of one role, or messages.
  void add_text_or_messages(const Json& object, const char* member, const char* role) {
    const Json& value = json_member(object, member, where_);
    value.is_array() ? add_messages(value, member) : add(role, json_string(object, member, where_));
  }

  TrainingConversation finish() {
    const auto last = std::find_if(result_.messages.rbegin(), result_.messages.rend(),
                                   [](const ChatMessage& message) { return message.role == kAssistant; });
    const auto kept = static_cast<size_t>(result_.messages.rend() - last);
    if (kept == 0) fail("{}: there is no answer (a message of the role assistant)", where_);
    result_.messages.resize(kept);
    result_.learned.resize(kept);
    return std::move(result_);
  }

 private:
  std::string place() const { return fmt::format("{}: message {}", where_, result_.messages.size()); }

  const std::string& where_;
  TrainingConversation result_;
};

void read_alpaca(const Json& object, const std::string& where, Reader& reader) {
  if (const Json* const history = json_find(object, "history", where)) {
    if (!history->is_array()) fail("{}: history is {}, expected a list", where, json_kind(*history));
    for (const Json& turn : *history) {
      if (!turn.is_array() || turn.size() != 2 || !turn[0].is_string() || !turn[1].is_string()) {
        fail("{}: history holds {}, expected [question, answer]", where, json_shown(turn));
      }
      reader.add(kUser, turn[0].get<std::string>());
      reader.add(kAssistant, turn[1].get<std::string>());
    }
  }
  std::string question = json_string(object, "instruction", where);
  const std::string input = json_string(object, "input", where, "");
  if (!input.empty()) question += (question.empty() ? "" : "\n") + input;
  reader.add(kUser, std::move(question));
  reader.add(kAssistant, json_string(object, "output", where));
}

/// The conversation that ends with the answer `member`.
TrainingConversation read_answered(const Json& object, const char* member, const std::string& where) {
  Reader reader(where);
  const Json& answer = json_member(object, member, where);
  const auto is_answer = [&](const Json& message) {
    if (!message.is_object()) return true;  // the reader refuses it
    const char* const name = message.contains("role") ? "role" : "from";
    return message.contains(name) && message[name].is_string() &&
           role_of(message[name].get<std::string>(), where) == kAssistant;
  };
  const bool whole = answer.is_array() && !answer.empty() && !is_answer(answer.front());
  refuse_tools(object, where);
  reader.add_system(object);
  if (!whole) reader.add_text_or_messages(object, "prompt", kUser);
  reader.add_text_or_messages(object, member, kAssistant);
  return reader.finish();
}

}  // namespace

Preference parse_preference(const Json& object, const std::string& where) {
  if (!object.is_object()) fail("{}: found {}, expected an object with a preference", where, json_kind(object));
  if (!object.contains("chosen") || !object.contains("rejected")) {
    fail("{}: it has no preference; expected the members prompt, chosen and rejected", where);
  }
  Preference preference{.chosen = read_answered(object, "chosen", where),
                        .rejected = read_answered(object, "rejected", where)};
  if (preference.chosen.messages == preference.rejected.messages) {
    fail("{}: chosen and rejected are the same, expected two answers", where);
  }
  const auto before_answer = [](const TrainingConversation& conversation) {
    return std::vector<ChatMessage>(conversation.messages.begin(), std::prev(conversation.messages.end()));
  };
  if (before_answer(preference.chosen) != before_answer(preference.rejected)) {
    fail("{}: the messages before the last answers of chosen and rejected differ, expected two answers to one prompt",
         where);
  }
  return preference;
}

TrainingConversation parse_conversation(const Json& object, const std::string& where) {
  if (!object.is_object()) fail("{}: found {}, expected an object with a conversation", where, json_kind(object));
  Reader reader(where);
  refuse_tools(object, where);
  reader.add_system(object);
  if (object.contains("messages")) {
    reader.add_messages(object["messages"], "messages");
  } else if (object.contains("conversations")) {
    reader.add_messages(object["conversations"], "conversations");
  } else if (object.contains("instruction")) {
    read_alpaca(object, where, reader);
  } else if (object.contains("prompt") && object.contains("completion")) {
    reader.add_text_or_messages(object, "prompt", kUser);
    reader.add_text_or_messages(object, "completion", kAssistant);
  } else {
    fail(
        "{}: it has no conversation; expected the member messages, conversations, instruction (with output), or prompt "
        "with completion",
        where);
  }
  return reader.finish();
}

}  // namespace moe
