#pragma once
/// Who uses the pages of a cache (KvAppend), and which pages hold the beginning of which text.

#include <cstdint>
#include <set>
#include <span>
#include <tuple>
#include <unordered_map>
#include <vector>

namespace moe {

/// The first tokens of a page.
struct PageBeginning {
  int32_t page = -1;
  int64_t tokens = 0;  ///< 0: there is no such page
};

/// Pages of `page_tokens` tokens, counted from 0. A page has owners: sequences that list it. A page that gets no more
/// tokens can be published: then it is known by its tokens and by all tokens before it. A published page without owners
/// keeps its content until its memory is needed; the one that was not used for the longest time goes first. The pool
/// holds no keys and values. Use it on one thread at a time.
class PagePool {
 public:
  /// `hash_bits`: fewer make pages share hashes, which tests want. Pages are always compared by their tokens.
  PagePool(int64_t pages, int64_t page_tokens, int hash_bits = 64);

  int64_t page_tokens() const { return page_tokens_; }
  /// Pages that take() can give.
  int64_t available() const { return static_cast<int64_t>(free_.size() + unowned_.size()); }
  /// Of these, pages that are published.
  int64_t unowned() const { return static_cast<int64_t>(unowned_.size()); }
  int64_t owners(int32_t page) const { return pages_[static_cast<size_t>(page)].owners; }

  /// The full published pages with the longest beginning of `ids`, at most `most` pages. Nothing changes.
  std::vector<int32_t> find(std::span<const int32_t> ids, int64_t most) const;
  /// Of the published pages that follow the page `before` (-1: begin a text), the one whose tokens have the longest
  /// beginning in common with `ids`. Nothing changes.
  PageBeginning find_beginning(int32_t before, std::span<const int32_t> ids) const;
  /// Adds an owner to each page of a result of find().
  void share(std::span<const int32_t> pages);
  /// A page with one owner and without content. There must be one (available()).
  int32_t take();
  /// Publishes a page that has these tokens (at most page_tokens), which follow those of the full page `before` of the
  /// same owner; -1: it is the first page of a text. False, and no change, if `before` is not published or a page with
  /// the same text is.
  bool publish(int32_t page, int32_t before, std::span<const int32_t> tokens);
  /// Removes an owner from each page of one sequence, given in their order.
  void release(std::span<const int32_t> pages);
  /// Of all texts, only the longest published beginning of `ids` is published any more. Owners keep their pages.
  void forget_all_but(std::span<const int32_t> ids);

 private:
  struct Page {
    int64_t owners = 0;
    uint64_t name = 0;    // of its text; 0: not published. No two texts ever have one name.
    uint64_t before = 0;  // the name of the text before this page
    int64_t depth = 0;    // the number of pages before it
    uint64_t used = 0;    // when it last lost an owner
    std::vector<int32_t> tokens = {};
  };
  /// The longest unused first; of one release, the last page of the text first. So no page goes before those after it.
  using Order = std::tuple<uint64_t, int64_t, int32_t>;

  Page& at(int32_t page) { return pages_[static_cast<size_t>(page)]; }
  const Page& at(int32_t page) const { return pages_[static_cast<size_t>(page)]; }
  Order order(int32_t page) const { return {at(page).used, -at(page).depth, page}; }
  uint64_t hash(uint64_t before, std::span<const int32_t> tokens) const;
  int32_t published(uint64_t before, std::span<const int32_t> tokens) const;
  void unpublish(int32_t page);
  void unpublish_all();

  int64_t page_tokens_;
  uint64_t hash_mask_;
  std::vector<Page> pages_;
  std::vector<int32_t> free_;
  std::set<Order> unowned_;
  std::unordered_multimap<uint64_t, int32_t> by_hash_;
  std::unordered_multimap<uint64_t, int32_t> by_text_before_;  // by Page::before
  uint64_t last_name_ = 0, clock_ = 0;
};

}  // namespace moe
