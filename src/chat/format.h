#pragma once
/// How a model's conversations are written as text and as tokens.

#include <string>
#include <string_view>
#include <vector>

#include "chat/message.h"
#include "template/template.h"
#include "tokenizer/tokenizer.h"

namespace moe {

/// It never changes. Several threads may use it at once.
class ChatFormat {
 public:
  /// The chat template of the model's folder or GGUF file. A model without one gets DeepSeekMoE's format if it is of
  /// that family, else plain text ("User: ...", "Assistant: ..."). `tokenizer` must outlive the format.
  ChatFormat(const fs::path& model, const Tokenizer& tokenizer);
  /// The format of a template. `name` is its name in errors.
  ChatFormat(std::string_view source, const std::string& name, const Tokenizer& tokenizer);

  /// The messages, and the beginning of an answer to them.
  std::string prompt(const std::vector<ChatMessage>& messages) const { return render(messages, true).text; }
  /// The messages alone.
  jinja::Rendered transcript(const std::vector<ChatMessage>& messages) const { return render(messages, false); }
  /// BOS is there once if the template or the tokenizer wants it. Special tokens in a template's text become their ids;
  /// plain text has none.
  std::vector<int32_t> encode(std::string_view text) const;
  /// The ids of a text that goes on after other ids.
  std::vector<int32_t> encode_more(std::string_view text) const;

  /// Strings that end an answer, beside the model's own end: a model that was not trained on conversations writes the
  /// next question itself.
  const std::vector<std::string>& stop() const { return stop_; }
  /// The template itself (Jinja).
  const std::string& source() const { return source_; }
  /// Its name in errors.
  const std::string& name() const { return name_; }
  /// For people: what the format is if the model has none of its own; "" if it has.
  const std::string& note() const { return note_; }

 private:
  struct Source {
    std::string text;  // Jinja
    std::string name;  // in errors
    std::string note;
    bool plain = false;
  };
  static Source source_of(const fs::path& model);
  ChatFormat(const Source& source, const jinja::Value& special, const Tokenizer& tokenizer);
  jinja::Rendered render(const std::vector<ChatMessage>& messages, bool open_answer) const;

  const Tokenizer& tokenizer_;
  std::string source_, name_;
  jinja::Template template_;
  jinja::Value special_;
  bool parse_special_ = true;
  std::vector<std::string> stop_;
  std::string note_;
};

}  // namespace moe
