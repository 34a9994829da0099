#include "ops/numbers.h"

#include <cmath>

#include "backend/cpu/elements.h"

namespace moe::cpu {
namespace {

template <class T>
void fill(Context& context, const View& x, T value) {
  T* data = x.as<T>();
  for_elements(context.pool, x.elements(), sizeof(T),
               [&](int64_t begin, int64_t end) { std::fill(data + begin, data + end, value); });
}

}  // namespace

template <>
void execute(Context& context, const Fill& op) {
  switch (op.x.dtype) {
    case DType::f64:
      return fill(context, op.x, op.value);
    case DType::f32:
      return fill(context, op.x, static_cast<float>(op.value));
    case DType::bf16:
      return fill(context, op.x, to_bf16(static_cast<float>(op.value)));
    case DType::i32:
      return fill(context, op.x, static_cast<int32_t>(op.value));
    case DType::u8:
      return fill(context, op.x, static_cast<uint8_t>(op.value));
    default:
      MOE_CHECK(!"fill's types are listed in cpu_backend.cpp");
  }
}

template <>
void execute(Context& context, const Cast& op) {
  const In x{op.x.data, storage_of(op.x.dtype)};
  const Out y{op.y.data, storage_of(op.y.dtype)};
  for_elements(context.pool, op.x.elements(), 8,
               [&](int64_t begin, int64_t end) { convert(context, at(x, begin), at(y, begin), end - begin); });
}

template <>
void execute(Context& context, const SumSquares& op) {
  const int64_t count = op.x.elements();
  const auto max_chunks = static_cast<int64_t>(Scratch::kBytes / sizeof(double));
  const int64_t step = std::max<int64_t>(int64_t{1} << 15, (count + max_chunks - 1) / max_chunks);
  const int64_t chunks = (count + step - 1) / step;
  const auto* x = op.x.as<float>();
  auto* partials = static_cast<double*>(context.scratch.of(0));
  context.pool.parallel_for(chunks, [&](int64_t chunk, int) {
    const int64_t begin = chunk * step;
    partials[chunk] = context.kernels.rows.optimizer.sum_squares(x + begin, std::min(step, count - begin));
  });
  double sum = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += partials[chunk];
  *op.sum.as<double>() += sum;
}

template <>
void execute(Context&, const ClipScale& op) {
  const double norm = std::sqrt(*op.sum_squares.as<double>());
  double scale = 1;
  if (op.max_norm > 0) scale = std::min(1.0, static_cast<double>(op.max_norm) / (norm + 1e-6));
  const auto stored = static_cast<float>(norm);
  if (!std::isfinite(stored)) scale = std::nan("");
  *op.norm.as<float>() = stored;
  *op.scale.as<float>() = static_cast<float>(scale);
}

template <>
void execute(Context& context, const Blend& op) {
  const float scale = op.x_scale ? *op.x_scale.as<float>() : 1.0f;
  if (!std::isfinite(scale) || (op.guard && !std::isfinite(*op.guard.as<float>()))) return;
  constexpr int64_t kBytesPerElement = 12;
  for_elements(context.pool, op.x.elements(), kBytesPerElement, [&](int64_t begin, int64_t end) {
    context.kernels.rows.optimizer.blend(at(in_row(op.x), begin), op.x_factor * scale, at(out_row(op.y), begin),
                                         op.y_factor, end - begin);
  });
}

template <>
void execute(Context& context, const UnitMatrices& op) {
  const int64_t matrices = op.x.size(0), count = op.x.size(1) * op.x.size(2);
  for_rows(context.pool, matrices, count * 8, [&](int64_t begin, int64_t end) {
    const auto& kernels = context.kernels.rows.optimizer;
    for (int64_t m = begin; m < end; ++m) {
      const double norm = std::sqrt(kernels.sum_squares(op.x.as<float>() + m * count, count));
      const auto factor = static_cast<float>(1 / std::max(norm, static_cast<double>(op.eps)));
      kernels.scale(at(in_row(op.x), m * count), factor, at(out_row(op.y), m * count), count);
    }
  });
}

template <>
void execute(Context& context, const AdamW& op) {
  if (!std::isfinite(*op.gradient_scale.as<float>())) return;
  const auto beta1 = static_cast<double>(op.beta1);
  const auto beta2 = static_cast<double>(op.beta2);
  const auto step = static_cast<double>(op.step);
  const double decay = static_cast<double>(op.learning_rate) * static_cast<double>(op.weight_decay);
  const AdamWChunk all{.param = out_row(op.param),
                       .master = op.master.as<float>(),
                       .gradient = op.gradient.as<float>(),
                       .exp_avg = op.exp_avg.as<float>(),
                       .exp_avg_sq = op.exp_avg_sq.as<float>(),
                       .count = op.param.elements(),
                       .gradient_scale = *op.gradient_scale.as<float>(),
                       .beta1 = op.beta1,
                       .one_minus_beta1 = static_cast<float>(1 - beta1),
                       .beta2 = op.beta2,
                       .one_minus_beta2 = static_cast<float>(1 - beta2),
                       .correction1 = static_cast<float>(1 / (1 - std::pow(beta1, step))),
                       .correction2 = static_cast<float>(1 / (1 - std::pow(beta2, step))),
                       .learning_rate = op.learning_rate,
                       .keep = static_cast<float>(1 - decay),
                       .eps = op.eps};
  constexpr int64_t kBytesPerElement = 28;
  for_elements(context.pool, all.count, kBytesPerElement, [&](int64_t begin, int64_t end) {
    AdamWChunk chunk = all;
    chunk.param = at(all.param, begin);
    chunk.master = all.master ? all.master + begin : nullptr;
    chunk.gradient += begin;
    chunk.exp_avg += begin;
    chunk.exp_avg_sq += begin;
    chunk.count = end - begin;
    context.kernels.rows.optimizer.adamw(chunk);
  });
}

}  // namespace moe::cpu
