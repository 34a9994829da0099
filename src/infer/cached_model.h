#pragma once
/// A model with a cache of keys and values: the tokens that a sequence has already are not computed again.

#include <memory>
#include <span>
#include <vector>

#include "infer/model_on_device.h"

namespace moe {

/// The simple form of the engine, with which it is compared and timed: a cache for `sequences` sequences of up to
/// `max_length` tokens each. Appending more is an error that changes nothing. Use it on one thread at a time.
class CachedModel {
 public:
  /// `max_tokens`: the largest number of tokens in one pass.
  CachedModel(const ModelOnDevice& runtime, int64_t sequences, int64_t max_length, int64_t max_tokens);
  ~CachedModel();

  /// Bytes that a cache of these sizes allocates. Nothing is allocated.
  static int64_t bytes(const ModelConfig& config, const PassTypes& types, int64_t sequences, int64_t max_length,
                       int64_t max_tokens);

  /// The number of tokens in a sequence's cache.
  int64_t length(int64_t sequence) const { return lengths_[static_cast<size_t>(sequence)]; }
  int64_t max_length() const;
  /// Appends tokens to one sequence, in as many passes as needed. Returns the logits [V] after the last token.
  std::vector<float> append(int64_t sequence, std::span<const int32_t> ids);
  /// Appends one token to each of the given sequences (distinct). Returns the logits [n, V] after them.
  std::vector<float> append_each(std::span<const int32_t> sequences, std::span<const int32_t> ids);
  /// Empties a sequence's cache.
  void reset(int64_t sequence) { lengths_[static_cast<size_t>(sequence)] = 0; }

 private:
  void check_room(int64_t sequence, size_t tokens) const;
  std::vector<float> run(const std::vector<int32_t>& ids, const std::vector<int32_t>& sequence, int64_t wanted_rows);

  struct Memory;
  ModelOnDevice runtime_;
  std::vector<int64_t> lengths_;
  std::unique_ptr<Memory> memory_;
};

}  // namespace moe
