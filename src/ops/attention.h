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

/// A cache of keys and values consists of N pages of P tokens each. Row s of the page table lists the pages of sequence
/// s in order: position p of the sequence is row p % P of page pages[s, p / P]. Entries after a sequence's last page
/// are never read. Several sequences may list the same page (a common beginning of their texts).
///
/// Writes the keys and values of T tokens into a cache, at the sequence and position of each token. Tokens with
/// sequence[t] < 0 are skipped. All other tokens must go to distinct rows of the cache, and no page that is written may
/// be listed by another sequence of the same call.
struct KvAppend {
  View k;          ///< [T, C], C = Hkv * h
  View v;          ///< [T, C]
  View sequence;   ///< i32 [T], below S
  View positions;  ///< i32 [T], below M * P
  View pages;      ///< i32 [S, M], below N
  View k_cache;    ///< [N, P, C], also of a type that only weights have, as f16, where a backend lists it
  View v_cache;    ///< [N, P, C]

  static constexpr const char* name = "kv_append";
  static constexpr auto fields() {
    return std::array{in("k", &KvAppend::k),
                      in("v", &KvAppend::v),
                      in("sequence", &KvAppend::sequence),
                      in("positions", &KvAppend::positions),
                      in("pages", &KvAppend::pages),
                      partial("k_cache", &KvAppend::k_cache),
                      partial("v_cache", &KvAppend::v_cache)};
  }
};

/// Token t attends to positions 0 .. positions[t] of its sequence in the cache, whose pages are those of KvAppend (its
/// own key is already there). out is 0 where sequence[t] < 0.
struct CachedAttention {
  View q;          ///< [T, Hq * h]
  View k_cache;    ///< [N, P, Hkv * h]
  View v_cache;    ///< [N, P, Hkv * h]
  View sequence;   ///< i32 [T], below S
  View positions;  ///< i32 [T], below M * P
  View pages;      ///< i32 [S, M], below N
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
                      moe::in("pages", &A::pages),
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
/// The same, as if every token attended to all pages that its sequence's row of the table has room for.
int64_t flops(const CachedAttention& op);

/// An append writes only its own rows of the cache.
int64_t traffic_bytes(const KvAppend& op);
/// As if every sequence had all the pages that its row of the table has room for; but no page is read twice.
int64_t traffic_bytes(const CachedAttention& op);

}  // namespace moe
