// Pages have owners, are found by their texts, and are lost and leaked never.

#include "infer/page_pool.h"

#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"

namespace moe::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Ids = std::vector<int32_t>;

/// Takes and publishes pages of 2 tokens for `ids`, as a sequence does that computes them all.
Ids publish_all(PagePool& pool, const Ids& ids) {
  Ids pages = pool.find(ids, static_cast<int64_t>(ids.size()) / 2);
  pool.share(pages);
  for (size_t at = pages.size() * 2; at + 2 <= ids.size(); at += 2) {
    pages.push_back(pool.take());
    pool.publish(pages.back(), at == 0 ? -1 : pages[pages.size() - 2], std::span(ids).subspan(at, 2));
  }
  return pages;
}

TEST(PagePool, FindsTheLongestBeginningInWholePages) {
  PagePool pool(10, 2);
  const Ids pages = publish_all(pool, {1, 2, 3, 4, 5, 6});
  EXPECT_EQ(pool.find(Ids{1, 2, 3, 4, 5, 6, 7}, 9), pages);
  EXPECT_THAT(pool.find(Ids{1, 2, 3, 4, 5}, 9), ElementsAre(pages[0], pages[1]));
  EXPECT_THAT(pool.find(Ids{1, 2, 3, 4, 5, 6}, 1), ElementsAre(pages[0]));
  EXPECT_THAT(pool.find(Ids{3, 4, 5, 6}, 9), IsEmpty()) << "the same tokens after another text";
  EXPECT_THAT(pool.find(Ids{1, 2, 5, 6}, 9), ElementsAre(pages[0]));
}

TEST(PagePool, TextsOfOneHashAreToldApart) {
  PagePool pool(20, 2, 0);  // every page has the hash 0
  const Ids first = publish_all(pool, {1, 2, 3, 4}), second = publish_all(pool, {3, 4, 1, 2});
  EXPECT_EQ(pool.find(Ids{1, 2, 3, 4}, 9), first);
  EXPECT_EQ(pool.find(Ids{3, 4, 1, 2}, 9), second);
  EXPECT_THAT(pool.find(Ids{3, 4, 3, 4}, 9), ElementsAre(second[0]));
  EXPECT_THAT(pool.find(Ids{2, 1}, 9), IsEmpty());
}

TEST(PagePool, KeepsPagesWithoutOwnersUntilTheyAreNeededTheLongestUnusedFirst) {
  PagePool pool(6, 2);
  const Ids old_text{1, 2, 3, 4}, new_text{5, 6, 7, 8};
  const Ids older = publish_all(pool, old_text), newer = publish_all(pool, new_text);
  pool.release(newer);
  pool.release(older);
  pool.share(pool.find(new_text, 9));  // is used again, so the other text is now the older one
  pool.release(newer);
  EXPECT_EQ(pool.available(), 6);
  EXPECT_EQ(pool.unowned(), 4);
  pool.take(), pool.take();  // the two that nobody used
  EXPECT_EQ(pool.find(old_text, 9), older);
  pool.take();
  EXPECT_THAT(pool.find(old_text, 9), ElementsAre(older[0])) << "the end of a text goes before its beginning";
  EXPECT_EQ(pool.find(new_text, 9), newer);
  pool.take();
  EXPECT_THAT(pool.find(old_text, 9), IsEmpty());
  EXPECT_EQ(pool.find(new_text, 9), newer);
}

TEST(PagePool, PagesWithOwnersStay) {
  PagePool pool(3, 2);
  const Ids text{1, 2, 3, 4};
  const Ids pages = publish_all(pool, text);
  pool.share(pages);
  pool.release(pages);
  EXPECT_EQ(pool.available(), 1);
  EXPECT_EQ(pool.owners(pages[0]), 1);
  pool.release(pages);
  EXPECT_EQ(pool.available(), 3);
}

TEST(PagePool, ASecondPageOfATextIsNotPublished) {
  PagePool pool(8, 2);
  const Ids first = publish_all(pool, {1, 2});
  const int32_t twin = pool.take(), after = pool.take();
  EXPECT_FALSE(pool.publish(twin, -1, Ids{1, 2}));
  EXPECT_FALSE(pool.publish(after, twin, Ids{3, 4})) << "it follows a page that nobody can find";
  EXPECT_THAT(pool.find(Ids{1, 2, 3, 4}, 9), ElementsAre(first[0]));
  pool.release(Ids{twin, after});
  EXPECT_EQ(pool.available(), 7);
  EXPECT_EQ(pool.unowned(), 0);
}

TEST(PagePool, FindsThePageWithTheLongestBeginning) {
  PagePool pool(10, 4);
  const auto publish = [&](int32_t before, const Ids& tokens) {
    const int32_t page = pool.take();
    EXPECT_TRUE(pool.publish(page, before, tokens));
    return page;
  };
  const int32_t first = publish(-1, {1, 2, 3, 4}), part = publish(first, {5, 6}), longer = publish(first, {5, 6, 7});
  const int32_t other = publish(-1, {5, 6, 7, 8});
  const auto found = [&](int32_t before, const Ids& ids) {
    const PageBeginning beginning = pool.find_beginning(before, ids);
    return std::pair(beginning.page, beginning.tokens);
  };
  EXPECT_EQ(found(first, {5, 6, 7, 8}), std::pair(longer, int64_t{3}));
  EXPECT_EQ(found(first, {5, 6, 1}), std::pair(std::min(part, longer), int64_t{2}));
  EXPECT_EQ(found(first, {1, 2}), std::pair(-1, int64_t{0}));
  EXPECT_EQ(found(first, {}), std::pair(-1, int64_t{0}));
  EXPECT_EQ(found(-1, {5, 6}), std::pair(other, int64_t{2})) << "the same tokens at the beginning of a text";
  EXPECT_EQ(found(-1, {1, 2, 3, 9}), std::pair(first, int64_t{3}));
  EXPECT_THAT(pool.find(Ids{1, 2, 3, 4, 5, 6}, 9), ElementsAre(first)) << "it lists full pages alone";
  const int32_t twin = pool.take();
  EXPECT_FALSE(pool.publish(twin, first, Ids{5, 6}));
}

TEST(PagePool, ForgetsAllTextsButTheBeginningOfOne) {
  PagePool pool(10, 2);
  const Ids text = publish_all(pool, {1, 2, 3, 4, 5, 6}), branch = publish_all(pool, {1, 2, 7, 8});
  const Ids other = publish_all(pool, {5, 6});
  pool.release(text);
  pool.release(branch);
  pool.release(other);
  pool.forget_all_but(Ids{1, 2, 3, 4, 5});
  EXPECT_EQ(pool.find(Ids{1, 2, 3, 4, 5, 6}, 9), (Ids{text[0], text[1]}));
  EXPECT_EQ(pool.find_beginning(text[1], Ids{5, 6}).page, text[2]);
  EXPECT_EQ(pool.find_beginning(text[1], Ids{5, 6}).tokens, 1) << "only what was named is kept";
  EXPECT_THAT(pool.find(Ids{1, 2, 7, 8}, 9), ElementsAre(text[0]));
  EXPECT_EQ(pool.find_beginning(text[0], Ids{7, 8}).tokens, 0);
  EXPECT_THAT(pool.find(Ids{5, 6}, 9), IsEmpty());
  EXPECT_EQ(pool.unowned(), 3);
  EXPECT_EQ(pool.available(), 10);
  pool.forget_all_but({});
  EXPECT_EQ(pool.unowned(), 0);
  EXPECT_EQ(pool.available(), 10);
}

TEST(PagePool, ForgettingLeavesPagesToTheirOwners) {
  PagePool pool(6, 2);
  const Ids kept = publish_all(pool, {1, 2, 3, 4}), gone = publish_all(pool, {5, 6});
  pool.release(gone);
  pool.forget_all_but({});
  EXPECT_EQ(pool.available(), 4);
  EXPECT_EQ(pool.unowned(), 0);
  EXPECT_THAT(pool.find(Ids{1, 2}, 9), IsEmpty());
  pool.release(kept);
  EXPECT_EQ(pool.available(), 6);
}

TEST(PagePool, NothingLeaksAndNothingIsFoundThatIsNotTheText) {
  constexpr int64_t kPages = 24;
  for (const int hash_bits : {0, 2, 64}) {
    PagePool pool(kPages, 2, hash_bits);
    const Random random(5, static_cast<uint64_t>(hash_bits));
    uint64_t draw = 0;
    const auto below = [&](uint64_t most) { return random.below(draw++, most); };
    std::vector<Ids> held;
    std::map<int32_t, Ids> content;  // of each page: the whole text up to its end
    for (int round = 0; round < 4000; ++round) {
      if (!held.empty() && below(2) == 0) {
        const size_t which = below(held.size());
        pool.release(held[which]);
        held.erase(held.begin() + static_cast<int64_t>(which));
        continue;
      }
      Ids text;
      for (uint64_t i = 1 + below(10); i-- > 0;) text.push_back(static_cast<int32_t>(below(2)));
      Ids pages = pool.find(text, 9);
      for (size_t i = 0; i < pages.size(); ++i) {
        ASSERT_EQ(content[pages[i]], Ids(text.begin(), text.begin() + static_cast<int64_t>(2 * i + 2)));
      }
      const auto rest = std::span(text).subspan(2 * pages.size());
      const PageBeginning part = pool.find_beginning(pages.empty() ? -1 : pages.back(), rest);
      ASSERT_LE(part.tokens, static_cast<int64_t>(rest.size()));
      for (size_t i = 0; i < 2 * pages.size() + static_cast<size_t>(part.tokens); ++i) {
        if (part.tokens > 0) {
          ASSERT_EQ(content[part.page][i], text[i]);
        }
      }
      pool.share(pages);
      while (2 * pages.size() < text.size() && pool.available() > 0) {
        const int32_t page = pool.take();
        const size_t begin = 2 * pages.size(), end = std::min(begin + 2, text.size());
        pool.publish(page, pages.empty() ? -1 : pages.back(), std::span(text).subspan(begin, end - begin));
        pages.push_back(page);
        content[page] = Ids(text.begin(), text.begin() + static_cast<int64_t>(end));
      }
      if (below(50) == 0) pool.forget_all_but(std::span(text).first(below(text.size() + 1)));
      held.push_back(pages);
      std::map<int32_t, int64_t> owners;
      for (const Ids& each : held) {
        for (const int32_t one : each) ++owners[one];
      }
      ASSERT_EQ(pool.available(), kPages - static_cast<int64_t>(owners.size()));
      for (const auto& [page, count] : owners) ASSERT_EQ(pool.owners(page), count);
    }
    for (const Ids& each : held) pool.release(each);
    EXPECT_EQ(pool.available(), kPages);
  }
}

}  // namespace
}  // namespace moe::test
