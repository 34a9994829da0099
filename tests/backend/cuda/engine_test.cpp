// The engine on a GPU: its recorded steps against passes that the host chooses from, and texts that do not depend on
// others.

#include "infer/engine.h"

#include <map>

#include "measure/model_types.h"
#include "measure/random_model.h"
#include "tests/backend/cuda/gpu_test.h"

namespace moe {
namespace {

struct Text {
  std::vector<int32_t> ids;
  std::vector<double> logprobs;
  std::vector<int32_t> experts;
  std::string error;
  bool operator==(const Text&) const = default;
};

class CudaEngine : public GpuTest {
 protected:
  static ModelConfig config() {
    ModelConfig config = gpu_config();
    config.num_hidden_layers = 4;
    return config;
  }
  static std::vector<int32_t> random_ids(int64_t count, uint64_t seed) {
    std::vector<int32_t> ids;
    for (uint64_t i = 0; i < static_cast<uint64_t>(count); ++i) {
      ids.push_back(static_cast<int32_t>(Random(seed, 1).below(i, 264)));
    }
    return ids;
  }
  static Request request(int64_t prompt, int64_t new_tokens, uint64_t seed) {
    return {.prompt = {random_ids(prompt, seed), seed},
            .options = {.max_new_tokens = new_tokens, .sampling = {.temperature = 0.9, .seed = seed}}};
  }
  std::vector<Text> texts(const Model& model, const std::vector<Request>& requests, const EngineSizes& sizes,
                          int64_t* steps = nullptr) {
    Engine engine({model, DType::bf16, *gpu_->device, *gpu_->backend}, nullptr, sizes);
    for (const Request& each : requests) engine.admit(each);
    std::vector<Text> result(requests.size());
    while (!engine.idle()) {
      for (const Event& event : engine.step()) {
        Text& text = result[static_cast<size_t>(event.request)];
        if (event.id) text.ids.push_back(*event.id);
        text.logprobs.push_back(event.logprob);
        text.experts.insert(text.experts.end(), event.experts.begin(), event.experts.end());
        text.error += event.error;
      }
    }
    EXPECT_EQ(engine.counts().pages_in_use, 0);
    if (steps != nullptr) *steps = engine.counts().steps;
    return result;
  }
};

TEST_F(CudaEngine, RecordedStepsGiveWhatTheHostChoosesFromThePassesLogits) {
  const RandomModel weights(config(), types_of_weights(config(), DType::bf16), *gpu_->device, *gpu_->backend);
  // As many sequences as a recording has rows, so that both ways have passes of the same size.
  for (const int64_t batch : {1, 4, 8}) {
    std::vector<Request> requests;
    for (int64_t i = 0; i < batch; ++i) requests.push_back(request(40, 100, static_cast<uint64_t>(i)));
    requests[0].options.sampling.temperature = 0;
    requests.back().options.sampling = {.repetition_penalty = 1.2, .top_k = 40, .top_p = 0.9, .seed = 4};
    EngineSizes sizes{.sequences = batch,
                      .tokens_per_pass = 512,
                      .pages = 3 * batch,
                      .longest = 150,
                      .experts = true,
                      .penalties = true};
    for (Request& each : requests) each.experts = true;
    const std::vector<Text> plain = texts(weights.model(), requests, sizes);
    sizes.on_device = true;
    int64_t steps = 0;
    const std::vector<Text> recorded = texts(weights.model(), requests, sizes, &steps);
    EXPECT_EQ(steps, 99) << batch;
    for (size_t i = 0; i < plain.size(); ++i) {
      EXPECT_EQ(plain[i].ids, recorded[i].ids) << batch << " sequences, number " << i;
      EXPECT_GT(recorded[i].experts.size(), 0u);
      EXPECT_EQ(plain[i].experts, recorded[i].experts) << batch << " sequences, number " << i;
      EXPECT_EQ(recorded[i].error, "");
    }
  }
}

TEST_F(CudaEngine, SequencesThatComeAndGoGetAllTheirTokens) {
  const RandomModel weights(config(), types_of_weights(config(), DType::bf16), *gpu_->device, *gpu_->backend);
  std::vector<Request> requests;
  for (int64_t i = 0; i < 40; ++i) {
    requests.push_back(request(1 + i * 37 % 150, 1 + i * 29 % 120, static_cast<uint64_t>(i)));
    if (i % 7 == 0) requests.back().logprobs = 0;
    if (i % 5 == 0) requests.back().options.end_ids = {9, 60, 100, 200, 250};
  }
  const EngineSizes sizes{
      .sequences = 11, .tokens_per_pass = 100, .pages = 40, .longest = 300, .on_device = true, .penalties = true};
  const std::vector<Text> all = texts(weights.model(), requests, sizes);
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i].error, "");
    const std::vector<int32_t>& end = requests[i].options.end_ids;
    const bool ended = std::find(end.begin(), end.end(), all[i].ids.back()) != end.end();
    if (!ended) {
      EXPECT_EQ(static_cast<int64_t>(all[i].ids.size()), requests[i].options.max_new_tokens);
    }
  }
  EXPECT_EQ(all, texts(weights.model(), requests, sizes)) << "the same requests in the same order: the same bits";
}

TEST_F(CudaEngine, WithInvariantKernelsATextHasItsBitsAloneAndAmongOthers) {
  const RandomModel weights(config(), types_of_weights(config(), DType::bf16), *gpu_->device, *gpu_->backend);
  force_cuda_path(CudaPath::invariant);
  std::vector<Request> requests;
  for (int64_t i = 0; i < 30; ++i) {
    requests.push_back(request(1 + i * 53 % 330, 1 + i * 17 % 60, static_cast<uint64_t>(i)));
    requests.back().logprobs = 0;
  }
  const std::vector<Text> among =
      texts(weights.model(), requests, {.sequences = 13, .tokens_per_pass = 70, .pages = 60, .longest = 400});
  const std::vector<Text> others =
      texts(weights.model(), requests, {.sequences = 20, .tokens_per_pass = 400, .pages = 90, .longest = 400});
  for (Request& each : requests) each.logprobs.reset();
  const std::vector<Text> recorded =
      texts(weights.model(), requests,
            {.sequences = 9, .tokens_per_pass = 90, .pages = 60, .longest = 400, .on_device = true});
  for (size_t i = 0; i < requests.size(); ++i) {
    Request each = requests[i];
    each.logprobs = 0;
    const Text alone =
        texts(weights.model(), {each}, {.sequences = 1, .tokens_per_pass = 512, .pages = 7, .longest = 400})[0];
    EXPECT_EQ(alone, among[i]) << i;
    EXPECT_EQ(alone, others[i]) << i;
    EXPECT_EQ(alone.ids, recorded[i].ids) << i;
  }
}

// The second turn takes whole pages of the first one, and a copy of the page where the first one ends.
TEST_F(CudaEngine, WithInvariantKernelsAConversationGoesOnWithTheBitsOfANewOne) {
  const RandomModel weights(config(), types_of_weights(config(), DType::bf16), *gpu_->device, *gpu_->backend);
  force_cuda_path(CudaPath::invariant);
  const EngineSizes sizes{.sequences = 1, .tokens_per_pass = 100, .pages = 7, .longest = 400, .on_device = true};
  Engine engine({weights.model(), DType::bf16, *gpu_->device, *gpu_->backend}, nullptr, sizes);
  Request turn = request(110, 30, 1);
  int64_t cached = 0;
  for (uint64_t number = 0; number < 4; ++number) {
    std::vector<int32_t> ids;
    const int64_t before = engine.counts().reused_tokens;
    engine.admit(turn);
    while (!engine.idle()) {
      for (const Event& event : engine.step()) ids.push_back(*event.id);
    }
    EXPECT_EQ(engine.counts().reused_tokens - before, cached);
    EXPECT_EQ(ids, texts(weights.model(), {turn}, sizes)[0].ids) << "turn " << number;
    cached = static_cast<int64_t>(turn.prompt.ids.size()) + 29;
    turn.prompt.ids.insert(turn.prompt.ids.end(), ids.begin(), ids.end());
    for (const int32_t id : random_ids(13, 100 + number)) turn.prompt.ids.push_back(id);
  }
}

}  // namespace
}  // namespace moe
