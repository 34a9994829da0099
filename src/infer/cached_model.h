#pragma once
/// A model with a cache of keys and values: the tokens that a sequence has already are not computed again.

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "infer/model_on_device.h"
#include "infer/scorer.h"

namespace moe {

/// Generation with a cache for `sequences` sequences of up to `max_length` tokens each. Appending more is an error that
/// changes nothing. Use it on one thread at a time.
class CachedModel {
 public:
  /// `max_tokens`: the largest number of tokens in one pass. `most_logits`: the most rows of append_with_logits.
  CachedModel(const ModelOnDevice& runtime, int64_t sequences, int64_t max_length, int64_t max_tokens,
              ChosenIds ids = ChosenIds::forgotten, int64_t most_logits = 1);
  ~CachedModel();

  /// Bytes that a cache of these sizes allocates. Nothing is allocated.
  static int64_t bytes(const ModelConfig& config, const PassTypes& types, int64_t sequences, int64_t max_length,
                       int64_t max_tokens);
  /// Of what it has allocated, the bytes that its passes have used so far.
  int64_t used_bytes() const;

  /// The number of tokens in a sequence's cache.
  int64_t length(int64_t sequence) const { return lengths_[static_cast<size_t>(sequence)]; }
  int64_t max_length() const;
  /// Appends tokens to one sequence, in as many passes as needed. Returns the logits [V] after the last token. Calls
  /// `passed`, if it is not empty, with the number of tokens of each pass.
  std::vector<float> append(int64_t sequence, std::span<const int32_t> ids,
                            const std::function<void(int64_t)>& passed = {});
  /// Appends tokens to one sequence in one pass. Returns the logits [n, V] after each of them.
  std::vector<float> append_with_logits(int64_t sequence, std::span<const int32_t> ids);
  /// Appends one token to each of the given sequences (distinct). Returns the logits [n, V] after them.
  std::vector<float> append_each(std::span<const int32_t> sequences, std::span<const int32_t> ids);
  /// Forgets the tokens of a sequence from `length` on. It must have as many.
  void truncate(int64_t sequence, int64_t length);
  /// Empties a sequence's cache.
  void reset(int64_t sequence) { truncate(sequence, 0); }

  /// The experts that each token of the last pass chose: [MoE layers, T, S]; -1: none. Only for a model that keeps
  /// them.
  const std::vector<int32_t>& chosen_ids() const { return chosen_ids_; }
  /// From now on uses another model of the same sizes and weights, such as the same one with other routing switches.
  /// The cache stays as it is: truncate what does not hold any longer. An error of memory changes nothing.
  void set_model(const ModelOnDevice& runtime);

 private:
  void check_room(int64_t sequence, size_t tokens) const;
  std::vector<float> run(const std::vector<int32_t>& ids, const std::vector<int32_t>& sequence, int64_t wanted_rows);

  struct Cache;
  struct Work;
  const Model* model_;
  PassTypes types_;
  Device& device_;
  Backend& backend_;
  int64_t max_tokens_, most_logits_;
  ChosenIds ids_;
  std::vector<int64_t> lengths_;
  std::vector<int32_t> chosen_ids_;
  std::unique_ptr<Cache> cache_;
  std::unique_ptr<Work> work_;
};

}  // namespace moe
