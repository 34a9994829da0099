#pragma once
/// The tables of Hash Layers, from token id to expert, one per layer.

#include <cstdint>
#include <span>
#include <vector>

namespace moe {

/// The expert of each id is uniform and a function of (seed, layer, id).
std::vector<int32_t> random_hash_table(int64_t vocabulary, int64_t experts, uint64_t seed, int64_t layer);

/// `counts` says how often each id occurs in the training text. Ids are assigned by falling count (among equal counts
/// the lower id first), each to the expert with the least text so far (among equal experts the lower index).
std::vector<int32_t> balanced_hash_table(std::span<const int64_t> counts, int64_t experts);

}  // namespace moe
