#pragma once
/// Causal attention with grouped heads: over packed documents, and over a cache of keys and values. There are Hq query
/// heads and Hkv key/value heads of size h; query head q reads key/value head floor(q * Hkv / Hq). Each query's sum
/// over keys has one order (blocks of keys, aligned to the start of the document), whatever the other queries are. So
/// on the CPU, training, prefill in any chunks and decoding give the same bits.

#include "ops/fields.h"

namespace moe {

/// The largest size h of a head. Backends keep blocks of one head's keys in memory of a fixed size.
constexpr int64_t kMostHeadSize = 4096;

/// out_t = sum over u in [segment_start[t], t] of softmax_u(scale * q_t . k_u) v_u;
/// lse_t = log of the softmax's denominator (of exp(scale * q_t . k_u)). Where segment_start[t] < 0 (padding): out 0,
/// lse 0.
struct Attention {
  View q;              ///< [T, Hq * h]
  View k;              ///< [T, Hkv * h]
  View v;              ///< [T, Hkv * h]
  View segment_start;  ///< i32 [T]: the first token of t's document; -1: padding. A document's tokens are contiguous.
  int heads;           ///< Hq, a multiple of kv_heads
  int kv_heads;        ///< Hkv
  float scale;
  int64_t max_segment;  ///< at least the length of every document (an upper bound; T is always right)
  View out;             ///< [T, Hq * h]
  View lse;             ///< stat [T, Hq]

  static constexpr const char* name = "attention";
  static constexpr auto fields() {
    using A = Attention;
    return std::array{moe::in("q", &A::q),      moe::in("k", &A::k),
                      moe::in("v", &A::v),      moe::in("segment_start", &A::segment_start),
                      moe::out("out", &A::out), moe::out("lse", &A::lse)};
  }
};

/// dq, dk, dv (overwritten) from d_out and the results of Attention; zeros for padding.
struct AttentionBackward {
  View q, k, v, segment_start;
  View out;    ///< the out of Attention
  View lse;    ///< the lse of Attention
  View d_out;  ///< [T, Hq * h]
  int heads;
  int kv_heads;
  float scale;
  int64_t max_segment;
  View dq;  ///< [T, Hq * h]
  View dk;  ///< [T, Hkv * h]
  View dv;  ///< [T, Hkv * h]

  static constexpr const char* name = "attention_backward";
  static constexpr auto fields() {
    using A = AttentionBackward;
    return std::array{moe::in("q", &A::q),         moe::in("k", &A::k),
                      moe::in("v", &A::v),         moe::in("segment_start", &A::segment_start),
                      moe::in("out", &A::out),     moe::in("lse", &A::lse),
                      moe::in("d_out", &A::d_out), moe::out("dq", &A::dq),
                      moe::out("dk", &A::dk),      moe::out("dv", &A::dv)};
  }
};

/// Writes the keys and values of T tokens into a cache: k_cache[sequence[t], positions[t]] = k[t], and the same for v.
/// Tokens with sequence[t] < 0 are skipped. All other (sequence, position) pairs must be distinct.
struct KvAppend {
  View k;          ///< [T, C], C = Hkv * h
  View v;          ///< [T, C]
  View sequence;   ///< i32 [T], below S
  View positions;  ///< i32 [T], below L
  View k_cache;    ///< [S, L, C]
  View v_cache;    ///< [S, L, C]

  static constexpr const char* name = "kv_append";
  static constexpr auto fields() {
    return std::array{in("k", &KvAppend::k),
                      in("v", &KvAppend::v),
                      in("sequence", &KvAppend::sequence),
                      in("positions", &KvAppend::positions),
                      partial("k_cache", &KvAppend::k_cache),
                      partial("v_cache", &KvAppend::v_cache)};
  }
};

/// Token t attends to positions 0 .. positions[t] of its sequence's cache (its own key is already there). out is 0
/// where sequence[t] < 0.
struct CachedAttention {
  View q;          ///< [T, Hq * h]
  View k_cache;    ///< [S, L, Hkv * h]
  View v_cache;    ///< [S, L, Hkv * h]
  View sequence;   ///< i32 [T]
  View positions;  ///< i32 [T]
  int heads;
  int kv_heads;
  float scale;
  View out;  ///< [T, Hq * h]

  static constexpr const char* name = "cached_attention";
  static constexpr auto fields() {
    using A = CachedAttention;
    return std::array{moe::in("q", &A::q),
                      moe::in("k_cache", &A::k_cache),
                      moe::in("v_cache", &A::v_cache),
                      moe::in("sequence", &A::sequence),
                      moe::in("positions", &A::positions),
                      moe::out("out", &A::out)};
  }
};

void check(const Attention& op);
void check(const AttentionBackward& op);
void check(const KvAppend& op);
void check(const CachedAttention& op);

/// Multiplications and additions of the products with causality, as if every document had max_segment tokens.
int64_t flops(const Attention& op);
int64_t flops(const AttentionBackward& op);
/// The same, as if every token attended to the whole cache.
int64_t flops(const CachedAttention& op);

}  // namespace moe
