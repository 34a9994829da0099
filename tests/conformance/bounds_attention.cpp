#include <algorithm>

#include "tests/conformance/magnitudes.h"

namespace moe::conformance {
namespace {

using oracle::read;
using oracle::read_indices;

/// One query of one head: the keys it sees, its softmax, and how far a backend's scores may be off.
struct Query {
  std::vector<double> probability;
  double score_error = 0;  ///< the largest absolute error of a score, the condition of exp included
  double largest = 0;      ///< the largest absolute score
  double lse = 0;
};

template <class Key>
Query analyse(int64_t keys, int64_t h, double scale, const double* q, const Key& key) {
  Query result;
  std::vector<double> scores;
  double error = 0;
  for (int64_t u = 0; u < keys; ++u) {
    double dot = 0, magnitude = 0;
    for (int64_t i = 0; i < h; ++i) {
      dot += q[i] * key(u, i);
      magnitude += std::abs(q[i] * key(u, i));
    }
    scores.push_back(scale * dot);
    result.largest = std::max(result.largest, std::abs(scores.back()));
    error = std::max(error, std::abs(scale) * magnitude * (growth(h) + 2) * kU);
  }
  const double largest = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (const double score : scores) sum += std::exp(score - largest);
  result.lse = largest + std::log(sum);
  for (const double score : scores) result.probability.push_back(std::exp(score - result.lse));
  result.score_error = error + 4 * result.largest * kU;
  return result;
}

/// How much is lost where a value of bf16 operands is rounded before it is multiplied again.
template <class Op>
double intermediate_error(const Reference<Op>& run) {
  return (run.arithmetic == Arithmetic::tensor || run.arithmetic == Arithmetic::pairs) &&
                 run.given.q.dtype == DType::bf16
             ? unit(DType::bf16)
             : 0;
}

/// The relative error of a probability.
double probability_error(const Query& query) {
  return 2 * query.score_error + (growth(static_cast<int64_t>(query.probability.size())) + 16) * kU;
}

}  // namespace

Bounds bounds(const Reference<Attention>& run) {
  const Reals q = read(run.before.q), k = read(run.before.k), v = read(run.before.v);
  const Indices start = read_indices(run.before.segment_start);
  Reals out(run.after.out.shape), lse(run.after.lse.shape);
  const int64_t heads = run.given.heads, h = run.given.q.size(1) / heads;
  for (int64_t t = 0; t < q.size(0); ++t) {
    for (int64_t head = 0; head < heads && start(t) >= 0; ++head) {
      const int64_t at = head * h, kv_at = head * run.given.kv_heads / heads * h;
      const Query query =
          analyse(t + 1 - start(t), h, run.given.scale, &q.values()[static_cast<size_t>(t * q.size(1) + at)],
                  [&](int64_t u, int64_t i) { return k(start(t) + u, kv_at + i); });
      lse(t, head) = probability_error(query) + 2 * std::abs(query.lse) * kU;
      for (int64_t u = start(t); u <= t; ++u) {
        const double weight =
            query.probability[static_cast<size_t>(u - start(t))] * (probability_error(query) + intermediate_error(run));
        for (int64_t i = 0; i < h; ++i) out(t, at + i) += weight * std::abs(v(u, kv_at + i));
      }
    }
  }
  return {{"out", out}, {"lse", lse}};
}

Bounds bounds(const Reference<AttentionBackward>& run) {
  const Reals q = read(run.before.q), k = read(run.before.k), v = read(run.before.v), out = read(run.before.out);
  const Reals d_out = read(run.before.d_out), lse = read(run.before.lse);
  const Indices start = read_indices(run.before.segment_start);
  Reals dq(q.shape()), dk(k.shape()), dv(v.shape());
  const int64_t heads = run.given.heads, h = run.given.q.size(1) / heads, group = heads / run.given.kv_heads;
  const double scale = std::abs(static_cast<double>(run.given.scale));
  const double sums = growth(q.size(0) * group) * kU;  // dk and dv add over the queries of a group's heads
  for (int64_t t = 0; t < q.size(0); ++t) {
    for (int64_t head = 0; head < heads && start(t) >= 0; ++head) {
      const int64_t at = head * h, kv_at = head / group * h;
      const Query query =
          analyse(t + 1 - start(t), h, run.given.scale, &q.values()[static_cast<size_t>(t * q.size(1) + at)],
                  [&](int64_t u, int64_t i) { return k(start(t) + u, kv_at + i); });
      const double p_error = query.score_error + (8 + 2 * std::abs(lse(t, head))) * kU + sums;
      double mean = 0;
      for (int64_t i = 0; i < h; ++i) mean += std::abs(d_out(t, at + i) * out(t, at + i));
      for (int64_t u = start(t); u <= t; ++u) {
        const double p = query.probability[static_cast<size_t>(u - start(t))];
        double magnitude = mean;
        for (int64_t i = 0; i < h; ++i) magnitude += std::abs(d_out(t, at + i) * v(u, kv_at + i));
        const double d_dot_error = scale * p * magnitude * (p_error + (growth(h) + 8) * kU + intermediate_error(run));
        for (int64_t i = 0; i < h; ++i) {
          dq(t, at + i) += d_dot_error * std::abs(k(u, kv_at + i));
          dk(u, kv_at + i) += d_dot_error * std::abs(q(t, at + i));
          dv(u, kv_at + i) += p * (p_error + intermediate_error(run)) * std::abs(d_out(t, at + i));
        }
      }
    }
  }
  return {{"dq", dq}, {"dk", dk}, {"dv", dv}};
}

Bounds bounds(const Reference<KvAppend>& run) {
  (void)run;
  return {};
}

Bounds bounds(const Reference<CachedAttention>& run) {
  const Reals q = read(run.before.q), k = read(run.before.k_cache), v = read(run.before.v_cache);
  const Indices sequence = read_indices(run.before.sequence), positions = read_indices(run.before.positions);
  const Indices pages = read_indices(run.before.pages);
  const int64_t page_tokens = k.size(1);
  const auto paged = [&](const Reals& cache, int64_t s, int64_t position, int64_t column) {
    return cache(pages(s, position / page_tokens), position % page_tokens, column);
  };
  Reals out(run.after.out.shape);
  const int64_t heads = run.given.heads, h = run.given.q.size(1) / heads;
  for (int64_t t = 0; t < q.size(0); ++t) {
    for (int64_t head = 0; head < heads && sequence(t) >= 0; ++head) {
      const int64_t at = head * h, kv_at = head * run.given.kv_heads / heads * h;
      const Query query =
          analyse(positions(t) + 1, h, run.given.scale, &q.values()[static_cast<size_t>(t * q.size(1) + at)],
                  [&](int64_t u, int64_t i) { return paged(k, sequence(t), u, kv_at + i); });
      for (int64_t u = 0; u <= positions(t); ++u) {
        const double weight =
            query.probability[static_cast<size_t>(u)] * (probability_error(query) + intermediate_error(run));
        for (int64_t i = 0; i < h; ++i) out(t, at + i) += weight * std::abs(paged(v, sequence(t), u, kv_at + i));
      }
    }
  }
  return {{"out", out}};
}

}  // namespace moe::conformance
