#pragma once
/// What Unicode's normal forms need to know of each character, in the version of the `tokenizers` library, as
/// tools/make_normal_form_tables.py writes it down. All lists are sorted by code point. Hangul syllables are not
/// listed, because their decompositions are computed. normal_form.h is what the rest of the program uses.

#include <cstdint>
#include <span>

namespace moe::unicode {

/// Code points from `first` to `last`, both included, with a combining class other than 0.
struct CombiningClass {
  char32_t first, last;
  uint8_t value;
};

/// A whole decomposition: `size` code points of decomposed_parts(), from `begin` on.
struct Decomposition {
  char32_t code;
  uint16_t begin;
  uint8_t size;
};

/// `first` and `second` become `composed`.
struct Composition {
  char32_t first, second, composed;
};

std::span<const CombiningClass> combining_classes();
std::span<const Decomposition> canonical_decompositions();
/// Those that differ from the canonical ones.
std::span<const Decomposition> compatible_decompositions();
std::span<const char32_t> decomposed_parts();
/// Sorted by `first`, then by `second`. Without those that Unicode excludes.
std::span<const Composition> compositions();

}  // namespace moe::unicode
