#include "tokenizer/class_run.h"

#include <algorithm>
#include <cctype>
#include <string>

#include "base/utf8.h"

namespace moe {
namespace {

using unicode::Ranges;

/// Parses an expression from its start. If it meets something unknown it gives up, and PCRE2 matches the expression.
class Parser {
 public:
  explicit Parser(std::string_view expression) : rest_(expression) {}

  std::optional<ClassRun> run() {
    const bool space_before = take("\\s?");
    const auto members = take("[") ? character_class() : escape();
    if (!members) return std::nullopt;
    ClassRun result{.members = CharacterSet(*members), .most = 1, .space_before = space_before};
    if (take("{1,3}")) {
      result.most = 3;
    } else if (take("+")) {
      result.most = ClassRun::kAny;
    }
    result.ends_line = result.most == ClassRun::kAny && !space_before && take("$");
    if (!rest_.empty()) return std::nullopt;
    return result;
  }

 private:
  bool take(std::string_view text) {
    if (!rest_.starts_with(text)) return false;
    rest_.remove_prefix(text.size());
    return true;
  }

  // \s, \d and \p{...}.
  std::optional<Ranges> escape() {
    if (take("\\s")) return unicode::ranges_of(unicode::kSpaces);
    if (take("\\d")) return unicode::ranges_of(unicode::kinds(unicode::Nd));
    if (!take("\\p{")) return std::nullopt;
    const size_t end = rest_.find('}');
    if (end == std::string_view::npos) return std::nullopt;
    std::string name;
    for (const char c : rest_.substr(0, end)) {
      if (!std::isalpha(static_cast<unsigned char>(c))) return std::nullopt;
      name += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
    rest_.remove_prefix(end + 1);
    return unicode::property(name);
  }

  // One character in the notation of a class.
  std::optional<char32_t> character() {
    if (rest_.empty() || rest_[0] == '[' || rest_[0] == '^' || rest_[0] == '&') return std::nullopt;
    if (take("\\r")) return '\r';
    if (take("\\n")) return '\n';
    if (take("\\t")) return '\t';
    if (rest_[0] == '\\') {
      if (rest_.size() < 2 || !std::ispunct(static_cast<unsigned char>(rest_[1]))) return std::nullopt;
      rest_.remove_prefix(1);
    }
    if (utf8_length(rest_) == 0) return std::nullopt;
    return utf8_take(rest_);
  }

  // From after the opening bracket to the closing one, inclusive.
  std::optional<Ranges> character_class() {
    Ranges members;
    if (rest_.starts_with(']')) return std::nullopt;
    while (!take("]")) {
      if (const auto escaped = escape()) {
        members = unicode::united(members, *escaped);
        if (rest_.starts_with('-')) return std::nullopt;
        continue;
      }
      const auto first = character();
      if (!first) return std::nullopt;
      auto last = first;
      if (rest_.starts_with('-') && !rest_.starts_with("-]")) {
        take("-");
        last = character();
        if (!last || *last < *first) return std::nullopt;
      }
      members = unicode::united(members, {{static_cast<uint32_t>(*first), static_cast<uint32_t>(*last)}});
    }
    return members;
  }

  std::string_view rest_;
};

}  // namespace

CharacterSet::CharacterSet(const Ranges& ranges) {
  std::vector<uint64_t> bits(0x110000 / 64);
  for (const unicode::CodePointRange& range : ranges) {
    for (uint32_t c = range.first; c <= range.last; ++c) bits[c >> 6] |= uint64_t{1} << (c & 63);
  }
  for (size_t page = 0; page < page_.size(); ++page) {
    const uint64_t* values = bits.data() + page * 4;
    size_t same = 0;
    while (same * 4 < pages_.size() && !std::equal(values, values + 4, pages_.data() + same * 4)) ++same;
    if (same * 4 == pages_.size()) pages_.insert(pages_.end(), values, values + 4);
    page_[page] = static_cast<uint16_t>(same);
  }
}

std::optional<ClassRun> parse_class_run(std::string_view expression) { return Parser(expression).run(); }

}  // namespace moe
