#pragma once
/// Letter cases and digits as Python's str has them (Unicode 14), as tools/make_case_tables.py writes them down.
/// letter_case.h is what the rest of the program asks.

#include <cstdint>
#include <span>
#include <string_view>

namespace moe::jinja {

/// Every `step`-th code point from `first` to `last` has its other case `delta` further.
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
