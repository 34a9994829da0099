#pragma once
/// A stack of named buffers inside one block of memory that somebody else owns.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/view.h"

namespace moe {

/// Buffers are pushed and released in stack order. The arena remembers the peak and who stood there, so that a run over
/// a null device measures exactly what the real run needs.
class Arena {
 public:
  struct Buffer {
    std::string name;
    size_t bytes;
  };

  /// `capacity` bytes from `base` (an address of any device); `name` appears in errors.
  Arena(std::string name, void* base, size_t capacity);

  /// An uninitialised contiguous tensor, aligned to 64 bytes.
  View push(std::string_view name, DType dtype, Shape shape);

  const void* base() const { return base_; }
  size_t mark() const { return used_; }
  /// Gives back all that was pushed since `mark`.
  void release(size_t mark);

  size_t peak_bytes() const { return peak_; }
  /// The buffers that stood at the peak, in stack order.
  const std::vector<Buffer>& at_peak() const { return at_peak_; }

  /// Releases at the end of a scope what was pushed in it.
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
};

}  // namespace moe
