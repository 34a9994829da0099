// The engine gives every request what it gets alone, whatever comes, goes, fails or shares a beginning beside it.

#include "infer/engine.h"

#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/infer/engine_support.h"
#include "tests/support/temporary_folder.h"

namespace moe::test {
namespace {

using testing::HasSubstr;

constexpr SamplingOptions kGreedy{.temperature = 0};

class EngineTest : public testing::Test {
 protected:
  Request request(int64_t prompt, int64_t new_tokens, uint64_t seed = 1) {
    return {.prompt = {random_ids(prompt, 50, seed), seed},
            .options = {.max_new_tokens = new_tokens, .sampling = kGreedy}};
  }
  std::map<int64_t, Answer> run(Engine& engine) {
    std::map<int64_t, Answer> answers;
    while (!engine.idle()) {
      for (const Event& event : engine.step()) answers[event.request].add(event);
    }
    return answers;
  }
  void expect_same(const Answer& found, const Request& of) {
    const Answer alone = answer_alone(runtime_, nullptr, of);
    EXPECT_EQ(found.error, "");
    EXPECT_TRUE(found.ended);
    EXPECT_EQ(found.ids, alone.ids);
    EXPECT_EQ(found.logprobs, alone.logprobs);
    EXPECT_EQ(found.scores, alone.scores);
    EXPECT_EQ(found.experts, alone.experts);
    ASSERT_LE(found.prompt_experts.size(), alone.prompt_experts.size());
    EXPECT_TRUE(std::equal(found.prompt_experts.rbegin(), found.prompt_experts.rend(), alone.prompt_experts.rbegin()));
    if (of.prompt_experts) {
      EXPECT_GT(found.prompt_experts.size(), 0u);
    }
    EXPECT_EQ(found.reason, alone.reason);
  }

  Cpu cpu_{1};
  MemoryModel model_ = random_model(engine_config(), DType::f32, *cpu_.device);
  FailingBackend backend_{*cpu_.backend};
  ModelOnDevice runtime_{model_.runtime(cpu_).model, DType::f32, *cpu_.device, backend_};
};

TEST_F(EngineTest, OnePassMixesPiecesOfPromptsAndSingleTokens) {
  Engine engine(runtime_, nullptr, {.sequences = 3, .tokens_per_pass = 20, .pages = 12, .longest = 200});
  const Request first = request(5, 6), second = request(70, 3, 2), third = request(33, 4, 3);
  engine.admit(first);
  EXPECT_EQ(engine.step().size(), 1u);
  engine.admit(second);
  engine.admit(third);
  engine.step();  // one token of the first, 19 of the second
  EXPECT_EQ(engine.counts().single_tokens, 1);
  EXPECT_EQ(engine.counts().prompt_tokens, 5 + 19);
  auto answers = run(engine);
  EXPECT_EQ(engine.counts().prompt_tokens, 5 + 70 + 33);
  expect_same(answers[1], second);
  expect_same(answers[2], third);
}

TEST_F(EngineTest, ARequestMaySayMoreThanItsTokens) {
  Engine engine(runtime_, nullptr,
                {.sequences = 4, .tokens_per_pass = 30, .pages = 20, .longest = 200, .scores = true, .experts = true});
  std::vector<Request> requests{request(90, 5), request(40, 4, 2), request(66, 1, 3), request(70, 2, 4)};
  requests[0].logprobs = 3;
  requests[0].experts = true;
  requests[1].score_from = 1;
  requests[1].experts = true;
  requests[1].prompt_experts = true;
  requests[2].score_from = 60;
  requests[2].prompt_experts = true;
  requests[2].only_score = true;
  requests[3].score_from = 69;
  requests[3].logprobs = 0;
  for (const Request& each : requests) engine.admit(each);
  auto answers = run(engine);
  for (size_t i = 0; i < requests.size(); ++i) expect_same(answers[static_cast<int64_t>(i)], requests[i]);
  EXPECT_EQ(answers[0].experts.size(), 5u * 2 * 2) << "new tokens, MoE layers, choices";
  EXPECT_EQ(answers[1].prompt_experts.size(), 40u * 2 * 2);
  EXPECT_EQ(answers[2].prompt_experts.size(), 65u * 2 * 2) << "the last token is scored and not computed";
  EXPECT_EQ(answers[1].scores.size(), 39u);
  EXPECT_EQ(answers[2].scores.size(), 6u);
  EXPECT_TRUE(answers[2].ids.empty());
  EXPECT_EQ(answers[3].scores.size(), 1u);
}

TEST_F(EngineTest, ScoresNeedTheTokensBeforeThemToBeComputed) {
  // The pages of the whole text are there already, and yet all scores come.
  Engine engine(runtime_, nullptr,
                {.sequences = 1, .tokens_per_pass = 64, .pages = 8, .longest = 300, .scores = true, .experts = false});
  Request scored = request(200, 1);
  engine.admit(scored);
  run(engine);
  scored.score_from = 100;
  scored.only_score = true;
  const int64_t number = engine.admit(scored);
  auto answers = run(engine);
  expect_same(answers[number], scored);
  EXPECT_EQ(engine.counts().reused_tokens, 99);
}

TEST_F(EngineTest, TheMostLikelyTokensComeWithTheirLogProbabilities) {
  Engine engine(runtime_, nullptr, {.sequences = 1, .tokens_per_pass = 8, .pages = 2, .longest = 60});
  Request asked = request(9, 1);
  asked.logprobs = 60;  // more than there are
  engine.admit(asked);
  Event event;
  while (!engine.idle()) {
    for (const Event& each : engine.step()) event = each;
  }
  ASSERT_EQ(event.most_likely.size(), 50u);
  EXPECT_EQ(event.most_likely[0].id, *event.id) << "the sampling is greedy";
  EXPECT_EQ(event.most_likely[0].logprob, event.logprob);
  double sum = 0;
  for (size_t i = 0; i < 50; ++i) {
    sum += std::exp(event.most_likely[i].logprob);
    if (i > 0) {
      EXPECT_GE(event.most_likely[i - 1].logprob, event.most_likely[i].logprob);
    }
  }
  EXPECT_NEAR(sum, 1, 1e-12);
}

TEST_F(EngineTest, SamplesOfOnePromptComputeItsPagesOnce) {
  Engine engine(runtime_, nullptr, {.sequences = 5, .tokens_per_pass = 50, .pages = 30, .longest = 220});
  std::vector<Request> requests(5, request(200, 7));
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].prompt.sequence = i;
    requests[i].options.sampling = {.seed = 9};
    engine.admit(requests[i]);
  }
  auto answers = run(engine);
  for (size_t i = 0; i < requests.size(); ++i) expect_same(answers[static_cast<int64_t>(i)], requests[i]);
  EXPECT_NE(answers[0].ids, answers[1].ids);
  EXPECT_EQ(engine.counts().prompt_tokens, 200 + 4 * (200 - 192));
  EXPECT_EQ(engine.counts().reused_tokens, 4 * 192);
}

TEST_F(EngineTest, AConversationComputesOnlyWhatIsNew) {
  Engine engine(runtime_, nullptr, {.sequences = 1, .tokens_per_pass = 64, .pages = 6, .longest = 380});
  Request turn = request(100, 40);
  int64_t cached = 0;
  for (uint64_t number = 0; number < 4; ++number) {
    const EngineCounts before = engine.counts();
    const int64_t id = engine.admit(turn);
    auto answers = run(engine);
    expect_same(answers[id], turn);
    const EngineCounts after = engine.counts();
    const auto prompt = static_cast<int64_t>(turn.prompt.ids.size());
    EXPECT_EQ(after.reused_tokens - before.reused_tokens, cached) << "turn " << number;
    EXPECT_EQ(after.prompt_tokens - before.prompt_tokens, prompt - cached);
    cached = prompt + 40 - 1;  // the last token was not computed
    for (const int32_t one : answers[id].ids) turn.prompt.ids.push_back(one);
    for (const int32_t one : random_ids(13, 50, 100 + number)) turn.prompt.ids.push_back(one);
  }
  EXPECT_EQ(engine.counts().pages_in_use, 0);
  engine.forget_prefixes();
  EXPECT_EQ(engine.counts().pages_kept, 0);
}

TEST_F(EngineTest, ATextThatBranchesInAPageCopiesItsBeginning) {
  Engine engine(runtime_, nullptr, {.sequences = 2, .tokens_per_pass = 64, .pages = 12, .longest = 300});
  const Request first = request(150, 30);
  engine.admit(first);
  run(engine);
  int64_t reused = 0;
  for (const int64_t common : {100, 64, 71, 72, 7, 8, 149, 150}) {
    Request branch = first;
    branch.prompt.ids.resize(static_cast<size_t>(common));
    branch.prompt.ids.push_back((first.prompt.ids[static_cast<size_t>(std::min<int64_t>(common, 149))] + 1) % 50);
    for (const int32_t id : random_ids(20, 50, static_cast<uint64_t>(common))) branch.prompt.ids.push_back(id);
    // Both of two that run at once get a copy, and the page itself stays as it was.
    const int64_t one = engine.admit(branch), two = engine.admit(branch);
    auto answers = run(engine);
    expect_same(answers[one], branch);
    expect_same(answers[two], branch);
    engine.forget_prefixes(first.prompt.ids);
    const int64_t now = engine.counts().reused_tokens, copied = common % kPageTokens < 8 ? 0 : common % kPageTokens;
    EXPECT_EQ(now - reused, 2 * (common - common % kPageTokens + copied)) << common;
    reused = now;
  }
  const int64_t again = engine.admit(first);
  auto answers = run(engine);
  expect_same(answers[again], first);
  EXPECT_EQ(engine.counts().reused_tokens - reused, 149);
}

TEST_F(EngineTest, ForgetsAllButTheBeginningOfAText) {
  Engine engine(runtime_, nullptr, {.sequences = 1, .tokens_per_pass = 64, .pages = 12, .longest = 300});
  const Request text = request(150, 5), other = request(150, 5, 2);
  for (const Request& each : {text, other}) {
    engine.admit(each);
    run(engine);
  }
  engine.forget_prefixes(std::span(text.prompt.ids).first(83));
  int64_t before = engine.counts().reused_tokens;
  for (const auto& [each, reused] : {std::pair(other, 0), std::pair(text, 83)}) {
    const int64_t number = engine.admit(each);
    auto answers = run(engine);
    expect_same(answers[number], each);
    EXPECT_EQ(engine.counts().reused_tokens - before, reused);
    before = engine.counts().reused_tokens;
  }
}

// More experts for each token need more memory, and the steps are recorded anew.
TEST_F(EngineTest, AnotherModelOfTheSameWeightsTakesThePlaceOfTheFirst) {
  for (const bool on_device : {false, true}) {
    ModelConfig more = engine_config();
    more.num_experts_per_tok = 5;
    const MemoryModel other = random_model(more, DType::f32, *cpu_.device);
    const ModelOnDevice first = runtime_, second = other.runtime(cpu_);
    Engine engine(
        first, nullptr,
        {.sequences = 2, .tokens_per_pass = 40, .pages = 8, .longest = 200, .experts = true, .on_device = on_device});
    std::vector<int32_t> ids;
    for (const ModelOnDevice& runtime : {first, second, first}) {
      engine.set_model(runtime);
      engine.forget_prefixes();
      Request asked = request(70, 20);
      asked.experts = asked.prompt_experts = true;
      const int64_t cancelled = engine.admit(request(20, 50, 3));
      for (int i = 0; i < 4; ++i) engine.step();  // with on_device a step is queued that nobody reads
      engine.cancel(cancelled);
      const int64_t number = engine.admit(asked);
      auto answers = run(engine);
      const Answer alone = answer_alone(runtime, nullptr, asked);
      EXPECT_EQ(answers[number].ids, alone.ids);
      EXPECT_EQ(answers[number].experts, alone.experts);
      EXPECT_EQ(answers[number].prompt_experts, alone.prompt_experts);
      EXPECT_NE(answers[number].ids, ids);
      ids = alone.ids;
      engine.admit(request(20, 50, 3));
      for (int i = 0; i < 4; ++i) engine.step();
      engine.cancel(engine.counts().running == 1 ? number + 1 : -1);
      EXPECT_TRUE(engine.idle());
    }
  }
}

TEST_F(EngineTest, KeptPagesGiveWayToARequestThatNeedsThem) {
  Engine engine(runtime_, nullptr, {.sequences = 1, .tokens_per_pass = 64, .pages = 4, .longest = 256});
  const Request first = request(200, 2), second = request(250, 2, 2);
  engine.admit(first);
  engine.admit(second);
  engine.admit(first);
  auto answers = run(engine);
  expect_same(answers[1], second);
  expect_same(answers[2], first);
  EXPECT_EQ(engine.counts().reused_tokens, 0);
}

TEST_F(EngineTest, PagesThatAreFoundAreNotFreeAsWell) {
  Engine engine(runtime_, nullptr, {.sequences = 2, .tokens_per_pass = 64, .pages = 4, .longest = 256});
  const Request first = request(190, 2), other = request(3, 40, 2);
  engine.admit(first);
  run(engine);
  Request longer = first;
  for (const int32_t id : random_ids(10, 50, 3)) longer.prompt.ids.push_back(id);
  const int64_t one = engine.admit(other);
  std::map<int64_t, Answer> answers;
  for (const Event& event : engine.step()) answers[event.request].add(event);
  const int64_t two = engine.admit(longer);  // needs two pages besides the two that it finds, and one is free
  for (const Event& event : engine.step()) answers[event.request].add(event);
  EXPECT_EQ(engine.counts().waiting, 1);
  while (!engine.idle()) {
    for (const Event& event : engine.step()) answers[event.request].add(event);
  }
  expect_same(answers[one], other);
  expect_same(answers[two], longer);
}

TEST_F(EngineTest, WhatDoesNotFitNowWaitsAndWhatNeverFitsIsRefused) {
  Engine engine(runtime_, nullptr, {.sequences = 4, .tokens_per_pass = 64, .pages = 4, .longest = 300});
  std::vector<Request> requests{request(100, 20), request(130, 10, 2), request(60, 3, 3)};
  for (const Request& each : requests) engine.admit(each);
  engine.step();
  EXPECT_EQ(engine.counts().running, 1) << "two and three pages; and the third does not overtake the second";
  EXPECT_EQ(engine.counts().waiting, 2);
  auto answers = run(engine);
  for (size_t i = 1; i < requests.size(); ++i) expect_same(answers[static_cast<int64_t>(i)], requests[i]);

  const auto refusal = [&](const Request& asked) { return error_of<Error>([&] { engine.admit(asked); }); };
  EXPECT_THAT(
      refusal(request(250, 10)),
      HasSubstr("a request of 250 tokens and 10 new ones needs a cache of 259 tokens, and there is one of 256"));
  EXPECT_THAT(refusal(request(400, 10)), HasSubstr("the prompt has 400 tokens, but the model takes 400 in all"));
  EXPECT_THAT(refusal(request(0, 10)), HasSubstr("the prompt has no token"));
  EXPECT_TRUE(engine.idle());
  engine.admit(request(250, 7));
  EXPECT_EQ(run(engine).size(), 1u);
}

/// With tokens chosen by the host, and by the device in recorded steps.
class EngineBothWays : public EngineTest, public testing::WithParamInterface<bool> {};

INSTANTIATE_TEST_SUITE_P(, EngineBothWays, testing::Bool(),
                         [](const auto& way) { return way.param ? "OnTheDevice" : "OnTheHost"; });

TEST_P(EngineBothWays, AFailedPassLeavesEveryRequestAsItWas) {
  std::vector<Request> requests{request(100, 9), request(3, 12, 2), request(70, 8, 3)};
  requests[1].options.sampling = {.repetition_penalty = 1.5, .frequency_penalty = 0.5, .temperature = 0.9};
  std::vector<Answer> alone;
  for (const Request& each : requests) alone.push_back(answer_alone(runtime_, nullptr, each));
  for (int64_t at = 1; at < 200; at += 13) {
    Engine engine(runtime_, nullptr,
                  {.sequences = 3,
                   .tokens_per_pass = 32,
                   .pages = 10,
                   .longest = 120,
                   .on_device = GetParam(),
                   .penalties = true});
    for (const Request& each : requests) engine.admit(each);
    std::map<int64_t, Answer> answers;
    for (int64_t step = 0; !engine.idle(); ++step) {
      if (step % 2 == 0) {
        backend_.fail_at(1 + (at + step * 31) % 60);
        try {
          for (const Event& event : engine.step()) answers[event.request].add(event);
          backend_.fail_at(0);
        } catch (const Error&) {
          const EngineCounts counts = engine.counts();
          EXPECT_THROW((backend_.fail_at(1), engine.step()), Error);
          EXPECT_EQ(engine.counts().pages_in_use, counts.pages_in_use);
          EXPECT_EQ(engine.counts().prompt_tokens, counts.prompt_tokens);
        }
      }
      for (const Event& event : engine.step()) answers[event.request].add(event);
    }
    EXPECT_EQ(answers.size(), requests.size());
    for (const auto& [id, answer] : answers) EXPECT_EQ(answer.ids, alone[static_cast<size_t>(id)].ids) << at;
    EXPECT_EQ(engine.counts().pages_in_use, 0);
  }
}

TEST_F(EngineTest, ARequestWhoseLogitsOverflowEndsAlone) {
  constexpr int32_t kPoison = 7;
  const MemoryModel poisoned(
      engine_config(), DType::f32, *cpu_.device, [](const Parameter& parameter, std::vector<float>& values) {
        initial_values(parameter, 1, 0.3, 0, static_cast<int64_t>(values.size()), values.data());
        if (parameter.kind != ParameterKind::embedding) return;
        const auto width = static_cast<int64_t>(engine_config().hidden_size);
        std::fill_n(values.begin() + kPoison * width, width, std::numeric_limits<float>::quiet_NaN());
      });
  Engine engine(poisoned.runtime(cpu_), nullptr, {.sequences = 3, .tokens_per_pass = 64, .pages = 8, .longest = 60});
  std::vector<Request> requests{request(9, 20), request(9, 20, 2), request(9, 20, 3)};
  for (Request& each : requests) std::replace(each.prompt.ids.begin(), each.prompt.ids.end(), kPoison, 0);
  requests[1].prompt.ids.back() = kPoison;
  for (const Request& each : requests) engine.admit(each);
  auto answers = run(engine);
  EXPECT_THAT(answers[1].error, HasSubstr("expected a finite number"));
  EXPECT_THAT(answers[1].error, HasSubstr("; the first are the rows of the embedding"));
  EXPECT_TRUE(answers[1].ended);
  EXPECT_TRUE(answers[1].ids.empty());
  EXPECT_EQ(answers[0].error + answers[2].error, "");
  EXPECT_GT(answers[0].ids.size() * answers[2].ids.size(), 0u);
  EXPECT_EQ(engine.counts().pages_in_use, 0);
}

TEST_F(EngineTest, AllocatesWhatItsSizesSay) {
  for (const EngineSizes& sizes :
       {EngineSizes{}, EngineSizes{.sequences = 5, .tokens_per_pass = 77, .pages = 9, .longest = 200},
        EngineSizes{.sequences = 2, .tokens_per_pass = 30, .pages = 4, .longest = 90, .scores = true, .experts = true},
        EngineSizes{.sequences = 3,
        .tokens_per_pass = 9,
        .pages = 4,
        .longest = 90,
        .on_device = true,
        .penalties = true,
        .drafts = 5}}) {
    const int64_t before = cpu_.device->allocated_bytes(), allocations = cpu_.device->allocations();
    Engine engine(runtime_, nullptr, sizes);
    EXPECT_EQ(cpu_.device->allocated_bytes() - before, Engine::bytes(engine_config(), DType::f32, sizes));
    const int64_t made = cpu_.device->allocations();
    EXPECT_GT(made, allocations);
    engine.admit(request(1, 1));
    run(engine);
    EXPECT_EQ(cpu_.device->allocations(), made) << "passes allocate nothing";
  }
  const auto bytes = [](int64_t pages) {
    return Engine::bytes(engine_config(), DType::f32, {.tokens_per_pass = 8, .pages = pages});
  };
  EXPECT_EQ(bytes(101) - bytes(1), 100 * PagedModel::page_bytes(engine_config(), DType::f32));
}

TEST_F(EngineTest, ACacheInF16TakesHalfTheMemoryAndGivesEveryRequestWhatItGetsAlone) {
  runtime_.cache = DType::f16;
  const EngineSizes sizes{.sequences = 5, .tokens_per_pass = 33, .pages = 12, .longest = 200};
  const int64_t before = cpu_.device->allocated_bytes();
  Engine engine(runtime_, nullptr, sizes);
  const int64_t bytes = cpu_.device->allocated_bytes() - before;
  EXPECT_EQ(bytes, Engine::bytes(engine_config(), {DType::f32, DType::f16}, sizes));
  EXPECT_EQ(2 * (Engine::bytes(engine_config(), DType::f32, sizes) - bytes),
            sizes.pages * PagedModel::page_bytes(engine_config(), DType::f32));
  std::vector<Request> requests;
  for (uint64_t i = 0; i < 7; ++i) requests.push_back(request(20 + 13 * static_cast<int64_t>(i), 5, i));
  for (const Request& each : requests) engine.admit(each);
  auto together = run(engine);
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(together[static_cast<int64_t>(i)].ids, answer_alone(runtime_, nullptr, requests[i]).ids) << i;
  }
}

TEST_F(EngineTest, TheDevicesStepsGiveWhatTheHostChooses) {
  std::vector<Request> requests{request(5, 30), request(40, 90, 2), request(66, 25, 3), request(9, 1, 4),
                                request(9, 60, 5)};
  requests[0].options.sampling = {.temperature = 0.8, .top_k = 7, .seed = 4};
  requests[1].options.sampling = {.temperature = 1.3, .top_p = 0.9, .min_p = 0.02, .seed = 4};
  requests[2].options.sampling = {.repetition_penalty = 1.3, .temperature = 0};
  requests[4].options.sampling = {.presence_penalty = 0.4, .frequency_penalty = 0.3, .seed = 5};
  requests[4].options.end_ids = {3, 17, 20, 33};
  Engine engine(runtime_, nullptr,
                {.sequences = 5,
                 .tokens_per_pass = 30,
                 .pages = 20,
                 .longest = 200,
                 .experts = true,
                 .on_device = true,
                 .penalties = true});
  for (Request& each : requests) each.experts = each.prompt_experts = true;
  for (const Request& each : requests) engine.admit(each);
  auto answers = run(engine);
  for (size_t i = 0; i < requests.size(); ++i) expect_same(answers[static_cast<int64_t>(i)], requests[i]);
  EXPECT_GT(engine.counts().steps, 60);
  EXPECT_EQ(engine.counts().pages_in_use, 0);
  // A newcomer joins between steps, and one that leaves takes its place with it.
  const int64_t first = engine.admit(requests[1]);
  for (int i = 0; i < 6; ++i) engine.step();
  const int64_t second = engine.admit(requests[2]), third = engine.admit(requests[0]);
  for (int i = 0; i < 6; ++i) engine.step();
  engine.cancel(first);
  answers = run(engine);
  EXPECT_EQ(answers.count(first), 0u);
  EXPECT_TRUE(answers[second].ended && answers[third].ended);
  EXPECT_EQ(engine.counts().pages_in_use, 0);
}

TEST_F(EngineTest, AStepReadsTheTokensOfTheOneBefore) {
  // While two sequences have tokens left, a step is queued before the host reads the one before it.
  Engine engine(runtime_, nullptr,
                {.sequences = 2, .tokens_per_pass = 30, .pages = 20, .longest = 200, .on_device = true});
  engine.admit(request(5, 10));
  engine.admit(request(7, 4, 2));
  engine.step();  // the prompts, and the first tokens
  EXPECT_EQ(engine.counts().steps, 0);
  for (int64_t step = 1; step <= 3; ++step) {
    EXPECT_EQ(engine.step().size(), 2u);
    EXPECT_EQ(engine.counts().steps, step);
  }
  EXPECT_EQ(engine.counts().running, 1);
  const int64_t reads = engine.counts().single_tokens;
  EXPECT_EQ(engine.step().size(), 1u);
  EXPECT_EQ(engine.counts().single_tokens, reads + 1);
  run(engine);
  EXPECT_EQ(engine.counts().single_tokens, 9 + 3);
}

TEST_F(EngineTest, GuessedTokensChangeNoText) {
  for (const bool on_device : {false, true}) {
    for (const double temperature : {0.0, 0.3, 1.0}) {
      std::vector<Request> requests;
      for (uint64_t seed = 1; seed < 6; ++seed) {
        Request made = request(20, 150, seed);
        const std::vector<int32_t> again = made.prompt.ids;
        for (int i = 0; i < 2; ++i) made.prompt.ids.insert(made.prompt.ids.end(), again.begin(), again.end());
        made.options.sampling = {.temperature = temperature, .seed = seed};
        if (seed == 2) made.options.sampling.repetition_penalty = 1.2;
        if (seed == 3) made.options.end_ids = {4, 9, 23};
        made.options.prompt_lookup = 6;
        requests.push_back(made);
      }
      Engine engine(runtime_, nullptr,
                    {.sequences = 2,
                     .tokens_per_pass = 40,
                     .pages = 8,
                     .longest = 240,
                     .on_device = on_device,
                     .penalties = true,
                     .drafts = 6});
      for (const Request& each : requests) {  // one by one: drafts are for a sequence by itself
        const int64_t number = engine.admit(each);
        auto answers = run(engine);
        expect_same(answers[number], each);
      }
      if (temperature == 0) {
        EXPECT_GT(engine.counts().drafted, 0);
        EXPECT_GT(engine.counts().accepted, 0) << "greedy texts of so small a model run in circles";
      }
      EXPECT_EQ(engine.counts().pages_in_use, 0);
    }
  }
}

TEST_P(EngineBothWays, RequestsThatComeGoFailAndShareBeginningsGetWhatTheyGetAlone) {
  constexpr int kRequests = 3000;
  Engine engine(runtime_, nullptr,
                {.sequences = 6,
                 .tokens_per_pass = 40,
                 .pages = 22,
                 .longest = 300,
                 .scores = true,
                 .experts = true,
                 .on_device = GetParam(),
                 .penalties = true});
  const Random random(11, hash_name("requests"));
  uint64_t draw = 0;
  const auto below = [&](int64_t most) {
    return static_cast<int64_t>(random.below(draw++, static_cast<uint64_t>(most)));
  };
  std::vector<std::vector<int32_t>> texts;
  for (uint64_t i = 0; i < 3; ++i) texts.push_back(random_ids(280, 50, 50 + i));
  const auto any_request = [&] {
    Request made;
    made.prompt.ids = texts[static_cast<size_t>(below(3))];
    made.prompt.ids.resize(static_cast<size_t>(1 + (below(3) == 0 ? below(270) : below(140))));
    for (int64_t i = below(2) * below(20); i-- > 0;) made.prompt.ids.push_back(static_cast<int32_t>(below(50)));
    made.prompt.sequence = static_cast<uint64_t>(below(5));
    made.options.max_new_tokens = 1 + below(12);
    if (below(2) == 0) made.options.sampling = {.temperature = 0.8, .top_k = below(10), .seed = 3};
    if (below(5) == 0) made.options.sampling.presence_penalty = 0.7;
    if (below(3) == 0) made.options.end_ids = {static_cast<int32_t>(below(50)), static_cast<int32_t>(below(50))};
    if (below(3) == 0) made.logprobs = below(3);
    made.experts = below(5) == 0;
    made.prompt_experts = below(5) == 0;
    const auto prompt = static_cast<int64_t>(made.prompt.ids.size());
    if (prompt > 1 && below(5) == 0) made.score_from = 1 + below(prompt - 1);
    made.only_score = made.score_from && below(2) == 0;
    if (made.only_score) made.experts = false;
    return made;
  };
  std::map<int64_t, Request> asked;
  std::map<int64_t, Answer> answers;
  std::vector<int64_t> cancelled;
  int failures = 0, admitted = 0;
  while (admitted < kRequests || !engine.idle()) {
    while (admitted < kRequests && below(3) > 0) {
      const Request made = any_request();
      asked[engine.admit(made)] = made;
      ++admitted;
    }
    if (!asked.empty() && below(6) == 0) {
      const int64_t victim = std::prev(asked.end())->first - below(12);
      if (engine.cancel(victim)) cancelled.push_back(victim);
    }
    backend_.fail_at(below(8) == 0 ? 1 + below(100) : 0);
    try {
      for (const Event& event : engine.step()) answers[event.request].add(event);
    } catch (const Error&) {
      ++failures;
    }
    backend_.fail_at(0);
    const EngineCounts counts = engine.counts();
    ASSERT_LE(counts.pages_in_use, 22);
    ASSERT_LE(counts.running, 6);
  }
  for (const int64_t each : cancelled) asked.erase(each);
  EXPECT_GT(failures, 20);
  EXPECT_GT(cancelled.size(), 50u);
  EXPECT_GT(engine.counts().reused_tokens, 1000);
  for (const auto& [id, of] : asked) {
    expect_same(answers[id], of);
    ASSERT_FALSE(HasFailure()) << "request " << id;
  }
  EXPECT_EQ(engine.counts().pages_in_use, 0);
  EXPECT_GT(engine.counts().pages_kept, 0);
  engine.forget_prefixes();
  EXPECT_EQ(engine.counts().pages_kept, 0);
  Request largest = request(299, 2);  // all pages but one, so none has leaked
  engine.admit(largest);
  EXPECT_EQ(run(engine).begin()->second.ids.size(), 2u);
}

TEST_F(EngineTest, SizesDoNotChangeAnyBit) {
  std::vector<Request> requests;
  for (uint64_t i = 0; i < 7; ++i) {
    requests.push_back(request(static_cast<int64_t>(20 + 30 * i), 10, i % 3));
    requests.back().logprobs = 0;
  }
  std::map<int64_t, Answer> expected;
  for (const auto& [sequences, tokens] :
       {std::pair<int64_t, int64_t>{1, 1}, {1, 512}, {2, 3}, {7, 7}, {7, 64}, {7, 2000}}) {
    Engine engine(runtime_, nullptr, {.sequences = sequences, .tokens_per_pass = tokens, .pages = 30, .longest = 230});
    for (const Request& each : requests) engine.admit(each);
    auto answers = run(engine);
    if (expected.empty()) expected = answers;
    for (const auto& [id, answer] : answers) {
      EXPECT_EQ(answer.ids, expected[id].ids) << sequences << " sequences, " << tokens << " tokens";
      EXPECT_EQ(answer.logprobs, expected[id].logprobs) << sequences << " sequences, " << tokens << " tokens";
    }
  }
  for (size_t i = 0; i < requests.size(); ++i) expect_same(expected[static_cast<int64_t>(i)], requests[i]);
}

}  // namespace
}  // namespace moe::test
