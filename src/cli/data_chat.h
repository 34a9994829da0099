#pragma once
/// `moe data --chat` and `--preferences`: conversations instead of texts.

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "chat/marked.h"
#include "data/builder.h"
#include "formats/json.h"

namespace moe {

struct ChatDataFlags {
  bool chat = false;
  bool preferences = false;
  std::vector<std::string> new_tokens;
  std::string template_file;
  std::string format = "template";
  std::string answers = "every";
  int64_t max_tokens = 0;
  int64_t show = 0;

  bool conversations() const { return chat || preferences; }
};

/// The part of the command's help.
extern const char* const kChatDataHelp;

/// Declares --chat and what belongs to it.
void add_chat_data_options(CLI::App& command, ChatDataFlags& flags);
/// A UsageError for options that need --chat.
void check_chat_data_options(const ChatDataFlags& flags);

/// Turns conversations into marked documents. Any number of threads may use it at once.
class ChatData {
 public:
  /// `tokenizer_path` has the template, unless the flags name one. `tokenizer` must outlive this object.
  ChatData(const ChatDataFlags& flags, const std::string& tokenizer_path, const Tokenizer& tokenizer);

  EncodeFunction encoder() const;
  /// Writes the template into a dataset's folder, unless the tokenizer's files have it: the trained model needs it.
  void save_template(const fs::path& folder) const;
  /// The tokens that end learned answers.
  std::vector<int32_t> answer_ends() const { return marker_.ends(); }
  /// Says how many conversations were cut or left out. Throws if that leaves none of `documents`.
  void report(const BuildReport& built) const;

 private:
  EncodedDocument encode_conversation(const Json& object, const std::string& where) const;
  EncodedDocument encode_preference(const Json& object, const std::string& where) const;

  ChatDataFlags flags_;
  ChatFormat format_;
  ChatMarker marker_;
  mutable std::atomic<int64_t> long_pairs_ = 0;
};

/// Prints the first `count` conversations of a dataset: a line for each token, with its label and its weight.
void show_conversations(const std::string& dataset, int64_t count);

}  // namespace moe
