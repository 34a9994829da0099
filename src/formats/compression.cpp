#include "formats/compression.h"

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/error.h"
#include "base/paths.h"

namespace moe {
namespace {

constexpr size_t kInputBytes = size_t{256} << 10;

// The bytes of the file without decompression, through a buffer that the decompressors read directly.
class Input {
 public:
  explicit Input(const fs::path& path) : path_(path), buffer_(kInputBytes) {
    descriptor_ = path == "-" ? ::dup(STDIN_FILENO) : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor_ < 0) fail("cannot open {}: {}", name(), std::strerror(errno));
  }
  ~Input() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;

  // The buffered bytes that are not used yet. The buffer is refilled when it is empty. Empty at the end of the file.
  std::span<const char> available() {
    if (begin_ == end_) {
      begin_ = 0;
      end_ = read_some(0);
    }
    return {buffer_.data() + begin_, end_ - begin_};
  }
  void use(size_t bytes) {
    begin_ += bytes;
    consumed_ += bytes;
  }

  // The first bytes of the file, before any use.
  std::string peek(size_t bytes) {
    while (end_ < bytes) {
      const size_t count = read_some(end_);
      if (count == 0) break;
      end_ += count;
    }
    return std::string(buffer_.data(), std::min(bytes, end_));
  }

  std::string name() const { return path_ == "-" ? "standard input" : path_.string(); }
  uint64_t consumed() const { return consumed_; }

 private:
  size_t read_some(size_t at) {
    for (;;) {
      const ssize_t count = ::read(descriptor_, buffer_.data() + at, buffer_.size() - at);
      if (count >= 0) return static_cast<size_t>(count);
      if (errno != EINTR) fail("cannot read {}: {}", name(), std::strerror(errno));
    }
  }

  fs::path path_;
  std::vector<char> buffer_;
  int descriptor_ = -1;
  size_t begin_ = 0;
  size_t end_ = 0;
  uint64_t consumed_ = 0;
};

[[noreturn]] void fail_short(const Input& input) {
  fail("{} is cut short: its compressed data ends before the end of its content; fetch or compress it again",
       input.name());
}

class PlainStream : public ByteStream {
 public:
  explicit PlainStream(std::unique_ptr<Input> input) : input_(std::move(input)) {}

  size_t read(char* data, size_t size) override {
    const auto available = input_->available();
    const size_t count = std::min(size, available.size());
    if (count > 0) std::memcpy(data, available.data(), count);
    input_->use(count);
    return count;
  }
  uint64_t consumed() const override { return input_->consumed(); }

 private:
  std::unique_ptr<Input> input_;
};

class GzipStream : public ByteStream {
 public:
  explicit GzipStream(std::unique_ptr<Input> input) : input_(std::move(input)) {
    constexpr int gzip_only = 16;
    if (inflateInit2(&state_, MAX_WBITS + gzip_only) != Z_OK)
      fail("cannot start reading {}: no memory", input_->name());
  }
  ~GzipStream() override { inflateEnd(&state_); }

  size_t read(char* data, size_t size) override {
    for (;;) {
      if (!damage_.empty()) fail("{}", damage_);
      const auto available = input_->available();
      if (available.empty()) {
        if (!between_members_) fail_short(*input_);
        return 0;
      }
      if (between_members_ && members_ > 0) {
        // Zeros after the last member are padding, for example from a tape.
        if (available.front() == 0) {
          input_->use(1);
          continue;
        }
        inflateReset(&state_);
      }
      between_members_ = false;
      if (const size_t count = inflate_some(available, data, size); count > 0) return count;
    }
  }
  uint64_t consumed() const override { return input_->consumed(); }

 private:
  size_t inflate_some(std::span<const char> available, char* data, size_t size) {
    const auto limit = static_cast<uInt>(std::min(size, size_t{1} << 30));
    state_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(available.data()));
    state_.avail_in = static_cast<uInt>(available.size());
    state_.next_out = reinterpret_cast<Bytef*>(data);
    state_.avail_out = limit;
    const int status = inflate(&state_, Z_NO_FLUSH);
    input_->use(available.size() - state_.avail_in);
    if (status == Z_STREAM_END) {
      between_members_ = true;
      ++members_;
    } else if (status != Z_OK && status != Z_BUF_ERROR) {
      // What was decoded before the damage is passed on first.
      damage_ = fmt::format("{} is damaged: gzip data near byte {}: {}", input_->name(), input_->consumed(),
                            state_.msg != nullptr ? state_.msg : "unreadable");
    }
    return limit - state_.avail_out;
  }

  std::unique_ptr<Input> input_;
  z_stream state_{};
  bool between_members_ = false;
  int64_t members_ = 0;
  std::string damage_;
};

class ZstdStream : public ByteStream {
  static constexpr size_t kFrameStart = 5;  // the bytes that tell the size of a frame's header

 public:
  explicit ZstdStream(std::unique_ptr<Input> input) : input_(std::move(input)), state_(ZSTD_createDStream()) {
    if (state_ == nullptr) fail("cannot start reading {}: no memory", input_->name());
    const auto bounds = ZSTD_dParam_getBounds(ZSTD_d_windowLogMax);
    ZSTD_DCtx_setParameter(state_, ZSTD_d_windowLogMax, bounds.upperBound);
  }
  ~ZstdStream() override { ZSTD_freeDStream(state_); }

  size_t read(char* data, size_t size) override {
    for (;;) {
      // Block by block, as the library asks: with more at once, it drops the blocks before a damaged one.
      const auto available = input_->available();
      ZSTD_inBuffer in{available.data(), std::min(available.size(), wanted_), 0};
      ZSTD_outBuffer out{data, size, 0};
      // An empty input still gives what the state holds back. Between frames it would begin a frame, so it is not used
      // there.
      if (available.empty() && frame_complete_) return 0;
      const size_t status = ZSTD_decompressStream(state_, &out, &in);
      input_->use(in.pos);
      if (ZSTD_isError(status)) {
        fail("{} is damaged: Zstandard data near byte {}: {}", input_->name(), input_->consumed(),
             ZSTD_getErrorName(status));
      }
      frame_complete_ = status == 0;
      wanted_ = frame_complete_ ? kFrameStart : status;
      if (out.pos > 0) return out.pos;
      if (available.empty() && !frame_complete_) fail_short(*input_);
    }
  }
  uint64_t consumed() const override { return input_->consumed(); }

 private:
  std::unique_ptr<Input> input_;
  ZSTD_DStream* state_;
  bool frame_complete_ = false;
  size_t wanted_ = kFrameStart;
};

bool is_gzip(const std::string& head) { return head.starts_with("\x1f\x8b"); }

bool is_zstd(const std::string& head) {
  if (head.size() < 4) return false;
  uint32_t magic = 0;
  std::memcpy(&magic, head.data(), 4);
  return magic == ZSTD_MAGICNUMBER || (magic & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START;
}

}  // namespace

std::unique_ptr<ByteStream> open_stream(const fs::path& path) {
  if (path != "-" && is_folder(path)) fail("cannot read {}: it is a folder", path.string());
  auto input = std::make_unique<Input>(path);
  const std::string head = input->peek(4);
  if (is_gzip(head)) return std::make_unique<GzipStream>(std::move(input));
  if (is_zstd(head)) return std::make_unique<ZstdStream>(std::move(input));
  for (const char* ending : {".gz", ".zst"}) {
    if (path.extension() == ending && !head.empty()) {  // an empty file is empty text
      fail("{} is not compressed, although its name says so: its content does not begin like a {} file", path.string(),
           ending);
    }
  }
  return std::make_unique<PlainStream>(std::move(input));
}

}  // namespace moe
