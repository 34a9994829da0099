// Products with weights in blocks: every instruction set against double precision, and against each other bit for bit.

#include <algorithm>
#include <limits>

#include "backend/cpu/kernels/matrix.h"
#include "base/float16.h"
#include "ops/expert_rows.h"
#include "tests/backend/cpu/tensors.h"

namespace moe::test {
namespace {

/// Those of files: rearranged ones are for GPUs, and here they are widened.
std::vector<DType> block_types() {
  std::vector<DType> types;
  for (const StorageType& type : kStorageTypes) {
    if (type.block > 1 && !is_rearranged(type.dtype)) types.push_back(type.dtype);
  }
  return types;
}

/// The codes of nf4 are no integers, so its products take rows as they are.
bool rounds_rows(DType type) { return type != DType::nf4; }

/// Where a block has its f16 numbers.
std::vector<size_t> halves_of(DType type) {
  switch (type) {
    case DType::q8_0:
    case DType::q4_0:
    case DType::q5_0:
      return {0};
    case DType::q6_k:
      return {208};
    default:
      return {0, 2};
  }
}

/// Blocks of random bits, so every code and every scale of a part occurs. The f16 numbers are finite: of any magnitude,
/// or moderate.
View random_blocks(Tensors& tensors, DType type, Shape shape, bool extreme, uint64_t stream = 3) {
  const View view = tensors.filled(type, shape, 0);
  auto* const bytes = static_cast<uint8_t*>(view.data);
  const Random random(11, stream);
  for (size_t i = 0; i < view.bytes(); ++i) bytes[i] = static_cast<uint8_t>(random.below(i, 256));
  const auto block = static_cast<size_t>(storage(type).bytes);
  for (size_t at = 0; at < view.bytes(); at += block) {
    for (const size_t half : halves_of(type)) {
      uint16_t bits;
      std::memcpy(&bits, bytes + at + half, sizeof(bits));
      bits = static_cast<uint16_t>(extreme ? ((bits & 0x7c00) == 0x7c00 ? bits & 0x83ff : bits)
                                           : (bits & 0x83ff) | 0x2c00);  // exponents of 2^-4
      std::memcpy(bytes + at + half, &bits, sizeof(bits));
    }
  }
  return view;
}

std::vector<float> floats_of(const View& view) {
  std::vector<float> values(static_cast<size_t>(view.elements()));
  storage(view.dtype).to_floats(view.data, values.data(), view.elements());
  return values;
}

/// Rows rounded as the product defines it: 32 numbers have the scale largest / 127. And the most that this changes one.
struct Rounded {
  std::vector<double> value, off;
};

Rounded rounded(const View& rows) {
  Rounded result;
  for (int64_t group = 0; group < rows.elements(); group += 32) {
    float most = 0;
    for (int64_t i = 0; i < 32; ++i) most = std::max(most, std::abs(Tensors::get(rows, group + i)));
    const float scale = most / 127, inverse = most > 0 ? 127 / most : 0;
    for (int64_t i = 0; i < 32; ++i) {
      const double x = Tensors::get(rows, group + i);
      result.value.push_back(std::nearbyint(x * static_cast<double>(inverse)) * static_cast<double>(scale));
      result.off.push_back(static_cast<double>(scale) * 0.50001);
    }
  }
  return result;
}

struct Sizes {
  int64_t m, n, k;
};
// Few rows and many, strips and tiles that are not whole, one block of every type and several.
const Sizes kSizes[] = {{1, 1, 256}, {1, 40, 768}, {2, 16, 256},  {3, 33, 512},
                        {4, 7, 256}, {5, 17, 512}, {29, 50, 1280}};

class BlockProducts : public testing::TestWithParam<DType> {};

/// |found - expected| <= allowed, where `depth` roundings of f32 may be added.
void expect_near(const View& c, const std::vector<double>& expected, const std::vector<double>& allowed,
                 const std::string& what) {
  for (int64_t i = 0; i < c.elements(); ++i) {
    const auto at = static_cast<size_t>(i);
    const double found = Tensors::get(c, i);
    ASSERT_LE(std::abs(found - expected[at]), allowed[at]) << what << ": element " << i << " is " << found;
  }
}

void check_product(DType type, const Sizes& s, Isa isa, bool extreme) {
  Tensors t;
  Gemm op{.a = t.normal(DType::f32, {s.m, s.k}),
          .b = random_blocks(t, type, {s.n, s.k}, extreme),
          .c = t.nan(DType::f32, {s.m, s.n}),
          .transpose_b = true};
  Cpu cpu(1, isa);
  cpu.run(op);
  const std::vector<float> w = floats_of(op.b);
  const Rounded a = rounded(op.a);
  std::vector<double> of_rounded, of_given, few_ulp, allowed;
  for (int64_t m = 0; m < s.m; ++m) {
    for (int64_t n = 0; n < s.n; ++n) {
      double rounded_sum = 0, sum = 0, magnitude = 0, off = 0;
      for (int64_t k = 0; k < s.k; ++k) {
        const auto i = static_cast<size_t>(m * s.k + k), j = static_cast<size_t>(n * s.k + k);
        const double weight = w[j];
        rounded_sum += a.value[i] * weight;
        sum += static_cast<double>(Tensors::get(op.a, m * s.k + k)) * weight;
        // Of types with a minimum, both parts of a weight are summed apart.
        magnitude += std::abs(a.value[i]) * std::abs(weight);
        if (rounds_rows(type)) off += a.off[i] * std::abs(weight);
      }
      of_rounded.push_back(rounded_sum);
      of_given.push_back(sum);
      few_ulp.push_back(magnitude);
      allowed.push_back(off);
    }
  }
  // A weight scale q - minimum may be far smaller than both of its parts, which are summed apart in f32.
  double largest = 0;
  for (const float weight : w) largest = std::max(largest, std::abs(static_cast<double>(weight)));
  const double parts = 8 * largest * static_cast<double>(s.k);
  const double ulp = 0x1p-24 * static_cast<double>(s.k / 16 + 4);
  for (double& x : few_ulp) x = ulp * (x + parts);
  for (size_t i = 0; i < allowed.size(); ++i) allowed[i] += few_ulp[i];
  const std::string what = fmt::format("{} {}x{}x{} on {}", name(type), s.m, s.n, s.k, name(isa));
  expect_near(op.c, of_given, allowed, what);
  // Without fused multiplication a number half way between two codes may get the other one.
  if (isa != Isa::baseline && rounds_rows(type)) expect_near(op.c, of_rounded, few_ulp, what + ", of rounded rows");
}

TEST_P(BlockProducts, AreThoseOfTheSameNumbersWithinTheRoundingOfRows) {
  for (const Isa isa : available_isas()) {
    for (const Sizes& s : kSizes) check_product(GetParam(), s, isa, false);
  }
}

TEST_P(BlockProducts, ScalesOfAnyMagnitudeAreRight) {
  for (const Isa isa : available_isas()) {
    for (const Sizes& s : {Sizes{1, 20, 512}, Sizes{9, 20, 512}}) check_product(GetParam(), s, isa, true);
  }
}

TEST_P(BlockProducts, InstructionSetsGiveTheSameBits) {
  if (!supports(Isa::avx2)) GTEST_SKIP() << "this processor has no AVX2";
  for (const Sizes& s : kSizes) {
    Tensors t;
    Gemm op{.a = t.normal(DType::f32, {s.m, s.k}),
            .b = random_blocks(t, GetParam(), {s.n, s.k}, true),
            .c = t.nan(DType::f32, {s.m, s.n}),
            .transpose_b = true};
    Cpu(1, Isa::avx2).run(op);
    const View expected = op.c;
    for (const Isa isa : available_isas()) {
      if (isa == Isa::baseline || isa == Isa::avx2) continue;
      op.c = t.nan(DType::f32, {s.m, s.n});
      Cpu(1, isa).run(op);
      expect_same_bits(op.c, expected, fmt::format("{} on {}", describe(op), name(isa)));
    }
  }
}

TEST_P(BlockProducts, ARowHasTheSameBitsAloneAmongOthersAndOnAnyNumberOfThreads) {
  for (const Isa isa : available_isas()) {
    Cpu one(1, isa), three(3, isa);
    for (const DType rows_type : {DType::f32, DType::bf16}) {
      Tensors t;
      const Sizes s{61, 70, 512};
      const View start = t.normal(rows_type, {s.m, s.n});
      Gemm op{.a = t.normal(rows_type, {s.m, s.k}),
              .b = random_blocks(t, GetParam(), {s.n, s.k}, false),
              .c = t.copy(start),
              .transpose_b = true,
              .accumulate = true};
      three.run(op);
      for (const int64_t chunk : {1, 2, 3, 4, 5, 8, 30}) {
        const View c = t.copy(start);
        for (int64_t m = 0; m < s.m; m += chunk) {
          const int64_t rows = std::min(chunk, s.m - m);
          Gemm part = op;
          part.a = op.a.rows(m, rows);
          part.c = c.rows(m, rows);
          one.run(part);
        }
        expect_same_bits(c, op.c, fmt::format("{} on {} by {} rows", describe(op), name(isa), chunk));
      }
      const View c = t.copy(start);
      for (int64_t n = 0; n < s.n; n += 11) {
        const int64_t columns = std::min<int64_t>(11, s.n - n);
        Gemm part = op;
        part.b = op.b.rows(n, columns);
        part.c = c.columns(n, columns);
        one.run(part);
      }
      expect_same_bits(c, op.c, fmt::format("{} on {} by 11 columns", describe(op), name(isa)));
    }
  }
}

TEST_P(BlockProducts, MoreRowsThanAreRoundedAtOnceAreTheSame) {
  Tensors t;
  const Sizes s{1100, 20, 2048};
  Gemm op{.a = t.normal(DType::f32, {s.m, s.k}),
          .b = random_blocks(t, GetParam(), {s.n, s.k}, false),
          .c = t.nan(DType::f32, {s.m, s.n}),
          .transpose_b = true};
  Cpu cpu(1);
  cpu.run(op);
  for (const int64_t row : {0, 700, 1099}) {
    Gemm part = op;
    part.a = op.a.rows(row, 1);
    part.c = t.nan(DType::f32, {1, s.n});
    cpu.run(part);
    expect_same_bits(op.c.rows(row, 1), part.c, fmt::format("row {}", row));
  }
}

TEST_P(BlockProducts, ExpertsPickTheirRows) {
  Tensors t;
  Cpu one(1), two(2);
  const View tokens = t.normal(DType::f32, {9, 256});
  const std::vector<int32_t> rows = {3, 3, 8, 0, 1, 2, 4, 5, 6, 7};
  GroupedGemm op{.a = tokens,
                 .a_rows = t.indices(rows),
                 .offsets = t.indices({0, 1, 1, 10}),
                 .b = random_blocks(t, GetParam(), {3, 40, 256}, false),
                 .c = t.nan(DType::f32, {10, 40}),
                 .transpose_b = true};
  two.run(op);
  for (int64_t i = 0; i < 10; ++i) {
    Gemm single{.a = tokens.rows(rows[static_cast<size_t>(i)], 1),
                .b = op.b.at(i == 0 ? 0 : 2),
                .c = t.nan(DType::f32, {1, 40}),
                .transpose_b = true};
    one.run(single);
    expect_same_bits(op.c.rows(i, 1), single.c, fmt::format("row {}", i));
  }
}

TEST_P(BlockProducts, RowsOfZerosAndOfNumbersThatAreNotFinite) {
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const Isa isa : available_isas()) {
    Tensors t;
    Gemm op{.a = t.normal(DType::f32, {7, 512}),
            .b = random_blocks(t, GetParam(), {20, 512}, false),
            .c = t.nan(DType::f32, {7, 20}),
            .transpose_b = true};
    for (int64_t k = 0; k < 512; ++k) {
      Tensors::set(op.a, k, 0);
      Tensors::set(op.a, 512 + k, std::numeric_limits<float>::denorm_min());
      Tensors::set(op.a, 1024 + k, k % 2 == 0 ? 1e30f : -1e30f);
    }
    Tensors::set(op.a, 3 * 512 + 40, infinity);
    Tensors::set(op.a, 4 * 512 + 500, nan);
    Tensors::set(op.a, 5 * 512, -infinity);
    Cpu(1, isa).run(op);
    for (int64_t n = 0; n < 20; ++n) {
      const auto at = [&](int64_t row) { return Tensors::get(op.c, row * 20 + n); };
      EXPECT_EQ(at(0), 0);
      EXPECT_LE(std::abs(at(1)), 1e-30f);
      EXPECT_TRUE(std::isfinite(at(2)));
      for (const int64_t row : {3, 4, 5}) {
        const bool shown = std::isnan(at(row)) || (!rounds_rows(GetParam()) && std::isinf(at(row)));
        EXPECT_TRUE(shown) << name(isa) << " row " << row;
      }
      EXPECT_TRUE(std::isfinite(at(6)));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, BlockProducts, testing::ValuesIn(block_types()),
                         [](const auto& test) { return std::string(name(test.param)); });

TEST(LongBlockLines, BeyondTheScratchAreWidened) {
  Tensors t;
  Cpu cpu(1);
  const int64_t k = cpu::kLongestLine + 32;
  Gemm op{.a = t.normal(DType::f32, {1, k}),
          .b = random_blocks(t, DType::q4_0, {2, k}, false),
          .c = t.nan(DType::f32, {1, 2}),
          .transpose_b = true};
  cpu.run(op);
  const std::vector<float> w = floats_of(op.b);
  for (int64_t n = 0; n < 2; ++n) {
    double sum = 0, magnitude = 0;
    for (int64_t i = 0; i < k; ++i) {
      const double product =
          static_cast<double>(Tensors::get(op.a, i)) * static_cast<double>(w[static_cast<size_t>(n * k + i)]);
      sum += product, magnitude += std::abs(product);
    }
    EXPECT_NEAR(Tensors::get(op.c, n), sum, 1e-5 * magnitude);
  }
}

}  // namespace
}  // namespace moe::test
