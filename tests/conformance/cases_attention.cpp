#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/random.h"
#include "tests/conformance/cases.h"
#include "tests/oracle/naive.h"

namespace moe::conformance {
namespace {

struct Heads {
  int heads, kv_heads;
  int64_t size;
};

/// Lengths of consecutive documents, negative for padding.
using Documents = std::vector<int64_t>;

struct Packed {
  std::vector<int64_t> segment_start;
  int64_t longest = 0;
};

Packed pack(const Documents& documents) {
  Packed result;
  for (const int64_t length : documents) {
    const auto start = static_cast<int64_t>(result.segment_start.size());
    result.segment_start.insert(result.segment_start.end(), static_cast<size_t>(std::abs(length)),
                                length > 0 ? start : -1);
    result.longest = std::max(result.longest, length);
  }
  return result;
}

struct Types {
  DType qkv, out;
};

/// Every call of the forward operation; the backward's cases are made from it. `aligned`: rows without gaps.
template <class Visit>
void for_each_attention(const Visit& visit) {
  constexpr bool kAligned = true;
  const Documents documents[] = {{},      {1},         {7},        {3, 1, 5},           {-3},
                                 {4, -2}, {-2, 5, -1}, {33, 8, 1}, {2, 70, -3, 20, -1}, {150}};
  for (const Documents& lengths : documents) {
    for (const Heads& heads : {Heads{1, 1, 1}, Heads{2, 2, 2}, Heads{4, 2, 5}, Heads{3, 1, 13}, Heads{4, 1, 64}}) {
      if (pack(lengths).segment_start.size() > 60 && heads.size < 13) continue;
      for (const Types& types : {Types{f32, f32}, Types{bf16_type, bf16_type}, Types{bf16_type, f32}}) {
        visit(pack(lengths), heads, types, 1.0, !kAligned);
      }
      if (heads.size == 64 && pack(lengths).segment_start.size() < 60) {
        visit(pack(lengths), Heads{2, 1, 128}, Types{bf16_type, bf16_type}, 1.0, !kAligned);
      }
      if (heads.size == 5) visit(pack(lengths), heads, Types{f32, f32}, 20.0, !kAligned);
    }
  }
  // Documents that end around the edges of tiles of 64 and 128 rows. Of three cases in a row one is aligned to 64 bytes
  // (Cases::add), as the copy engines of GPUs want it.
  for (const Documents& lengths : {Documents{63, 64, 65, -1}, Documents{-1, 127, 1, 128, 2}}) {
    for (const Heads& heads : {Heads{2, 1, 64}, Heads{2, 2, 96}, Heads{2, 1, 128}}) {
      for (int copy = 0; copy < 3; ++copy) visit(pack(lengths), heads, Types{bf16_type, bf16_type}, 1.0, kAligned);
    }
  }
}

Attention make_attention(Store& s, const Packed& packed, const Heads& heads, const Types& types, double deviation) {
  const auto tokens = static_cast<int64_t>(packed.segment_start.size());
  const int64_t width = heads.heads * heads.size, kv_width = heads.kv_heads * heads.size;
  return {.q = s.normal(types.qkv, {tokens, width}, deviation),
          .k = s.normal(types.qkv, {tokens, kv_width}, deviation),
          .v = s.normal(types.qkv, {tokens, kv_width}),
          .segment_start = s.indices({tokens}, packed.segment_start),
          .heads = heads.heads,
          .kv_heads = heads.kv_heads,
          .scale = 1 / std::sqrt(static_cast<float>(heads.size)),
          .max_segment = s.draw() % 2 ? std::max<int64_t>(packed.longest, 1) : std::max<int64_t>(tokens, 1),
          .out = s.poison(types.out, {tokens, width}),
          .lse = s.poison(f32, {tokens, heads.heads})};
}

std::string note(const Packed& packed, const Heads& heads, double deviation) {
  return fmt::format("heads={}/{} of {}, longest document {}, deviation={}", heads.heads, heads.kv_heads, heads.size,
                     packed.longest, deviation);
}

/// Tokens of several sequences, each at the position after its last, with gaps of padding; `filled` has every position
/// before them, so that a whole prefix can be written to the cache.
struct Chunk {
  std::vector<int64_t> sequence, positions;
};

Chunk chunk_of(const std::vector<std::pair<int64_t, int64_t>>& begin_and_count) {
  Chunk result;
  for (size_t sequence = 0; sequence < begin_and_count.size(); ++sequence) {
    const auto [begin, count] = begin_and_count[sequence];
    for (int64_t i = 0; i < count; ++i) {
      result.sequence.push_back(static_cast<int64_t>(sequence));
      result.positions.push_back(begin + i);
    }
    result.sequence.push_back(-1);
    result.positions.push_back(0);
  }
  return result;
}

/// Where each of three sequences goes on and by how many tokens: a first chunk, later chunks, single tokens.
const std::vector<std::vector<std::pair<int64_t, int64_t>>> kChunks = {{{0, 0}, {0, 0}, {0, 0}},
                                                                       {{0, 5}, {0, 1}, {0, 0}},
                                                                       {{3, 4}, {0, 9}, {16, 1}},
                                                                       {{70, 1}, {129, 1}, {5, 1}},
                                                                       {{64, 40}, {0, 3}, {127, 9}}};
constexpr int64_t kCacheLength = 140;

/// Tokens of a page: one, no divisor and no multiple of a backend's block of keys, one such block, a whole sequence.
constexpr int64_t kPageTokens[] = {1, 7, 64, kCacheLength};

/// Large batches for one backend's choice between kernels: long and short pieces of prompts among single tokens, runs
/// that end around multiples of 64 and 128 tokens, sequences of very different lengths. The last is cut into pieces
/// again by the padding behind each sequence.
const std::vector<std::vector<std::pair<int64_t, int64_t>>> kLargeChunks = {
    {{0, 129}, {5, 1}, {70, 1}},
    {{0, 1}, {63, 1}, {64, 1}, {200, 1}, {0, 64}, {1, 65}, {127, 130}, {300, 17}},
    {{40, 200}, {0, 15}, {0, 16}, {7, 31}, {500, 2}, {3, 63}},
    std::vector<std::pair<int64_t, int64_t>>(70, {37, 1})};

/// A cache in pages for the sequences of a chunk.
struct Pages {
  int64_t tokens;              ///< P
  int64_t count;               ///< N
  int64_t each = 0;            ///< M
  std::vector<int64_t> table;  ///< [sequences, M]
};

/// The pages of the sequences are in no order, and some belong to nobody. Whole pages before the chunk are the same
/// ones in every sequence. Entries that nobody may read are no pages.
Pages pages_of(const std::vector<std::pair<int64_t, int64_t>>& begin_and_count, int64_t tokens, uint64_t seed) {
  int64_t length = kCacheLength;
  for (const auto& [begin, count] : begin_and_count) length = std::max(length, begin + count);
  Pages pages{.tokens = tokens, .count = 0, .each = (length + tokens - 1) / tokens + 1, .table = {}};
  pages.table.assign(begin_and_count.size() * static_cast<size_t>(pages.each), -1);
  const auto entry = [&](size_t sequence, int64_t page) -> int64_t& {
    return pages.table[sequence * static_cast<size_t>(pages.each) + static_cast<size_t>(page)];
  };
  for (size_t s = 0; s < begin_and_count.size(); ++s) {
    const auto [begin, count] = begin_and_count[s];
    for (int64_t page = 0; page * tokens < begin + count; ++page) {
      const bool whole = (page + 1) * tokens <= begin;
      for (size_t other = 0; other < s && whole; ++other) {
        if ((page + 1) * tokens <= begin_and_count[other].first) entry(s, page) = entry(other, page);
      }
      if (entry(s, page) < 0) entry(s, page) = pages.count++;
    }
  }
  pages.count += 2;
  std::vector<int64_t> order(static_cast<size_t>(pages.count));
  std::iota(order.begin(), order.end(), 0);
  const Random random(seed, hash_name("pages"));
  for (size_t i = order.size(); i-- > 1;) std::swap(order[i], order[random.below(i, i + 1)]);
  for (int64_t& page : pages.table) {
    if (page >= 0) page = order[static_cast<size_t>(page)];
  }
  return pages;
}

}  // namespace

template <>
Cases<Attention> make_cases<Attention>() {
  Cases<Attention> list;
  for_each_attention([&](const Packed& packed, const Heads& heads, const Types& types, double deviation, bool aligned) {
    list.add(make_attention(aligned ? list.contiguous() : list.strided(), packed, heads, types, deviation),
             note(packed, heads, deviation));
  });
  return list;
}

template <>
Cases<AttentionBackward> make_cases<AttentionBackward>() {
  Cases<AttentionBackward> list;
  for_each_attention([&](const Packed& packed, const Heads& heads, const Types& types, double deviation, bool aligned) {
    Store& s = aligned ? list.contiguous() : list.strided();
    const Attention forward = make_attention(s, packed, heads, types, deviation);
    oracle::compute(forward);
    list.add(AttentionBackward{.q = forward.q,
                               .k = forward.k,
                               .v = forward.v,
                               .segment_start = forward.segment_start,
                               .out = forward.out,
                               .lse = forward.lse,
                               .d_out = s.normal(types.out, forward.q.shape),
                               .heads = forward.heads,
                               .kv_heads = forward.kv_heads,
                               .scale = forward.scale,
                               .max_segment = forward.max_segment,
                               .dq = s.poison(types.out, forward.q.shape),
                               .dk = s.poison(types.out, forward.k.shape),
                               .dv = s.poison(types.out, forward.v.shape)},
             note(packed, heads, deviation));
  });
  return list;
}

template <>
Cases<KvAppend> make_cases<KvAppend>() {
  Cases<KvAppend> list;
  struct Pair {
    DType data, cache;
  };
  for (const auto& begin_and_count : kChunks) {
    const Chunk chunk = chunk_of(begin_and_count);
    const auto tokens = static_cast<int64_t>(chunk.sequence.size());
    for (const int64_t width : {1, 13, 64}) {
      for (const Pair& types : {Pair{f32, f32}, Pair{bf16_type, bf16_type}, Pair{f32, bf16_type}, Pair{bf16_type, f32},
                                Pair{f32, DType::f16}, Pair{bf16_type, DType::f16}}) {
        for (const int64_t page_tokens : kPageTokens) {
          Store& s = list.strided();
          const Pages pages = pages_of(begin_and_count, page_tokens, s.draw());
          list.add(KvAppend{.k = s.normal(types.data, {tokens, width}),
                            .v = s.normal(types.data, {tokens, width}),
                            .sequence = s.indices({tokens}, chunk.sequence),
                            .positions = s.indices({tokens}, chunk.positions),
                            .pages = s.indices({3, pages.each}, pages.table),
                            .k_cache = s.poison(types.cache, {pages.count, page_tokens, width}),
                            .v_cache = s.poison(types.cache, {pages.count, page_tokens, width})},
                   fmt::format("pages of {}", page_tokens));
        }
      }
    }
  }
  return list;
}

namespace {

/// The types of a case, and of its cache.
struct CachedTypes {
  DType q, cache, out;
};
constexpr CachedTypes kOneType{f32, f32, f32}, kBrainFloats{bf16_type, bf16_type, bf16_type};

/// `page_tokens`: tokens of a page of the cache.
CachedAttention make_cached(Store& s, const std::vector<std::pair<int64_t, int64_t>>& begin_and_count,
                            const Heads& heads, const CachedTypes& types, int64_t page_tokens) {
  const Chunk chunk = chunk_of(begin_and_count);
  const auto tokens = static_cast<int64_t>(chunk.sequence.size());
  const int64_t width = heads.kv_heads * heads.size;
  const Pages pages = pages_of(begin_and_count, page_tokens, s.draw());
  const auto sequences = static_cast<int64_t>(begin_and_count.size());
  const View table = s.indices({sequences, pages.each}, pages.table);
  const View k_cache = s.poison(types.cache, {pages.count, page_tokens, width});
  const View v_cache = s.poison(types.cache, {pages.count, page_tokens, width});
  for (int64_t sequence = 0; sequence < sequences; ++sequence) {
    const auto [begin, count] = begin_and_count[static_cast<size_t>(sequence)];
    const int64_t filled = begin + count;  // what is beyond stays poison: nobody may read it
    const View of_sequence = s.constant(i32, {filled}, static_cast<double>(sequence));
    std::vector<int64_t> positions(static_cast<size_t>(filled));
    std::iota(positions.begin(), positions.end(), 0);
    oracle::compute(KvAppend{.k = s.normal(f32, {filled, width}),
                             .v = s.normal(f32, {filled, width}),
                             .sequence = of_sequence,
                             .positions = s.indices({filled}, positions),
                             .pages = table,
                             .k_cache = k_cache,
                             .v_cache = v_cache});
  }
  return {.q = s.normal(types.q, {tokens, heads.heads * heads.size}),
          .k_cache = k_cache,
          .v_cache = v_cache,
          .sequence = s.indices({tokens}, chunk.sequence),
          .positions = s.indices({tokens}, chunk.positions),
          .pages = table,
          .heads = heads.heads,
          .kv_heads = heads.kv_heads,
          .scale = 1 / std::sqrt(static_cast<float>(heads.size)),
          .out = s.poison(types.out, {tokens, heads.heads * heads.size})};
}

}  // namespace

template <>
Cases<CachedAttention> make_cases<CachedAttention>() {
  Cases<CachedAttention> list;
  for (const auto& begin_and_count : kChunks) {
    for (const Heads& heads : {Heads{1, 1, 1}, Heads{2, 2, 2}, Heads{4, 2, 5}, Heads{3, 1, 13}, Heads{4, 1, 64}}) {
      for (const CachedTypes& types : {kOneType, kBrainFloats, CachedTypes{bf16_type, bf16_type, f32},
                                       CachedTypes{f32, DType::f16, f32}, CachedTypes{f32, bf16_type, f32}}) {
        for (const int64_t page_tokens : kPageTokens) {
          list.add(make_cached(list.strided(), begin_and_count, heads, types, page_tokens),
                   fmt::format("heads={}/{} of {}, pages of {}", heads.heads, heads.kv_heads, heads.size, page_tokens));
        }
      }
    }
  }
  // In bf16, as kernels for tensor cores want it, and aligned, as every third case is (Cases::add).
  const auto add = [&](const std::vector<std::pair<int64_t, int64_t>>& begin_and_count, const Heads& heads,
                       int64_t page_tokens) {
    while (list.all().size() % 3 != 0) {
      list.add(make_cached(list.contiguous(), kChunks[1], {1, 1, 8}, kOneType, 7));
    }
    list.add(make_cached(list.contiguous(), begin_and_count, heads, kBrainFloats, page_tokens),
             fmt::format("heads={}/{} of {}, pages of {}", heads.heads, heads.kv_heads, heads.size, page_tokens));
  };
  for (const auto& begin_and_count : kLargeChunks) {
    add(begin_and_count, {2, 2, 64}, 64);
    add(begin_and_count, {2, 1, 128}, 64);
    add(begin_and_count, {1, 1, 96}, 7);
    add(begin_and_count, {1, 1, 128}, 1);
    add(begin_and_count, {2, 1, 13}, 64);
  }
  for (const auto* begin_and_count : {&kLargeChunks[2], &kLargeChunks[3], &kChunks[2], &kChunks[4]}) {
    add(*begin_and_count, {4, 1, 128}, 64);
    add(*begin_and_count, {8, 1, 64}, 128);
  }
  for (const auto* begin_and_count : {&kLargeChunks[0], &kLargeChunks[3], &kChunks[4]}) {
    add(*begin_and_count, {20, 1, 64}, 64);
    add(*begin_and_count, {6, 2, 40}, 1);
  }
  return list;
}

}  // namespace moe::conformance
