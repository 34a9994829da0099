// model.from: a run that begins with the weights of a model.

#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/safetensors.h"
#include "tests/support/tiny_run.h"

namespace moe {
namespace {

using test::error_of;
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
