#pragma once
/// A tiny model on the CPU, and documents for it.

#include <cmath>

#include "backend/cpu/cpu_backend.h"
#include "eval/loss.h"
#include "infer/scorer.h"
#include "tests/support/tiny_model.h"

namespace moe {

/// Random weights with a large deviation, so that routing and attention vary.
struct TinyRuntime {
  explicit TinyRuntime(int threads = 2, ModelConfig config = tiny_config(), DType dtype = DType::f32)
      : pool(threads),
        device(make_cpu_device()),
        backend(make_cpu_backend(pool)),
        step(config, one_row(dtype), *device, *backend),
        runtime{.model = step.run.model(), .dtype = dtype, .device = *device, .backend = *backend} {}

  static StepConfig one_row(DType dtype) {
    StepConfig step;
    step.dtype = dtype;
    step.sequence_length = step.microbatch_tokens = 8;
    return step;
  }

  ThreadPool pool;
  std::unique_ptr<Device> device;
  std::unique_ptr<Backend> backend;
  StepUnderTest step;
  ModelOnDevice runtime;
};

struct TestDocument {
  const char* domain;
  int tokens;
};

/// Random ids; 3 bytes of text per token, and one more for every tenth token.
inline MemoryDocuments make_documents(const std::vector<TestDocument>& list, uint64_t seed = 11) {
  MemoryDocuments documents;
  const Random random(seed, 1);
  uint64_t draw = 0;
  for (const TestDocument& document : list) {
    std::vector<int32_t> ids;
    for (int i = 0; i < document.tokens; ++i) ids.push_back(static_cast<int32_t>(random.below(draw++, 23)));
    documents.add(std::move(ids), documents.add_domain(document.domain), 3 * document.tokens + document.tokens / 10);
  }
  return documents;
}

/// Three domains; lengths near, equal to and far above a row of 16.
inline MemoryDocuments mixed_documents() {
  return make_documents({{"books", 9},
                         {"code", 16},
                         {"books", 50},
                         {"zh", 4},
                         {"code", 17},
                         {"zh", 33},
                         {"books", 1},
                         {"code", 3},
                         {"zh", 12},
                         {"books", 16},
                         {"code", 7},
                         {"zh", 5}});
}

/// The cross-entropies of one document from the logits of its pieces, each run alone, in double precision.
inline double nats_alone(const ModelOnDevice& runtime, const Documents& documents, int64_t document, int64_t row) {
  std::vector<int32_t> ids(static_cast<size_t>(documents.length(document)));
  documents.copy_tokens(document, 0, documents.length(document), ids.data());
  double nats = 0;
  for (size_t begin = 0; begin < ids.size(); begin += static_cast<size_t>(row)) {
    const size_t count = std::min(ids.size() - begin, static_cast<size_t>(row));
    Scorer scorer(runtime, static_cast<int64_t>(count));
    scorer.logits(single_document(std::span(ids).subspan(begin, count)),
                  [&](int64_t first, int64_t rows, const float* values) {
                    const int64_t vocabulary = runtime.model.config().vocab_size;
                    for (int64_t r = 0; r < rows; ++r) {
                      const size_t target = begin + static_cast<size_t>(first + r) + 1;
                      if (target >= ids.size()) continue;
                      const float* logits = values + r * vocabulary;
                      double sum = 0;
                      for (int64_t v = 0; v < vocabulary; ++v) sum += std::exp(static_cast<double>(logits[v]));
                      nats += std::log(sum) - static_cast<double>(logits[ids[target]]);
                    }
                  });
  }
  return nats;
}

/// The same from the row losses of training steps over each piece, which golden values check.
inline double nats_by_training(TinyRuntime& tiny, const Documents& documents, int64_t document, int64_t row) {
  std::vector<int32_t> ids(static_cast<size_t>(documents.length(document)));
  documents.copy_tokens(document, 0, documents.length(document), ids.data());
  double nats = 0;
  for (size_t begin = 0; begin < ids.size(); begin += static_cast<size_t>(row)) {
    const size_t count = std::min(ids.size() - begin, static_cast<size_t>(row));
    Batch batch = single_document(std::span(ids).subspan(begin, count));
    if (begin + count < ids.size()) {  // the last token of a piece predicts the first of the next
      batch.targets.back() = ids[begin + count];
      ++batch.num_targets;
    }
    if (batch.num_targets == 0) continue;
    StepConfig config = step_config_for(batch, 1);
    StepUnderTest under(tiny.runtime.model.config(), config, *tiny.device, *tiny.backend);
    under.run.accumulate([&](int64_t) { return batch; });
    nats += under.run.update(1, 0).loss * static_cast<double>(batch.num_targets);
  }
  return nats;
}

}  // namespace moe
