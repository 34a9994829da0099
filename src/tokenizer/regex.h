#pragma once
/// Regular expressions of tokenizer files. They are written for Oniguruma (Ruby syntax, UTF-8) but matched with PCRE2,
/// which differs in some places. So the pattern is translated first. A construct whose meaning would change is refused
/// by name.

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace moe {

/// The same expression for PCRE2 (options UTF, UCP, MULTILINE). Errors quote the pattern and the construct.
std::string pcre2_pattern(std::string_view oniguruma);

/// Working memory for matching. One thread at a time uses it, with any expression.
class RegexScratch {
 public:
  RegexScratch();
  ~RegexScratch();
  RegexScratch(RegexScratch&&) noexcept;
  RegexScratch& operator=(RegexScratch&&) noexcept;

 private:
  friend class Regex;
  struct State;
  std::unique_ptr<State> state_;
};

/// Several threads may match with it, each with its own scratch.
class Regex {
 public:
  /// Compiles a pattern in Oniguruma's syntax.
  explicit Regex(std::string_view pattern);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  struct Match {
    size_t begin;
    size_t end;
  };

  /// The leftmost match in `text` (valid UTF-8) that starts at or after byte `from`; false: none. Several threads may
  /// call it, each with its own scratch.
  bool find(std::string_view text, size_t from, RegexScratch& scratch, Match& match) const;

  const std::string& pattern() const { return pattern_; }

 private:
  struct Code;
  std::string pattern_;
  std::unique_ptr<Code> code_;
};

/// A pattern that matches only `literal`.
std::string regex_escape(std::string_view literal);

}  // namespace moe
