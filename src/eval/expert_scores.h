#pragma once
/// How much each routed expert has to do with some text, and the experts that the text needs (ESFT: Wang et al. 2024).
/// L MoE layers, E routed experts, T tokens, K experts of a token.
///
/// For a layer, expert i has two sums over the tokens t:
///   token   1 if t chose i, with the total K T;
///   gate    the gate of i for t, 0 if t did not choose it, with the total T.
/// A score is a sum divided by its total. The token scores of a layer add up to 1. The gate scores add up to 1 only if
/// the gates of a token do (norm_topk_prob, routed_scaling_factor 1).

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "batch/batch.h"
#include "data/documents.h"
#include "infer/model_on_device.h"

namespace moe {

enum class ExpertRule { token, gate };
const char* name(ExpertRule rule);

struct ExpertScores {
  int64_t layers = 0, experts = 0;
  int64_t tokens = 0;                ///< T, without padding
  std::vector<double> chosen = {};   ///< [L, E]: tokens that chose the expert
  std::vector<double> gates = {};    ///< [L, E]: the sum of their gates
  std::vector<double> choices = {};  ///< [L]: all choices of the layer's tokens, K T

  ExpertScores(int64_t of_layers, int64_t of_experts);
  /// `ids` and `gates`: [L, T, S] for the batch's tokens; -1: no expert in that slot. Tokens of domain -1 are padding.
  void add(const Batch& batch, std::span<const int32_t> ids, std::span<const float> values);

  std::span<const double> sums(ExpertRule rule, int64_t layer) const;
  double total(ExpertRule rule, int64_t layer) const;
};

/// The experts of a layer, ascending: in the order of falling sums (of equal ones, the lower expert first) as many as
/// it takes until their sums add up to p times `total`; the one that reaches it is among them. Sums that differ from
/// p times `total` by rounding alone count as equal to it.
std::vector<int64_t> choose_experts(std::span<const double> sums, double total, double p);

struct ExpertScoreOptions {
  int64_t sequence_length;
  int64_t batch_rows = 1;
  /// Called after each batch; may be empty.
  std::function<void(int64_t rows_done, int64_t rows_in_all)> progress = {};
};

/// Over all documents, each of which sees itself alone.
ExpertScores score_experts(const ModelOnDevice& runtime, const Documents& documents, const ExpertScoreOptions& options);

/// Documents in an order that a seed shuffles, up to a number of tokens: what the last one has beyond it is cut.
/// `all` must outlive it. Several threads may read it if they may read `all`.
class ShuffledStart : public Documents {
 public:
  ShuffledStart(const Documents& all, uint64_t seed, int64_t most_tokens);

  int64_t tokens() const { return tokens_; }
  int64_t count() const override { return static_cast<int64_t>(order_.size()); }
  int64_t length(int64_t document) const override;
  int32_t domain(int64_t document) const override { return all_.domain(at(document)); }
  int64_t text_bytes(int64_t document) const override { return all_.text_bytes(at(document)); }
  void copy_tokens(int64_t document, int64_t begin, int64_t count, int32_t* out) const override {
    all_.copy_tokens(at(document), begin, count, out);
  }
  const std::vector<std::string>& domain_names() const override { return all_.domain_names(); }

 private:
  int64_t at(int64_t document) const { return order_[static_cast<size_t>(document)]; }

  const Documents& all_;
  std::vector<int64_t> order_;
  int64_t tokens_ = 0, cut_ = 0;  // tokens that the last document loses
};

}  // namespace moe
