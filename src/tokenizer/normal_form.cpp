#include "tokenizer/normal_form.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <utility>

#include "base/utf8.h"
#include "tokenizer/normal_form_data.h"

namespace moe {
namespace {

// Hangul syllables: the Unicode standard, section 3.12.
constexpr char32_t kSyllables = 0xAC00, kLeads = 0x1100, kVowels = 0x1161, kTails = 0x11A7;
constexpr char32_t kLeadCount = 19, kVowelCount = 21, kTailCount = 28;
constexpr char32_t kSyllableCount = kLeadCount * kVowelCount * kTailCount;

bool is_in(char32_t code, char32_t first, char32_t count) { return code >= first && code < first + count; }
bool is_composing(NormalForm form) { return form == NormalForm::nfc || form == NormalForm::nfkc; }
bool is_compatible(NormalForm form) { return form == NormalForm::nfkc || form == NormalForm::nfkd; }

/// A set of code points.
class CodePoints {
 public:
  void add(char32_t first, char32_t last) {
    for (char32_t code = first; code <= last; ++code) bits_[code / 64] |= uint64_t{1} << code % 64;
  }
  bool has(char32_t code) const { return bits_[code / 64] >> code % 64 & 1; }

 private:
  std::array<uint64_t, 0x110000 / 64> bits_{};
};

const unicode::Decomposition* find(std::span<const unicode::Decomposition> table, char32_t code) {
  const auto found = std::lower_bound(table.begin(), table.end(), code,
                                      [](const auto& entry, char32_t value) { return entry.code < value; });
  return found != table.end() && found->code == code ? &*found : nullptr;
}

uint8_t class_of(char32_t code) {
  const auto table = unicode::combining_classes();
  const auto found = std::lower_bound(table.begin(), table.end(), code,
                                      [](const auto& entry, char32_t value) { return entry.last < value; });
  return found != table.end() && found->first <= code ? found->value : 0;
}

/// The characters that a form may change, by themselves or after another character. Any other character is a boundary:
/// what comes before it and what follows from it on can be normalized apart.
CodePoints changing(NormalForm form) {
  CodePoints set;
  for (const auto& range : unicode::combining_classes()) set.add(range.first, range.last);
  for (const auto& entry : unicode::canonical_decompositions()) set.add(entry.code, entry.code);
  if (is_compatible(form)) {
    for (const auto& entry : unicode::compatible_decompositions()) set.add(entry.code, entry.code);
  }
  if (!is_composing(form)) {
    set.add(kSyllables, kSyllables + kSyllableCount - 1);
    return set;
  }
  for (const auto& entry : unicode::compositions()) set.add(entry.second, entry.second);
  set.add(kVowels, kVowels + kVowelCount - 1);
  set.add(kTails + 1, kTails + kTailCount - 1);
  return set;
}

const CodePoints& changing_in(NormalForm form) {
  static const std::array<CodePoints, 4> sets = {changing(NormalForm::nfc), changing(NormalForm::nfd),
                                                 changing(NormalForm::nfkc), changing(NormalForm::nfkd)};
  return sets[static_cast<size_t>(form)];
}

void decompose(char32_t code, NormalForm form, std::u32string& out) {
  if (is_in(code, kSyllables, kSyllableCount)) {
    const char32_t index = code - kSyllables, tail = index % kTailCount;
    out += kLeads + index / (kVowelCount * kTailCount);
    out += kVowels + index / kTailCount % kVowelCount;
    if (tail != 0) out += kTails + tail;
    return;
  }
  const auto* entry = is_compatible(form) ? find(unicode::compatible_decompositions(), code) : nullptr;
  if (entry == nullptr) entry = find(unicode::canonical_decompositions(), code);
  if (entry == nullptr) {
    out += code;
  } else {
    out.append(unicode::decomposed_parts().data() + entry->begin, entry->size);
  }
}

/// Sorts each run of marks by their classes; equal classes keep their order.
void order(std::u32string& text) {
  for (size_t begin = 0; begin < text.size(); ++begin) {
    if (class_of(text[begin]) == 0) continue;
    size_t end = begin;
    while (end < text.size() && class_of(text[end]) != 0) ++end;
    std::stable_sort(text.begin() + static_cast<std::ptrdiff_t>(begin), text.begin() + static_cast<std::ptrdiff_t>(end),
                     [](char32_t a, char32_t b) { return class_of(a) < class_of(b); });
    begin = end;
  }
}

/// The character that two become; 0 if there is none.
char32_t composed(char32_t first, char32_t second) {
  if (is_in(first, kLeads, kLeadCount) && is_in(second, kVowels, kVowelCount)) {
    return kSyllables + ((first - kLeads) * kVowelCount + (second - kVowels)) * kTailCount;
  }
  const bool open = is_in(first, kSyllables, kSyllableCount) && (first - kSyllables) % kTailCount == 0;
  if (open && is_in(second, kTails + 1, kTailCount - 1)) return first + (second - kTails);
  const auto table = unicode::compositions();
  const auto key = std::pair(first, second);
  const auto found = std::lower_bound(table.begin(), table.end(), key, [](const auto& entry, const auto& value) {
    return std::pair(entry.first, entry.second) < value;
  });
  return found != table.end() && std::pair(found->first, found->second) == key ? found->composed : 0;
}

/// Joins each character with the last one of class 0 before it, unless one between them has the same class or none.
void compose(std::u32string& text) {
  constexpr size_t kNone = std::u32string::npos;
  size_t starter = kNone, kept = 0;
  uint8_t last_class = 0;
  for (const char32_t code : std::u32string(text)) {
    const uint8_t own = class_of(code);
    const bool beside = starter != kNone && starter + 1 == kept;
    const bool blocked = starter == kNone || (!beside && last_class >= own);
    const char32_t joined = blocked ? 0 : composed(text[starter], code);
    if (joined != 0) {
      text[starter] = joined;
      continue;
    }
    if (own == 0) starter = kept;
    last_class = own;
    text[kept++] = code;
  }
  text.resize(kept);
}

/// Characters without a boundary inside.
void append_normalized(std::string_view valid, NormalForm form, std::string& out) {
  std::u32string text;
  while (!valid.empty()) decompose(utf8_take(valid), form, text);
  order(text);
  if (is_composing(form)) compose(text);
  for (const char32_t code : text) utf8_append(out, code);
}

size_t ascii_prefix(std::string_view text) {
  size_t at = 0;
  for (uint64_t word; at + sizeof(word) <= text.size(); at += sizeof(word)) {
    std::memcpy(&word, text.data() + at, sizeof(word));
    if ((word & 0x8080808080808080u) != 0) break;
  }
  while (at < text.size() && static_cast<unsigned char>(text[at]) < 0x80) ++at;
  return at;
}

/// The bytes at the start of `text` that keep their form whatever follows them but for the last character, which may
/// join a mark behind it. Sets `last` to the place of that character.
size_t unchanged_prefix(std::string_view text, const CodePoints& set, size_t& last) {
  size_t at = 0;
  last = 0;
  while (at < text.size()) {
    if (const size_t ascii = ascii_prefix(text.substr(at)); ascii > 0) {
      at += ascii;
      last = at - 1;
      continue;
    }
    const size_t length = utf8_length(text.substr(at));
    if (length == 0) {  // nothing joins a byte that is no character
      last = ++at;
      continue;
    }
    std::string_view rest = text.substr(at);
    if (set.has(utf8_take(rest))) break;
    last = at;
    at += length;
  }
  return at;
}

}  // namespace

std::optional<NormalForm> normal_form_named(std::string_view name) {
  static constexpr std::array<std::string_view, 4> kNames = {"NFC", "NFD", "NFKC", "NFKD"};
  const auto found = std::find(kNames.begin(), kNames.end(), name);
  if (found == kNames.end()) return std::nullopt;
  return static_cast<NormalForm>(found - kNames.begin());
}

bool is_surely_normal(std::string_view text, NormalForm form) {
  if (ascii_prefix(text) == text.size()) return true;
  size_t last = 0;
  return unchanged_prefix(text, changing_in(form), last) == text.size();
}

std::string normalized(std::string_view text, NormalForm form) {
  const CodePoints& set = changing_in(form);
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    size_t begin = 0;
    size_t end = unchanged_prefix(text, set, begin);
    if (end == text.size()) begin = end;
    out.append(text.substr(0, begin));
    text.remove_prefix(begin);
    end -= begin;
    while (end < text.size()) {
      const size_t length = utf8_length(text.substr(end));
      std::string_view rest = text.substr(end);
      if (length == 0 || !set.has(utf8_take(rest))) break;
      end += length;
    }
    append_normalized(text.substr(0, end), form, out);
    text.remove_prefix(end);
  }
  return out;
}

}  // namespace moe
