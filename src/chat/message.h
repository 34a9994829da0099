#pragma once
/// The messages of a conversation, and the JSON that programs exchange them in.

#include <string>
#include <string_view>
#include <vector>

#include "formats/json.h"

namespace moe {

struct ChatMessage {
  std::string role;  ///< system, user or assistant
  std::string content;

  bool operator==(const ChatMessage&) const = default;
};

constexpr const char *kSystem = "system", *kUser = "user", *kAssistant = "assistant";
bool is_role(std::string_view role);

/// The content of a message object: a text, or a list of parts of the type "text". Errors call the object `where`.
std::string message_content(const Json& message, const std::string& where);

/// {"messages": [{"role": ..., "content": ...}, ...]}, for people to read, with a line end.
std::string messages_json(const std::vector<ChatMessage>& messages);

/// The messages of such a document, or of the list alone. A content may also be a list of parts of the type "text". An
/// error, which calls the document `name`, for other roles and for a system message that is not the first.
std::vector<ChatMessage> parse_messages(std::string_view json, std::string_view name);

}  // namespace moe
