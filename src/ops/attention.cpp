#include "ops/attention.h"

#include <algorithm>
#include <cmath>

#include "ops/checks.h"
#include "ops/exact_count.h"

namespace moe {
namespace {

/// Binds "Hq", "Hq*h" (from q) and "Hkv*h".
template <class Op>
void check_heads(Checker& c, const Op& op) {
  c.require(op.kv_heads > 0, "kv_heads is {}, expected at least 1", op.kv_heads);
  c.require(op.heads > 0 && op.heads % op.kv_heads == 0, "heads is {}, expected a multiple of kv_heads, {}", op.heads,
            op.kv_heads);
  c.data(op.q, "T Hq*h");
  const int64_t width = c.size("Hq*h");
  c.require(width > 0 && width % op.heads == 0, "q is {} {}, expected rows of {} heads of one size", name(op.q.dtype),
            op.q.shape.text(), op.heads);
  c.require(width / op.heads <= kMostHeadSize, "q has heads of {} columns, expected at most {}", width / op.heads,
            kMostHeadSize);
  c.define("Hq", op.heads, "heads").define("Hkv*h", width / op.heads * op.kv_heads, "Hq*h");
}

template <class Op>
void check_self_attention(Checker& c, const Op& op) {
  check_heads(c, op);
  c.data(op.k, "T Hkv*h").data(op.v, "T Hkv*h").i32(op.segment_start, "T").data(op.out, "T Hq*h").stat(op.lse, "T Hq");
  c.require(op.max_segment > 0 || c.size("T") == 0, "max_segment is {}, expected at least 1", op.max_segment);
}

void check_pages(Checker& c, const View& cache) {
  c.require(c.size("P") > 0, "k_cache is {} {}, expected pages of at least 1 token", name(cache.dtype),
            cache.shape.text());
}

/// The number of pairs of a query and a key that it sees, as if every document had max_segment tokens, times the width
/// of all heads.
template <class Op>
double causal_pairs(const Op& op) {
  const auto queries = static_cast<double>(op.q.size(0));
  const auto length = static_cast<double>(std::min(op.max_segment, op.q.size(0)));
  return std::floor(queries * (length + 1) / 2) * static_cast<double>(op.q.size(1));
}

}  // namespace

void check(const Attention& op) {
  Checker c(op);
  check_self_attention(c, op);
}

void check(const AttentionBackward& op) {
  Checker c(op);
  check_self_attention(c, op);
  c.data(op.d_out, "T Hq*h").data(op.dq, "T Hq*h").data(op.dk, "T Hkv*h").data(op.dv, "T Hkv*h");
}

void check(const KvAppend& op) {
  Checker c(op);
  c.data(op.k, "T C").data(op.v, "T C").i32(op.sequence, "T").i32(op.positions, "T").i32(op.pages, "S M");
  c.weight(op.k_cache, "N P C").weight(op.v_cache, "N P C");
  check_pages(c, op.k_cache);
}

void check(const CachedAttention& op) {
  Checker c(op);
  check_heads(c, op);
  c.weight(op.k_cache, "N P Hkv*h").weight(op.v_cache, "N P Hkv*h");
  c.i32(op.sequence, "T").i32(op.positions, "T").i32(op.pages, "S M").data(op.out, "T Hq*h");
  check_pages(c, op.k_cache);
}

int64_t flops(const Attention& op) { return exact_count(4 * causal_pairs(op)); }

// Four products: dV, dP, dQ, dK. Computing the scores again saves memory and is not counted.
int64_t flops(const AttentionBackward& op) { return exact_count(8 * causal_pairs(op)); }

int64_t flops(const CachedAttention& op) {
  const double room = static_cast<double>(op.pages.size(1)) * static_cast<double>(op.k_cache.size(1));
  return exact_count(4 * static_cast<double>(op.q.elements()) * room);
}

int64_t traffic_bytes(const KvAppend& op) {
  const auto rows = [](const View& x, const View& cache) {
    return x.bytes() + static_cast<size_t>(x.elements()) * size_of(cache.dtype);
  };
  return static_cast<int64_t>(rows(op.k, op.k_cache) + rows(op.v, op.v_cache) + op.sequence.bytes() +
                              op.positions.bytes() + op.pages.bytes());
}

int64_t traffic_bytes(const CachedAttention& op) {
  const double all = static_cast<double>(op.k_cache.bytes() + op.v_cache.bytes());
  const double listed = static_cast<double>(op.pages.elements()), pages = static_cast<double>(op.k_cache.size(0));
  const double read = pages > listed ? all * (listed / pages) : all;
  return exact_count(read) + static_cast<int64_t>(op.q.bytes() + op.sequence.bytes() + op.positions.bytes() +
                                                  op.pages.bytes() + op.out.bytes());
}

}  // namespace moe
