// Decoding with a cache gives the bits of a pass over the whole sequence, however the sequence is cut.

#include "infer/cached_model.h"

#include <algorithm>
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "batch/batch.h"
#include "infer/scorer.h"
#include "tests/infer/support.h"
#include "tests/support/temporary_folder.h"

namespace moe::test {
namespace {

using Logits = std::vector<float>;

constexpr int64_t kTokens = 150;  // more than two blocks of 64 keys, and not a multiple

bool same_bits(const Logits& a, const Logits& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

struct Case {
  std::string name;
  ModelConfig config;
  DType dtype;
};

ModelConfig moe_config(int64_t chosen) {
  ModelConfig config;
  config.vocab_size = 101;
  config.hidden_size = 40;
  config.intermediate_size = 52;
  config.moe_intermediate_size = 19;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 10;
  config.n_shared_experts = 1;
  config.n_routed_experts = 9;
  config.num_experts_per_tok = chosen;
  config.first_k_dense_replace = 1;
  config.max_position_embeddings = 512;
  return config;
}

void PrintTo(const Case& tested, std::ostream* out) { *out << tested.name; }

std::vector<Case> cases() {
  ModelConfig dense = moe_config(1);
  dense.n_routed_experts = dense.n_shared_experts = 0;
  ModelConfig plain = moe_config(4);
  plain.n_shared_experts = 0;
  plain.norm_topk_prob = true;
  plain.num_key_value_heads = plain.num_attention_heads;
  plain.tie_word_embeddings = true;
  ModelConfig turned = moe_config(3);
  turned.rope_theta = 500;
  ModelConfig each_head = moe_config(3), all_heads = moe_config(3);
  each_head.qk_norm = QkNorm::each_head;
  all_heads.qk_norm = QkNorm::all_heads;
  all_heads.qkv_bias = all_heads.gated_shared_expert = true;
  return {{"dense_f32", dense, DType::f32},
          {"rope_theta_500_f32", turned, DType::f32},
          {"norms_of_heads_f32", each_head, DType::f32},
          {"norms_of_heads_bf16", each_head, DType::bf16},
          {"norm_of_all_heads_biases_gate_f32", all_heads, DType::f32},
          {"norm_of_all_heads_biases_gate_bf16", all_heads, DType::bf16},
          {"one_expert_f32", moe_config(1), DType::f32},
          {"three_experts_f32", moe_config(3), DType::f32},
          {"three_experts_bf16", moe_config(3), DType::bf16},
          {"all_experts_f32", moe_config(9), DType::f32},
          {"no_shared_tied_f32", plain, DType::f32},
          {"no_shared_tied_bf16", plain, DType::bf16}};
}

class CachedDecoding : public testing::TestWithParam<Case> {
 protected:
  // The logits after each token, from one pass over the whole sequence.
  std::vector<Logits> whole(const std::vector<int32_t>& ids) {
    Scorer scorer(runtime_, static_cast<int64_t>(ids.size()));
    const auto vocabulary = GetParam().config.vocab_size;
    std::vector<Logits> rows;
    scorer.logits(single_document(ids), [&](int64_t, int64_t count, const float* values) {
      for (int64_t row = 0; row < count; ++row) {
        rows.emplace_back(values + row * vocabulary, values + (row + 1) * vocabulary);
      }
    });
    return rows;
  }

  std::vector<int32_t> ids(int64_t count, uint64_t seed) {
    return random_ids(count, GetParam().config.vocab_size, seed);
  }

  Cpu cpu_;
  MemoryModel model_ = random_model(GetParam().config, GetParam().dtype, *cpu_.device);
  ModelOnDevice runtime_ = model_.runtime(cpu_);
};

TEST_P(CachedDecoding, EqualsAWholePassForAnyChunks) {
  const auto tokens = ids(kTokens, 1);
  const auto expected = whole(tokens);
  ASSERT_EQ(expected.size(), tokens.size());
  ASSERT_FALSE(same_bits(expected[10], expected[11]));
  for (const size_t chunk : {size_t{1}, size_t{2}, size_t{7}, size_t{64}, tokens.size()}) {
    CachedModel cached(runtime_, 1, kTokens, static_cast<int64_t>(chunk));
    for (size_t begin = 0; begin < tokens.size(); begin += chunk) {
      const size_t end = std::min(begin + chunk, tokens.size());
      const Logits found = cached.append(0, std::span(tokens).subspan(begin, end - begin));
      ASSERT_TRUE(same_bits(found, expected[end - 1])) << "chunks of " << chunk << ", position " << end - 1;
    }
    EXPECT_EQ(cached.length(0), kTokens);
  }
}

TEST_P(CachedDecoding, AnAppendLargerThanAPassIsCutIntoPasses) {
  const auto tokens = ids(kTokens, 2);
  CachedModel cached(runtime_, 1, kTokens, 11);
  EXPECT_TRUE(same_bits(cached.append(0, tokens), whole(tokens).back()));
}

TEST_P(CachedDecoding, PromptAndSingleTokensEqualAWholePass) {
  const auto tokens = ids(kTokens, 3);
  const auto expected = whole(tokens);
  CachedModel cached(runtime_, 1, kTokens, kTokens);
  ASSERT_TRUE(same_bits(cached.append(0, std::span(tokens).first(61)), expected[60]));
  for (size_t i = 61; i < tokens.size(); ++i) {
    const std::vector<int32_t> sequence{0};
    ASSERT_TRUE(same_bits(cached.append_each(sequence, std::span(tokens).subspan(i, 1)), expected[i])) << i;
  }
}

TEST_P(CachedDecoding, SequencesOfUnequalLengthDoNotSeeEachOther) {
  const std::vector<int64_t> prompts{3, 130, 1, 70};
  constexpr int64_t kSteps = 8;
  std::vector<std::vector<int32_t>> tokens;
  std::vector<std::vector<Logits>> expected;
  for (size_t s = 0; s < prompts.size(); ++s) {
    tokens.push_back(ids(prompts[s] + kSteps, 10 + s));
    expected.push_back(whole(tokens[s]));
  }
  CachedModel cached(runtime_, static_cast<int64_t>(prompts.size()), kTokens, 64);
  for (size_t s = prompts.size(); s-- > 0;) {
    const auto prompt = std::span(tokens[s]).first(static_cast<size_t>(prompts[s]));
    ASSERT_TRUE(same_bits(cached.append(static_cast<int64_t>(s), prompt), expected[s][prompt.size() - 1]));
  }
  const auto vocabulary = static_cast<size_t>(GetParam().config.vocab_size);
  for (int64_t step = 0; step < kSteps; ++step) {
    std::vector<int32_t> order{2, 0, 3, 1};  // any order, and sequence 1 leaves half way
    if (step >= kSteps / 2) order.pop_back();
    std::vector<int32_t> next;
    for (const int32_t s : order) {
      next.push_back(tokens[static_cast<size_t>(s)][static_cast<size_t>(prompts[static_cast<size_t>(s)] + step)]);
    }
    const Logits found = cached.append_each(order, next);
    for (size_t i = 0; i < order.size(); ++i) {
      const auto s = static_cast<size_t>(order[i]);
      const Logits row(found.begin() + static_cast<int64_t>(i * vocabulary),
                       found.begin() + static_cast<int64_t>((i + 1) * vocabulary));
      ASSERT_TRUE(same_bits(row, expected[s][static_cast<size_t>(prompts[s] + step)])) << s << " at step " << step;
    }
  }
}

TEST_P(CachedDecoding, AnEmptiedSequenceForgetsEverything) {
  const auto first = ids(90, 4), second = ids(20, 5);
  CachedModel cached(runtime_, 2, kTokens, 64);
  cached.append(0, first);
  cached.append(1, first);
  cached.reset(0);
  EXPECT_EQ(cached.length(0), 0);
  EXPECT_EQ(cached.length(1), 90);
  EXPECT_TRUE(same_bits(cached.append(0, second), whole(second).back()));
}

TEST_P(CachedDecoding, AnyNumberOfThreadsGivesTheSameBits) {
  const auto tokens = ids(100, 6);
  const Logits expected = whole(tokens).back();
  for (const int threads : {1, 3}) {
    Cpu cpu(threads);
    const MemoryModel model = random_model(GetParam().config, GetParam().dtype, *cpu.device);
    CachedModel cached(model.runtime(cpu), 1, kTokens, 33);
    EXPECT_TRUE(same_bits(cached.append(0, tokens), expected)) << threads << " threads";
  }
}

TEST_P(CachedDecoding, WhatDoesNotFitIsRefusedAndChangesNothing) {
  const auto tokens = ids(8, 7);
  CachedModel cached(runtime_, 2, 8, 4);
  cached.append(0, std::span(tokens).first(3));
  cached.append(1, tokens);
  const std::string too_long = error_of<Error>([&] { cached.append(0, ids(6, 8)); });
  EXPECT_THAT(too_long, testing::HasSubstr("a sequence of 3 tokens has no room for 6 more in a cache of 8"));
  const std::vector<int32_t> both{0, 1}, next{1, 1};
  const std::string full = error_of<Error>([&] { cached.append_each(both, next); });
  EXPECT_THAT(full, testing::HasSubstr("a sequence of 8 tokens has no room for 1 more in a cache of 8"));
  EXPECT_TRUE(same_bits(cached.append(0, std::span(tokens).subspan(3)), whole(tokens).back()));
}

TEST_P(CachedDecoding, APassThatFailsLeavesEverythingAsItWas) {
  const auto tokens = ids(70, 9);
  const auto expected = whole(tokens);
  FailingBackend failing(*cpu_.backend);
  const ModelOnDevice runtime{runtime_.model, runtime_.dtype, runtime_.device, failing};
  for (const int count : {1, 30, 60, 90}) {  // in the first pass of several, and in later ones
    CachedModel cached(runtime, 1, kTokens, 16);
    cached.append(0, std::span(tokens).first(20));
    failing.fail_at(count);
    EXPECT_THROW(cached.append(0, std::span(tokens).subspan(20)), Error);
    EXPECT_EQ(cached.length(0), 20) << count;
    const std::vector<int32_t> sequence{0};
    failing.fail_at(count % 20 + 1);
    EXPECT_THROW(cached.append_each(sequence, std::span(tokens).subspan(20, 1)), Error);
    EXPECT_EQ(cached.length(0), 20) << count;
    failing.fail_at(0);
    EXPECT_TRUE(same_bits(cached.append(0, std::span(tokens).subspan(20)), expected.back()));
  }
}

INSTANTIATE_TEST_SUITE_P(Models, CachedDecoding, testing::ValuesIn(cases()),
                         [](const auto& one) { return one.param.name; });

}  // namespace
}  // namespace moe::test
