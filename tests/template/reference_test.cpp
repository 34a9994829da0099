// Texts that Python's jinja2 made (make_reference.py), wherever the sources are; compare_templates.py does the same
// with published templates.

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "formats/json.h"
#include "template/chat_template.h"
#include "template/template.h"

namespace moe::jinja {
namespace {

using Ordered = nlohmann::ordered_json;  // variables keep their order

constexpr const char* kFolder = MOE_SOURCE_DIR "/tests/template/";

const Ordered& reference() {
  static const Ordered document = Ordered::parse(read_file(std::string(kFolder) + "reference.json"));
  return document;
}

std::string ours(std::string_view source, const Value& variables) {
  try {
    return Template(source, "template").render(variables).text;
  } catch (const Error& error) {
    return std::string("refused: ") + error.what();
  }
}

void expect_text(const std::string& text, const Ordered& expected, const std::string& source) {
  if (expected.is_null()) {
    EXPECT_TRUE(text.starts_with("refused: ")) << source << "\ngives " << text;
  } else {
    EXPECT_EQ(text, expected.get<std::string>()) << source;
  }
}

TEST(TemplateReference, SnippetsAreJinja2s) {
  const Value variables = parse_variables(reference().at("variables").dump(), "variables");
  ASSERT_GT(reference().at("snippets").size(), 700u);
  for (const Ordered& each : reference().at("snippets")) {
    const std::string source = each.at("source");
    expect_text(ours(source, variables), each.at("text"), source);
  }
}

TEST(TemplateReference, ConversationsAreJinja2s) {
  ASSERT_EQ(reference().at("chats").size(), 60u);
  for (const Ordered& each : reference().at("chats")) {
    const std::string name = each.at("template"), context = each.at("context");
    const std::string source = read_file(std::string(kFolder) + "chat_templates/" + name);
    const Value variables = parse_variables(reference().at("contexts").at(context).dump(), context);
    expect_text(ours(source, variables), each.at("text"), name + ", " + context);
  }
}

TEST(TemplateReference, TheBuiltInTemplateIsTheOneThatWasCompared) {
  EXPECT_EQ(deepseek_moe_template(), read_file(std::string(kFolder) + "chat_templates/deepseek_moe.jinja"));
}

}  // namespace
}  // namespace moe::jinja
