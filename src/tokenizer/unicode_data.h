#pragma once
/// The Unicode Character Database in the version of the `tokenizers` library, as tools/make_unicode_tables.py writes it
/// down. unicode_classes.h is what the rest of the program asks.

#include <cstdint>
#include <span>
#include <string_view>

namespace moe::unicode {

/// Code points from `first` to `last`, both included.
struct CodePointRange {
  uint32_t first;
  uint32_t last;
};

/// A long or short name of a script, in small letters, without blanks and underscores.
struct ScriptName {
  std::string_view name;
  uint32_t script;
};

std::string_view version();

/// Code point << 8 | general category (in the order of Category), for each code point where the category changes.
std::span<const uint32_t> category_runs();
/// Code point << 8 | script, for each code point where the script changes.
std::span<const uint32_t> script_runs();
std::span<const ScriptName> script_names();

/// Alphabetic but neither letter nor Nl; Lowercase but not Ll; Uppercase but not Lu.
std::span<const CodePointRange> other_alphabetic();
std::span<const CodePointRange> other_lowercase();
std::span<const CodePointRange> other_uppercase();
std::span<const CodePointRange> ideographic();
/// What the library's step Punctuation cuts out beside ASCII's punctuation and symbols (Unicode 8).
std::span<const CodePointRange> step_punctuation();
/// What its step Digits takes for a digit (Unicode 17).
std::span<const CodePointRange> step_digits();

}  // namespace moe::unicode
