#pragma once
/// Letter cases and digits of Python's str (Unicode 14). tools/make_case_tables.py writes this data; the rest of the
/// program uses letter_case.h.

#include <cstdint>
#include <span>
#include <string_view>

namespace moe::jinja {

/// The other case of every `step`-th code point from `first` to `last` is `delta` further.
struct CaseRun {
  uint32_t first, last;
  uint32_t step;
  int32_t delta;
};

/// A letter whose other case is several characters.
struct CaseText {
  uint32_t letter;
  std::string_view text;
};

struct CaseRange {
  uint32_t first, last;
};

/// Both parts are in order of code points.
struct CaseTable {
  std::span<const CaseRun> runs;
  std::span<const CaseText> texts;
};

CaseTable lower_table();
CaseTable upper_table();
CaseTable title_table();  // where it differs from upper
CaseTable fold_table();   // where it differs from lower
std::span<const CaseRange> digits_beyond_decimals();
std::span<const CaseRange> numerics_beyond_digits();

}  // namespace moe::jinja
