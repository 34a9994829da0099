#include "cli/generation_plan.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "base/output.h"
#include "base/units.h"
#include "cli/expert_place.h"
#include "model/pass_memory.h"
#include "train/amounts.h"

namespace moe {
namespace {

/// An engine of one sequence, with a cache of so many pages.
int64_t engine_bytes(const HeldModel& held, const PassTypes& types, const EnginePasses& passes, int64_t pages) {
  return Engine::bytes(held, types,
                       {.sequences = 1,
                        .tokens_per_pass = std::min(passes.most_tokens, pages * kPageTokens),
                        .pages = pages,
                        .longest = pages * kPageTokens,
                        .on_device = passes.on_device});
}

/// The most pages whose engine takes at most `bytes`; 0: none.
int64_t fitting_pages(const HeldModel& held, const PassTypes& types, const EnginePasses& passes, int64_t bytes,
                      int64_t most) {
  int64_t fits = 0, too_many = most + 1;
  while (too_many - fits > 1) {
    const int64_t middle = fits + (too_many - fits) / 2;
    (engine_bytes(held, types, passes, middle) <= bytes ? fits : too_many) = middle;
  }
  return fits;
}

/// The table of all ranks up to here; of more, the first rank of each stage.
constexpr int64_t kShownRanks = 8;

std::vector<HeldModel> shown_ranks(const HeldModel& any) {
  if (any.layout.ranks() > kShownRanks) return any.stages();
  std::vector<HeldModel> all;
  for (int64_t rank = 0; rank < any.layout.ranks(); ++rank) all.emplace_back(any.config, any.layout, rank);
  return all;
}

/// "0-15", or "-" if there is nothing.
std::string range_text(const LayerRange& range) {
  if (range.begin == range.end) return "-";
  return range.end - range.begin == 1 ? std::to_string(range.begin) : fmt::format("{}-{}", range.begin, range.end - 1);
}

bool has_experts(const HeldModel& held) {
  const LayerRange layers = held.layers();
  for (int64_t layer = layers.begin; layer < layers.end; ++layer) {
    if (held.config.is_moe_layer(layer)) return true;
  }
  return false;
}

void print_rank_tables(const HeldModel& any, const PassTypes& types, const EnginePasses& passes,
                       const WeightSizes& whole) {
  const std::vector<HeldModel> shown = shown_ranks(any);
  const int64_t most = pages_for(any.config.max_position_embeddings);
  print_output("ranks              memory with the whole context{}\n",
               any.layout.ranks() > kShownRanks ? ", the first rank of each stage" : "");
  print_output("  {:>4}{:>9}{:>9}{:>13}{:>13}{:>13}{:>13}\n", "rank", "layers", "experts", "weights", "cache", "a pass",
               "all");
  for (const HeldModel& held : shown) {
    const int64_t weights = whole.of_rank(held.layout, held.rank).of().bytes;
    const int64_t cache = most * PagedModel::page_bytes(held, types.cache);
    const int64_t all = engine_bytes(held, types, passes, most);
    print_output("  {:>4}{:>9}{:>9}{:>13}{:>13}{:>13}{:>13}\n", held.rank, range_text(held.layers()),
                 range_text(has_experts(held) ? held.experts() : LayerRange{}), bytes_text(weights), bytes_text(cache),
                 bytes_text(all - cache), bytes_text(weights + all));
  }
  const int64_t tokens = std::min(passes.most_tokens, any.config.max_position_embeddings);
  print_output(
      "wire               bytes that a rank sends and receives for a new token, and for {} tokens of a prompt\n",
      tokens);
  print_output("  {:>4}{:>12}{:>12}{:>12}{:>12}{:>12}{:>15}{:>15}\n", "rank", "experts", "layers", "logits", "sends",
               "receives", "prompt sends", "receives");
  for (const HeldModel& held : shown) {
    const CollectiveTraffic one = PagedModel::traffic(held, types, 1), many = PagedModel::traffic(held, types, tokens);
    print_output("  {:>4}{:>12}{:>12}{:>12}{:>12}{:>12}{:>15}{:>15}\n", held.rank, one.sums.sent, one.parcels.sent,
                 one.copies.sent, one.all().sent, one.all().received, many.all().sent, many.all().received);
  }
}

}  // namespace

int64_t engine_bytes_for(const HeldModel& held, const PassTypes& types, const EnginePasses& passes, int64_t tokens) {
  return engine_bytes(held, types, passes,
                      pages_for(std::clamp<int64_t>(tokens, 1, held.config.max_position_embeddings)));
}

void print_generation_plan(const HeldModel& held, const WeightsSize& weights, const PassTypes& types,
                           const EnginePasses& passes, int64_t free, const WeightSizes& whole) {
  const ModelConfig& config = held.config;
  const Layout& layout = held.layout;
  const int64_t stored = weights.bytes, page = PagedModel::page_bytes(held, types.cache);
  const int64_t most = pages_for(config.max_position_embeddings);
  const int64_t engine = engine_bytes(held, types, passes, most);
  const char* const which = layout.pipeline > 1 ? "on the largest" : "on each";
  print_output(
      "weights            {:10.3f} GiB   {:.1f} M parameters: {}\n", gib(stored),
      1e-6 * static_cast<double>(count_elements(parameter_table(config))),
      layout.ranks() > 1 ? fmt::format("{} of {} ranks {}", which, layout.ranks(), weights.text) : weights.text);
  if (layout.ranks() > 1) print_output("one rank alone     {:10.3f} GiB   of weights\n", gib(whole.of().bytes));
  if (weights.host_bytes > 0) {
    print_output("on the CPU         {:10.3f} GiB   {}\n", gib(weights.host_bytes), expert_place_text(weights));
  }
  print_output("cache              {:10.3f} KiB   of a token; {} of keys and values in {}\n",
               static_cast<double>(page / kPageTokens) / 1024, counted(held.layer_count(), "layer"), name(types.cache));
  print_output("a pass             {:10.3f} GiB   of at most {} tokens, with its logits\n", gib(engine - most * page),
               std::min(passes.most_tokens, most * kPageTokens));
  print_output("the whole context  {:10.3f} GiB   with weights, pass and a cache of {} tokens\n", gib(stored + engine),
               config.max_position_embeddings);
  if (layout.ranks() > 1) print_rank_tables(held, types, passes, whole);
  if (free < 0) return;
  print_output("free memory        {:10.3f} GiB\n", gib(free));
  int64_t pages = most;
  for (const HeldModel& one : held.stages()) {  // the largest rank of a short context may not be that of a long one
    const int64_t own = layout.ranks() > 1 ? whole.of_rank(layout, one.rank).of().bytes : stored;
    pages = std::min(pages, fitting_pages(one, types, passes, free - own, most));
  }
  if (pages == 0) {
    fail("the weights and one page of cache need {}, and {} are free; use a smaller type (--dtype)",
         bytes_text(stored + engine_bytes(held, types, passes, 1)), bytes_text(free));
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
