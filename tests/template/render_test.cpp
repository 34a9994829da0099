// What the engine promises beyond jinja2's texts: spans, limits, threads, errors with lines, and what is left at the
// end.

#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "template/template.h"
#include "tests/support/temporary_folder.h"

namespace moe::jinja {
namespace {

using test::error_of;
using testing::HasSubstr;

std::string render(std::string_view source, std::string_view variables = "{}", const RenderOptions& options = {}) {
  return Template(source, "chat.jinja").render(parse_variables(variables, "v.json"), options).text;
}

std::string refusal(std::string_view source, std::string_view variables = "{}", const RenderOptions& options = {}) {
  return error_of([&] { render(source, variables, options); });
}

TEST(Render, SpansAreWhatGenerationBlocksWrote) {
  const Template chat(
      "{% for m in messages %}<{{ m }}>{% if loop.index is even %}{% generation %}ä{{ m }}{% endgeneration %}{% endif "
      "%}{% endfor %}!",
      "chat.jinja");
  const Rendered rendered = chat.render(parse_variables(R"({"messages": ["q", "a", "r", "bb"]})", "v"));
  EXPECT_EQ(rendered.text, "<q><a>äa<r><bb>äbb!");
  ASSERT_EQ(rendered.generated.size(), 2u);
  const auto part = [&](size_t i) {
    const Span span = rendered.generated[i];
    return rendered.text.substr(span.begin, span.end - span.begin);
  };
  EXPECT_EQ(part(0), "äa");
  EXPECT_EQ(part(1), "äbb");
  EXPECT_FALSE(rendered.generated_elsewhere);
}

TEST(Render, AGenerationBlockInsideAValueHasNoPlace) {
  const Rendered rendered = Template("{% macro m() %}{% generation %}x{% endgeneration %}{% endmacro %}{{ m() }}", "t")
                                .render(parse_variables("{}", "v"));
  EXPECT_EQ(rendered.text, "x");
  EXPECT_TRUE(rendered.generated.empty());
  EXPECT_TRUE(rendered.generated_elsewhere);
}

TEST(Render, ErrorsNameTheTemplateAndTheLine) {
  EXPECT_EQ(refusal("a\n{% for x in [1] %}\n{{ raise_exception('roles must alternate') }}{% endfor %}"),
            "chat.jinja, line 3: roles must alternate");
  EXPECT_EQ(refusal("a\n\n{{ missing.x }}"), "chat.jinja, line 3: 'missing' is undefined");
  EXPECT_EQ(refusal("{{ d.x.y }}", R"({"d": {}})"), "chat.jinja, line 1: 'dict' has no attribute 'x'");
  EXPECT_EQ(refusal("{#- c -#}\r\n{%- raw %}\n\n{% endraw -%}\n{% nope %}"),
            "chat.jinja, line 5: there is no block \"nope\" here");
  EXPECT_EQ(refusal("\n{{ 1 | nope }}"), "chat.jinja, line 2: there is no filter \"nope\"");
  EXPECT_THAT(refusal("\n{% if x %}\n\n"), HasSubstr("line 3: the template ends inside a block that began at line 2"));
  EXPECT_THAT(refusal("\xff"), HasSubstr("not UTF-8 from byte 0"));
}

TEST(Render, LinesOfErrorsAfterAMacroAreTheCallers) {
  EXPECT_EQ(refusal("{% macro m() %}\n\nx\n{% endmacro %}\n{{ m() + missing }}"),
            "chat.jinja, line 5: 'missing' is undefined");
}

TEST(Render, AHostileTemplateEnds) {
  const RenderOptions brief{.limits = {.steps = 100'000}};
  const RenderOptions small{.limits = {.live_bytes = 1 << 20, .depth = 300}};
  EXPECT_THAT(refusal("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", "{}", brief),
              HasSubstr("more than 100000 steps"));
  EXPECT_THAT(refusal("{{ 'x' * 10000000 }}", "{}", small), HasSubstr("more than 1048576 bytes"));
  EXPECT_THAT(refusal("{% for a in range(9999) %}{{ 'x' * 500 }}{% endfor %}", "{}", small),
              HasSubstr("1048576 bytes"));
  EXPECT_THAT(refusal("{% set ns = namespace(x='x') %}{% for a in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
                      "{}", small),
              HasSubstr("1048576 bytes"));
  EXPECT_THAT(
      refusal(
          "{% set ns = namespace(x=[1]) %}{% for a in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
          "{}", small),
      testing::AnyOf(HasSubstr("steps"), HasSubstr("bytes")));
  EXPECT_THAT(refusal("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{}", small),
              HasSubstr("more than 300 levels"));
  EXPECT_THAT(refusal("{{ 'ab'.center(99999999999) }}"), HasSubstr("bytes"));
  EXPECT_THAT(refusal("{{ '%999999999d' % 1 }}"), HasSubstr("1000000"));
  EXPECT_THAT(refusal("{{ 9999 ** 9999 }}"), HasSubstr("64 bits"));
  EXPECT_THAT(refusal("{{ 'aaaa'.replace('', 'x' * 100000) | replace('', 'x' * 100000) | length }}"),
              HasSubstr("bytes"));
}

TEST(Render, RealNumbersThatNoIntegerHoldsAreRefused) {
  const std::string huge = "5" + std::string(40, '0') + ".5";
  for (const std::string& text :
       {"'%d' % " + huge, "'%5.3d' % -" + huge, huge + " | int", "(-" + huge + ") | filesizeformat"}) {
    EXPECT_THAT(refusal("{{ " + text + " }}"), HasSubstr("is more than an integer of 64 bits holds")) << text;
  }
  for (const std::string_view text :
       {"'%d' % ('inf' | float)", "('inf' | float) | int", "('-inf' | float) | filesizeformat"}) {
    EXPECT_THAT(refusal(fmt::format("{{{{ {} }}}}", text)), HasSubstr("cannot convert float infinity to integer"))
        << text;
  }
  EXPECT_THAT(refusal("{{ '%d' % ('nan' | float) }}"), HasSubstr("cannot convert float NaN to integer"));
  EXPECT_EQ(render("{{ ('nan' | float) | int(7) }} {{ 'inf' | int(7) }}"), "7 7");
  EXPECT_EQ(render("{{ (" + huge + ").is_integer() }} {{ (2.5).is_integer() }} {{ ('inf' | float).is_integer() }}"),
            "True False False");
}

TEST(Render, DeepNestingIsRefusedWhenItIsParsed) {
  EXPECT_THAT(refusal("{{ " + std::string(100'000, '(') + "1" + std::string(100'000, ')') + " }}"),
              HasSubstr("inside more than 200 others"));
  EXPECT_THAT(refusal("{{ " + std::string(100'000, '-') + "1 }}"), HasSubstr("inside more than 200 others"));
  std::string sums = "{{ 1", blocks;
  for (int i = 0; i < 100'000; ++i) sums += "+1", blocks += "{% if x %}";
  EXPECT_THAT(refusal(sums + " }}"), HasSubstr("more than 1000 levels"));
  EXPECT_THAT(refusal(blocks), HasSubstr("inside more than 200 others"));
  EXPECT_EQ(render("{{ 1 ~ 2 ~ 3 }}"), "123");
}

TEST(Render, MacrosThatCallThemselvesEndBeforeTheStackDoes) {
  EXPECT_THAT(refusal("{% macro m(x) %}{% for i in [1] %}{% if x %}{{ m([x, m(x)] | first) }}{% endif %}{% endfor %}{% "
                      "endmacro %}{{ m(1) }}"),
              HasSubstr("levels deep"));
}

TEST(Render, SeveralThreadsMayRenderAtOnce) {
  const Template chat(
      "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + m %}{{ ns.n }},{% endfor %}", "t");
  const Value variables = parse_variables(R"({"messages": [1, 2, 3, 4]})", "v");
  std::vector<std::thread> threads;
  std::vector<int> right(4, 0);
  for (int& each : right) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) each += chat.render(variables).text == "1,3,6,10,";
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(right, testing::Each(200));
}

TEST(Render, NothingOfARenderingIsLeft) {
  // Values that hold themselves: a namespace in itself, a macro in its scope, a loop in a namespace. The sanitizer's
  // leak check sees them where they stay.
  EXPECT_EQ(render("{% set ns = namespace() %}{% set ns.self = ns %}{% macro m() %}{{ m.name }}{% endmacro %}{{ m() }}"
                   "{% for x in [1] %}{% set ns.loop = loop %}{% set ns.m = m %}{% endfor %}"),
            "m");
}

TEST(Render, TimeIsThatOfTheOptions) {
  const RenderOptions options{.now = 86'400 * 45};
  EXPECT_EQ(render("{{ strftime_now('%Y-%m') }}{{ strftime_now('%d %B %%') | length }}", "{}", options), "1970-0213");
}

TEST(Render, TwoThousandMessagesTakeFewSteps) {
  std::string messages = R"({"messages": [)";
  for (int i = 0; i < 2000; ++i) {
    messages += fmt::format(R"({}{{"role": "{}", "content": "Message {} of a long conversation."}})",
                            i == 0 ? "" : ", ", i % 2 == 0 ? "user" : "assistant", i);
  }
  messages += "]}";
  const RenderOptions options{.limits = {.steps = 200'000}};
  const std::string text = render(
      "{% for m in messages %}{{ '<|' + m.role + '|>' + m['content'] | trim }}{% if not loop.last %}\n{% endif %}{% "
      "endfor %}",
      messages, options);
  EXPECT_THAT(text, HasSubstr("<|user|>Message 1998"));
}

TEST(Variables, KeepTheirOrderAndTheirTypes) {
  EXPECT_EQ(render("{{ d }}", R"({"d": {"z": 1, "a": 1.0, "m": [null, true], "z": 2}})"),
            "{'z': 2, 'a': 1.0, 'm': [None, True]}");
  EXPECT_EQ(render("{{ n }}", R"({"n": -9223372036854775808})"), "-9223372036854775808");
}

TEST(Variables, MistakesAreNamed) {
  const auto parse = [](std::string_view text) { return error_of([&] { parse_variables(text, "v.json"); }); };
  EXPECT_THAT(parse("[1]"), HasSubstr("v.json: found a 'list', expected an object"));
  EXPECT_THAT(parse("{\"a\": 1"), HasSubstr("v.json: not valid JSON at line 1"));
  EXPECT_THAT(parse(R"({"a": 18446744073709551615})"), HasSubstr("18446744073709551615"));
  EXPECT_THAT(parse(R"({"a": 123456789012345678901234567890})"), HasSubstr("64 bits"));
}

}  // namespace
}  // namespace moe::jinja
