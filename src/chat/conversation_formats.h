#pragma once
/// Conversations in the JSON that people keep them in.
///
/// | format | members of the object |
/// |---|---|
/// | OpenAI | messages: a list of {role, content}; an answer with "weight": 0 is not learned |
/// | ShareGPT | conversations: a list of {from, value}; system: a text |
/// | Alpaca | instruction, input, output; system: a text; history: a list of [question, answer] |
/// | prompt | prompt and completion: texts, or lists of messages |
///
/// The format follows from the members. Others are ignored.

#include <string>
#include <string_view>
#include <vector>

#include "chat/message.h"
#include "formats/json.h"

namespace moe {

struct TrainingConversation {
  std::vector<ChatMessage> messages;
  std::vector<bool> learned;  ///< for each message: an answer that training may learn
};

/// An error, which calls the object `where`, if its format is none of these, a role is unknown, or there is no answer.
/// Messages after the last answer are left out: nothing would be learned from them.
TrainingConversation parse_conversation(const Json& object, const std::string& where);

/// Two conversations that differ in their last answer.
struct Preference {
  TrainingConversation chosen, rejected;
};

/// {"prompt": ..., "chosen": ..., "rejected": ...}, each a text or a list of messages; "system": a text. A list that
/// begins with a question is the whole conversation, so its prompt may be absent. An error, which calls the object
/// `where`, for other objects, and if both conversations are the same.
Preference parse_preference(const Json& object, const std::string& where);

}  // namespace moe
