#include "nn/adapter.h"

#include "ops/adapted_product.h"

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

/// to = scale * low.
void scale(Pass& pass, const Adapter& adapter, View low, View to) {
  pass.backend.run(Fill{.x = to, .value = 0});
  pass.backend.run(Blend{.x = low, .y = to, .x_factor = adapter.scale, .y_factor = 0});
}

/// scale * low, in scratch memory.
View scaled(Pass& pass, const Adapter& adapter, View low) {
  if (adapter.scale == 1) return low;
  const View result = pass.temporary("adapter.scaled", low.shape);
  scale(pass, adapter, low, result);
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

Shape low_shape(const Adapter& adapter, const ExpertRowsOf& experts, const View& x) {
  return {row_total(experts, x), slice_count(adapter) * rank_of(adapter)};
}

/// low [n, S r] = scale d(x) A^T, for an x after dropout.
void lower(Pass& pass, const Adapter& adapter, const ExpertRowsOf& experts, View x, View low) {
  const Arena::Frame frame(pass.scratch);
  const View plain = adapter.scale == 1 ? low : pass.temporary("adapter.plain", low.shape);
  product(pass, experts, x, experts.rows, adapter.a, plain, true, false);
  if (adapter.scale != 1) scale(pass, adapter, plain, low);
}

/// scale dy B, by slices, in scratch memory. `experts.rows` are those of dy.
View lowered_gradient(Pass& pass, const Adapter& adapter, const ExpertRowsOf& experts, View dy) {
  const int64_t rank = rank_of(adapter);
  const View d_low = pass.temporary("adapter.d_low", low_shape(adapter, experts, dy));
  for_slices(adapter, [&](int64_t slice, int64_t row, int64_t rows) {
    product(pass, experts, dy.columns(row, rows), experts.rows, rows_of_each(adapter.b, row, rows),
            d_low.columns(slice * rank, rank), false, false);
  });
  return scaled(pass, adapter, d_low);
}

/// dx += d_low A.
void add_input_gradient(Pass& pass, const Adapter& adapter, const ExpertRowsOf& experts, View d_low, View dx) {
  if (pass.adapter_dropout.probability == 0) return product(pass, experts, d_low, {}, adapter.a, dx, false, true);
  const Arena::Frame frame(pass.scratch);
  const View kept = pass.temporary("adapter.d_dropped", dx.shape);
  product(pass, experts, d_low, {}, adapter.a, kept, false, false);
  Dropout back = dropout_of(pass, adapter, experts, kept, dx);
  back.accumulate = true;
  pass.backend.run(back);
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

bool adapter_forward(Pass& pass, const Adapter& adapter, View x, View y) {
  if (!adapter) return false;
  const Arena::Frame frame(pass.scratch);
  const int64_t rank = rank_of(adapter);
  const View low = pass.temporary("adapter.low", low_shape(adapter, {}, x));
  lower(pass, adapter, {}, dropped(pass, adapter, {}, x), low);
  for_slices(adapter, [&](int64_t slice, int64_t row, int64_t rows) {
    product(pass, {}, low.columns(slice * rank, rank), {}, adapter.b.rows(row, rows), y.columns(row, rows), true,
            false);
  });
  return true;
}

View adapter_input_gradient(Pass& pass, const Adapter& adapter, View dy, View dx, bool accumulate) {
  if (!adapter) return {};
  const View d_low = lowered_gradient(pass, adapter, {}, dy);
  if (!accumulate) {
    product(pass, {}, d_low, {}, adapter.a, dx, false, false);
  } else if (dx) {
    add_input_gradient(pass, adapter, {}, d_low, dx);
  }
  return d_low;
}

View expert_low(Pass& pass, const Adapter& adapter, const ExpertRowsOf& experts, View x) {
  if (!adapter) return {};
  const View low = pass.save("adapter.low", low_shape(adapter, experts, x));
  const Arena::Frame frame(pass.scratch);
  lower(pass, adapter, experts, dropped(pass, adapter, experts, x), low);
  return low;
}

void adapted_product(Pass& pass, const Adapter& adapter, View low, const GroupedGemm& product,
                     const SwiGlu& activation) {
  if (adapter) {
    return run(pass.backend,
               AdaptedProduct{
                   .product = product, .low = low, .b = adapter.b, .slices = adapter.slices, .activation = activation});
  }
  pass.backend.run(product);
  if (activation.gate_up) pass.backend.run(activation);
}

View adapted_input_gradient(Pass& pass, const Adapter& adapter, const ExpertRowsOf& experts,
                            const GroupedGemm& product) {
  if (!adapter) {
    pass.backend.run(product);
    return {};
  }
  const View d_low = lowered_gradient(pass, adapter, experts, product.a);
  if (pass.adapter_dropout.probability == 0) {
    run(pass.backend, AdaptedProduct{.product = product, .low = d_low, .b = adapter.a});
  } else {
    pass.backend.run(product);
    add_input_gradient(pass, adapter, experts, d_low, product.c);
  }
  return d_low;
}

void adapter_weight_gradient(Pass& pass, const Adapter& adapter, const Adapter& gradient, const ExpertRowsOf& experts,
                             View dy, View dy_rows, View x, View d_low, View low, bool accumulate) {
  if (!gradient) return;
  const Arena::Frame frame(pass.scratch);
  const int64_t rank = rank_of(adapter);
  const View input = gradient.a || !low ? dropped(pass, adapter, experts, x) : View{};
  if (gradient.b) {
    if (!low) {
      low = pass.temporary("adapter.low", low_shape(adapter, experts, x));
      lower(pass, adapter, experts, input, low);
    }
    for_slices(adapter, [&](int64_t slice, int64_t row, int64_t rows) {
      reduction(pass, experts, gradient.experts, dy.columns(row, rows), dy_rows, low.columns(slice * rank, rank), {},
                rows_of_each(gradient.b, row, rows), accumulate);
    });
  }
  reduction(pass, experts, gradient.experts, d_low, {}, input, experts.rows, gradient.a, accumulate);
}

}  // namespace moe
