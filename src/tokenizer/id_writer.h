#pragma once
/// Appends ids to a vector without checking its capacity for each of them.

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace moe {

/// While it exists, the vector is longer than the written ids. Its destructor cuts off the rest.
/// For one thread at a time.
class IdWriter {
 public:
  /// About `expected` ids will follow.
  IdWriter(std::vector<int32_t>& ids, size_t expected) : ids_(ids), size_(ids.size()) { grow(expected); }
  ~IdWriter() { ids_.resize(size_); }
  IdWriter(const IdWriter&) = delete;
  IdWriter& operator=(const IdWriter&) = delete;

  size_t size() const { return size_; }
  std::span<const int32_t> since(size_t begin) const { return std::span(ids_).subspan(begin, size_ - begin); }

  /// Memory for `count` ids. Call advance() with the number of ids that were written.
  int32_t* room(size_t count) {
    if (ids_.size() - size_ < count) grow(count);
    return ids_.data() + size_;
  }
  void advance(size_t count) { size_ += count; }

  void append(int32_t id) {
    *room(1) = id;
    advance(1);
  }
  void append(std::span<const int32_t> ids) {
    std::copy(ids.begin(), ids.end(), room(ids.size()));
    advance(ids.size());
  }

 private:
  void grow(size_t count) { ids_.resize(size_ + std::max(count, ids_.size() / 2)); }

  std::vector<int32_t>& ids_;
  size_t size_;
};

}  // namespace moe
