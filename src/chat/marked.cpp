#include "chat/marked.h"

#include <algorithm>

#include "base/error.h"

namespace moe {
namespace {

/// Some tokenizers write a blank before a text. An answer continues a prompt, so its own first blank is that blank.
bool writes_blank_before(const Tokenizer& tokenizer) {
  const std::vector<int32_t> ids = tokenizer.encode("x", {.add_special = false});
  return !ids.empty() && tokenizer.token_bytes(ids.front()).starts_with(' ');
}

bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n") == std::string_view::npos; }

size_t common_end(std::string_view a, std::string_view b) {
  return static_cast<size_t>(std::mismatch(a.rbegin(), a.rend(), b.rbegin(), b.rend()).first - a.rbegin());
}

bool has_generation_blocks(const jinja::Rendered& rendered) {
  return !rendered.generated.empty() && !rendered.generated_elsewhere;
}

}  // namespace

std::vector<ChatMarker::Part> ChatMarker::parts_of(const TrainingConversation& conversation,
                                                   const std::string& where) const {
  const std::vector<ChatMessage>& messages = conversation.messages;
  const jinja::Rendered whole = format_.transcript(messages);
  std::vector<Part> parts;
  size_t done = 0, block = 0;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role != kAssistant) continue;
    size_t begin = 0, end = 0;
    if (has_generation_blocks(whole)) {
      if (block == whole.generated.size()) fail("{}: the template marks fewer answers than there are", where);
      begin = whole.generated[block].begin, end = whole.generated[block].end, ++block;
    } else {
      const auto until = [&](size_t count) {
        return std::vector<ChatMessage>(messages.begin(), messages.begin() + static_cast<std::ptrdiff_t>(count));
      };
      const std::string prompt = format_.prompt(until(i)), answered = format_.transcript(until(i + 1)).text;
      if (!answered.starts_with(prompt) || !whole.text.starts_with(answered)) {
        fail(
            "{}: with answer {} the chat template changes what it wrote before it, so the answer has no place; use a "
            "template that only adds, or one with {{% generation %}} blocks",
            where,
            std::count_if(messages.begin(), messages.begin() + static_cast<std::ptrdiff_t>(i + 1),
                          [](const ChatMessage& message) { return message.role == kAssistant; }));
      }
      begin = prompt.size(), end = answered.size();
    }
    if (begin < done || end < begin) fail("{}: the chat template writes answers in another order", where);
    parts.push_back({.text = whole.text.substr(done, begin - done)});
    parts.push_back(
        {.text = whole.text.substr(begin, end - begin), .answer = true, .learned = conversation.learned[i]});
    parts.back().has_text = !is_blank(messages[i].content);
    parts.back().said =
        said_until({messages.begin(), messages.begin() + static_cast<std::ptrdiff_t>(i + 1)}, block, parts.back().text);
    done = end;
  }
  if (done < whole.text.size()) parts.push_back({.text = whole.text.substr(done)});
  if (options_.answers == LearnedAnswers::last) {
    const auto last = std::find_if(parts.rbegin(), parts.rend(), [](const Part& part) { return part.answer; });
    for (Part& part : parts) part.learned = part.learned && &part == &*last;
  }
  return parts;
}

/// The bytes of an answer's text up to the end of what its message says. The answer is the last message. What the
/// template writes behind it is the text that stays the same if the message says one character more. `block` is the
/// number of generation blocks up to the answer's.
size_t ChatMarker::said_until(const std::vector<ChatMessage>& messages, size_t block, std::string_view answer) const {
  std::vector<ChatMessage> longer = messages;
  std::string& content = longer.back().content;
  const size_t last = content.find_last_not_of(" \t\r\n");
  content += last != std::string::npos && content[last] == 'x' ? "y" : "x";
  const jinja::Rendered other = format_.transcript(longer);
  std::string_view text = other.text;
  if (block > 0) {
    if (block > other.generated.size()) return answer.size();
    const auto [begin, end] = other.generated[block - 1];
    text = text.substr(begin, end - begin);
  }
  return answer.size() - common_end(answer, text);
}

/// The last special token behind what an answer says ends it. Without one it is a special token directly behind the
/// answer's text.
void ChatMarker::find_end(Part& answer, Part* next) const {
  const auto special = [&](int32_t id) { return tokenizer_.is_special(id) && id != tokenizer_.bos(); };
  std::vector<int32_t>& ids = answer.ids;
  const std::vector<int32_t> behind = format_.encode_more(std::string_view(answer.text).substr(answer.said));
  answer.ended = End::of_template;
  answer.end = static_cast<size_t>(std::find_if(ids.rbegin(), ids.rend(), special).base() - ids.begin());
  if (std::any_of(behind.begin(), behind.end(), special)) return;
  if (next != nullptr && !next->ids.empty() && special(next->ids.front())) {
    ids.push_back(next->ids.front());
    next->ids.erase(next->ids.begin());
  } else if (tokenizer_.eos()) {
    ids.push_back(*tokenizer_.eos());
    answer.ended = End::added;
  } else {
    answer.ended = End::nothing;
  }
  answer.end = ids.size();
}

bool ChatMarker::template_ends_answers() const {
  const TrainingConversation small{.messages = {{"user", "one"}, {kAssistant, "1"}, {"user", "two"}, {kAssistant, "2"}},
                                   .learned = {false, true, false, true}};
  try {
    std::vector<Part> parts = parts_of(small, "a conversation");
    encode(parts);
    return std::any_of(parts.begin(), parts.end(), [](const Part& part) { return part.ended == End::of_template; });
  } catch (const Error&) {
    return true;
  }
}

void ChatMarker::encode(std::vector<Part>& parts) const {
  for (Part& part : parts) {
    std::string_view text = part.text;
    if (part.answer && text.starts_with(' ') && writes_blank_before(tokenizer_)) text.remove_prefix(1);
    part.ids = &part == &parts.front() ? format_.encode(text) : format_.encode_more(text);
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].answer) find_end(parts[i], i + 1 < parts.size() ? &parts[i + 1] : nullptr);
  }
}

/// A template that leaves an answer out would teach to say nothing.
void ChatMarker::require_text(const Part& answer, const std::string& where) const {
  if (!answer.learned || !answer.has_text) return;
  std::string text;
  for (const int32_t id : answer.ids) {
    if (!tokenizer_.is_special(id)) text += tokenizer_.token_bytes(id);
  }
  if (is_blank(text)) fail("{}: the chat template writes nothing of an answer; use another template", where);
}

std::vector<int32_t> ChatMarker::ends() const {
  const std::lock_guard guard(ends_mutex_);
  return {ends_.begin(), ends_.end()};
}

std::optional<MarkedChat> ChatMarker::mark(const TrainingConversation& conversation, const std::string& where) const {
  std::vector<Part> parts = parts_of(conversation, where);
  encode(parts);
  for (const Part& part : parts) {
    require_text(part, where);
    if (part.ended == End::added) ++without_end_;
  }
  // The turns that fit, up to the end of the last answer that is learned.
  size_t fits = 0;
  int64_t tokens = 0;
  bool cut = false;
  for (size_t i = 0; i < parts.size() && !cut; ++i) {
    cut =
        parts[i].answer && options_.max_tokens > 0 && tokens + static_cast<int64_t>(parts[i].end) > options_.max_tokens;
    if (parts[i].learned && !cut) fits = i + 1;
    tokens += static_cast<int64_t>(parts[i].ids.size());
  }
  if (fits == 0) {
    ++left_out_;
    return std::nullopt;
  }
  if (cut) ++cut_;
  parts.resize(fits);
  parts.back().ids.resize(parts.back().end);
  MarkedChat chat;
  for (const Part& part : parts) {
    chat.ids.insert(chat.ids.end(), part.ids.begin(), part.ids.end());
    chat.text_bytes += static_cast<int64_t>(part.text.size());
    const size_t first = chat.marks.size();
    chat.marks.resize(chat.ids.size(), 0);
    if (!part.learned) continue;
    if (part.ended != End::nothing) {
      const std::lock_guard guard(ends_mutex_);
      ends_.insert(part.ids[part.end - 1]);
    }
    for (size_t i = 0; i < part.end; ++i) {
      chat.marks[first + i] = 1;
      if (tokenizer_.is_special(part.ids[i])) continue;
      chat.learned_bytes += static_cast<int64_t>(tokenizer_.token_bytes(part.ids[i]).size());
    }
  }
  return chat;
}

}  // namespace moe
