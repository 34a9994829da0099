#include "template/letter_case.h"

#include <algorithm>

#include "base/utf8.h"
#include "template/case_data.h"
#include "template/meter.h"
#include "template/text.h"
#include "tokenizer/unicode_classes.h"

namespace moe::jinja {
namespace {

constexpr char32_t kSigma = 0x3A3;

bool is_kind(char32_t c, unicode::Kinds members) {
  return ((unicode::Kinds{1} << unicode::kind_table()[c]) & members) != 0;
}

bool in_ranges(std::span<const unicode::CodePointRange> ranges, char32_t c) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const auto& range) { return c >= range.first && c <= range.last; });
}

// Appends the other case; false if the table has none.
bool append_case(const CaseTable& table, char32_t c, std::string& out) {
  const auto text = std::lower_bound(table.texts.begin(), table.texts.end(), c,
                                     [](const CaseText& row, char32_t code) { return row.letter < code; });
  if (text != table.texts.end() && text->letter == c) {
    out += text->text;
    return true;
  }
  auto run = std::upper_bound(table.runs.begin(), table.runs.end(), c,
                              [](char32_t code, const CaseRun& row) { return code < row.first; });
  // Runs of every second letter interleave, so the previous run may contain the letter.
  for (int tries = 0; tries < 2 && run != table.runs.begin(); ++tries) {
    --run;
    if (c > run->last || (c - run->first) % run->step != 0) continue;
    utf8_append(out, static_cast<char32_t>(static_cast<int64_t>(c) + run->delta));
    return true;
  }
  return false;
}

void append_upper(char32_t c, std::string& out) {
  if (!append_case(upper_table(), c, out)) utf8_append(out, c);
}

void append_title(char32_t c, std::string& out) {
  if (!append_case(title_table(), c, out)) append_upper(c, out);
}

void append_lower(char32_t c, std::string& out) {
  if (!append_case(lower_table(), c, out)) utf8_append(out, c);
}

void append_folded(char32_t c, std::string& out) {
  if (!append_case(fold_table(), c, out)) append_lower(c, out);
}

bool is_cased(char32_t c) { return is_lower(c) || is_upper(c) || is_title(c); }

bool is_case_ignorable(char32_t c) {
  using namespace unicode;
  return c == '\'' || c == '.' || c == ':' || c == '^' || c == '`' || c == 0xB7 || c == 0x2019 || c == 0x2018 ||
         is_kind(c, kinds(Mn, Me, Cf, Lm, Sk));
}

std::u32string decoded(std::string_view text) {
  need_room(text.size() * sizeof(char32_t));
  std::u32string points;
  for_each_character(text, [&](std::string_view c) { points += code_point(c); });
  return points;
}

// A sigma ends a word if there is a letter before it and none after it.
bool is_final_sigma(const std::u32string& text, size_t at) {
  size_t i = at;
  while (i > 0 && is_case_ignorable(text[i - 1])) --i;
  if (i == 0 || !is_cased(text[i - 1])) return false;
  size_t j = at + 1;
  while (j < text.size() && is_case_ignorable(text[j])) ++j;
  return j == text.size() || !is_cased(text[j]);
}

void append_lower_at(const std::u32string& text, size_t at, std::string& out) {
  if (text[at] == kSigma) {
    utf8_append(out, is_final_sigma(text, at) ? char32_t{0x3C2} : char32_t{0x3C3});
  } else {
    append_lower(text[at], out);
  }
}

bool is_ascii(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
}

}  // namespace

bool is_lower(char32_t c) {
  if (c < 0x80) return c >= 'a' && c <= 'z';
  return is_kind(c, unicode::kinds(unicode::Ll)) || in_ranges(unicode::other_lowercase(), c);
}

bool is_upper(char32_t c) {
  if (c < 0x80) return c >= 'A' && c <= 'Z';
  return is_kind(c, unicode::kinds(unicode::Lu)) || in_ranges(unicode::other_uppercase(), c);
}

bool is_title(char32_t c) { return c >= 0x80 && is_kind(c, unicode::kinds(unicode::Lt)); }

std::string upper_case(std::string_view text) {
  spend(text_steps(text.size()));
  std::string out;
  if (is_ascii(text)) {
    for (const char c : text) out += c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
    return out;
  }
  for (const char32_t c : decoded(text)) append_upper(c, out);
  return out;
}

std::string lower_case(std::string_view text) {
  spend(text_steps(text.size()));
  std::string out;
  if (is_ascii(text)) {
    for (const char c : text) out += c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    return out;
  }
  const std::u32string points = decoded(text);
  for (size_t i = 0; i < points.size(); ++i) append_lower_at(points, i, out);
  return out;
}

std::string case_folded(std::string_view text) {
  spend(text_steps(text.size()));
  std::string out;
  for (const char32_t c : decoded(text)) append_folded(c, out);
  return out;
}

std::string capitalized(std::string_view text) {
  spend(text_steps(text.size()));
  const std::u32string points = decoded(text);
  std::string out;
  for (size_t i = 0; i < points.size(); ++i) {
    if (i == 0) {
      append_title(points[i], out);
    } else {
      append_lower_at(points, i, out);
    }
  }
  return out;
}

std::string title_case(std::string_view text) {
  spend(text_steps(text.size()));
  const std::u32string points = decoded(text);
  std::string out;
  bool inside = false;
  for (size_t i = 0; i < points.size(); ++i) {
    if (inside) {
      append_lower_at(points, i, out);
    } else {
      append_title(points[i], out);
    }
    inside = is_cased(points[i]);
  }
  return out;
}

std::string swapped_case(std::string_view text) {
  spend(text_steps(text.size()));
  const std::u32string points = decoded(text);
  std::string out;
  for (size_t i = 0; i < points.size(); ++i) {
    if (is_upper(points[i])) {
      append_lower_at(points, i, out);
    } else if (is_lower(points[i])) {
      append_upper(points[i], out);
    } else {
      utf8_append(out, points[i]);
    }
  }
  return out;
}

}  // namespace moe::jinja
