#include "nn/adapter.h"

namespace moe {
namespace {

int64_t slice_count(const Adapter& adapter) {
  int64_t count = 0;
  for (const int64_t rows : adapter.slices) count += rows > 0 ? 1 : 0;
  return count;
}

int64_t rank_of(const Adapter& adapter) { return adapter.b.size(adapter.b.rank() - 1); }

/// Rows [begin, begin + count) of each matrix in a stack, or of the one matrix.
View rows_of_each(const View& stack, int64_t begin, int64_t count) {
  if (stack.rank() == 2) return stack.rows(begin, count);
  View part = stack;
  part.data = static_cast<char*>(stack.data) + bytes_of(stack.dtype, begin * stack.stride[1]);
  part.shape = {stack.size(0), count, stack.size(2)};
  return part;
}

/// c = a op(b), for all rows or by experts.
void product(Pass& pass, const ExpertRowsOf& experts, View a, View a_rows, View b, View c, bool transpose_b,
             bool accumulate) {
  if (experts.offsets) {
    return pass.backend.run(GroupedGemm{.a = a,
                                        .a_rows = a_rows,
                                        .offsets = experts.offsets,
                                        .b = b,
                                        .c = c,
                                        .transpose_b = transpose_b,
                                        .accumulate = accumulate});
  }
  pass.backend.run(Gemm{.a = a, .b = b, .c = c, .transpose_b = transpose_b, .accumulate = accumulate});
}

/// c (+)= a^T b over the rows of all, or of each expert; with `listed` c has the matrices of these experts alone.
void reduction(Pass& pass, const ExpertRowsOf& experts, const std::vector<int64_t>* listed, View a, View a_rows, View b,
               View b_rows, View c, bool accumulate) {
  if (!c) return;
  if (listed != nullptr) {
    for (const ExpertRun& run : runs_of(*listed)) {
      const ExpertRowsOf some{.offsets = experts.offsets.rows(run.first, run.count + 1)};
      reduction(pass, some, nullptr, a, a_rows, b, b_rows, c.rows(run.at, run.count), accumulate);
    }
    return;
  }
  if (experts.offsets) {
    return pass.backend.run(GroupedGemmReduce{.a = a,
                                              .a_rows = a_rows,
                                              .b = b,
                                              .b_rows = b_rows,
                                              .offsets = experts.offsets,
                                              .c = c,
                                              .accumulate = accumulate});
  }
  pass.backend.run(Gemm{.a = a, .b = b, .c = c, .transpose_a = true, .accumulate = accumulate});
}

/// Calls use(slice, first row, rows) for each slice.
template <class Use>
void for_slices(const Adapter& adapter, Use use) {
  int64_t row = 0;
  for (size_t slice = 0; slice < adapter.slices.size() && adapter.slices[slice] > 0; ++slice) {
    use(static_cast<int64_t>(slice), row, adapter.slices[slice]);
    row += adapter.slices[slice];
  }
}

/// scale * low, in scratch memory.
View scaled(Pass& pass, const Adapter& adapter, View low) {
  if (adapter.scale == 1) return low;
  const View result = pass.temporary("adapter.scaled", low.shape);
  pass.backend.run(Fill{.x = result, .value = 0});
  pass.backend.run(Blend{.x = low, .y = result, .x_factor = adapter.scale, .y_factor = 0});
  return result;
}

Dropout dropout_of(const Pass& pass, const Adapter& adapter, const ExpertRowsOf& experts, View x, View y) {
  constexpr uint64_t kOdd = 0x9E3779B97F4A7C15;  // so that the streams of neighbouring steps are far apart
  const AdapterDropout& dropout = pass.adapter_dropout;
  return {.x = x,
          .keys = experts.keys,
          .row_count = experts.keys ? experts.offsets.rows(experts.offsets.size(0) - 1, 1) : View{},
          .probability = dropout.probability,
          .draws = {.seed = dropout.seed,
                    .stream = adapter.stream ^ static_cast<uint64_t>(dropout.step) * kOdd,
                    .first = dropout.first_token * experts.keys_per_token},
          .y = y};
}

/// x after dropout: x itself where nothing is dropped.
View dropped(Pass& pass, const Adapter& adapter, const ExpertRowsOf& experts, View x) {
  if (pass.adapter_dropout.probability == 0) return x;
  const View result = pass.temporary("adapter.dropped", x.shape);
  pass.backend.run(dropout_of(pass, adapter, experts, x, result));
  return result;
}

int64_t row_total(const ExpertRowsOf& experts, const View& x) {
  return experts.rows ? experts.rows.size(0) : x.size(0);
}

/// scale d(x) A^T [n, S r], for an x after dropout.
View lowered(Pass& pass, const Adapter& adapter, const ExpertRowsOf& experts, View x) {
  const View low = pass.temporary("adapter.low", {row_total(experts, x), slice_count(adapter) * rank_of(adapter)});
  product(pass, experts, x, experts.rows, adapter.a, low, true, false);
  return scaled(pass, adapter, low);
}

}  // namespace

std::vector<ExpertRun> runs_of(const std::vector<int64_t>& experts) {
  std::vector<ExpertRun> runs;
  for (size_t i = 0; i < experts.size(); ++i) {
    if (!runs.empty() && runs.back().first + runs.back().count == experts[i]) {
      ++runs.back().count;
    } else {
      runs.push_back({.first = experts[i], .count = 1, .at = static_cast<int64_t>(i)});
    }
  }
  return runs;
}

void adapter_forward(Pass& pass, const Adapter& adapter, const ExpertRowsOf& experts, View x, View y) {
  if (!adapter) return;
  const Arena::Frame frame(pass.scratch);
  const int64_t rank = rank_of(adapter);
  const View low = lowered(pass, adapter, experts, dropped(pass, adapter, experts, x));
  for_slices(adapter, [&](int64_t slice, int64_t row, int64_t rows) {
    product(pass, experts, low.columns(slice * rank, rank), {}, rows_of_each(adapter.b, row, rows),
            y.columns(row, rows), true, true);
  });
}

View adapter_input_gradient(Pass& pass, const Adapter& adapter, const ExpertRowsOf& experts, View dy, View dx) {
  if (!adapter) return {};
  const int64_t rank = rank_of(adapter);
  const View d_low = pass.temporary("adapter.d_low", {row_total(experts, dy), slice_count(adapter) * rank});
  for_slices(adapter, [&](int64_t slice, int64_t row, int64_t rows) {
    product(pass, experts, dy.columns(row, rows), experts.rows, rows_of_each(adapter.b, row, rows),
            d_low.columns(slice * rank, rank), false, false);
  });
  const View result = scaled(pass, adapter, d_low);
  if (pass.adapter_dropout.probability == 0) {
    product(pass, experts, result, {}, adapter.a, dx, false, true);
    return result;
  }
  const Arena::Frame frame(pass.scratch);
  const View kept = pass.temporary("adapter.d_dropped", dx.shape);
  product(pass, experts, result, {}, adapter.a, kept, false, false);
  Dropout back = dropout_of(pass, adapter, experts, kept, dx);
  back.accumulate = true;
  pass.backend.run(back);
  return result;
}

void adapter_weight_gradient(Pass& pass, const Adapter& adapter, const Adapter& gradient, const ExpertRowsOf& experts,
                             View dy, View dy_rows, View x, View d_low, bool accumulate) {
  if (!gradient) return;
  const Arena::Frame frame(pass.scratch);
  const int64_t rank = rank_of(adapter);
  const View input = dropped(pass, adapter, experts, x);
  if (gradient.b) {
    const View low = lowered(pass, adapter, experts, input);
    for_slices(adapter, [&](int64_t slice, int64_t row, int64_t rows) {
      reduction(pass, experts, gradient.experts, dy.columns(row, rows), dy_rows, low.columns(slice * rank, rank), {},
                rows_of_each(gradient.b, row, rows), accumulate);
    });
  }
  reduction(pass, experts, gradient.experts, d_low, {}, input, experts.rows, gradient.a, accumulate);
}

}  // namespace moe
