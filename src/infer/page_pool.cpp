#include "infer/page_pool.h"

#include <algorithm>

#include "base/error.h"

namespace moe {

PagePool::PagePool(int64_t pages, int64_t page_tokens, int hash_bits)
    : page_tokens_(page_tokens),
      hash_mask_(hash_bits >= 64 ? ~uint64_t{0} : (uint64_t{1} << hash_bits) - 1),
      pages_(static_cast<size_t>(pages)) {
  MOE_CHECK(page_tokens > 0);
  for (int64_t page = pages; page-- > 0;) free_.push_back(static_cast<int32_t>(page));
}

uint64_t PagePool::hash(uint64_t before, std::span<const int32_t> tokens) const {
  uint64_t value = before * 0x9e3779b97f4a7c15u + 1;
  for (const int32_t token : tokens) {
    value = (value ^ static_cast<uint32_t>(token)) * 0xbf58476d1ce4e5b9u;
    value ^= value >> 29;
  }
  return value & hash_mask_;
}

// The page with this text, or -1.
int32_t PagePool::published(uint64_t before, std::span<const int32_t> tokens) const {
  const auto [begin, end] = by_hash_.equal_range(hash(before, tokens));
  for (auto entry = begin; entry != end; ++entry) {
    const Page& page = at(entry->second);
    if (page.before == before && std::equal(tokens.begin(), tokens.end(), page.tokens.begin(), page.tokens.end())) {
      return entry->second;
    }
  }
  return -1;
}

std::vector<int32_t> PagePool::find(std::span<const int32_t> ids, int64_t most) const {
  std::vector<int32_t> found;
  const auto size = static_cast<size_t>(page_tokens_);
  uint64_t before = 0;
  while (static_cast<int64_t>(found.size()) < most && (found.size() + 1) * size <= ids.size()) {
    const int32_t page = published(before, ids.subspan(found.size() * size, size));
    if (page < 0) break;
    found.push_back(page);
    before = at(page).name;
  }
  return found;
}

PageBeginning PagePool::find_beginning(int32_t before, std::span<const int32_t> ids) const {
  PageBeginning longest;
  const auto [begin, end] = by_text_before_.equal_range(before < 0 ? 0 : at(before).name);
  for (auto entry = begin; entry != end; ++entry) {
    const std::vector<int32_t>& tokens = at(entry->second).tokens;
    const auto differs = std::mismatch(tokens.begin(), tokens.end(), ids.begin(), ids.end()).first;
    // Of equal beginnings the first page, so that the result depends on no order of a table.
    const PageBeginning found{entry->second, differs - tokens.begin()};
    if (found.tokens > longest.tokens || (found.tokens == longest.tokens && found.page < longest.page)) longest = found;
  }
  return longest.tokens == 0 ? PageBeginning{} : longest;
}

void PagePool::share(std::span<const int32_t> pages) {
  for (const int32_t page : pages) {
    MOE_CHECK(at(page).name != 0);
    if (at(page).owners++ == 0) unowned_.erase(order(page));
  }
}

int32_t PagePool::take() {
  MOE_CHECK(available() > 0);
  int32_t page = 0;
  if (free_.empty()) {
    page = std::get<2>(*unowned_.begin());
    unowned_.erase(unowned_.begin());
    unpublish(page);
  } else {
    page = free_.back();
    free_.pop_back();
  }
  at(page).owners = 1;
  return page;
}

bool PagePool::publish(int32_t page, int32_t before, std::span<const int32_t> tokens) {
  Page& here = at(page);
  MOE_CHECK(here.owners > 0 && here.name == 0 && !tokens.empty() &&
            static_cast<int64_t>(tokens.size()) <= page_tokens_);
  if (before >= 0 && at(before).name == 0) return false;
  const uint64_t before_name = before < 0 ? 0 : at(before).name;
  if (published(before_name, tokens) >= 0) return false;
  by_hash_.emplace(hash(before_name, tokens), page);
  by_text_before_.emplace(before_name, page);
  here.name = ++last_name_;
  here.before = before_name;
  here.depth = before < 0 ? 0 : at(before).depth + 1;
  here.tokens.assign(tokens.begin(), tokens.end());
  return true;
}

void PagePool::release(std::span<const int32_t> pages) {
  ++clock_;
  for (const int32_t page : pages) {
    Page& here = at(page);
    MOE_CHECK(here.owners > 0);
    here.used = clock_;
    if (--here.owners > 0) continue;
    if (here.name != 0) {
      unowned_.insert(order(page));
    } else {
      free_.push_back(page);
    }
  }
}

void PagePool::forget_all_but(std::span<const int32_t> ids) {
  std::vector<int32_t> kept = find(ids, static_cast<int64_t>(ids.size()) / page_tokens_);
  auto rest = ids.subspan(kept.size() * static_cast<size_t>(page_tokens_));
  const PageBeginning last = find_beginning(kept.empty() ? -1 : kept.back(), rest);
  if (last.tokens > 0) kept.push_back(last.page);
  share(kept);
  unpublish_all();
  size_t first = 0;
  for (size_t i = 0; i < kept.size(); ++i) {
    const bool whole = last.tokens == 0 || i + 1 < kept.size();
    const auto tokens = ids.subspan(first, static_cast<size_t>(whole ? page_tokens_ : last.tokens));
    publish(kept[i], i == 0 ? -1 : kept[i - 1], tokens);
    first += tokens.size();
  }
  release(kept);
}

void PagePool::unpublish_all() {
  for (const Order& each : unowned_) free_.push_back(std::get<2>(each));
  unowned_.clear();
  by_hash_.clear();
  by_text_before_.clear();
  for (Page& page : pages_) {
    page.name = page.before = 0;
    page.tokens.clear();
  }
}

void PagePool::unpublish(int32_t page) {
  Page& here = at(page);
  const auto erase_from = [&](std::unordered_multimap<uint64_t, int32_t>& table, uint64_t key) {
    const auto [begin, end] = table.equal_range(key);
    table.erase(std::find_if(begin, end, [&](const auto& entry) { return entry.second == page; }));
  };
  erase_from(by_hash_, hash(here.before, here.tokens));
  erase_from(by_text_before_, here.before);
  here.name = here.before = 0;
  here.tokens.clear();
}

}  // namespace moe
