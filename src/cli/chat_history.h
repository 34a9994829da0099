#pragma once
/// The messages that a person typed in earlier chats.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace moe {

/// $XDG_STATE_HOME/moe/chat_history, or ~/.local/state/moe/chat_history; empty if neither variable names a folder.
fs::path default_chat_history();

/// A file with one message per line, each as a JSON string. Only its owner can read it. What cannot be read or written
/// is a warning, once: a chat does not end because of its history. Use it on one thread at a time.
class ChatHistory {
 public:
  /// An empty path: nothing is read or written.
  explicit ChatHistory(const fs::path& path);

  /// The newest messages, oldest first; at most kMostEntries.
  const std::vector<std::string>& entries() const { return entries_; }
  void add(const std::string& entry);

  static constexpr size_t kMostEntries = 1000;

 private:
  void load(const fs::path& path);

  std::vector<std::string> entries_;
  std::optional<FileAppender> file_;
};

}  // namespace moe
