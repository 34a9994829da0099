#include "tokenizer/unicode_classes.h"

#include <algorithm>
#include <utility>

namespace moe::unicode {
namespace {

constexpr uint32_t kEnd = 0x110000;

constexpr std::array<std::string_view, 30> kCategoryNames = {
    "lu", "ll", "lt", "lm", "lo", "mn", "mc", "me", "nd", "nl", "no", "pc", "pd", "ps", "pe",
    "pi", "pf", "po", "sm", "sc", "sk", "so", "zs", "zl", "zp", "cc", "cf", "cs", "co", "cn"};

constexpr Kinds kAllControls = kinds(Cc, control_space, line_end);

constexpr std::array<std::pair<std::string_view, Kinds>, 14> kGroups = {
    {{"l", kLetters},
     {"letter", kLetters},
     {"m", kMarks},
     {"mark", kMarks},
     {"n", kNumbers},
     {"number", kNumbers},
     {"p", kPunctuation},
     {"punctuation", kPunctuation},
     {"s", kSymbols},
     {"symbol", kSymbols},
     {"z", kinds(Zs, Zl, Zp)},
     {"separator", kinds(Zs, Zl, Zp)},
     {"c", kAllControls | kinds(Cf, Cs, Co, Cn)},
     {"other", kAllControls | kinds(Cf, Cs, Co, Cn)}}};

Kind kind_of(uint32_t c, uint8_t category) {
  if (c == '\r' || c == '\n') return line_end;
  if (c == '\t' || c == '\v' || c == '\f' || c == 0x85) return control_space;
  return static_cast<Kind>(category);
}

void append(Ranges& ranges, CodePointRange range) {
  if (!ranges.empty() && range.first <= ranges.back().last + 1) {
    ranges.back().last = std::max(ranges.back().last, range.last);
  } else {
    ranges.push_back(range);
  }
}

Ranges list(std::span<const CodePointRange> ranges) { return {ranges.begin(), ranges.end()}; }

std::optional<Ranges> script(std::string_view name) {
  const auto names = script_names();
  const auto found =
      std::find_if(names.begin(), names.end(), [&](const ScriptName& each) { return each.name == name; });
  if (found == names.end()) return std::nullopt;
  const auto runs = script_runs();
  Ranges ranges;
  for (size_t i = 0; i < runs.size(); ++i) {
    if ((runs[i] & 0xFF) == found->script)
      append(ranges, {runs[i] >> 8, (i + 1 < runs.size() ? runs[i + 1] >> 8 : kEnd) - 1});
  }
  return ranges;
}

Ranges alphabetic() { return united(ranges_of(kLetters | kinds(Nl)), list(other_alphabetic())); }

}  // namespace

KindTable::KindTable() {
  std::vector<uint8_t> all(kEnd);
  const auto runs = category_runs();
  for (size_t i = 0; i < runs.size(); ++i) {
    const uint32_t end = i + 1 < runs.size() ? runs[i + 1] >> 8 : kEnd;
    for (uint32_t c = runs[i] >> 8; c < end; ++c) all[c] = kind_of(c, runs[i] & 0xFF);
  }
  for (size_t page = 0; page < page_.size(); ++page) {
    const uint8_t* values = all.data() + (page << 8);
    size_t same = 0;
    while (same << 8 < pages_.size() && !std::equal(values, values + 256, pages_.data() + (same << 8))) ++same;
    if (same << 8 == pages_.size()) pages_.insert(pages_.end(), values, values + 256);
    page_[page] = static_cast<uint16_t>(same);
  }
}

const KindTable& kind_table() {
  static const KindTable table;
  return table;
}

Ranges ranges_of(Kinds members) {
  const auto runs = category_runs();
  Ranges ranges;
  for (size_t i = 0; i < runs.size(); ++i) {
    const uint8_t category = runs[i] & 0xFF;
    const uint32_t first = runs[i] >> 8;
    const uint32_t end = i + 1 < runs.size() ? runs[i + 1] >> 8 : kEnd;
    if (category != Cc) {
      if (members >> category & 1) append(ranges, {first, end - 1});
      continue;
    }
    for (uint32_t c = first; c < end; ++c) {
      if (members >> kind_of(c, category) & 1) append(ranges, {c, c});
    }
  }
  return ranges;
}

Ranges united(const Ranges& a, const Ranges& b) {
  Ranges all;
  std::merge(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(all),
             [](const CodePointRange& x, const CodePointRange& y) { return x.first < y.first; });
  Ranges joined;
  for (const CodePointRange& range : all) append(joined, range);
  return joined;
}

Ranges complement(const Ranges& ranges) {
  Ranges others;
  uint32_t next = 0;
  for (const CodePointRange& range : ranges) {
    if (next < range.first) others.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next < kEnd) others.push_back({next, kEnd - 1});
  return others;
}

Ranges word() { return united(alphabetic(), ranges_of(kMarks | kinds(Nd, Pc))); }

Ranges word_outside_class() { return united(word(), {{0xB2, 0xB3}, {0xB9, 0xB9}, {0xBC, 0xBE}}); }

Ranges rust_word() { return united(word(), {{0x200C, 0x200D}}); }

Ranges punctuation_step() { return united(list(step_punctuation()), {{'!', '/'}, {':', '@'}, {'[', '`'}, {'{', '~'}}); }

Ranges digits_step() { return list(step_digits()); }

std::optional<Ranges> property(std::string_view name) {
  for (const auto& [group, members] : kGroups) {
    if (name == group) return ranges_of(members);
  }
  if (name == "cc") return ranges_of(kAllControls);
  const auto category = std::find(kCategoryNames.begin(), kCategoryNames.end(), name);
  if (category != kCategoryNames.end()) {
    return ranges_of(kinds(static_cast<Kind>(category - kCategoryNames.begin())));
  }
  if (name == "any") return Ranges{{0, kEnd - 1}};
  if (name == "alphabetic") return alphabetic();
  if (name == "lowercase") return united(ranges_of(kinds(Ll)), list(other_lowercase()));
  if (name == "uppercase") return united(ranges_of(kinds(Lu)), list(other_uppercase()));
  if (name == "ideographic") return list(ideographic());
  return script(name);
}

}  // namespace moe::unicode
