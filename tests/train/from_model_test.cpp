// model.from: a run that begins with the weights of a model.

#include <cmath>
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/expert_list.h"
#include "checkpoint/open_model.h"
#include "checkpoint/write_gguf.h"
#include "formats/safetensors.h"
#include "model/keys.h"
#include "tests/support/golden.h"
#include "tests/support/small_dataset.h"
#include "tests/support/tiny_run.h"
#include "tokenizer/gguf_tokenizer_entries.h"
#include "tokenizer/new_tokens.h"
#include "train/model_tokenizer.h"

namespace moe {
namespace {

using test::error_of;
using test::make_dataset_with;
using test::tiny_texts;
using test::TinyRun;
using testing::HasSubstr;

/// Steps so small that no weight changes.
const std::vector<std::string> kStill{"optimizer.learning_rate=1e-30", "train.steps=1", "checkpoint.every=0"};

std::vector<std::string> with(std::vector<std::string> set, const std::vector<std::string>& more) {
  set.insert(set.end(), more.begin(), more.end());
  return set;
}

std::string tensors_of(const fs::path& file) {
  const SafetensorsFile tensors(file);
  std::string text;
  for (const SafetensorsTensor& tensor : tensors.tensors()) {
    text += tensor.name + " " + tensor.text() + " ";
    text.append(reinterpret_cast<const char*>(tensor.data), static_cast<size_t>(tensor.bytes));
  }
  return text;
}

TEST(FromModel, TheRunBeginsWithItsWeightsBitForBit) {
  TinyRun tiny;
  tiny.train("base", {"data.valid=" + (tiny / "valid").string()});
  const fs::path base = tiny / "base" / "step-12";
  for (const std::string& from : {base.string(), (tiny / "base").string()}) {
    tiny.train("still", with(kStill, {"model.from=" + from, "data.valid=" + (tiny / "valid").string()}));
    EXPECT_EQ(tensors_of(tiny / "still/step-1/model.safetensors"), tensors_of(base / "model.safetensors"));
    EXPECT_EQ(tiny.log("still", "eval.jsonl").back().at("loss"), tiny.log("base", "eval.jsonl").back().at("loss"));
    fs::remove_all(tiny / "still");
  }
  tiny.train("other-seed", with(kStill, {"model.from=" + base.string(), "train.seed=7"}));
  EXPECT_EQ(tensors_of(tiny / "other-seed/step-1/model.safetensors"), tensors_of(base / "model.safetensors"));
}

TEST(FromModel, InBf16TheMastersAreTheStoredWeights) {
  TinyRun tiny;
  tiny.train("base");
  tiny.train("still", with(kStill, {"model.from=" + (tiny / "base").string(), "train.dtype=bf16"}));
  const SafetensorsFile base(tiny / "base/step-12/model.safetensors");
  const SafetensorsFile state(tiny / "still/step-1/optimizer-00001-of-00001.safetensors");
  for (const SafetensorsTensor& tensor : base.tensors()) {
    const SafetensorsTensor* const master = state.find(tensor.name + ".master");
    ASSERT_NE(master, nullptr) << tensor.name;
    ASSERT_EQ(master->bytes, tensor.bytes);
    EXPECT_EQ(std::memcmp(master->data, tensor.data, static_cast<size_t>(tensor.bytes)), 0) << tensor.name;
  }
}

/// A run file that says nothing about the model.
RunConfig silent_run(const TinyRun& tiny, const fs::path& from, const std::vector<std::string>& set = {}) {
  Settings settings = tiny.settings("silent");
  settings.drop_section("model");
  settings.drop("train.init_std");
  for (const std::string& assignment : with(set, {"model.from=" + from.string()})) settings.set(assignment);
  return tiny.read(std::move(settings));
}

/// Rules for keys that are not given, as head_dim = hidden_size / num_attention_heads, do not count beside a model.
TEST(FromModel, NoRuleOverwritesWhatTheModelSays) {
  TinyRun tiny;
  tiny.train("base", {"model.num_key_value_heads=1", "model.head_dim=12", "train.init_std=0.1",
                      "model.routing=expert_choice", "model.num_experts_per_tok=3", "train.steps=1"});
  const fs::path base = tiny / "base/step-1";
  const ModelConfig model = read_model_config(base);
  const RunConfig run = silent_run(tiny, base);
  int rules = 0;
  for (const KeyRow<ModelConfig>& row : model_keys()) {
    if (row.derive == nullptr) continue;
    ++rules;
    ModelConfig changed = model, none;
    none.num_attention_heads = 0;
    row.derive(changed, none);
    // Where experts choose, no other capacity than the rule's is valid.
    const bool fixed = std::string_view(row.key) == "model.capacity_factor";
    EXPECT_EQ(row.get(changed) == row.get(model), fixed) << row.key;
    EXPECT_EQ(row.get(run.model), row.get(model)) << row.key;
  }
  EXPECT_EQ(rules, 4) << "the base of this test needs a value of its own for the new rule's key";
  tiny.train(run);
  for (const char* family : {"qwen3_moe", "llama_odd"}) {
    const fs::path folder = golden_folder() / "families" / family;
    const ModelConfig there = read_model_config(folder);
    EXPECT_NE(there.head_dim, there.hidden_size / there.num_attention_heads) << family;
    EXPECT_EQ(silent_run(tiny, folder, {"data.sequence_length=8"}).model.head_dim, there.head_dim) << family;
  }
  EXPECT_EQ(silent_run(tiny, base, {"model.num_attention_heads=4"}).model.head_dim, 4) << "the run file changes it";
}

/// The coefficient of the balance loss is the model's own, and the start says so; the run file's counts more.
TEST(FromModel, TheBalanceLossHasTheModelsCoefficient) {
  TinyRun tiny;
  tiny.train("base", {"balance.alpha_expert=0.03"});
  const std::string from = "model.from=" + (tiny / "base").string();
  const RunConfig run = tiny.config("next", {from});
  EXPECT_FLOAT_EQ(run.step.balance.alpha_expert, 0.03f);
  EXPECT_THAT(run.coefficients,
              testing::Contains(testing::AllOf(HasSubstr("balance.alpha_expert = 0.03"), HasSubstr("the model's, "))));
  EXPECT_FLOAT_EQ(tiny.config("next", {from, "balance.alpha_expert=0.5"}).step.balance.alpha_expert, 0.5f);
  // A model that has none: the start does not say that it has.
  fs::copy(tiny / "base/step-12", tiny / "silent", fs::copy_options::recursive);
  Json config = read_json(tiny / "silent/config.json");
  config.erase("aux_loss_alpha");
  write_file(tiny / "silent/config.json", json_text(config));
  EXPECT_THAT(tiny.config("next", {"model.from=" + (tiny / "silent").string()}).coefficients,
              testing::Contains(
                  testing::AllOf(HasSubstr("balance.alpha_expert = 0.001 (default; "), HasSubstr("silent has none)"))));
  tiny.train("none", {"balance.alpha_expert=0"});
  EXPECT_EQ(tiny.config("next", {"model.from=" + (tiny / "none").string()}).step.balance.alpha_expert, 0);
}

TEST(FromModel, ItLearnsFromThereAndResumesBitForBit) {
  TinyRun tiny;
  tiny.train("base");
  const std::string from = "model.from=" + (tiny / "base").string();
  tiny.train("more", {from});
  EXPECT_LT(tiny.log("more")[0].at("loss"), 0.9 * tiny.log("base")[0].at("loss").get<double>());
  EXPECT_LT(tiny.log("more").back().at("loss"), tiny.log("base").back().at("loss"));
  tiny.train("again", {from});
  fs::remove_all(tiny / "again/step-12");
  fs::remove(tiny / "again/latest");
  tiny.resume("again", {from});
  test::expect_same_end(tiny, "more", "again");
}

TEST(FromModel, AResumedRunNeedsTheModelNoMore) {
  TinyRun tiny;
  tiny.train("base");
  const std::string from = "model.from=" + (tiny / "base").string();
  tiny.train("straight", {from});
  tiny.train("again", {from});
  fs::remove_all(tiny / "again/step-12");
  fs::remove(tiny / "again/latest");
  fs::remove_all(tiny / "base");
  tiny.resume("again", {from});
  test::expect_same_end(tiny, "straight", "again");
  tiny.resume_as_the_command("again", {from, "train.steps=14"}, {"train.steps"});
  EXPECT_TRUE(fs::exists(tiny / "again/step-14"));
  EXPECT_THAT(error_of<Error>([&] {
                tiny.resume("again", {"model.from=" + (tiny / "straight").string(), "train.steps=14"});
              }),
              HasSubstr("model.from"));
  EXPECT_THAT(error_of<Error>([&] { tiny.train("new", {from}); }), HasSubstr("base")) << "a new run needs it";
}

/// The dataset "data" as one whose tokenizer has two tokens more, which begin and end the texts.
void make_grown_dataset(const TinyRun& tiny, const std::string& name) {
  const GrownTokenizer grown = with_new_tokens(tiny / "tokenizer", {"<|im_start|>", "<|im_end|>"});
  const Dataset plain((tiny / "data").string());
  DatasetWriter writer(tiny / name, {.vocab_size = grown.tokenizer.id_count(),
                                     .bos_id = plain.info().bos_id,
                                     .eos_id = plain.info().eos_id,
                                     .tokenizer_fingerprint = hash_name(grown.json),
                                     .domains = {},
                                     .base_fingerprint = tokenizer_fingerprint(tiny / "tokenizer"),
                                     .base_ids = 290});
  const int32_t domain = writer.add_domain("text");
  for (int64_t document = 0; document < plain.count(); ++document) {
    std::vector<int32_t> ids(static_cast<size_t>(plain.length(document)));
    plain.copy_tokens(document, 0, plain.length(document), ids.data());
    ids.resize(std::min<size_t>(ids.size(), 22));
    ids.insert(ids.begin(), 290);
    ids.push_back(291);
    writer.add_marked(ids, std::vector<uint8_t>(ids.size(), 1), domain, plain.text_bytes(document), 1);
  }
  writer.set_answer_ends({291});
  grown.tokenizer.save(writer.temporary_folder());
  writer.finish();
}

/// A run on "grown" whose model is that of model.from.
RunConfig grown_run(const TinyRun& tiny, const std::string& name, const std::vector<std::string>& set) {
  Settings settings = tiny.settings(name);
  settings.drop_section("model");
  for (const std::string& assignment : with(set, {"data.train=" + (tiny / "grown").string()})) settings.set(assignment);
  return read_run_config(settings);
}

TEST(FromModel, NewTokensHaveTheMeanOfTheOthersRowsAndLearn) {
  for (const char* dtype : {"f32", "bf16"}) {
    TinyRun tiny;
    tiny.train("base");
    make_grown_dataset(tiny, "grown");
    const std::vector<std::string> set{"model.from=" + (tiny / "base").string(), fmt::format("train.dtype={}", dtype)};
    RunConfig still = grown_run(tiny, "still", with(kStill, set));
    EXPECT_EQ(still.model.vocab_size, 292);
    tiny.train(still);
    const SafetensorsFile base(tiny / "base/step-12/model.safetensors");
    const SafetensorsFile state(tiny / "still/step-1/optimizer-00001-of-00001.safetensors");
    for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"}) {
      const SafetensorsTensor* const old = base.find(name);
      const SafetensorsTensor* const grown = state.find(std::string(name) + ".master");
      EXPECT_EQ(grown->shape, (std::vector<int64_t>{292, 16}));
      EXPECT_EQ(std::memcmp(old->data, grown->data, old->bytes), 0) << "the old rows are as they were";
      const auto* rows = reinterpret_cast<const float*>(grown->data);
      for (int64_t column = 0; column < 16; ++column) {
        double mean = 0;
        for (int64_t row = 0; row < 290; ++row) mean += rows[row * 16 + column] / 290.0;
        for (const int64_t row : {290, 291}) EXPECT_NEAR(rows[row * 16 + column], mean, 1e-6 + 1e-6 * std::abs(mean));
      }
    }
    tiny.train(grown_run(tiny, "more", set));
    const SafetensorsFile after(tiny / "more/step-12/optimizer-00001-of-00001.safetensors");
    const auto* rows = reinterpret_cast<const float*>(after.find("model.embed_tokens.weight.master")->data);
    EXPECT_NE(std::memcmp(rows + 290 * 16, rows + 291 * 16, 16 * sizeof(float)), 0) << "they have learned";
    const Json generation = read_json(tiny / "more/step-12/generation_config.json");
    EXPECT_EQ(generation.at("eos_token_id").size(), 2u);
    EXPECT_EQ(generation.at("eos_token_id").back(), 291);
    // The grown model is a model like any other.
    EXPECT_EQ(read_model_config(tiny / "more/step-12").vocab_size, 292);
    EXPECT_EQ(Tokenizer::load(tiny / "more/step-12").added_token("<|im_end|>"), 291);
  }
}

/// Only train.parameters = "all" trains rows of new tokens and keeps them with their tokenizer; also where the model
/// has unused rows.
TEST(FromModel, NewTokensAreRefusedWhereTheirRowsWouldNotTrain) {
  TinyRun tiny;
  tiny.train("base", {"train.steps=1"});
  tiny.train("padded", {"train.steps=1", "model.vocab_size=300"});
  make_grown_dataset(tiny, "grown");
  const std::string list = (tiny / "experts.json").string(), more = (tiny / "more.json").string();
  write_file(list, expert_list_text({.experts = {{0, {1}}}}));
  write_file(more, expert_list_text({.experts = {{0, {1}}}, .non_expert_modules = true}));
  for (const char* base : {"base", "padded"}) {
    const std::string from = "model.from=" + (tiny / base).string();
    const auto refusal = [&](const std::vector<std::string>& set) {
      const std::string error = error_of<Error>([&] { tiny.train(grown_run(tiny, "never", with(set, {from}))); });
      EXPECT_FALSE(fs::exists(tiny / "never/log.jsonl"));
      return error;
    };
    for (const std::string& experts : {list, more}) {
      EXPECT_THAT(refusal({"train.parameters=experts", "train.experts=" + experts}),
                  testing::AllOf(HasSubstr("2 new tokens"), HasSubstr("\"experts\"; set train.parameters = \"all\"")));
    }
    EXPECT_THAT(refusal({"train.parameters=lora"}),
                testing::AllOf(HasSubstr("2 new tokens"), HasSubstr("\"lora\"; set train.parameters = \"all\"")));
    for (const char* name : {"embedding", "head"}) {
      EXPECT_THAT(refusal({fmt::format("train.freeze=[\"{}\"]", name)}),
                  HasSubstr(fmt::format("leave \"{}\" out of train.freeze", name)));
    }
  }
}

/// A second run on the same data keeps what the first has learned about the tokens, and may train adapters.
TEST(FromModel, TokensThatTheModelHasAlreadyAreNotNew) {
  TinyRun tiny;
  tiny.train("base", {"train.steps=1"});
  make_grown_dataset(tiny, "grown");
  tiny.train(grown_run(tiny, "first", {"model.from=" + (tiny / "base").string()}));
  const std::string from = "model.from=" + (tiny / "first").string();
  tiny.train(grown_run(tiny, "second", with(kStill, {from})));
  EXPECT_EQ(tensors_of(tiny / "second/step-1/model.safetensors"), tensors_of(tiny / "first/step-12/model.safetensors"));
  tiny.train(grown_run(tiny, "adapters", with(kStill, {from, "train.parameters=lora"})));
}

/// Saves a tokenizer that a GGUF file can have.
void save_tokenizer(const fs::path& folder, const std::string& letters) {
  ThreadPool pool(2);
  TokenizerTrainer trainer({.vocab_size = 290, .pattern = "qwen2"}, pool);
  for (const std::string& text : tiny_texts(60, 1)) trainer.add_document(text + letters);
  make_folder(folder);
  trainer.finish().save(folder);
}

/// A GGUF file has its tokenizer in another form, which is compared token by token.
TEST(FromModel, TheTokenizerOfAGgufFileIsThatOfTheData) {
  TinyRun tiny;
  save_tokenizer(tiny / "own", " yy yy yy yy yy");
  save_tokenizer(tiny / "other", " zz zz zz zz zz");
  ModelConfig config =
      tiny.config("unused", {"model.n_routed_experts=0", "model.n_shared_experts=0", "model.moe_intermediate_size=0",
                             "model.num_experts_per_tok=0", "model.intermediate_size=8", "model.vocab_size=300"})
          .model;
  config.bos_token_id = config.eos_token_id = 0;
  const fs::path model = tiny / "model.gguf";
  ThreadPool pool(2);
  write_gguf(model, InitialWeights(config, 1), {.tokenizer = gguf_tokenizer_entries(tiny / "own", 300)}, pool);
  make_dataset_with(tiny / "of-folder", tiny / "own");
  make_dataset_with(tiny / "of-file", model);
  make_dataset_with(tiny / "more", tiny / "own", {"<|im_end|>"});
  make_dataset_with(tiny / "of-other", tiny / "other");
  make_dataset_with(tiny / "more-of-other", tiny / "other", {"<|im_end|>"});
  const auto match = [&](const std::string& data) {
    return match_tokenizer(Dataset((tiny / data).string()), model.string());
  };
  EXPECT_EQ(match("of-folder"), TokenizerMatch::same);
  EXPECT_EQ(match("of-file"), TokenizerMatch::same);
  EXPECT_EQ(match("more"), TokenizerMatch::grown);
  EXPECT_EQ(match("of-other"), TokenizerMatch::other);
  EXPECT_EQ(match("more-of-other"), TokenizerMatch::other);
  EXPECT_EQ(tokenizer_fingerprint(model), tokenizer_fingerprint(tiny / "of-file")) << "the dataset's own check";
  const auto train = [&](const std::string& data) {
    Settings settings = tiny.settings(data);
    settings.drop_section("model");
    for (const std::string& set :
         with(kStill, {"model.from=" + model.string(), "data.train=" + (tiny / data).string()}))
      settings.set(set);
    tiny.train(read_run_config(settings));
  };
  train("of-folder");
  train("of-file");
  EXPECT_THAT(error_of<Error>([&] { train("of-other"); }), HasSubstr("was made with another tokenizer"));
  EXPECT_THAT(error_of<Error>([&] { train("more-of-other"); }), HasSubstr("was made with another tokenizer"));
}

TEST(FromModel, ADatasetWithNewTokensOfAnotherTokenizerIsRefused) {
  TinyRun tiny;
  tiny.train("base");
  fs::copy(tiny / "base/step-12", tiny / "other", fs::copy_options::recursive);
  write_file(tiny / "other/tokenizer.json", read_file(tiny / "other/tokenizer.json") + " ");
  make_grown_dataset(tiny, "grown");
  EXPECT_THAT(
      error_of<Error>([&] { tiny.train(grown_run(tiny, "never", {"model.from=" + (tiny / "other").string()})); }),
      HasSubstr("was made with another tokenizer"));
}

TEST(FromModel, HashTablesCannotGetNewTokens) {
  TinyRun tiny;
  tiny.train("base", {"model.method=hash", "model.num_experts_per_tok=1"});
  make_grown_dataset(tiny, "grown");
  EXPECT_THAT(
      error_of<Error>([&] { tiny.train(grown_run(tiny, "never", {"model.from=" + (tiny / "base").string()})); }),
      HasSubstr("it cannot get new tokens (model.routing = hash)"));
}

TEST(FromModel, WhatDoesNotFitIsRefusedBeforeTheFirstStep) {
  TinyRun tiny;
  tiny.train("base");
  const std::string from = "model.from=" + (tiny / "base").string();
  const auto refusal = [&](const std::vector<std::string>& set) {
    const std::string error = error_of<Error>([&] { tiny.train("never", set); });
    EXPECT_FALSE(fs::exists(tiny / "never/log.jsonl"));
    return error;
  };
  EXPECT_THAT(refusal({"model.from=" + (tiny / "nothing").string()}), HasSubstr("nothing"));
  EXPECT_THAT(refusal({"model.from=" + (tiny / "data").string()}), HasSubstr("is a dataset, expected a model"));
  EXPECT_THAT(refusal({from, "model.preset=deepseekmoe-2b"}), HasSubstr("nothing beside model.from"));
  EXPECT_THAT(refusal({from, "model.method=loss_free"}), HasSubstr("nothing beside model.from"));
  EXPECT_THAT(refusal({from, "model.moe_intermediate_size=16"}),
              HasSubstr("has other parameters than the run file asks for, first layers."));
  fs::copy(tiny / "base/step-12", tiny / "other", fs::copy_options::recursive);
  write_file(tiny / "other/tokenizer.json", read_file(tiny / "other/tokenizer.json") + " ");
  EXPECT_THAT(refusal({"model.from=" + (tiny / "other").string()}), HasSubstr("was made with another tokenizer"));
}

}  // namespace
}  // namespace moe
