#pragma once
/// The tables of Hash Layers: token id -> expert, one per layer.

#include <cstdint>
#include <span>
#include <vector>

namespace moe {

/// Each id's expert is uniform, a function of (seed, layer, id).
std::vector<int32_t> random_hash_table(int64_t vocabulary, int64_t experts, uint64_t seed, int64_t layer);

/// `counts`: how often each id occurs in the training text. Ids by falling count (ties: the lower id first), each to
/// the expert with the least text so far (ties: the lower index).
std::vector<int32_t> balanced_hash_table(std::span<const int64_t> counts, int64_t experts);

}  // namespace moe
