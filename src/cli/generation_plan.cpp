#include "cli/generation_plan.h"

#include <algorithm>

#include "base/error.h"
#include "base/output.h"
#include "base/units.h"
#include "cli/expert_place.h"
#include "model/pass_memory.h"
#include "train/amounts.h"

namespace moe {
namespace {

/// An engine of one sequence, with a cache of so many pages.
int64_t engine_bytes(const ModelConfig& config, const PassTypes& types, const EnginePasses& passes, int64_t pages) {
  return Engine::bytes(config, types,
                       {.sequences = 1,
                        .tokens_per_pass = std::min(passes.most_tokens, pages * kPageTokens),
                        .pages = pages,
                        .longest = pages * kPageTokens,
                        .on_device = passes.on_device});
}

/// The most pages whose engine takes at most `bytes`; 0: none.
int64_t fitting_pages(const ModelConfig& config, const PassTypes& types, const EnginePasses& passes, int64_t bytes,
                      int64_t most) {
  int64_t fits = 0, too_many = most + 1;
  while (too_many - fits > 1) {
    const int64_t middle = fits + (too_many - fits) / 2;
    (engine_bytes(config, types, passes, middle) <= bytes ? fits : too_many) = middle;
  }
  return fits;
}

}  // namespace

int64_t engine_bytes_for(const ModelConfig& config, const PassTypes& types, const EnginePasses& passes,
                         int64_t tokens) {
  return engine_bytes(config, types, passes, pages_for(std::clamp<int64_t>(tokens, 1, config.max_position_embeddings)));
}

void print_generation_plan(const ModelConfig& config, const WeightsSize& weights, const PassTypes& types,
                           const EnginePasses& passes, int64_t free, const AnsweringRanks& ranks) {
  const int64_t stored = weights.bytes, page = PagedModel::page_bytes(config, types.cache);
  const int64_t most = pages_for(config.max_position_embeddings);
  const int64_t whole = engine_bytes(config, types, passes, most);
  print_output("weights            {:10.3f} GiB   {:.1f} M parameters: {}\n", gib(stored),
               1e-6 * static_cast<double>(ranks.parameters),
               ranks.ranks > 1 ? fmt::format("on each of {} ranks {}", ranks.ranks, weights.text) : weights.text);
  if (ranks.ranks > 1) print_output("one rank alone     {:10.3f} GiB   of weights\n", gib(ranks.alone_bytes));
  if (weights.host_bytes > 0) {
    print_output("on the CPU         {:10.3f} GiB   {}\n", gib(weights.host_bytes), expert_place_text(weights));
  }
  print_output("cache              {:10.3f} KiB   of a token; {} of keys and values in {}\n",
               static_cast<double>(page / kPageTokens) / 1024, counted(config.num_hidden_layers, "layer"),
               name(types.cache));
  print_output("a pass             {:10.3f} GiB   of at most {} tokens, with its logits\n", gib(whole - most * page),
               std::min(passes.most_tokens, most * kPageTokens));
  print_output("the whole context  {:10.3f} GiB   with weights, pass and a cache of {} tokens\n", gib(stored + whole),
               config.max_position_embeddings);
  if (free < 0) return;
  print_output("free memory        {:10.3f} GiB\n", gib(free));
  const int64_t pages = fitting_pages(config, types, passes, free - stored, most);
  if (pages == 0) {
    fail("the weights and one page of cache need {}, and {} are free; use a smaller type (--dtype)",
         bytes_text(stored + engine_bytes(config, types, passes, 1)), bytes_text(free));
  }
  print_output("context that fits  {:10}       tokens of one sequence\n",
               std::min(pages * kPageTokens, config.max_position_embeddings));
}

void check_memory_limit(int64_t limit, const WeightsSize& weights, int64_t beside, int64_t free) {
  if (limit == 0) return;
  if (weights.bytes > free) {
    fail(
        "the weights need {} ({}), and --memory-limit leaves {}; use a smaller type (--dtype), or keep routed experts "
        "on the CPU (--cpu-moe)",
        bytes_text(weights.bytes), weights.text, bytes_text(free));
  }
  if (weights.bytes + beside > free) {
    fail(
        "the cache and a pass need {} beside the weights, and --memory-limit leaves {}; use a shorter context "
        "(--context), or give a higher limit",
        bytes_text(beside), bytes_text(free - weights.bytes));
  }
}

}  // namespace moe
