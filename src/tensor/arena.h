#pragma once
/// A stack of named buffers inside one block of memory. The arena does not own the block.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/view.h"

namespace moe {

/// Buffers are pushed and released in stack order. The arena remembers the peak and the buffers at the peak. So a run
/// over a null device measures exactly the memory that the real run needs. Use an arena on one thread at a time.
class Arena {
 public:
  /// Of buffers, from `base`. A GPU reads whole lines of 128 bytes, and its copy engine is slow with rows that lie
  /// across them.
  static constexpr size_t kAlignment = 256;

  struct Buffer {
    std::string name;
    size_t bytes;
  };

  /// `capacity` bytes from `base` (an address of any device). Errors use `name`.
  Arena(std::string name, void* base, size_t capacity);

  /// An uninitialised contiguous tensor, aligned to kAlignment bytes.
  View push(std::string_view name, DType dtype, Shape shape);

  const void* base() const { return base_; }
  size_t mark() const { return used_; }
  /// Releases everything that was pushed since `mark`.
  void release(size_t mark);

  size_t peak_bytes() const { return peak_; }
  /// The buffers in use at the peak, in stack order.
  const std::vector<Buffer>& at_peak() const { return at_peak_; }

  /// Releases at the end of a scope what the scope has pushed.
  class Frame {
   public:
    explicit Frame(Arena& arena) : arena_(arena), mark_(arena.mark()) {}
    ~Frame() { arena_.release(mark_); }
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;

   private:
    Arena& arena_;
    size_t mark_;
  };

 private:
  std::string name_;
  char* base_;
  size_t capacity_;
  size_t used_ = 0;
  size_t peak_ = 0;
  std::vector<Buffer> buffers_;
  std::vector<size_t> offsets_;
  std::vector<Buffer> at_peak_;
  size_t shared_ = 0;  // so many first buffers are those of at_peak_; only the others are copied at a new peak
};

}  // namespace moe
