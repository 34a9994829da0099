#include <algorithm>
#include <cmath>

#include "tests/oracle/array.h"
#include "tests/oracle/naive.h"

namespace moe::oracle {
namespace {

double sigmoid(double z) { return 1 / (1 + std::exp(-z)); }
double silu(double z) { return z * sigmoid(z); }
double silu_derivative(double z) { return sigmoid(z) * (1 + z * (1 - sigmoid(z))); }

/// The rows that SwiGlu and its backward compute.
int64_t row_limit(const View& row_count, int64_t rows) {
  return row_count ? std::min(rows, read_indices(row_count)(0)) : rows;
}

}  // namespace

void compute(const RmsNorm& op) {
  Reals sum = read(op.x);
  if (op.residual) {
    const Reals residual = read(op.residual);
    for (size_t i = 0; i < sum.values().size(); ++i) sum.values()[i] += residual.values()[i];
    write(op.sum, sum);
    sum = read(op.sum);  // the statistics are those of what is kept for the backward pass
  }
  const Reals gain = read(op.gain);
  const int64_t width = sum.size(1);
  Reals y(op.y.shape), inv_rms(op.inv_rms.shape);
  for (int64_t t = 0; t < sum.size(0); ++t) {
    double squares = 0;
    for (int64_t d = 0; d < width; ++d) squares += sum(t, d) * sum(t, d);
    inv_rms(t) = 1 / std::sqrt(squares / static_cast<double>(width) + static_cast<double>(op.eps));
    for (int64_t d = 0; d < width; ++d) y(t, d) = gain(d) * round_to(op.y.dtype, sum(t, d) * inv_rms(t));
  }
  write(op.y, y);
  write(op.inv_rms, inv_rms);
}

void compute(const RmsNormBackward& op) {
  const Reals dy = read(op.dy), x = read(op.x), gain = read(op.gain), inv_rms = read(op.inv_rms);
  Reals dx = read(op.dx), dgain = read(op.dgain);
  const int64_t width = x.size(1);
  for (int64_t t = 0; t < x.size(0); ++t) {
    double mean = 0;
    for (int64_t d = 0; d < width; ++d) {
      mean += x(t, d) * inv_rms(t) * gain(d) * dy(t, d) / static_cast<double>(width);
    }
    for (int64_t d = 0; d < width; ++d) {
      const double n = x(t, d) * inv_rms(t);
      dx(t, d) += inv_rms(t) * (gain(d) * dy(t, d) - n * mean);
      dgain(d) += dy(t, d) * n;
    }
  }
  write(op.dx, dx);
  write(op.dgain, dgain);
}

void compute(const SwiGlu& op) {
  const Reals gate_up = read(op.gate_up), scale = read(op.scale);
  const Indices scale_index = read_indices(op.scale_index);
  Reals y = read(op.y);
  const int64_t width = y.size(1);
  for (int64_t r = 0; r < row_limit(op.row_count, y.size(0)); ++r) {
    const double factor = op.scale ? scale(scale_index(r)) : 1;
    for (int64_t f = 0; f < width; ++f) y(r, f) = factor * silu(gate_up(r, f)) * gate_up(r, width + f);
  }
  write(op.y, y);
}

void compute(const SwiGluBackward& op) {
  const Reals gate_up = read(op.gate_up), scale = read(op.scale), dy = read(op.dy);
  const Indices scale_index = read_indices(op.scale_index);
  Reals d_gate_up = read(op.d_gate_up), y = read(op.y), d_scale = read(op.d_scale);
  const int64_t width = dy.size(1);
  for (int64_t r = 0; r < row_limit(op.row_count, dy.size(0)); ++r) {
    const double factor = op.scale ? scale(scale_index(r)) : 1;
    double row_sum = 0;
    for (int64_t f = 0; f < width; ++f) {
      const double gate = gate_up(r, f), up = gate_up(r, width + f);
      d_gate_up(r, f) = factor * dy(r, f) * up * silu_derivative(gate);
      d_gate_up(r, width + f) = factor * dy(r, f) * silu(gate);
      if (op.y) y(r, f) = factor * silu(gate) * up;
      row_sum += dy(r, f) * silu(gate) * up;
    }
    if (op.scale) d_scale(scale_index(r)) = row_sum;
  }
  write(op.d_gate_up, d_gate_up);
  if (op.y) write(op.y, y);
  if (op.scale) write(op.d_scale, d_scale);
}

void compute(const RopeTable& op) {
  const Indices positions = read_indices(op.positions);
  Reals table(op.table.shape);
  const int64_t half = table.size(1) / 2;
  for (int64_t t = 0; t < table.size(0); ++t) {
    for (int64_t j = 0; j < half; ++j) {
      const double exponent = -static_cast<double>(j) / static_cast<double>(half);
      const double angle = static_cast<double>(positions(t)) * std::pow(op.theta, exponent);
      table(t, j) = std::cos(angle);
      table(t, half + j) = std::sin(angle);
    }
  }
  write(op.table, table);
}

void compute(const Rope& op) {
  const Reals table = read(op.table);
  Reals x = read(op.x);
  const int64_t half = table.size(1) / 2;
  for (int64_t t = 0; t < x.size(0); ++t) {
    for (int64_t head = 0; head < x.size(1); head += 2 * half) {
      for (int64_t j = 0; j < half; ++j) {
        const double cosine = table(t, j), sine = op.inverse ? -table(t, half + j) : table(t, half + j);
        const double x1 = x(t, head + j), x2 = x(t, head + half + j);
        x(t, head + j) = x1 * cosine - x2 * sine;
        x(t, head + half + j) = x2 * cosine + x1 * sine;
      }
    }
  }
  write(op.x, x);
}

void compute(const Add& op) {
  const Reals x = read(op.x);
  Reals y = read(op.y);
  for (size_t i = 0; i < y.values().size(); ++i) y.values()[i] += x.values()[i];
  write(op.y, y);
}

}  // namespace moe::oracle
