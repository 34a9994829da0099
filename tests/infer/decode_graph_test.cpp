// Steps whose tokens are chosen on the device give what passes over the whole sequence give.

#include "infer/decode_graph.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "batch/batch.h"
#include "batch/token_buffers.h"
#include "infer/scorer.h"
#include "ops/transfer.h"
#include "tests/infer/support.h"
#include "tests/support/tiny_model.h"

namespace moe::test {
namespace {

constexpr int64_t kSequences = 3, kSteps = 20, kPage = 4, kPages = 8;

/// The last row of the logits of a pass over the whole sequence.
std::vector<float> last_logits(Scorer& scorer, const std::vector<int32_t>& ids) {
  std::vector<float> last;
  scorer.logits(single_document(ids), [&](int64_t, int64_t rows, const float* values) {
    const int64_t width = tiny_config().vocab_size;
    last.assign(values + (rows - 1) * width, values + rows * width);
  });
  return last;
}

TEST(DecodeGraph, ChoosesWhatAPassOverTheWholeSequenceFindsMostLikely) {
  Cpu cpu;
  const ModelConfig config = tiny_config();
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const MemoryModel model = random_model(config, dtype, *cpu.device);
    const ModelOnDevice runtime = model.runtime(cpu);
    DeviceMemory memory(*cpu.device);
    PassArenas arenas{memory.arena("inputs", 1 << 20), memory.arena("saved", 1 << 20),
                      memory.arena("scratch", 1 << 20)};
    TokenBuffers tokens(arenas.inputs, DType::f32, kSequences, config.head_dim, kSequences, kPages);
    KvCache cache;
    for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
      const Shape pages{kSequences * kPages, kPage, config.attention().kv_width()};
      cache.layers.push_back({arenas.inputs.push("k", dtype, pages), arenas.inputs.push("v", dtype, pages)});
    }
    for (int64_t s = 0; s < kSequences; ++s) {  // pages that are not next to each other
      std::vector<int32_t> pages;
      for (int64_t p = 0; p < kPages; ++p) pages.push_back(static_cast<int32_t>(p * kSequences + s));
      tokens.upload_pages(s, pages, *cpu.device);
    }
    const std::vector<int32_t> first{5, 11, 2}, sequence{0, 1, 2}, positions(3, 0);
    std::vector<int32_t> allowed(static_cast<size_t>(config.vocab_size), 1);
    allowed[7] = allowed[20] = 0;
    const auto push = [&](DType type, Shape shape) { return arenas.inputs.push("result", type, shape); };
    const DecodeViews views{
        .tokens = tokens.upload_cached(first, sequence, positions, config.rope_theta, *cpu.device, *cpu.backend),
        .logits = push(DType::f32, {kSequences, config.vocab_size}),
        .allowed = push(DType::i32, {config.vocab_size}),
        .chosen = push(DType::i32, {kSequences})};
    upload_vector(*cpu.device, views.allowed, allowed);
    DecodeGraph graph(runtime, arenas, views, cache);
    std::vector<int32_t> log;
    for (int64_t step = 0; step < kSteps; ++step) {
      graph.step();
      log.insert(log.end(), views.chosen.as<int32_t>(), views.chosen.as<int32_t>() + kSequences);
    }

    Scorer scorer(runtime, kSteps + 1);
    for (size_t s = 0; s < static_cast<size_t>(kSequences); ++s) {
      std::vector<int32_t> ids{first[s]};
      for (int64_t step = 0; step < kSteps; ++step) {
        std::vector<float> logits = last_logits(scorer, ids);
        logits[7] = logits[20] = -HUGE_VALF;
        const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
        const int32_t chosen = log[static_cast<size_t>(step * kSequences) + s];
        ASSERT_EQ(chosen, best) << name(dtype) << ", sequence " << s << ", step " << step;
        ids.push_back(chosen);
      }
      EXPECT_EQ(views.tokens.positions.as<int32_t>()[s], kSteps);
    }
  }
}

}  // namespace
}  // namespace moe::test
