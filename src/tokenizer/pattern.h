#pragma once
/// The expression that a split of a tokenizer cuts at. Expressions of published tokenizers, and expressions of one
/// character class, are matched by our own code; all others by PCRE2.

#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>

#include "base/utf8.h"
#include "tokenizer/class_run.h"
#include "tokenizer/published_expressions.h"
#include "tokenizer/regex.h"

namespace moe {

/// A run of word characters, or a run of other characters that are not white space: the library's step Whitespace.
struct WordsAndOthers {
  CharacterSet words, others;

  TextScanner::Position match(const TextScanner& text, TextScanner::Position at) const {
    for (const CharacterSet* set : {&words, &others}) {
      const auto end = text.run_of(at, [&](char32_t c, unicode::Kind) { return set->contains(c); });
      if (end > at) return end;
    }
    return nullptr;
  }
};

/// The words of tokenizers that this program trains, in this order of preference: one digit; a run of Chinese
/// characters or kana; letters and marks of any other script, with at most one other character (a blank, a bracket)
/// before them; punctuation and symbols, with at most one blank before and the line ends after them; white space up to
/// a last line end; white space except the last character before a word; white space.
extern const std::string_view kTrainedPattern;

/// Several threads may match with it, each with its own scratch.
class Pattern {
 public:
  /// An expression in Oniguruma's syntax. The way of matching does not change what it matches.
  explicit Pattern(std::string_view expression);
  explicit Pattern(ClassRun run) : matcher_(std::move(run)) {}
  explicit Pattern(WordsAndOthers words) : matcher_(std::move(words)) {}
  /// Always matches with PCRE2.
  explicit Pattern(Regex regex) : matcher_(std::move(regex)) {}

  bool uses_pcre2() const { return std::holds_alternative<Regex>(matcher_); }

  /// Divides `text` (valid UTF-8): calls visit(begin, end, is_match) for the matches, found from left to
  /// right, and for the text between them, in order. A match may be empty, a gap may not.
  template <class Visit>
  void for_each(std::string_view text, RegexScratch& scratch, Visit&& visit) const {
    std::visit(
        [&](const auto& matcher) {
          if constexpr (std::is_same_v<std::decay_t<decltype(matcher)>, Regex>) {
            search(matcher, text, scratch, visit);
          } else {
            scan(matcher, text, visit);
          }
        },
        matcher_);
  }

 private:
  using Matcher =
      std::variant<Regex, ClassRun, WordsAndOthers, expressions::Gpt2, expressions::Llama3<1>, expressions::Llama3<3>,
                   expressions::O200k, expressions::DeepseekV3, expressions::Trained>;

  static Matcher matcher_of(std::string_view expression);

  template <class Visit>
  static void search(const Regex& regex, std::string_view text, RegexScratch& scratch, Visit& visit);
  template <class Scanned, class Visit>
  static void scan(const Scanned& matcher, std::string_view text, Visit& visit);

  Matcher matcher_;
};

template <class Visit>
void Pattern::search(const Regex& regex, std::string_view text, RegexScratch& scratch, Visit& visit) {
  size_t done = 0;  // visited up to here
  size_t from = 0;
  bool matched = false;
  Regex::Match match{};
  while (from <= text.size() && regex.find(text, from, scratch, match)) {
    // An empty match counts, unless it touches the match before it.
    if (match.begin == match.end && matched && match.end == done) {
      from += from < text.size() ? utf8_length(text.substr(from)) : 1;
      continue;
    }
    if (done < match.begin) visit(done, match.begin, false);
    visit(match.begin, match.end, true);
    done = from = match.end;
    matched = true;
  }
  if (done < text.size()) visit(done, text.size(), false);
}

template <class Scanned, class Visit>
void Pattern::scan(const Scanned& matcher, std::string_view text, Visit& visit) {
  const auto* const begin = reinterpret_cast<TextScanner::Position>(text.data());
  const TextScanner scanner(begin + text.size());
  const auto offset = [&](TextScanner::Position at) { return static_cast<size_t>(at - begin); };
  TextScanner::Position done = begin;
  for (TextScanner::Position at = begin; at < scanner.end();) {
    const TextScanner::Position end = matcher.match(scanner, at);
    if (end == nullptr) {
      at += scanner.character(at).length;
      continue;
    }
    if (done < at) visit(offset(done), offset(at), false);
    visit(offset(at), offset(end), true);
    done = at = end;
  }
  if (done < scanner.end()) visit(offset(done), text.size(), false);
}

}  // namespace moe
