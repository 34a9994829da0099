// Hugging Face folders: every field and tensor is honoured, or refused in one sentence that names it.

#include <cstring>
#include <functional>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backend/cpu/cpu_backend.h"
#include "checkpoint/file_types.h"
#include "checkpoint/hf_config.h"
#include "checkpoint/weights.h"
#include "formats/safetensors.h"
#include "model/presets.h"
#include "tests/support/host_device.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model.h"

namespace moe {
namespace {

using testing::HasSubstr;

const fs::path kGolden = fs::path(MOE_SOURCE_DIR) / "tests/golden/moe_basic";

std::string refusal(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "(not refused)";
}

std::string config_refusal(const char* key, Json value) {
  Json json = read_json(kGolden / "config.json");
  json[key] = std::move(value);
  return refusal([&] { parse_hf_config(json, "config.json"); });
}

TEST(HfConfig, FieldsThatChangeTheMathematicsAreRefusedByName) {
  const std::vector<std::pair<const char*, Json>> fields = {
      {"rope_scaling", {{"type", "yarn"}, {"factor", 4}}},
      {"rope_parameters", {{"rope_type", "linear"}, {"factor", 2}}},
      {"rope_parameters", {{"rope_theta", 1e4}, {"partial_rotary_factor", 0.5}}},
      {"routed_scaling_factor", -1},
      {"scoring_func", "tanh"},
      {"topk_method", "random"},
      {"routing", "lottery"},
      {"capacity_factor", -2},
      {"n_group", 8},
      {"hidden_act", "gelu"},
      {"attention_bias", true},
      {"attention_dropout", 0.1},
      {"model_type", "deepseek_v2"},
      {"q_lora_rank", 1536},
      {"sliding_window", 4096},
      {"quantization_config", {{"bits", 4}}},
      {"num_experts_per_tok", 99},
      {"num_key_value_heads", 3}};
  for (const auto& [key, value] : fields) {
    const std::string message = config_refusal(key, value);
    EXPECT_NE(message.find(key), std::string::npos) << key << ": " << message;
  }
}

TEST(HfConfig, FieldsThatChangeNothingAreAccepted) {
  EXPECT_EQ(config_refusal("transformers_version", "4.33.1"), "(not refused)");
  EXPECT_EQ(config_refusal("routed_scaling_factor", 1.0), "(not refused)");
  EXPECT_EQ(config_refusal("some_switch", false), "(not refused)");
  EXPECT_EQ(config_refusal("rope_parameters", {{"rope_theta", 1e4}, {"rope_type", "default"}}), "(not refused)");
}

// The shapes and fields of the published model, and what is written of its preset.
TEST(HfConfig, TheFileOfGigaChatIsItsPreset) {
  const Json published = {{"architectures", {"DeepseekForCausalLM"}},
                          {"model_type", "deepseek"},
                          {"attention_bias", false},
                          {"attention_dropout", 0.0},
                          {"aux_loss_alpha", 0.001},
                          {"first_k_dense_replace", 1},
                          {"head_dim", 128},
                          {"hidden_act", "silu"},
                          {"hidden_size", 2048},
                          {"initializer_range", 0.02},
                          {"intermediate_size", 14336},
                          {"max_position_embeddings", 131072},
                          {"mlp_bias", false},
                          {"moe_implementation", "eager"},
                          {"moe_intermediate_size", 1792},
                          {"moe_layer_freq", 1},
                          {"n_routed_experts", 64},
                          {"n_shared_experts", 2},
                          {"norm_topk_prob", false},
                          {"num_attention_heads", 16},
                          {"num_experts_per_tok", 6},
                          {"num_hidden_layers", 28},
                          {"num_key_value_heads", 8},
                          {"rms_norm_eps", 1e-5},
                          {"rope_scaling", nullptr},
                          {"rope_theta", 1400000},
                          {"scoring_func", "softmax"},
                          {"seq_aux", true},
                          {"tie_word_embeddings", false},
                          {"vocab_size", 128256}};
  const Json preset = to_hf_config(find_preset("gigachat-20b-a3b").config, DType::f32);
  EXPECT_EQ(to_hf_config(parse_hf_config(published, "config.json"), DType::f32), preset);
  EXPECT_EQ(to_hf_config(parse_hf_config(preset, "config.json"), DType::f32), preset);
}

const Json kRequired = {{"vocab_size", 50},
                        {"hidden_size", 24},
                        {"num_hidden_layers", 2},
                        {"num_attention_heads", 3},
                        {"intermediate_size", 8}};

// docs/models.md: what holds where a field is absent or null.
TEST(HfConfig, EveryFieldHasItsDefault) {
  Json nulls = kRequired;
  const Json written = to_hf_config(tiny_config(), DType::f32);
  for (const auto& [field, value] : written.items()) {
    if (!kRequired.contains(field)) nulls[field] = nullptr;
  }
  for (const Json& json : {kRequired, nulls}) {
    const ModelConfig config = parse_hf_config(json, "config.json");
    EXPECT_EQ(config.num_key_value_heads, 3);
    EXPECT_EQ(config.head_dim, 8);
    EXPECT_EQ(config.moe_intermediate_size, 0);
    EXPECT_EQ(config.n_routed_experts, 0);
    EXPECT_EQ(config.n_shared_experts, 0);
    EXPECT_EQ(config.num_experts_per_tok, 0);
    EXPECT_EQ(config.moe_layer_freq, 1);
    EXPECT_EQ(config.first_k_dense_replace, 0);
    EXPECT_FALSE(config.norm_topk_prob);
    EXPECT_EQ(config.routing, RoutingMethod::topk);
    EXPECT_EQ(config.scoring_func, Scoring::softmax);
    EXPECT_EQ(config.topk_method, TopkMethod::greedy);
    EXPECT_EQ(config.n_group, 1);
    EXPECT_EQ(config.topk_group, 1);
    EXPECT_EQ(config.routed_scaling_factor, 1);
    EXPECT_EQ(config.router_jitter, 0);
    EXPECT_EQ(config.second_expert_threshold, 0);
    EXPECT_EQ(config.capacity_factor, 0);
    EXPECT_EQ(config.eval_capacity_factor, 0);
    EXPECT_FALSE(config.tie_word_embeddings);
    EXPECT_EQ(config.rms_norm_eps, 1e-6);
    EXPECT_EQ(config.rope_theta, 10000);
    EXPECT_EQ(config.max_position_embeddings, 2048);
    EXPECT_EQ(config.initializer_range, 0.02);
    EXPECT_EQ(config.aux_loss_alpha, 0.001);
    EXPECT_TRUE(config.seq_aux);
    EXPECT_EQ(config.bos_token_id, std::nullopt);
    EXPECT_EQ(config.eos_token_id, std::nullopt);
    EXPECT_EQ(config.pad_token_id, std::nullopt);
  }
}

TEST(HfConfig, RopeThetaIsThatOfRopeParametersOverTheFieldBesideThem) {
  const auto theta = [](const Json& more) {
    Json json = kRequired;
    json.update(more);
    return parse_hf_config(json, "config.json").rope_theta;
  };
  EXPECT_EQ(theta({{"rope_theta", 700}}), 700);
  EXPECT_EQ(theta({{"rope_parameters", {{"rope_theta", 500}}}}), 500);
  EXPECT_EQ(theta({{"rope_theta", 700}, {"rope_parameters", {{"rope_theta", 500}, {"rope_type", "default"}}}}), 500);
  EXPECT_EQ(theta({{"rope_theta", 700}, {"rope_parameters", {{"rope_type", "default"}}}}), 700);
}

// Every number at the edges: one that this program holds, or refused by its name.
TEST(HfConfig, NumbersKeepTheirMeaningAtTheirEdges) {
  const Json big_unsigned = uint64_t{1} << 63;
  const std::vector<Json> edges = {
      0,      -1,  int64_t{1} << 31, int64_t{1} << 32, (int64_t{1} << 32) + 1, INT64_MAX, big_unsigned, 1e-30, 1e300,
      -1e300, 1e19};
  const Json written = to_hf_config(tiny_config(), DType::f32);
  int64_t taken = 0;
  for (const auto& [field, value] : written.items()) {
    if (!value.is_number() && field.find("token_id") == std::string::npos) continue;
    for (const Json& edge : edges) {
      Json json = written;
      json[field] = edge;
      try {
        const Json again = to_hf_config(parse_hf_config(json, "config.json"), DType::f32);
        // -1 is also written for no token, 0 for no groups.
        const bool none = edge == -1 && field.find("token_id") != std::string::npos;
        if (!none && again.contains(field) && !again[field].is_null()) {
          EXPECT_EQ(again[field], edge) << field;
        }
        ++taken;
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find(field), std::string::npos)
            << field << " = " << edge << ": " << error.what();
      }
    }
  }
  EXPECT_GT(taken, 12);
  EXPECT_NE(config_refusal("num_attention_heads", 4294967298).find("num_attention_heads is 4294967298, expected"),
            std::string::npos);
  Json odd = kRequired;
  odd["hidden_size"] = 33;
  odd["num_attention_heads"] = 4;
  EXPECT_NE(refusal([&] { parse_hf_config(odd, "c"); }).find("hidden_size is 33, expected a multiple"),
            std::string::npos);
}

TEST(HfConfig, WrittenAndReadAgainIsTheSame) {
  ModelConfig config = tiny_config();
  config.head_dim = 6;  // not hidden_size / heads
  config.norm_topk_prob = true;
  config.bos_token_id = 3;
  const ModelConfig again = parse_hf_config(to_hf_config(config, DType::f32), "config.json");
  EXPECT_EQ(to_hf_config(again, DType::f32), to_hf_config(config, DType::f32));
  EXPECT_EQ(again.head_dim, 6);
}

class HfWeights : public testing::Test {
 protected:
  // A folder whose tensors `edit` may change: (declarations, values).
  using Tensors = std::vector<std::pair<SafetensorsWriter::Declaration, std::vector<float>>>;
  std::string load_refusal(const ModelConfig& config, const std::function<void(Tensors&)>& edit) {
    const auto table = parameter_table(config);
    Tensors tensors;
    for (const HfTensor& tensor : hf_tensors(config, table)) {
      std::vector<float> values(static_cast<size_t>(tensor.elements()));
      std::iota(values.begin(), values.end(),
                static_cast<float>(tensor.parameter * 1000 + static_cast<size_t>(tensor.offset)));
      tensors.push_back({{tensor.name, "F32", tensor.shape}, values});
    }
    edit(tensors);
    std::vector<SafetensorsWriter::Declaration> declarations;
    for (const auto& tensor : tensors) declarations.push_back(tensor.first);
    SafetensorsWriter writer(folder_.path() / "model.safetensors", declarations);
    for (const auto& [declaration, values] : tensors) writer.write(declaration.name, values.data(), values.size() * 4);
    writer.commit();
    return refusal([&] { load(config, table); });
  }

  void load(const ModelConfig& config, const std::vector<Parameter>& table) {
    views_.clear();
    for (const Parameter& parameter : table) {
      const auto bytes = static_cast<size_t>(parameter.shape.elements()) * 4;
      views_.push_back(View(device_.allocate(bytes + 4, parameter.name), DType::f32, parameter.shape));
    }
    load_weights(folder_.path(), config, table, views_, device_);
  }

  test::TemporaryFolder folder_;
  HostDevice device_;
  std::vector<View> views_;
};

TEST_F(HfWeights, MissingExtraAndMisshapenTensorsAreNamed) {
  const ModelConfig config = tiny_config();
  EXPECT_EQ(load_refusal(config, [](Tensors&) {}), "(not refused)");
  const std::string missing = load_refusal(config, [](Tensors& tensors) { tensors.erase(tensors.begin() + 9); });
  EXPECT_NE(missing.find("is missing"), std::string::npos) << missing;
  EXPECT_NE(missing.find("model.layers.0.mlp"), std::string::npos) << missing;
  const std::string extra = load_refusal(config, [](Tensors& tensors) {
    tensors.push_back({{"model.layers.9.extra", "F32", {1}}, {0.0f}});
  });
  EXPECT_NE(extra.find("model.layers.9.extra"), std::string::npos) << extra;
  const std::string shape = load_refusal(config, [](Tensors& tensors) {
    tensors[1].first.shape = {1, static_cast<int64_t>(tensors[1].second.size())};
  });
  EXPECT_NE(shape.find("model.layers.0.input_layernorm.weight"), std::string::npos) << shape;
  EXPECT_NE(shape.find("expected [12]"), std::string::npos) << shape;
  const std::string dtype = load_refusal(config, [](Tensors& tensors) { tensors[1].first.dtype = "I32"; });
  EXPECT_NE(dtype.find("expected " + folder_types_text() + ";"), std::string::npos) << dtype;
}

TEST_F(HfWeights, TheFilesOfAnIndexAreReadTogether) {
  const ModelConfig config = tiny_config();
  const auto table = parameter_table(config);
  EXPECT_EQ(load_refusal(config, [](Tensors&) {}), "(not refused)");
  const auto bytes = [&] {
    std::string all;
    for (const View& view : views_) all.append(static_cast<const char*>(view.data), view.bytes());
    return all;
  };
  const std::string expected = bytes();
  const auto read_with = [&](const Json& map) {
    write_file(folder_.path() / "model.safetensors.index.json", Json{{"weight_map", map}}.dump());
    return refusal([&] { load(config, table); });
  };
  // Every third tensor in a file of its own.
  const auto split = [&](const std::string& twice) {
    const SafetensorsFile whole(folder_.path() / "whole");
    for (size_t part = 0; part < 2; ++part) {
      std::vector<SafetensorsWriter::Declaration> declarations;
      for (size_t i = 0; i < whole.tensors().size(); ++i) {
        const SafetensorsTensor& tensor = whole.tensors()[i];
        if ((i % 3 == 0) == (part == 0) || tensor.name == twice)
          declarations.push_back({tensor.name, "F32", tensor.shape});
      }
      SafetensorsWriter writer(folder_.path() / (part == 0 ? "a" : "b"), declarations);
      for (const auto& declared : declarations) {
        const SafetensorsTensor* tensor = whole.find(declared.name);
        writer.write(tensor->name, tensor->data, tensor->bytes);
      }
      writer.commit();
    }
  };
  fs::rename(folder_.path() / "model.safetensors", folder_.path() / "whole");
  const auto map_of = [&](const char* a, const char* b) {
    const SafetensorsFile whole(folder_.path() / "whole");
    Json map;
    for (size_t i = 0; i < whole.tensors().size(); ++i) {
      if (const char* const file = i % 3 == 0 ? a : b; file != nullptr) map[whole.tensors()[i].name] = file;
    }
    return map;
  };
  EXPECT_EQ(read_with(map_of("whole", "whole")), "(not refused)");
  EXPECT_EQ(bytes(), expected);
  split("");
  EXPECT_EQ(read_with(map_of("a", "b")), "(not refused)");
  EXPECT_EQ(bytes(), expected);
  EXPECT_THAT(read_with(map_of(nullptr, "b")), HasSubstr("is missing; config.json asks for it"));
  EXPECT_THAT(read_with({{"x", "a"}, {"y", "other"}}),
              HasSubstr("names \"other\", which is not in the folder; copy all of the model's 2 files"));
  const std::string name = SafetensorsFile(folder_.path() / "b").tensors().front().name;
  Json map = map_of("a", "b");
  map[name] = "a";
  EXPECT_THAT(read_with(map), HasSubstr("weight_map says that " + name + " is in a, and it is in b; copy the index"));
  map.erase(name);
  EXPECT_THAT(read_with(map), HasSubstr("weight_map lacks " + name + ", which is in b; copy the index"));
  map[name] = "b";
  map["x"] = "b";
  EXPECT_THAT(read_with(map), HasSubstr("weight_map says that x is in b, which does not have it; copy the index"));
  split("model.norm.weight");
  EXPECT_THAT(read_with(map_of("a", "b")), HasSubstr("the tensor model.norm.weight is also in"));
  EXPECT_THAT(read_with({{"a", "../x"}}), HasSubstr("expected a name without a folder"));
  EXPECT_THAT(read_with({{"a", 3}}), HasSubstr("the file of a is an integer"));
  EXPECT_THAT(read_with(Json::object()), HasSubstr("names no file"));
  EXPECT_THAT(read_with(Json::array()), HasSubstr("expected an object"));
}

// FIELD 1d: a converter that drops experts leaves random weights; one that swaps gate and up; one that transposes where
// sizes coincide.
TEST_F(HfWeights, EveryElementHasItsOwnPlaceEvenWhereSizesCoincide) {
  ModelConfig config = tiny_config();
  for (const int64_t width : {config.hidden_size, config.hidden_size / 2}) {  // w = d and 2 w = d
    config.moe_intermediate_size = width;
    config.n_shared_experts = 1;
    const auto table = parameter_table(config);
    ASSERT_EQ(load_refusal(config, [](Tensors&) {}), "(not refused)");
    for (size_t p = 0; p < table.size(); ++p) {
      for (int64_t i = 0; i < table[p].shape.elements(); ++i) {
        ASSERT_EQ(views_[p].as<float>()[i], static_cast<float>(p * 1000 + static_cast<size_t>(i)))
            << table[p].name << " " << i;
      }
    }
    const auto tensors = hf_tensors(config, table);
    const auto find = [&](const std::string& name) {
      for (const HfTensor& tensor : tensors) {
        if (tensor.name == name) return tensor;
      }
      return HfTensor{};
    };
    const HfTensor gate = find("model.layers.1.mlp.experts.3.gate_proj.weight");
    const HfTensor up = find("model.layers.1.mlp.experts.3.up_proj.weight");
    EXPECT_EQ(gate.offset, 3 * 2 * width * config.hidden_size);
    EXPECT_EQ(up.offset, gate.offset + width * config.hidden_size);
    EXPECT_EQ(find("model.layers.1.mlp.experts.3.down_proj.weight").shape,
              (std::vector<int64_t>{config.hidden_size, width}));
  }
}

TEST_F(HfWeights, ATiedModelMayCarryACopyOfItsHead) {
  ModelConfig config = tiny_config();
  config.tie_word_embeddings = true;
  const auto with_head = [](float change) {
    return [change](Tensors& tensors) {
      auto head = tensors[0];
      head.first.name = "lm_head.weight";
      head.second[5] += change;
      tensors.push_back(head);
    };
  };
  EXPECT_EQ(load_refusal(config, with_head(0)), "(not refused)");
  EXPECT_NE(load_refusal(config, with_head(1)).find("lm_head.weight"), std::string::npos);
}

// What is passed over may be absent from the index, too; any other tensor may not, also not a head that counts.
TEST_F(HfWeights, AnIndexMayLeaveOutWhatIsPassedOver) {
  const auto config_of = [](bool tied) {
    ModelConfig config = tiny_config();
    config.tie_word_embeddings = tied;
    return config;
  };
  const auto read = [&](const ModelConfig& config, const std::function<void(Tensors&)>& edit) {
    const fs::path folder = folder_.path();
    load_refusal(config, edit);
    fs::rename(folder / "model.safetensors", folder / "a");
    Json map;
    for (const HfTensor& tensor : hf_tensors(config, parameter_table(config))) map[tensor.name] = "a";
    if (!config.tie_word_embeddings) map.erase("lm_head.weight");
    write_file(folder / "model.safetensors.index.json", Json{{"weight_map", map}}.dump());
    return refusal([&] { load(config, parameter_table(config)); });
  };
  const auto add = [](const char* name, float change) {
    return [name, change](Tensors& tensors) {
      auto more = tensors[0];
      more.first.name = name;
      more.second[5] += change;
      tensors.push_back(more);
    };
  };
  const ModelConfig tied = config_of(true);
  EXPECT_EQ(read(tied, [](Tensors&) {}), "(not refused)");
  EXPECT_EQ(read(tied, add("lm_head.weight", 0)), "(not refused)");
  EXPECT_EQ(read(tied, add("model.layers.1.self_attn.rotary_emb.inv_freq", 0)), "(not refused)");
  const char* const lacks = "weight_map lacks lm_head.weight, which is in a; copy the index";
  EXPECT_THAT(read(tied, add("lm_head.weight", 1)), HasSubstr(lacks));
  EXPECT_THAT(read(config_of(false), [](Tensors&) {}), HasSubstr(lacks)) << "a head of its own";
  EXPECT_THAT(read(tied, add("lm_head.bias", 0)), HasSubstr("weight_map lacks lm_head.bias, which is in a"));
  EXPECT_THAT(read(tied, add("inv_freq", 0)), HasSubstr("weight_map lacks inv_freq, which is in a"));
}

TEST_F(HfWeights, SavedAndLoadedAgainIsTheSame) {
  const ModelConfig config = tiny_config();
  const auto table = parameter_table(config);
  ASSERT_EQ(load_refusal(config, [](Tensors&) {}), "(not refused)");
  const test::TemporaryFolder other;
  save_weights(other.path(), config, table, views_, device_);
  EXPECT_EQ(read_file(other.path() / "model.safetensors"), read_file(folder_.path() / "model.safetensors"));
}

// FIELD 1b: a selection bias in bf16, or dropped on the way.
TEST_F(HfWeights, ASelectionBiasStaysF32AndComesBackExactly) {
  ModelConfig config = tiny_config();
  config.topk_method = TopkMethod::noaux_tc;
  const auto table = parameter_table(config);
  const auto make_views = [&] {
    std::vector<View> views;
    for (const Parameter& parameter : table) {
      const DType storage = parameter.storage(DType::bf16);
      const auto bytes = static_cast<size_t>(parameter.shape.elements()) * size_of(storage);
      views.push_back(View(device_.allocate(bytes, parameter.name), storage, parameter.shape));
      std::memset(views.back().data, 0, bytes);
    }
    return views;
  };
  const std::vector<View> saved = make_views(), loaded = make_views();
  int biases = 0;
  for (size_t p = 0; p < table.size(); ++p) {
    if (!table[p].name.ends_with("router.bias")) continue;
    ASSERT_EQ(saved[p].dtype, DType::f32) << "beside weights of bf16";
    for (int64_t e = 0; e < 6; ++e) saved[p].as<float>()[e] = 1.0f + static_cast<float>(e + 1) * 1e-6f;  // no bf16
    ++biases;
  }
  EXPECT_EQ(biases, 2);
  save_weights(folder_.path(), config, table, saved, device_);
  load_weights(folder_.path(), config, table, loaded, device_);
  for (size_t p = 0; p < table.size(); ++p) {
    if (!table[p].name.ends_with("router.bias")) continue;
    EXPECT_EQ(std::memcmp(loaded[p].data, saved[p].data, 6 * sizeof(float)), 0);
  }
  const std::string file = read_file(folder_.path() / "model.safetensors");
  EXPECT_NE(file.find("model.layers.1.mlp.gate.e_score_correction_bias\":{\"dtype\":\"F32\""), std::string::npos);
}

TEST(HashTables, AnExpertThatTheModelDoesNotHaveIsNamedWithItsToken) {
  ModelConfig config = tiny_config();
  config.routing = RoutingMethod::hash;
  config.num_experts_per_tok = 1;
  const auto table = parameter_table(config);
  HostDevice device;
  std::vector<View> views;
  View hash_table;
  for (const Parameter& parameter : table) {
    const size_t bytes = static_cast<size_t>(parameter.shape.elements()) * 4;
    views.push_back(View(device.allocate(bytes + 4, parameter.name), parameter.storage(DType::f32), parameter.shape));
    std::memset(views.back().data, 0, bytes);
    if (parameter.is_table()) hash_table = views.back();
  }
  const test::TemporaryFolder folder;
  for (const int32_t expert : {0, 5, 6, -1}) {
    hash_table.as<int32_t>()[3] = expert;
    save_weights(folder.path(), config, table, views, device);
    save_optimizer(folder.path(), config, table, {{".master", views}}, device);
    const std::string weights = refusal([&] { load_weights(folder.path(), config, table, views, device); });
    const std::string optimizer = refusal([&] {
      load_optimizer(folder.path(), config, table, {{".master", views}}, device);
    });
    for (const std::string& message : {weights, optimizer}) {
      if (expert >= 0 && expert < config.n_routed_experts) {
        EXPECT_EQ(message, "(not refused)");
        continue;
      }
      EXPECT_NE(message.find("mlp.gate.hash_table"), std::string::npos) << message;
      EXPECT_NE(message.find(fmt::format("token id 3 to expert {}, expected experts from 0 to 5", expert)),
                std::string::npos)
          << message;
    }
  }
}

TEST(OptimizerFiles, OfAnyNumberHoldTheSame) {
  const ModelConfig config = tiny_config();
  const auto table = parameter_table(config);
  HostDevice device;
  const auto make_views = [&](float first) {
    std::vector<View> views;
    for (const Parameter& parameter : table) {
      const auto elements = static_cast<size_t>(parameter.shape.elements());
      views.push_back(View(device.allocate(elements * sizeof(float), parameter.name), DType::f32, parameter.shape));
      for (size_t i = 0; i < elements; ++i) views.back().as<float>()[i] = first++;
    }
    return views;
  };
  const std::vector<View> master = make_views(1), moment = make_views(5e5F);
  size_t bytes = 0;
  for (const View& view : master) bytes += 2 * view.bytes();
  for (const int64_t most : {int64_t{1}, static_cast<int64_t>(bytes) / 3, static_cast<int64_t>(bytes)}) {
    const test::TemporaryFolder folder;
    save_optimizer(folder.path(), config, table, {{".master", master}, {".exp_avg", moment}}, device, most);
    const size_t files = folder.files().size();
    EXPECT_TRUE(most == 1                            ? files > table.size()
                : most < static_cast<int64_t>(bytes) ? files >= 3
                                                     : files == 1)
        << files;
    const std::vector<View> read_master = make_views(0), read_moment = make_views(0);
    load_optimizer(folder.path(), config, table, {{".master", read_master}, {".exp_avg", read_moment}}, device);
    for (size_t i = 0; i < table.size(); ++i) {
      EXPECT_EQ(std::memcmp(read_master[i].data, master[i].data, master[i].bytes()), 0) << table[i].name;
      EXPECT_EQ(std::memcmp(read_moment[i].data, moment[i].data, moment[i].bytes()), 0) << table[i].name;
    }
    fs::remove(folder / folder.files().back());
    EXPECT_NE(
        refusal([&] {
          load_optimizer(folder.path(), config, table, {{".master", read_master}, {".exp_avg", read_moment}}, device);
        }),
        "(not refused)");
  }
}

}  // namespace
}  // namespace moe
