#pragma once
/// A window over the text of a file, for readers that look for the end of a document.

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "formats/compression.h"
#include "formats/utf16.h"

namespace moe {

/// The bytes after those already taken. More are read on demand. For one thread at a time.
class TextWindow {
 public:
  /// Errors call the file `name`. Nothing is opened before the first extend().
  TextWindow(fs::path path, std::string name) : path_(std::move(path)), name_(std::move(name)) {}

  const std::string& name() const { return name_; }
  std::string_view text() const { return {buffer_.data() + begin_, end_ - begin_}; }
  void take(size_t bytes) { begin_ += bytes; }

  /// Reads more bytes at the end of the window. Returns false at the end of the file, and where it cannot be read any
  /// further: then damage() says why. Pointers into text() become invalid.
  bool extend() {
    if (!damage_.empty()) return false;
    if (begin_ > 0) {
      std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    if (end_ == buffer_.size()) buffer_.resize(std::max(kReadBytes, 2 * buffer_.size()));
    try {
      if (!stream_) stream_ = as_utf8(open_stream(path_), name_);
      const size_t count = stream_->read(buffer_.data() + end_, std::min(kReadBytes, buffer_.size() - end_));
      end_ += count;
      return count > 0;
    } catch (const Error& error) {
      damage_ = error.what();
      return false;
    }
  }
  /// The sentence about what ended the reading; empty if nothing did.
  const std::string& damage() const { return damage_; }
  /// Bytes of the file on disk read so far.
  uint64_t consumed() const { return stream_ ? stream_->consumed() : 0; }

 private:
  static constexpr size_t kReadBytes = size_t{256} << 10;

  fs::path path_;
  std::string name_;
  std::unique_ptr<ByteStream> stream_;
  std::string damage_;
  std::vector<char> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
};

}  // namespace moe
