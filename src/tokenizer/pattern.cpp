#include "tokenizer/pattern.h"

#include "tokenizer/expression_texts.h"

namespace moe {

// It avoids constructs that other engines read differently: script names, and \s in its translation.
const std::string_view kTrainedPattern =
    R"(\p{N}|[一-鿿㐀-䶿豈-﫿぀-ヿ々〆]+)"
    R"(|[^\r\n\p{L}\p{M}\p{N}]?(?:[^\P{L}一-鿿㐀-䶿豈-﫿぀-ヿ々〆]|\p{M})+)"
    R"(| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

std::string spelled_out(std::string_view expression) {
  std::string text;
  for (const char c : expression) {
    if (c == '\r' || c == '\n') {
      text += c == '\r' ? "\\r" : "\\n";
    } else {
      text += c;
    }
  }
  return text;
}

Pattern::Matcher Pattern::matcher_of(std::string_view expression) {
  const std::string text = spelled_out(expression);
  if (text == kGpt2) return expressions::Gpt2{};
  if (text == kLlama3) return expressions::Llama3<3>{};
  if (text == kQwen2) return expressions::Llama3<1>{};
  if (text == kO200k) return expressions::O200k{};
  if (text == kDeepseekV3) return expressions::DeepseekV3{};
  if (text == kTrainedPattern) return expressions::Trained{};
  if (auto run = parse_class_run(text)) return std::move(*run);
  return Regex(expression);
}

Pattern::Pattern(std::string_view expression) : matcher_(matcher_of(expression)) {}

}  // namespace moe
