#include <algorithm>
#include <cmath>

#include "tests/oracle/array.h"
#include "tests/oracle/naive.h"

namespace moe::oracle {
namespace {

/// log(sum of exp(scores)); scores become the softmax.
double softmax(std::vector<double>& scores) {
  const double largest = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (const double score : scores) sum += std::exp(score - largest);
  const double log_sum = largest + std::log(sum);
  for (double& score : scores) score = std::exp(score - log_sum);
  return log_sum;
}

}  // namespace

void compute(const Attention& op) {
  const Reals q = read(op.q), k = read(op.k), v = read(op.v);
  const Indices start = read_indices(op.segment_start);
  Reals out(op.out.shape), lse(op.lse.shape);
  const int64_t h = op.q.size(1) / op.heads;
  for (int64_t t = 0; t < q.size(0); ++t) {
    if (start(t) < 0) continue;
    for (int64_t head = 0; head < op.heads; ++head) {
      const int64_t kv_head = head * op.kv_heads / op.heads;
      std::vector<double> scores;
      for (int64_t u = start(t); u <= t; ++u) {
        double dot = 0;
        for (int64_t i = 0; i < h; ++i) dot += q(t, head * h + i) * k(u, kv_head * h + i);
        scores.push_back(static_cast<double>(op.scale) * dot);
      }
      lse(t, head) = softmax(scores);
      for (int64_t u = start(t); u <= t; ++u) {
        const double probability = scores[static_cast<size_t>(u - start(t))];
        for (int64_t i = 0; i < h; ++i) out(t, head * h + i) += probability * v(u, kv_head * h + i);
      }
    }
  }
  write(op.out, out);
  write(op.lse, lse);
}

void compute(const AttentionBackward& op) {
  const Reals q = read(op.q), k = read(op.k), v = read(op.v);
  const Reals out = read(op.out), lse = read(op.lse), d_out = read(op.d_out);
  const Indices start = read_indices(op.segment_start);
  Reals dq(op.dq.shape), dk(op.dk.shape), dv(op.dv.shape);
  const int64_t h = op.q.size(1) / op.heads;
  const double scale = static_cast<double>(op.scale);
  for (int64_t t = 0; t < q.size(0); ++t) {
    if (start(t) < 0) continue;
    for (int64_t head = 0; head < op.heads; ++head) {
      const int64_t at = head * h, kv_at = head * op.kv_heads / op.heads * h;
      double mean = 0;  // of d_out . v_u under the softmax
      for (int64_t i = 0; i < h; ++i) mean += d_out(t, at + i) * out(t, at + i);
      for (int64_t u = start(t); u <= t; ++u) {
        double dot = 0, d_probability = 0;
        for (int64_t i = 0; i < h; ++i) {
          dot += q(t, at + i) * k(u, kv_at + i);
          d_probability += d_out(t, at + i) * v(u, kv_at + i);
        }
        const double probability = std::exp(scale * dot - lse(t, head));
        const double d_dot = scale * probability * (d_probability - mean);
        for (int64_t i = 0; i < h; ++i) {
          dq(t, at + i) += d_dot * k(u, kv_at + i);
          dk(u, kv_at + i) += d_dot * q(t, at + i);
          dv(u, kv_at + i) += probability * d_out(t, at + i);
        }
      }
    }
  }
  write(op.dq, dq);
  write(op.dk, dk);
  write(op.dv, dv);
}

namespace {

/// The rows of a cache in pages: (sequence, position, column).
class PagedRows {
 public:
  PagedRows(const View& cache, const View& pages)
      : values(read(cache)), pages_(read_indices(pages)), tokens_(cache.size(1)) {}

  double& operator()(int64_t sequence, int64_t position, int64_t column) {
    return values(pages_(sequence, position / tokens_), position % tokens_, column);
  }

  Reals values;

 private:
  Indices pages_;
  int64_t tokens_;
};

}  // namespace

void compute(const KvAppend& op) {
  const Reals k = read(op.k), v = read(op.v);
  const Indices sequence = read_indices(op.sequence), positions = read_indices(op.positions);
  PagedRows k_cache(op.k_cache, op.pages), v_cache(op.v_cache, op.pages);
  for (int64_t t = 0; t < k.size(0); ++t) {
    if (sequence(t) < 0) continue;
    for (int64_t c = 0; c < k.size(1); ++c) {
      k_cache(sequence(t), positions(t), c) = k(t, c);
      v_cache(sequence(t), positions(t), c) = v(t, c);
    }
  }
  write(op.k_cache, k_cache.values);
  write(op.v_cache, v_cache.values);
}

void compute(const CachedAttention& op) {
  const Reals q = read(op.q);
  PagedRows k_cache(op.k_cache, op.pages), v_cache(op.v_cache, op.pages);
  const Indices sequence = read_indices(op.sequence), positions = read_indices(op.positions);
  Reals out(op.out.shape);
  const int64_t h = op.q.size(1) / op.heads;
  for (int64_t t = 0; t < q.size(0); ++t) {
    if (sequence(t) < 0) continue;
    for (int64_t head = 0; head < op.heads; ++head) {
      const int64_t at = head * h, kv_at = head * op.kv_heads / op.heads * h;
      std::vector<double> scores;
      for (int64_t u = 0; u <= positions(t); ++u) {
        double dot = 0;
        for (int64_t i = 0; i < h; ++i) dot += q(t, at + i) * k_cache(sequence(t), u, kv_at + i);
        scores.push_back(static_cast<double>(op.scale) * dot);
      }
      softmax(scores);
      for (int64_t u = 0; u <= positions(t); ++u) {
        const double probability = scores[static_cast<size_t>(u)];
        for (int64_t i = 0; i < h; ++i) out(t, at + i) += probability * v_cache(sequence(t), u, kv_at + i);
      }
    }
  }
  write(op.out, out);
}

}  // namespace moe::oracle
