#pragma once
/// A window over the text of a file, for readers that look for the end of a document.

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "formats/compression.h"
#include "formats/utf16.h"

namespace moe {

/// The bytes after those already taken. More are read on demand.
class TextWindow {
 public:
  TextWindow(const fs::path& path, const std::string& name) : stream_(as_utf8(open_stream(path), name)) {}

  std::string_view text() const { return {buffer_.data() + begin_, end_ - begin_}; }
  void take(size_t bytes) { begin_ += bytes; }

  /// Reads more bytes at the end of the window. Returns false at the end of the file. Pointers into text() become
  /// invalid.
  bool extend() {
    if (begin_ > 0) {
      std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    if (end_ == buffer_.size()) buffer_.resize(std::max(kReadBytes, 2 * buffer_.size()));
    const size_t count = stream_->read(buffer_.data() + end_, std::min(kReadBytes, buffer_.size() - end_));
    end_ += count;
    return count > 0;
  }
  /// Bytes of the file on disk read so far.
  uint64_t consumed() const { return stream_->consumed(); }

 private:
  static constexpr size_t kReadBytes = size_t{256} << 10;

  std::unique_ptr<ByteStream> stream_;
  std::vector<char> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
};

}  // namespace moe
