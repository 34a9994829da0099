// The same element of a product has the same bits whatever the threads, the rows beside it and the division into tasks.

#include <numeric>

#include "tests/backend/cpu/tensors.h"

namespace moe::test {
namespace {

constexpr DType kTypes[] = {DType::f32, DType::bf16};

struct Sizes {
  int64_t m, n, k;
};

// Below and beyond a tile, a block of rows, a block of columns and a K-block (384) of the kernels; last, more rows than
// are taken at once and more of a than is packed at once.
const Sizes kSizes[] = {{1, 1, 1},      {5, 17, 3},     {37, 70, 129}, {200, 130, 385},
                        {455, 90, 800}, {13, 1030, 64}, {4200, 20, 3}, {1100, 40, 2000}};

TEST(Products, SameBitsForAnyNumberOfThreads) {
  Cpu one(1), two(2), three(3);
  for (const Sizes& s : kSizes) {
    for (const DType type : kTypes) {
      for (const bool transpose_a : {false, true}) {
        for (const bool transpose_b : {false, true}) {
          Tensors t;
          Gemm op{.a = transpose_a ? t.normal(type, {s.k, s.m}) : t.normal(type, {s.m, s.k}),
                  .b = transpose_b ? t.normal(type, {s.n, s.k}) : t.normal(type, {s.k, s.n}),
                  .c = t.nan(type, {s.m, s.n}),
                  .transpose_a = transpose_a,
                  .transpose_b = transpose_b};
          one.run(op);
          const View expected = op.c;
          for (Cpu* cpu : {&two, &three}) {
            op.c = t.nan(type, {s.m, s.n});
            cpu->run(op);
            expect_same_bits(op.c, expected, describe(op));
          }
        }
      }
    }
  }
}

TEST(Products, ARowHasTheSameBitsAloneAndAmongOthers) {
  for (const Isa isa : available_isas()) {
    Cpu other(1, isa);
    for (const Sizes& s : kSizes) {
      for (const DType type : kTypes) {
        for (const bool accumulate : {false, true}) {
          Tensors t;
          const View start = t.normal(type, {s.m, s.n});
          Gemm op{.a = t.normal(type, {s.m, s.k}),
                  .b = t.normal(type, {s.n, s.k}),
                  .c = t.copy(start),
                  .transpose_b = true,
                  .accumulate = accumulate};
          other.run(op);
          for (const int64_t chunk : {1, 2, 3, 4, 7, 64}) {
            if (s.m > 100 * chunk) continue;
            const View c = t.copy(start);
            for (int64_t m = 0; m < s.m; m += chunk) {
              const int64_t rows = std::min(chunk, s.m - m);
              Gemm part = op;
              part.a = op.a.rows(m, rows);
              part.c = c.rows(m, rows);
              other.run(part);
            }
            expect_same_bits(c, op.c, fmt::format("{} on {} by {} rows", describe(op), name(isa), chunk));
          }
        }
      }
    }
  }
}

TEST(Products, ColumnsHaveTheSameBitsAloneAndAmongOthers) {
  Cpu cpu(1);
  Tensors t;
  const Gemm whole{.a = t.normal(DType::f32, {50, 900}),
                   .b = t.normal(DType::f32, {300, 900}),
                   .c = t.nan(DType::f32, {50, 300}),
                   .transpose_b = true};
  cpu.run(whole);
  const View c = t.nan(DType::f32, {50, 300});
  for (int64_t n = 0; n < 300; n += 37) {
    const int64_t columns = std::min<int64_t>(37, 300 - n);
    cpu.run(Gemm{.a = whole.a, .b = whole.b.rows(n, columns), .c = c.columns(n, columns), .transpose_b = true});
  }
  expect_same_bits(c, whole.c, "by 37 columns");
}

TEST(Products, Bf16ResultsAreTheF32ResultsRoundedOnce) {
  Cpu cpu(2);
  for (const Sizes& s : kSizes) {
    for (const bool accumulate : {false, true}) {
      Tensors t;
      const View start = t.normal(DType::bf16, {s.m, s.n});
      Gemm op{.a = t.normal(DType::bf16, {s.m, s.k}),
              .b = t.normal(DType::bf16, {s.k, s.n}),
              .c = t.copy(start),
              .accumulate = accumulate};
      cpu.run(op);
      const View rounded = op.c;
      op.c = t.filled(DType::f32, {s.m, s.n}, 0);
      for (int64_t i = 0; i < start.elements(); ++i) Tensors::set(op.c, i, Tensors::get(start, i));
      cpu.run(op);
      const View expected = t.filled(DType::bf16, {s.m, s.n}, 0);
      for (int64_t i = 0; i < start.elements(); ++i) Tensors::set(expected, i, Tensors::get(op.c, i));
      expect_same_bits(rounded, expected, describe(op));
    }
  }
}

TEST(Products, WideInstructionSetsGiveTheSameBits) {
  if (!supports(Isa::avx512)) GTEST_SKIP() << "this processor has no AVX-512 to compare with AVX2";
  Cpu narrow(1, Isa::avx2), wide(1, Isa::avx512);
  for (const Sizes& s : kSizes) {
    Tensors t;
    Gemm op{.a = t.normal(DType::f32, {s.m, s.k}),
            .b = t.normal(DType::f32, {s.k, s.n}),
            .c = t.nan(DType::f32, {s.m, s.n})};
    narrow.run(op);
    const View expected = op.c;
    op.c = t.nan(DType::f32, {s.m, s.n});
    wide.run(op);
    expect_same_bits(op.c, expected, describe(op));
  }
}

TEST(Products, AnUnknownInstructionSetIsRefused) {
  if (supports(Isa::avx512_bf16)) GTEST_SKIP() << "this processor has every instruction set that the kernels know";
  ThreadPool pool(1);
  EXPECT_THROW(make_cpu_backend(pool, Isa::avx512_bf16), Error);
}

// ---- products of experts
// ---------------------------------------------------------------------------------------------

/// Rows of each expert: balanced, skewed, one that takes all, empty ones.
const std::vector<std::vector<int32_t>> kRows = {{40, 41, 39}, {0, 300, 1, 7, 0}, {500}, {0, 0}, {3, 0, 600, 2}};

struct Experts {
  std::vector<int32_t> offsets{0};
  std::vector<int32_t> from;
  int64_t rows() const { return offsets.back(); }
  int64_t count() const { return static_cast<int64_t>(offsets.size()) - 1; }
};

Experts experts_of(const std::vector<int32_t>& rows, int32_t tokens) {
  Experts experts;
  for (const int32_t r : rows) experts.offsets.push_back(experts.offsets.back() + r);
  for (int32_t r = 0; r < experts.offsets.back(); ++r) experts.from.push_back((r * 11 + 5) % tokens);
  return experts;
}

TEST(GroupedProducts, EqualOneProductPerExpert) {
  Cpu one(1), three(3);
  constexpr int32_t tokens = 90;
  for (const auto& rows : kRows) {
    const Experts experts = experts_of(rows, tokens);
    for (const DType type : kTypes) {
      Tensors t;
      const int64_t n = 150, k = 400, spare = 3;
      const View offsets = t.indices(experts.offsets), a = t.normal(type, {tokens, k});
      std::vector<int32_t> from = experts.from;
      from.resize(from.size() + spare, -1);  // beyond the last expert: never looked at
      const View b = t.normal(type, {experts.count(), n, k});
      const View gathered = t.filled(type, {experts.rows(), k}, 0);
      for (int64_t r = 0; r < experts.rows(); ++r) {
        std::memcpy(gathered.rows(r, 1).data, a.rows(experts.from[static_cast<size_t>(r)], 1).data,
                    static_cast<size_t>(k) * size_of(type));
      }
      const View expected = t.nan(type, {experts.rows() + spare, n});
      for (int64_t e = 0; e < experts.count(); ++e) {
        const int32_t begin = experts.offsets[static_cast<size_t>(e)], count = rows[static_cast<size_t>(e)];
        one.run(Gemm{
            .a = gathered.rows(begin, count), .b = b.at(e), .c = expected.rows(begin, count), .transpose_b = true});
      }
      for (Cpu* cpu : {&one, &three}) {
        const GroupedGemm op{.a = a,
                             .a_rows = t.indices(from),
                             .offsets = offsets,
                             .b = b,
                             .c = t.nan(type, {experts.rows() + spare, n}),
                             .transpose_b = true};
        cpu->run(op);
        expect_same_bits(op.c, expected, describe(op));
      }
    }
  }
}

TEST(GroupedProducts, ReductionsEqualOneProductPerExpert) {
  Cpu one(1), three(3);
  constexpr int32_t tokens = 90;
  for (const auto& rows : kRows) {
    const Experts experts = experts_of(rows, tokens);
    for (const bool accumulate : {false, true}) {
      Tensors t;
      const int64_t m = 140, n = 70;
      const View a = t.normal(DType::bf16, {experts.rows(), m}), b = t.normal(DType::bf16, {tokens, n});
      const View start = t.normal(DType::f32, {experts.count(), m, n});
      const View gathered = t.filled(DType::bf16, {experts.rows(), n}, 0);
      for (int64_t r = 0; r < experts.rows(); ++r) {
        std::memcpy(gathered.rows(r, 1).data, b.rows(experts.from[static_cast<size_t>(r)], 1).data,
                    static_cast<size_t>(n) * 2);
      }
      const View expected = t.copy(start);
      for (int64_t e = 0; e < experts.count(); ++e) {
        const int32_t begin = experts.offsets[static_cast<size_t>(e)], count = rows[static_cast<size_t>(e)];
        one.run(Gemm{.a = a.rows(begin, count),
                     .b = gathered.rows(begin, count),
                     .c = expected.at(e),
                     .transpose_a = true,
                     .accumulate = accumulate});
      }
      for (Cpu* cpu : {&one, &three}) {
        const GroupedGemmReduce op{.a = a,
                                   .b = b,
                                   .b_rows = t.indices(experts.from),
                                   .offsets = t.indices(experts.offsets),
                                   .c = t.copy(start),
                                   .accumulate = accumulate};
        cpu->run(op);
        expect_same_bits(op.c, expected, describe(op));
      }
    }
  }
}

}  // namespace
}  // namespace moe::test
