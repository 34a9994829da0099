#pragma once
/// Inference on ranks that are threads.

#include <functional>
#include <memory>

#include "checkpoint/open_model.h"
#include "infer/chat_engine.h"
#include "infer/follower.h"
#include "infer/leader.h"
#include "tests/infer/engine_support.h"
#include "tests/infer/support.h"
#include "tests/support/ranks.h"

namespace moe::test {

/// What every rank loads.
struct RankedModel {
  fs::path path;
  WeightTypes weights = DType::f32;
  std::vector<ChosenAdapter> adapters = {};
  int expert_ranks = 0;  ///< that divide the experts; 0: all, if there are experts
};

/// What rank 0 has.
struct Lead {
  Cpu& cpu;
  LoadedModel& loaded;
  Leader* leader;  ///< null: there is one rank

  ModelOnDevice runtime() const { return {loaded.model(), loaded.dtype(), *cpu.device, *cpu.backend, {}, leader}; }
};

using LeadWork = std::function<void(const Lead& lead)>;

/// How so many ranks divide a model.
inline Layout layout_of(const RankedModel& model, int ranks) {
  const int by_model = read_model_config(model.path).moe_layers() > 0 ? ranks : 1;
  const int experts = model.expert_ranks > 0 ? model.expert_ranks : by_model;
  return {.expert = experts, .pipeline = ranks / experts};
}

/// What a rank has of a model.
inline ModelPart part_of(const RankedModel& model, Communicator& communicator) {
  const Layout layout = layout_of(model, communicator.size());
  return part_of(HeldModel(read_model_config(model.path), layout, communicator.rank()), communicator);
}

/// Loads the model on ranks that divide it, and does `work` on rank 0. One rank has the whole model, and no
/// leader. `wrap`, if given, changes a rank's communicator. Returns what each rank threw.
inline std::vector<std::exception_ptr> try_to_lead(
    int ranks, const RankedModel& model, const LeadWork& work,
    const std::function<std::unique_ptr<Communicator>(Communicator&)>& wrap = {}) {
  return try_on_ranks(ranks, [&](Communicator& given) {
    const std::unique_ptr<Communicator> wrapped = wrap ? wrap(given) : nullptr;
    Communicator& communicator = wrapped ? *wrapped : given;
    Cpu cpu(1);
    LoadedModel loaded(model.path, model.weights, *cpu.device, {}, model.adapters, {}, part_of(model, communicator));
    if (communicator.rank() > 0) return follow(communicator, loaded, *cpu.device, *cpu.backend);
    if (ranks == 1) return work({cpu, loaded, nullptr});
    Leader leader(communicator);
    work({cpu, loaded, &leader});
    leader.end();
  });
}

inline void lead(int ranks, const RankedModel& model, const LeadWork& work) {
  rethrow_first(try_to_lead(ranks, model, work));
}

inline fs::path golden(const std::string& name) { return fs::path(MOE_SOURCE_DIR) / "tests" / "golden" / name; }

/// All logits of a prompt of some tokens, and then those after each of a few single tokens.
inline std::vector<float> logits_of(const ModelOnDevice& runtime) {
  constexpr int64_t kPrompt = 70, kSingle = 6;
  const std::vector<int32_t> ids = random_ids(kPrompt + kSingle, runtime.model.config().vocab_size, 4);
  PagedModel model(runtime, {.pages = 2, .pages_each = 2, .tokens = kPrompt, .logits = kPrompt});
  model.set_pages(0, {1, 0});
  std::vector<float> all;
  for (size_t begin = 0; begin < ids.size();) {
    const size_t count = begin == 0 ? kPrompt : 1;
    PagedPass pass;
    for (size_t i = 0; i < count; ++i) {
      pass.ids.push_back(ids[begin + i]);
      pass.sequence.push_back(0);
      pass.positions.push_back(static_cast<int32_t>(begin + i));
      pass.wanted.push_back(static_cast<int32_t>(i));
    }
    const std::vector<float> logits = model.run(pass).logits;
    all.insert(all.end(), logits.begin(), logits.end());
    begin += count;
  }
  return all;
}

inline std::vector<float> logits_on(int ranks, const RankedModel& model) {
  std::vector<float> logits;
  lead(ranks, model, [&](const Lead& one) { logits = logits_of(one.runtime()); });
  return logits;
}

inline std::vector<Request> some_requests(int64_t vocabulary) {
  std::vector<Request> requests;
  for (uint64_t i = 0; i < 5; ++i) {
    Request request{.prompt = {random_ids(20 + 30 * static_cast<int64_t>(i), vocabulary, i), i},
                    .options = {.max_new_tokens = 12 + static_cast<int64_t>(i)}};
    request.options.sampling.temperature = i % 2 == 0 ? 0 : 0.8;
    if (i == 3) request.options.sampling.repetition_penalty = 1.3;
    request.experts = i == 4;
    requests.push_back(request);
  }
  requests.push_back(requests[2]);  // a beginning that was computed already, and a page that is copied
  requests.back().prompt.ids.resize(75);
  return requests;
}

/// What an engine with too few places for all of them at once answers to requests; one of them is cancelled.
inline std::vector<Answer> answers_of(const Lead& one, bool on_device) {
  Engine engine(one.runtime(), nullptr,
                {.sequences = 3,
                 .tokens_per_pass = 40,
                 .pages = 12,
                 .longest = 200,
                 .experts = true,
                 .on_device = on_device,
                 .penalties = true});
  std::vector<Answer> answers;
  for (const Request& request : some_requests(one.loaded.config().vocab_size)) {
    engine.admit(request);
    answers.emplace_back();
  }
  for (int64_t step = 0; !engine.idle(); ++step) {
    if (step == 6) engine.cancel(1);
    for (const Event& event : engine.step()) answers[static_cast<size_t>(event.request)].add(event);
  }
  EXPECT_EQ(engine.counts().steps > 0, on_device);
  return answers;
}

/// What a chat answers whose routing changes on the way.
inline std::vector<std::vector<int32_t>> chat_of(const Lead& one) {
  ChatEngine engine(one.loaded, nullptr, *one.cpu.device, *one.cpu.backend, {.most_tokens = 150}, {}, {}, one.leader);
  std::vector<std::vector<int32_t>> answers;
  std::vector<int32_t> ids = random_ids(70, one.loaded.config().vocab_size, 8);
  const auto ask = [&] {
    Request request{.prompt = {ids}, .options = {.max_new_tokens = 8}};
    request.options.sampling.seed = 5;
    engine.begin(request);
    std::vector<int32_t> answer;
    for (bool ended = false; !ended;) {
      for (const Event& event : engine.step()) {
        if (event.id) answer.push_back(*event.id);
        ended = event.ended;
      }
    }
    answers.push_back(answer);
    ids.insert(ids.end(), answer.begin(), answer.end());
  };
  ask();
  RoutingSwitches switches;
  switches.masked = {{2, {0, 2}}};
  switches.boosted = {{2, 4, 0.25}};
  engine.set_switches(switches);
  ask();
  EXPECT_ANY_THROW(engine.set_switches({.experts_per_token = 100}));  // before the others hear of it
  EXPECT_TRUE(engine.usable());
  switches.experts_per_token = 1;
  switches.drop_shared = true;
  engine.set_switches(switches);
  ask();
  engine.set_switches({});
  ask();
  return answers;
}

}  // namespace moe::test
