#include "checkpoint/end_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class EndTokens : public testing::Test {
 protected:
  std::vector<int32_t> read(const char* config, const char* generation = nullptr) {
    write_file(folder_.path() / "config.json", config);
    std::error_code ignored;
    fs::remove(folder_.path() / "generation_config.json", ignored);
    if (generation != nullptr) write_file(folder_.path() / "generation_config.json", generation);
    return read_end_tokens(folder_.path());
  }
  std::string refusal(const char* config, const char* generation = nullptr) {
    try {
      read(config, generation);
    } catch (const Error& error) {
      return error.what();
    }
    return "(not refused)";
  }
  test::TemporaryFolder folder_;
};

TEST_F(EndTokens, AreAllOfBothFiles) {
  EXPECT_THAT(read(R"({"eos_token_id": 7})"), ElementsAre(7));
  EXPECT_THAT(read(R"({"eos_token_id": [9, 7, 8, 7]})"), ElementsAre(7, 8, 9));
  EXPECT_THAT(read(R"({"eos_token_id": 7})", R"({"eos_token_id": [128001, 7, 128009]})"),
              ElementsAre(7, 128001, 128009));
  EXPECT_THAT(read("{}", R"({"eos_token_id": 0})"), ElementsAre(0));
  EXPECT_THAT(read(R"({"eos_token_id": 3})", R"({"do_sample": true})"), ElementsAre(3));
}

TEST_F(EndTokens, MayBeNone) {
  EXPECT_THAT(read("{}"), IsEmpty());
  EXPECT_THAT(read(R"({"eos_token_id": null})", R"({"eos_token_id": []})"), IsEmpty());
  EXPECT_THAT(read(R"({"eos_token_id": -1})"), IsEmpty());
}

TEST_F(EndTokens, WhatIsNoIdIsRefused) {
  EXPECT_THAT(refusal(R"({"eos_token_id": "</s>"})"), HasSubstr("config.json: \"eos_token_id\" has \"</s>\""));
  EXPECT_THAT(refusal("{}", R"({"eos_token_id": [1, 2.5]})"), HasSubstr("generation_config.json"));
  EXPECT_THAT(refusal(R"({"eos_token_id": 2147483648})"), HasSubstr("has 2147483648, expected token ids"));
  EXPECT_THAT(refusal("{}", "[1]"), HasSubstr("generation_config.json"));
}

}  // namespace
}  // namespace moe
