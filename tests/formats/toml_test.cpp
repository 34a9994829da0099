#include "formats/toml.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using test::error_of;
using testing::ElementsAre;
using testing::HasSubstr;

using Strings = std::vector<std::string>;
using Numbers = std::vector<double>;

constexpr const char* kRunFile = R"(# a run
seed = 7

[train]
steps = 100
rate = 1e-3
recompute = true
name = "a \"b\" ü"
weights = [1, 2.5]
layers = [1, 2]
names = ["a", "b"]
none = []

[train.schedule]
kind = "cosine"
)";

Settings settings() { return Settings::parse(kRunFile, "run.toml"); }

std::string usage_error_of(const std::function<void()>& function) { return error_of<UsageError>(function); }

TEST(Settings, ReadsEveryType) {
  Settings s = settings();
  EXPECT_EQ(s.get<int64_t>("seed", 0), 7);
  EXPECT_EQ(s.get<int64_t>("train.steps", 0), 100);
  EXPECT_EQ(s.get<double>("train.rate", 0), 1e-3);
  EXPECT_EQ(s.get<bool>("train.recompute", false), true);
  EXPECT_EQ(s.get<std::string>("train.name", ""), "a \"b\" ü");
  EXPECT_THAT(s.get<Numbers>("train.weights", {}), ElementsAre(1.0, 2.5));
  EXPECT_THAT(s.get<std::vector<int64_t>>("train.layers", {}), ElementsAre(1, 2));
  EXPECT_THAT(s.get<Strings>("train.names", {}), ElementsAre("a", "b"));
  EXPECT_THAT(s.get<Strings>("train.none", {"x"}), testing::IsEmpty());
  EXPECT_EQ(s.get<std::string>("train.schedule.kind", ""), "cosine");
  s.finish();
}

TEST(Settings, AnIntegerIsANumberButANumberIsNoInteger) {
  Settings s = settings();
  EXPECT_EQ(s.get<double>("train.steps", 0), 100.0);
  EXPECT_THAT(s.get<Numbers>("train.layers", {}), ElementsAre(1.0, 2.0));
  EXPECT_EQ(usage_error_of([&] { s.get<int64_t>("train.rate", 0); }),
            "run.toml:6: train.rate is 0.001, expected an integer");
}

TEST(Settings, DefaultsStandWhereNothingIsGiven) {
  Settings s = settings();
  EXPECT_EQ(s.get<int64_t>("train.warmup", 5), 5);
  EXPECT_FALSE(s.given("train.warmup"));
  EXPECT_FALSE(s.find<double>("train.decay").has_value());
  EXPECT_EQ(s.where("train.warmup"), "default");
  EXPECT_EQ(s.where("train.steps"), "run.toml:5");
}

TEST(Settings, ARequiredKeyThatIsMissingIsNamed) {
  Settings s = settings();
  EXPECT_EQ(usage_error_of([&] { s.require<std::string>("run.dir"); }),
            "run.toml: run.dir is missing, expected a string; add it or use --set run.dir=...");
  EXPECT_EQ(s.require<int64_t>("seed"), 7);
}

TEST(Settings, AWrongTypeIsNamedWithFileLineAndExpectation) {
  Settings s = Settings::parse("[train]\n\nsteps = \"abc\"\nflag = 1\nlist = [1, 2]\nword = 3\n", "configs/demo.toml");
  EXPECT_EQ(usage_error_of([&] { s.get<int64_t>("train.steps", 0); }),
            "configs/demo.toml:3: train.steps is \"abc\", expected an integer");
  EXPECT_EQ(usage_error_of([&] { s.get<double>("train.steps", 0); }),
            "configs/demo.toml:3: train.steps is \"abc\", expected a number");
  EXPECT_EQ(usage_error_of([&] { s.get<bool>("train.flag", false); }),
            "configs/demo.toml:4: train.flag is 1, expected true or false");
  EXPECT_EQ(usage_error_of([&] { s.get<Strings>("train.list", {}); }),
            "configs/demo.toml:5: train.list is [1, 2], expected a list of strings, for instance [\"a\", \"b\"]");
  EXPECT_EQ(usage_error_of([&] { s.get<std::string>("train.word", ""); }),
            "configs/demo.toml:6: train.word is 3, expected a string");
}

TEST(Settings, OverridesReplaceAndAddInTheirOrder) {
  Settings s = settings();
  s.set("train.steps=5");
  s.set("train.steps = 6");
  s.set("run.dir=runs/x y");
  s.set("run.label=007");
  s.set("train.rate=2");
  s.set("train.names=[\"c\"]");
  s.set("train.recompute=false");
  s.set("run.empty=");
  EXPECT_EQ(s.get<int64_t>("train.steps", 0), 6);
  EXPECT_EQ(s.get<std::string>("run.dir", ""), "runs/x y");
  EXPECT_EQ(s.get<std::string>("run.label", ""), "007");
  EXPECT_EQ(s.get<double>("train.rate", 0), 2.0);
  EXPECT_THAT(s.get<Strings>("train.names", {}), ElementsAre("c"));
  EXPECT_FALSE(s.get<bool>("train.recompute", true));
  EXPECT_EQ(s.get<std::string>("run.empty", "x"), "");
  EXPECT_EQ(s.where("train.steps"), "--set train.steps = 6");
}

TEST(Settings, AStringOverrideMayLookLikeAnyOtherType) {
  for (const char* text : {"123", "1.50", "true", "[1]", "a=b", "2024-01-01"}) {
    Settings s;
    s.set(std::string("run.name=") + text);
    EXPECT_EQ(s.get<std::string>("run.name", ""), text);
  }
  Settings quoted;
  quoted.set("run.name=\"a b\"");
  EXPECT_EQ(quoted.get<std::string>("run.name", ""), "a b");
}

TEST(Settings, AnOverrideOfTheWrongTypeNamesItself) {
  Settings s = settings();
  s.set("train.steps=many");
  EXPECT_EQ(usage_error_of([&] { s.get<int64_t>("train.steps", 0); }),
            "--set train.steps=many: train.steps is \"many\", expected an integer");
}

TEST(Settings, AnOverrideWithoutKeyOrValueIsRefused) {
  Settings s;
  for (const char* text : {"train.steps", "=3", ""}) {
    EXPECT_EQ(usage_error_of([&] { s.set(text); }),
              fmt::format("--set {}: expected KEY=VALUE, for instance --set train.steps=100", text));
  }
}

TEST(Settings, AnUnknownKeyIsRefusedWithTheClosestKnownOne) {
  Settings s = Settings::parse("[train]\nsteps = 3\nsteos = 4\nwarmpu = 5\n", "r.toml");
  s.get<int64_t>("train.steps", 0);
  s.get<int64_t>("train.warmup", 0);
  EXPECT_EQ(usage_error_of([&] { s.finish(); }),
            "2 mistakes in the settings:\n"
            "  r.toml:3: unknown key train.steos; did you mean train.steps?\n"
            "  r.toml:4: unknown key train.warmpu; did you mean train.warmup?");
}

TEST(Settings, KeptMistakesAreToldWithTheUnknownKeysInTheOrderOfTheFile) {
  Settings s = Settings::parse("[train]\nsteos = 4\nrows = 0\n", "r.toml");
  s.get<int64_t>("train.rows", 1);
  s.know("train.steps", "iterations");
  s.keep_mistake("train.rows", UsageError("r.toml:3: rows"));
  EXPECT_TRUE(s.has_mistakes());
  EXPECT_EQ(usage_error_of([&] { s.finish(); }),
            "2 mistakes in the settings:\n  r.toml:2: unknown key train.steos; did you mean train.steps?\n  r.toml:3: "
            "rows");
}

TEST(Settings, AnotherWordForAKeyIsKnown) {
  Settings s = Settings::parse("[model]\nIterations = 3\n", "r.toml");
  s.know("train.steps", "iterations max_steps");
  EXPECT_EQ(usage_error_of([&] { s.finish(); }), "r.toml:2: unknown key model.Iterations; did you mean train.steps?");
}

TEST(Settings, TheRightKeyInTheWrongSectionIsSuggested) {
  Settings s = Settings::parse("[optimizer]\nsteps = 3\n", "r.toml");
  s.get<int64_t>("train.steps", 0);
  s.get<double>("optimizer.beta1", 0.9);
  EXPECT_EQ(usage_error_of([&] { s.finish(); }), "r.toml:2: unknown key optimizer.steps; did you mean train.steps?");
}

TEST(Settings, AnUnknownKeyLikeNoOtherGetsTheKeysOfItsSectionOrTheSections) {
  Settings s = Settings::parse("[train]\nquux = 3\n", "r.toml");
  s.get<int64_t>("train.steps", 0);
  s.get<int64_t>("train.warmup", 0);
  s.get<std::string>("run.dir", "");
  EXPECT_EQ(usage_error_of([&] { s.finish(); }),
            "r.toml:2: unknown key train.quux; the keys of [train] are steps, warmup");
  s = Settings();
  s.set("nonsense.quux=1");
  s.get<int64_t>("train.steps", 0);
  s.get<std::string>("run.dir", "");
  EXPECT_EQ(usage_error_of([&] { s.finish(); }),
            "--set nonsense.quux=1: unknown key nonsense.quux; the sections are [run], [train]");
}

TEST(Settings, ASectionsUnknownKeysAreRefusedByThemselves) {
  Settings s = Settings::parse("other = 1\n[train]\nsteps = 3\n[study]\nseedz = [1]\n", "r.toml");
  s.get<std::vector<int64_t>>("study.seeds", {});
  EXPECT_EQ(usage_error_of([&] { s.finish("study"); }), "r.toml:5: unknown key study.seedz; did you mean study.seeds?");
  s.drop_section("study");
  s.finish("study");
  EXPECT_THAT(usage_error_of([&] { s.finish(); }), testing::HasSubstr("\n  r.toml:1: unknown key other"));
}

TEST(Settings, SyntaxErrorsNameFileAndLine) {
  EXPECT_THAT(usage_error_of([] { Settings::parse("a = 1\nb = = 2\n", "r.toml"); }),
              testing::StartsWith("r.toml:2: this is not valid TOML: "));
  EXPECT_THAT(usage_error_of([] { Settings::parse("a = 1\na = 2\n", "r.toml"); }),
              testing::StartsWith("r.toml:2: this is not valid TOML: "));
  EXPECT_EQ(usage_error_of([] { Settings::parse("when = 2024-01-01\n", "r.toml"); }),
            "r.toml:1: when is a date or time, which no key takes");
  EXPECT_EQ(usage_error_of([] { Settings::parse("a = [1, \"b\"]\n", "r.toml"); }),
            "r.toml:1: the list in a mixes types, expected only integers, only numbers, only booleans or only strings");
  EXPECT_EQ(usage_error_of([] { Settings::parse("a = [[\"b\"]]\n", "r.toml"); }),
            "r.toml:1: the list in a has a list in it, which no key takes");
  EXPECT_EQ(usage_error_of([] {
              Settings empty = Settings::parse("a = []\n", "r.toml");
              empty.take_as_paths("a");
            }),
            "r.toml:1: the list in a is empty, expected at least one path");
  EXPECT_EQ(usage_error_of([] { Settings().set("run.dir=x\xff"); }),
            "--set run.dir=x\uFFFD: the value of run.dir is x\uFFFD, which is not UTF-8; choose a name in UTF-8");
  EXPECT_EQ(usage_error_of([] {
              Settings::parse("\"a.b\" = 1\n[a]\nb = 2\n", "r.toml").get<int64_t>("a.b", 0);
            }).substr(0, 7),
            "r.toml:");
}

TEST(Settings, AMissingFileIsNamed) {
  EXPECT_EQ(error_of<Error>([] { Settings::load("no/such/run.toml"); }),
            "cannot open no/such/run.toml: No such file or directory");
}

TEST(Settings, ARefusedValueSaysWhereItStands) {
  Settings s = settings();
  s.get<int64_t>("train.steps", 1);
  s.get<int64_t>("train.rows", 0);
  EXPECT_EQ(usage_error_of([&] { s.refuse("train.steps", "at most 50"); }),
            "run.toml:5: train.steps is 100, expected at most 50");
  EXPECT_EQ(usage_error_of([&] { s.refuse("train.rows", "at least 1"); }),
            "default: train.rows is 0, expected at least 1");
}

TEST(Settings, TheResolvedFileHasDefaultsAndOverridesBySection) {
  Settings s = settings();
  s.set("train.steps=9");
  s.get<int64_t>("train.steps", 1);
  s.get<int64_t>("seed", 0);
  s.get<bool>("run.resume", false);
  s.get<std::string>("train.schedule.kind", "");
  s.get<Strings>("train.names", {});
  s.get<double>("train.warmup", 2);
  s.find<double>("train.absent");
  EXPECT_EQ(s.to_toml(),
            "seed = 7\n\n[run]\nresume = false\n\n[train]\nnames = [\"a\", \"b\"]\nsteps = 9\nwarmup = 2.0\n\n"
            "[train.schedule]\nkind = \"cosine\"\n");
}

TEST(Settings, TheResolvedFileReadsBackToTheSameValues) {
  const std::string odd("quote \" slash \\ line\nbreak tab\t bell\x07 delete\x7f ü 中", 48);
  const std::vector<double> numbers = {
      0.1, 1e-8, -0.0, 1e300, 3, 0x1.fffffffffffffp+1023, 4.9e-324, std::numeric_limits<double>::infinity(), 1.0 / 3};
  const std::vector<int64_t> integers = {0, -1, std::numeric_limits<int64_t>::max(),
                                         std::numeric_limits<int64_t>::min()};
  Settings s;
  s.get<std::string>("a.text", odd);
  s.get<Numbers>("a.numbers", numbers);
  s.get<std::vector<int64_t>>("a.integers", integers);
  s.get<std::vector<bool>>("a.flags", {true, false});
  s.get<double>("a.odd key!", 5);
  for (size_t i = 0; i < numbers.size(); ++i) s.get<double>("n.x" + std::to_string(i), numbers[i]);
  Settings back = Settings::parse(s.to_toml(), "resolved");
  EXPECT_EQ(back.get<std::string>("a.text", ""), odd);
  EXPECT_EQ(back.get<Numbers>("a.numbers", {}), numbers);
  EXPECT_EQ(back.get<std::vector<int64_t>>("a.integers", {}), integers);
  EXPECT_EQ(back.get<std::vector<bool>>("a.flags", {}), (std::vector<bool>{true, false}));
  EXPECT_EQ(back.get<double>("a.odd key!", 0), 5.0);
  for (size_t i = 0; i < numbers.size(); ++i) {
    const double value = back.get<double>("n.x" + std::to_string(i), 7);
    EXPECT_EQ(value, numbers[i]);
    EXPECT_EQ(std::signbit(value), std::signbit(numbers[i]));
  }
  back.finish();
  EXPECT_EQ(back.to_toml(), s.to_toml());
}

TEST(EditDistance, CountsInsertionsDeletionsReplacementsAndSwaps) {
  EXPECT_EQ(edit_distance("", ""), 0);
  EXPECT_EQ(edit_distance("steps", "steps"), 0);
  EXPECT_EQ(edit_distance("", "abc"), 3);
  EXPECT_EQ(edit_distance("steps", "step"), 1);
  EXPECT_EQ(edit_distance("steps", "stpes"), 1);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
}

}  // namespace
}  // namespace moe
