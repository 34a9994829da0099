#pragma once
/// A model with a cache of keys and values in pages (KvAppend), and the memory of its passes. It knows nothing of
/// requests: the engine decides which tokens a pass has and in which pages they go.

#include <memory>
#include <vector>

#include "infer/model_on_device.h"

namespace moe {

/// Tokens of a page of the cache. Attention takes keys in blocks of as many.
constexpr int64_t kPageTokens = 64;

/// The pages for this many tokens.
constexpr int64_t pages_for(int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

/// Decides how much memory a PagedModel allocates.
struct PagedSizes {
  int64_t sequences = 1;        ///< rows of the page table, and the most rows of logits of a pass
  int64_t pages = 1;            ///< of the cache
  int64_t pages_each = 1;       ///< the most pages of one sequence
  int64_t tokens = 1;           ///< the most tokens of a pass
  bool scores = false;          ///< passes may score targets
  bool chosen_experts = false;  ///< passes may tell the experts that tokens chose
};

/// One pass: token t is ids[t], in row sequence[t] of the page table, at positions[t]. Tokens of one sequence are next
/// to each other, in the order of their positions.
struct PagedPass {
  std::vector<int32_t> ids, sequence, positions;
  /// The tokens whose logits are wanted, in ascending order; at most `sequences` of them.
  std::vector<int32_t> wanted = {};
  /// Tokens that score a target, in ascending order, and their targets.
  std::vector<int32_t> scored = {}, targets = {};
  bool chosen_experts = false;
};

struct PagedResult {
  std::vector<float> logits;     ///< [wanted, V]
  std::vector<double> losses;    ///< [scored]: minus the logarithm of the target's probability
  std::vector<int32_t> experts;  ///< [MoE layers, tokens, choices]; -1: none
};

/// Use it on one thread at a time.
class PagedModel {
 public:
  PagedModel(const ModelOnDevice& runtime, const PagedSizes& sizes);
  ~PagedModel();

  /// Bytes that these sizes allocate. Nothing is allocated.
  static int64_t bytes(const ModelConfig& config, const PassTypes& types, const PagedSizes& sizes);
  /// Bytes of one page of a cache of this type, all layers together.
  static int64_t page_bytes(const ModelConfig& config, DType cache);

  const ModelConfig& config() const { return runtime_.model.config(); }
  const PagedSizes& sizes() const { return sizes_; }
  /// The first pages of a sequence, in the order of its tokens. Later entries of its row keep their values.
  void set_pages(int64_t sequence, const std::vector<int32_t>& pages);
  /// Writes the tokens' keys and values into their pages. If it throws, nothing but these rows of the cache has
  /// changed.
  PagedResult run(const PagedPass& pass);

 private:
  struct Memory;
  ModelOnDevice runtime_;
  PagedSizes sizes_;
  std::unique_ptr<Memory> memory_;
};

}  // namespace moe
