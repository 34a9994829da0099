// Stop strings on a stream of text that may be cut anywhere.

#include "infer/stop_strings.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "infer/generate.h"

namespace moe {
namespace {

struct Shown {
  std::string text;
  bool stopped = false;
  bool operator==(const Shown&) const = default;
};

// Pushes `text` in pieces until it stops; `length_of(i)` is the length of piece i.
template <class LengthOf>
Shown show(const std::vector<std::string>& stop, std::string_view text, LengthOf length_of) {
  StopStrings strings(stop);
  Shown shown;
  for (uint64_t piece = 0; !text.empty() && !strings.stopped(); ++piece) {
    const std::string_view part = text.substr(0, static_cast<size_t>(length_of(piece)));
    shown.text += strings.push(part);
    text.remove_prefix(part.size());
  }
  shown.stopped = strings.stopped();
  shown.text += strings.flush();
  return shown;
}

Shown show(const std::vector<std::string>& stop, std::string_view text) {
  return show(stop, text, [&](uint64_t) { return text.size(); });
}

TEST(StopStrings, TextEndsBeforeTheStopString) {
  EXPECT_EQ(show({"END"}, "one END two"), (Shown{"one ", true}));
  EXPECT_EQ(show({"END"}, "END two"), (Shown{"", true}));
  EXPECT_EQ(show({"END"}, "one EN"), (Shown{"one EN", false}));
  EXPECT_EQ(show({}, "anything"), (Shown{"anything", false}));
}

TEST(StopStrings, ARepeatedBeginningIsFound) {
  EXPECT_EQ(show({"aab"}, "xaaab!"), (Shown{"xa", true}));
  EXPECT_EQ(show({"aab"}, "xaaab!", [](uint64_t) { return 1; }), (Shown{"xa", true}));
}

TEST(StopStrings, TheOneThatIsCompleteFirstCounts) {
  EXPECT_EQ(show({"abcd", "bc"}, "xabcd"), (Shown{"xa", true}));
  EXPECT_EQ(show({"c", "abc"}, "xabc"), (Shown{"x", true}));  // both end at the same byte
}

TEST(StopStrings, HoldsBackNoMoreThanAPossibleBeginning) {
  StopStrings strings({"\n\nUser:"});
  EXPECT_EQ(strings.push("Hello"), "Hello");
  EXPECT_EQ(strings.push(".\n"), ".");
  EXPECT_EQ(strings.push("\nUs"), "");
  EXPECT_EQ(strings.push("ual"), "\n\nUsual");
  EXPECT_EQ(strings.push("\n\n\n"), "\n");
  EXPECT_EQ(strings.push("User: no"), "");
  EXPECT_TRUE(strings.stopped());
  EXPECT_EQ(strings.flush(), "");
}

TEST(StopStrings, TheWayTextIsCutDoesNotMatter) {
  const std::vector<std::vector<std::string>> stops{{"ab"}, {"aba", "bb"}, {"aab", "ba", "abab"}, {"bbbb"}};
  const Random random(3, 0);
  uint64_t draw = 0;
  for (int round = 0; round < 500; ++round) {
    std::string text;
    for (int i = 0; i < 12; ++i) text += random.below(draw++, 3) == 0 ? 'c' : random.below(draw++, 2) == 0 ? 'a' : 'b';
    for (const auto& stop : stops) {
      const Shown bytewise = show(stop, text, [](uint64_t) { return 1; });
      const uint64_t cut = draw++;
      EXPECT_EQ(show(stop, text), bytewise) << text;
      EXPECT_EQ(show(stop, text, [&](uint64_t piece) { return 1 + random.below(cut * 100 + piece, 4); }), bytewise)
          << text;
    }
  }
}

}  // namespace
}  // namespace moe
