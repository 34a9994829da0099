#include "template/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/temporary_folder.h"

namespace moe::jinja {
namespace {

using test::error_of;
using test::TemporaryFolder;
using testing::HasSubstr;

const Value kNone = parse_variables("{}", "v");

std::string filled(const ChatTemplateSource& chosen, std::string_view variables) {
  return Template(chosen.source, chosen.origin).render(parse_variables(variables, "v")).text;
}

TEST(ChatTemplate, IsTheConfigurationsUnlessAFileHasOne) {
  const TemporaryFolder folder;
  write_file(folder / "tokenizer_config.json",
             R"({"chat_template": "A", "bos_token": {"content": "<b>"}, "eos_token": "<e>"})");
  EXPECT_EQ(load_chat_template(folder.path(), "", kNone).source, "A");
  EXPECT_EQ(load_chat_template(folder / "tokenizer.json", "", kNone).source, "A");
  write_file(folder / "chat_template.jinja", "B");
  EXPECT_EQ(load_chat_template(folder.path(), "", kNone).source, "B");
  const Value tokens =
      with_variables(parse_variables(R"({"eos_token": "mine"})", "v"), load_special_tokens(folder.path()));
  EXPECT_EQ(Template("{{ bos_token }}{{ eos_token }}", "t").render(tokens).text, "<b>mine");
}

TEST(ChatTemplate, OfSeveralToolsChooseTheirOwn) {
  const TemporaryFolder folder;
  write_file(folder / "tokenizer_config.json",
             R"({"chat_template": [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]})");
  EXPECT_EQ(load_chat_template(folder.path(), "", kNone).source, "D");
  EXPECT_EQ(load_chat_template(folder.path(), "", parse_variables(R"({"tools": null})", "v")).source, "D");
  EXPECT_EQ(load_chat_template(folder.path(), "", parse_variables(R"({"tools": []})", "v")).source, "T");
  EXPECT_EQ(load_chat_template(folder.path(), "tool_use", kNone).source, "T");
  EXPECT_THAT(error_of([&] { load_chat_template(folder.path(), "rag", kNone); }),
              HasSubstr("no chat template of the name \"rag\"; it has default, tool_use"));
  fs::create_directory(folder / "additional_chat_templates");
  write_file(folder / "additional_chat_templates/rag.jinja", "R");
  EXPECT_EQ(load_chat_template(folder.path(), "rag", kNone).source, "R");
}

TEST(ChatTemplate, WithoutOneItIsDeepSeekMoEsFormat) {
  const TemporaryFolder folder;
  const auto conversation = R"({"bos_token": "<B>", "eos_token": "<E>", "add_generation_prompt": true, "messages": [
      {"role": "user", "content": "One?"}, {"role": "assistant", "content": "Two."}, {"role": "user", "content": "Three?"}]})";
  const ChatTemplateSource built_in = load_chat_template(folder.path(), "", kNone);
  EXPECT_TRUE(built_in.built_in);
  EXPECT_EQ(filled(built_in, conversation), "<B>User: One?\n\nAssistant: Two.<E>User: Three?\n\nAssistant:");
  EXPECT_EQ(filled(built_in, R"({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}]})"),
            "S\n\nUser: Q\n\n");
  EXPECT_THAT(error_of([&] { filled(built_in, R"({"messages": [{"role": "tool", "content": "x"}]})"); }),
              HasSubstr("the role of a message is \"tool\""));
  write_file(folder / "config.json", R"({"model_type": "deepseek"})");
  EXPECT_TRUE(load_chat_template(folder.path(), "", kNone).built_in);
  write_file(folder / "config.json", R"({"model_type": "mixtral"})");
  EXPECT_THAT(error_of([&] { load_chat_template(folder.path(), "", kNone); }),
              HasSubstr("none is known for models of the type \"mixtral\"; give one with --template"));
}

TEST(ChatTemplate, TheBuiltInOneMarksAnswers) {
  const Rendered rendered = Template(deepseek_moe_template(), "t")
                                .render(parse_variables(R"({"eos_token": "<E>", "messages": [
          {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]})",
                                                        "v"));
  ASSERT_EQ(rendered.generated.size(), 1u);
  const Span span = rendered.generated[0];
  EXPECT_EQ(rendered.text.substr(span.begin, span.end - span.begin), " A<E>");
}

TEST(ChatTemplate, AWrongKindIsNamed) {
  const TemporaryFolder folder;
  write_file(folder / "tokenizer_config.json", R"({"chat_template": 5})");
  EXPECT_THAT(error_of([&] { load_chat_template(folder.path(), "", kNone); }),
              HasSubstr("\"chat_template\" is an integer, expected a string or a list"));
}

}  // namespace
}  // namespace moe::jinja
