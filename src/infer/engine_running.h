#pragma once
/// For the sources of Engine alone: what it knows of a request that runs.

#include "infer/request.h"
#include "infer/sequence.h"

namespace moe {

inline int64_t count_of(const std::vector<int32_t>& ids) { return static_cast<int64_t>(ids.size()); }

/// A request that has its place.
struct RunningRequest {
  int64_t id;
  Request request;
  Sequence sequence;
  int64_t row;                 // of the page table
  std::vector<int32_t> pages;  // in the order of its tokens
  int64_t most_pages;          // that it may list before it ends
  int64_t computed;            // tokens that are in the cache
  int64_t published;           // pages that were offered to the pool
  bool row_is_current = false;
  bool history_is_current = false;  // the device counts its tokens
  std::vector<double> scores = {};

  const std::vector<int32_t>& ids() const { return sequence.ids(); }
  int64_t prompt_tokens() const { return count_of(request.prompt.ids); }
  /// Tokens to compute before the next token can be chosen, or the last one be scored.
  int64_t left() const { return count_of(ids()) - (request.only_score ? 1 : 0) - computed; }
  bool reads_prompt() const { return computed < prompt_tokens(); }
};

/// The next tokens of one sequence in a pass.
struct EngineWork {
  RunningRequest* running;
  int64_t tokens;
  std::vector<int32_t> draft = {};  // guesses of the tokens behind them
};

}  // namespace moe
