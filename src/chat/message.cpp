#include "chat/message.h"

#include "base/error.h"

namespace moe {

bool is_role(std::string_view role) { return role == kSystem || role == kUser || role == kAssistant; }

std::string message_content(const Json& message, const std::string& where) {
  const Json& content = json_member(message, "content", where);
  if (!content.is_array()) return json_string(message, "content", where);
  std::string text;
  for (const Json& part : content) {
    if (const std::string type = json_string(part, "type", where + ": content"); type != "text") {
      fail("{}: \"content\" has a part of the type {}, expected text", where, json_shown(type));
    }
    text += json_string(part, "text", where + ": content");
  }
  return text;
}

std::string messages_json(const std::vector<ChatMessage>& messages) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const ChatMessage& message : messages) {
    list.push_back({{"role", message.role}, {"content", message.content}});
  }
  nlohmann::ordered_json document;
  document["messages"] = std::move(list);
  return json_text(document, 2) + "\n";
}

std::vector<ChatMessage> parse_messages(std::string_view text, std::string_view name) {
  const Json document = parse_json(text, name);
  const Json& list = document.is_array() ? document : json_array(document, "messages", name);
  std::vector<ChatMessage> messages;
  for (const Json& each : list) {
    const std::string where = fmt::format("{}: message {}", name, messages.size());
    ChatMessage message{.role = json_string(each, "role", where), .content = message_content(each, where)};
    if (!is_role(message.role)) {
      fail("{}: \"role\" is {}, expected system, user or assistant", where, json_shown(message.role));
    }
    if (message.role == kSystem && !messages.empty()) {
      fail("{}: a system message must be the first one", where);
    }
    messages.push_back(std::move(message));
  }
  return messages;
}

}  // namespace moe
