#include "tokenizer/normal_form.h"

#include <array>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/utf8.h"

namespace moe {
namespace {

constexpr std::array kForms{NormalForm::nfc, NormalForm::nfd, NormalForm::nfkc, NormalForm::nfkd};

std::array<std::string, 4> all_forms(std::string_view text) {
  std::array<std::string, 4> forms;
  for (size_t i = 0; i < kForms.size(); ++i) forms[i] = normalized(text, kForms[i]);
  return forms;
}

// The examples of Unicode's annex 15 and of the standard's chapter 3.
TEST(NormalForms, AreThoseOfTheStandard) {
  using Forms = std::array<std::string, 4>;
  EXPECT_EQ(all_forms("caf\u00e9"), (Forms{"caf\u00e9", "cafe\u0301", "caf\u00e9", "cafe\u0301"}));
  EXPECT_EQ(all_forms("cafe\u0301!"), (Forms{"caf\u00e9!", "cafe\u0301!", "caf\u00e9!", "cafe\u0301!"}));
  EXPECT_EQ(all_forms("\u212b\u2126"), (Forms{"\u00c5\u03a9", "A\u030a\u03a9", "\u00c5\u03a9", "A\u030a\u03a9"}));
  EXPECT_EQ(all_forms("\u1e9b\u0323"), (Forms{"\u1e9b\u0323", "\u017f\u0323\u0307", "\u1e69", "s\u0323\u0307"}));
  EXPECT_EQ(all_forms("\ufb01\u00b2"), (Forms{"\ufb01\u00b2", "\ufb01\u00b2", "fi2", "fi2"}));
  EXPECT_EQ(all_forms("\ud55c"), (Forms{"\ud55c", "\u1112\u1161\u11ab", "\ud55c", "\u1112\u1161\u11ab"}));
  EXPECT_EQ(all_forms("\u1112\u1161\u11ab\u1112"),
            (Forms{"\ud55c\u1112", "\u1112\u1161\u11ab\u1112", "\ud55c\u1112", "\u1112\u1161\u11ab\u1112"}));
  EXPECT_EQ(normalized("\uac00\u11a8\u11a8", NormalForm::nfc), "\uac01\u11a8");
  EXPECT_EQ(normalized("\uac00\u11a7", NormalForm::nfc), "\uac00\u11a7") << "no tail";
  EXPECT_EQ(normalized("\u0958", NormalForm::nfc), "\u0915\u093c") << "excluded from composition";
  EXPECT_EQ(normalized("a\u0315\u0300\u05ae\u0062", NormalForm::nfc), "\u00e0\u05ae\u0315\u0062") << "order of classes";
  EXPECT_EQ(normalized("a\u0345\u0301", NormalForm::nfc), "\u00e1\u0345");
  EXPECT_EQ(normalized("\u0061\u0301\u0300", NormalForm::nfc), "\u00e1\u0300") << "equal classes block";
  EXPECT_EQ(normalized("\u0301a", NormalForm::nfc), "\u0301a") << "nothing before it";
}

TEST(NormalForms, BytesThatAreNoCharacterStayAndJoinNothing) {
  EXPECT_EQ(normalized("e\xff\u0301\xe2\x80", NormalForm::nfc), "e\xff\u0301\xe2\x80");
  EXPECT_EQ(normalized("\xff"
                       "e\u0301",
                       NormalForm::nfc),
            "\xff\u00e9");
  EXPECT_EQ(normalized("", NormalForm::nfkd), "");
}

std::string random_text(std::mt19937& random) {
  // Letters, marks of many classes, jamo and syllables, characters with long decompositions, and some without any.
  static constexpr std::array<std::pair<char32_t, char32_t>, 12> kRanges{{{0x20, 0x7e},
                                                                          {0xc0, 0x24f},
                                                                          {0x300, 0x36f},
                                                                          {0x300, 0x36f},
                                                                          {0x591, 0x5c7},
                                                                          {0x900, 0x9ff},
                                                                          {0x1100, 0x11ff},
                                                                          {0xac00, 0xd7a3},
                                                                          {0x1e00, 0x1fff},
                                                                          {0xf900, 0xfb4f},
                                                                          {0x1d15e, 0x1d16e},
                                                                          {0x4e00, 0x4e20}}};
  std::string text;
  for (size_t i = random() % 40; i > 0; --i) {
    const auto [first, last] = kRanges[random() % kRanges.size()];
    utf8_append(text, first + static_cast<char32_t>(random()) % (last - first + 1));
  }
  return text;
}

TEST(NormalForms, OfANormalTextAreTheTextAndFollowFromEachOther) {
  std::mt19937 random(3);
  for (int i = 0; i < 20000; ++i) {
    const std::string text = random_text(random);
    const auto forms = all_forms(text);
    for (size_t form = 0; form < kForms.size(); ++form) {
      ASSERT_EQ(normalized(forms[form], kForms[form]), forms[form]) << text;
      ASSERT_TRUE(!is_surely_normal(text, kForms[form]) || forms[form] == text) << text;
    }
    ASSERT_EQ(normalized(forms[1], NormalForm::nfc), forms[0]) << text;
    ASSERT_EQ(normalized(forms[0], NormalForm::nfd), forms[1]) << text;
    ASSERT_EQ(normalized(forms[1], NormalForm::nfkd), forms[3]) << text;
    ASSERT_EQ(normalized(forms[3], NormalForm::nfkc), forms[2]) << text;
  }
}

TEST(NormalForms, DoNotDependOnWhereATextIsCutBeforeALetter) {
  std::mt19937 random(4);
  for (int i = 0; i < 2000; ++i) {
    const std::string a = random_text(random), b = random_text(random);
    for (const NormalForm form : kForms) {
      ASSERT_EQ(normalized(a + "x" + b, form), normalized(a, form) + normalized("x" + b, form));
    }
  }
}

}  // namespace
}  // namespace moe
