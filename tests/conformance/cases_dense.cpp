#include <cmath>
#include <numeric>

#include "tests/conformance/cases.h"
#include "tests/oracle/array.h"

namespace moe::conformance {
namespace {

struct Types {
  DType a, b, c;
};
constexpr Types kAllTypes[] = {{f32, f32, f32},       {bf16_type, bf16_type, bf16_type}, {bf16_type, bf16_type, f32},
                               {f32, bf16_type, f32}, {bf16_type, f32, bf16_type},       {f32, f32, bf16_type},
                               {bf16_type, f32, f32}, {f32, bf16_type, bf16_type}};

/// b as weights of each other type.
std::vector<Types> weight_products() {
  std::vector<Types> result;
  for (const DType b : other_weight_types()) {
    for (const DType a : {f32, bf16_type}) {
      for (const DType c : {f32, bf16_type}) result.push_back({a, b, c});
    }
  }
  return result;
}

void add_gemm(Cases<Gemm>& list, Shape mnk, Types types, int transposes, bool accumulate) {
  Store& s = list.strided();
  const bool transpose_a = transposes & 1, transpose_b = transposes & 2;
  const int64_t m = mnk[0];
  const int64_t n = transpose_b ? mnk[1] : in_blocks(types.b, mnk[1]);
  const int64_t k = transpose_b ? in_blocks(types.b, mnk[2]) : mnk[2];
  list.add(Gemm{.a = s.normal(types.a, transpose_a ? Shape{k, m} : Shape{m, k}),
                .b = s.normal(types.b, transpose_b ? Shape{n, k} : Shape{k, n}),
                .c = accumulate ? s.normal(types.c, {m, n}, 3) : s.poison(types.c, {m, n}),
                .transpose_a = transpose_a,
                .transpose_b = transpose_b,
                .accumulate = accumulate},
           fmt::format("transpose_a={} transpose_b={} accumulate={}", transpose_a, transpose_b, accumulate));
}

/// Offsets of experts with these numbers of rows.
std::vector<int64_t> offsets_of(const std::vector<int64_t>& counts) {
  std::vector<int64_t> offsets(counts.size() + 1);
  std::partial_sum(counts.begin(), counts.end(), offsets.begin() + 1);
  return offsets;
}

/// Rows of each expert: none at all, one expert alone, empty ones at either end, one taking all, uneven.
const std::vector<std::vector<int64_t>> kCounts = {{0, 0, 0},  {1}, {0, 3, 0, 5, 0}, {0, 37, 0}, {17, 40, 0, 1, 33, 8},
                                                   {280, 0, 2}};

struct Sizes {
  int64_t m, n;
};

void add_grouped(Cases<GroupedGemm>& list, const std::vector<int64_t>& counts, Sizes size, Types types,
                 bool transpose_b, bool accumulate = false) {
  const auto experts = static_cast<int64_t>(counts.size());
  const std::vector<int64_t> offsets = offsets_of(counts);
  (transpose_b ? size.m : size.n) = in_blocks(types.b, transpose_b ? size.m : size.n);
  Store& s = list.strided();
  const bool gather = s.draw() % 2 == 0;
  const int64_t padding = static_cast<int64_t>(s.draw() % 4), rows = offsets.back() + padding, tokens = 19;
  const View a = s.normal(types.a, {gather ? tokens : rows, size.m});
  if (!gather) poison_rows(a, offsets.back());
  list.add(
      GroupedGemm{.a = a,
                  .a_rows = gather ? s.random_indices({rows}, 0, tokens) : View{},
                  .offsets = s.indices({experts + 1}, offsets),
                  .b = s.normal(types.b, transpose_b ? Shape{experts, size.n, size.m} : Shape{experts, size.m, size.n}),
                  .c = accumulate ? s.normal(types.c, {rows, size.n}, 3) : s.poison(types.c, {rows, size.n}),
                  .transpose_b = transpose_b,
                  .accumulate = accumulate},
      fmt::format("counts=[{}] transpose_b={} accumulate={}", fmt::join(counts, ","), transpose_b, accumulate));
}

}  // namespace

std::vector<DType> other_weight_types() {
  std::vector<DType> result;
  for (const StorageType& type : kStorageTypes) {
    if (weight_types().has(type.dtype) && type.dtype != f32 && type.dtype != bf16_type) result.push_back(type.dtype);
  }
  return result;
}

void poison_rows(const View& view, int64_t first) {
  if (first >= view.size(0)) return;
  const View rows = view.rows(first, view.size(0) - first);
  oracle::write(rows, oracle::Reals(rows.shape, NAN));
}

template <>
Cases<Gemm> make_cases<Gemm>() {
  Cases<Gemm> list;
  for (const Shape& mnk : {Shape{1, 1, 1}, Shape{7, 13, 5}, Shape{33, 47, 65}}) {
    for (const Types& types : kAllTypes) {
      for (int transposes = 0; transposes < 4; ++transposes) {
        for (const bool accumulate : {false, true}) add_gemm(list, mnk, types, transposes, accumulate);
      }
    }
  }
  for (const Shape& mnk : {Shape{0, 5, 3}, Shape{3, 0, 4}, Shape{4, 5, 0}, Shape{1, 64, 33}, Shape{64, 64, 64},
                           Shape{130, 70, 257}, Shape{5, 300, 128}, Shape{257, 9, 31}, Shape{2, 3, 1100}}) {
    for (int transposes = 0; transposes < 4; ++transposes) {
      for (const Types& types : {kAllTypes[0], kAllTypes[1], kAllTypes[2]}) {
        add_gemm(list, mnk, types, transposes, types.c == f32 && transposes % 2 == 1);
      }
    }
  }
  // Weights that are widened, some columns at a time.
  for (const Types& types : weight_products()) {
    for (int transposes = 0; transposes < 4; ++transposes) {
      for (const Shape& mnk : {Shape{1, 1, 1}, Shape{7, 13, 5}, Shape{33, 47, 65}, Shape{3, 4, 0}}) {
        add_gemm(list, mnk, types, transposes, transposes % 2 == 0);
      }
    }
    if (types.a != f32 || types.c != f32) continue;
    add_gemm(list, {5, 330, 1030}, types, 2, true);
    add_gemm(list, {5, 330, 1030}, types, 0, false);
  }
  // x of few rows, against weights in whole 16-byte chunks and not.
  for (const int64_t rows : {1, 2, 3, 7, 8, 9, 16, 17, 33, 64}) {
    for (const Sizes size : {Sizes{48, 8}, Sizes{61, 264}, Sizes{16, 2056}, Sizes{33, 100}}) {
      add_gemm(list, {rows, size.m, size.n}, kAllTypes[rows % 2 == 0 ? 1 : 2], 2, rows % 3 == 0);
    }
  }
  // Few and many rows of bf16 against weights in blocks. Rows of an odd number of blocks begin at any even address.
  for (const DType b : other_weight_types()) {
    if (is_plain(b)) continue;
    for (const int64_t rows : {1, 2, 7, 8, 9, 16, 17, 64, 129}) {
      for (const Sizes size : {Sizes{40, 32}, Sizes{33, 96}, Sizes{17, 544}}) {
        add_gemm(list, {rows, size.m, size.n}, {bf16_type, b, rows % 2 == 0 ? bf16_type : f32}, 2, rows % 3 == 0);
      }
    }
    add_gemm(list, {3, 21, 2560}, {bf16_type, b, f32}, 2, false);
  }
  // And against those in f32.
  for (const int64_t rows : {1, 8, 9, 16}) {
    for (const Sizes size : {Sizes{5, 8}, Sizes{66, 1032}}) {
      add_gemm(list, {rows, size.m, size.n}, {bf16_type, f32, rows % 2 == 0 ? bf16_type : f32}, 2, rows % 3 == 0);
    }
  }
  // Deep, wide and tall enough to be blocked in every direction.
  add_gemm(list, {200, 150, 800}, kAllTypes[0], 2, false);
  add_gemm(list, {200, 150, 800}, kAllTypes[1], 1, true);
  add_gemm(list, {4100, 3, 520}, kAllTypes[0], 1, false);
  add_gemm(list, {4100, 3, 520}, kAllTypes[1], 2, true);
  return list;
}

template <>
Cases<GroupedGemm> make_cases<GroupedGemm>() {
  Cases<GroupedGemm> list;
  for (const auto& counts : kCounts) {
    const std::vector<int64_t> offsets = offsets_of(counts);
    for (const Sizes& size : {Sizes{1, 1}, Sizes{7, 13}, Sizes{70, 33}, Sizes{48, 0}, Sizes{0, 5}, Sizes{40, 270}}) {
      for (const Types& types : kAllTypes) {
        const bool usual = types.a == types.b && types.b == types.c;
        if ((!usual && size.m != 7) || (size.m * size.n > 10000 && offsets.back() < 90)) continue;
        for (const bool transpose_b : {false, true}) {
          for (const bool accumulate : {false, true}) add_grouped(list, counts, size, types, transpose_b, accumulate);
        }
      }
    }
    // The products of adapters, whose inner or outer size is their rank.
    for (const Sizes size : {Sizes{8, 272}, Sizes{16, 48}, Sizes{264, 8}, Sizes{3, 40}}) {
      for (const Types& types : {kAllTypes[0], kAllTypes[1]}) {
        for (const bool transpose_b : {false, true}) add_grouped(list, counts, size, types, transpose_b, true);
      }
    }
    for (const Types& types : weight_products()) {
      for (const bool transpose_b : {false, true}) add_grouped(list, counts, {7, 13}, types, transpose_b);
    }
    for (const Sizes size : {Sizes{264, 40}, Sizes{520, 23}}) add_grouped(list, counts, size, kAllTypes[1], true);
  }
  // Few tokens for each of many experts, most of which have none.
  std::vector<int64_t> sparse(70, 0);
  for (const int64_t e : {0, 5, 31, 32, 33, 64, 69}) sparse[static_cast<size_t>(e)] = e % 3 + 1;
  for (const Types& types : {kAllTypes[1], kAllTypes[2]}) {
    for (const bool accumulate : {false, true}) {
      add_grouped(list, sparse, {264, 40}, types, true, accumulate);
      add_grouped(list, sparse, {48, 16}, types, true, accumulate);
    }
  }
  // Experts of few and of many rows against weights in blocks.
  for (const DType b : other_weight_types()) {
    if (is_plain(b)) continue;
    for (const DType c : {f32, bf16_type}) {
      for (const Sizes size : {Sizes{96, 41}, Sizes{544, 24}}) {
        add_grouped(list, {0, 1, 2, 7, 64, 129}, size, {bf16_type, b, c}, true);
        add_grouped(list, {0, 1, 2, 7, 0, 19, 8}, size, {bf16_type, b, c}, true);
      }
      add_grouped(list, {0, 1, 2, 7, 64, 129}, {32, 64}, {bf16_type, b, c}, false);
    }
    add_grouped(list, sparse, {96, 40}, {bf16_type, b, bf16_type}, true);
  }
  return list;
}

template <>
Cases<GroupedGemmReduce> make_cases<GroupedGemmReduce>() {
  Cases<GroupedGemmReduce> list;
  for (const auto& counts : kCounts) {
    const auto experts = static_cast<int64_t>(counts.size());
    const std::vector<int64_t> offsets = offsets_of(counts);
    for (const Sizes& size : {Sizes{1, 1}, Sizes{7, 13}, Sizes{70, 33}, Sizes{0, 5}, Sizes{270, 40}}) {
      for (const Types& types : kAllTypes) {
        const bool usual = types.a == types.b && types.c == f32;
        if ((!usual && size.m != 7) || (size.m * size.n > 10000 && offsets.back() < 90)) continue;
        for (const bool accumulate : {false, true}) {
          // Squares are wanted of contiguous results alone.
          const bool squares = types.c == f32 && list.all().size() % 2 == 1;
          Store& s = squares ? list.contiguous() : list.strided();
          const int64_t padding = static_cast<int64_t>(s.draw() % 4), rows = offsets.back() + padding, tokens = 19;
          const int gather = static_cast<int>(s.draw() % 4);
          const Shape c{experts, size.m, size.n};
          const View a = s.normal(types.a, {gather & 1 ? tokens : rows, size.m});
          const View b = s.normal(types.b, {gather & 2 ? tokens : rows, size.n});
          if (!(gather & 1)) poison_rows(a, offsets.back());
          if (!(gather & 2)) poison_rows(b, offsets.back());
          list.add(GroupedGemmReduce{.a = a,
                                     .a_rows = gather & 1 ? s.random_indices({rows}, 0, tokens) : View{},
                                     .b = b,
                                     .b_rows = gather & 2 ? s.random_indices({rows}, 0, tokens) : View{},
                                     .offsets = s.indices({experts + 1}, offsets),
                                     .c = accumulate ? s.normal(types.c, c) : s.poison(types.c, c),
                                     .squares = squares ? s.constant(f64, {1}, 2.5) : View{},
                                     .accumulate = accumulate},
                   fmt::format("counts=[{}] accumulate={}", fmt::join(counts, ","), accumulate));
        }
      }
    }
  }
  return list;
}

}  // namespace moe::conformance
