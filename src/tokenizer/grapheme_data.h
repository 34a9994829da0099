#pragma once
/// Where user-perceived characters may break (extended grapheme clusters, UAX 29), in the Unicode version of the
/// `tokenizers` library, as tools/make_grapheme_tables.py writes it down.

#include <cstdint>
#include <span>

namespace moe::unicode {

/// The property Grapheme_Cluster_Break; `syllable` is LV or LVT, which arithmetic tells apart.
enum class GraphemeBreak : uint8_t {
  other,
  cr,
  lf,
  control,
  extend,
  joiner,
  regional,
  prepend,
  spacing,
  leading,
  vowel,
  trailing,
  syllable
};

/// A value of a run: a GraphemeBreak in the lowest four bits, and these bits: Extended_Pictographic, and the values of
/// Indic_Conjunct_Break.
inline constexpr uint8_t kBreakMask = 0x0F, kPictograph = 0x10, kConsonant = 0x20, kConjunctExtend = 0x40,
                         kLinker = 0x80;

/// Code point << 8 | value, for each code point where the value changes.
std::span<const uint32_t> grapheme_runs();

}  // namespace moe::unicode
