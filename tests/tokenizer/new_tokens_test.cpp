// New special tokens: they get the ids behind the last one, and no other id changes.

#include "tokenizer/new_tokens.h"

#include <gmock/gmock.h>

#include "base/error.h"
#include "tests/support/temporary_folder.h"
#include "tests/tokenizer/support.h"

namespace moe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class NewTokens : public testing::Test {
 protected:
  NewTokens() {
    Json json = test::tokenizer_json({"h e", "he l"});
    json["added_tokens"] = {test::added_token(258, "<s>", true), test::added_token(259, "</s>", true)};
    write_file(folder_ / "tokenizer.json", json.dump());
    write_file(folder_ / "tokenizer_config.json", R"({"bos_token": "<s>", "eos_token": "</s>"})");
  }
  test::TemporaryFolder folder_;
};

TEST_F(NewTokens, GetTheNextIdsAndAllOthersKeepTheirs) {
  const Tokenizer before = Tokenizer::load(folder_.path());
  const GrownTokenizer grown = with_new_tokens(folder_.path(), {"<|im_start|>", "<|im_end|>"});
  const Tokenizer& after = grown.tokenizer;
  EXPECT_EQ(after.id_count(), before.id_count() + 2);
  EXPECT_EQ(after.added_token("<|im_start|>"), before.id_count());
  EXPECT_EQ(after.added_token("<|im_end|>"), before.id_count() + 1);
  for (int32_t id = 0; id < before.id_count(); ++id) {
    ASSERT_EQ(before.has_token(id), after.has_token(id));
    if (before.has_token(id)) {
      EXPECT_EQ(before.token_bytes(id), after.token_bytes(id));
    }
  }
  EXPECT_EQ(after.bos(), before.bos());
  EXPECT_EQ(after.eos(), before.eos());
  const std::string text = "hello <|im_start|>hel<|im_end|></s>";
  EXPECT_THAT(after.encode("<|im_start|>hel<|im_end|>", {.add_special = false, .parse_special = true}),
              ElementsAre(260, 257, 261));
  EXPECT_TRUE(after.is_special(260));
  EXPECT_EQ(after.encode(text, {.add_special = false}), before.encode(text, {.add_special = false}))
      << "a text that users write has no special tokens";
}

TEST_F(NewTokens, AreThereAfterSavingAndLoading) {
  const GrownTokenizer grown = with_new_tokens(folder_.path(), {"<|im_end|>"});
  const fs::path saved = folder_ / "saved";
  fs::create_directory(saved);
  grown.tokenizer.save(saved);
  EXPECT_EQ(read_file(saved / "tokenizer.json"), grown.json);
  EXPECT_EQ(Tokenizer::load(saved).added_token("<|im_end|>"), 260);
}

TEST_F(NewTokens, AreListedWhereTransformersLooksForThem) {
  write_file(folder_ / "tokenizer_config.json",
             R"({"eos_token": "</s>", "added_tokens_decoder": {"258": {"content": "<s>", "special": true},
                 "259": {"content": "</s>", "special": true}}})");
  const fs::path saved = folder_ / "saved";
  fs::create_directory(saved);
  with_new_tokens(folder_.path(), {"<|im_end|>"}).tokenizer.save(saved);
  const Json config = read_json(saved / "tokenizer_config.json");
  EXPECT_EQ(config.at("added_tokens_decoder").at("260").at("content"), "<|im_end|>");
  EXPECT_EQ(Tokenizer::load(saved).added_token("<|im_end|>"), 260);
}

TEST_F(NewTokens, ThatAreThereEmptyOrGivenTwiceAreRefused) {
  const auto refusal = [&](const std::vector<std::string>& tokens) {
    return test::error_of<Error>([&] { with_new_tokens(folder_.path(), tokens); });
  };
  EXPECT_THAT(refusal({"</s>"}), HasSubstr("it has the token </s> already (id 259)"));
  EXPECT_THAT(refusal({"<a>", ""}), HasSubstr("the new token number 2 is empty"));
  EXPECT_THAT(refusal({"<a>", "a"}), HasSubstr("\"a\" is an ordinary token already (id "));
  EXPECT_THAT(refusal({" "}), HasSubstr("\" \" is an ordinary token already (id "));
  EXPECT_THAT(refusal({"<a>", "hel"}), HasSubstr("\"hel\" is an ordinary token already (id 257)"));
  EXPECT_THAT(refusal({"<a>", "<b>", "<a>"}), HasSubstr("<a> is given twice"));
  EXPECT_THAT(refusal({"\xff"}), HasSubstr("not UTF-8"));
}

}  // namespace
}  // namespace moe
