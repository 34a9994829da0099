// Attention gives one query the same bits in training, in any chunk of a prompt, in decoding and beside any other
// sequence.

#include "ops/attention.h"

#include <array>
#include <limits>
#include <numeric>

#include "base/float16.h"
#include "tests/backend/cpu/tensors.h"

namespace moe::test {
namespace {

struct Heads {
  int heads, kv_heads;
  int64_t size;
};

// Few queries of heads of whole vectors are read where they are, several heads in a task; other queries are packed.
const Heads kHeads[] = {{2, 2, 64}, {4, 1, 13}, {6, 2, 5}, {3, 3, 40}, {8, 2, 32}, {9, 3, 48}, {14, 14, 16}};
constexpr DType kTypes[] = {DType::f32, DType::bf16};

std::vector<int32_t> starts_of(const std::vector<int>& lengths) {
  std::vector<int32_t> starts;
  for (const int length : lengths) {
    const auto start = static_cast<int32_t>(starts.size());
    starts.insert(starts.end(), static_cast<size_t>(std::abs(length)), length > 0 ? start : -1);
  }
  return starts;
}

/// A causal pass over packed documents; q, k and v are columns of one matrix.
Attention packed_attention(Tensors& t, const Heads& h, DType type, const std::vector<int>& lengths) {
  const std::vector<int32_t> starts = starts_of(lengths);
  const auto tokens = static_cast<int64_t>(starts.size());
  const int64_t width = h.heads * h.size, kv_width = h.kv_heads * h.size;
  const View qkv = t.normal(type, {tokens, width + 2 * kv_width});
  return {.q = qkv.columns(0, width),
          .k = qkv.columns(width, kv_width),
          .v = qkv.columns(width + kv_width, kv_width),
          .segment_start = t.indices(starts),
          .heads = h.heads,
          .kv_heads = h.kv_heads,
          .scale = 1 / std::sqrt(static_cast<float>(h.size)),
          .max_segment = tokens,
          .out = t.nan(type, {tokens, width}),
          .lse = t.nan(DType::f32, {tokens, h.heads})};
}

TEST(AttentionBits, ADocumentHasTheSameBitsAloneAndPacked) {
  Cpu cpu(2);
  for (const Isa isa : available_isas()) {
    Cpu other(1, isa);
    for (const Heads& h : kHeads) {
      for (const DType type : kTypes) {
        Tensors t;
        const Attention packed = packed_attention(t, h, type, {70, -3, 1, 300, 129, -1});
        other.run(packed);
        for (const auto& [begin, length] : {std::pair<int64_t, int64_t>{0, 70}, {73, 1}, {74, 300}, {374, 129}}) {
          Attention alone = packed;
          alone.q = packed.q.rows(begin, length);
          alone.k = packed.k.rows(begin, length);
          alone.v = packed.v.rows(begin, length);
          alone.segment_start = t.indices(std::vector<int32_t>(static_cast<size_t>(length), 0));
          alone.out = t.nan(type, {length, h.heads * h.size});
          alone.lse = t.nan(DType::f32, {length, h.heads});
          other.run(alone);
          expect_same_bits(alone.out, packed.out.rows(begin, length), describe(alone) + " on " + name(isa));
          expect_same_bits(alone.lse, packed.lse.rows(begin, length), describe(alone) + " lse on " + name(isa));
        }
      }
    }
  }
}

TEST(AttentionBits, SameBitsForAnyNumberOfThreads) {
  Cpu one(1), two(2), three(3);
  for (const Heads& h : kHeads) {
    for (const DType type : kTypes) {
      Tensors t;
      Attention op = packed_attention(t, h, type, {200, 65, -2, 40, 128});
      const int64_t tokens = op.q.size(0), width = h.heads * h.size, kv_width = h.kv_heads * h.size;
      one.run(op);
      AttentionBackward back{.q = op.q,
                             .k = op.k,
                             .v = op.v,
                             .segment_start = op.segment_start,
                             .out = op.out,
                             .lse = op.lse,
                             .d_out = t.normal(type, {tokens, width}),
                             .heads = h.heads,
                             .kv_heads = h.kv_heads,
                             .scale = op.scale,
                             .max_segment = tokens,
                             .dq = t.nan(type, {tokens, width}),
                             .dk = t.nan(type, {tokens, kv_width}),
                             .dv = t.nan(type, {tokens, kv_width})};
      one.run(back);
      const Attention expected = op;
      const AttentionBackward expected_back = back;
      for (Cpu* cpu : {&two, &three}) {
        op.out = t.nan(type, {tokens, width});
        op.lse = t.nan(DType::f32, {tokens, h.heads});
        cpu->run(op);
        expect_same_bits(op.out, expected.out, describe(op));
        expect_same_bits(op.lse, expected.lse, describe(op));
        back.dq = t.nan(type, {tokens, width});
        back.dk = t.nan(type, {tokens, kv_width});
        back.dv = t.nan(type, {tokens, kv_width});
        cpu->run(back);
        expect_same_bits(back.dq, expected_back.dq, describe(back));
        expect_same_bits(back.dk, expected_back.dk, describe(back));
        expect_same_bits(back.dv, expected_back.dv, describe(back));
      }
    }
  }
}

/// A page table [sequences, M] for sequences of `room` tokens, pages of `tokens`; every other page of the cache is
/// free, and the pages of all sequences are mixed.
struct Pages {
  int64_t tokens, each, count;
  View table;

  Pages(Tensors& t, int64_t page_tokens, int64_t sequences, int64_t room) : tokens(page_tokens) {
    each = (room + tokens - 1) / tokens;
    count = 2 * sequences * each;
    std::vector<int32_t> order;
    for (int64_t i = 0; i < sequences * each; ++i) {
      // 7919 is prime, so these are all numbers below sequences * each in some order, unless that is a multiple of it.
      order.push_back(static_cast<int32_t>(2 * (i * 7919 % (sequences * each))));
    }
    table = t.indices(order).reshaped({sequences, each});
  }
};

TEST(AttentionBits, PrefillInAnyChunksAndDecodingEqualTheWholePass) {
  for (const Isa isa : available_isas()) {
    Cpu cpu(2, isa);
    for (const Heads& h : kHeads) {
      for (const DType type : kTypes) {
        Tensors t;
        constexpr int64_t tokens = 150, room = 160;
        const Attention whole = packed_attention(t, h, type, {tokens});
        cpu.run(whole);
        const int64_t width = h.heads * h.size, kv_width = h.kv_heads * h.size;
        const std::vector<std::vector<int64_t>> all_cuts = {
            {0, 150}, {0, 64, 128, 150}, {0, 1, 7, 63, 66, 149, 150}, {0, 100, 101, 102, 103, 150}};
        for (size_t run = 0; run < 4 * all_cuts.size(); ++run) {
          const std::vector<int64_t>& cuts = all_cuts[run / 4];
          const Pages pages(t, std::array<int64_t, 4>{1, 7, 64, room}[run % 4], 3, room);
          // What is beyond a position in the cache is NaN, as memory that nobody has written may be.
          const Shape cache{pages.count, pages.tokens, kv_width};
          const View k_cache = t.nan(type, cache), v_cache = t.nan(type, cache);
          for (size_t i = 0; i + 1 < cuts.size(); ++i) {
            const int64_t begin = cuts[i], count = cuts[i + 1] - begin;
            std::vector<int32_t> sequence(static_cast<size_t>(count), 1), positions;
            for (int64_t p = begin; p < begin + count; ++p) positions.push_back(static_cast<int32_t>(p));
            cpu.run(KvAppend{.k = whole.k.rows(begin, count),
                             .v = whole.v.rows(begin, count),
                             .sequence = t.indices(sequence),
                             .positions = t.indices(positions),
                             .pages = pages.table,
                             .k_cache = k_cache,
                             .v_cache = v_cache});
            const CachedAttention op{.q = whole.q.rows(begin, count),
                                     .k_cache = k_cache,
                                     .v_cache = v_cache,
                                     .sequence = t.indices(sequence),
                                     .positions = t.indices(positions),
                                     .pages = pages.table,
                                     .heads = h.heads,
                                     .kv_heads = h.kv_heads,
                                     .scale = whole.scale,
                                     .out = t.nan(type, {count, width})};
            cpu.run(op);
            expect_same_bits(op.out, whole.out.rows(begin, count),
                             fmt::format("{} on {}, tokens from {}", describe(op), name(isa), begin));
          }
        }
      }
    }
  }
}

TEST(AttentionBits, ABatchOfUnequalSequencesEqualsEachAlone) {
  Cpu cpu(3);
  for (const Heads& h : kHeads) {
    Tensors t;
    constexpr int64_t room = 200;
    const int64_t width = h.heads * h.size, kv_width = h.kv_heads * h.size;
    const Pages pages(t, 16, 4, room);
    const Shape cache{pages.count, pages.tokens, kv_width};
    const View k_cache = t.normal(DType::f32, cache), v_cache = t.normal(DType::f32, cache);
    // A token of each sequence, two of one, padding between them.
    const std::vector<int32_t> sequence = {3, -1, 0, 2, 2, 1}, positions = {199, 0, 0, 63, 64, 130};
    const auto tokens = static_cast<int64_t>(sequence.size());
    CachedAttention op{.q = t.normal(DType::f32, {tokens, width}),
                       .k_cache = k_cache,
                       .v_cache = v_cache,
                       .sequence = t.indices(sequence),
                       .positions = t.indices(positions),
                       .pages = pages.table,
                       .heads = h.heads,
                       .kv_heads = h.kv_heads,
                       .scale = 0.3f,
                       .out = t.nan(DType::f32, {tokens, width})};
    cpu.run(op);
    const CachedAttention together = op;
    for (int64_t i = 0; i < tokens; ++i) {
      op.q = together.q.rows(i, 1);
      op.sequence = together.sequence.rows(i, 1);
      op.positions = together.positions.rows(i, 1);
      op.out = t.nan(DType::f32, {1, width});
      cpu.run(op);
      expect_same_bits(op.out, together.out.rows(i, 1), fmt::format("token {}", i));
    }
  }
}

TEST(AttentionBits, ACacheInF16IsOneInF32WithTheRoundedNumbers) {
  for (const Isa isa : available_isas()) {
    Cpu cpu(2, isa);
    for (const Heads& h : kHeads) {
      for (const int64_t page_tokens : {1, 7, 64}) {
        Tensors t;
        constexpr int64_t tokens = 150;
        const int64_t width = h.heads * h.size, kv_width = h.kv_heads * h.size;
        const Pages pages(t, page_tokens, 2, tokens);
        std::vector<int32_t> positions(tokens);
        std::iota(positions.begin(), positions.end(), 0);
        KvAppend append{.k = t.normal(DType::f32, {tokens, kv_width}),
                        .v = t.normal(DType::f32, {tokens, kv_width}),
                        .sequence = t.indices(std::vector<int32_t>(tokens, 1)),
                        .positions = t.indices(positions),
                        .pages = pages.table,
                        .k_cache = {},
                        .v_cache = {}};
        // Numbers below the normal range of f16, the largest ones, and a tie.
        const float edges[] = {6e-8f, -3.1e-6f, 65504.0f, -65519.0f, 1.00048828125f, 0.0f, -0.0f};
        for (size_t i = 0; i < std::size(edges) && static_cast<int64_t>(i) < kv_width; ++i) {
          Tensors::set(append.v, 3 * kv_width + static_cast<int64_t>(i), edges[i]);
        }
        const View q = t.normal(DType::f32, {tokens, width});
        const auto attend = [&](DType cache) {
          const Shape shape{pages.count, pages.tokens, kv_width};
          append.k_cache = t.nan(cache, shape), append.v_cache = t.nan(cache, shape);
          cpu.run(append);
          const CachedAttention op{.q = q,
                                   .k_cache = append.k_cache,
                                   .v_cache = append.v_cache,
                                   .sequence = append.sequence,
                                   .positions = append.positions,
                                   .pages = pages.table,
                                   .heads = h.heads,
                                   .kv_heads = h.kv_heads,
                                   .scale = 0.3f,
                                   .out = t.nan(DType::f32, {tokens, width})};
          cpu.run(op);
          for (const auto& [begin, count] : {std::pair<int64_t, int64_t>{0, 1}, {1, 4}, {63, 3}, {64, 1}, {149, 1}}) {
            CachedAttention few = op;
            few.q = op.q.rows(begin, count);
            few.sequence = op.sequence.rows(begin, count);
            few.positions = op.positions.rows(begin, count);
            few.out = t.nan(DType::f32, {count, width});
            cpu.run(few);
            expect_same_bits(few.out, op.out.rows(begin, count), fmt::format("{} tokens from {}", count, begin));
          }
          return op.out;
        };
        const View halves = attend(DType::f16);
        for (const View& rows : {append.k, append.v}) {
          for (int64_t i = 0; i < rows.elements(); ++i) Tensors::set(rows, i, to_float(to_f16(Tensors::get(rows, i))));
        }
        expect_same_bits(halves, attend(DType::f32), fmt::format("{}, pages of {}", name(isa), page_tokens));
      }
    }
  }
}

TEST(AttentionBits, LaterTokensAndOtherDocumentsNeverTouchAQuery) {
  Cpu cpu(1);
  Tensors t;
  const Heads h{2, 1, 24};
  const Attention op = packed_attention(t, h, DType::f32, {100, 90});
  cpu.run(op);
  // Every key and value from token 80 of the first document on becomes huge; the second document's turn into NaN.
  Attention changed = op;
  const int64_t width = h.heads * h.size, kv_width = h.kv_heads * h.size;
  changed.k = t.filled(DType::f32, {190, kv_width}, 0);
  changed.v = t.filled(DType::f32, {190, kv_width}, 0);
  for (int64_t i = 0; i < 190; ++i) {
    for (int64_t j = 0; j < kv_width; ++j) {
      const float other = i < 100 ? 3e38f : std::numeric_limits<float>::quiet_NaN();
      Tensors::set(changed.k, i * kv_width + j, i < 80 ? Tensors::get(op.k.rows(i, 1), j) : other);
      Tensors::set(changed.v, i * kv_width + j, i < 80 ? Tensors::get(op.v.rows(i, 1), j) : other);
    }
  }
  changed.out = t.nan(DType::f32, {190, width});
  changed.lse = t.nan(DType::f32, {190, h.heads});
  cpu.run(changed);
  expect_same_bits(changed.out.rows(0, 80), op.out.rows(0, 80), "tokens before the change");
  expect_same_bits(changed.lse.rows(0, 80), op.lse.rows(0, 80), "tokens before the change, lse");
}

TEST(AttentionBits, GradientsDoNotDependOnTheScratchThatHoldsThem) {
  // The packed keys of 1700 tokens of 600 columns do not fit in the scratch, so dQ is made in a second pass; those of
  // the first 500 tokens alone do, and no later query or key reaches their dQ.
  Cpu cpu(2);
  Tensors t;
  const Heads h{1, 1, 600};
  constexpr int64_t tokens = 1700, few = 500, width = 600;
  const Attention op = packed_attention(t, h, DType::bf16, {static_cast<int>(tokens)});
  cpu.run(op);
  const View d_out = t.normal(DType::bf16, {tokens, width});
  const auto backward = [&](int64_t count) {
    AttentionBackward back{.q = op.q.rows(0, count),
                           .k = op.k.rows(0, count),
                           .v = op.v.rows(0, count),
                           .segment_start = op.segment_start.rows(0, count),
                           .out = op.out.rows(0, count),
                           .lse = op.lse.rows(0, count),
                           .d_out = d_out.rows(0, count),
                           .heads = h.heads,
                           .kv_heads = h.kv_heads,
                           .scale = op.scale,
                           .max_segment = count,
                           .dq = t.nan(DType::bf16, {count, width}),
                           .dk = t.nan(DType::bf16, {count, h.size}),
                           .dv = t.nan(DType::bf16, {count, h.size})};
    cpu.run(back);
    return back;
  };
  const AttentionBackward all = backward(tokens), part = backward(few);
  expect_same_bits(all.dq.rows(0, few), part.dq, "dq");
}

}  // namespace
}  // namespace moe::test
