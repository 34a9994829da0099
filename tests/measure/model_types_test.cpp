// The types of a model that is measured without a file, beside those of a file.

#include "measure/model_types.h"

#include <gtest/gtest.h>

#include "checkpoint/open_model.h"
#include "checkpoint/write_gguf.h"
#include "infer/weight_types.h"
#include "measure/decoding.h"
#include "tests/support/temporary_folder.h"

namespace moe::test {
namespace {

/// Rows of whole blocks of 256, and of 32 alone; a mixture's layers with more bits and without.
ModelConfig small_config() {
  ModelConfig config;
  config.vocab_size = 64;
  config.hidden_size = 256;
  config.intermediate_size = 512;
  config.moe_intermediate_size = 96;
  config.num_hidden_layers = 5;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 64;
  config.n_shared_experts = 1;
  config.n_routed_experts = 6;
  config.num_experts_per_tok = 2;
  config.first_k_dense_replace = 1;
  config.max_position_embeddings = 64;
  return config;
}

class ModelTypes : public testing::TestWithParam<const char*> {};

TEST_P(ModelTypes, OfAQuantizationAreThoseOfItsFile) {
  const Quantization& quantization = *find_quantization(GetParam());
  const ModelConfig config = small_config();
  const TemporaryFolder folder;
  ThreadPool pool(1);
  write_gguf(folder / "model.gguf", InitialWeights(config, 3), {.quantization = &quantization}, pool);
  for (const DType others : {DType::f32, DType::bf16}) {
    WeightTypes kept{DType::f32, true};
    kept.beside_blocks = others;
    EXPECT_EQ(types_of_file(config, quantization, others), stored_types(*open_weights(folder / "model.gguf"), kept));
  }
}

INSTANTIATE_TEST_SUITE_P(Quantizations, ModelTypes, testing::Values("q8_0", "q4_0", "q5_1", "q4_k_m", "q5_k_m", "q6_k"),
                         [](const auto& name) { return std::string(name.param); });

TEST(ModelTypes, TheBytesOfAStepCountEachMatrixInItsType) {
  const ModelConfig config = small_config();
  const std::vector<DType> mixture = types_of_file(config, *find_quantization("q4_k_m"), DType::f32);
  const auto bytes = [&](const std::vector<DType>& types) {
    return decoding_bytes(config, types, DType::f32, 1, 0, static_cast<double>(config.n_routed_experts));
  };
  // With all experts, all that is stored but the embedding, of which a step reads one row.
  const auto table = parameter_table(config);
  double all = 0;
  for (size_t i = 0; i < table.size(); ++i) {
    const auto stored = static_cast<double>(bytes_of(mixture[i], table[i].shape.elements()));
    all += table[i].kind == ParameterKind::embedding ? stored / static_cast<double>(config.vocab_size) : stored;
  }
  EXPECT_EQ(bytes(mixture), all);
  EXPECT_GT(bytes(mixture), bytes(types_of_weights(config, DType::q4_0)));
  EXPECT_LT(bytes(mixture), bytes(types_of_weights(config, DType::q8_0)));
}

}  // namespace
}  // namespace moe::test
